/**
 * When a circuit is built ahead, so that a first dial needs no set-up: as long as fewer than the configured number are
 * ready, and somebody has dialled within the last hour (or the daemon has just started). After failures it waits longer
 * each time. The circuits themselves are in the pool.
 */
import type { TimeMs } from '@nyx/core/ports.ts';

/** Without a dial for so long, none is built any more: the next one waits for a set-up, and then they are there again. */
export const SPARES_WANTED_MS = 3_600_000;
const FIRST_RETRY_MS = 250;
const MAX_RETRY_MS = 60_000;

export interface SpareOptions {
  /** Circuits kept ready; 0 = none. */
  readonly count: number;
  readonly hops: number;
}

export class SparePlan {
  options: SpareOptions;
  #wantedUntilMs: TimeMs;
  #notBeforeMs: TimeMs = 0;
  #retryMs = FIRST_RETRY_MS;
  #stopped = false;

  constructor(options: SpareOptions, nowMs: TimeMs) {
    this.options = options;
    this.#wantedUntilMs = nowMs + SPARES_WANTED_MS;
  }

  isDue(present: number, nowMs: TimeMs): boolean {
    return !this.#stopped && present < this.options.count && nowMs >= this.#notBeforeMs && nowMs < this.#wantedUntilMs;
  }

  noteDial(nowMs: TimeMs): void {
    this.#wantedUntilMs = nowMs + SPARES_WANTED_MS;
  }

  /** A circuit of any kind came up: the network can be reached. */
  noteReady(): void {
    this.#retryMs = FIRST_RETRY_MS;
    this.#notBeforeMs = 0;
  }

  noteFailure(nowMs: TimeMs): void {
    this.#notBeforeMs = nowMs + this.#retryMs;
    this.#retryMs = Math.min(MAX_RETRY_MS, 2 * this.#retryMs);
  }

  stop(): void {
    this.#stopped = true;
  }
}
