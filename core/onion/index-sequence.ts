import { GENERATION_CELLS } from './direction-keys.ts';

/**
 * The indices one sender gives to its cells. They only rise and each is used at most once, which is what keeps AEAD
 * nonces unique whatever the caller does.
 */
export class IndexSequence {
  readonly #limit: number;
  #next = 0;
  #lastUsed = -1;

  /** Gives indices below `limit` (at most 2^48). */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get next(): number {
    return this.#next < this.#limit ? this.#next : -1;
  }

  /** The next index, or -1 when they are used up. */
  allocate(): number {
    return this.#next < this.#limit ? this.#next++ : -1;
  }

  /** Throws RangeError for an index that was not allocated, or is not above every index used before. */
  use(index: number): void {
    if (!(index > this.#lastUsed && index < this.#next)) {
      throw new RangeError(`cell index ${index} was not allocated or has been passed (last used ${this.#lastUsed})`);
    }
    this.#lastUsed = index;
  }

  /**
   * Goes on at the next generation. Not when the present one has not been used: a receiver follows only a few
   * generations that it saw nothing of.
   */
  skipToNextGeneration(): void {
    const start = Math.floor(this.#lastUsed / GENERATION_CELLS) * GENERATION_CELLS;
    if (this.#lastUsed < 0 || this.#next >= start + GENERATION_CELLS) return;
    this.#next = start + GENERATION_CELLS;
  }
}
