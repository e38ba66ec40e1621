/** The message lane in networks of real engines on virtual time. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import type { MessagePacketEvent } from '@nyx/core/engine/contract.ts';
import { ALPHA_BYTES } from '@nyx/core/sphinx/layout.ts';
import { createPacket, PACKET_BYTES, type SphinxHop } from '@nyx/core/sphinx/packet.ts';
import { createReplyBlock, openReply, useReplyBlock } from '@nyx/core/sphinx/reply-block.ts';
import { CT_OFFSET, DATAGRAM_BYTES, HEADER_OFFSET } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { RawPeer } from './raw-peer.ts';
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

/** A path over `count` of the boxes, drawn with the test's seed, and its first hop. */
function drawPath(boxes: readonly Mailbox[], count: number, dice: () => number): Mailbox[] {
  const left = [...boxes];
  return Array.from({ length: count }, () => left.splice(Math.floor(dice() * left.length), 1)[0]!);
}

function diceOf(seed: string): () => number {
  const random = createSeededRandom(seed);
  const four = new Uint8Array(4);
  return () => {
    random.fill(four);
    return new DataView(four.buffer).getUint32(0) / 2 ** 32;
  };
}

const sum = (nodes: readonly SimNode[], of: (node: SimNode) => number): number =>
  nodes.reduce((total, node) => total + of(node), 0);
const dropsOf = (nodes: readonly SimNode[], drop: Drop): number =>
  sum(nodes, ({ engine }) => engine.counters.drops[drop]!);

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

describe('many packets at a time', () => {
  for (const [name, wire, least] of [
    ['a wire that reorders and doubles', { latencyMs: 20, jitterMs: 30, lossRatio: 0, duplicateRatio: 0.1 }, 1],
    ['a wire that loses one in twenty', { latencyMs: 20, jitterMs: 30, lossRatio: 0.05, duplicateRatio: 0 }, 0.7],
  ] as const) {
    test(`over ${name}: each arrives once or not at all, and order is not kept`, () => {
      const { network, client, boxes, random } = build(31, 7, wire);
      const dice = diceOf(name);
      const packet = new Uint8Array(PACKET_BYTES);
      const sent = 120;
      for (let i = 0; i < sent; i++) {
        const path = drawPath(boxes, 3 + (i % 3), dice);
        createPacket(
          suite,
          random,
          hopsOf(path, () => Math.floor(dice() * 400)),
          bytesOf(`${i}`),
          packet,
        );
        assert.equal(client.engine.sendMessagePacket(path[0]!.node.contact, packet, network.nowMs), Drop.none);
        network.run(network.nowMs + 40);
      }
      network.run(network.nowMs + 10_000);
      const came = boxes.flatMap((box) => box.came).sort((a, b) => a.atMs - b.atMs);
      const order = came.map(({ event }) => Number(textOf(event.payload)));
      assert.equal(new Set(order).size, order.length, 'none came twice');
      assert.ok(order.length >= least * sent, `${order.length} of ${sent} came`);
      const inversions = order.filter((n, i) => i > 0 && n < order[i - 1]!).length;
      assert.ok(inversions > sent / 10, `${inversions} came behind later ones`);
      const relays = boxes.map(({ node }) => node);
      if (wire.duplicateRatio > 0) assert.ok(dropsOf(relays, Drop.replayed) > 10, 'the links take no doubles');
      // Links, not the packets' own memory, see what the wire plays again.
      assert.equal(dropsOf(relays, Drop.messageReplayed), 0);
      assert.equal(
        sum(relays, ({ engine }) => engine.messages.waiting + engine.messages.held),
        0,
      );
      assert.equal(
        sum(relays, ({ engine }) => engine.counters.messagesDelivered),
        order.length,
      );
    });
  }
});

