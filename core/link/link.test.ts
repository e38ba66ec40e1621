import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { PeerAddress } from '../ports.ts';
import { CellBuffer, DATAGRAM_BYTES } from '../wire/datagram.ts';
import type { LinkHandshakeOptions } from './contract.ts';
import { maskHeader, unmaskHeader, xorHandshakeHeader } from './header-mask.ts';
import type { Link } from './link.ts';
import { uniform, VirtualNode, VirtualWire, type WireOptions } from './virtual-wire.ts';

const native = createNativeSuite();

interface Pair {
  readonly wire: VirtualWire;
  readonly a: VirtualNode;
  readonly b: VirtualNode;
  readonly link: Link;
  readonly far: Link;
}

function connectedPair(
  options: WireOptions,
  nodeOptions: Partial<LinkHandshakeOptions> = {},
  suites: [CryptoSuite, CryptoSuite] = [native, native],
): Pair {
  const wire = new VirtualWire(options);
  const a = new VirtualNode(wire, suites[0], 'a', nodeOptions, createSeededRandom(`a ${options.seed}`));
  const b = new VirtualNode(wire, suites[1], 'b', nodeOptions, createSeededRandom(`b ${options.seed}`));
  const link = a.connect(b);
  assert.ok(
    wire.run(5000, () => a.up.length === 1 && b.up.length === 1),
    `seed ${options.seed}: link is ${link.state}`,
  );
  return { wire, a, b, link, far: b.up[0]! };
}

/** Body of message i: its number, then a length of its own. */
function body(i: number, random: () => number): Uint8Array {
  const bytes = new Uint8Array(4 + Math.floor(random() * (i % 50 === 0 ? 16_380 : 300))).fill(i);
  new DataView(bytes.buffer).setUint32(0, i);
  return bytes;
}

function assertInOrder(node: VirtualNode, sent: readonly Uint8Array[], what: string): void {
  assert.equal(node.received.length, sent.length, what);
  for (let i = 0; i < sent.length; i++) assert.deepEqual(node.received[i]!.body, sent[i], `${what}, message ${i}`);
}

/** Sends `count` messages each way as the queue takes them, and waits for all to arrive. */
function exchange(pair: Pair, count: number, seed: number, forMs = 120_000): void {
  const random = uniform(createSeededRandom(`messages ${seed}`));
  const { wire, a, b, link, far } = pair;
  const there = Array.from({ length: count }, (_, i) => body(i, random));
  const back = Array.from({ length: count }, (_, i) => body(i, random));
  let sentThere = 0;
  let sentBack = 0;
  const step = () => {
    while (sentThere < count && link.send(9, there[sentThere]!)) sentThere += 1;
    while (sentBack < count && far.send(9, back[sentBack]!)) sentBack += 1;
    return a.received.length >= count && b.received.length >= count;
  };
  assert.ok(wire.run(forMs, step), `seed ${seed}: ${b.received.length} and ${a.received.length} of ${count} arrived`);
  assertInOrder(b, there, `seed ${seed} there`);
  assertInOrder(a, back, `seed ${seed} back`);
}

test('a link comes up between the two suites and carries messages both ways', () => {
  const pair = connectedPair({ seed: 1 }, {}, [native, createNobleSuite()]);
  assert.deepEqual(pair.far.nodeId, pair.a.contact.nodeId);
  assert.deepEqual(pair.link.nodeId, pair.b.contact.nodeId);
  exchange(pair, 60, 1);
  assert.ok(pair.link.rttMs! >= 10 && pair.link.rttMs! < 16, `rtt ${pair.link.rttMs}`);
  pair.wire.run(100);
  assert.equal(pair.link.lossRatio, 0);
  assert.equal(pair.link.queuedBytes, 0);
});

test('1000 messages each way arrive once and in order at 30% loss, with reordering, duplicates and damage', () => {
  for (const seed of [11, 12, 13]) {
    const pair = connectedPair({ seed, loss: 0.3, jitterMs: 15, duplicates: 0.1, corruption: 0.05 });
    exchange(pair, 1000, seed);
    assert.ok(pair.link.lossRatio > 0.1, `seed ${seed}: loss ratio ${pair.link.lossRatio}`);
  }
});

test('reordering alone causes hardly a retransmission', () => {
  const pair = connectedPair({ seed: 21, delayMs: 20, jitterMs: 4 });
  exchange(pair, 500, 21);
  assert.ok(pair.link.lossRatio < 0.01, `loss ratio ${pair.link.lossRatio}`);
});

