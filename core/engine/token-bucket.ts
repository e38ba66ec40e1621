import type { TimeMs } from '../ports.ts';

/** So many a second, and as many again at once. */
export class TokenBucket {
  #perSecond: number;
  #tokens: number;
  #refilledMs: TimeMs;

  constructor(perSecond: number, nowMs: TimeMs) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
    this.#refilledMs = nowMs;
  }

  /** From now on; what is there stays, up to the new burst. */
  setRate(perSecond: number): void {
    this.#perSecond = perSecond;
  }

  has(nowMs: TimeMs): boolean {
    const earned = ((nowMs - this.#refilledMs) / 1000) * this.#perSecond;
    this.#refilledMs = nowMs;
    this.#tokens = Math.min(this.#perSecond, this.#tokens + earned);
    return this.#tokens >= 1;
  }

  /** Behind has(). */
  take(): void {
    this.#tokens--;
  }
}
