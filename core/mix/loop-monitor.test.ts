import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { Exponential } from './exponential.ts';
import { binomialTail, LoopMonitor } from './loop-monitor.ts';

const EXPECTED_MS = 200;

/** A loop over ten sojourns of 20 ms. */
function loop(times: Exponential): number {
  let rttMs = 0;
  for (let i = 0; i < 10; i++) rttMs += times.sample(20);
  return rttMs;
}

test('the tail of the binomial law', () => {
  assert.equal(binomialTail(10, 0, 0.3), 1);
  assert.ok(Math.abs(binomialTail(4, 2, 0.5) - 11 / 16) < 1e-12);
  assert.ok(Math.abs(binomialTail(8, 8, 0.5) - 1 / 256) < 1e-12);
});

for (const lossRatio of [0, 0.01, 0.03]) {
  test(`ordinary loss of ${lossRatio} is no attack, for days`, () => {
    const monitor = new LoopMonitor();
    const times = new Exponential(createSeededRandom(`calm ${lossRatio}`));
    let raised = 0;
    // Ten loops a minute, for two days.
    for (let i = 0; i < 28_800; i++) {
      const { changed } = monitor.note(times.uniform() < lossRatio ? undefined : loop(times), EXPECTED_MS);
      if (changed === 'raised') raised++;
    }
    assert.ok(raised <= (lossRatio < 0.02 ? 3 : 12), `${raised} false alarms in two days`);
  });
}

test('a node that drops shows within a few loops, and so does its end', () => {
  for (const lossRatio of [1, 0.5, 0.3]) {
    const monitor = new LoopMonitor();
    const times = new Exponential(createSeededRandom(`attack ${lossRatio}`));
    for (let i = 0; i < 200; i++) monitor.note(loop(times), EXPECTED_MS);
    let needed = 0;
    for (let raised = false; !raised; needed++) {
      assert.ok(needed < 40, `${lossRatio}: not seen in ${needed} loops`);
      const verdict = monitor.note(times.uniform() < lossRatio ? undefined : loop(times), EXPECTED_MS);
      raised = verdict.changed === 'raised';
      if (raised) assert.equal(verdict.alarm, 'loss');
    }
    assert.equal(monitor.stats.alarm, 'loss');
    let calm = 0;
    while (monitor.stats.alarm !== undefined) {
      monitor.note(loop(times), EXPECTED_MS);
      assert.ok(++calm < 200, 'the alarm never ended');
    }
  }
});

test('a node that holds cells back shows by their delay', () => {
  const monitor = new LoopMonitor();
  const times = new Exponential(createSeededRandom('held'));
  for (let i = 0; i < 100; i++) monitor.note(loop(times), EXPECTED_MS);
  let verdict = monitor.note(5000, EXPECTED_MS);
  for (let i = 0; i < 8 && verdict.changed === undefined; i++) verdict = monitor.note(5000, EXPECTED_MS);
  assert.deepEqual(verdict, { changed: 'raised', alarm: 'delay' });
  for (let i = 0; i < 8; i++) verdict = monitor.note(loop(times), EXPECTED_MS);
  assert.equal(monitor.stats.alarm, undefined);
});
