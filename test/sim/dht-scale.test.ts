/** The simulation of dht-scale/, small: what its figures must not fall behind. Deterministic (seed "test"). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { TABLE_REFRESH_MS } from '@nyx/daemon/p2p/contract.ts';
import { simulateDht } from './dht-scale/run.ts';
import { summarize } from './dht-scale/summary.ts';
import { spreadView } from './dht-scale/view-spread.ts';

test('120 nodes, a fifth of them leaving every hour: records are found, the view gets to all', async () => {
  const options = {
    nodes: 120,
    churnPerHour: 0.2,
    hours: 2,
    lookups: 80,
    refreshMinutes: TABLE_REFRESH_MS / 60_000,
    seed: 'test',
  };
  const report = await simulateDht(options, () => {});
  assert.doesNotMatch(summarize(report), /NaN|undefined|Infinity/);
  const last = report.hours.at(-1)!;
  assert.ok(last.found / last.asked > 0.95, `${last.found} of ${last.asked} found`);
  assert.ok(last.unanswered > 0, 'there is churn');
  assert.ok(last.taken / last.puts > 15, 'records are held by nearly twenty');
  assert.equal(report.spread.delta.without, 0);
  assert.ok(report.spread.delta.bytes < 0.6 * report.spread.whole.bytes);
  assert.ok(report.refused > 0, "another node's record under a key is refused");
  assert.ok(report.eclipse.every(({ forged }) => forged === 0));
  assert.equal(report.eclipse[0]!.found, 1);
  assert.ok(report.eclipse.at(-1)!.found < 0.5, 'a neighbourhood can be taken over');
});

test('who serves eight at a time spreads a view by generations, and nobody waits for ever', () => {
  const random = createSeededRandom('spread');
  const nodes = Array.from({ length: 100 }, (_, i) => ({
    bandwidth: 1e6,
    connections: Array.from({ length: 8 }, (_, n) => (i * 7 + n * 13 + 1) % 100),
  }));
  const { atMs } = spreadView({ bytes: 1e6, nodes, sources: [0], random });
  const times = atMs.toSorted((a, b) => a - b);
  assert.ok(times.at(-1)! < 120_000, `${times.at(-1)} ms`);
  assert.ok(times[20]! > 1000, 'a megabyte takes its time');
});
