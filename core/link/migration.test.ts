/** A link whose initiator gets another address: it goes on, unlinkably, and nobody else can move it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { Drop } from '../drop-reason.ts';
import { DATAGRAM_BYTES, readLinkId } from '../wire/datagram.ts';
import type { Link } from './link.ts';
import { type Sighting, VirtualNode, VirtualWire } from './virtual-wire.ts';

const suite = createNativeSuite();

interface Pair {
  readonly wire: VirtualWire;
  /** Anonymous, as clients are. */
  readonly client: VirtualNode;
  readonly guard: VirtualNode;
  readonly link: Link;
  readonly far: Link;
  readonly seen: Sighting[];
}

function connected(seed: number, loss = 0): Pair {
  const wire = new VirtualWire({ seed, delayMs: 10 });
  const client = new VirtualNode(wire, suite, 'home', { named: false }, createSeededRandom(`client ${seed}`));
  const guard = new VirtualNode(wire, suite, 'guard', {}, createSeededRandom(`guard ${seed}`));
  const link = client.connect(guard);
  assert.ok(wire.run(5000, () => client.up.length === 1 && guard.up.length === 1));
  wire.run(100);
  wire.loss = loss;
  const seen: Sighting[] = [];
  wire.observe = (sighting) => {
    seen.push(sighting);
    return true;
  };
  return { wire, client, guard, link, far: guard.up[0]!, seen };
}

/** Messages both ways arrive, in order. */
function talks({ wire, client, guard, link, far }: Pair, count: number, forMs = 20_000): void {
  const before = { there: guard.received.length, back: client.received.length };
  for (let i = 0; i < count; i++) {
    assert.ok(link.send(9, Uint8Array.of(i)));
    assert.ok(far.send(9, Uint8Array.of(i)));
  }
  const all = () => guard.received.length >= before.there + count && client.received.length >= before.back + count;
  assert.ok(wire.run(forMs, all), `${guard.received.length} there, ${client.received.length} back`);
  for (const [node, from] of [
    [guard, before.there],
    [client, before.back],
  ] as const) {
    assert.deepEqual(
      node.received.slice(from).map(({ body }) => body[0]),
      Array.from({ length: count }, (_, i) => i),
    );
  }
}

const idsAt = (seen: readonly Sighting[], address: string): Set<number> =>
  new Set(
    seen.filter(({ from, to }) => from === address || to === address).map(({ datagram }) => readLinkId(datagram)),
  );

for (const loss of [0, 0.2]) {
  test(`another network, loss ${loss}: the link goes on within a round trip and a validation, under ids never seen before`, () => {
    const pair = connected(1, loss);
    const { wire, client, guard, link, far, seen } = pair;
    talks(pair, 20);
    client.move('train');
    link.migrate(wire.nowMs);
    const movedMs = wire.nowMs;
    assert.ok(wire.run(3000, () => guard.moved.length === 1));
    // One way there, then the challenge and its answer.
    if (loss === 0) assert.ok(wire.nowMs - movedMs <= 31, `${wire.nowMs - movedMs} ms`);
    assert.deepEqual(far.address, { address: 'train', port: 9 });
    talks(pair, 20);
    wire.run(2000);
    assert.equal(client.closed.length + guard.closed.length, 0);
    const before = idsAt(seen, 'home');
    const after = idsAt(seen, 'train');
    assert.ok(before.size >= 2 && after.size >= 2);
    for (const id of after) assert.ok(!before.has(id), 'both networks show one link id');
    assert.ok(guard.rekeys >= 1, 'and new keys');
    // The next move has ids of its own again.
    wire.run(11_000);
    client.move('office');
    link.migrate(wire.nowMs);
    assert.ok(wire.run(3000, () => guard.moved.length === 2));
    talks(pair, 5);
    const third = idsAt(seen, 'office');
    for (const id of third) assert.ok(!before.has(id) && !after.has(id));
  });
}

test('an address that changes on the way, unknown to the client: noticed with the next cell, ids renewed', () => {
  const pair = connected(2);
  const { wire, client, guard, far, seen } = pair;
  talks(pair, 5);
  client.move('home-2');
  talks(pair, 5);
  assert.deepEqual(far.address.address, 'home-2');
  wire.run(1000);
  const known = idsAt(seen, 'home');
  seen.length = 0;
  talks(pair, 5);
  for (const id of idsAt(seen, 'home-2')) assert.ok(!known.has(id));
  assert.equal(guard.closed.length, 0);
});

