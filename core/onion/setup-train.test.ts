import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { CryptoSuite, DhKeyPair, KemKeyPair } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import { decodeRoute, encodeRoute, type HopRoute, ROUTE_BYTES } from './hop-route.ts';
import { buildTrain, finishReply, lastHopReply, MixKeyRing, processTrain, TRAIN_BYTES } from './setup-train.ts';
import { TagMemory } from './tag-memory.ts';
import { contactOf, createNode, randomBytes, suite, type TestNode, trainOptions } from './test-circuit.ts';

function createNodes(seed: string, count: number) {
  const random = createSeededRandom(seed);
  return { random, nodes: Array.from({ length: count }, () => createNode(random)) };
}

function build(random: ReturnType<typeof createSeededRandom>, nodes: readonly TestNode[]) {
  return buildTrain(
    suite,
    random,
    nodes.map((node) => node.contact),
    trainOptions,
  );
}

test('1 to 7 hops: a train of 10064 bytes at every hop, the same secrets and routes at both ends', () => {
  for (let hops = 1; hops <= 7; hops++) {
    const { random, nodes } = createNodes(`train ${hops}`, hops);
    const built = build(random, nodes);
    let { train } = built;
    for (const [i, node] of nodes.entries()) {
      assert.equal(train.length, TRAIN_BYTES);
      assert.equal(train.length, 10064);
      const received = train.slice();
      const result = processTrain(suite, node.ring, train);
      assert.ok(result.drop === Drop.none);
      assert.deepEqual(result.secrets, built.secrets[i]);
      assert.deepEqual(result.route, built.routes[i]);
      assert.equal(result.clientFresh !== undefined, i === hops - 1);
      if (i < hops - 1) {
        assert.deepEqual(result.route.nextNodeId, nodes[i + 1]!.contact.nodeId);
        train = result.next;
      } else {
        assert.equal(result.next.length, 0);
        assertNoiseAtTheEnd(received, result.secrets.setupKey);
        const reply = lastHopReply(suite, random, result.clientFresh!)!;
        assert.deepEqual(finishReply(suite, built.fresh, reply.message), reply.shared);
      }
    }
  }
});

/** The last hop reads all of its body: what is behind the client's keys must not show where the fillers begin. */
function assertNoiseAtTheEnd(train: Uint8Array, setupKey: Uint8Array): void {
  const body = train.slice(1136);
  const nothing = new Uint8Array(0);
  assert.ok(suite.aeadOpen(body, train.subarray(1120, 1136), body, nothing, new Uint8Array(12), setupKey));
  const end = body.subarray(128 + 1216);
  const counts = new Float64Array(256);
  for (const byte of end) counts[byte]!++;
  const chi = counts.reduce((sum, n) => sum + (n - end.length / 256) ** 2 / (end.length / 256), 0);
  assert.ok(chi > 142 && chi < 368, `chi-square ${chi}`);
}

/** Public-key results by their input: flipping a byte of the body should not pay for the same exchange again. */
function memoized(ring: MixKeyRing, from: MixKeyRing): MixKeyRing {
  const cached = <T>(work: (input: Uint8Array) => T, copy: (value: T) => T) => {
    const results = new Map<string, T>();
    return (input: Uint8Array): T => {
      const key = Buffer.from(input).toString('hex');
      if (!results.has(key)) results.set(key, work(input));
      return copy(results.get(key)!);
    };
  };
  const { dh, kem } = from.keys[0]!;
  const fast: CryptoSuite = {
    ...suite,
    x25519: (): DhKeyPair => ({
      publicKey: dh.publicKey,
      agree: cached(
        (key) => dh.agree(key),
        (value) => value?.slice(),
      ),
      wipe: () => dh.wipe(),
    }),
    mlkem768: (): KemKeyPair => ({
      publicKey: kem.publicKey,
      decapsulate: cached(
        (ciphertext) => kem.decapsulate(ciphertext),
        (value) => value.slice(),
      ),
      wipe: () => kem.wipe(),
    }),
  };
  return new MixKeyRing(fast, ring.nodeId, [
    { epoch: 7, x25519Secret: new Uint8Array(32), kemSeed: new Uint8Array(64) },
  ]);
}

