import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ImpairedLine, type Impairment } from './impairment.ts';
import { seededRandom } from './seeded-random.ts';

/** Exits of `count` packets that enter `gapMs` apart; NaN where one got lost. */
function through(impairment: Impairment, count: number, gapMs = 1, sizeBytes = 1000, seed = 7): number[] {
  const line = new ImpairedLine(impairment, seededRandom(seed));
  return Array.from({ length: count }, (_, i) =>
    line.admit(i * gapMs, sizeBytes) === 0 ? Number.NaN : line.exitMs[0]!,
  );
}

describe('an impaired line', () => {
  test('without impairments lets everything through at once', () => {
    assert.deepEqual(through({}, 5), [0, 1, 2, 3, 4]);
  });

  test('delays', () => {
    assert.deepEqual(through({ delayMs: 40 }, 3), [40, 41, 42]);
  });

  test('sends at its rate, and drops what does not fit its queue', () => {
    // 8 Mbit/s = one packet of 1000 bytes in 1 ms; ten come at once, four fit.
    const exits = through({ rateMbit: 8, queueBytes: 4000 }, 10, 0);
    assert.deepEqual(exits.slice(0, 4), [1, 2, 3, 4]);
    assert.ok(exits.slice(4).every(Number.isNaN));
    const later = through({ rateMbit: 8, queueBytes: 4000 }, 100, 0.5);
    const last = Math.max(...later.filter((exit) => !Number.isNaN(exit)));
    const passed = later.filter((exit) => !Number.isNaN(exit)).length;
    assert.ok(Math.abs(last - passed) < 1e-6, `${passed} packets took ${last} ms`);
  });

  test('loses independently, or in runs of the length asked for', () => {
    for (const [burst, low, high] of [
      [1, 1.04, 1.2],
      [6, 5, 7],
    ] as const) {
      const exits = through({ lossShare: 0.1, lossBurstPackets: burst }, 50_000);
      const lost = exits.filter(Number.isNaN).length;
      const runs = exits.filter((exit, i) => Number.isNaN(exit) && !Number.isNaN(exits[i - 1] ?? 0)).length;
      assert.ok(lost > 4400 && lost < 5600, `${lost} of 50 000 lost`);
      assert.ok(lost / runs > low && lost / runs < high, `runs of ${lost / runs}`);
    }
  });

  test('loses by time, as much of little traffic as of much', () => {
    for (const gapPackets of [1, 20]) {
      const exits = through({ lossShare: 0.1, lossBurstMs: 8 }, 100_000).filter((_exit, i) => i % gapPackets === 0);
      const lost = exits.filter(Number.isNaN).length / exits.length;
      assert.ok(lost > 0.085 && lost < 0.115, `${lost} lost`);
      const runs = exits.filter((exit, i) => Number.isNaN(exit) && !Number.isNaN(exits[i - 1] ?? 0)).length;
      const mean = (lost * exits.length) / runs;
      // A packet each millisecond; at one in twenty of them a burst seldom meets two.
      assert.ok(gapPackets === 1 ? mean > 7 && mean < 10 : mean < 1.3, `runs of ${mean}`);
    }
  });

  test('has a bad state that loses a part', () => {
    const exits = through({ lossShare: 0.1, lossBurstPackets: 50, badStateLossShare: 0.5 }, 50_000);
    const lost = exits.filter(Number.isNaN).length;
    assert.ok(lost > 4000 && lost < 6000, `${lost} of 50 000 lost`);
    const runs = exits.filter((exit, i) => Number.isNaN(exit) && !Number.isNaN(exits[i - 1] ?? 0)).length;
    assert.ok(lost / runs < 2.5, `runs of ${lost / runs}`);
  });

  test('varies its delay without reordering', () => {
    const exits = through({ delayMs: 10, jitterMs: 30 }, 5000);
    const delays = exits.map((exit, i) => exit - i);
    assert.ok(exits.every((exit, i) => i === 0 || exit >= exits[i - 1]!));
    assert.ok(Math.min(...delays) >= 10 && Math.min(...delays) < 13, `${Math.min(...delays)}`);
    assert.ok(Math.max(...delays) <= 40 && Math.max(...delays) > 36, `${Math.max(...delays)}`);
  });

  test('reorders and doubles the share asked for', () => {
    const line = new ImpairedLine({ reorderShare: 0.1, reorderMs: 5, duplicateShare: 0.2 }, seededRandom(3));
    let twice = 0;
    let late = 0;
    for (let i = 0; i < 10_000; i++) {
      if (line.admit(i, 100) === 2) twice++;
      if (line.exitMs[0]! === i + 5) late++;
    }
    assert.ok(late > 900 && late < 1100, `${late}`);
    assert.ok(twice > 1850 && twice < 2150, `${twice}`);
    assert.equal(line.counts.reordered, late);
    assert.equal(line.counts.duplicated, twice);
  });

  test('does the same for the same seed, and something else for another', () => {
    const impairment = { lossShare: 0.3, jitterMs: 20 };
    assert.deepEqual(through(impairment, 500), through(impairment, 500));
    assert.notDeepEqual(through(impairment, 500), through(impairment, 500, 1, 1000, 8));
  });

  test('refuses what can not be', () => {
    for (const [impairment, message] of [
      [{ lossShare: 1.5 }, /lossShare must be 0…1/],
      [{ delayMs: -1 }, /delayMs must not be negative/],
      [{ rateMbit: 0 }, /rateMbit/],
      [{ delayMs: Number.NaN }, /delayMs/],
      [{ lossShare: 0.5, lossBurstPackets: 5, badStateLossShare: 0.4 }, /badStateLossShare/],
      [{ lossShare: 0.5, lossBurstPackets: 5, lossBurstMs: 5 }, /by packets or by time/],
    ] as const) {
      assert.throws(() => new ImpairedLine(impairment, seededRandom(1)), message);
    }
  });
});
