/** Choosing with given probabilities, from the Random port. */
import type { Random } from '../ports.ts';

const scratch = new Uint8Array(8);
const words = new DataView(scratch.buffer);

/** Uniform in [0, 1), a multiple of 2^−53. Takes 8 bytes of `random`. */
export function uniform(random: Random): number {
  random.fill(scratch);
  const high = words.getUint32(0) >>> 5;
  const low = words.getUint32(4) >>> 6;
  words.setFloat64(0, 0);
  return (high * 0x400_0000 + low) / 2 ** 53;
}

/**
 * An index with probability `weights[i] / sum`; −1 when the sum is 0. One draw, never a rejection, so how long it takes
 * says nothing; each probability is off by less than 2^−52 of the sum.
 */
export function chooseIndex(weights: ArrayLike<number>, random: Random): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]!;
  if (!(sum > 0)) return -1;
  let rest = uniform(random) * sum;
  let last = -1;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i]! <= 0) continue;
    last = i;
    rest -= weights[i]!;
    if (rest < 0) return i;
  }
  // Rounding can leave a remainder of about 2^−53 of the sum: it belongs to the last one.
  return last;
}