describe('what relays do with packets that are not good', () => {
  test('the same packet from two clients, and a block used twice: one of each passes', () => {
    const { network, client, boxes, random } = build(41, 3);
    const other = network.add('other client', { relay: false });
    const packet = new Uint8Array(PACKET_BYTES);
    const hops = hopsOf(boxes, () => 0);
    createPacket(suite, random, hops, bytesOf('once'), packet);
    const first = boxes[0]!.node.contact;
    const { block } = createReplyBlock(suite, random, hops, new Uint8Array(16));
    const replies = ['one', 'two'].map((text) => {
      const reply = new Uint8Array(PACKET_BYTES);
      useReplyBlock(suite, block, bytesOf(text), reply);
      return reply;
    });
    for (const [from, reply] of [
      [client, replies[0]!],
      [other, replies[1]!],
    ] as const) {
      from.engine.sendMessagePacket(first, packet, network.nowMs);
      from.engine.sendMessagePacket(first, reply, network.nowMs);
    }
    network.run(network.nowMs + 5000);
    assert.deepEqual(boxes[2]!.came.map(({ event }) => event.kind).sort(), ['message', 'reply']);
    assert.equal(boxes[0]!.node.engine.counters.drops[Drop.messageReplayed], 2);
  });

  test('a relay that changes a payload is found out at the last hop, one that changes a header at the next', () => {
    const { network, client, boxes, random } = build(42, 3);
    const packet = new Uint8Array(PACKET_BYTES);
    for (const [at, culprit] of [
      [1000, 2],
      [100, 0],
    ] as const) {
      createPacket(
        suite,
        random,
        hopsOf(boxes, () => 0),
        bytesOf('marked'),
        packet,
      );
      packet[at]! ^= 1;
      client.engine.sendMessagePacket(boxes[0]!.node.contact, packet, network.nowMs);
      network.run(network.nowMs + 5000);
      assert.equal(boxes[culprit]!.node.engine.counters.drops[Drop.badMessage], 1);
    }
    assert.equal(boxes[2]!.came.length, 0);
  });

  test('one that asks for an unknown or unreachable next hop, or for this node again', () => {
    const { network, client, boxes, random } = build(43, 3);
    const [a, b, c] = boxes as [Mailbox, Mailbox, Mailbox];
    const packet = new Uint8Array(PACKET_BYTES);
    const send = (hops: SphinxHop[]) => {
      createPacket(suite, random, hops, bytesOf('lost'), packet);
      client.engine.sendMessagePacket(a.node.contact, packet, network.nowMs);
    };
    const [toA, toB] = hopsOf([a, b], () => 0);
    send([toA!, { ...toB!, nodeId: new Uint8Array(32).fill(9) }]);
    send([toA!, { ...toA! }]);
    network.run(network.nowMs + 1000);
    assert.equal(a.node.engine.counters.drops[Drop.noRoute], 2);
    c.node.down = true;
    for (let i = 0; i < 30; i++) send(hopsOf([a, c], () => 0));
    network.run(network.nowMs + 1000);
    assert.equal(a.node.engine.messages.held, 30);
    network.run(network.nowMs + 60_000);
    assert.equal(a.node.engine.messages.held, 0, 'the link that never came up has let them go');
    assert.equal(a.node.engine.counters.drops[Drop.noRoute], 32);
  });

  test('who was given a link to has nothing to say over it, and a packet that is none is dropped', () => {
    const { network, client, boxes, random } = build(47, 1);
    let peer: RawPeer | undefined;
    const hostile = network.add('hostile', {
      engine: (options, deps) => {
        peer = new RawPeer(options, deps);
        return peer.asEngine();
      },
    });
    const relay = boxes[0]!;
    const { counters } = relay.node.engine;
    const packet = new Uint8Array(PACKET_BYTES);
    const hops = hopsOf([relay, { node: hostile, came: [] }], () => 0);
    createPacket(suite, random, hops, bytesOf('to a hostile node'), packet);
    client.engine.sendMessagePacket(relay.node.contact, packet, network.nowMs);
    assert.ok(network.run(network.nowMs + 5000, () => peer!.links.length === 1));
    network.run(network.nowMs + 100);
    createPacket(
      suite,
      random,
      hopsOf([relay], () => 0),
      bytesOf('back'),
      packet,
    );
    peer!.sendPacket(peer!.links[0]!, packet);
    network.run(network.nowMs + 100);
    assert.equal(counters.drops[Drop.notAllowed], 1);
    // Over a link of its own it may.
    peer!.connect(relay.node.contact, network.nowMs);
    assert.ok(network.run(network.nowMs + 5000, () => peer!.links.length === 2));
    peer!.sendPacket(peer!.links[1]!, packet);
    random.fill(packet);
    peer!.sendPacket(peer!.links[1]!, packet);
    network.run(network.nowMs + 100);
    assert.equal(counters.drops[Drop.badMessage], 1);
    assert.deepEqual(
      relay.came.map(({ event }) => textOf(event.payload)),
      ['back'],
    );
  });

  test('what is sent before a link is up waits for it, up to 64 packets', () => {
    const { network, client, boxes, random } = build(46, 1);
    const packet = new Uint8Array(PACKET_BYTES);
    const drops = Array.from({ length: 70 }, (_, i) => {
      createPacket(
        suite,
        random,
        hopsOf(boxes, () => 0),
        bytesOf(`${i}`),
        packet,
      );
      return client.engine.sendMessagePacket(boxes[0]!.node.contact, packet, network.nowMs);
    });
    assert.deepEqual(drops, [...Array(64).fill(Drop.none), ...Array(6).fill(Drop.messageQueueFull)]);
    assert.equal(client.engine.messages.held, 64);
    network.run(network.nowMs + 1000);
    assert.equal(client.engine.messages.held, 0);
    // A client may bring 50 at once.
    assert.equal(boxes[0]!.came.length + boxes[0]!.node.engine.counters.drops[Drop.messageRate]!, 64);
    assert.equal(boxes[0]!.came.length, 50);
  });

  test('a node that takes no messages, one that is no relay, and one that is shutting down', () => {
    const { network, client, boxes, random } = build(44, 1);
    const mute = network.add('mute');
    const packet = new Uint8Array(PACKET_BYTES);
    createPacket(
      suite,
      random,
      hopsOf([boxes[0]!, { node: mute, came: [] }], () => 0),
      bytesOf('x'),
      packet,
    );
    client.engine.sendMessagePacket(boxes[0]!.node.contact, packet, network.nowMs);
    network.run(network.nowMs + 1000);
    assert.equal(mute.engine.counters.drops[Drop.notAllowed], 1);
    assert.equal(client.engine.sendMessagePacket(mute.contact, packet.subarray(1), network.nowMs), Drop.badLength);
    assert.equal(mute.engine.sendMessagePacket(mute.contact, packet, network.nowMs), Drop.noRoute);
    client.engine.shutdown(network.nowMs);
    assert.equal(client.engine.sendMessagePacket(mute.contact, packet, network.nowMs), Drop.closed);
  });

  test('floods: a client has a twentieth of the packets that are opened, and a quarter of the room to wait', () => {
    const engineOptions = { messagesPerSecond: 200 };
    const network = new VirtualNetwork(suite, 45);
    const client = network.add('client', { relay: false });
    // Room for 256 waiting packets: an eighth of it holds 1440 bytes each.
    const relay = network.add('relay', { engineOptions, memoryBytes: 256 * 1440 * 8, host: { onMessagePacket() {} } });
    const random = createSeededRandom('flood');
    const packet = new Uint8Array(PACKET_BYTES);
    const { epoch, x25519 } = relay.contact.mixKeys[0]!;
    const flood = (count: number, delayMs: number) => {
      for (let i = 0; i < count; i++) {
        const hop = { nodeId: relay.contact.nodeId, mixX25519: x25519, epoch, delayMs };
        createPacket(suite, random, [hop], new Uint8Array(0), packet);
        client.engine.sendMessagePacket(relay.contact, packet, network.nowMs);
      }
      network.run(network.nowMs + 1);
    };
    flood(1, 0);
    network.run(network.nowMs + 2000);
    const { counters } = relay.engine;
    assert.equal(counters.messagesIn, 1);
    flood(60, 600_000);
    network.run(network.nowMs + 100);
    assert.ok(
      counters.messagesIn >= 11 && counters.messagesIn <= 13,
      `${counters.messagesIn} of a burst of 60 were opened`,
    );
    assert.equal(counters.drops[Drop.messageRate], 61 - counters.messagesIn);
    for (let i = 0; i < 30; i++) {
      network.run(network.nowMs + 1000);
      flood(10, 600_000);
    }
    network.run(network.nowMs + 100);
    // w < (256 − w) / 4.
    assert.equal(relay.engine.messages.waiting, 52);
    assert.ok(counters.drops[Drop.messageQueueFull]! > 200);
    network.run(network.nowMs + 601_000);
    assert.equal(relay.engine.messages.waiting, 0);
    assert.equal(counters.messagesDelivered, 53);
  });
});

