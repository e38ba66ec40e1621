/**
 * Circuits that are set up for the same purpose at the same time: when the first path has not answered after a few
 * times what a set-up usually takes, another path is tried beside it. The first one that is ready wins, the others are
 * given up. Happy eyeballs (RFC 8305 §5) for circuits.
 */
import type { CircuitClass } from '@nyx/core/engine/contract.ts';
import type { PooledCircuit } from './pooled-circuit.ts';

/** Circuits of one race, the first included. */
export const MAX_ATTEMPTS = 6;
/** Waits grow, so that a slow network is not asked for ever more. */
const GROWTH = 1.5;
const FIRST_WAIT_MS = 1000;
const MIN_WAIT_MS = 300;
const MAX_WAIT_MS = 3000;
/** A set-up that takes so many times the usual is taken for lost. */
const USUAL_TIMES = 4;
const SMOOTHING = 0.25;

export class PathRace {
  readonly racers = new Set<PooledCircuit>();
  attempts = 1;
  over = false;
  cancelTimer: () => void = () => {};

  /** Nobody is waited for any more. */
  finish(): void {
    this.over = true;
    this.cancelTimer();
    for (const racer of this.racers) racer.race = undefined;
    this.racers.clear();
  }
}

/** How long set-ups take in this network, by class and number of hops. */
export class SetupTimes {
  /** Smoothed. At most one entry for each class and length there is. */
  readonly #usualMs = new Map<string, number>();

  note(circuitClass: CircuitClass, hops: number, setupMs: number): void {
    const key = `${circuitClass} ${hops}`;
    const before = this.#usualMs.get(key) ?? setupMs;
    this.#usualMs.set(key, before + SMOOTHING * (setupMs - before));
  }

  /** What the next attempt waits for the one before it. */
  waitMs(circuitClass: CircuitClass, hops: number, attempts: number): number {
    const usualMs = this.#usualMs.get(`${circuitClass} ${hops}`);
    const firstMs = usualMs === undefined ? FIRST_WAIT_MS : clamp(USUAL_TIMES * usualMs);
    return firstMs * GROWTH ** (attempts - 1);
  }

  /** A ready circuit with this round trip on which nothing comes back for this long after something was sent is quiet. */
  quietMs(rttMs: number | undefined): number {
    return rttMs === undefined ? FIRST_WAIT_MS : clamp(2 * USUAL_TIMES * rttMs);
  }
}

function clamp(ms: number): number {
  return Math.min(MAX_WAIT_MS, Math.max(MIN_WAIT_MS, ms));
}
