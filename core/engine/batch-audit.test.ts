import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { AuditHop, Auditor, AuditTrail, CellLayers, settledMs } from './batch-audit.ts';
import { Travel } from './circuit.ts';

const suite = createNobleSuite();
const HOUR_MS = 3_600_000;

/** Cells one after the other on a circuit, and a poll each second, for so long: how old the cells were that were asked about. */
function askedAges(seed: string, rttMs: number, gapMs: number, forMs: number): number[] {
  const random = createSeededRandom(seed);
  const trail = new AuditTrail(random);
  const auditor = new Auditor(random, trail, [AuditHop.last]);
  const ages: number[] = [];
  const layers = new CellLayers(suite, []).begin();
  let polledMs = 0;
  for (let nowMs = 0, index = 0; nowMs < forMs; nowMs += gapMs, index++) {
    trail.note(Travel.forward, index, layers, rttMs, nowMs);
    if (nowMs - polledMs < 1000) continue;
    polledMs = nowMs;
    const asked = auditor.poll(rttMs, nowMs);
    if (asked === undefined) continue;
    ages.push(nowMs - asked.atMs);
    // No answer, long after: the next question may come.
    auditor.expire(0, nowMs + HOUR_MS);
  }
  return ages;
}

describe('cells are asked about', () => {
  for (const [what, rttMs, gapMs] of [
    ['on a quick circuit that carries much', 600, 7],
    ['on a slow one that carries much', 20_000, 10],
    ['on one that carries little', 3000, 900],
  ] as const) {
    test(`when their batches can have been proved, and while they are remembered: ${what}`, () => {
      const settled = settledMs(rttMs);
      const ages = askedAges(`audit ${rttMs}`, rttMs, gapMs, 20 * settled + 60_000);
      assert.ok(ages.length >= 5, `${ages.length} questions`);
      assert.ok(Math.min(...ages) >= Math.max(4000, 2 * rttMs), `${ages}`);
      // Drawn from some seconds, not always the oldest.
      assert.ok(Math.max(...ages) <= Math.max(12 * settled, 64 * gapMs), `${ages}`);
      assert.ok(new Set(ages).size > 2, `${ages}`);
    });
  }

  test('not before there is one that is old enough', () => {
    assert.deepEqual(askedAges('young', 20_000, 100, 39_000), []);
  });
});
