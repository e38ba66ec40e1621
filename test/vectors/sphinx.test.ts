/** Sphinx packets: fixed vectors, core/sphinx and the plain second implementation against each other, and every bit flipped. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import { TagMemory } from '@nyx/core/onion/tag-memory.ts';
import { HopContext } from '@nyx/core/sphinx/hop-keys.ts';
import {
  createDropPacket,
  createPacket,
  MAX_MESSAGE_DELAY_MS,
  MESSAGE_BYTES,
  PACKET_BYTES,
  type SphinxHop,
} from '@nyx/core/sphinx/packet.ts';
import { Command, type MessageKeys, SphinxRelay } from '@nyx/core/sphinx/relay.ts';
import { createReplyBlock, openReply, REPLY_BLOCK_BYTES, useReplyBlock } from '@nyx/core/sphinx/reply-block.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import {
  makeHeader,
  makePacket,
  makeReplyBlock,
  openReplyPlainly,
  packetFromBlock,
  processPacket,
  publicOf,
} from './sphinx-reference.ts';
import { hex, toHex } from './suites.ts';

interface Vectors {
  readonly nodes: readonly { nodeId: string; mixSecret: string; epoch: number; delayMs: number }[];
  readonly packets: readonly {
    hops: number;
    random: string;
    message: string;
    packet?: string;
    packetSha256?: string;
    afterEachHop: readonly { replayTag: string; next: string }[];
  }[];
  readonly reply: {
    hops: number;
    random: string;
    replyId: string;
    message: string;
    block: string;
    keys: string;
    packetSha256: string;
    arrived: string;
  };
}

const vectors: Vectors = JSON.parse(readFileSync(new URL('./sphinx.json', import.meta.url), 'utf8'));
const suites = [createNativeSuite(), createNobleSuite()];
const [native] = suites as [CryptoSuite, CryptoSuite];
const seed = 'sphinx';
const random = createSeededRandom(seed);
const bytes = (length: number): Buffer => {
  const made = Buffer.alloc(length);
  random.fill(made);
  return made;
};
const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
/** Gives these bytes, and no more. */
const scripted = (script: Uint8Array) => {
  let at = 0;
  return {
    fill(into: Uint8Array) {
      assert.ok(at + into.length <= script.length, 'the script of random bytes is over');
      into.set(script.subarray(at, at + into.length));
      at += into.length;
    },
  };
};

interface Node extends SphinxHop {
  readonly secret: Buffer;
  readonly nodeId: Buffer;
  readonly y: Buffer;
}

function nodeOf(nodeId: Uint8Array, secret: Uint8Array, epoch: number, delayMs: number): Node {
  const y = publicOf(secret);
  return { nodeId: Buffer.from(nodeId), secret: Buffer.from(secret), y, mixX25519: y, epoch, delayMs };
}

const makeNode = (epoch = 9): Node => nodeOf(bytes(32), bytes(32), epoch, bytes(2).readUInt16BE());
const makeNodes = (count: number): Node[] => Array.from({ length: count }, () => makeNode());

/** What a node has to open packets. `memory`: what it remembers; by default nothing. */
function keysOf(suite: CryptoSuite, node: Node, note: (tag: Uint8Array) => Drop = () => Drop.none): MessageKeys {
  return {
    dh: suite.x25519(node.secret),
    context: new HopContext(node.nodeId, node.epoch, node.mixX25519),
    seenMessages: { note, clear() {}, memoryBytes: 0 },
  };
}

const padded = (message: Uint8Array): Buffer => Buffer.concat([message, Buffer.alloc(MESSAGE_BYTES - message.length)]);

