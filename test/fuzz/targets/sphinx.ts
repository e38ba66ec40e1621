/** core/sphinx: packets as they come and behind a right γ, replies and reply blocks. */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import { MixKeyRing } from '@nyx/core/onion/mix-key-ring.ts';
import { HopContext } from '@nyx/core/sphinx/hop-keys.ts';
import { createPacket, MAX_MESSAGE_DELAY_MS, PACKET_BYTES } from '@nyx/core/sphinx/packet.ts';
import { Command, SphinxRelay } from '@nyx/core/sphinx/relay.ts';
import { createReplyBlock, openReply, REPLY_BLOCK_BYTES, useReplyBlock } from '@nyx/core/sphinx/reply-block.ts';
import { check, type FuzzTarget } from '../fuzzer.ts';
import { fixedBytes, suite } from './suite.ts';

const nodeId = fixedBytes('sphinx node', 32);
const mix = { epoch: 3, x25519Secret: fixedBytes('sphinx mix', 32), kemSeed: fixedBytes('sphinx kem', 64) };
/** Keys are made once; each run has a memory of packets of its own. */
const ring = new MixKeyRing(suite, nodeId, [mix]);
const mixX25519 = ring.keys[0]!.dh.publicKey;
const hop = { nodeId, mixX25519, epoch: 3, delayMs: 70 };
const random = createSeededRandom('fuzz sphinx');

const whole = new Uint8Array(PACKET_BYTES);
createPacket(suite, random, [hop, { ...hop, nodeId: fixedBytes('sphinx next', 32) }], fixedBytes('text', 99), whole);
const { block, keys: replyKeys } = createReplyBlock(suite, random, [hop], fixedBytes('reply id', 16));

// A sender's secret, and what follows from it for the one hop.
const x = fixedBytes('sphinx sender', 32);
const alpha = suite.x25519(x).publicKey;
const sender = new HopContext(nodeId, 3, mixX25519).derive(suite, suite.x25519(x).agree(mixX25519)!, alpha);

/** A packet whose β opens to `plaintext`, with a right γ. */
function authentic(plaintext: Uint8Array): Uint8Array {
  const packet = new Uint8Array(PACKET_BYTES);
  packet.set(alpha);
  const beta = packet.subarray(32, 424);
  beta.set(plaintext.subarray(0, 392));
  suite.chacha20Xor(beta, beta, new Uint8Array(12), 0, sender.stream);
  suite.blake2b(packet.subarray(424, 440), sender.mac, beta);
  packet.set(plaintext.subarray(392, 1192), 440);
  return packet;
}

const relay = new SphinxRelay(suite);

function processed(packet: Uint8Array): void {
  const before = packet.slice();
  const seen = new Set<string>();
  const note = (tag: Uint8Array) => {
    const known = seen.has(tag.join());
    seen.add(tag.join());
    return known ? Drop.setupReplayed : Drop.none;
  };
  const keys = [{ ...ring.keys[0]!, seenMessages: { note, clear() {}, memoryBytes: 0 } }];
  const drop = relay.process(keys, packet);
  check(Buffer.compare(before, packet) === 0, 'a packet is only borrowed');
  check(drop === Drop.none || drop === Drop.badMessage, 'a known reason');
  if (drop === Drop.none) {
    check(relay.delayMs >= 0 && relay.delayMs <= MAX_MESSAGE_DELAY_MS, 'a delay within its bound');
    check(relay.command >= Command.forward && relay.command <= Command.drop, 'a known command');
    check(seen.size === 1, 'what is taken is remembered');
  }
  const again = relay.process(keys, packet);
  check(again === (seen.size === 1 ? Drop.messageReplayed : drop), 'what was remembered is not taken again');
}

/** First byte: 0 a packet as it comes, 1 what its β and δ are to open to, 2 a reply, 3 a reply block. */
export const sphinxPacket: FuzzTarget = {
  name: 'sphinx-packet',
  dictionary: [0, 1, 2, 3, 4].map((command) => Uint8Array.of(0, 0, 0, 70, command, 0, 0, 0)),
  maxBytes: 1300,
  executions: 1500,
  seeds: () => [
    Uint8Array.of(0, ...whole),
    Uint8Array.of(0, ...whole.subarray(0, 500)),
    Uint8Array.of(1, ...fixedBytes('sphinx next', 32), 0, 0, 1, 0, 0, 0, 0, 0, ...fixedBytes('gamma', 16)),
    Uint8Array.of(1, ...new Uint8Array(32), 0, 9, 39, 192, 1, 0, 0, 0),
    Uint8Array.of(1, ...fixedBytes('id', 16), ...new Uint8Array(16), 0, 0, 0, 0, 2, 0, 0, 0),
    Uint8Array.of(2, ...fixedBytes('reply', 800)),
    Uint8Array.of(3, ...block),
  ],
  run(input) {
    const kind = (input[0] ?? 0) & 3;
    const bytes = input.slice(1);
    if (kind === 0) {
      processed(bytes);
      const exact = new Uint8Array(PACKET_BYTES);
      exact.set(bytes.subarray(0, PACKET_BYTES));
      processed(exact);
    } else if (kind === 1) {
      processed(authentic(bytes));
    } else if (kind === 2) {
      check(openReply(suite, replyKeys, bytes) === undefined, 'no reply opens that was not made from the block');
    } else {
      const out = new Uint8Array(PACKET_BYTES);
      const first = useReplyBlock(suite, bytes, fixedBytes('reply text', 20), out);
      check((first !== undefined) === (bytes.length === REPLY_BLOCK_BYTES), 'a block has one length');
      if (first !== undefined) processed(out);
    }
  },
};