describe('on the wire', () => {
  test('no byte of a message cell tells it from others: chi-square at every place, curve points and top bits', () => {
    const { network, client, boxes, random } = build(51, 3);
    const counts = new Uint32Array(DATAGRAM_BYTES * 256);
    let seen = 0;
    let onCurve = 0;
    let topBits = 0;
    let points = 0;
    network.run(network.nowMs + 1000);
    const [a, b] = boxes as [Mailbox, Mailbox];
    network.tap = (datagram, from, to) => {
      if (from !== a.node || to !== b.node) return true;
      seen++;
      for (let i = 0; i < DATAGRAM_BYTES; i++) counts[i * 256 + datagram[i]!]!++;
      // Where a packet's α stands before the link seals it.
      const alpha = datagram.subarray(CT_OFFSET, CT_OFFSET + ALPHA_BYTES);
      if (alpha[31]! >= 128) topBits++;
      if (seen % 10 === 0) {
        points++;
        if (isOnCurve(alpha)) onCurve++;
      }
      return true;
    };
    const packet = new Uint8Array(PACKET_BYTES);
    for (let i = 0; i < 3000; i++) {
      createPacket(
        suite,
        random,
        hopsOf(boxes.slice(0, 2), () => 0),
        new Uint8Array(0),
        packet,
      );
      if (i % 30 === 0) assert.equal(isOnCurve(packet.subarray(0, ALPHA_BYTES)), true, 'a bare α does tell');
      client.engine.sendMessagePacket(a.node.contact, packet, network.nowMs);
      network.run(network.nowMs + 25);
    }
    assert.ok(seen > 2900, `${seen} datagrams`);
    assert.ok(b.came.length > 2900);
    let worst = 0;
    for (let at = HEADER_OFFSET; at < DATAGRAM_BYTES; at++) {
      let chiSquare = 0;
      for (let value = 0; value < 256; value++) {
        chiSquare += (counts[at * 256 + value]! - seen / 256) ** 2 / (seen / 256);
      }
      worst = Math.max(worst, chiSquare);
    }
    // 255 degrees of freedom at 1276 places: the worst beyond 395 less than once in 10^5 runs.
    assert.ok(worst < 395, `chi-square ${worst}`);
    const sigmas = (hits: number, of: number) => Math.abs(hits - of / 2) / Math.sqrt(of / 4);
    assert.ok(sigmas(topBits, seen) < 5, `top bit: ${topBits} of ${seen}`);
    assert.ok(sigmas(onCurve, points) < 5, `on the curve: ${onCurve} of ${points}`);
  });

  test('on a link with constant cover messages leave at the moments at which cover would have', () => {
    const constant = {
      mode: 'constant',
      cellsPerSecond: 20,
      ratio: 0.3,
      dropCellsPerSecond: 0,
      budgetBytesPerHour: 0,
    } as const;
    const watch = (messages: number) => {
      const network = new VirtualNetwork(suite, 52);
      const client = network.add('client', { relay: false, engineOptions: { cover: constant } });
      const relay = network.add('relay', { host: { onMessagePacket() {} } });
      const box = { node: relay, came: [] };
      const random = createSeededRandom('constant');
      const packet = new Uint8Array(PACKET_BYTES);
      const times: number[] = [];
      createPacket(
        suite,
        random,
        hopsOf([box], () => 0),
        new Uint8Array(0),
        packet,
      );
      client.engine.sendMessagePacket(relay.contact, packet, network.nowMs);
      network.run(network.nowMs + 5000);
      network.tap = (_datagram, from) => {
        if (from === client) times.push(network.nowMs);
        return true;
      };
      for (let i = 0; i < messages; i++) {
        createPacket(
          suite,
          random,
          hopsOf([box], () => 0),
          new Uint8Array(0),
          packet,
        );
        client.engine.sendMessagePacket(relay.contact, packet, network.nowMs);
      }
      network.run(network.nowMs + 20_000);
      return { times, relay, client };
    };
    const [idle, busy] = [watch(0), watch(60)];
    assert.ok(idle.times.length > 300);
    assert.deepEqual(busy.times, idle.times);
    assert.equal(busy.relay.engine.counters.messagesIn, 61);
    assert.ok(busy.client.engine.counters.coverOut <= idle.client.engine.counters.coverOut - 50);
  });

  test('adaptive cover of links follows messages as it does cells, at the client and between relays', () => {
    const network = new VirtualNetwork(suite, 53);
    const cover = {
      mode: 'adaptive',
      cellsPerSecond: 0.5,
      ratio: 0.4,
      dropCellsPerSecond: 0,
      budgetBytesPerHour: 0,
    } as const;
    const client = network.add('client', { relay: false, engineOptions: { cover } });
    const boxes = [0, 1].map((i): Mailbox => {
      const node = network.add(`relay ${i}`, { engineOptions: { cover }, host: { onMessagePacket() {} } });
      return { node, came: [] };
    });
    const [guard, last] = boxes.map(({ node }) => node) as [SimNode, SimNode];
    const random = createSeededRandom('adaptive');
    const packet = new Uint8Array(PACKET_BYTES);
    const run = (seconds: number) => {
      for (let i = 0; i < 20 * seconds; i++) {
        const hops = hopsOf(boxes, () => 5);
        createPacket(suite, random, hops, new Uint8Array(0), packet);
        client.engine.sendMessagePacket(guard.contact, packet, network.nowMs);
        network.run(network.nowMs + 50);
      }
    };
    run(3);
    const count = () =>
      [client, guard].map(({ engine: { counters } }) => ({ cover: counters.coverOut, all: counters.datagramsOut }));
    const before = count();
    run(10);
    const shares = count().map(({ cover: sent, all }, i) => (sent - before[i]!.cover) / (all - before[i]!.all));
    for (const share of shares) assert.ok(share > 0.2 && share < 0.6, `${shares.map((value) => value.toFixed(2))}`);
    assert.ok(last.engine.counters.messagesDelivered > 240, `${last.engine.counters.messagesDelivered} arrived`);
    assert.ok(last.engine.counters.coverIn > 0, 'the second link has cover too');
  });
});

/** Whether 32 bytes are the u of a point of Curve25519 (u³ + 486662u² + u is a square), as every public key is and half of all strings are. */
function isOnCurve(bytes: Uint8Array): boolean {
  const p = 2n ** 255n - 19n;
  let u = 0n;
  for (let i = 31; i >= 0; i--) u = (u << 8n) | BigInt(i === 31 ? bytes[i]! & 0x7f : bytes[i]!);
  const square = (u * u * u + 486662n * u * u + u) % p;
  let [result, base] = [1n, square];
  for (let exponent = (p - 1n) / 2n; exponent > 0n; exponent >>= 1n) {
    if ((exponent & 1n) === 1n) result = (result * base) % p;
    base = (base * base) % p;
  }
  return result <= 1n;
}