describe('fixed vectors', () => {
  assert.equal(vectors.packets.length, 7);
  const nodes = vectors.nodes.map(({ nodeId, mixSecret, epoch, delayMs }) =>
    nodeOf(hex(nodeId), hex(mixSecret), epoch, delayMs),
  );

  for (const { hops, random: script, message, packet, packetSha256, afterEachHop } of vectors.packets) {
    test(`a packet over ${hops} hops, both ways of making and opening it`, () => {
      const path = nodes.slice(0, hops);
      const plain = makePacket(path, hex(message), Buffer.from(hex(script)));
      if (packet !== undefined) assert.equal(toHex(plain), packet);
      else assert.equal(sha256(plain), packetSha256);
      assert.equal(afterEachHop.length, hops);
      for (const suite of suites) {
        const made = new Uint8Array(PACKET_BYTES);
        createPacket(suite, scripted(hex(script)), path, hex(message), made);
        assert.equal(toHex(made), toHex(plain), suite.name);
        const relay = new SphinxRelay(suite);
        let onTheWay: Uint8Array = made;
        for (const [i, { replayTag, next }] of afterEachHop.entries()) {
          let noted = '';
          const keys = keysOf(suite, path[i]!, (tag) => {
            noted = toHex(tag);
            return Drop.none;
          });
          assert.equal(relay.process([keys], onTheWay), Drop.none);
          assert.equal(noted, replayTag);
          assert.equal(relay.delayMs, path[i]!.delayMs);
          const opened = processPacket(path[i]!, Buffer.from(onTheWay))!;
          assert.equal(sha256(opened.next), next);
          if (i === hops - 1) break;
          assert.equal(sha256(relay.next), next);
          onTheWay = relay.next.slice();
        }
        assert.equal(relay.command, Command.deliver);
        assert.deepEqual(Buffer.from(relay.message), padded(hex(message)));
      }
    });
  }

  test('a reply block, its packet and what arrives', () => {
    const { hops, random: script, replyId, message, block, keys, packetSha256, arrived } = vectors.reply;
    const path = nodes.slice(0, hops);
    const plain = makeReplyBlock(path, hex(replyId), Buffer.from(hex(script)));
    assert.equal(toHex(plain.block), block);
    assert.equal(toHex(Buffer.concat(plain.keys)), keys);
    assert.equal(sha256(packetFromBlock(plain.block, hex(message))), packetSha256);
    assert.deepEqual(openReplyPlainly(plain.keys, hex(arrived)), padded(hex(message)));
    for (const suite of suites) {
      const made = createReplyBlock(suite, scripted(hex(script)), path, hex(replyId));
      assert.equal(toHex(made.block), block);
      assert.equal(toHex(made.keys.bytes), keys);
      const packet = new Uint8Array(PACKET_BYTES);
      assert.deepEqual(Buffer.from(useReplyBlock(suite, made.block, hex(message), packet)!), path[0]!.nodeId);
      assert.equal(sha256(packet), packetSha256);
      const relay = new SphinxRelay(suite);
      for (const node of path) {
        assert.equal(relay.process([keysOf(suite, node)], packet), Drop.none);
        packet.set(relay.next);
      }
      assert.equal(relay.command, Command.reply);
      assert.equal(toHex(relay.replyId), replyId);
      assert.equal(toHex(relay.reply), arrived);
      assert.deepEqual(Buffer.from(openReply(suite, made.keys, relay.reply)!), padded(hex(message)));
    }
  });
});

