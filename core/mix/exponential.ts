/**
 * Exponentially distributed times from the engine's own randomness, drawn in blocks: one call of the generator for a
 * thousand times, no allocation for any of them.
 */
import type { Random } from '../ports.ts';

const SAMPLES_PER_BLOCK = 1024;
const WORDS_PER_SAMPLE = 2;
const TWO_21 = 2 ** 21;
const TWO_53 = 2 ** 53;

export class Exponential {
  readonly #random: Random;
  readonly #bytes = new Uint8Array(SAMPLES_PER_BLOCK * WORDS_PER_SAMPLE * 4);
  readonly #words = new Uint32Array(this.#bytes.buffer);
  #next = this.#words.length;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Uniform in (0, 1], 53 bits: never 0, so that its logarithm is finite. */
  uniform(): number {
    if (this.#next === this.#words.length) {
      this.#random.fill(this.#bytes);
      this.#next = 0;
    }
    const high = this.#words[this.#next++]!;
    const low = this.#words[this.#next++]! >>> 11;
    return (high * TWO_21 + low + 1) / TWO_53;
  }

  /** A time with this mean, by inversion; at most 36.8 times the mean. */
  sample(mean: number): number {
    return -mean * Math.log(this.uniform());
  }
}
