import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RangeSet } from './ranges.ts';

const SPACE = 200;

function members(set: RangeSet): number[] {
  const out: number[] = [];
  for (let i = 0; i < set.count; i++) {
    assert.ok(set.startAt(i) < set.endAt(i));
    if (i > 0) assert.ok(set.startAt(i) > set.endAt(i - 1), 'sorted, and apart by at least one');
    for (let n = set.startAt(i); n < set.endAt(i); n++) out.push(n);
  }
  return out;
}

test('behaves as a set of integers', () => {
  const step = fc.tuple(fc.constantFrom('insert', 'remove', 'below'), fc.nat(SPACE), fc.nat(20));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const set = new RangeSet(1000);
      const model = new Set<number>();
      for (const [kind, start, length] of steps) {
        if (kind === 'insert') {
          set.insert(start, start + length);
          for (let n = start; n < start + length; n++) model.add(n);
        } else if (kind === 'remove') {
          set.remove(start, start + length);
          for (let n = start; n < start + length; n++) model.delete(n);
        } else {
          for (const n of model) if (n < Math.floor(start / 4)) model.delete(n);
          set.removeBelow(Math.floor(start / 4));
        }
        for (let n = 0; n < SPACE + 20; n += 7) assert.equal(set.has(n), model.has(n));
      }
      assert.deepEqual(
        members(set),
        [...model].sort((a, b) => a - b),
      );
    }),
    { numRuns: 500 },
  );
});

test('forgets the lowest ranges beyond the maximum', () => {
  const set = new RangeSet(4);
  for (let i = 0; i < 10; i++) set.insert(i * 10, i * 10 + 1);
  assert.deepEqual(members(set), [60, 70, 80, 90]);
  assert.equal(set.wouldOverflow(50, 51), true);
  assert.equal(set.wouldOverflow(61, 62), false);
  assert.equal(set.wouldOverflow(100, 101), true);
  assert.equal(set.wouldOverflow(91, 92), false);
});

test('memory stays bounded when it moves upwards for ever', () => {
  const set = new RangeSet(64);
  for (let n = 0; n < 200_000; n++) {
    if (n % 3 !== 0) set.insert(n, n + 1);
    if (n % 50 === 0) set.removeBelow(n - 100);
  }
  assert.ok(set.memoryBytes <= 64 * 16 * 4, String(set.memoryBytes));
});
