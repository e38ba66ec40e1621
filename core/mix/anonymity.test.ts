import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { DATAGRAM_BYTES } from '../wire/datagram.ts';
import { pathBits, poissonMixBits, uniformBits } from './anonymity.ts';
import { Exponential } from './exponential.ts';
import { type MixOwner, PoissonMix } from './poisson-mix.ts';
import { PoolObserver } from './pool-observer.ts';

/** Cells come to the real mix as a Poisson process; who watches it is surprised by so many bits a cell. */
function observe(seed: string, cellsPerSecond: number, meanMs: number, cells: number) {
  const observer = new PoolObserver();
  const mix = new PoissonMix(createSeededRandom(`queue ${seed}`), 16_384, 0);
  const times = new Exponential(createSeededRandom(`arrivals ${seed}`));
  const warmUp = Math.ceil((10 * meanMs * cellsPerSecond) / 1000);
  const cell = new Uint8Array(DATAGRAM_BYTES);
  const numbers = new DataView(cell.buffer);
  const owner: MixOwner = {
    mixPlace: -1,
    release(bytes) {
      const id = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
      observer.depart(id, id >= warmUp);
    },
  };
  let nowMs = 0;
  for (let id = 0; id < warmUp + cells; id++) {
    nowMs += times.sample(1000 / cellsPerSecond);
    while (mix.nextMs() <= nowMs) mix.release(mix.nextMs(), 1);
    observer.arrive(id);
    numbers.setUint32(0, id);
    mix.push(cell, owner, 0, mix.inward, meanMs, nowMs);
  }
  const { departures, surpriseBits, entropyBits } = observer;
  return { observer, surprise: surpriseBits / departures, entropy: entropyBits / departures };
}

describe('one Poisson mix', () => {
  // The mean entropy moves slowly with the pool: so many cells that its own error is below the bound.
  const cases: [cellsPerSecond: number, meanMs: number, cells: number][] = [
    [10, 20, 100_000],
    [50, 20, 100_000],
    [250, 20, 100_000],
    [1000, 100, 150_000],
    [5000, 100, 200_000],
  ];
  for (const [cellsPerSecond, meanMs, cells] of cases) {
    test(`hides as much as predicted: ${cellsPerSecond} cells/s for ${meanMs} ms`, () => {
      const predicted = poissonMixBits((cellsPerSecond * meanMs) / 1000);
      const { observer, surprise, entropy } = observe(`${cellsPerSecond} ${meanMs}`, cellsPerSecond, meanMs, cells);
      assert.ok(Math.abs(entropy - predicted) < 0.04, `entropy ${entropy}, predicted ${predicted}`);
      assert.ok(Math.abs(surprise - predicted) < 0.04, `surprise ${surprise}, predicted ${predicted}`);
      // Nothing is to be had from betting on the order.
      const { expectedFirst, oldestFirst, newestFirst } = observer;
      const deviation = 4 * Math.sqrt(expectedFirst);
      assert.ok(Math.abs(oldestFirst - expectedFirst) < deviation, `oldest first ${oldestFirst} of ${expectedFirst}`);
      // Newer ones may have left since the newest came, but never more often than all alike.
      assert.ok(newestFirst < expectedFirst + deviation, `newest first ${newestFirst} of ${expectedFirst}`);
    });
  }

  test('comes to log2(e·ρ) for many cells, and to nothing for few', () => {
    for (const rho of [20, 100, 500, 1999]) {
      assert.ok(Math.abs(poissonMixBits(rho) - Math.log2(Math.E * rho)) < 0.01, `${rho}`);
    }
    assert.ok(Math.abs(poissonMixBits(2000) - poissonMixBits(2000.001)) < 0.001, 'where the limit takes over');
    assert.equal(poissonMixBits(0), 0);
    assert.ok(poissonMixBits(0.001) < 0.01);
    let before = 0;
    for (let rho = 0.01; rho < 3000; rho *= 1.3) {
      const bits = poissonMixBits(rho);
      assert.ok(bits > before, `${rho}: ${bits} after ${before}`);
      before = bits;
    }
    assert.throws(() => poissonMixBits(Number.NaN), RangeError);
    assert.throws(() => poissonMixBits(-1), RangeError);
  });
});

describe('a path', () => {
  test('of one mix is that mix', () => {
    for (const rate of [1000, 5000]) {
      assert.ok(Math.abs(pathBits(rate, 20, 1)! - poissonMixBits((rate * 20) / 1000)) < 0.01);
    }
  });

  test('of five hides as much as predicted from who sees both ends only', () => {
    const [rate, delayMs, hops] = [2000, 20, 5];
    const times = new Exponential(createSeededRandom('path'));
    const cells = 60_000;
    const inMs = new Float64Array(cells);
    for (let i = 1; i < cells; i++) inMs[i] = inMs[i - 1]! + times.sample(1000 / rate);
    // Erlang density of the delay; every cell that came within a second before is a candidate.
    const density = (ms: number) => (ms <= 0 ? 0 : (ms / delayMs) ** (hops - 1) * Math.exp(-ms / delayMs));
    let bits = 0;
    let count = 0;
    for (let i = 5000; i < cells - 5000; i += 25) {
      let outMs = inMs[i]!;
      for (let hop = 0; hop < hops; hop++) outMs += times.sample(delayMs);
      let sum = 0;
      for (let j = i - 4000; j < i + 4000; j++) sum += density(outMs - inMs[j]!);
      bits -= Math.log2(density(outMs - inMs[i]!) / sum);
      count++;
    }
    const predicted = pathBits(rate, delayMs, hops)!;
    assert.ok(Math.abs(bits / count - predicted) < 0.06, `${bits / count}, predicted ${predicted}`);
  });

  test('says nothing where its limit does not hold', () => {
    assert.equal(pathBits(10, 20, 5), undefined);
    assert.equal(pathBits(0, 20, 5), undefined);
    assert.ok(pathBits(50, 20, 5)! > 0);
    assert.throws(() => pathBits(100, 20, 0), RangeError);
  });
});

test('one of so many that are all alike', () => {
  assert.equal(uniformBits(1), 0);
  assert.equal(uniformBits(128), 7);
  assert.throws(() => uniformBits(0), RangeError);
});
