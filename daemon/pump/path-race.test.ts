import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SetupTimes } from './path-race.ts';

test('waits follow what set-ups of that class and length take, within bounds, and grow after some attempts', () => {
  const times = new SetupTimes();
  const first = (hops = 3) => Math.round(times.waitMs('fast', hops, 1));
  assert.equal(first(), 800, 'nothing is known yet');
  times.note('fast', 3, 10);
  assert.equal(first(), 300, 'not below what a busy machine may take');
  assert.equal(first(5), 800, 'another length is another story');
  assert.equal(times.waitMs('fast', 3, 6), times.waitMs('fast', 3, 1));
  assert.ok(times.waitMs('fast', 3, 8) > 1.4 * times.waitMs('fast', 3, 6));
  times.note('fast', 4, 100);
  assert.equal(first(4), 400);
  // One slow set-up is soon forgotten.
  times.note('fast', 5, 900);
  assert.equal(first(5), 1350);
  for (let i = 0; i < 4; i++) times.note('fast', 5, 20);
  assert.equal(first(5), 300);
  // A network of slow links: never sooner than a set-up takes.
  for (let i = 0; i < 20; i++) times.note('fast', 7, 3000);
  assert.equal(first(7), 4500);
});

test('a circuit is quiet after a few of its round trips', () => {
  const times = new SetupTimes();
  assert.equal(times.quietMs(undefined), 800);
  assert.equal(times.quietMs(1), 300);
  assert.equal(times.quietMs(200), 800);
  assert.equal(times.quietMs(2000), 3000);
});
