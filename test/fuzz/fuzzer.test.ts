import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Dice, Mutator, seedFor, Tape } from './fuzzer.ts';

const target = { dictionary: ['token', Uint8Array.of(1, 2)], maxBytes: 100 };
const pool = [new Uint8Array(0), new Uint8Array(80).fill(7), Uint8Array.of(1)];
const run = (seed: number) => {
  const mutator = new Mutator(target, new Dice(seedFor('a', seed)));
  return Array.from({ length: 2000 }, () => Buffer.from(mutator.mutate(pool)).toString('hex'));
};

test('one seed is one run, another seed another run', () => {
  assert.deepEqual(run(1), run(1));
  assert.notDeepEqual(run(1), run(2));
  assert.notEqual(seedFor('a', 1), seedFor('b', 1));
});

test('mutations differ, stay within the bound and leave the pool alone', () => {
  const inputs = run(1);
  assert.ok(new Set(inputs).size > 1500);
  assert.ok(inputs.every((input) => input.length <= 200));
  assert.ok(inputs.some((input) => input.includes(Buffer.from('token').toString('hex'))));
  assert.deepEqual(pool[1], new Uint8Array(80).fill(7));
});

test('finds a magic of three bytes behind a dictionary token', () => {
  const mutator = new Mutator({ dictionary: ['NYX'] }, new Dice(3));
  const found = Array.from({ length: 2000 }, () => mutator.mutate([new Uint8Array(8)])).some((input) =>
    Buffer.from(input).toString('latin1').startsWith('NYX'),
  );
  assert.ok(found);
});

test('a tape is zeros past its end', () => {
  const tape = new Tape(Uint8Array.of(1, 2, 3));
  assert.equal(tape.uint16(), 0x0102);
  assert.deepEqual(tape.take(5), Uint8Array.of(3));
  assert.equal(tape.byte(), 0);
  assert.equal(tape.left, 0);
});
