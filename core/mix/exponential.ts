/**
 * Exponentially distributed times from the engine's own randomness, drawn in blocks: one call of the generator for a
 * thousand times or two, no allocation for any of them.
 */
import type { Random } from '../ports.ts';

const WORDS_PER_BLOCK = 2048;
const TWO_21 = 2 ** 21;
const TWO_53 = 2 ** 53;

/**
 * Layers of equal area under exp(−x) (Marsaglia and Tsang, "The Ziggurat Method for Generating Random Variables", 2000):
 * 256 of them, the lowest one with the tail from TAIL on.
 */
const LAYERS = 256;
const LAYER_BITS = 8;
const TAIL = 7.69711747013105;
const AREA = 0.003949659822581557;
/** A layer goes from 0 to its width, and is all under the curve up to the width of the next one. */
const widths = new Float64Array(LAYERS + 1);
/** The curve at these widths. */
const heights = new Float64Array(LAYERS + 1);
widths[0] = AREA * Math.exp(TAIL);
widths[1] = TAIL;
for (let i = 2; i < LAYERS; i++) widths[i] = -Math.log(AREA / widths[i - 1]! + Math.exp(-widths[i - 1]!));
for (let i = 1; i <= LAYERS; i++) heights[i] = Math.exp(-widths[i]!);
const TWO_MINUS_24 = 2 ** -24;
const TWO_MINUS_32 = 2 ** -32;

export class Exponential {
  readonly #random: Random;
  readonly #bytes = new Uint8Array(WORDS_PER_BLOCK * 4);
  readonly #words = new Uint32Array(this.#bytes.buffer);
  #next = this.#words.length;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Uniform in (0, 1], 53 bits: never 0, so that its logarithm is finite. */
  uniform(): number {
    const high = this.#word();
    const low = this.#word() >>> 11;
    return (high * TWO_21 + low + 1) / TWO_53;
  }

  /** A time with this mean, by inversion; at most 36.8 times the mean. */
  sample(mean: number): number {
    return -mean * Math.log(this.uniform());
  }

  /** Likewise in less than half the time, for the packet path: by the ziggurat, in steps of less than a millionth of the mean. */
  quickSample(mean: number): number {
    const word = this.#word();
    const layer = word & (LAYERS - 1);
    const x = (word >>> LAYER_BITS) * TWO_MINUS_24 * widths[layer]!;
    return mean * (x < widths[layer + 1]! ? x : this.#beside(layer, x));
  }

  /** 0 … count − 1, each with the same probability (to some `count` in 2^32). */
  place(count: number): number {
    return Math.floor(this.#word() * TWO_MINUS_32 * count);
  }

  /** What lies beyond the part of a layer that is all under the curve: 1 in 45. What is above the curve is drawn anew. */
  #beside(layer: number, x: number): number {
    if (layer === 0) return TAIL + this.sample(1);
    const low = heights[layer]!;
    const height = low + this.uniform() * (heights[layer + 1]! - low);
    return height < Math.exp(-x) ? x : this.sample(1);
  }

  #word(): number {
    if (this.#next === WORDS_PER_BLOCK) {
      this.#random.fill(this.#bytes);
      this.#next = 0;
    }
    return this.#words[this.#next++]!;
  }
}
