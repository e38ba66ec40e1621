/**
 * Cells that each wait for an exponential time. Such times have no memory: however long a cell has waited, how long it still
 * will follows the same law. So no cell has a time of its own. The first of `n` to leave does so after an exponential time
 * with an n-th of the mean, and is any of them with the same probability; then there are n − 1. One more that comes shortens
 * what is left of that time to n / (n + 1). That is the law itself and no approximation (Gillespie's method of 1977 for
 * reactions), at O(1) and two draws a cell, whatever the number that waits.
 *
 * Means may differ. Then the shortest one sets the pace, and a cell that is drawn leaves with the probability of that mean
 * over its own, else it stays.
 */
import type { TimeMs } from '../ports.ts';
import { CellList } from './cell-list.ts';
import type { Exponential } from './exponential.ts';

export class MemorylessPool {
  readonly #times: Exponential;
  readonly #cells = new CellList();
  #nextMs: TimeMs = Number.POSITIVE_INFINITY;
  /** The shortest of the means of those that have come since it was empty. */
  #meanMs = 0;
  /** There are others. */
  #mixed = false;

  constructor(times: Exponential) {
    this.#times = times;
  }

  /** A cell is drawn then; Infinity when none waits. */
  get nextMs(): TimeMs {
    return this.#nextMs;
  }

  get memoryBytes(): number {
    return this.#cells.memoryBytes;
  }

  /** Only when nextMs is not over. `meanMs` is what `means` has for it. */
  add(slot: number, tag: number, meanMs: number, nowMs: TimeMs): void {
    const { count } = this.#cells;
    if (count === 0) {
      this.#meanMs = meanMs;
      this.#mixed = false;
      this.#nextMs = nowMs + this.#times.quickSample(meanMs);
    } else {
      if (meanMs !== this.#meanMs) this.#mixIn(meanMs, nowMs);
      this.#nextMs = nowMs + (this.#nextMs - nowMs) * (count / (count + 1));
    }
    this.#cells.add(slot, tag);
  }

  /** Those whose time has come go to `into`. `means` by the tag's upper bits (PoissonMix). */
  passDue(into: CellList, means: Float64Array, nowMs: TimeMs): void {
    const times = this.#times;
    const cells = this.#cells;
    const meanMs = this.#meanMs;
    let nextMs = this.#nextMs;
    while (nextMs <= nowMs) {
      const place = times.place(cells.count);
      const tag = cells.tagAt(place);
      if (!this.#mixed || times.uniform() * means[tag >>> 1]! <= meanMs) {
        into.add(cells.slotAt(place), tag);
        cells.remove(place);
      }
      nextMs = cells.count === 0 ? Number.POSITIVE_INFINITY : nextMs + times.quickSample(meanMs / cells.count);
    }
    this.#nextMs = nextMs;
  }

  /** Gives back memory that it does not need. */
  trim(): void {
    this.#cells.trim();
  }

  #mixIn(meanMs: number, nowMs: TimeMs): void {
    this.#mixed = true;
    if (meanMs >= this.#meanMs) return;
    this.#nextMs = nowMs + ((this.#nextMs - nowMs) * meanMs) / this.#meanMs;
    this.#meanMs = meanMs;
  }
}
