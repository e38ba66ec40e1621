/**
 * When authorities vote. It follows from the epoch and the clock alone, so nobody calls a vote and nobody can put it off.
 *
 * A round is made of phases of equal length: `faults + 1` in which votes spread (Dolev and Strong 1983: as many as it
 * takes for all honest authorities to hold the same votes, whoever lies), one to prepare, one to sign. Round 0 of an
 * epoch ends as the epoch begins; if it brings no view, round after round follows until the next epoch's round 0.
 */
import type { TimeMs, UnixSeconds } from '../ports.ts';
import type { AuthoritySet } from './view.ts';

const MAX_PHASE_MS = 30_000;
/** One authority waits for nobody. */
const SINGLE_PHASE_MS = 200;

export interface VotingSchedule {
  readonly epochSeconds: number;
  readonly phaseMs: number;
  /** Authorities that may be dead or lying: all but the threshold. */
  readonly faults: number;
}

export interface VotingSlot {
  readonly epoch: number;
  readonly round: number;
  /** Unix milliseconds, as all times here. */
  readonly startMs: TimeMs;
  /** From now on votes are counted. */
  readonly countMs: TimeMs;
  readonly endMs: TimeMs;
  /** When the view that comes of it begins. */
  readonly validAfter: UnixSeconds;
}

/** Throws RangeError when two rounds don't fit into an epoch. */
export function votingSchedule(
  authorities: AuthoritySet,
  epochSeconds: number,
  phaseMs: number = defaultPhaseMs(authorities, epochSeconds),
): VotingSchedule {
  const faults = authorities.keys.length - authorities.threshold;
  const schedule = { epochSeconds, phaseMs, faults };
  if (2 * roundMs(schedule) > epochSeconds * 1000) {
    throw new RangeError(
      `a voting round of ${faults + 3} phases of ${phaseMs} ms must fit twice into an epoch of ${epochSeconds} s`,
    );
  }
  return schedule;
}

/** A phase has to be longer than clocks differ plus the time to fetch a vote. */
export function defaultPhaseMs(authorities: AuthoritySet, epochSeconds: number): number {
  const { threshold, keys } = authorities;
  const quarter = Math.floor((epochSeconds * 1000) / (4 * (keys.length - threshold + 3)));
  return Math.min(keys.length === 1 ? SINGLE_PHASE_MS : MAX_PHASE_MS, quarter);
}

/** The slot that `nowMs` is in. Undefined in what is left before the next epoch's first round, too short for another. */
export function slotAt(schedule: VotingSchedule, nowMs: TimeMs): VotingSlot | undefined {
  const { epochSeconds, phaseMs, faults } = schedule;
  const epochMs = epochSeconds * 1000;
  const lengthMs = roundMs(schedule);
  const epoch = Math.floor((nowMs + lengthMs) / epochMs);
  const round = Math.floor((nowMs + lengthMs - epoch * epochMs) / lengthMs);
  const startMs = epoch * epochMs + (round - 1) * lengthMs;
  const endMs = startMs + lengthMs;
  if (endMs > (epoch + 1) * epochMs - lengthMs) return undefined;
  const countMs = startMs + (faults + 1) * phaseMs;
  return {
    epoch,
    round,
    startMs,
    countMs,
    endMs,
    validAfter: Math.max(epoch * epochSeconds, Math.floor(startMs / 1000)),
  };
}

/** When the next slot begins after `nowMs`. */
export function nextSlotMs(schedule: VotingSchedule, nowMs: TimeMs): TimeMs {
  const slot = slotAt(schedule, nowMs);
  if (slot !== undefined) return slot.endMs;
  const epochMs = schedule.epochSeconds * 1000;
  const lengthMs = roundMs(schedule);
  return (Math.floor((nowMs + lengthMs) / epochMs) + 1) * epochMs - lengthMs;
}

function roundMs({ phaseMs, faults }: VotingSchedule): number {
  return (faults + 3) * phaseMs;
}
