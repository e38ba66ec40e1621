import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '../wire/datagram.ts';
import { DelayOutlet } from './delay-outlet.ts';
import { boundedDelayMs, type DelayOwner, DelayQueue } from './delay-queue.ts';
import { Exponential } from './exponential.ts';
import { erlangCdf, KS_ONE_PERCENT, kolmogorovSmirnov } from './testing.ts';

const ALL = Number.POSITIVE_INFINITY;
/** Where the ziggurat's lowest layer goes over into the tail. */
const TAIL_MEANS = 7.69711747013105;

class Collector implements DelayOwner {
  readonly #outlet: DelayOutlet | undefined;
  readonly out: { value: number; note: number; atMs: number }[] = [];
  constructor(outlet?: DelayOutlet) {
    this.#outlet = outlet;
  }
  outlet(): DelayOutlet | undefined {
    return this.#outlet;
  }
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

/** What the queue has to do, with an outlet for each of these batches, by looking at everything every time. */
class PlainLists {
  readonly #batchMs: number;
  readonly #outlets: { readonly batch: number; turnMs: number; readonly due: Map<number, number> }[];
  #gatheredMs = Number.NEGATIVE_INFINITY;
  waiting: { value: number; outlet: number; dueMs: number }[] = [];

  constructor(batchMs: number, batches: readonly number[]) {
    this.#batchMs = batchMs;
    this.#outlets = batches.map((batch) => ({ batch, turnMs: Number.NEGATIVE_INFINITY, due: new Map() }));
  }

  get length(): number {
    return this.#outlets.reduce((sum, { due }) => sum + due.size, this.waiting.length);
  }

  #nextGatherMs(): number {
    return Math.max(this.#gatheredMs + this.#batchMs / 4, Math.min(...this.waiting.map(({ dueMs }) => dueMs)));
  }

