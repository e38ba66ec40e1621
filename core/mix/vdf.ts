/**
 * A verifiable delay function (Wesolowski: Efficient Verifiable Delay Functions, 2019): y = x^(2^T) takes T squarings one
 * after the other, whoever computes it and on however many processors, and one element more proves it. Whoever checks does two
 * exponentiations with 256 bits.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { hashToPrime } from './prime.ts';
import { bigintToBytes, type RsaGroup } from './rsa-group.ts';

/** Squarings between two elements that are kept for the proof. */
const STRIDE = 128;
/** Digits of the quotient at a time, in bits; all divide STRIDE and 8. */
const DIGIT_BITS = [1, 2, 4, 8] as const;
/** Work between two pauses: about ten milliseconds. */
const STRIDES_PER_TURN = 64;
const MULTIPLICATIONS_PER_TURN = 2048;

export interface Evaluation {
  readonly input: bigint;
  readonly output: bigint;
  readonly squarings: number;
  /** input^(2^(128 i)), for the proof. */
  readonly kept: readonly bigint[];
}

/** Work in turns of some milliseconds: what it yields says nothing, what it returns is the result. */
export type Turns<T> = Generator<undefined, T>;

/** Runs all turns at once. */
export function runTurns<T>(turns: Turns<T>): T {
  for (;;) {
    const { done, value } = turns.next();
    if (done === true) return value;
  }
}

/** Squares `input` (an element) `squarings` times. */
export function* evaluate(group: RsaGroup, input: bigint, squarings: number): Turns<Evaluation> {
  const kept: bigint[] = [];
  const stride = 1n << BigInt(STRIDE);
  let y = input;
  let done = 0;
  for (; done + STRIDE <= squarings; done += STRIDE) {
    kept.push(y);
    y = group.pow(y, stride);
    if (kept.length % STRIDES_PER_TURN === 0) yield;
  }
  kept.push(y);
  if (done < squarings) y = group.pow(y, 1n << BigInt(squarings - done));
  return { input, output: y, squarings, kept };
}

/** The proof π = x^⌊2^T/ℓ⌋, in O(T / log T) multiplications with what the evaluation kept (§4.1 of the paper). */
export function* prove(
  suite: Pick<CryptoSuite, 'sha256'>,
  group: RsaGroup,
  { input, output, squarings, kept }: Evaluation,
): Turns<bigint> {
  const prime = challenge(suite, group, input, output, squarings);
  const quotient = (1n << BigInt(squarings)) / prime;
  const digits = lowFirst(quotient);
  const bits = bestDigitBits(squarings);
  const perStride = STRIDE / bits;
  const mask = (1 << bits) - 1;
  const { modulus } = group;
  let proof = 1n;
  let work = 0;
  for (let j = perStride - 1; j >= 0; j--) {
    for (let i = 0; i < bits; i++) proof = (proof * proof) % modulus;
    // By value of the digit: the product of the kept elements that have it at place j of their stride.
    const buckets: (bigint | undefined)[] = [];
    for (let i = 0; i < kept.length; i++) {
      const bit = i * STRIDE + j * bits;
      const digit = ((digits[bit >>> 3] ?? 0) >>> (bit & 7)) & mask;
      if (digit === 0) continue;
      const before = buckets[digit];
      buckets[digit] = before === undefined ? kept[i]! : (before * kept[i]!) % modulus;
      if (++work % MULTIPLICATIONS_PER_TURN === 0) yield;
    }
    // Π bucket_d^d as a product of the products of all buckets from d on.
    let above = 1n;
    for (let digit = mask; digit > 0; digit--) {
      const bucket = buckets[digit];
      if (bucket !== undefined) above = (above * bucket) % modulus;
      if (above !== 1n) proof = (proof * above) % modulus;
    }
    yield;
  }
  return group.canonical(proof);
}

/** Whether `output` is `input` squared `squarings` times: π^ℓ · x^(2^T mod ℓ) = y. All are elements. */
export function verify(
  suite: Pick<CryptoSuite, 'sha256'>,
  group: RsaGroup,
  input: bigint,
  output: bigint,
  squarings: number,
  proof: bigint,
): boolean {
  const prime = challenge(suite, group, input, output, squarings);
  const rest = powerOfTwoMod(squarings, prime);
  return group.multiply(group.pow(proof, prime), group.pow(input, rest)) === group.canonical(output);
}

function challenge(
  suite: Pick<CryptoSuite, 'sha256'>,
  group: RsaGroup,
  input: bigint,
  output: bigint,
  squarings: number,
): bigint {
  return hashToPrime(
    suite,
    group.primeBits,
    'nyx1 vdf challenge',
    bigintToBytes(group.modulus, group.elementBytes),
    group.encode(input),
    group.encode(group.canonical(output)),
    bigintToBytes(BigInt(squarings), 8),
  );
}

/** 2^exponent mod prime. */
function powerOfTwoMod(exponent: number, prime: bigint): bigint {
  let x = 1n;
  for (const bit of exponent.toString(2)) {
    x = (x * x) % prime;
    if (bit === '1') x = (x * 2n) % prime;
  }
  return x;
}

/** The number's bytes, lowest first. */
function lowFirst(value: bigint): Uint8Array {
  return bigintToBytes(value, Math.ceil(value.toString(16).length / 2)).reverse();
}

/** The digit size with the fewest multiplications. */
function bestDigitBits(squarings: number): number {
  let best = 1;
  let least = Number.POSITIVE_INFINITY;
  for (const bits of DIGIT_BITS) {
    const work = squarings / bits + (STRIDE / bits) * 2 ** (bits + 1);
    if (work < least) {
      least = work;
      best = bits;
    }
  }
  return best;
}
