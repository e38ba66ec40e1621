/** Which of a session's paths carries what there is to send. Asked by each path in turn: "is it for me, now?" */
import type { TimeMs } from '../ports.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import { PathState, type SessionPath } from './session-path.ts';

/** What the quickest path may run ahead of a hole that the slower one has yet to fill: far less than a stream's window. */
const MAX_AHEAD_BYTES = 1024 * 1024;

export const Scheduler = {
  /** The quickest path that has room; a slower one only for what would otherwise arrive later still. The default. */
  latencyWeighted: 'latency_weighted',
  /** The quickest path alone, as long as it lives. */
  lowestLatency: 'lowest_latency',
  /** Whichever has room: each carries what its congestion window lets through. */
  loadBalance: 'load_balance',
  /** As load_balance, and stream data goes out again on another path: half the rate, no wait for one that dies. */
  redundant: 'redundant',
} as const;
export type Scheduler = (typeof Scheduler)[keyof typeof Scheduler];

/** In the order of their codes on the wire (SETTINGS 0x0006). */
export const schedulers: readonly Scheduler[] = [
  Scheduler.latencyWeighted,
  Scheduler.lowestLatency,
  Scheduler.loadBalance,
  Scheduler.redundant,
];

/**
 * Whether `path` should carry the session's next payload. It may have no room itself: that is the caller's to see.
 * `queuedBytes` is asked only where it matters.
 */
export function choosesPath(
  path: SessionPath,
  paths: readonly SessionPath[],
  scheduler: Scheduler,
  nowMs: TimeMs,
  queuedBytes: () => number,
): boolean {
  if (path.state === PathState.attaching) return false;
  const quickest = quickestUsable(paths);
  // Nobody is usable: whoever still probes may carry it along.
  if (quickest === undefined) return true;
  if (path.state !== PathState.usable) return false;
  if (path === quickest) return true;
  if (scheduler === Scheduler.lowestLatency) return false;
  if (scheduler === Scheduler.loadBalance || scheduler === Scheduler.redundant) return true;
  const own = path.recovery.rtt.expectedMs;
  for (const other of paths) {
    if (
      other !== path &&
      other.state === PathState.usable &&
      other.recovery.rtt.expectedMs < own &&
      other.maySend(nowMs)
    )
      return false;
  }
  return arrivesNoLater(path, quickest, queuedBytes());
}

/**
 * The one that is to send again what `path` has sent: which has the least of that to do, the quickest of those. Undefined:
 * there is no other.
 */
export function pathForCopy(path: SessionPath, paths: readonly SessionPath[]): SessionPath | undefined {
  let best: SessionPath | undefined;
  let fewest = Number.POSITIVE_INFINITY;
  for (const other of paths) {
    if (other === path || other.state !== PathState.usable) continue;
    const waiting = other.copies === undefined ? 0 : other.copies.count;
    if (waiting > fewest) continue;
    if (waiting === fewest && other.recovery.rtt.expectedMs >= best!.recovery.rtt.expectedMs) continue;
    best = other;
    fewest = waiting;
  }
  return best;
}

function quickestUsable(paths: readonly SessionPath[]): SessionPath | undefined {
  let quickest: SessionPath | undefined;
  for (const path of paths) {
    if (path.state !== PathState.usable) continue;
    if (quickest === undefined || path.recovery.rtt.expectedMs < quickest.recovery.rtt.expectedMs) quickest = path;
  }
  return quickest;
}

/**
 * The quickest path is full. The end of the queue arrives over it when the queue is through and one way is gone; if the
 * slower path may take longer than that, using it would hold up everything behind (earliest completion first, Lim et
 * al., CoNEXT 2017). Counted against the slower path: a loss on it, repaired a round trip later.
 */
function arrivesNoLater(path: SessionPath, quickest: SessionPath, queuedBytes: number): boolean {
  const { congestion, rtt } = quickest.recovery;
  const packets = Math.max(1, Math.min(queuedBytes, MAX_AHEAD_BYTES) / PAYLOAD_BYTES);
  const throughMs = congestion.deliveryRate > 0 ? packets / congestion.deliveryRate : rtt.expectedMs;
  const slow = path.recovery.rtt;
  return 1.5 * slow.expectedMs + 2 * slow.variationMs <= rtt.expectedMs / 2 + throughMs;
}
