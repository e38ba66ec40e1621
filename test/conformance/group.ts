/**
 * The group of class cmix with its accumulators and its delay, once more from docs/protocol.md §7.1 and plain bigints: nothing is shared
 * with the implementation under test.
 */
import { mod, pow } from '@noble/curves/abstract/modular.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { ascii, type Bytes, bytes, concat, number } from './codec.ts';

const DIGITS = `
  25195908475657893494027183240048398571429282126204032027777137836043662020707595556264018525880784
  40691829064124951508218929855914917618450280848912007284499268739280728777673597141834727026189637
  50149718246911650776133798590957000973304597488084284017974291006424586918171951187461215151726546
  32282216869987549182422433637259085141865462043576798423387184774447920739934236584823824281198163
  81501067481045166037730605620161967625613384414360383390441495263443219011465754445417842402092461
  65157233507787077498171257724679629263863563732899121548314381678998850404453640235273819513786365
  64391212010397122822120720357
`.replaceAll(/\s/g, '');
/** Of the digits, as the document has it. */
const DIGITS_HASH = 'b3c2468add10e2a0c4a251d9d2bac4ba04d4b3527156ceead43a1305e03f1fc0';
if (Buffer.from(sha256(ascii(DIGITS))).toString('hex') !== DIGITS_HASH) throw new Error('these digits are not N');

const N = BigInt(DIGITS);
export const ELEMENT = 256;
/** Of an expansion that becomes an element. */
const WIDE = 272;
const SMALL_PRIMES = Array.from({ length: 1000 }, (_, i) => 2 * i + 3).filter((n) => {
  for (let d = 3; d * d <= n; d += 2) if (n % d === 0) return false;
  return true;
});
/** Rounds of Miller and Rabin: the numbers are hashes, so few would do. */
const BASES = [2n, 3n, 5n, 7n, 11n, 13n, 17n, 19n];

const bigint = (from: Uint8Array): bigint => BigInt(`0x${Buffer.from(from).toString('hex')}`);
/** The one of x and N − x that stands for both. */
const smaller = (x: bigint): bigint => (2n * x > N ? N - x : x);
const power = (base: bigint, exponent: bigint): bigint => smaller(pow(base, exponent, N));
const times = (a: bigint, b: bigint): bigint => smaller(mod(a * b, N));
const product = (factors: readonly bigint[]): bigint => factors.reduce((a, b) => a * b, 1n);

export const encodeElement = (x: bigint): Bytes => number(x, ELEMENT);

/** Throws what no honest node writes: 0, or the larger of x and N − x. */
export function readElement(from: Uint8Array): bigint {
  const x = bigint(from);
  if (x === 0n || 2n * x > N) throw new Error('an element is 0, or the larger of x and N − x');
  return x;
}

function expand(length: number, domain: string, parts: readonly Uint8Array[]): Bytes {
  const seed = sha256(concat(ascii(domain), ...parts.flatMap((part) => [number(part.length, 4), part])));
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, i) => sha256(concat(seed, number(i, 2))));
  return concat(...blocks).slice(0, length);
}

function element(domain: string, ...parts: readonly Uint8Array[]): bigint {
  const root = mod(bigint(expand(WIDE, domain, parts)), N);
  return times(root, root);
}

function isPrime(n: bigint): boolean {
  if (SMALL_PRIMES.some((prime) => n % BigInt(prime) === 0n)) return false;
  let [odd, twos] = [n - 1n, 0];
  for (; odd % 2n === 0n; odd /= 2n) twos++;
  return BASES.every((base) => {
    let x = pow(base, odd, n);
    if (x === 1n || x === n - 1n) return true;
    for (let i = 1; i < twos; i++) {
      x = (x * x) % n;
      if (x === n - 1n) return true;
    }
    return false;
  });
}

function prime(domain: string, ...parts: readonly Uint8Array[]): bigint {
  const from = expand(32, domain, parts);
  from[0]! |= 0x80;
  from[31]! |= 1;
  let candidate = bigint(from);
  while (!isPrime(candidate)) candidate += 2n;
  return candidate;
}

// --- accumulators

const members = new Map<string, bigint>();
/** The prime of a digest. */
function memberOf(digest: Uint8Array): bigint {
  const key = Buffer.from(digest).toString('hex');
  let found = members.get(key);
  if (found === undefined) {
    found = prime('nyx1 accumulator member', digest);
    members.set(key, found);
  }
  return found;
}

const generator = element('nyx1 accumulator generator');

export const accumulate = (digests: readonly Uint8Array[]): bigint => power(generator, product(digests.map(memberOf)));

export interface Membership {
  readonly witness: bigint;
  readonly quotient: bigint;
}

function exponentPrime(witness: bigint, accumulator: bigint, primes: readonly bigint[]): bigint {
  const rising = [...primes].sort((a, b) => (a < b ? -1 : 1));
  const list = rising.map((one) => `${one.toString(16)} `).join('');
  return prime(
    'nyx1 accumulator exponent',
    ascii(N.toString(16)),
    encodeElement(witness),
    encodeElement(accumulator),
    sha256(ascii(list)),
  );
}

export function proveMembers(digests: readonly Uint8Array[], others: readonly Uint8Array[]): Membership {
  const primes = digests.map(memberOf);
  const witness = accumulate(others);
  const all = product(primes);
  return { witness, quotient: power(witness, all / exponentPrime(witness, power(witness, all), primes)) };
}

export function areMembers(accumulator: bigint, digests: readonly Uint8Array[], shown: Membership): boolean {
  const { witness, quotient } = shown;
  const primes = digests.map(memberOf);
  const challenge = exponentPrime(witness, accumulator, primes);
  return times(power(quotient, challenge), power(witness, product(primes) % challenge)) === accumulator;
}

// --- delay

export interface Delay {
  readonly output: bigint;
  readonly proof: bigint;
}

/** What the delay begins with: a statement as far as it is known before. */
const delayInput = (head: Uint8Array): bigint => element('nyx1 cmix delay', head);

const delayPrime = (input: bigint, output: bigint, squarings: number): bigint =>
  prime('nyx1 vdf challenge', number(N, ELEMENT), encodeElement(input), encodeElement(output), number(squarings, 8));

export function computeDelay(head: Uint8Array, squarings: number): Delay {
  const input = delayInput(head);
  let output = input;
  for (let i = 0; i < squarings; i++) output = (output * output) % N;
  output = smaller(output);
  return { output, proof: power(input, (1n << BigInt(squarings)) / delayPrime(input, output, squarings)) };
}

export function wasDelayed(head: Uint8Array, squarings: number, { output, proof }: Delay): boolean {
  const input = delayInput(head);
  const challenge = delayPrime(input, output, squarings);
  return times(power(proof, challenge), power(input, pow(2n, BigInt(squarings), challenge))) === output;
}

/** Some element that stands for nothing. */
export const anyElement = (): bigint => element('nyx1 conformance', bytes(1), crypto.getRandomValues(bytes(32)));
