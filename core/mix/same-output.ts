/**
 * Which cells a relay can have sealed into one and the same backward cell, as the next mix sees it (docs/protocol.md §7.1). The
 * last 16 bytes of what a relay seals fall off at the next hop, so a name of its output covers the tag and the first 1224
 * bytes of the ciphertext alone. Who knows the layer's key can look for two cells that agree in these; whether there are any,
 * and which, anybody can find out who knows it too: the tag of RFC 8439 §2.5 is a polynomial, and the bytes that are not
 * seen stand in it as `x · 2^64 · r^3 + y · r^2`, x and y below 2^64, modulo 2^130 − 5.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { compareBytes } from '../directory/bytes.ts';
import { CELL_BYTES, CT_BYTES, TAG_BYTES } from '../wire/datagram.ts';

const BLOCK_BYTES = 16;
/** From here on the ciphertext is not seen: half of its last whole block, and half a block behind it. */
const SEEN_BYTES = CT_BYTES - TAG_BYTES;
const HALF_BYTES = 8;
const HALF = 1n << 64n;
const WHOLE = 1n << 128n;
const PRIME = (1n << 130n) - 5n;
const CLAMP = 0x0ffffffc0ffffffc0ffffffc0fffffffn;
/** One is what there is to expect. A key that gives so many shows nothing. */
const MAX_CELLS = 64;

/**
 * The first 1240 bytes of every cell that becomes this output, `head` among them. Undefined: too many. `cell` is what head
 * becomes (1256 bytes) under this key, nonce and additional data (at most 16 bytes).
 */
export function headsOfOutput(
  suite: Pick<CryptoSuite, 'aeadSeal' | 'chacha20Xor'>,
  head: Uint8Array,
  cell: Uint8Array,
  ad: Uint8Array,
  nonce: Uint8Array,
  key: Uint8Array,
): Uint8Array[] | undefined {
  const tag = cell.subarray(0, TAG_BYTES);
  const ct = cell.slice(TAG_BYTES);
  const oneTime = new Uint8Array(32);
  suite.chacha20Xor(oneTime, oneTime, nonce, 0, key);
  const r = readLittle(oneTime.subarray(0, 16)) & CLAMP;
  const s = readLittle(oneTime.subarray(16));
  if (r === 0n) return undefined;
  const known = ct.slice().fill(0, SEEN_BYTES);
  const base = polynomial(r, ad, known);
  const unit = inverse((r * r) % PRIME);
  const a = (HALF * r) % PRIME;
  const sum = modulo(readLittle(tag) - s, WHOLE);
  const heads: Uint8Array[] = [];
  const out = new Uint8Array(CELL_BYTES);
  // The tag is the sum modulo 2^128: of the sum itself there are up to four.
  for (let value = sum; value < PRIME; value += WHOLE) {
    const rest = modulo((value - base) * unit, PRIME);
    const pairs = halves(a, rest);
    if (pairs === undefined) return undefined;
    for (const [x, y] of pairs) {
      const unseen = new Uint8Array(TAG_BYTES);
      writeLittle(unseen.subarray(0, HALF_BYTES), x);
      writeLittle(unseen.subarray(HALF_BYTES), y);
      const other = head.slice();
      // What both are masked with is the same.
      for (let i = 0; i < TAG_BYTES; i++) other[SEEN_BYTES + i]! ^= ct[SEEN_BYTES + i]! ^ unseen[i]!;
      suite.aeadSeal(out.subarray(TAG_BYTES), out.subarray(0, TAG_BYTES), other, ad, nonce, key);
      if (compareBytes(out.subarray(0, CT_BYTES), cell.subarray(0, CT_BYTES)) !== 0) return undefined;
      heads.push(other);
    }
  }
  return heads;
}

/** All x, y below 2^64 with `a·x + y ≡ rest`. Undefined: too many. */
function halves(a: bigint, rest: bigint): [bigint, bigint][] | undefined {
  const found: [bigint, bigint][] = [];
  for (let from = 0n; from < HALF; ) {
    // a·(from + more) must lie in the 2^64 places up to `rest`.
    const high = modulo(rest - a * from, PRIME);
    const low = high - HALF + 1n;
    const more = low <= 0n ? 0n : firstInRange(a, PRIME, low, high);
    if (more === undefined || from + more >= HALF) break;
    const x = from + more;
    if (found.length === MAX_CELLS) return undefined;
    found.push([x, modulo(rest - a * x, PRIME)]);
    from = x + 1n;
  }
  return found;
}

/** The least n ≥ 0 with `low ≤ a·n mod modulus ≤ high`, for 0 < low ≤ high < modulus, by Euclid's steps; undefined: none. */
function firstInRange(a: bigint, modulus: bigint, low: bigint, high: bigint): bigint | undefined {
  if (low === 0n) return 0n;
  if (a === 0n) return undefined;
  const direct = (low + a - 1n) / a;
  if (a * direct <= high) return direct;
  // Without a multiple of a in the range, the modulus has to be taken off some times.
  const times = firstInRange(modulus % a, a, modulo(-high, a), modulo(-low, a));
  return times === undefined ? undefined : (low + modulus * times + a - 1n) / a;
}

/** Poly1305 before `s` is added, not reduced to 128 bits: of additional data and ciphertext as RFC 8439 §2.8 has them. */
function polynomial(r: bigint, ad: Uint8Array, ct: Uint8Array): bigint {
  let sum = 0n;
  const add = (block: bigint) => {
    sum = ((sum + block + WHOLE) * r) % PRIME;
  };
  for (const bytes of [ad, ct]) {
    for (let at = 0; at < bytes.length; at += BLOCK_BYTES) add(readLittle(bytes.subarray(at, at + BLOCK_BYTES)));
  }
  add(BigInt(ad.length) + HALF * BigInt(ct.length));
  return sum;
}

/** By Fermat: the modulus is a prime. */
function inverse(value: bigint): bigint {
  let result = 1n;
  let square = value;
  for (let exponent = PRIME - 2n; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * square) % PRIME;
    square = (square * square) % PRIME;
  }
  return result;
}

function modulo(value: bigint, modulus: bigint): bigint {
  const rest = value % modulus;
  return rest < 0n ? rest + modulus : rest;
}

function readLittle(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}

function writeLittle(into: Uint8Array, value: bigint): void {
  for (let i = 0, rest = value; i < into.length; i++, rest >>= 8n) into[i] = Number(rest & 0xffn);
}
