import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { DATAGRAM_BYTES } from '../wire/datagram.ts';
import { boundedDelayMs, type DelayOwner, DelayQueue } from './delay-queue.ts';
import { Exponential } from './exponential.ts';
import { erlangCdf, KS_ONE_PERCENT, kolmogorovSmirnov } from './testing.ts';

const ALL = Number.POSITIVE_INFINITY;
/** Where the ziggurat's lowest layer goes over into the tail. */
const TAIL_MEANS = 7.69711747013105;

class Collector implements DelayOwner {
  readonly out: { value: number; note: number; atMs: number }[] = [];
  release(bytes: Uint8Array, note: number, nowMs: number): void {
    assert.equal(bytes.length, DATAGRAM_BYTES);
    this.out.push({ value: new DataView(bytes.buffer, bytes.byteOffset).getUint32(0), note, atMs: nowMs });
  }
}

function numbered(value: number): Uint8Array {
  const bytes = new Uint8Array(DATAGRAM_BYTES);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

function drain(queue: DelayQueue): void {
  while (queue.length > 0) {
    const dueMs = queue.nextMs();
    assert.equal(queue.release(dueMs - 1e-6, 1), 0, 'nothing leaves before its time');
    assert.equal(queue.release(dueMs, 1), 1);
  }
}

describe('exponential times', () => {
  test('follow their law', () => {
    const times = new Exponential(createSeededRandom('exponential 1'));
    const samples = Array.from({ length: 100_000 }, () => times.sample(20));
    assert.ok(samples.every((x) => x >= 0 && Number.isFinite(x)));
    assert.ok(kolmogorovSmirnov(samples, erlangCdf(1, 20)) < KS_ONE_PERCENT);
  });

  test('follow it in their quick form too, tail and all', () => {
    const times = new Exponential(createSeededRandom('quick 1'));
    const samples = Array.from({ length: 1_000_000 }, () => times.quickSample(20));
    assert.ok(samples.every((x) => x >= 0 && Number.isFinite(x)));
    // Beyond the last layer, 7.697 means: 454 are expected, and they have forgotten how long they took to get there.
    const tail = samples.filter((x) => x > 20 * TAIL_MEANS).map((x) => x - 20 * TAIL_MEANS);
    const expected = samples.length * Math.exp(-TAIL_MEANS);
    assert.ok(
      Math.abs(tail.length - expected) < 3 * Math.sqrt(expected),
      `${tail.length} in the tail, not ${expected}`,
    );
    assert.ok(kolmogorovSmirnov(tail, erlangCdf(1, 20)) < KS_ONE_PERCENT);
    assert.ok(kolmogorovSmirnov(samples, erlangCdf(1, 20)) < KS_ONE_PERCENT);
  });

  test('each place is as likely as any other', () => {
    const times = new Exponential(createSeededRandom('places'));
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) counts[times.place(7)]!++;
    const chiSquared = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    // Six degrees of freedom, at 1 %.
    assert.ok(chiSquared < 16.8, `${counts}`);
  });

  test('are independent of the one before', () => {
    const times = new Exponential(createSeededRandom('exponential 2'));
    const u = Array.from({ length: 100_000 }, () => times.uniform() - 0.5);
    let sum = 0;
    for (let i = 1; i < u.length; i++) sum += u[i]! * u[i - 1]!;
    // Correlation has standard deviation 1/√n.
    assert.ok(Math.abs((12 * sum) / u.length) < 3 / Math.sqrt(u.length));
  });

  test('a constant generator gives no infinite time', () => {
    for (const byte of [0, 255]) {
      const times = new Exponential({ fill: (into) => into.fill(byte) });
      assert.ok(Number.isFinite(times.sample(20)));
      assert.ok(Number.isFinite(times.quickSample(20)));
      assert.equal(times.place(9), byte === 0 ? 0 : 8);
    }
  });
});

