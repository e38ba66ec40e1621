import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { argon2id } from '@noble/hashes/argon2.js';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import {
  admissionEpoch,
  type MemoryHard,
  maxPuzzle,
  noView,
  puzzleOf,
  solveAdmission,
  verifyAdmission,
} from './admission.ts';
import { decodeDescriptor, encodeDescriptor } from './descriptor.ts';
import { makeDescriptor, testSuite as suite } from './testing.ts';

const random = createSeededRandom('admission');
let runs = 0;
const memoryHard: MemoryHard = async (password, salt, { memoryKib, passes }) => {
  runs++;
  return argon2id(password, salt, { m: memoryKib, t: passes, p: 1, dkLen: 32 });
};
const puzzle = { bits: 4, memoryKib: 8, passes: 1 };
const descriptor = makeDescriptor(random);
const { identity } = descriptor;
const at = (epoch: number) => [{ epoch, x25519: new Uint8Array(32), kem: new Uint8Array(1184) }];
const view = new Uint8Array(32).fill(7);
const holds = (admission: Uint8Array | undefined, epoch: number, as = puzzle, of = identity, forView = view) =>
  verifyAdmission(
    { identity: of, mixKeys: at(epoch), ...(admission === undefined ? {} : { admission }) },
    forView,
    as,
    suite,
    memoryHard,
  );

describe('admission', () => {
  test('a solution holds for its identity, epoch, view and difficulty only', async () => {
    const nonce = await solveAdmission(identity, 7, view, puzzle, { suite, random, memoryHard });
    assert.ok(await holds(nonce, 7));
    let others = 0;
    for (let i = 0; i < 20; i++) {
      if (await holds(nonce, 8 + i)) others++;
      const stranger = identity.slice();
      stranger[0]! ^= i + 1;
      if (await holds(nonce, 7, puzzle, stranger)) others++;
    }
    assert.ok(others <= 8, `${others} of 40 by chance; 2.5 are expected`);
    assert.equal(await holds(nonce, 7, { ...puzzle, bits: 16 }), false);
    // Solved before the view was known: it names another one, and renamed it is no solution (but by chance).
    assert.equal(await holds(nonce, 7, puzzle, identity, noView), false);
    let chances = 0;
    for (let i = 0; i < 20; i++) {
      const other = new Uint8Array(32).fill(100 + i);
      const renamed = new Uint8Array([...nonce.subarray(0, 8), ...other.subarray(0, 8)]);
      if (await holds(renamed, 7, puzzle, identity, other)) chances++;
    }
    assert.ok(chances <= 6, `${chances} of 20 by chance; 1.25 are expected`);
  });

  test('solving takes 2^bits tries on average, checking one', async () => {
    runs = 0;
    for (let i = 0; i < 30; i++) await solveAdmission(identity, i, view, puzzle, { suite, random, memoryHard });
    assert.ok(runs > 30 * 6 && runs < 30 * 40, `${runs / 30} tries`);
    runs = 0;
    await holds(new Uint8Array(16).fill(7), 7);
    assert.equal(runs, 1);
    await holds(undefined, 7, { ...puzzle, bits: 0 });
    assert.equal(runs, 1, 'without a puzzle there is nothing to do');
  });

  test('solving ends when it is not wanted any more', async () => {
    const aborted = AbortSignal.abort(new Error('enough'));
    await assert.rejects(
      solveAdmission(identity, 1, view, { ...puzzle, bits: 16 }, { suite, random, memoryHard }, aborted),
      /enough/,
    );
  });

  test('whatever a view asks, the work is bounded', () => {
    assert.deepEqual(puzzleOf({ 'puzzle-bits': 99, 'puzzle-memory-kib': 2 ** 40, 'puzzle-passes': 1e9 }), maxPuzzle);
    assert.deepEqual(puzzleOf({ 'puzzle-bits': -1, 'puzzle-memory-kib': -5, 'puzzle-passes': 0 }), {
      bits: 0,
      memoryKib: 8,
      passes: 1,
    });
    assert.deepEqual(puzzleOf({}), { bits: 5, memoryKib: 65_536, passes: 1 });
  });

  test('the solution is part of the descriptor; without one there is no admission', async () => {
    const admission = await solveAdmission(identity, 500_000, view, puzzle, { suite, random, memoryHard });
    const made = makeDescriptor(random, { admission });
    assert.deepEqual(decodeDescriptor(encodeDescriptor(made), suite), made);
    assert.equal(admissionEpoch(made), 500_000);
    assert.equal(await verifyAdmission(descriptor, view, puzzle, suite, memoryHard), false);
    assert.equal(await verifyAdmission({ ...descriptor, admission }, view, puzzle, suite, memoryHard), true);
  });
});
