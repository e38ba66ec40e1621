/**
 * Error correction of sessions over lossy networks in virtual time: what comes back, when, and what it costs. Loss is
 * random or in bursts (Gilbert–Elliott). `npm run sim:fec` prints the whole table.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FecBudget } from '@nyx/core/fec/budget.ts';
import type { FecPolicy } from '@nyx/core/fec/policy.ts';
import { RaptorQ } from '@nyx/core/fec/raptorq.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { FecTally } from '@nyx/core/fec/stats.ts';
import { loadRaptorQ } from '@nyx/daemon/io/raptorq.ts';
import { measureBulk, measureDatagrams, measureMessages, transferOverPaths } from './fec-sim.ts';

const codecs = [new ReedSolomon(), new RaptorQ(loadRaptorQ)];
const fec = (policy: FecPolicy) => ({ resources: { codecs, budget: new FecBudget(), tally: new FecTally() }, policy });

for (const rttMs of [20, 100, 300]) {
  test(`5 % loss, ${rttMs} ms: in 99 of 100 cases messages wait half as long at most`, () => {
    const condition = { rttMs, lossRatio: 0.05, burstMs: 0, seed: 1000 + rttMs };
    const off = measureMessages({ ...condition, fec: fec('off') });
    const adaptive = measureMessages({ ...condition, fec: fec('adaptive') });
    assert.ok(adaptive.p99Ms * 2 <= off.p99Ms, `p99 ${adaptive.p99Ms} ms against ${off.p99Ms} ms`);
  });

  test(`5 % loss, ${rttMs} ms: of a hundred datagrams not one is missed, and none is late`, () => {
    const condition = { rttMs, lossRatio: 0.05, burstMs: 0, seed: 2000 + rttMs };
    const off = measureDatagrams({ ...condition, fec: fec('off') });
    const adaptive = measureDatagrams({ ...condition, fec: fec('adaptive') });
    assert.ok(off.deliveredRatio < 0.97, `${off.deliveredRatio}`);
    assert.ok(adaptive.deliveredRatio > 0.995, `${adaptive.deliveredRatio}`);
    assert.ok(adaptive.p99Ms < rttMs / 2 + Math.max(10, rttMs / 5), `p99 ${adaptive.p99Ms} ms`);
  });

  test(`5 % of the time nothing gets through for 8 ms, ${rttMs} ms: the packets after a burst mend it`, () => {
    const condition = { rttMs, lossRatio: 0.05, burstMs: 8, seed: 4000 + rttMs };
    const off = measureDatagrams({ ...condition, fec: fec('off') });
    const adaptive = measureDatagrams({ ...condition, fec: fec('adaptive') });
    assert.ok(off.deliveredRatio < 0.97, `${off.deliveredRatio}`);
    assert.ok(adaptive.deliveredRatio > 0.99, `${adaptive.deliveredRatio}`);
    assert.ok(adaptive.p99Ms < rttMs / 2 + 100, `p99 ${adaptive.p99Ms} ms`);
  });
}

for (const rttMs of [20, 100]) {
  test(`5 % of the time nothing gets through for 8 ms, ${rttMs} ms: in 99 of 100 cases messages wait two thirds as long at most`, () => {
    const condition = { rttMs, lossRatio: 0.05, burstMs: 8, seed: 7 };
    const off = measureMessages({ ...condition, fec: fec('off') });
    const adaptive = measureMessages({ ...condition, fec: fec('adaptive') });
    assert.ok(adaptive.p99Ms * 1.5 <= off.p99Ms, `p99 ${adaptive.p99Ms} ms against ${off.p99Ms} ms`);
  });

  test(`without loss, ${rttMs} ms: adaptive costs a transfer nothing`, () => {
    const condition = { rttMs, lossRatio: 0, burstMs: 0, seed: 3000 + rttMs };
    const off = measureBulk({ ...condition, fec: fec('off') });
    const adaptive = measureBulk({ ...condition, fec: fec('adaptive') });
    assert.ok(adaptive.megabitsPerSecond > 0.97 * off.megabitsPerSecond);
    assert.equal(adaptive.repairsSent, 0);
  });
}

test('5 % loss: adaptive costs a transfer nothing that fills the path, a fixed ratio does', () => {
  const condition = { rttMs: 100, lossRatio: 0.05, burstMs: 0, seed: 5000 };
  const off = measureBulk({ ...condition, fec: fec('off') });
  const adaptive = measureBulk({ ...condition, fec: fec('adaptive') });
  const fixed = measureBulk({ ...condition, fec: fec({ ratio: 0.3 }) });
  assert.ok(adaptive.megabitsPerSecond > 0.97 * off.megabitsPerSecond);
  assert.ok(fixed.megabitsPerSecond < 0.9 * off.megabitsPerSecond && fixed.recovered > 100);
});

test('two paths, one of which loses a tenth: every byte arrives once, and repair symbols take either', () => {
  for (let seed = 1; seed <= 10; seed++) {
    const result = transferOverPaths(seed, fec({ ratio: 0.4 }));
    assert.ok(result.complete, `seed ${seed}`);
    assert.ok(result.recovered > 0, `seed ${seed}`);
    assert.ok(result.foreignRepairs > 0, `seed ${seed}: no repair symbol went over the other path`);
  }
});