describe(`the two implementations against each other, seed "${seed}"`, () => {
  for (const suite of suites) {
    test(`${suite.name}: each opens what the other made, over 1…7 hops, whatever the payload's length`, () => {
      const relay = new SphinxRelay(suite);
      const rounds = suite === native ? 3 : 1;
      for (let count = 1; count <= 7; count++) {
        for (let round = 0; round < rounds; round++) {
          const path = makeNodes(count);
          const message = bytes([0, 1, 300, 783, 784][(count + round) % 5]!);
          const ours = new Uint8Array(PACKET_BYTES);
          createPacket(suite, random, path, message, ours);
          let theirs: Buffer = Buffer.from(ours);
          for (const [i, node] of path.entries()) {
            const result = processPacket(node, theirs);
            assert.ok(result !== undefined, `hop ${i} of ${count} refuses`);
            assert.equal(result.command, i === count - 1 ? Command.deliver : Command.forward);
            assert.equal(result.delayMs, node.delayMs);
            if (i < count - 1) assert.deepEqual(result.target, path[i + 1]!.nodeId);
            theirs = result.next;
          }
          assert.deepEqual(theirs.subarray(440), Buffer.concat([Buffer.alloc(16), padded(message)]));

          let packet: Uint8Array = makePacket(path, message, bytes(440));
          for (const node of path) {
            assert.equal(relay.process([keysOf(suite, node)], packet), Drop.none);
            packet = relay.next.slice();
          }
          assert.equal(relay.command, Command.deliver);
          assert.deepEqual(Buffer.from(relay.message), padded(message));

          const plain = makeReplyBlock(path, bytes(16), bytes(472));
          packet = new Uint8Array(PACKET_BYTES);
          useReplyBlock(suite, plain.block, message, packet);
          assert.deepEqual(Buffer.from(packet), packetFromBlock(plain.block, message));
          for (const node of path) {
            assert.equal(relay.process([keysOf(suite, node)], packet), Drop.none);
            packet = relay.next.slice();
          }
          assert.deepEqual(openReplyPlainly(plain.keys, relay.reply), padded(message));
          const keys = { bytes: Buffer.concat(plain.keys) };
          assert.deepEqual(Buffer.from(openReply(suite, keys, relay.reply)!), padded(message));
        }
      }
    });
  }
});

