import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { decodeDescriptor, type NodeDescriptor } from './descriptor.ts';
import { DirectoryError } from './directory-error.ts';
import { makeDescriptor, makeViewNode, randomBytes, testSuite as suite, testNow } from './testing.ts';
import { buildView, encodeViewBundle, signView, type ViewBundle, type ViewEntry, verifyViewBundle } from './view.ts';
import { applyDelta, encodeDeltaSteps } from './view-delta.ts';

const random = createSeededRandom('delta');
const key = suite.ed25519(randomBytes(random, 32));
const authorities = { threshold: 1, keys: [key.publicKey] };
const epoch = Math.floor(testNow / 3600);
const identities = Array.from({ length: 6 }, () => suite.ed25519(randomBytes(random, 32)));
const mixKeys = (...epochs: number[]) =>
  epochs.map((each) => {
    const keys = createSeededRandom(`mix keys ${each}`);
    return { epoch: each, x25519: randomBytes(keys, 32), kem: randomBytes(keys, 1184) };
  });
const kem = randomBytes(random, 1184);
const describeNode = (i: number, at: number): NodeDescriptor =>
  makeDescriptor(
    random,
    {
      linkKem: kem,
      mixKeys: mixKeys(epoch + at, epoch + at + 1),
      published: testNow + at * 3600,
      expires: testNow + (at + 3) * 3600,
    },
    identities[i]!,
  );

function viewOf(nodes: readonly NodeDescriptor[], at: number, weight?: number): ViewBundle {
  const entries = nodes
    .map(makeViewNode)
    .map((node) => (weight ? { ...node, status: { ...node.status, weight } } : node));
  const validAfter = testNow + at * 3600;
  const dates = { validAfter, freshUntil: validAfter + 3600, validUntil: validAfter + 7200 };
  return signView(buildView(entries, dates, suite), key);
}

const idOf = (entry: ViewEntry) => decodeDescriptor(entry.descriptor, suite).nodeId;

function delta(from: ViewBundle, to: ViewBundle): Uint8Array {
  const steps = encodeDeltaSteps(from, to, idOf, suite);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

const first = viewOf(
  [0, 1, 2, 3].map((i) => describeNode(i, 0)),
  0,
);

describe('view delta', () => {
  test('makes the second view of the first: nodes that come, go, change and stay', () => {
    const stays = describeNode(1, 0);
    const from = viewOf([describeNode(0, 0), stays, describeNode(2, 0), describeNode(3, 0)], 0);
    const to = viewOf([describeNode(0, 1), stays, describeNode(4, 1), describeNode(5, 1)], 1);
    const made = applyDelta(from, delta(from, to), suite);
    assert.deepEqual(encodeViewBundle(made), encodeViewBundle(to));
    verifyViewBundle(made, { authorities, suite, now: testNow + 3600 });
  });

  test('holds for every pair of sets', () => {
    const pool = [0, 1, 2, 3, 4, 5].flatMap((i) => [describeNode(i, 0), describeNode(i, 1)]);
    const subset = fc.array(fc.constantFrom(undefined, 0, 1), { minLength: 6, maxLength: 6 });
    const pick = (choice: readonly (number | undefined)[]) =>
      choice.flatMap((variant, i) => (variant === undefined ? [] : [pool[2 * i + variant]!]));
    fc.assert(
      fc.property(subset, subset, fc.constantFrom(undefined, 7), (a, b, weight) => {
        const from = viewOf(pick(a), 0);
        const to = viewOf(pick(b), 1, weight);
        assert.deepEqual(encodeViewBundle(applyDelta(from, delta(from, to), suite)), encodeViewBundle(to));
      }),
      { seed: 7, numRuns: 40 },
    );
  });

  test('sends of a descriptor with new keys little more than the keys', () => {
    const next = viewOf(
      [0, 1, 2, 3].map((i) => describeNode(i, 1)),
      1,
    );
    const perNode = delta(first, next).length / 4;
    const whole = encodeViewBundle(next).length / 4;
    assert.ok(whole > 3900, `${whole}`);
    // One key of ML-KEM and one of X25519, a signature, dates.
    assert.ok(perNode < 1550, `${perNode} bytes a node`);
  });

  test('what only the authorities say costs a few bytes a node', () => {
    const nodes = [0, 1, 2, 3].map((i) => describeNode(i, 0));
    const from = viewOf(nodes, 0);
    const bytes = delta(from, viewOf(nodes, 1, 5));
    assert.ok(bytes.length < 600, `${bytes.length}`);
    assert.ok(delta(from, viewOf(nodes, 1)).length < 520);
  });

  test('a delta for another view is refused', () => {
    const other = viewOf([describeNode(5, 0)], 0);
    const bytes = delta(first, viewOf([describeNode(4, 1)], 1));
    assert.throws(() => applyDelta(other, bytes, suite), { name: 'DirectoryError', code: 'INCOMPLETE' });
  });

  test('a delta that was tampered with gives an error or a view that does not verify', () => {
    const bytes = delta(first, viewOf([describeNode(0, 1), describeNode(4, 1)], 1));
    for (let at = 0; at < bytes.length; at += 23) {
      const changed = bytes.slice();
      changed[at]! ^= 1 << (at % 8);
      assert.throws(
        () => verifyViewBundle(applyDelta(first, changed, suite), { authorities, suite, now: testNow + 3600 }),
        DirectoryError,
        `${at}`,
      );
      assert.throws(() => applyDelta(first, bytes.subarray(0, at), suite), DirectoryError);
    }
  });

  test('a delta can not make more than a view holds', () => {
    const head = delta(first, viewOf([], 1));
    // One run of four nodes that leave; made into runs that keep what was kept already.
    const changes = head.slice();
    changes[changes.length - 5] = 0;
    assert.equal(applyDelta(first, changes, suite).entries.length, 4);
    changes[changes.length - 1] = 5;
    assert.throws(() => applyDelta(first, changes, suite), { code: 'MALFORMED', message: /more nodes than there are/ });
    changes[changes.length - 1] = 3;
    assert.throws(() => applyDelta(first, changes, suite), { code: 'MALFORMED', message: /nothing of some nodes/ });
  });
});