  nextMs(): number {
    const leaving = this.#outlets
      .filter(({ due }) => due.size > 0)
      .map(({ batch, turnMs, due }) => Math.max(this.#gatheredMs, due.size >= batch ? 0 : turnMs));
    return Math.min(this.#nextGatherMs(), ...leaving);
  }

  /** How many leave each outlet. */
  release(nowMs: number): number[] {
    if (this.#nextGatherMs() <= nowMs) {
      this.#gatheredMs = nowMs;
      const isDue = ({ dueMs }: { dueMs: number }) => dueMs <= nowMs;
      for (const { value, outlet, dueMs } of this.waiting.filter(isDue)) this.#outlets[outlet]!.due.set(value, dueMs);
      this.waiting = this.waiting.filter((cell) => !isDue(cell));
    }
    return this.#outlets.map((outlet) => {
      const { batch, due } = outlet;
      let count = due.size;
      if (due.size >= batch) count = batch * Math.floor(due.size / batch);
      else if (nowMs < outlet.turnMs) count = 0;
      if (count > 0) outlet.turnMs = nowMs + this.#batchMs;
      return count;
    });
  }

  /** When the cell was due; undefined = it is not one of those that may leave there. */
  take(outlet: number, value: number): number | undefined {
    const { due } = this.#outlets[outlet]!;
    const dueMs = due.get(value);
    due.delete(value);
    return dueMs;
  }
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

  test('what becomes due within a millisecond leaves together, but for full batches', () => {
    const queue = new DelayQueue(createSeededRandom('queue 6'), 8192, 1);
    const owner = new Collector(new DelayOutlet(BATCH_DATAGRAMS));
    for (let i = 0; i < 4000; i++) queue.push(numbered(i), owner, i, 20, 0);
    let full = 0;
    let turns = 0;
    let lastMs = Number.NEGATIVE_INFINITY;
    while (queue.length > 0) {
      const nowMs = queue.nextMs();
      const count = queue.release(nowMs, ALL);
      if (count === 0) continue;
      if (count % BATCH_DATAGRAMS === 0) full++;
      else {
        turns++;
        assert.ok(
          count < BATCH_DATAGRAMS && nowMs >= lastMs + 1,
          `${count} cells at ${nowMs}, behind those at ${lastMs}`,
        );
      }
      lastMs = nowMs;
    }
    assert.ok(turns > 50 && turns < 200 && full > 40, `${turns} turns, ${full} times full batches`);
    const meanMs = owner.out.reduce((sum, { atMs }) => sum + atMs, 0) / 4000;
    assert.ok(Math.abs(queue.waitedMs / 4000 - meanMs) < 1e-6 && meanMs > 19 && meanMs < 22, `${meanMs}`);
  });

  test('each outlet has its own turns', () => {
    const queue = new DelayQueue(createSeededRandom('queue 9'), 4096, 1);
    const owners = [1, 2, 3].map(() => new Collector(new DelayOutlet(BATCH_DATAGRAMS)));
    // One cell every 0.1 ms for each, from different times on.
    for (let i = 0; i < 1000; i++) {
      for (const [k, owner] of owners.entries()) queue.pushFor(numbered(i), owner, 0, i / 10 + k * 0.3, 0);
    }
    while (queue.length > 0) queue.release(queue.nextMs(), ALL);
    const times = owners.map(({ out }) => [...new Set(out.map(({ atMs }) => atMs))]);
    for (const own of times) {
      assert.ok(own.length >= 78 && own.length <= 101, `${own.length} times in 100 ms`);
      for (let i = 1; i < own.length; i++) assert.ok(own[i]! - own[i - 1]! >= 1, `${own[i - 1]} and ${own[i]}`);
    }
    assert.equal(new Set(times.flat()).size, times.flat().length, 'two of them at one moment');
    for (const { out } of owners) assert.deepEqual(new Set(out.map(({ value }) => value)).size, 1000);
  });

  test('under load all leave in full batches, and what is left over not much later', () => {
    const queue = new DelayQueue(createSeededRandom('queue 10'), 65_536, 1);
    const owners = [1, 2, 3].map(() => new Collector(new DelayOutlet(BATCH_DATAGRAMS)));
    const PER_MS = 60;
    const LENGTH_MS = 100;
    for (let i = 0; i < PER_MS * LENGTH_MS; i++) {
      for (const owner of owners) queue.pushFor(numbered(i), owner, i / PER_MS, i / PER_MS, 0);
    }
    while (queue.length > 0) queue.release(queue.nextMs(), ALL);
    for (const { out } of owners) {
      const sizes = new Map<number, number>();
      for (const { atMs } of out) sizes.set(atMs, (sizes.get(atMs) ?? 0) + 1);
      const full = [...sizes.values()].filter((size) => size === BATCH_DATAGRAMS).length;
      // But for the first cell, which had no turn before it, and the last ones.
      assert.ok(full >= sizes.size - 2, `${full} of ${sizes.size}`);
      const latenesses = out.map(({ note, atMs }) => atMs - note);
      const mean = latenesses.reduce((sum, late) => sum + late, 0) / out.length;
      assert.ok(mean < 1 && Math.max(...latenesses) < 8, `${mean} ms in the mean, ${Math.max(...latenesses)} at most`);
    }
  });

  test('lets no more go than it is told, and the rest at the next call', () => {
    const queue = new DelayQueue(createSeededRandom('queue 7'), 1024, 1);
    const owner = new Collector();
    for (let i = 0; i < 100; i++) queue.pushFor(numbered(i), owner, 0, 5, 0);
    assert.equal(queue.release(6, 30), 30);
    assert.equal(queue.length, 70);
    assert.equal(queue.nextMs(), 6, 'its turn is not over');
    assert.equal(queue.release(6, 50), 50);
    assert.equal(queue.release(6.1, ALL), 20);
    queue.pushFor(numbered(100), owner, 0, 0.2, 6.1);
    assert.equal(queue.nextMs(), 6.1 + 0.2);
    assert.equal(queue.release(6.3, ALL), 0);
    assert.equal(queue.nextMs(), 6.1 + 1, 'now it is');
    assert.equal(queue.release(6.1 + 1, ALL), 1);
    assert.equal(queue.released, 101);
    assert.equal(new Set(owner.out.map(({ value }) => value)).size, 101);
  });

  test('does what plain lists would do, whatever the delays and the gaps', () => {
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
    const cell = fc.record({ delayMs, outlet: fc.nat(2) });
    // A burst: more than a batch for one outlet.
    const burst = fc.record({ outlet: fc.nat(2), delayMs: fc.constantFrom(0.1, 1) });
    const step = fc.record({
      gapMs,
      cells: fc.array(cell, { maxLength: 5 }),
      burst: fc.option(burst, { freq: 5, nil: undefined }),
    });
    fc.assert(
      fc.property(fc.constantFrom(0, 1), fc.array(step, { maxLength: 60 }), (batchMs, steps) => {
        const queue = new DelayQueue(createSeededRandom('queue 7'), 16_384, batchMs);
        // The first one leaves it to the queue.
        const owners = [new Collector(), ...[20, 51].map((batch) => new Collector(new DelayOutlet(batch)))];
        const model = new PlainLists(batchMs, [Number.POSITIVE_INFINITY, 20, 51]);
        let nowMs = 0;
        let pushed = 0;
        const push = (outlet: number, delay: number) => {
          queue.pushFor(numbered(pushed), owners[outlet]!, nowMs + delay, delay, nowMs);
          model.waiting.push({ value: pushed++, outlet, dueMs: nowMs + delay });
        };
        const turn = () => {
          assert.equal(queue.nextMs(), model.nextMs());
          const counts = model.release(nowMs);
          assert.equal(queue.release(nowMs, ALL), counts[0]! + counts[1]! + counts[2]!);
          for (const [i, { out }] of owners.entries()) {
            const left = out.splice(0);
            assert.equal(left.length, counts[i]);
            for (const { value, note, atMs } of left) {
              assert.equal(note, model.take(i, value));
              assert.ok(note <= nowMs && atMs === nowMs, `a cell left ${note - nowMs} ms early`);
            }
          }
          assert.equal(queue.length, model.length);
        };
        for (const { gapMs: gap, cells, burst: many } of steps) {
          nowMs += gap;
          for (const { delayMs: delay, outlet } of cells) push(outlet, delay);
          for (let i = 0; many !== undefined && i < 60; i++) push(many.outlet, many.delayMs);
          turn();
          if (queue.length === 0) queue.trim();
        }
        while (model.length > 0) {
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

  test('a throwing owner does not keep the others of its outlet waiting', () => {
    const queue = new DelayQueue(createSeededRandom('queue 11'), 256, 1);
    const outlet = new DelayOutlet(BATCH_DATAGRAMS);
    const owner = new Collector(outlet);
    const failing: DelayOwner = {
      outlet: () => outlet,
      release() {
        throw new Error('no');
      },
    };
    for (let i = 0; i < 20; i++) queue.pushFor(numbered(i), owner, 0, 1, 0);
    queue.pushFor(numbered(20), failing, 0, 1, 0);
    assert.throws(() => queue.release(1, ALL), /no/);
    const before = owner.out.length;
    assert.ok(before < 20, 'the one that throws is not the last one');
    assert.equal(queue.release(1, ALL), 20 - before);
    assert.equal(queue.length, 0);
  });
});

test('a mean out of range is brought into it', () => {
  assert.equal(boundedDelayMs(0), 1);
  assert.equal(boundedDelayMs(20_000), 20);
  assert.equal(boundedDelayMs(2 ** 32 - 1), 10_000);
});