test('what is only late, because a machine was busy, is no loss in the end', () => {
  const pair = connectedPair({ seed: 22 });
  exchange(pair, 20, 22);
  const { wire, a, b, link } = pair;
  const held: { readonly from: PeerAddress; readonly to: string; readonly datagram: Uint8Array }[] = [];
  wire.observe = ({ from, to, datagram }) => {
    const address = [a, b].find((node) => node.address.address === from)!.address;
    held.push({ from: address, to, datagram: datagram.slice() });
    return false;
  };
  for (let i = 0; i < 10; i++) assert.ok(link.send(9, new Uint8Array(1000)));
  wire.run(400);
  assert.ok(link.lossRatio > 0.1, `given up and sent again meanwhile: ${link.lossRatio}`);
  wire.observe = undefined;
  for (const { from, to, datagram } of held) wire.send(from, to, datagram);
  wire.run(200);
  assert.equal(b.received.length, 30);
  assert.ok(link.lossRatio < 0.05, `loss ratio ${link.lossRatio}`);
});

test('messages queued before the handshake arrive after it; parts are joined', () => {
  const wire = new VirtualWire({ seed: 31 });
  const a = new VirtualNode(wire, native, 'a', { named: false });
  const b = new VirtualNode(wire, native, 'b');
  const link = a.connect(b);
  assert.equal(link.state, 'handshaking');
  assert.ok(link.send(7, Uint8Array.of(1, 2), new Uint8Array(0), Uint8Array.of(3)));
  assert.ok(wire.run(1000, () => b.received.length === 1));
  assert.equal(b.received[0]!.type, 7);
  assert.deepEqual(b.received[0]!.body, Uint8Array.of(1, 2, 3));
  assert.equal(b.up[0]!.nodeId, undefined, 'an anonymous initiator has no name');
});

test('the queue is bounded and says so', () => {
  const { link } = connectedPair({ seed: 41 });
  let sent = 0;
  while (link.send(1, new Uint8Array(10_096))) sent += 1;
  assert.equal(sent, 64);
  assert.ok(link.queuedBytes <= 64 * 10_240);
});

test('a message longer than 16 KiB closes the link as a protocol error at the receiver', () => {
  const pair = connectedPair({ seed: 42 });
  pair.link.send(1, new Uint8Array(16_385));
  pair.wire.run(2000, () => pair.b.closed.length > 0);
  assert.equal(pair.b.closed[0]!.reason, 'protocol');
  assert.equal(pair.b.received.length, 0);
  assert.ok((pair.b.drops.get(Drop.badFrame) ?? 0) > 0);
});

test('close says goodbye behind what is queued', () => {
  const pair = connectedPair({ seed: 51, loss: 0.2 });
  for (let i = 0; i < 20; i++) pair.link.send(1, new Uint8Array(500));
  pair.link.close(1, pair.wire.nowMs);
  assert.equal(pair.link.state, 'draining');
  assert.equal(pair.link.send(1, new Uint8Array(1)), false);
  pair.wire.loss = 0;
  assert.ok(pair.wire.run(3000, () => pair.a.closed.length === 1 && pair.b.closed.length === 1));
  assert.equal(pair.b.received.length, 20);
  assert.equal(pair.b.closed[0]!.reason, 'peer');
  assert.equal(pair.a.closed[0]!.reason, 'requested');
  assert.equal(pair.a.links.size + pair.b.links.size, 0, 'no id is left behind');
  assert.throws(() => pair.link.finish(new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0)), /no keys/);
});

test('an idle link lives on keep-alives; a silent peer is found dead', () => {
  const pair = connectedPair({ seed: 61, loss: 0.3 });
  pair.wire.run(600_000 - 10_000);
  assert.equal(pair.link.state, 'up');
  assert.equal(pair.far.state, 'up');
  const sent = pair.link.bytesOut / DATAGRAM_BYTES;
  assert.ok(sent < 150, `${sent} datagrams for ten idle minutes`);
  pair.wire.loss = 1;
  const startMs = pair.wire.nowMs;
  assert.ok(pair.wire.run(200_000, () => pair.a.closed.length === 1 && pair.b.closed.length === 1));
  assert.equal(pair.a.closed[0]!.reason, 'timeout');
  assert.ok(pair.wire.nowMs - startMs > 30_000);
});

