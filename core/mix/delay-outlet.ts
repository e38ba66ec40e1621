/**
 * Where cells of class mix leave a relay together: a link. Those whose time has come gather here, and go as one batch.
 * A full batch goes at once, and what is left over waits for more to come; in the outlet's turn goes what is less. So
 * what leaves together was read, masked and sent while it was in the cache, in sends that are full under load, and the
 * links have their turns at different times.
 */
import type { TimeMs } from '../ports.ts';

const MIN_SLOTS = 64;
/** More room than this is given back when it is empty. */
const KEPT_SLOTS = 256;
const NO_SLOTS = new Int32Array(0);

export class DelayOutlet {
  readonly #batch: number;
  #slots = NO_SLOTS;
  #count = 0;
  #turnMs: TimeMs = Number.NEGATIVE_INFINITY;

  /** @param batch cells that go at once; Infinity: all wait for a turn. */
  constructor(batch: number) {
    this.#batch = batch;
  }

  /** Cells whose time has come. */
  get count(): number {
    return this.#count;
  }

  /** From when on some of them may leave. */
  get leavableMs(): TimeMs {
    return this.#count >= this.#batch ? Number.NEGATIVE_INFINITY : this.#turnMs;
  }

  /** How many of them may leave now: whole batches, or in its turn what is less than one. */
  leavable(nowMs: TimeMs): number {
    const whole = this.#count - (this.#count % this.#batch);
    return whole > 0 || nowMs < this.#turnMs ? whole : this.#count;
  }

  add(slot: number): void {
    if (this.#count === this.#slots.length) {
      const slots = new Int32Array(Math.max(MIN_SLOTS, 2 * this.#count));
      slots.set(this.#slots);
      this.#slots = slots;
    }
    this.#slots[this.#count++] = slot;
  }

  /** Takes out the slot at this place, 0 … count − 1. */
  take(place: number): number {
    const slots = this.#slots;
    const slot = slots[place]!;
    slots[place] = slots[--this.#count]!;
    return slot;
  }

  /** What could leave has left: what is there, and what comes, waits for a full batch, or for so long. */
  startTurn(nowMs: TimeMs, periodMs: number): void {
    if (this.#count === 0 && this.#slots.length > KEPT_SLOTS) this.#slots = NO_SLOTS;
    this.#turnMs = nowMs + periodMs;
  }
}
