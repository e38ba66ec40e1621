/** What a worker's sessions correct errors with, and the figures of it. */
import { FecBudget } from '@nyx/core/fec/budget.ts';
import type { FecResources } from '@nyx/core/fec/policy.ts';
import { RaptorQ } from '@nyx/core/fec/raptorq.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { emptyFecStats, FecTally } from '@nyx/core/fec/stats.ts';
import { loadRaptorQ } from '../io/raptorq.ts';
import type { FecOptions, PumpStats } from './contract.ts';

const US_PER_MS = 1000;

/**
 * Undefined: this worker does not take part. `present`: what it had until now; sessions that have it go on with it, under the new share.
 */
export function fecResources({ cpuShare }: FecOptions, present?: FecResources): FecResources | undefined {
  present?.budget.setRate(cpuShare * US_PER_MS);
  if (cpuShare === 0) return undefined;
  return (
    present ?? {
      codecs: [new ReedSolomon(), new RaptorQ(loadRaptorQ)],
      budget: new FecBudget(cpuShare * US_PER_MS),
      tally: new FecTally(),
    }
  );
}

type FecFigures = Pick<PumpStats, Extract<keyof PumpStats, `fec${string}`>>;

export function fecFigures(resources: FecResources | undefined): FecFigures {
  const counts = resources?.tally.counts ?? emptyFecStats();
  return {
    fecSourcesSent: counts.sourcesSent,
    fecRepairsSent: counts.repairsSent,
    fecRepairsReceived: counts.repairsReceived,
    fecRepairsUsed: counts.repairsUsed,
    fecRepairsWasted: counts.repairsUnneeded + counts.repairsWasted,
    fecRepairsRejected: counts.repairsRejected,
    fecPacketsRecovered: counts.packetsRecovered,
    fecRecoveredByPeer: counts.recoveredByPeer,
    fecOverBudget: counts.blocksSkipped + counts.overBudget,
  };
}
