import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Drop } from '../drop-reason.ts';
import { ReplayWindow } from './replay-window.ts';

const WIDTH = 2 ** 20;
const PAGE = 4096;

test('agrees with a set of all indices ever seen', () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -40, max: 60 }) },
    { weight: 2, arbitrary: fc.integer({ min: -20_000, max: 20_000 }) },
    { weight: 1, arbitrary: fc.integer({ min: -2 * WIDTH, max: 2 * WIDTH }) },
  );
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 400 }),
      fc.constantFrom(0, 2 ** 31 - 50, 2 ** 32 - 50, 2 ** 47),
      (steps, start) => {
        const window = new ReplayWindow();
        const seen = new Set<number>();
        let top = -1;
        let at = start;
        for (const delta of steps) {
          at = Math.max(0, at + delta);
          const drop = window.check(at);
          if (seen.has(at)) assert.notEqual(drop, Drop.none, `index ${at} twice`);
          else if (at > top - WIDTH + PAGE) assert.equal(drop, Drop.none, `index ${at} is new, top ${top}`);
          else if (at <= top - WIDTH) assert.equal(drop, Drop.tooOld);
          if (drop !== Drop.none) continue;
          window.mark(at);
          seen.add(at);
          top = Math.max(top, at);
          assert.equal(window.check(at), Drop.replayed);
        }
      },
    ),
    { numRuns: 150, seed: 3 },
  );
});

test('a stream in order holds one page however long it runs, and still knows its replays', () => {
  const window = new ReplayWindow();
  assert.ok(window.memoryBytes < 100);
  for (let index = 0; index < 100_000; index++) {
    assert.equal(window.check(index), Drop.none);
    window.mark(index);
  }
  assert.ok(window.memoryBytes < 2000, `${window.memoryBytes}`);
  for (const index of [0, 1, 50_000, 99_999]) assert.equal(window.check(index), Drop.replayed);
});

test('a few indices at the beginning of a page cost next to nothing, and survive its growth', () => {
  for (const start of [0, 7 * PAGE]) {
    const window = new ReplayWindow();
    const few = [0, 1, 3, 31, 32, 479].map((index) => start + index);
    for (const index of few) window.mark(index);
    assert.ok(window.memoryBytes < 450, `${window.memoryBytes}`);
    for (const index of [2, 478, 480, 511, 512, 4095]) assert.equal(window.check(start + index), Drop.none, `${index}`);
    window.mark(start + 480);
    assert.ok(window.memoryBytes > 700);
    for (const index of [...few, start + 480]) assert.equal(window.check(index), Drop.replayed, `${index}`);
    assert.equal(window.check(start + 481), Drop.none);
    // The count of its bits has moved with it: a complete page costs nothing.
    for (let index = 0; index < PAGE; index++)
      if (window.check(start + index) === Drop.none) window.mark(start + index);
    // But for the table of the pages before it.
    assert.ok(window.memoryBytes < 200, `${window.memoryBytes}`);
  }
});

test('a jump over generations costs one page and a table', () => {
  const window = new ReplayWindow();
  window.mark(0);
  const before = window.memoryBytes;
  window.mark(2 ** 19);
  assert.ok(window.memoryBytes - before < 3500, `${window.memoryBytes - before}`);
  assert.equal(window.check(1), Drop.none);
  window.mark(2 ** 47);
  assert.equal(window.check(1), Drop.tooOld);
  assert.equal(window.check(2 ** 19 + 1), Drop.tooOld);
});

test('memory is bounded under the worst sender', () => {
  const window = new ReplayWindow();
  for (let index = 0; index < 3 * WIDTH; index += 1000) window.mark(index);
  assert.ok(window.memoryBytes < 256 * 728 + 2200, `${window.memoryBytes}`);
  const held = window.memoryBytes;
  for (let index = 3 * WIDTH; index < 6 * WIDTH; index += 1000) window.mark(index);
  assert.ok(window.memoryBytes <= held + 1500);
});

test('marking what is left of the window changes nothing', () => {
  const window = new ReplayWindow();
  window.mark(10 * WIDTH);
  window.mark(3);
  assert.equal(window.check(3), Drop.tooOld);
});
