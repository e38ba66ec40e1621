/**
 * What error correction brings, by loss, bursts and round trip time: `npm run sim:fec [-- --json]`. Messages and datagrams
 * of an application every 20 ms, and a transfer that fills the path, each with correction off, adaptive and at a ratio.
 */
import { FecBudget } from '@nyx/core/fec/budget.ts';
import type { FecPolicy } from '@nyx/core/fec/policy.ts';
import { RaptorQ } from '@nyx/core/fec/raptorq.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { FecTally } from '@nyx/core/fec/stats.ts';
import { loadRaptorQ } from '@nyx/daemon/io/raptorq.ts';
import { measureBulk, measureDatagrams, measureMessages } from './fec-sim.ts';

const json = process.argv.includes('--json');
const codecs = [new ReedSolomon(), new RaptorQ(loadRaptorQ)];
const policies: Record<string, FecPolicy> = { off: 'off', on: { ratio: 0.3 }, adaptive: 'adaptive' };
const rows = [];
for (const rttMs of [20, 50, 100, 300]) {
  for (const burstMs of [0, 8]) {
    for (const lossRatio of [0, 0.01, 0.05, 0.1, 0.2]) {
      if (lossRatio === 0 && burstMs > 0) continue;
      for (const [name, policy] of Object.entries(policies)) {
        const condition = () => ({
          rttMs,
          lossRatio,
          burstMs,
          seed: 7,
          fec: { resources: { codecs, budget: new FecBudget(), tally: new FecTally() }, policy },
        });
        const messages = measureMessages(condition());
        const datagrams = measureDatagrams(condition());
        const bulk = measureBulk(condition());
        rows.push({ rttMs, burstMs, lossRatio, fec: name, messages, datagrams, bulk });
      }
    }
  }
}
if (json) {
  process.stdout.write(`${JSON.stringify(rows)}\n`);
} else {
  const ms = (value: number) => (value === Number.POSITIVE_INFINITY ? 'never' : value.toFixed(0));
  console.log('RTT ms  burst ms  loss %  fec       messages p50 / p99 ms   datagrams arrived %, p50 / p99 ms   Mbit/s');
  for (const { rttMs, burstMs, lossRatio, fec, messages, datagrams, bulk } of rows) {
    const cells = [
      String(rttMs).padStart(6),
      String(burstMs).padStart(8),
      String(lossRatio * 100).padStart(6),
      fec.padEnd(8),
      `${ms(messages.p50Ms)} / ${ms(messages.p99Ms)}`.padStart(21),
      `${(datagrams.deliveredRatio * 100).toFixed(2)}, ${ms(datagrams.p50Ms)} / ${ms(datagrams.p99Ms)}`.padStart(33),
      bulk.megabitsPerSecond.toFixed(1).padStart(7),
    ];
    console.log(cells.join('  '));
  }
}