describe('the delay queue', () => {
  test('gives every cell back once, unchanged, when it is due, and not in the order it came', () => {
    const queue = new DelayQueue(createSeededRandom('queue 1'), 4096, 0);
    const owner = new Collector();
    for (let i = 0; i < 600; i++) queue.push(numbered(i), owner, i * 7, 20, 1000);
    assert.equal(queue.length, 600);
    drain(queue);
    const { out } = owner;
    assert.deepEqual(
      out.map(({ value }) => value).sort((a, b) => a - b),
      Array.from({ length: 600 }, (_, i) => i),
    );
    assert.ok(out.every(({ value, note }) => note === value * 7));
    for (let i = 1; i < out.length; i++) assert.ok(out[i]!.atMs >= out[i - 1]!.atMs);
    let inversions = 0;
    for (let i = 1; i < out.length; i++) if (out[i]!.value < out[i - 1]!.value) inversions++;
    // All came at one moment: as good as shuffled, so half of the neighbours are swapped.
    assert.ok(inversions > 240 && inversions < 360, `${inversions} inversions`);
    assert.equal(queue.released, 600);
    const meanMs = out.reduce((sum, { atMs }) => sum + atMs - 1000, 0) / 600;
    assert.ok(Math.abs(queue.waitedMs / 600 - meanMs) < 1e-6);
  });

  test('stays consistent while cells come and go', () => {
    const queue = new DelayQueue(createSeededRandom('queue 2'), 65_536, 0);
    const owner = new Collector();
    const dice = createSeededRandom('queue 2 dice');
    const byte = new Uint8Array(1);
    let pushed = 0;
    for (let nowMs = 0; nowMs < 3000; nowMs++) {
      dice.fill(byte);
      // Bursts and silence, so that slabs come and go.
      const count = (nowMs >> 8) % 2 === 0 ? byte[0]! >> 3 : 0;
      for (let i = 0; i < count; i++) queue.push(numbered(pushed), owner, pushed++, 5 + (byte[0]! & 31), nowMs);
      queue.release(nowMs, ALL);
      if (nowMs % 100 === 99) queue.trim();
    }
    drain(queue);
    assert.equal(new Set(owner.out.map(({ value }) => value)).size, pushed);
    assert.ok(owner.out.every(({ value, note }) => value === note));
  });

  test('is bounded, and one owner leaves room for others', () => {
    const queue = new DelayQueue(createSeededRandom('queue 3'), 1024, 0);
    const owner = new Collector();
    let flood = 0;
    while (queue.hasRoom(flood)) queue.push(numbered(flood++), owner, 0, 20, 0);
    assert.equal(flood, 205, 'a quarter of what is left: x = (1024 − x) / 4');
    let second = 0;
    while (queue.hasRoom(second)) queue.push(numbered(second++), owner, 0, 20, 0);
    assert.ok(second > 150, `the second owner got ${second}`);
    let owners = 2;
    for (; queue.hasRoom(0) && owners < 10_000; owners++) queue.push(numbered(0), owner, 0, 20, 0);
    assert.equal(queue.length, 1024);
    assert.equal(queue.hasRoom(0), false);
    assert.throws(() => queue.push(numbered(0), owner, 0, 20, 0), /full/);
    assert.ok(queue.memoryBytes < 1024 * 1500);
  });

  test('10^5 cells cost less than 256 MB, and the memory comes back', () => {
    const queue = new DelayQueue(createSeededRandom('queue 4'), 131_072, 0);
    const owner: DelayOwner = { release() {} };
    const cell = numbered(1);
    for (let i = 0; i < 100_000; i++) queue.push(cell, owner, 0, 20, 0);
    assert.ok(queue.memoryBytes < 160e6, `${queue.memoryBytes} bytes`);
    queue.release(1e6, ALL);
    queue.trim();
    queue.trim();
    assert.ok(queue.memoryBytes < 500_000, `${queue.memoryBytes} bytes are kept`);
  });

  test('what becomes due within a millisecond of a release leaves together', () => {
    const queue = new DelayQueue(createSeededRandom('queue 6'), 4096, 1);
    const owner = new Collector();
    for (let i = 0; i < 1000; i++) queue.push(numbered(i), owner, i, 20, 0);
    let turns = 0;
    let lastMs = Number.NEGATIVE_INFINITY;
    while (queue.length > 0) {
      const nowMs = queue.nextMs();
      assert.ok(nowMs >= lastMs + 1);
      assert.ok(queue.release(nowMs, ALL) > 0);
      assert.equal(queue.release(nowMs + 0.5, ALL), 0, 'not within the millisecond');
      lastMs = nowMs;
      turns++;
    }
    assert.ok(turns < 150, `${turns} turns`);
    const meanMs = owner.out.reduce((sum, { atMs }) => sum + atMs, 0) / 1000;
    assert.ok(Math.abs(queue.waitedMs / 1000 - meanMs) < 1e-6 && meanMs > 18 && meanMs < 23, `${meanMs}`);
  });

  test('lets no more go than it is told, and the rest at the next call', () => {
    const queue = new DelayQueue(createSeededRandom('queue 7'), 1024, 1);
    const owner = new Collector();
    for (let i = 0; i < 100; i++) queue.pushFor(numbered(i), owner, 0, 5, 0);
    assert.equal(queue.release(6, 30), 30);
    assert.equal(queue.length, 70);
    assert.equal(queue.nextMs(), 7, 'a millisecond after those');
    assert.equal(queue.release(6, 50), 50, 'within the same turn');
    assert.equal(queue.release(7, ALL), 20);
    assert.equal(queue.released, 100);
    assert.equal(new Set(owner.out.map(({ value }) => value)).size, 100);
  });

  test('does what a sorted list would do, whatever the delays and the gaps', () => {
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
    const step = fc.record({ gapMs, delays: fc.array(delayMs, { maxLength: 5 }) });
    fc.assert(
      fc.property(fc.constantFrom(0, 1), fc.array(step, { maxLength: 60 }), (batchMs, steps) => {
        const queue = new DelayQueue(createSeededRandom('queue 7'), 4096, batchMs);
        const owner = new Collector();
        const waiting = new Map<number, number>();
        let nowMs = 0;
        let turnMs = Number.NEGATIVE_INFINITY;
        let pushed = 0;
        const turn = () => {
          const firstMs = Math.max(Math.min(...waiting.values()), turnMs + batchMs);
          assert.equal(queue.nextMs(), firstMs);
          if (firstMs <= nowMs) turnMs = nowMs;
          while (queue.release(nowMs, 1) === 1) {
            const { value, note, atMs } = owner.out.pop()!;
            assert.equal(note, waiting.get(value));
            assert.ok(firstMs <= nowMs && note <= nowMs && atMs === nowMs, `a cell left ${note - nowMs} ms early`);
            waiting.delete(value);
          }
          if (firstMs <= nowMs) assert.ok([...waiting.values()].every((dueMs) => dueMs > nowMs));
          assert.equal(queue.length, waiting.size);
        };
        for (const { gapMs, delays } of steps) {
          nowMs += gapMs;
          for (const delay of delays) {
            queue.pushFor(numbered(pushed), owner, nowMs + delay, delay, nowMs);
            waiting.set(pushed++, nowMs + delay);
          }
          turn();
          if (queue.length === 0) queue.trim();
        }
        while (waiting.size > 0) {
          nowMs = queue.nextMs();
          turn();
        }
        assert.equal(queue.nextMs(), Number.POSITIVE_INFINITY);
      }),
    );
  });

  test('what is due together leaves in random order, also if it came with the same delay', () => {
    const queue = new DelayQueue(createSeededRandom('queue 8'), 4096, 1);
    const owner = new Collector();
    const trials = 400;
    const cells = 10;
    let inversions = 0;
    for (let trial = 0; trial < trials; trial++) {
      for (let i = 0; i < cells; i++) queue.pushFor(numbered(i), owner, 0, 5, trial * 10);
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

  test('a throwing owner loses its cell only', () => {
    const queue = new DelayQueue(createSeededRandom('queue 5'), 256, 0);
    const failing: DelayOwner = {
      release() {
        throw new Error('no');
      },
    };
    // More often than it has slots: each has to be free again.
    for (let i = 0; i < 300; i++) {
      queue.push(numbered(0), failing, 0, 1, 0);
      assert.throws(() => queue.release(1e6, ALL), /no/);
      assert.equal(queue.length, 0);
    }
    const owner = new Collector();
    for (let i = 0; i < 50; i++) queue.push(numbered(i), owner, i, 1, 0);
    queue.release(1e6, ALL);
    assert.equal(owner.out.length, 50);
  });
});

test('a mean out of range is brought into it', () => {
  assert.equal(boundedDelayMs(0), 1);
  assert.equal(boundedDelayMs(20_000), 20);
  assert.equal(boundedDelayMs(2 ** 32 - 1), 10_000);
});
