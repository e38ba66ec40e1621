/** What error correction did, summed over the paths of a session. */
import type { FecPolicy } from './policy.ts';

export interface FecCounters {
  /** Packets that were put into blocks, and repair symbols that left for them. */
  sourcesSent: number;
  repairsSent: number;
  /** Made, but there was no room on the path in time. */
  repairsExpired: number;
  /** Blocks that got no repair because the budget was used up. */
  blocksSkipped: number;
  /** Packets of ours that the peer has got back. */
  recoveredByPeer: number;
  repairsReceived: number;
  /** Of those: put to use; of blocks that had lost nothing, or no more than others could mend; of blocks that were given up. */
  repairsUsed: number;
  repairsUnneeded: number;
  repairsWasted: number;
  /** Symbols that fit nothing or came in a flood. */
  repairsRejected: number;
  /** Packets of the peer that came back. */
  packetsRecovered: number;
  blocksDecoded: number;
  decodeFailures: number;
  /** Blocks that could have been decoded, but not within the budget. */
  overBudget: number;
}

export interface FecStats extends FecCounters {
  readonly policy: FecPolicy;
  /** Codes that both sides have, by their names in CAPS. */
  readonly codecs: readonly string[];
  /** Repair symbols for each protected packet at the moment; of the path with most. */
  readonly ratio: number;
}

export function emptyFecStats(): FecCounters {
  return {
    sourcesSent: 0,
    repairsSent: 0,
    repairsExpired: 0,
    blocksSkipped: 0,
    recoveredByPeer: 0,
    repairsReceived: 0,
    repairsUsed: 0,
    repairsUnneeded: 0,
    repairsWasted: 0,
    repairsRejected: 0,
    packetsRecovered: 0,
    blocksDecoded: 0,
    decodeFailures: 0,
    overBudget: 0,
  };
}

/** Counts for a path, and for all paths of the engine at the same time. */
export class FecTally {
  readonly counts = emptyFecStats();
  readonly #all: FecTally | undefined;

  constructor(all?: FecTally) {
    this.#all = all;
  }

  add(what: keyof FecCounters, count = 1): void {
    this.counts[what] += count;
    this.#all?.add(what, count);
  }
}

export function addFecStats(sum: FecCounters, more: FecCounters): void {
  for (const name of Object.keys(sum) as (keyof FecCounters)[]) sum[name] += more[name];
}
