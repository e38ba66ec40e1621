/**
 * How far a stream may run ahead of the oldest byte that is not acknowledged, where a session has several paths. That is
 * what the other end may have to hold until it is in order: what may be under way on all paths together, and what they
 * deliver while one waits for the slowest, which takes the difference of round trip times and twice the jitter, and for what
 * the paths lose, and lose again.
 */
import type { TimeMs } from '../ports.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import { PathState, type SessionPath } from './session-path.ts';

/** Below it nothing is gained: a receiver's first windows are of this size together. */
export const MIN_REORDER_BYTES = 256 * 1024;
/** A receiver's window for one stream, as large as it gets by default. */
export const MAX_REORDER_BYTES = 4 * 1024 * 1024;

/** Until a loss is noticed and its repetition has arrived, in round trips. */
const REPAIR_RTTS = 1.25;
/** Packets of a round trip that may still be missing when it is taken that all have come. */
const LEFT_PACKETS = 0.1;

/** Infinity while one path alone carries data: its congestion window bounds it. */
export function reorderLimitBytes(paths: readonly SessionPath[], nowMs: TimeMs): number {
  let usable = 0;
  let windowPackets = 0;
  let packetsPerMs = 0;
  let shortestMs = Number.POSITIVE_INFINITY;
  let longestMs = 0;
  let jitterMs = 0;
  let rounds = 1;
  for (const path of paths) {
    if (path.state !== PathState.usable) continue;
    const { rtt, congestion, loss } = path.recovery;
    usable++;
    windowPackets += congestion.windowPackets;
    packetsPerMs += congestion.deliveryRate;
    shortestMs = Math.min(shortestMs, rtt.expectedMs);
    longestMs = Math.max(longestMs, rtt.expectedMs);
    jitterMs = Math.max(jitterMs, rtt.variationMs);
    rounds = Math.max(rounds, repairRounds(loss.ratio(nowMs), congestion.deliveryRate * rtt.expectedMs));
  }
  if (usable < 2) return Number.POSITIVE_INFINITY;
  // What was lost on the slowest goes again on the quickest.
  const repairMs = REPAIR_RTTS * (longestMs + (rounds - 1) * shortestMs);
  const packets = windowPackets + packetsPerMs * (longestMs - shortestMs + 2 * jitterMs + repairMs);
  return Math.min(MAX_REORDER_BYTES, Math.max(MIN_REORDER_BYTES, packets * PAYLOAD_BYTES));
}

/** How often in a row one of so many packets is lost, at most, on a path that loses this share. */
function repairRounds(lossRatio: number, packets: number): number {
  if (lossRatio <= 0 || packets <= 0) return 1;
  return Math.max(1, Math.log(LEFT_PACKETS / Math.max(1, packets)) / Math.log(Math.min(lossRatio, 0.5)));
}