test('a peer that stops answering while data is out is dead after about ten seconds', () => {
  const pair = connectedPair({ seed: 62 });
  pair.wire.run(100);
  pair.wire.loss = 1;
  pair.link.send(1, new Uint8Array(10));
  const startMs = pair.wire.nowMs;
  assert.ok(pair.wire.run(20_000, () => pair.a.closed.length === 1));
  assert.equal(pair.a.closed[0]!.reason, 'timeout');
  const tookMs = pair.wire.nowMs - startMs;
  assert.ok(tookMs >= 9_900 && tookMs < 11_000, `${tookMs} ms`);
});

test('a duplicate of a control cell is a replay, a changed one has a bad tag, and neither does anything', () => {
  const pair = connectedPair({ seed: 71 });
  pair.wire.run(100);
  const seen: Uint8Array[] = [];
  pair.wire.observe = ({ to, datagram }) => {
    if (to === 'b') seen.push(datagram.slice());
    return true;
  };
  pair.link.send(5 + 20, new Uint8Array(100));
  pair.wire.run(100);
  assert.equal(pair.b.received.length, 1);
  assert.ok(seen.length > 0);
  assert.equal(pair.b.handle(seen[0]!, pair.a.address, pair.wire.nowMs), Drop.replayed);
  for (let at = 24; at < DATAGRAM_BYTES; at += 13) {
    const changed = seen[0]!.slice();
    changed[at] = changed[at]! ^ 0x40;
    const drop = pair.b.handle(changed, pair.a.address, pair.wire.nowMs);
    // A changed tag changes the mask too: the cell then looks like one of an unknown circuit.
    if (at >= 40) assert.notEqual(drop, Drop.none, `byte ${at}`);
  }
  assert.equal(pair.b.received.length, 1);
});

test('masked header bytes are uniform over 20 000 cells (chi-square)', () => {
  const cells = 20_000;
  const counts = Array.from({ length: 20 }, () => new Uint32Array(256));
  const cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  const random = createSeededRandom(81);
  const key = new Uint8Array(32);
  random.fill(key);
  for (let i = 0; i < cells; i++) {
    random.fill(cell.tag);
    cell.header.fill(0);
    cell.header[17] = i;
    maskHeader(native, key, cell);
    for (let at = 0; at < 20; at++) counts[at]![cell.header[at]!]! += 1;
  }
  const expected = cells / 256;
  for (const [at, histogram] of counts.entries()) {
    const chiSquare = histogram.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // 255 degrees of freedom: mean 255, deviation 22.6; 5 deviations either way.
    assert.ok(chiSquare > 142 && chiSquare < 368, `header byte ${at}: ${chiSquare}`);
  }
});

test('a changed bit anywhere in a masked header or its sample gives another CID', () => {
  const random = createSeededRandom(82);
  const key = new Uint8Array(32);
  random.fill(key);
  const cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  random.fill(cell.bytes);
  const clear = cell.header.slice();
  maskHeader(native, key, cell);
  const masked = cell.bytes.slice();
  unmaskHeader(native, key, cell);
  assert.deepEqual(cell.header, clear);
  for (let bit = 4 * 8; bit < 40 * 8; bit++) {
    cell.bytes.set(masked);
    cell.bytes[bit >> 3]! ^= 1 << (bit & 7);
    unmaskHeader(native, key, cell);
    assert.notDeepEqual(cell.cid, clear.slice(0, 12), `bit ${bit}`);
    // Not one bit of it, as an XOR would have it: about half of the 96.
    if (bit < 16 * 8) continue;
    const different = cell.cid.reduce((sum, byte, i) => sum + bits(byte ^ clear[i]!), 0);
    assert.ok(different > 20 && different < 76, `bit ${bit}: ${different} bits of the CID changed`);
  }
});

test('the mask of a handshake header is that of RFC 9001 §A.5 (ChaCha20)', () => {
  const hex = (text: string) => Uint8Array.from(text.match(/../g)!, (pair) => Number.parseInt(pair, 16));
  const key = hex('25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4');
  for (const suite of [native, createNobleSuite()]) {
    const cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
    cell.tag.set(hex('5e5cd55c41f69080575d7999c25a5bfb'));
    xorHandshakeHeader(suite, key, cell);
    assert.deepEqual(cell.header.slice(0, 5), hex('aefefe7d03'));
    xorHandshakeHeader(suite, key, cell);
    assert.ok(
      cell.header.every((byte) => byte === 0),
      'masking twice is no masking',
    );
  }
});

function bits(byte: number): number {
  let count = 0;
  for (let rest = byte; rest > 0; rest >>= 1) count += rest & 1;
  return count;
}