test('seen at another address before it knows, then at a third, of which it knows: no wait for the second', () => {
  const pair = connected(8);
  const { wire, client, guard, link, far } = pair;
  talks(pair, 5);
  // As when the kernel's routes change under the socket of before, and a new one comes a little later.
  client.move('train');
  assert.ok(link.send(9, Uint8Array.of(1)));
  wire.run(3);
  client.move('office');
  link.migrate(wire.nowMs);
  const movedMs = wire.nowMs;
  assert.ok(wire.run(3000, () => guard.moved.length === 1));
  assert.ok(wire.nowMs - movedMs <= 31, `${wire.nowMs - movedMs} ms`);
  assert.deepEqual(far.address, { address: 'office', port: 9 });
  talks(pair, 5);
});

test('who sends a copy first, from elsewhere, gets challenges and nothing else, three for one at most', () => {
  const pair = connected(3);
  const { wire, client, guard, link, far, seen } = pair;
  let copied = 0;
  wire.observe = (sighting) => {
    seen.push(sighting);
    if (sighting.from !== 'home' || copied > 0) return true;
    // The attacker is quicker, and the original never arrives.
    copied++;
    assert.equal(guard.handle(sighting.datagram, { address: 'evil', port: 6 }, wire.nowMs), Drop.none);
    return false;
  };
  link.send(9, Uint8Array.of(1));
  wire.run(5000);
  assert.equal(copied, 1);
  const toEvil = seen.filter(({ to }) => to === 'evil');
  assert.ok(toEvil.length >= 1 && toEvil.length <= 3, `${toEvil.length} datagrams for one`);
  // What he gets he can send back as it is, or let the client have it: neither moves the link.
  for (const { datagram } of toEvil) {
    assert.notEqual(guard.handle(datagram, { address: 'evil', port: 6 }, wire.nowMs), Drop.none);
  }
  assert.deepEqual(guard.moved, []);
  assert.equal(far.address.address, 'home');
  talks(pair, 5);
  assert.equal(client.closed.length, 0);
});

test('old datagrams from another address are repetitions: no challenge, no move, no end', () => {
  const pair = connected(4);
  const { wire, guard, far, seen } = pair;
  for (let i = 0; i < 5; i++) talks(pair, 10);
  const old = seen.filter(({ from }) => from === 'home').map(({ datagram }) => datagram);
  assert.ok(old.length > 3);
  seen.length = 0;
  for (const datagram of old) {
    const drop = guard.handle(datagram, { address: 'evil', port: 6 }, wire.nowMs);
    assert.ok(drop === Drop.replayed || drop === Drop.tooOld, `${drop}`);
  }
  wire.run(1000);
  assert.equal(seen.filter(({ to }) => to === 'evil').length, 0);
  assert.equal(far.address.address, 'home');
  talks(pair, 3);
});

test('an answer counts only from the address that was asked', () => {
  const pair = connected(5);
  const { wire, client, guard, link, far } = pair;
  client.move('train');
  // On the way from there the source is changed once more: the answer comes from where nobody was asked.
  let asked = false;
  wire.observe = ({ from, to, datagram }) => {
    if (from === 'guard' && to === 'train') asked = true;
    if (from !== 'train' || !asked) return true;
    guard.handle(datagram, { address: 'evil', port: 6 }, wire.nowMs + 1);
    return false;
  };
  link.migrate(wire.nowMs);
  wire.run(300);
  assert.ok(asked);
  assert.deepEqual(guard.moved, []);
  assert.equal(far.address.address, 'home');
});

test('a responder is where its descriptor says: nothing moves it', () => {
  const pair = connected(6);
  const { wire, guard, client, link } = pair;
  guard.move('elsewhere');
  wire.nodes.set('guard', guard);
  talks(pair, 5);
  assert.equal(link.address.address, 'guard');
  assert.deepEqual(client.moved, []);
});

test('datagrams made up, or changed, from another address change nothing', () => {
  const pair = connected(7);
  const { wire, guard, seen } = pair;
  talks(pair, 5);
  const last = seen.findLast(({ from }) => from === 'home')!.datagram;
  seen.length = 0;
  const random = createSeededRandom('attacker');
  for (let i = 0; i < 200; i++) {
    const datagram = new Uint8Array(DATAGRAM_BYTES);
    random.fill(datagram);
    // The id is in the clear.
    datagram.set(last.subarray(0, 4));
    if (i % 2 === 0) datagram.set(last.subarray(4, 4 + (i % 1270)), 4);
    guard.handle(datagram, { address: 'evil', port: 6 }, wire.nowMs);
  }
  wire.run(1000);
  assert.equal(seen.filter(({ to }) => to === 'evil').length, 0);
  assert.deepEqual(guard.moved, []);
  assert.equal(guard.closed.length, 0);
  talks(pair, 3);
});