describe(`what hops refuse, seed "${seed}"`, () => {
  const relay = new SphinxRelay(native);
  const path = makeNodes(3);
  const keys = path.map((node) => keysOf(native, node));
  const packet = new Uint8Array(PACKET_BYTES);
  createPacket(native, random, path, bytes(784), packet);
  const flipped = (bit: number): Uint8Array => {
    const changed = packet.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    return changed;
  };

  test('every bit of a header, flipped: the next honest hop drops the packet', () => {
    for (let bit = 0; bit < 440 * 8; bit++) {
      assert.equal(relay.process([keys[0]!], flipped(bit)), Drop.badMessage, `bit ${bit}`);
    }
    assert.equal(relay.process([keys[0]!], packet), Drop.none);
  });

  test('every bit of a payload, flipped: the last hop drops the packet, and half of all bits have changed', () => {
    const two = path.slice(0, 2);
    createPacket(native, random, two, new Uint8Array(0), packet);
    let ones = 0;
    for (let bit = 440 * 8; bit < PACKET_BYTES * 8; bit++) {
      assert.equal(relay.process([keys[0]!], flipped(bit)), Drop.none);
      assert.equal(relay.process([keys[1]!], relay.next), Drop.badMessage, `bit ${bit}`);
      if (bit % 16 === 0) for (const byte of relay.message) ones += popCount(byte);
    }
    const share = ones / (784 * 8 * 400);
    assert.ok(Math.abs(share - 0.5) < 0.01, `${share} of the bits are set where all were zeros`);
    createPacket(native, random, path, bytes(784), packet);
  });

  test('every bit of a reply, flipped: its owner finds out', () => {
    const { block, keys: replyKeys } = createReplyBlock(native, random, path.slice(0, 1), bytes(16));
    const reply = new Uint8Array(PACKET_BYTES);
    useReplyBlock(native, block, bytes(784), reply);
    assert.equal(relay.process([keys[0]!], reply), Drop.none);
    const arrived = relay.reply.slice();
    for (let bit = 0; bit < 800 * 8; bit++) {
      arrived[bit >> 3]! ^= 1 << (bit & 7);
      assert.equal(openReply(native, replyKeys, arrived), undefined, `bit ${bit}`);
      arrived[bit >> 3]! ^= 1 << (bit & 7);
    }
    assert.ok(openReply(native, replyKeys, arrived) !== undefined);
    const other = createReplyBlock(native, random, path.slice(0, 1), bytes(16));
    assert.equal(openReply(native, other.keys, arrived), undefined, 'the keys of another block');
    assert.equal(openReply(native, replyKeys, arrived.subarray(1)), undefined);
  });

  test('α of low order, for every way to write one', () => {
    // The points of order 1, 2, 4 and 8 of curve and twist, and those at and above p (RFC 7748 §6.1; Bernstein's list).
    const p = 2n ** 255n - 19n;
    const order8 = [
      325606250916557431795983626356110631294008115727848805560023387167927233504n,
      39382357235489614581723060781553021112529911719440698176882885853963445705823n,
    ];
    for (const u of [0n, 1n, p - 1n, p, p + 1n, ...order8]) {
      for (const top of [0n, 2n ** 255n]) {
        const changed = packet.slice();
        for (let i = 0; i < 32; i++) changed[i] = Number(((u + top) >> BigInt(8 * i)) & 0xffn);
        const alpha = changed.subarray(0, 32);
        for (const suite of suites) assert.equal(suite.x25519(path[0]!.secret).agree(alpha), undefined, `u = ${u}`);
        assert.equal(relay.process([keys[0]!], changed), Drop.badMessage, `u = ${u}`);
      }
    }
  });

  test('one packet and one reply block each pass once', () => {
    const memory = new TagMemory(100);
    const careful = [keysOf(native, path[0]!, (tag) => memory.note(tag))];
    assert.equal(relay.process(careful, packet), Drop.none);
    assert.equal(relay.process(careful, packet), Drop.messageReplayed);
    const otherPayload = packet.slice();
    otherPayload.set(bytes(800), 440);
    assert.equal(relay.process(careful, otherPayload), Drop.messageReplayed);
    const { block } = createReplyBlock(native, random, path, bytes(16));
    const reply = new Uint8Array(PACKET_BYTES);
    useReplyBlock(native, block, bytes(100), reply);
    assert.equal(relay.process(careful, reply), Drop.none);
    useReplyBlock(native, block, bytes(200), reply);
    assert.equal(relay.process(careful, reply), Drop.messageReplayed);
    const small = new TagMemory(0);
    assert.equal(relay.process([keysOf(native, path[0]!, (tag) => small.note(tag))], packet), Drop.limit);
  });

  test('the present epoch and the one before are taken; other epochs, keys and nodes are not', () => {
    const [now, before] = [makeNode(5), makeNode(4)];
    const same = { ...before, nodeId: now.nodeId };
    const held = [keysOf(native, now), keysOf(native, same)];
    for (const hop of [now, same]) {
      createPacket(native, random, [hop], bytes(1), packet);
      assert.equal(relay.process(held, packet), Drop.none);
      assert.equal(relay.process([], packet), Drop.badMessage);
    }
    for (const wrong of [{ ...now, epoch: 6 }, { ...now, nodeId: bytes(32) }, makeNode(5)]) {
      createPacket(native, random, [wrong], bytes(1), packet);
      assert.equal(relay.process(held, packet), Drop.badMessage);
    }
    for (const length of [0, 1239, 1241]) assert.equal(relay.process(held, bytes(length)), Drop.badMessage);
    createPacket(native, random, path, bytes(784), packet);
  });

  test('authentic headers that say what can not be', () => {
    const hop = path[0]!;
    const delta = packet.subarray(440);
    const cases: [string, number, Buffer, number, Drop][] = [
      ['deliver', 1, Buffer.alloc(0), 0, Drop.badMessage],
      ['reply', 2, bytes(16), MAX_MESSAGE_DELAY_MS, Drop.none],
      ['cover', 3, Buffer.alloc(0), 0, Drop.none],
      ['an unknown command', 4, Buffer.alloc(0), 0, Drop.badMessage],
      ['a command of 255', 255, Buffer.alloc(0), 0, Drop.badMessage],
      ['a longer delay', 2, bytes(16), MAX_MESSAGE_DELAY_MS + 1, Drop.badMessage],
      ['the longest delay there is', 2, bytes(16), 2 ** 32 - 1, Drop.badMessage],
      ['a reply id of 17 bytes', 2, Buffer.alloc(17, 1), 0, Drop.badMessage],
      ['a delivery with an id', 1, Buffer.of(1), 0, Drop.badMessage],
      ['cover with an id', 3, Buffer.alloc(32, 1), 0, Drop.badMessage],
    ];
    for (const [what, command, target, delayMs, expected] of cases) {
      const { header } = makeHeader([{ ...hop, delayMs }], command, target, bytes(440));
      // The payload is another packet's: only `deliver` looks at it.
      assert.equal(relay.process([keys[0]!], Buffer.concat([header, delta])), expected, what);
    }
  });
});

