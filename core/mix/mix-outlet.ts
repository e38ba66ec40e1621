/**
 * Where cells of class mix leave a relay together: a link. Here they wait, and here those whose time has come gather, to go as
 * one batch. A full batch goes at once, and what is left over waits for more to come; in the outlet's turn goes what is less.
 * So what leaves together was read, masked and sent while it was in the cache, in sends that are full under load, and the
 * links have their turns at different times.
 */
import type { TimeMs } from '../ports.ts';
import { CellList } from './cell-list.ts';
import type { Exponential } from './exponential.ts';
import { MemorylessPool } from './memoryless-pool.ts';

export class MixOutlet {
  readonly #batch: number;
  /** By the octave of the mean in milliseconds: a cell is drawn at most twice as often as it leaves. */
  readonly #pools: MemorylessPool[] = [];
  /** Cells whose time has come, in the order in which it has. */
  readonly #due = new CellList();
  #nextMs: TimeMs = Number.POSITIVE_INFINITY;
  #turnMs: TimeMs = Number.NEGATIVE_INFINITY;
  /** It is in the list of those that have cells. Owned by the mix. */
  active = false;

  /** @param batch cells that go at once; Infinity: all wait for a turn. */
  constructor(batch: number) {
    this.#batch = batch;
  }

  /** When the next cell is due; Infinity when none waits. */
  get nextMs(): TimeMs {
    return this.#nextMs;
  }

  get empty(): boolean {
    return this.#due.count === 0 && this.#nextMs === Number.POSITIVE_INFINITY;
  }

  get memoryBytes(): number {
    return this.#pools.reduce((sum, pool) => sum + pool.memoryBytes, this.#due.memoryBytes);
  }

  /** From when on some of those that are due may leave; Infinity when none is. */
  get leavableMs(): TimeMs {
    const { count } = this.#due;
    if (count === 0) return Number.POSITIVE_INFINITY;
    return count >= this.#batch ? Number.NEGATIVE_INFINITY : this.#turnMs;
  }

  /** How many may leave now: whole batches, or in its turn what is less than one. */
  leavable(nowMs: TimeMs): number {
    const { count } = this.#due;
    const whole = count - (count % this.#batch);
    return whole > 0 || nowMs < this.#turnMs ? whole : count;
  }

  /** The first of those that are due. */
  get firstSlot(): number {
    return this.#due.slotAt(0);
  }

  get firstTag(): number {
    return this.#due.tagAt(0);
  }

  removeFirst(): void {
    this.#due.removeFirst();
  }

  /** A cell waits for an exponential time with this mean, which is the one that `means` has for the tag. */
  add(slot: number, tag: number, meanMs: number, times: Exponential, means: Float64Array, nowMs: TimeMs): void {
    const octave = 31 - Math.clz32(Math.max(1, meanMs));
    while (this.#pools.length <= octave) this.#pools.push(new MemorylessPool(times));
    const pool = this.#pools[octave]!;
    if (pool.nextMs <= nowMs) this.passDue(means, nowMs);
    pool.add(slot, tag, meanMs, nowMs);
    if (pool.nextMs < this.#nextMs) this.#nextMs = pool.nextMs;
  }

  /** Gathers what is due. */
  passDue(means: Float64Array, nowMs: TimeMs): void {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const pool of this.#pools) {
      if (pool.nextMs <= nowMs) pool.passDue(this.#due, means, nowMs);
      if (pool.nextMs < nextMs) nextMs = pool.nextMs;
    }
    this.#nextMs = nextMs;
  }

  /** What could leave has left: what is there, and what comes, waits for a full batch, or for so long. */
  startTurn(nowMs: TimeMs, periodMs: number): void {
    this.#turnMs = nowMs + periodMs;
  }

  /** Gives back memory that it does not need. */
  trim(): void {
    this.#due.trim();
    for (const pool of this.#pools) pool.trim();
  }
}
