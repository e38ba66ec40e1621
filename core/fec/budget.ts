/**
 * How much of a core coding may take. A bucket of microseconds that fills with time: what a block will cost is known
 * beforehand (BlockCodec.costUs), so there is nothing to measure while packets wait. One for all sessions of an engine.
 */
import type { TimeMs } from '../ports.ts';

/** A tenth of a core. */
const DEFAULT_US_PER_MS = 100;
/** So long may a run of blocks keep a flush waiting. */
const BURST_US = 4000;

export class FecBudget {
  #usPerMs: number;
  #leftUs = BURST_US;
  #atMs: TimeMs | undefined;

  constructor(usPerMs = DEFAULT_US_PER_MS) {
    this.#usPerMs = usPerMs;
  }

  /** From now on; what has been earned stays. */
  setRate(usPerMs: number): void {
    this.#usPerMs = usPerMs;
  }

  /** Takes so much, or says that there is none left. */
  take(costUs: number, nowMs: TimeMs): boolean {
    this.#atMs ??= nowMs;
    if (nowMs > this.#atMs) {
      this.#leftUs = Math.min(BURST_US, this.#leftUs + (nowMs - this.#atMs) * this.#usPerMs);
      this.#atMs = nowMs;
    }
    if (costUs > this.#leftUs) return false;
    this.#leftUs -= costUs;
    return true;
  }
}
