/**
 * The group in which batches of class cmix are proved: (Z/N)* / {±1} for a modulus N whose factors nobody knows. It has
 * no element of known low order: in (Z/N)* itself −1 has order 2, and with it proofs of exponentiation could be bent
 * (Boneh, Bünz, Fisch: A Survey of Two Verifiable Delay Functions, 2018). An element is written as the smaller of
 * x and N − x.
 */
import type { CryptoSuite } from '../crypto/suite.ts';

/**
 * RSA-2048, the largest number of the RSA Factoring Challenge (RSA Laboratories, 1991–2007; 617 decimal digits). Its
 * makers erased the factors, and a prize of 200 000 dollars did not bring them up.
 */
export const RSA_2048 = BigInt(
  '25195908475657893494027183240048398571429282126204032027777137836043662020707595556264018525880784' +
    '40691829064124951508218929855914917618450280848912007284499268739280728777673597141834727026189637' +
    '50149718246911650776133798590957000973304597488084284017974291006424586918171951187461215151726546' +
    '32282216869987549182422433637259085141865462043576798423387184774447920739934236584823824281198163' +
    '81501067481045166037730605620161967625613384414360383390441495263443219011465754445417842402092461' +
    '65157233507787077498171257724679629263863563732899121548314381678998850404453640235273819513786365' +
    '64391212010397122822120720357',
);

/** `base^exponent mod modulus`, 0 ≤ base < modulus, exponent ≥ 0. */
export type PowMod = (base: bigint, exponent: bigint, modulus: bigint) => bigint;

const text = new TextEncoder();
/** More bits than the modulus has, so that the remainder is as good as uniform. */
const EXTRA_BYTES = 16;

export class RsaGroup {
  readonly modulus: bigint;
  /** Of an encoded element. */
  readonly elementBytes: number;
  readonly #half: bigint;
  readonly #powMod: PowMod;

  /** Of the primes that challenges and members become. */
  readonly primeBits: number;

  /**
   * @param powMod a faster one than plain bigints have, where there is one.
   * @param primeBits 256 are 128 bits of security; fewer only together with a small modulus, for tests.
   */
  constructor(modulus: bigint = RSA_2048, powMod: PowMod = plainPowMod, primeBits = 256) {
    if (modulus < 15n || (modulus & 1n) === 0n) throw new RangeError('an RSA modulus is odd, and 15 or more');
    this.modulus = modulus;
    this.primeBits = primeBits;
    this.#half = modulus >> 1n;
    this.#powMod = powMod;
    this.elementBytes = Math.ceil(modulus.toString(16).length / 2);
  }

  /** The one of x and −x that stands for both. */
  canonical(x: bigint): bigint {
    const y = x % this.modulus;
    return y > this.#half ? this.modulus - y : y;
  }

  multiply(a: bigint, b: bigint): bigint {
    return this.canonical(a * b);
  }

  pow(base: bigint, exponent: bigint): bigint {
    return this.canonical(this.#powMod(base, exponent, this.modulus));
  }

  /** An element of which nobody knows a root: a square, out of the hash of `parts`. */
  hashToElement(suite: Pick<CryptoSuite, 'sha256'>, domain: string, ...parts: Uint8Array[]): bigint {
    const bytes = expandHash(suite, this.elementBytes + EXTRA_BYTES, domain, ...parts);
    const root = bytesToBigint(bytes) % this.modulus;
    return this.canonical(root * root);
  }

  encode(element: bigint): Uint8Array {
    return bigintToBytes(element, this.elementBytes);
  }

  /** Undefined for what no honest node writes: another length, 0, or the larger of x and N − x. */
  decode(bytes: Uint8Array): bigint | undefined {
    if (bytes.length !== this.elementBytes) return undefined;
    const element = bytesToBigint(bytes);
    return element === 0n || element > this.#half ? undefined : element;
  }
}

/** SHA-256 in counter mode over `domain ‖ parts`, each part behind its length. */
export function expandHash(
  suite: Pick<CryptoSuite, 'sha256'>,
  lengthBytes: number,
  domain: string,
  ...parts: Uint8Array[]
): Uint8Array {
  const framed: Uint8Array[] = [];
  for (const part of parts) framed.push(bigintToBytes(BigInt(part.length), 4), part);
  const seed = suite.sha256(text.encode(domain), ...framed);
  const out = new Uint8Array(lengthBytes);
  for (let block = 0; block * 32 < lengthBytes; block++) {
    const hash = suite.sha256(seed, Uint8Array.of(block >>> 8, block));
    out.set(hash.subarray(0, Math.min(32, lengthBytes - block * 32)), block * 32);
  }
  return out;
}

/** By squaring and multiplying, four bits of the exponent at a time. */
export function plainPowMod(base: bigint, exponent: bigint, modulus: bigint): bigint {
  const digits = exponent.toString(16);
  const powers = [1n % modulus];
  for (let i = 1; i < 16; i++) powers.push((powers[i - 1]! * base) % modulus);
  let result = 1n % modulus;
  for (const digit of digits) {
    for (let i = 0; i < 4; i++) result = (result * result) % modulus;
    const value = Number.parseInt(digit, 16);
    if (value > 0) result = (result * powers[value]!) % modulus;
  }
  return result;
}

const hexByte = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

/** Big-endian. */
export function bytesToBigint(bytes: Uint8Array): bigint {
  let hex = '0x0';
  for (const byte of bytes) hex += hexByte[byte]!;
  return BigInt(hex);
}

/** Big-endian. Throws RangeError when the number does not fit. */
export function bigintToBytes(value: bigint, lengthBytes: number): Uint8Array {
  const hex = value.toString(16).padStart(2 * lengthBytes, '0');
  if (value < 0n || hex.length > 2 * lengthBytes) throw new RangeError(`a number that is not of ${lengthBytes} bytes`);
  const bytes = new Uint8Array(lengthBytes);
  for (let i = 0; i < lengthBytes; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}
