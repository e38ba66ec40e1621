/**
 * Primes out of hashes. The test is Baillie–PSW (Baillie, Wagstaff: Lucas Pseudoprimes, 1980): a strong test to base 2
 * and a strong Lucas test. It has no choice of bases that somebody could aim at, gives everybody the same answer, and
 * no composite is known that passes.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { bytesToBigint, expandHash } from './rsa-group.ts';

const SIEVE_LIMIT = 8192;
/** Odd numbers looked at in one go: twenty times the usual distance of primes of 256 bits. */
const SIEVE_SPAN = 2048;

const smallPrimes = oddPrimesBelow(SIEVE_LIMIT);
/** Small primes in groups whose product a double holds: one division of the large number for each group. */
const groups = inGroups(smallPrimes);

/**
 * The first prime from the hash of `parts` on. 256 bits at least where it stands for what was hashed, so that two inputs
 * with one prime would be a collision of SHA-256 but for some ten bits.
 * @param bits of the prime, a multiple of 8, at least 64.
 */
export function hashToPrime(
  suite: Pick<CryptoSuite, 'sha256'>,
  bits: number,
  domain: string,
  ...parts: Uint8Array[]
): bigint {
  const bytes = expandHash(suite, bits / 8, domain, ...parts);
  bytes[0]! |= 0x80;
  bytes[bytes.length - 1]! |= 1;
  return nextPrime(bytesToBigint(bytes));
}

/** The first prime that is not below `from`, an odd number above 2^63. */
function nextPrime(from: bigint): bigint {
  const composite = new Uint8Array(SIEVE_SPAN);
  for (let start = from; ; start += BigInt(2 * SIEVE_SPAN)) {
    composite.fill(0);
    for (const { product, primes } of groups) {
      const rest = Number(start % product);
      for (const prime of primes) {
        // start + 2k ≡ 0: k = −start / 2 modulo the prime.
        const lack = (prime - (rest % prime)) % prime;
        const first = lack % 2 === 0 ? lack / 2 : (lack + prime) / 2;
        for (let k = first; k < SIEVE_SPAN; k += prime) composite[k] = 1;
      }
    }
    for (let k = 0; k < SIEVE_SPAN; k++) {
      if (composite[k] === 1) continue;
      const candidate = start + BigInt(2 * k);
      if (isStrongProbablePrime(candidate) && isStrongLucasProbablePrime(candidate)) return candidate;
    }
  }
}

/** Baillie–PSW; exact below 2^64. */
export function isPrime(n: bigint): boolean {
  if (n < 2n) return false;
  if ((n & 1n) === 0n) return n === 2n;
  for (const { product, primes } of groups) {
    const rest = Number(n % product);
    for (const prime of primes) if (rest % prime === 0) return n === BigInt(prime);
  }
  return isStrongProbablePrime(n) && isStrongLucasProbablePrime(n);
}

/** Strong test to base 2 of an odd n > 2. */
function isStrongProbablePrime(n: bigint): boolean {
  const { odd, twos } = splitTwos(n - 1n);
  let x = powerOfTwo(odd, n);
  if (x === 1n || x === n - 1n) return true;
  for (let i = 1; i < twos; i++) {
    x = (x * x) % n;
    if (x === n - 1n) return true;
  }
  return false;
}

/** 2^exponent mod n: a shift instead of a multiplication. */
function powerOfTwo(exponent: bigint, n: bigint): bigint {
  let x = 1n;
  for (const bit of exponent.toString(2)) {
    x = (x * x) % n;
    if (bit === '1') {
      x <<= 1n;
      if (x >= n) x -= n;
    }
  }
  return x;
}

/** Strong Lucas test with Selfridge's parameters, of an odd n > 2. */
function isStrongLucasProbablePrime(n: bigint): boolean {
  const d = selfridgeD(n);
  if (d === 0n) return false;
  const { odd, twos } = splitTwos(n + 1n);
  const mod = (x: bigint) => {
    const rest = x % n;
    return rest < 0n ? rest + n : rest;
  };
  const half = (x: bigint) => ((x & 1n) === 0n ? x >> 1n : (x + n) >> 1n);
  // P = 1, Q = (1 − D) / 4.
  const q = mod((1n - d) / 4n);
  let u = 1n;
  let v = 1n;
  let qk = q;
  for (const bit of odd.toString(2).slice(1)) {
    u = mod(u * v);
    v = mod(v * v - 2n * qk);
    qk = mod(qk * qk);
    if (bit === '1') {
      const nextU = half(mod(u + v));
      v = half(mod(d * u + v));
      u = nextU;
      qk = mod(qk * q);
    }
  }
  if (u === 0n || v === 0n) return true;
  for (let i = 1; i < twos; i++) {
    v = mod(v * v - 2n * qk);
    if (v === 0n) return true;
    qk = mod(qk * qk);
  }
  return false;
}

/** The first of 5, −7, 9, −11, … with Jacobi symbol −1; 0 = n has a factor that showed, or is a square. */
function selfridgeD(n: bigint): bigint {
  for (let i = 0, size = 5n; ; i++, size += 2n) {
    const d = i % 2 === 0 ? size : -size;
    const symbol = jacobi(d, n);
    if (symbol === -1) return d;
    if (symbol === 0 && size % n !== 0n) return 0n;
    // A square has no such D: looked for where one would have been found nearly always.
    if (i === 8 && isSquare(n)) return 0n;
  }
}

function jacobi(top: bigint, bottom: bigint): number {
  let a = top % bottom;
  if (a < 0n) a += bottom;
  let n = bottom;
  let sign = 1;
  while (a !== 0n) {
    while ((a & 1n) === 0n) {
      a >>= 1n;
      const rest = n & 7n;
      if (rest === 3n || rest === 5n) sign = -sign;
    }
    [a, n] = [n, a];
    if ((a & 3n) === 3n && (n & 3n) === 3n) sign = -sign;
    a %= n;
  }
  return n === 1n ? sign : 0;
}

function isSquare(n: bigint): boolean {
  let x = 1n << BigInt(Math.ceil(n.toString(2).length / 2));
  for (;;) {
    const next = (x + n / x) >> 1n;
    if (next >= x) return x * x === n;
    x = next;
  }
}

function splitTwos(n: bigint): { odd: bigint; twos: number } {
  let odd = n;
  let twos = 0;
  while ((odd & 1n) === 0n) {
    odd >>= 1n;
    twos++;
  }
  return { odd, twos };
}

function oddPrimesBelow(limit: number): number[] {
  const composite = new Uint8Array(limit);
  const primes: number[] = [];
  for (let n = 3; n < limit; n += 2) {
    if (composite[n] === 1) continue;
    primes.push(n);
    for (let multiple = n * n; multiple < limit; multiple += n) composite[multiple] = 1;
  }
  return primes;
}

function inGroups(primes: readonly number[]): { product: bigint; primes: number[] }[] {
  const all: { product: bigint; primes: number[] }[] = [];
  let product = 1;
  let group: number[] = [];
  for (const prime of primes) {
    if (product * prime > Number.MAX_SAFE_INTEGER) {
      all.push({ product: BigInt(product), primes: group });
      product = 1;
      group = [];
    }
    product *= prime;
    group.push(prime);
  }
  all.push({ product: BigInt(product), primes: group });
  return all;
}
