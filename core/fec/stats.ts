/** What error correction did, summed over the paths of a session. */
import type { PathFec } from './path-fec.ts';
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

export function addFecStats(sum: FecCounters, { sender, receiver }: PathFec): void {
  sum.sourcesSent += sender.sourcesSent;
  sum.repairsSent += sender.repairsSent;
  sum.repairsExpired += sender.repairsExpired;
  sum.blocksSkipped += sender.blocksSkipped;
  sum.recoveredByPeer += sender.recoveredByPeer;
  sum.repairsReceived += receiver.repairsReceived;
  sum.repairsUsed += receiver.repairsUsed;
  sum.repairsUnneeded += receiver.repairsUnneeded;
  sum.repairsWasted += receiver.repairsWasted;
  sum.repairsRejected += receiver.rejected;
  sum.packetsRecovered += receiver.packetsRecovered;
  sum.blocksDecoded += receiver.blocksDecoded;
  sum.decodeFailures += receiver.decodeFailures;
  sum.overBudget += receiver.overBudget;
}
