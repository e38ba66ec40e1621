/** The simulation of the adversary, small: that it finds what is there, does not find what is not, and agrees with the meter. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { pathBits } from '@nyx/core/mix/anonymity.ts';
import { BatchQueue } from '@nyx/core/mix/batch-queue.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { BATCH, batchTimes } from './adversary/carry.ts';
import { attack, Crowd } from './adversary/correlate.ts';
import { attackEngines } from './adversary/engines.ts';
import { detect, falseAlarms, scenarios } from './adversary/n-minus-one.ts';
import { poissonArrivals, relayEntropy } from './adversary/relay-entropy.ts';
import { margins, quality, surpriseBits } from './adversary/roc.ts';
import { cmix, constant, fast, modes } from './adversary/run.ts';
import { statistics } from './adversary/statistics.ts';

const mode = (name: string) => modes.find((known) => known.name === name)!;

describe('what scores are worth', () => {
  test('rates, area and first guesses of scores made by hand', () => {
    // Two targets, four users: the first is found, the second comes after one other.
    const scores = Float32Array.from([0.9, 0.1, 0.2, 0.3, 0.8, 0.5, 0.1, 0.2]);
    const { area, firstGuess, truePositiveAt } = quality(scores, 2, 4, 4);
    assert.equal(firstGuess, 0.5);
    assert.ok(Math.abs(area - (6 + 5) / 12) < 1e-9);
    assert.equal(truePositiveAt['1e-4'], 0.5);
    // Of the first two users alone nothing is known of the others.
    assert.equal(quality(scores, 2, 4, 2).firstGuess, 0.5);
    assert.deepEqual(
      [...margins(scores, 2, 4, 4)].map((value) => Number(value.toFixed(3))),
      [0.6, -0.8, -0.7, -0.6, 0.3, -0.3, -0.7, -0.6],
    );
  });

  test('scores that are all the same are worth nothing', () => {
    const { area, firstGuess, truePositiveAt } = quality(new Float32Array(2 * 10), 2, 10, 10);
    assert.equal(area, 0.5);
    assert.ok(Math.abs(firstGuess - 0.1) < 1e-9);
    assert.equal(truePositiveAt['1e-2'], 0);
    assert.ok(Math.abs(surpriseBits(new Float32Array(2 * 8), 2, 8, 8) - 3) < 1e-9);
  });
});

test('batches of the model are those of the real queue', () => {
  const dice = createSeededRandom('batches');
  const digest = () => {
    const bytes = new Uint8Array(32);
    dice.fill(bytes);
    return bytes;
  };
  // Now fast, now slow: full batches, and such that close for age.
  const times = [poissonArrivals(400, 5000, 'a'), poissonArrivals(20, 10_000, 'b').map((at) => at + 5000)];
  const all = Float64Array.from(times.flatMap((some) => [...some]));
  const rules = { cells: BATCH.cells, delayMs: BATCH.computeMs };
  const queue = new BatchQueue(createSeededRandom('queue'), { maxWaitMs: BATCH.longestWaitMs }, () => rules);
  const left = new Float64Array(all.length);
  const owner = {
    release(_bytes: Uint8Array, note: number, nowMs: number) {
      left[note] = nowMs;
    },
  };
  const computing: { batch: number; atMs: number }[] = [];
  const close = (nowMs: number) => {
    const closed = queue.close(nowMs);
    if (closed !== undefined) computing.push({ batch: closed.batch, atMs: nowMs + BATCH.computeMs });
  };
  const pass = (untilMs: number) => {
    while (queue.dueMs < untilMs) close(queue.dueMs);
    while (computing.length > 0 && computing[0]!.atMs <= untilMs) {
      const { batch, atMs } = computing.shift()!;
      queue.release(batch, atMs, () => {}, assert.ifError);
    }
  };
  const cell = new Uint8Array(DATAGRAM_BYTES);
  all.forEach((at, i) => {
    pass(at);
    assert.ok(queue.hasRoom(0));
    queue.push(cell, owner, i, 1, digest(), 2, digest(), at);
    if (queue.isFull) close(at);
  });
  pass(1e9);
  assert.deepEqual([...batchTimes(all)], [...left]);
  assert.ok(new Set(left).size > 15, `${new Set(left).size} batches`);
});

describe('an observer of all links', () => {
  test('finds flows in classes fast and mix, and nothing but chance under constant cover', () => {
    const crowd = new Crowd({ model: 'web', durationMs: 60_000, users: [100], targets: 100, seed: '5' });
    for (const known of [fast, mode('mix 20 ms'), mode('mix 500 ms'), cmix]) {
      const [result] = attack(known, crowd, ['likelihood']);
      const { firstGuess } = result!.byStatistic.likelihood;
      assert.ok(firstGuess > 0.9, `${known.name}: ${firstGuess}`);
    }
    // Delays take the simple statistics away, one by one.
    const rate = (name: string, statistic: 'gaps' | 'counts 0.5 s') =>
      attack(mode(name), crowd, [statistic])[0]!.byStatistic[statistic].truePositiveAt['1e-2'];
    assert.ok(rate('mix 5 ms', 'gaps') > rate('mix 500 ms', 'gaps') + 0.3);
    assert.ok(rate('mix 20 ms', 'counts 0.5 s') > rate('mix 2000 ms', 'counts 0.5 s') + 0.5);
    const [hidden] = attack(constant, crowd);
    for (const statistic of statistics) {
      const { area, firstGuess } = hidden!.byStatistic[statistic];
      // A hundred targets: the standard error of an area is some 0.03.
      assert.ok(Math.abs(area - 0.5) < 0.12, `${statistic}: ${area}`);
      assert.ok(firstGuess < 0.07, `${statistic}: ${firstGuess}`);
    }
  });

  test('is left with as many bits of a single message as the meter says', () => {
    const users = 1000;
    const crowd = new Crowd({ model: 'single', durationMs: 60_000, users: [users], targets: 200, seed: '6' });
    for (const name of ['mix 100 ms', 'mix 500 ms']) {
      const { delayMs, hops } = mode(name);
      const predicted = pathBits((users * 1000) / 60_000, delayMs, hops)!;
      const { hiddenBits } = attack(mode(name), crowd, ['likelihood'])[0]!;
      assert.ok(Math.abs(hiddenBits! - predicted) < 0.4, `${name}: ${hiddenBits}, predicted ${predicted}`);
    }
  });

  test('of a relay is surprised by as much as its meter says', () => {
    const durationMs = 120_000;
    const {
      surpriseBits: surprise,
      meterBits,
      formulaBits,
    } = relayEntropy('poisson', poissonArrivals(500, durationMs, '7'), 20, durationMs, '7');
    assert.ok(Math.abs(surprise - meterBits!) < 0.08, `${surprise}, the meter says ${meterBits}`);
    assert.ok(Math.abs(surprise - formulaBits) < 0.08, `${surprise}, the formula ${formulaBits}`);
  });

  test('has no more luck with real engines than with the model', () => {
    const open = attackEngines(fast, 10, 8000, 1, 8);
    assert.ok(open.byStatistic['counts 0.5 s'].firstGuess > 0.85, `${open.byStatistic['counts 0.5 s'].firstGuess}`);
    const covered = attackEngines(constant, 10, 6000, 2, 8);
    for (const [name, { area }] of Object.entries(covered.byStatistic)) {
      // Twenty targets in all.
      assert.ok(Math.abs(area - 0.5) < 0.27, `${name}: ${area}`);
    }
  });
});

describe('the n−1 attack', () => {
  test('is noticed by clients whose loops pass, and nothing is when there is none', async () => {
    const [blocked] = scenarios;
    const { within } = await detect(blocked!, 3, 9);
    assert.ok(within['120 s'] >= 0.5, JSON.stringify(within));
    const { alarms, loops } = await falseAlarms(0.001, 1, 9);
    assert.equal(alarms, 0);
    assert.ok(loops > 300, `${loops}`);
  });
});
