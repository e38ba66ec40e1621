/**
 * Circuits that are set up for the same purpose at the same time: when the first path has not answered after a few
 * times what a set-up usually takes, another path is tried beside it, and at once when one has failed. The first one that
 * is ready wins, the others are given up. Happy eyeballs (RFC 8305 §5) for circuits. As long as somebody waits, the race
 * goes on for its time, whatever became of those that are in it.
 */
import type { CircuitClass } from '@nyx/core/engine/contract.ts';
import type { TimeMs } from '@nyx/core/ports.ts';
import type { CircuitRequest } from './circuit-pool.ts';
import { DialError, DialErrorCode } from './contract.ts';
import type { PathWish, PooledCircuit } from './pooled-circuit.ts';

/** No further path is tried after this; what is under way then may still come. A dial's default time-out is 30 s. */
export const RACE_MS = 15_000;
/** Circuits of one race, the first included. */
export const MAX_ATTEMPTS = 24;
/** The same when nobody waits: for one built ahead, or after whoever wanted it has gone. */
export const MAX_IDLE_ATTEMPTS = 6;
/** One that failed at once (a first hop that refuses) is not followed by the next sooner than this after it began, and later each time. */
const MIN_GAP_MS = 100;
/** After a few attempts waits grow, so that a slow network is not asked for ever more. */
const GROWTH = 1.2;
const EVEN_ATTEMPTS = 6;
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
  /** Whose its circuits are (circuit-pool.ts), and how they want them: of one built ahead, that changes. */
  key: string;
  wish: PathWish;
  startedMs: TimeMs;
  readonly racers = new Set<PooledCircuit>();
  attempts = 1;
  /** When the last one began. */
  lastMs: TimeMs;
  over = false;
  /** Of the last one that failed. */
  failure: DialError | undefined;
  cancelTimer: () => void = () => {};
  /** Between two racers: whoever asks for a circuit gets the next one. */
  #next: PromiseWithResolvers<PooledCircuit> | undefined;

  constructor(request: CircuitRequest, key: string, nowMs: TimeMs) {
    this.request = request;
    this.key = key;
    this.wish = request.wish;
    this.startedMs = nowMs;
    this.lastMs = nowMs;
  }

  /** Whether somebody uses one of its circuits, or waits for the next. */
  get wanted(): boolean {
    if (this.#next !== undefined) return true;
    for (const { users } of this.racers) if (users.size > 0) return true;
    return false;
  }

  /** Its time begins anew with whoever takes it over. */
  handTo(key: string, wish: PathWish, nowMs: TimeMs): void {
    this.key = key;
    this.wish = wish;
    this.startedMs = nowMs;
    this.attempts = 1;
  }

  isLate(nowMs: TimeMs): boolean {
    return nowMs - this.startedMs >= RACE_MS;
  }

  mayTry(nowMs: TimeMs): boolean {
    if (this.over || this.isLate(nowMs)) return false;
    return this.attempts < (this.wanted ? MAX_ATTEMPTS : MAX_IDLE_ATTEMPTS);
  }

  /** How long the next one waits although one has failed. */
  gapMs(nowMs: TimeMs): number {
    return Math.max(0, this.lastMs + MIN_GAP_MS * GROWTH ** this.attempts - nowMs);
  }

  add(racer: PooledCircuit): void {
    racer.race = this;
    this.racers.add(racer);
    this.#next?.resolve(racer);
    this.#next = undefined;
  }

  /** The next racer. Rejects with DialError when there is none in time. */
  next(): Promise<PooledCircuit> {
    this.#next ??= Promise.withResolvers();
    return this.#next.promise;
  }

  /** Nobody is waited for any more. */
  finish(error?: DialError): void {
    this.over = true;
    this.cancelTimer();
    for (const racer of this.racers) racer.race = undefined;
    this.racers.clear();
    this.#next?.reject(error ?? new DialError(DialErrorCode.pathFailed, 'no circuit came up in time'));
    this.#next = undefined;
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

  /** What the next attempt of a race waits for the one before it. */
  waitMs(circuitClass: CircuitClass, hops: number, attempts: number): number {
    return this.growingWaitMs(circuitClass, hops, Math.max(1, attempts - EVEN_ATTEMPTS + 1));
  }

  /** The same where few attempts have to do for a long time. */
  growingWaitMs(circuitClass: CircuitClass, hops: number, attempts: number): number {
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
