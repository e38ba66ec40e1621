import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SquaringRate } from './squaring-rate.ts';

test('a rate that was measured on a busy machine rises until delays are as long as they should be, and does not fall', () => {
  const rate = new SquaringRate(300);
  const fastest = 900;
  assert.equal(rate.note(30_000, 100, 30_000 / fastest), true);
  assert.equal(Math.round(rate.perMs), fastest);
  assert.equal(rate.note(90_000, 100, 100), false);
  assert.equal(rate.note(90_000, 100, 91), false, 'a little faster is chance');
  assert.equal(rate.note(90_000, 100, 400), false, 'slower is other work');
  assert.equal(rate.note(90_000, 100, 0), false, 'a clock that stands still says nothing');
  assert.equal(Math.round(rate.perMs), fastest);
});
