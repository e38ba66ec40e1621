import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Timed, TimerHeap } from './timer-heap.ts';

class Entry implements Timed {
  dueMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
}

test('whatever is set, moved and removed, entries come out in order and on time', () => {
  const step = fc.record({
    which: fc.nat(15),
    dueMs: fc.oneof(fc.nat(100), fc.constant(Number.POSITIVE_INFINITY)),
    remove: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const heap = new TimerHeap<Entry>();
      const entries = Array.from({ length: 16 }, () => new Entry());
      const expected = new Map<Entry, number>();
      for (const { which, dueMs, remove } of steps) {
        const entry = entries[which]!;
        if (remove) heap.remove(entry);
        else heap.set(entry, dueMs);
        if (remove || dueMs === Number.POSITIVE_INFINITY) expected.delete(entry);
        else expected.set(entry, dueMs);
        assert.equal(heap.size, expected.size);
        assert.equal(heap.nextMs(), Math.min(Number.POSITIVE_INFINITY, ...expected.values()));
      }
      const early = [...expected.values()].filter((due) => due <= 50).sort((a, b) => a - b);
      const out: number[] = [];
      for (;;) {
        const before = heap.nextMs();
        const entry = heap.popDue(50);
        if (entry === undefined) break;
        assert.equal(expected.get(entry), before);
        out.push(before);
      }
      assert.deepEqual(out, early);
    }),
    { numRuns: 300 },
  );
});
