/**
 * How fast a measurement may send: slowly at first, twice as fast whenever all of it came through without a queue, up to
 * near what is known of the line; from there, or once it was too much, by a tenth, and by more each time that this is taken. It
 * is never more than twice what came through in the round trip before. Pure: time is an argument, and all it knows are the counts it is told.
 */
import type { TimeMs } from '../ports.ts';

/** Cells that may go at once: those of so long. Looks at the clock are some milliseconds apart. */
const BURST_MS = 10;
const MIN_BURST_CELLS = 2;
/** What comes through is counted over so long, and over so many cells. */
const MIN_WINDOW_MS = 15;
const WINDOW_CELLS = 10;
/** After so many round trips the effect of a rate is there. */
const SETTLED_ROUND_TRIPS = 1.1;
/** A queue: the smoothed round trip is longer than the shortest one by so much and such a share of it. */
const QUEUE_MS = 8;
const QUEUE_SHARE = 0.1;
/** Of a window, lost: more than paths lose by chance. */
const LOSS = 0.1;
const LOSS_CELLS = 3;
/** Of what was sent a round trip before, come through: the line is not full. */
const TAKEN = 0.85;
const QUICK_GROWTH = 2;
/** Near a limit growth begins with so much, and with more each time that it was no limit. */
const FELT_GROWTH = 0.1;
const FELT_MORE = 1.5;
/** Of what is known of the line; beyond it is only felt for. */
const KNOWN_SHARE = 0.6;
/** Of what comes through a full line: a bit less lets its queue drain. */
const DRAIN = 0.9;

/** Sums since the beginning, and what the round trip is now. */
export interface Progress {
  readonly sent: number;
  readonly acknowledged: number;
  readonly lost: number;
  /** Undefined: not known yet. */
  readonly smoothedRttMs: number | undefined;
}

interface Mark extends Progress {
  readonly atMs: TimeMs;
}

export interface RampRates {
  /** To begin with, in cells per millisecond; it never becomes slower than that. */
  readonly firstPerMs: number;
  /** What was measured before; undefined: nothing is known. */
  readonly knownPerMs: number | undefined;
}

export class SendRamp {
  readonly #firstPerMs: number;
  #cellsPerMs: number;
  /** Above this, growth is slow. */
  #quickBelow: number;
  #felt = FELT_GROWTH;
  #tokens = MIN_BURST_CELLS;
  #filledMs: TimeMs;
  /** Since when the rate is what it is, and whether it was lowered then: what is seen first comes from before. */
  #changedMs: TimeMs;
  #isLowered = false;
  #shortestMs = Number.POSITIVE_INFINITY;
  /** Of the last windows, oldest first. */
  readonly #marks: Mark[] = [];

  constructor({ firstPerMs, knownPerMs }: RampRates, nowMs: TimeMs) {
    this.#firstPerMs = firstPerMs;
    this.#cellsPerMs = firstPerMs;
    this.#quickBelow = knownPerMs === undefined ? Number.POSITIVE_INFINITY : KNOWN_SHARE * knownPerMs;
    this.#filledMs = nowMs;
    this.#changedMs = nowMs;
  }

  get cellsPerMs(): number {
    return this.#cellsPerMs;
  }

  /** Most cells that may wait to be sent. */
  get burstCells(): number {
    return Math.max(MIN_BURST_CELLS, this.#cellsPerMs * BURST_MS);
  }

  /** Whether another cell may go now; if so it is counted as gone. */
  take(nowMs: TimeMs): boolean {
    this.#tokens = Math.min(this.burstCells, this.#tokens + (nowMs - this.#filledMs) * this.#cellsPerMs);
    this.#filledMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  /** Looks at what came of the rate; call every few milliseconds. */
  observe(nowMs: TimeMs, progress: Progress): void {
    const { smoothedRttMs } = progress;
    this.#marks.push({ ...progress, atMs: nowMs });
    if (smoothedRttMs === undefined) return;
    this.#shortestMs = Math.min(this.#shortestMs, smoothedRttMs);
    const windowMs = Math.max(MIN_WINDOW_MS, WINDOW_CELLS / this.#cellsPerMs);
    while (this.#marks.length > 2 && this.#marks[1]!.atMs <= nowMs - smoothedRttMs - windowMs) this.#marks.shift();
    const before = this.#at(nowMs - windowMs);
    const through = progress.acknowledged - before.acknowledged;
    const lost = progress.lost - before.lost;
    const isLossy = lost >= LOSS_CELLS && lost > LOSS * (through + lost);
    const isQueued = smoothedRttMs - this.#shortestMs > QUEUE_MS + QUEUE_SHARE * this.#shortestMs;
    const isSettled = nowMs - this.#changedMs >= SETTLED_ROUND_TRIPS * smoothedRttMs + windowMs;
    if (!isSettled && (this.#isLowered || !(isLossy || isQueued))) return;
    const offered = this.#at(nowMs - smoothedRttMs).sent - this.#at(nowMs - smoothedRttMs - windowMs).sent;
    const throughPerMs = through / Math.max(1, nowMs - before.atMs);
    if (isLossy || isQueued || through + 1 < TAKEN * offered) {
      this.#felt = FELT_GROWTH;
      this.#quickBelow = Math.min(this.#quickBelow, this.#cellsPerMs / 2);
      this.#change(Math.max(this.#cellsPerMs / 2, Math.min(this.#cellsPerMs, DRAIN * throughPerMs)), nowMs);
      return;
    }
    let growth: number = QUICK_GROWTH;
    if (this.#cellsPerMs >= this.#quickBelow) {
      growth = 1 + this.#felt;
      this.#felt = Math.min(QUICK_GROWTH - 1, FELT_MORE * this.#felt);
    }
    this.#change(Math.min(growth * this.#cellsPerMs, QUICK_GROWTH * throughPerMs), nowMs);
  }

  /** The last mark until then, or the first there is. */
  #at(atMs: TimeMs): Mark {
    return this.#marks.findLast((mark) => mark.atMs <= atMs) ?? this.#marks[0]!;
  }

  #change(cellsPerMs: number, nowMs: TimeMs): void {
    const next = Math.max(this.#firstPerMs, cellsPerMs);
    this.#isLowered = next < this.#cellsPerMs;
    this.#cellsPerMs = next;
    this.#changedMs = nowMs;
  }
}
