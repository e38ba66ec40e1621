/**
 * RSA accumulators (Benaloh, de Mare 1993; Barić, Pfitzmann 1997) with proofs for many members at once (Boneh, Bünz, Fisch:
 * Batching Techniques for Accumulators, 2019): A = g^(p_1 … p_n) for the primes of n digests. The witness of some of them
 * is g to the others' product, and says nothing of these: a batch is committed to without publishing who sent how
 * much to whom.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { hashToPrime } from './prime.ts';
import type { RsaGroup } from './rsa-group.ts';
import type { Turns } from './vdf.ts';

export const DIGEST_BYTES = 32;
/** Primes multiplied into one exponent: as large as fast exponentiation takes them. */
const PRIMES_PER_POWER = 7;

type Hash = Pick<CryptoSuite, 'sha256'>;

/** Shows that digests are in an accumulator. */
export interface MembershipProof {
  /** g to the product of all other primes. */
  readonly witness: bigint;
  /** Shows that the witness to the product of the digests' primes is the accumulator (proof of exponentiation, §3.1). */
  readonly quotient: bigint;
}

/** The prime that stands for a digest. */
export function memberPrime(suite: Hash, group: RsaGroup, digest: Uint8Array): bigint {
  return hashToPrime(suite, group.primeBits, 'nyx1 accumulator member', digest);
}

/** The empty accumulator of a group. */
export function generatorOf(suite: Hash, group: RsaGroup): bigint {
  return group.hashToElement(suite, 'nyx1 accumulator generator');
}

/** `base` to the product of all primes. */
export function* raise(group: RsaGroup, base: bigint, primes: readonly bigint[]): Turns<bigint> {
  let result = base;
  for (let i = 0; i < primes.length; i += PRIMES_PER_POWER) {
    let exponent = 1n;
    for (const prime of primes.slice(i, i + PRIMES_PER_POWER)) exponent *= prime;
    result = group.pow(result, exponent);
    yield;
  }
  return result;
}

/** Witnesses of each single prime, by halves: O(n log n) exponentiations in place of n² (RootFactor of the paper, §3.3). */
export function* witnessesOfAll(group: RsaGroup, base: bigint, primes: readonly bigint[]): Turns<bigint[]> {
  if (primes.length <= 1) return primes.map(() => base);
  const middle = primes.length >> 1;
  const left = primes.slice(0, middle);
  const right = primes.slice(middle);
  return [
    ...(yield* witnessesOfAll(group, yield* raise(group, base, right), left)),
    ...(yield* witnessesOfAll(group, yield* raise(group, base, left), right)),
  ];
}

/** Whether `witness` shows that a prime is in `accumulator`. */
export function verifyWitness(group: RsaGroup, accumulator: bigint, prime: bigint, witness: bigint): boolean {
  return group.pow(witness, prime) === accumulator;
}

/** One proof for all of `members`; `others` are the rest of what is in `accumulator`. */
export function* proveMembers(
  suite: Hash,
  group: RsaGroup,
  accumulator: bigint,
  members: readonly bigint[],
  others: readonly bigint[],
): Turns<MembershipProof> {
  const witness = yield* raise(group, generatorOf(suite, group), others);
  const prime = exponentChallenge(suite, group, witness, accumulator, members);
  let product = 1n;
  for (const member of members) product *= member;
  yield;
  return { witness, quotient: group.pow(witness, product / prime) };
}

/** Whether the proof shows that all of `members` are in `accumulator`, each as often as it is given. */
export function verifyMembers(
  suite: Hash,
  group: RsaGroup,
  accumulator: bigint,
  members: readonly bigint[],
  { witness, quotient }: MembershipProof,
): boolean {
  const prime = exponentChallenge(suite, group, witness, accumulator, members);
  let rest = 1n;
  for (const member of members) rest = (rest * (member % prime)) % prime;
  return group.multiply(group.pow(quotient, prime), group.pow(witness, rest)) === accumulator;
}

function exponentChallenge(
  suite: Hash,
  group: RsaGroup,
  witness: bigint,
  accumulator: bigint,
  members: readonly bigint[],
): bigint {
  const text = new TextEncoder();
  // A set has no order.
  const sorted = [...members].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return hashToPrime(
    suite,
    group.primeBits,
    'nyx1 accumulator exponent',
    text.encode(group.modulus.toString(16)),
    group.encode(witness),
    group.encode(accumulator),
    suite.sha256(...sorted.map((member) => text.encode(`${member.toString(16)} `))),
  );
}
