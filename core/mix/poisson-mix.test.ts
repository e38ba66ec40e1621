import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { BATCH_DATAGRAMS } from '../wire/datagram.ts';
import { Collector, failing, numbered } from './cell-testing.ts';
import { Exponential } from './exponential.ts';
import { MixOutlet } from './mix-outlet.ts';
import { boundedDelayMs, PoissonMix } from './poisson-mix.ts';
import { erlangCdf, KS_ONE_PERCENT, kolmogorovSmirnov, kolmogorovSmirnovTwo } from './testing.ts';

const ALL = Number.POSITIVE_INFINITY;

/** A mix, an outlet and owners by mean, to which cells come as a Poisson process; gives how long each one's cells wait. */
function wait(seed: string, means: readonly number[], cells: number, cellsPerMs: number): number[][] {
  const mix = new PoissonMix(createSeededRandom(`mix ${seed}`), 131_072, 0);
  const arrivals = new Exponential(createSeededRandom(`arrivals ${seed}`));
  const outlet = new MixOutlet(BATCH_DATAGRAMS);
  const owners = means.map(() => new Collector());
  const cameMs: number[] = [];
  let nowMs = 0;
  const release = (untilMs: number) => {
    for (let atMs = mix.nextMs(); atMs <= untilMs; atMs = mix.nextMs()) mix.release(atMs, ALL);
  };
  for (let i = 0; i < cells; i++) {
    nowMs += arrivals.sample(1 / cellsPerMs);
    release(nowMs);
    cameMs.push(nowMs);
    const which = arrivals.place(means.length);
    mix.push(numbered(i), owners[which]!, 0, outlet, means[which]!, nowMs);
  }
  release(Number.MAX_VALUE);
  assert.equal(mix.length, 0);
  return owners.map(({ out }) => out.map(({ value, atMs }) => atMs - cameMs[value]!));
}

