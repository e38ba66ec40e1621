/**
 * Cover traffic as policy (docs/protocol.md §7): when a cover cell is due. Pure: whoever sends asks `dueMs`, says what was
 * sent, and sends what `take` grants. All processes are Poisson: exponential times between cells, whatever else happens.
 */
import type { TimeMs } from '../ports.ts';
import { DATAGRAM_BYTES } from '../wire/datagram.ts';
import type { Exponential } from './exponential.ts';

export interface CoverOptions {
  /**
   * `adaptive`: cover cells beside the real ones, so many that they are `ratio` of all. `constant`: every cell of a link
   * that we opened leaves at a time of one Poisson process; a real one if there is one, else a cover cell.
   */
  readonly mode: 'adaptive' | 'constant';
  /** Cells a second on each link: of cover at least (adaptive, the λ_base), or of all together (constant). */
  readonly cellsPerSecond: number;
  /** Share of cover among all cells that the adaptive mode aims at, 0…1. */
  readonly ratio: number;
  /** Cover cells a second that a client sends through its circuits to their last hops (drop cover), all together. */
  readonly dropCellsPerSecond: number;
  /** Most bytes of cover in an hour, all links together; in constant mode it bounds the rate of all cells. 0 = no limit. */
  readonly budgetBytesPerHour: number;
}

const SECOND_MS = 1000;
const HOUR_MS = 3_600_000;

/** Bytes of cover in an hour: a bucket that refills evenly and holds a tenth of an hour's worth. */
export class CoverBudget {
  readonly #bytesPerMs: number;
  readonly #capacityBytes: number;
  #bytes: number;
  #atMs: TimeMs;

  /** @param bytesPerHour 0 = no limit. */
  constructor(bytesPerHour: number, nowMs: TimeMs) {
    this.#bytesPerMs = bytesPerHour === 0 ? Number.POSITIVE_INFINITY : bytesPerHour / HOUR_MS;
    this.#capacityBytes = bytesPerHour === 0 ? Number.POSITIVE_INFINITY : Math.max(DATAGRAM_BYTES, bytesPerHour / 10);
    this.#bytes = this.#capacityBytes;
    this.#atMs = nowMs;
  }

  /** Takes a cell's bytes if they are there. */
  take(nowMs: TimeMs): boolean {
    if (this.#capacityBytes === Number.POSITIVE_INFINITY) return true;
    this.#bytes = Math.min(this.#capacityBytes, this.#bytes + (nowMs - this.#atMs) * this.#bytesPerMs);
    this.#atMs = nowMs;
    if (this.#bytes < DATAGRAM_BYTES) return false;
    this.#bytes -= DATAGRAM_BYTES;
    return true;
  }
}

/** A Poisson process whose rate may change: exponential times have no memory, so it is drawn anew from that moment on. */
export class PoissonProcess {
  readonly #times: Exponential;
  #perSecond = 0;
  /** When the next event is due; Infinity at rate 0. */
  nextMs: TimeMs = Number.POSITIVE_INFINITY;

  constructor(times: Exponential) {
    this.#times = times;
  }

  get perSecond(): number {
    return this.#perSecond;
  }

  setRate(perSecond: number, nowMs: TimeMs): void {
    if (perSecond === this.#perSecond) return;
    this.#perSecond = perSecond;
    this.nextMs = perSecond > 0 ? nowMs + this.#gapMs() : Number.POSITIVE_INFINITY;
  }

  /** Whether an event is due. Each is given once; the next is counted from when it was due, not from when it was asked for. */
  take(nowMs: TimeMs): boolean {
    if (nowMs < this.nextMs) return false;
    this.nextMs += this.#gapMs();
    return true;
  }

  /** What was missed stays missed: after a stall no burst makes up for it. */
  skipTo(nowMs: TimeMs): void {
    if (this.nextMs < nowMs) this.nextMs = nowMs + this.#gapMs();
  }

  #gapMs(): number {
    return this.#times.sample(SECOND_MS / this.#perSecond);
  }
}

/** Adjusts a link's rate of cover every second: λ = max(λ_base, util · r / (1 − r)). */
export class CoverController {
  readonly #process: PoissonProcess;
  readonly #baseRate: number;
  readonly #perReal: number;
  #adjustAtMs: TimeMs;
  #realBefore = 0;

  constructor(options: CoverOptions, process: PoissonProcess, realCells: number, nowMs: TimeMs) {
    this.#process = process;
    this.#baseRate = options.cellsPerSecond;
    this.#perReal = options.ratio / (1 - options.ratio);
    this.#adjustAtMs = nowMs + SECOND_MS;
    this.#realBefore = realCells;
    process.setRate(this.#baseRate, nowMs);
  }

  get nextMs(): TimeMs {
    return this.#adjustAtMs;
  }

  /** @param realCells sent in all that were no cover. */
  adjust(realCells: number, nowMs: TimeMs): void {
    if (nowMs < this.#adjustAtMs) return;
    const seconds = (nowMs - this.#adjustAtMs + SECOND_MS) / SECOND_MS;
    const util = (realCells - this.#realBefore) / seconds;
    this.#realBefore = realCells;
    this.#adjustAtMs = nowMs + SECOND_MS;
    this.#process.setRate(Math.max(this.#baseRate, util * this.#perReal), nowMs);
  }
}

/** Rate of a link in constant mode: as configured, as far as the budget reaches. */
export function constantRate(options: CoverOptions): number {
  if (options.budgetBytesPerHour === 0) return options.cellsPerSecond;
  return Math.min(options.cellsPerSecond, options.budgetBytesPerHour / (DATAGRAM_BYTES * (HOUR_MS / SECOND_MS)));
}
