import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { Exponential } from './exponential.ts';
import { erlangCdf, KS_ONE_PERCENT, kolmogorovSmirnov } from './testing.ts';

/** Where the ziggurat's lowest layer goes over into the tail. */
const TAIL_MEANS = 7.69711747013105;

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
