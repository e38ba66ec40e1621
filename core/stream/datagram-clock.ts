/**
 * How old a datagram is when it comes: its sender says when it left, by a clock of its own that began with the session.
 * What the quickest one of the last minute took is half the shortest round trip; what another took beyond that is known.
 */
import type { TimeMs } from '../ports.ts';

/** Clocks drift by a few milliseconds a minute at most. */
const WINDOW_MS = 30_000;

export class DatagramClock {
  #leastMs = Number.POSITIVE_INFINITY;
  #leastBeforeMs = Number.POSITIVE_INFINITY;
  #windowEndMs: TimeMs = Number.NEGATIVE_INFINITY;

  /** `minRttMs` 0: not known, and then half of it does not count. */
  ageMs(sentMs: number, minRttMs: number, nowMs: TimeMs): number {
    const tookMs = nowMs - sentMs;
    if (nowMs >= this.#windowEndMs) {
      this.#leastBeforeMs = nowMs < this.#windowEndMs + WINDOW_MS ? this.#leastMs : Number.POSITIVE_INFINITY;
      this.#leastMs = Number.POSITIVE_INFINITY;
      this.#windowEndMs = nowMs + WINDOW_MS;
    }
    this.#leastMs = Math.min(this.#leastMs, tookMs);
    return tookMs - Math.min(this.#leastMs, this.#leastBeforeMs) + minRttMs / 2;
  }
}
