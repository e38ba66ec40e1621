/** The message lane in networks of real engines on virtual time. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import type { MessagePacketEvent } from '@nyx/core/engine/contract.ts';
import { createPacket, PACKET_BYTES, type SphinxHop } from '@nyx/core/sphinx/packet.ts';
import { createReplyBlock, openReply, useReplyBlock } from '@nyx/core/sphinx/reply-block.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type SimNode, VirtualNetwork, type WireOptions } from './virtual-network.ts';

const suite = createNativeSuite();

interface Mailbox {
  readonly node: SimNode;
  /** What came, and when. */
  readonly came: { readonly event: MessagePacketEvent; readonly atMs: number }[];
}

/** A client and `relays` nodes that keep what ends at them. */
function build(seed: number, relays: number, wire?: WireOptions) {
  const network = new VirtualNetwork(suite, seed, wire);
  const client = network.add('client', { relay: false });
  const boxes = Array.from({ length: relays }, (_, i): Mailbox => {
    const came: Mailbox['came'] = [];
    const node = network.add(`relay ${i}`, {
      host: {
        onMessagePacket(event) {
          const payload = event.payload.slice();
          const copy =
            event.kind === 'reply' ? { ...event, payload, replyId: event.replyId.slice() } : { ...event, payload };
          came.push({ event: copy, atMs: network.nowMs });
        },
      },
    });
    return { node, came };
  });
  return { network, client, boxes, random: createSeededRandom(`messages ${seed}`) };
}

function hopsOf(boxes: readonly Mailbox[], delayMs: (i: number) => number): SphinxHop[] {
  return boxes.map(({ node }, i) => {
    const { epoch, x25519 } = node.contact.mixKeys.at(-1)!;
    return { nodeId: node.contact.nodeId, mixX25519: x25519, epoch, delayMs: delayMs(i) };
  });
}

const textOf = (payload: Uint8Array): string => new TextDecoder().decode(payload).replace(/\0+$/, '');
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('packets of the message lane', () => {
  for (const count of [3, 5, 7]) {
    test(`over ${count} hops: there, held as long as the sender wants at each, and a reply back`, () => {
      const { network, client, boxes, random } = build(count, count);
      const last = boxes.at(-1)!;
      const packet = new Uint8Array(PACKET_BYTES);
      const hops = hopsOf(boxes, (i) => 100 * (i + 1));
      // The reply ends at the first relay: clients themselves take no links.
      const back = createReplyBlock(
        suite,
        random,
        hopsOf([...boxes].reverse(), () => 50),
        new Uint8Array(16).fill(7),
      );
      createPacket(suite, random, hops, bytesOf('ping'), packet);
      const sentMs = network.nowMs;
      assert.equal(client.engine.sendMessagePacket(boxes[0]!.node.contact, packet, sentMs), Drop.none);
      assert.ok(network.run(network.nowMs + 60_000, () => last.came.length > 0));
      const [message] = last.came;
      assert.equal(message!.event.kind, 'message');
      assert.equal(textOf(message!.event.payload), 'ping');
      const heldMs = (100 * count * (count + 1)) / 2;
      const tookMs = message!.atMs - sentMs;
      assert.ok(tookMs >= heldMs && tookMs < heldMs + 20 * count, `took ${tookMs} ms instead of ${heldMs}`);

      // The block's first hop is the last relay itself: it processes the packet as if it had come over a link.
      const first = useReplyBlock(suite, back.block, bytesOf('pong'), packet)!;
      assert.deepEqual(first, last.node.contact.nodeId);
      assert.equal(client.engine.sendMessagePacket(last.node.contact, packet, network.nowMs), Drop.none);
      const home = boxes[0]!;
      assert.ok(network.run(network.nowMs + 60_000, () => home.came.length > 0));
      const { event } = home.came[0]!;
      assert.ok(event.kind === 'reply');
      assert.deepEqual(event.replyId, new Uint8Array(16).fill(7));
      assert.equal(textOf(openReply(suite, back.keys, event.payload)!), 'pong');
      for (const { node } of boxes) {
        assert.equal(node.engine.counters.messagesIn, 2, node.name);
        assert.equal(node.engine.messages.waiting + node.engine.messages.held, 0);
      }
    });
  }
});
