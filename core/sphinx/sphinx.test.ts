/** The packet format, whole: 1…7 hops there, and back over a reply block. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { Drop } from '../drop-reason.ts';
import { TagMemory } from '../onion/tag-memory.ts';
import { HopContext } from './hop-keys.ts';
import { createDropPacket, createPacket, MESSAGE_BYTES, PACKET_BYTES, type SphinxHop } from './packet.ts';
import { Command, type MessageKeys, SphinxRelay } from './relay.ts';
import { createReplyBlock, openReply, REPLY_BLOCK_BYTES, useReplyBlock } from './reply-block.ts';

const suite = createNobleSuite();
const seed = 'sphinx';
const random = createSeededRandom(seed);
const bytes = (length: number): Uint8Array => {
  const made = new Uint8Array(length);
  random.fill(made);
  return made;
};

interface Node extends SphinxHop {
  readonly keys: readonly MessageKeys[];
}

function makeNode(epoch = 7): Node {
  const nodeId = bytes(32);
  const dh = suite.x25519(bytes(32));
  const context = new HopContext(nodeId, epoch, dh.publicKey);
  return {
    nodeId,
    mixX25519: dh.publicKey,
    epoch,
    delayMs: Math.floor(bytes(1)[0]! * 10),
    keys: [{ dh, context, seenMessages: new TagMemory(1000) }],
  };
}

const makeNodes = (count: number): Node[] => Array.from({ length: count }, () => makeNode());

test(`packets over 1…7 hops bring their payload, reply blocks theirs, seed "${seed}"`, () => {
  const relay = new SphinxRelay(suite);
  for (let count = 1; count <= 7; count++) {
    const nodes = makeNodes(count);
    const payload = bytes(MESSAGE_BYTES - (count % 3) * 100);
    const padded = new Uint8Array(MESSAGE_BYTES);
    padded.set(payload);
    const made = new Uint8Array(PACKET_BYTES);
    createPacket(suite, random, nodes, payload, made);
    let packet: Uint8Array = made;
    for (const [i, node] of nodes.entries()) {
      assert.equal(relay.process(node.keys, packet), Drop.none);
      assert.equal(relay.delayMs, node.delayMs);
      if (i === count - 1) break;
      assert.equal(relay.command, Command.forward);
      assert.deepEqual(relay.nextNodeId, nodes[i + 1]!.nodeId);
      packet = relay.next.slice();
    }
    assert.equal(relay.command, Command.deliver);
    assert.deepEqual(relay.message, padded);

    const replyId = bytes(16);
    const { block, keys } = createReplyBlock(suite, random, nodes, replyId);
    assert.equal(block.length, REPLY_BLOCK_BYTES);
    assert.deepEqual(useReplyBlock(suite, block, payload, made), nodes[0]!.nodeId);
    packet = made;
    for (const node of nodes) {
      assert.equal(relay.process(node.keys, packet), Drop.none);
      packet = relay.next.slice();
    }
    assert.equal(relay.command, Command.reply);
    assert.deepEqual(relay.replyId, replyId);
    assert.deepEqual(openReply(suite, keys, relay.reply), padded);

    createDropPacket(suite, random, nodes, made);
    packet = made;
    for (const node of nodes) {
      assert.equal(relay.process(node.keys, packet), Drop.none);
      packet = relay.next.slice();
    }
    assert.equal(relay.command, Command.drop);
  }
});

test('the same packet is taken once, and so is a reply block', () => {
  const relay = new SphinxRelay(suite);
  const nodes = makeNodes(2);
  const packet = new Uint8Array(PACKET_BYTES);
  createPacket(suite, random, nodes, bytes(10), packet);
  assert.equal(relay.process(nodes[0]!.keys, packet), Drop.none);
  assert.equal(relay.process(nodes[0]!.keys, packet), Drop.messageReplayed);
  const { block } = createReplyBlock(suite, random, nodes, bytes(16));
  useReplyBlock(suite, block, bytes(10), packet);
  assert.equal(relay.process(nodes[0]!.keys, packet), Drop.none);
  useReplyBlock(suite, block, bytes(20), packet);
  assert.equal(relay.process(nodes[0]!.keys, packet), Drop.messageReplayed);
});
