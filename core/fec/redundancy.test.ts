import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LossProcess } from './loss-process.ts';
import { failureProbability, repairsFor } from './redundancy.ts';

/** Every sequence of losses of a short block, weighed by the chain. */
function bruteForce(k: number, repairs: number, ratio: number, burst: number): number {
  const n = k + repairs;
  const end = Math.min(1 / burst, 1 - ratio);
  const begin = (end * ratio) / (1 - ratio);
  let failed = 0;
  for (let pattern = 0; pattern < 1 << n; pattern++) {
    let probability = 0;
    for (const startsLost of [false, true]) {
      let part = startsLost ? ratio : 1 - ratio;
      let wasLost = startsLost;
      for (let i = 0; i < n; i++) {
        const lost = ((pattern >>> i) & 1) === 1;
        if (wasLost) part *= lost ? 1 - end : end;
        else part *= lost ? begin : 1 - begin;
        wasLost = lost;
      }
      probability += part;
    }
    let losses = 0;
    for (let rest = pattern; rest !== 0; rest &= rest - 1) losses++;
    if (losses > repairs) failed += probability;
  }
  return failed;
}

test('the probability that a block fails is the sum over all sequences of losses', () => {
  for (const [k, repairs, ratio, burst] of [
    [1, 1, 0.05, 1],
    [4, 2, 0.1, 1],
    [6, 3, 0.05, 3],
    [8, 4, 0.2, 5],
  ] as const) {
    const expected = bruteForce(k, repairs, ratio, burst);
    assert.ok(Math.abs(failureProbability(k, repairs, ratio, burst) - expected) < 1e-12, `${k}+${repairs}`);
  }
});

test('repairs rise with loss and with its burstiness, keep the target, and stay within the bound', () => {
  assert.equal(repairsFor(32, 0, 1, 0.002, 16), 0);
  let before = 0;
  for (const ratio of [0.01, 0.02, 0.05, 0.1]) {
    const repairs = repairsFor(32, ratio, 1, 0.002, 64);
    assert.ok(repairs >= before && repairs > 0);
    assert.ok(failureProbability(32, repairs, ratio, 1) <= 0.002);
    assert.ok(failureProbability(32, repairs - 1, ratio, 1) > 0.002, `${repairs} at ${ratio} are more than needed`);
    before = repairs;
  }
  assert.ok(repairsFor(32, 0.05, 4, 0.002, 64) > repairsFor(32, 0.05, 1, 0.002, 64));
  assert.equal(repairsFor(32, 0.5, 1, 0.002, 16), 16);
});

test('the loss process is measured from packets in their order', () => {
  const loss = new LossProcess();
  for (let i = 0; i < 50; i++) {
    loss.onArrived(36);
    for (let j = 0; j < 4; j++) loss.onLost(i);
  }
  assert.ok(Math.abs(loss.ratio(50) - 0.1) < 0.01);
  assert.ok(Math.abs(loss.meanBurst - 4) < 0.3);
  assert.equal(loss.ratio(60_000), 0, 'long ago');
  const few = new LossProcess();
  few.onArrived(10_000);
  few.onLost(51);
  assert.equal(few.ratio(51), 0, 'one loss in ten thousand is none');
});

test('losses that turn out to have been late are taken back', () => {
  const loss = new LossProcess();
  for (let i = 0; i < 10; i++) {
    loss.onArrived(20);
    loss.onLost(i);
    loss.onSpurious();
  }
  assert.equal(loss.ratio(10), 0);
});