describe('a Poisson mix', () => {
  test('holds each cell for an exponential time that has nothing to do with the others', () => {
    const [times] = wait('one mean', [20], 100_000, 5);
    assert.equal(times!.length, 100_000);
    const ks = kolmogorovSmirnov(times!, erlangCdf(1, 20));
    assert.ok(ks < KS_ONE_PERCENT, `${ks}`);
    // Those that leave one after the other have waited independently of each other.
    let covariance = 0;
    for (let i = 1; i < times!.length; i++) covariance += (times![i]! - 20) * (times![i - 1]! - 20);
    const correlation = covariance / times!.length / 400;
    assert.ok(Math.abs(correlation) < 3 / Math.sqrt(times!.length), `${correlation}`);
  });

  test('keeps to the law when nothing else waits, and when thousands do', () => {
    for (const [cellsPerMs, cells] of [
      [0.001, 20_000],
      [200, 100_000],
    ] as const) {
      const [times] = wait(`${cellsPerMs}`, [20], cells, cellsPerMs);
      const ks = kolmogorovSmirnov(times!, erlangCdf(1, 20));
      assert.ok(ks < KS_ONE_PERCENT, `${cellsPerMs} cells a millisecond: ${ks}`);
    }
  });

  test('holds cells with different means each by its own, within an octave and over several', () => {
    const means = [1, 16.5, 20, 31, 150];
    for (const [i, times] of wait('means', means, 150_000, 5).entries()) {
      assert.ok(times.length > 29_000);
      const ks = kolmogorovSmirnov(times, erlangCdf(1, means[i]!));
      assert.ok(ks < KS_ONE_PERCENT, `mean of ${means[i]} ms: ${ks}`);
    }
  });

  test('a shorter mean that comes to a longer one shortens nothing but its own time', () => {
    const means = [31, 16.5];
    const times: number[][] = [[], []];
    const mix = new PoissonMix(createSeededRandom('two means a'), 256, 0);
    for (let trial = 0; trial < 20_000; trial++) {
      const startMs = trial * 10_000;
      const owners = means.map(() => new Collector());
      for (const [i, owner] of owners.entries()) mix.push(numbered(i), owner, 0, mix.inward, means[i]!, startMs);
      while (mix.length > 0) mix.release(mix.nextMs(), ALL);
      for (const [i, { out }] of owners.entries()) times[i]!.push(out[0]!.atMs - startMs);
    }
    for (const [i, own] of times.entries()) {
      const ks = kolmogorovSmirnov(own, erlangCdf(1, means[i]!));
      assert.ok(ks < KS_ONE_PERCENT, `mean of ${means[i]} ms: ${ks}`);
    }
  });

  test('cells that come in bursts wait no less and no longer', () => {
    const mix = new PoissonMix(createSeededRandom('bursts'), 16_384, 0);
    const owner = new Collector();
    const times: number[] = [];
    for (let burst = 0; burst < 1000; burst++) {
      // Others are still there, and the next burst comes in the middle of a release.
      const nowMs = burst * 5;
      for (let i = 0; i < 50; i++) mix.push(numbered(burst), owner, 0, mix.inward, 20, nowMs);
      for (let atMs = mix.nextMs(); atMs < nowMs + 5; atMs = mix.nextMs()) mix.release(atMs, ALL);
    }
    while (mix.length > 0) mix.release(mix.nextMs(), ALL);
    for (const { value, atMs } of owner.out) times.push(atMs - value * 5);
    assert.equal(times.length, 50_000);
    const ks = kolmogorovSmirnov(times, erlangCdf(1, 20));
    assert.ok(ks < KS_ONE_PERCENT, `${ks}`);
  });

  test('releasing late changes nothing for those whose time has not come', () => {
    // What is looked for only every 7 ms leaves at the next of these times, with the same law.
    const late = new PoissonMix(createSeededRandom('late'), 16_384, 0);
    const exact = new Exponential(createSeededRandom('exact'));
    const owner = new Collector();
    const expected: number[] = [];
    for (let i = 0; i < 20_000; i++) {
      const nowMs = i / 4;
      if (i % 28 === 0) late.release(nowMs, ALL);
      late.push(numbered(i), owner, 0, late.inward, 20, nowMs);
      expected.push(Math.ceil((nowMs + exact.sample(20)) / 7) * 7 - nowMs);
    }
    for (let nowMs = 5005; late.length > 0; nowMs += 7) late.release(nowMs, ALL);
    const times = owner.out.map(({ value, atMs }) => atMs - value / 4);
    const ks = kolmogorovSmirnovTwo(times, expected);
    assert.ok(ks < KS_ONE_PERCENT, `${ks}`);
  });

  test('gives every cell back once, unchanged, by its outlet, and not in the order it came', () => {
    const mix = new PoissonMix(createSeededRandom('mix 1'), 4096, 0);
    const owners = [new Collector(), new Collector()];
    const outlets = [new MixOutlet(20), mix.inward];
    for (let i = 0; i < 600; i++) mix.push(numbered(i), owners[i & 1]!, (i >> 1) & 1, outlets[i & 1]!, 20, 1000);
    assert.equal(mix.length, 600);
    while (mix.length > 0) {
      const atMs = mix.nextMs();
      assert.equal(mix.release(atMs - 1e-6, ALL), 0, 'nothing leaves before');
      assert.ok(mix.release(atMs, ALL) > 0, 'and something then');
    }
    assert.equal(mix.nextMs(), Number.POSITIVE_INFINITY);
    for (const [k, { out }] of owners.entries()) {
      const values = out.map(({ value }) => value);
      assert.deepEqual(
        values.toSorted((a, b) => a - b),
        Array.from({ length: 300 }, (_, i) => 2 * i + k),
      );
      assert.ok(out.every(({ value, note }) => note === ((value >> 1) & 1)));
      const inversions = values.filter((value, i) => i > 0 && value < values[i - 1]!).length;
      // All came at one moment: as good as shuffled, so half of the neighbours are swapped.
      assert.ok(inversions > 115 && inversions < 185, `${inversions} inversions`);
    }
    const waitedMs = owners.flatMap(({ out }) => out).reduce((sum, { atMs }) => sum + atMs - 1000, 0);
    assert.ok(Math.abs(mix.waitedMs - waitedMs) < 1e-3);
    assert.equal(mix.released, 600);
  });

  test('stays consistent whatever comes and goes', () => {
    const cell = fc.record({ owner: fc.nat(4), outlet: fc.nat(2), note: fc.nat(1) });
    const step = fc.record({
      gapMs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 2, noNaN: true }), fc.integer({ min: 0, max: 5000 })),
      cells: fc.array(cell, { maxLength: 5 }),
      burst: fc.option(fc.record({ owner: fc.nat(4), outlet: fc.nat(2) }), { freq: 5, nil: undefined }),
      most: fc.constantFrom(ALL, ALL, 7),
      trim: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.constantFrom(0, 1), fc.array(step, { maxLength: 60 }), (batchMs, steps) => {
        const mix = new PoissonMix(createSeededRandom('mix 2'), 16_384, batchMs);
        const outlets = [mix.inward, new MixOutlet(20), new MixOutlet(51)];
        const means = [1, 5, 5.5, 20, 3000];
        const owners = means.map(() => new Collector());
        const waiting = new Map<number, string>();
        let nowMs = 0;
        let pushed = 0;
        const push = (owner: number, outlet: number, note: number) => {
          mix.push(numbered(pushed), owners[owner]!, note, outlets[outlet]!, means[owner]!, nowMs);
          waiting.set(pushed++, `${owner} ${note}`);
        };
        const turn = (most: number) => {
          const isDue = mix.nextMs() <= nowMs;
          const count = mix.release(nowMs, most);
          assert.ok(count <= most && (isDue || count === 0));
          let left = 0;
          for (const [i, { out, mixPlace }] of owners.entries()) {
            for (const { value, note } of out.splice(0)) {
              assert.equal(waiting.get(value), `${i} ${note}`);
              waiting.delete(value);
              left++;
            }
            assert.equal(
              mixPlace >= 0,
              [...waiting.values()].some((text) => text.startsWith(`${i} `)),
            );
          }
          assert.equal(left, count);
          assert.equal(mix.length, waiting.size);
          if (most === ALL) assert.ok(mix.nextMs() > nowMs || mix.length === 0 || batchMs === 0);
        };
        for (const { gapMs, cells, burst, most, trim } of steps) {
          nowMs += gapMs;
          for (const { owner, outlet, note } of cells) push(owner, outlet, note);
          for (let i = 0; burst !== undefined && i < 150; i++) push(burst.owner, burst.outlet, 0);
          turn(most);
          if (trim) mix.trim();
        }
        for (let i = 0; mix.length > 0; i++) {
          assert.ok(i < 100_000, 'it does not come to an end');
          nowMs = mix.nextMs();
          turn(ALL);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('is bounded, and one owner leaves room for others', () => {
    const mix = new PoissonMix(createSeededRandom('mix 3'), 1024, 0);
    const [owner, second] = [new Collector(), new Collector()];
    let flood = 0;
    for (; mix.hasRoom(owner); flood++) mix.push(numbered(flood), owner, 0, mix.inward, 20, 0);
    assert.equal(flood, 205, 'a quarter of what is left: x = (1024 − x) / 4');
    let others = 0;
    for (; mix.hasRoom(second); others++) mix.push(numbered(others), second, 0, mix.inward, 20, 0);
    assert.ok(others > 150, `the second owner got ${others}`);
    let last = new Collector();
    for (; mix.hasRoom(last); last = new Collector()) mix.push(numbered(0), last, 0, mix.inward, 20, 0);
    assert.equal(mix.length, 1024);
    assert.throws(() => mix.push(numbered(0), last, 0, mix.inward, 20, 0), /full/);
    assert.equal(last.mixPlace, -1);
    assert.ok(mix.memoryBytes < 1024 * 1500, `${mix.memoryBytes}`);
  });

  test('10^5 cells cost less than 256 MB, and the memory comes back, also beside cells that stay', () => {
    const mix = new PoissonMix(createSeededRandom('mix 4'), 131_072, 0);
    const owner = { mixPlace: -1, release() {} };
    const cell = numbered(1);
    const staying = { mixPlace: -1, release() {} };
    for (let i = 0; i < 100_000; i++) {
      if (i % 1000 === 0) mix.push(cell, staying, 0, mix.inward, 9000, 0);
      else mix.push(cell, owner, 0, mix.inward, 2, 0);
    }
    assert.ok(mix.memoryBytes < 160e6, `${mix.memoryBytes} bytes`);
    // Some hundred that others put in and out keep the slabs of those that stay in use, but the upper ones run empty.
    const busy = new Collector();
    for (let nowMs = 50; nowMs < 2000; nowMs++) {
      mix.release(nowMs, ALL);
      for (let i = 0; i < 5; i++) mix.push(cell, busy, 0, mix.inward, 20, nowMs);
      if (nowMs % 500 === 0) mix.trim();
    }
    assert.ok(mix.length > 100 && mix.inward.memoryBytes < 10_000, `${mix.inward.memoryBytes} bytes in lists`);
    mix.release(1e6, ALL);
    mix.trim();
    mix.trim();
    assert.ok(mix.memoryBytes < 400_000, `${mix.memoryBytes} bytes are kept`);
  });

  test('what becomes due within a millisecond leaves together, but for full batches', () => {
    const mix = new PoissonMix(createSeededRandom('mix 6'), 8192, 1);
    const owner = new Collector();
    const outlet = new MixOutlet(BATCH_DATAGRAMS);
    for (let i = 0; i < 4000; i++) mix.push(numbered(i), owner, 0, outlet, 20, 0);
    let full = 0;
    let turns = 0;
    let lastMs = Number.NEGATIVE_INFINITY;
    while (mix.length > 0) {
      const nowMs = mix.nextMs();
      const count = mix.release(nowMs, ALL);
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
    assert.ok(Math.abs(mix.waitedMs / 4000 - meanMs) < 1e-6 && meanMs > 19 && meanMs < 22, `${meanMs}`);
  });

  test('each outlet has its own turns', () => {
    const mix = new PoissonMix(createSeededRandom('mix 9'), 4096, 1);
    const outlets = [1, 2, 3].map(() => new MixOutlet(BATCH_DATAGRAMS));
    const owners = outlets.map(() => new Collector());
    for (const [k, owner] of owners.entries()) {
      for (let i = 0; i < 300; i++) mix.push(numbered(i), owner, 0, outlets[k]!, 20, 0);
    }
    while (mix.length > 0) mix.release(mix.nextMs(), ALL);
    const times = owners.map(({ out }) => [...new Set(out.map(({ atMs }) => atMs))]);
    for (const own of times) {
      for (let i = 1; i < own.length; i++) assert.ok(own[i]! - own[i - 1]! > 1 - 1e-9, `${own[i - 1]} and ${own[i]}`);
    }
    const apart = new Set(times.flat()).size / times.flat().length;
    assert.ok(apart > 0.6, `${apart} of the turns are not at one moment with others`);
    for (const { out } of owners) assert.equal(new Set(out.map(({ value }) => value)).size, 300);
  });

  test('under load all leave in full batches, and what is left over not much later', () => {
    const mix = new PoissonMix(createSeededRandom('mix 10'), 65_536, 1);
    const outlets = [1, 2, 3].map(() => new MixOutlet(BATCH_DATAGRAMS));
    const owners = outlets.map(() => new Collector());
    const PER_MS = 60;
    const LENGTH_MS = 300;
    for (let ms = 0; ms < LENGTH_MS; ms++) {
      for (const [k, owner] of owners.entries()) {
        for (let i = 0; i < PER_MS; i++) mix.push(numbered(ms), owner, 0, outlets[k]!, 20, ms);
      }
      for (let atMs = mix.nextMs(); atMs <= ms + 1; atMs = mix.nextMs()) mix.release(atMs, ALL);
    }
    for (const { out } of owners) {
      const sizes = new Map<number, number>();
      // Once it is as full as it gets.
      for (const { atMs } of out) if (atMs > 150) sizes.set(atMs, (sizes.get(atMs) ?? 0) + 1);
      const full = [...sizes.values()].filter((size) => size % BATCH_DATAGRAMS === 0).length;
      assert.ok(full / sizes.size > 0.8, `${full} of ${sizes.size}`);
      const settled = out.filter(({ value }) => value > 100 && value < 200);
      const mean = settled.reduce((sum, { value, atMs }) => sum + atMs - value, 0) / settled.length;
      assert.ok(mean > 19.5 && mean < 21.5, `${mean} ms in the mean`);
    }
  });

  test('lets no more go than it is told, and the rest at the next call', () => {
    const mix = new PoissonMix(createSeededRandom('mix 7'), 1024, 1);
    const owner = new Collector();
    for (let i = 0; i < 100; i++) mix.push(numbered(i), owner, 0, mix.inward, 1, 0);
    assert.equal(mix.release(60, 30), 30);
    assert.equal(mix.length, 70);
    assert.equal(mix.nextMs(), 60, 'its turn is not over');
    assert.equal(mix.release(60, 50), 50);
    assert.equal(mix.release(60.1, ALL), 20);
    assert.equal(new Set(owner.out.map(({ value }) => value)).size, 100);
    assert.equal(mix.released, 100);
  });

  test('a throwing owner loses its cell only, and does not keep the others of its outlet waiting', () => {
    const mix = new PoissonMix(createSeededRandom('mix 5'), 256, 1);
    const bad = failing();
    // More often than there are slots: each has to be free again, and the owner's place too.
    for (let i = 0; i < 300; i++) {
      mix.push(numbered(0), bad, 0, mix.inward, 1, 1000 * i);
      assert.throws(() => mix.release(1000 * i + 500, ALL), /no/);
      assert.equal(mix.length, 0);
      assert.equal(bad.mixPlace, -1);
    }
    const outlet = new MixOutlet(BATCH_DATAGRAMS);
    const owner = new Collector();
    for (let i = 0; i < 20; i++) mix.push(numbered(i), owner, 0, outlet, 1, 400_000);
    mix.push(numbered(20), bad, 0, outlet, 1, 400_000);
    for (let i = 20; i < 40; i++) mix.push(numbered(i), owner, 0, outlet, 1, 400_000);
    assert.throws(() => mix.release(400_500, ALL), /no/);
    const before = owner.out.length;
    assert.ok(before < 40, 'the one that throws is not the last one');
    assert.equal(mix.release(400_500, ALL), 40 - before);
    assert.equal(mix.length, 0);
  });
});

test('a mean out of range is brought into it', () => {
  assert.equal(boundedDelayMs(0), 1);
  assert.equal(boundedDelayMs(20_000), 20);
  assert.equal(boundedDelayMs(2 ** 32 - 1), 10_000);
});
