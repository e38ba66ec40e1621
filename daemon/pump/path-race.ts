/**
 * Circuits that are set up for the same purpose at the same time: when the first path has not answered after a few
 * times what a set-up usually takes, another path is tried beside it. The first one that is ready wins, the others are
 * given up. Happy eyeballs (RFC 8305 §5) for circuits.
 */
import type { CircuitClass } from '@nyx/core/engine/contract.ts';
import type { CircuitRequest } from './circuit-pool.ts';
import type { PooledCircuit } from './pooled-circuit.ts';

/** Circuits of one race, the first included. */
export const MAX_ATTEMPTS = 6;
/** Waits grow, so that a slow network is not asked for ever more. */
const GROWTH = 1.2;
const FIRST_WAIT_MS = 800;
export const MIN_WAIT_MS = 300;
/** As long as that is far above what is usual. */
const MAX_WAIT_MS = 800;
/** What takes so many times the usual is taken for lost, … */
const USUAL_TIMES = 4;
/** … but never less than so many. */
const LEAST_TIMES = 1.5;
/** Slow ones (a machine that has just started, a first link) say less about the network than fast ones. */
const SMOOTHING_UP = 0.25;
const SMOOTHING_DOWN = 0.5;

export class PathRace {
  readonly request: CircuitRequest;
  readonly racers = new Set<PooledCircuit>();
  attempts = 1;
  over = false;
  cancelTimer: () => void = () => {};

  constructor(request: CircuitRequest) {
    this.request = request;
  }

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
    this.#usualMs.set(key, before + (setupMs < before ? SMOOTHING_DOWN : SMOOTHING_UP) * (setupMs - before));
  }

  /** What the next attempt waits for the one before it. */
  waitMs(circuitClass: CircuitClass, hops: number, attempts: number): number {
    const usualMs = this.#usualMs.get(`${circuitClass} ${hops}`);
    const firstMs = usualMs === undefined ? FIRST_WAIT_MS : patienceMs(usualMs);
    return firstMs * GROWTH ** (attempts - 1);
  }

  /** A ready circuit with this round trip on which nothing comes back for this long after something was sent is quiet. */
  quietMs(rttMs: number | undefined): number {
    return rttMs === undefined ? FIRST_WAIT_MS : patienceMs(rttMs);
  }
}

function patienceMs(usualMs: number): number {
  return Math.max(Math.min(MAX_WAIT_MS, Math.max(MIN_WAIT_MS, USUAL_TIMES * usualMs)), LEAST_TIMES * usualMs);
}
