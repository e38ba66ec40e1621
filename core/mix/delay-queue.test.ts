import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { Collector, failing, numbered } from './cell-testing.ts';
import { DelayQueue } from './delay-queue.ts';

const ALL = Number.POSITIVE_INFINITY;

/** What the queue has to do, by looking at everything every time. */
class PlainList {
  readonly #batchMs: number;
  #turnMs = Number.NEGATIVE_INFINITY;
  readonly waiting = new Map<number, number>();

  constructor(batchMs: number) {
    this.#batchMs = batchMs;
  }

  nextMs(): number {
    return Math.max(this.#turnMs, Math.min(...this.waiting.values()));
  }

  /** Which leave. */
  release(nowMs: number): number[] {
    if (nowMs < this.#turnMs) return [];
    const leave = [...this.waiting].filter(([, dueMs]) => dueMs <= nowMs).map(([value]) => value);
    for (const value of leave) this.waiting.delete(value);
    if (leave.length > 0) this.#turnMs = nowMs + this.#batchMs;
    return leave;
  }
}

describe('the delay queue', () => {
  test('does what a plain list would do, whatever the delays and the gaps', () => {
    // Delays within one day of the calendar, over many, and over more than it has; time that stands still and jumps.
    const delayMs = fc.oneof(
      fc.constantFrom(0, 1, 5),
      fc.double({ min: 0, max: 3, noNaN: true }),
      fc.integer({ max: 400_000, min: 0 }),
    );
    const gapMs = fc.oneof(
      fc.constant(0),
      fc.double({ min: 0, max: 2, noNaN: true }),
      fc.integer({ min: 0, max: 5000 }),
    );
    const step = fc.record({ gapMs, delays: fc.array(delayMs, { maxLength: 5 }), burst: fc.boolean() });
    fc.assert(
      fc.property(fc.constantFrom(0, 1), fc.array(step, { maxLength: 60 }), (batchMs, steps) => {
        const queue = new DelayQueue(createSeededRandom('queue 7'), 16_384, batchMs);
        const owner = new Collector();
        const model = new PlainList(batchMs);
        let nowMs = 0;
        let pushed = 0;
        const push = (delay: number) => {
          queue.push(numbered(pushed), owner, pushed * 7, delay, nowMs);
          model.waiting.set(pushed++, nowMs + delay);
        };
        const turn = () => {
          assert.equal(queue.nextMs(), model.nextMs());
          const leave = model.release(nowMs);
          assert.equal(queue.release(nowMs, ALL), leave.length);
          const left = owner.out.splice(0);
          assert.ok(left.every(({ value, note, atMs }) => note === value * 7 && atMs === nowMs));
          assert.deepEqual(left.map(({ value }) => value).sort(), leave.sort());
          assert.equal(queue.length, model.waiting.size);
        };
        for (const { gapMs: gap, delays, burst } of steps) {
          nowMs += gap;
          for (const delay of delays) push(delay);
          for (let i = 0; burst && i < 60; i++) push(0.1);
          turn();
          if (queue.length === 0) queue.trim();
        }
        while (queue.length > 0) {
          nowMs = queue.nextMs();
          turn();
        }
        assert.equal(queue.nextMs(), Number.POSITIVE_INFINITY);
      }),
    );
  });

  test('is bounded, and one owner leaves room for others', () => {
    const queue = new DelayQueue(createSeededRandom('queue 3'), 1024, 0);
    const owner = new Collector();
    let flood = 0;
    while (queue.hasRoom(flood)) queue.push(numbered(flood++), owner, 0, 20, 0);
    assert.equal(flood, 205, 'a quarter of what is left: x = (1024 − x) / 4');
    for (let owners = 1; queue.hasRoom(0) && owners < 10_000; owners++) queue.push(numbered(0), owner, 0, 20, 0);
    assert.equal(queue.length, 1024);
    assert.equal(queue.hasRoom(0), false);
    assert.throws(() => queue.push(numbered(0), owner, 0, 20, 0), /full/);
    assert.ok(queue.memoryBytes < 1024 * 1500);
    assert.equal(queue.waitedMs, 1024 * 20);
    queue.release(20, ALL);
    assert.equal(queue.waitedMs / queue.released, 20);
    queue.trim();
    queue.trim();
    assert.ok(queue.memoryBytes < 400_000, `${queue.memoryBytes} bytes are kept`);
  });

  test('lets no more go than it is told, and the rest at the next call', () => {
    const queue = new DelayQueue(createSeededRandom('queue 7'), 1024, 1);
    const owner = new Collector();
    for (let i = 0; i < 100; i++) queue.push(numbered(i), owner, 0, 5, 0);
    assert.equal(queue.release(6, 30), 30);
    assert.equal(queue.length, 70);
    assert.ok(queue.nextMs() <= 6, 'its turn is not over');
    assert.equal(queue.release(6, 50), 50);
    assert.equal(queue.release(6.1, ALL), 20);
    queue.push(numbered(100), owner, 0, 0.2, 6.1);
    assert.equal(queue.release(6.5, ALL), 0);
    assert.equal(queue.nextMs(), 6.1 + 1, 'now it is');
    assert.equal(queue.release(6.1 + 1, ALL), 1);
    assert.equal(queue.released, 101);
    assert.equal(new Set(owner.out.map(({ value }) => value)).size, 101);
  });

  test('what is due together leaves in random order, also if it came with the same delay', () => {
    const queue = new DelayQueue(createSeededRandom('queue 8'), 4096, 1);
    const owner = new Collector();
    const trials = 400;
    const cells = 10;
    let inversions = 0;
    for (let trial = 0; trial < trials; trial++) {
      for (let i = 0; i < cells; i++) queue.push(numbered(i), owner, 0, 5, trial * 10);
      queue.release(trial * 10 + 6, ALL);
      const order = owner.out.splice(0).map(({ value }) => value);
      assert.equal(order.length, cells);
      for (let i = 0; i < cells; i++) for (let k = 0; k < i; k++) if (order[k]! > order[i]!) inversions++;
    }
    // Of a random permutation of n: mean n(n−1)/4, variance n(n−1)(2n+5)/72.
    const mean = (trials * cells * (cells - 1)) / 4;
    const deviation = Math.sqrt((trials * cells * (cells - 1) * (2 * cells + 5)) / 72);
    assert.ok(Math.abs(inversions - mean) < 3 * deviation, `${inversions} inversions, not ${mean} ± ${deviation}`);
  });

  test('a throwing owner loses its cell only, and does not keep the others waiting', () => {
    const queue = new DelayQueue(createSeededRandom('queue 5'), 256, 1);
    const bad = failing();
    // More often than it has slots: each has to be free again.
    for (let i = 0; i < 300; i++) {
      queue.push(numbered(0), bad, 0, 1, 10 * i);
      assert.throws(() => queue.release(10 * i + 5, ALL), /no/);
      assert.equal(queue.length, 0);
    }
    const owner = new Collector();
    for (let i = 0; i < 20; i++) queue.push(numbered(i), owner, 0, 1, 4000);
    queue.push(numbered(20), bad, 0, 1, 4000);
    assert.throws(() => queue.release(4001, ALL), /no/);
    const before = owner.out.length;
    assert.ok(before < 20, 'the one that throws is not the last one');
    assert.equal(queue.release(4001, ALL), 20 - before);
    assert.equal(queue.length, 0);
  });
});