test('every byte of a train, flipped on any link, is noticed by the next hop', () => {
  const { random, nodes } = createNodes('train flips', 3);
  let { train } = build(random, nodes);
  for (const [i, node] of nodes.entries()) {
    const ring = memoized(node.ring, node.ring);
    // The public-key part byte by byte on one link, elsewhere in steps: each of its bytes costs a real exchange.
    for (let at = 0; at < TRAIN_BYTES; at += at < 1120 && i !== 1 ? 16 : i === 1 ? 1 : 3) {
      const flipped = train.slice();
      flipped[at]! ^= 1 << (at & 7);
      if (processTrain(suite, ring, flipped).drop === Drop.none) assert.fail(`byte ${at} before hop ${i}`);
    }
    const result = processTrain(suite, ring, train);
    assert.ok(result.drop === Drop.none, 'the unharmed train passes, and was not remembered before');
    train = result.next;
  }
});

test('a train passes each node once', () => {
  const { random, nodes } = createNodes('train replay', 2);
  const { train } = build(random, nodes);
  const again = train.slice();
  assert.equal(processTrain(suite, nodes[0]!.ring, train).drop, Drop.none);
  assert.equal(processTrain(suite, nodes[0]!.ring, again).drop, Drop.setupReplayed);
});

test('the previous epoch is accepted, an erased one is not, and its memory goes with it', () => {
  const { random, nodes } = createNodes('epochs', 1);
  const { ring, mix } = nodes[0]!;
  const first = build(random, nodes).train;
  const second = build(random, nodes).train;
  const third = build(random, nodes).train;
  const newer = { epoch: 8, x25519Secret: randomBytes(random, 32), kemSeed: randomBytes(random, 64) };
  assert.equal(processTrain(suite, ring, first.slice()).drop, Drop.none);
  ring.set([mix, newer]);
  assert.equal(processTrain(suite, ring, first.slice()).drop, Drop.setupReplayed);
  assert.equal(processTrain(suite, ring, second.slice()).drop, Drop.none);
  const underNewer = buildTrain(suite, random, [contactOf(ring)], trainOptions).train;
  assert.equal(processTrain(suite, ring, underNewer).drop, Drop.none);
  ring.set([newer]);
  assert.equal(processTrain(suite, ring, third).drop, Drop.staleEpoch);
  assert.equal(ring.keys.length, 1);
});

test('a full memory of set-ups refuses instead of forgetting', () => {
  const { random, nodes } = createNodes('full', 1);
  const ring = new MixKeyRing(suite, nodes[0]!.ring.nodeId, [nodes[0]!.mix], () => new TagMemory(2));
  const trains = [1, 2, 3].map(() => build(random, nodes).train);
  assert.deepEqual(
    trains.map((train) => processTrain(suite, ring, train).drop),
    [Drop.none, Drop.none, Drop.limit],
  );
});

test('a train for another node, or of another length, opens nowhere', () => {
  const { random, nodes } = createNodes('elsewhere', 2);
  const { train } = build(random, [nodes[0]!]);
  assert.equal(processTrain(suite, nodes[1]!.ring, train).drop, Drop.staleEpoch);
  assert.equal(processTrain(suite, nodes[0]!.ring, train.subarray(1)).drop, Drop.badSetup);
  assert.equal(processTrain(suite, nodes[0]!.ring, new Uint8Array(TRAIN_BYTES)).drop, Drop.badSetup, 'low-order key');
});

