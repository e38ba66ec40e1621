import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { argon2id } from '@noble/hashes/argon2.js';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import {
  admissionEpoch,
  decodeSubmission,
  encodeSubmission,
  type MemoryHard,
  maxPuzzle,
  puzzleOf,
  solveAdmission,
  verifyAdmission,
} from './admission.ts';
import { encodeDescriptor } from './descriptor.ts';
import { DirectoryError } from './directory-error.ts';
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

describe('admission', () => {
  test('a solution holds for its identity, epoch and difficulty only', async () => {
    const nonce = await solveAdmission(identity, 7, puzzle, { suite, random, memoryHard });
    assert.ok(await verifyAdmission(identity, 7, nonce, puzzle, suite, memoryHard));
    let others = 0;
    for (let i = 0; i < 20; i++) {
      if (await verifyAdmission(identity, 8 + i, nonce, puzzle, suite, memoryHard)) others++;
      const stranger = identity.slice();
      stranger[0]! ^= i + 1;
      if (await verifyAdmission(stranger, 7, nonce, puzzle, suite, memoryHard)) others++;
    }
    assert.ok(others <= 8, `${others} of 40 by chance; 2.5 are expected`);
    assert.equal(await verifyAdmission(identity, 7, nonce, { ...puzzle, bits: 16 }, suite, memoryHard), false);
  });

  test('solving takes 2^bits tries on average, checking one', async () => {
    runs = 0;
    for (let i = 0; i < 30; i++) await solveAdmission(identity, i, puzzle, { suite, random, memoryHard });
    assert.ok(runs > 30 * 6 && runs < 30 * 40, `${runs / 30} tries`);
    runs = 0;
    await verifyAdmission(identity, 7, new Uint8Array(8), puzzle, suite, memoryHard);
    assert.equal(runs, 1);
    await verifyAdmission(identity, 7, new Uint8Array(8), { ...puzzle, bits: 0 }, suite, memoryHard);
    assert.equal(runs, 1, 'without a puzzle there is nothing to do');
  });

  test('solving ends when it is not wanted any more', async () => {
    const aborted = AbortSignal.abort(new Error('enough'));
    await assert.rejects(
      solveAdmission(identity, 1, { ...puzzle, bits: 16 }, { suite, random, memoryHard }, aborted),
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

  test('a submission survives its bytes; others are refused', () => {
    const submission = { nonce: new Uint8Array(8).fill(3), descriptor: encodeDescriptor(descriptor) };
    const bytes = encodeSubmission(submission);
    assert.deepEqual(decodeSubmission(bytes), submission);
    assert.equal(admissionEpoch(descriptor), 500_000);
    assert.throws(() => decodeSubmission(bytes.subarray(0, 12)), DirectoryError);
    assert.throws(() => decodeSubmission(new Uint8Array(20_000)), DirectoryError);
    assert.throws(() => decodeSubmission(encodeDescriptor(descriptor)), { code: 'MALFORMED' });
  });
});