describe('what a sender is refused', () => {
  const out = new Uint8Array(PACKET_BYTES);
  const make =
    (hops: readonly SphinxHop[], length = 1, into = out) =>
    () =>
      createPacket(native, random, hops, bytes(length), into);

  test('sizes, delays and keys that can not be', () => {
    for (const count of [0, 8]) assert.throws(make(makeNodes(count)), RangeError);
    assert.throws(make(makeNodes(1), 785), RangeError);
    for (const length of [1239, 1241]) assert.throws(make(makeNodes(1), 1, new Uint8Array(length)), RangeError);
    for (const delayMs of [-1, 0.5, 600_001, Number.NaN]) assert.throws(make([{ ...makeNode(), delayMs }]), RangeError);
    assert.throws(make([{ ...makeNode(), nodeId: bytes(31) }]), RangeError);
    assert.throws(make([{ ...makeNode(), mixX25519: bytes(33) }]), RangeError);
    for (const at of [0, 1, 2]) {
      const hops: SphinxHop[] = makeNodes(3);
      hops[at] = { ...hops[at]!, mixX25519: new Uint8Array(32) };
      assert.throws(make(hops), /not a valid one/, `hop ${at}`);
    }
    assert.throws(() => createDropPacket(native, random, makeNodes(2), new Uint8Array(3)), RangeError);
    assert.throws(() => createReplyBlock(native, random, makeNodes(2), bytes(15)), RangeError);
    const { block } = createReplyBlock(native, random, makeNodes(2), bytes(16));
    assert.throws(() => useReplyBlock(native, block, bytes(785), out), RangeError);
    assert.equal(useReplyBlock(native, bytes(REPLY_BLOCK_BYTES - 1), bytes(1), out), undefined);
  });
});

describe(`what a packet shows, seed "${seed}"`, () => {
  test('cover is thrown away by the last hop and no sooner, and looks the same before', () => {
    const path = makeNodes(3);
    const relay = new SphinxRelay(native);
    const packet = new Uint8Array(PACKET_BYTES);
    createDropPacket(native, random, path, packet);
    for (const [i, node] of path.entries()) {
      assert.equal(relay.process([keysOf(native, node)], packet), Drop.none);
      assert.equal(relay.command, i === 2 ? Command.drop : Command.forward);
      packet.set(relay.next);
    }
  });

  test('every hop sees uniform bytes behind its block, wherever it is and however long the path', () => {
    // Chi-square over the values of all bytes behind α: β, γ and δ as each hop passes them on or, the last one, has them.
    for (let count = 1; count <= 7; count++) {
      for (let at = 0; at < count; at++) {
        const counts = new Float64Array(256);
        let total = 0;
        for (let round = 0; round < 12; round++) {
          const path = makeNodes(count);
          let packet = makePacketOfOurs(path);
          for (let i = 0; i <= at; i++) packet = processPacket(path[i]!, packet)!.next;
          // At the last hop the payload is open, and γ is the random field.
          const end = at === count - 1 ? 440 : PACKET_BYTES;
          for (let i = 32; i < end; i++) counts[packet[i]!]!++;
          total += end - 32;
        }
        const expected = total / 256;
        let chiSquare = 0;
        for (const seen of counts) chiSquare += (seen - expected) ** 2 / expected;
        // 255 degrees of freedom: beyond 370 once in a million.
        assert.ok(chiSquare < 370, `hop ${at} of ${count}: chi-square ${chiSquare}`);
      }
    }
  });
});

function makePacketOfOurs(path: readonly SphinxHop[]): Buffer {
  const packet = Buffer.alloc(PACKET_BYTES);
  createPacket(native, random, path, new Uint8Array(0), packet);
  return packet;
}

function popCount(byte: number): number {
  let count = 0;
  for (let rest = byte; rest > 0; rest &= rest - 1) count++;
  return count;
}