test('what a relay sees of its train is noise, for short and long paths alike', () => {
  // All that follows the route goes on as it is: zeros, repeats or counts in it would tell how many hops are left.
  for (const hops of [2, 4, 7]) {
    const { random, nodes } = createNodes(`length ${hops}`, hops);
    const chi = [];
    for (const [i, node] of nodes.entries()) {
      const counts = new Float64Array(256);
      let total = 0;
      for (let round = 0; round < 2; round++) {
        let { train } = build(random, nodes);
        for (const before of nodes.slice(0, i)) {
          const result = processTrain(suite, before.ring, train);
          assert.ok(result.drop === Drop.none);
          train = result.next;
        }
        for (const byte of train) counts[byte]!++;
        total += train.length;
        // Nothing repeats: no aligned 16 bytes occur twice.
        const blocks = new Set<string>();
        for (let at = 0; at < TRAIN_BYTES; at += 16) blocks.add(train.subarray(at, at + 16).join());
        assert.equal(blocks.size, Math.ceil(TRAIN_BYTES / 16));
        node.ring.keys[0]!.seen.clear();
      }
      chi.push(counts.reduce((sum, n) => sum + (n - total / 256) ** 2 / (total / 256), 0));
    }
    for (const value of chi) assert.ok(value > 142 && value < 368, `chi-square ${chi}`);
  }
});

test('bad options and bad published keys are refused when building', () => {
  const { random, nodes } = createNodes('bad options', 1);
  const { contact } = nodes[0]!;
  assert.throws(() => buildTrain(suite, random, [], trainOptions), RangeError);
  assert.throws(() => buildTrain(suite, random, new Array(8).fill(contact), trainOptions), RangeError);
  assert.throws(() => buildTrain(suite, random, [contact], { ...trainOptions, delayMeanUs: 2 ** 32 }), RangeError);
  assert.throws(() => buildTrain(suite, random, [{ ...contact, mixKeys: [] }], trainOptions), /without mix keys/);
  const mix = contact.mixKeys[0]!;
  const lowOrder = { ...contact, mixKeys: [{ ...mix, x25519: new Uint8Array(32) }] };
  assert.throws(() => buildTrain(suite, random, [lowOrder], trainOptions), /not valid/);
  const notReduced = { ...contact, mixKeys: [{ ...mix, kem: new Uint8Array(1184).fill(255) }] };
  assert.throws(() => buildTrain(suite, random, [notReduced], trainOptions), /not valid/);
});

test('the last hop refuses keys that are not valid ones, and the client a reply that is none', () => {
  const { random, nodes } = createNodes('bad fresh', 1);
  const { fresh } = build(random, nodes);
  const client = { x25519: fresh.dh.publicKey, kem: fresh.kem.publicKey };
  assert.equal(lastHopReply(suite, random, { ...client, x25519: new Uint8Array(32) }), undefined);
  assert.equal(lastHopReply(suite, random, { ...client, kem: new Uint8Array(1184).fill(255) }), undefined);
  assert.equal(lastHopReply(suite, random, { ...client, kem: new Uint8Array(3) }), undefined);
  assert.equal(finishReply(suite, fresh, new Uint8Array(1119)), undefined);
  assert.equal(finishReply(suite, fresh, new Uint8Array(1120)), undefined);
});

test('a route is refused when a field has no meaning', () => {
  const route: HopRoute = {
    nextNodeId: new Uint8Array(32).fill(9),
    action: 'relay',
    class: 'mix',
    delayMeanUs: 20_000,
    forwardStart: 2 ** 48 - 1,
    forwardOffset: 1,
    backwardStart: 2,
    backwardOffset: 3,
    maxCellsLog2: 30,
    expiry: 2_000_000_000,
    nextPuzzleSolution: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
  };
  const bytes = new Uint8Array(ROUTE_BYTES);
  encodeRoute(route, bytes);
  assert.deepEqual(decodeRoute(bytes), route);
  const changed = (at: number, value: number) => decodeRoute(bytes.with(at, value));
  assert.equal(changed(32, 1), undefined, 'exit with a next hop');
  assert.equal(changed(32, 2), undefined, 'unknown action');
  assert.equal(changed(33, 3), undefined, 'unknown class');
  assert.equal(changed(62, 49), undefined, 'too many cells');
  assert.equal(changed(63, 1), undefined, 'an expiry past all numbers');
  assert.equal(changed(127, 1), undefined, 'something where nothing is');
  encodeRoute({ ...route, nextNodeId: undefined }, bytes);
  assert.equal(decodeRoute(bytes), undefined, 'a relay without a next hop');
});
