/**
 * Modular powers by the OpenSSL inside Node, for the proofs of class cmix: the raw RSA operation (no padding) is m^e mod n
 * for any e, and four to eight times as fast as bigints. Node offers no other way to it.
 */
import { constants, createPublicKey, type KeyObject, publicEncrypt } from 'node:crypto';
import { bigintToBytes, bytesToBigint, type PowMod, plainPowMod } from '@nyx/core/mix/rsa-group.ts';

/** OpenSSL takes exponents of any size up to moduli of 3072 bits, and none that are not smaller than the modulus. */
const MAX_MODULUS_BITS = 3072;
/** Below this many bits of modulus, and for short exponents, the call costs more than it saves. */
const MIN_MODULUS_BITS = 1024;
const MIN_EXPONENT_BITS = 48;
const MAX_KEYS = 16;

/** The same for every thread; keeps keys of exponents that come again. */
export function createNativePowMod(): PowMod {
  const keys = new Map<string, KeyObject>();
  let jumps:
    | { readonly modulus: bigint; readonly bits: number; readonly bytes: number; readonly n: string }
    | undefined;

  const power = (base: bigint, exponent: bigint, bytes: number, n: string): bigint => {
    const hex = exponent.toString(16);
    // Powers of two are the steps of a VDF; any other exponent is used once.
    const again = /^[1248]0+$/.test(hex);
    let key = again ? keys.get(hex) : undefined;
    if (key === undefined) {
      key = createPublicKey({ key: { kty: 'RSA', n, e: base64url(exponent) }, format: 'jwk' });
      if (again) {
        if (keys.size >= MAX_KEYS) keys.clear();
        keys.set(hex, key);
      }
    }
    return bytesToBigint(publicEncrypt({ key, padding: constants.RSA_NO_PADDING }, bigintToBytes(base, bytes)));
  };

  return (base, exponent, modulus) => {
    if (jumps?.modulus !== modulus) {
      keys.clear();
      const bits = modulus.toString(2).length;
      jumps = { modulus, bits, bytes: Math.ceil(bits / 8), n: base64url(modulus) };
    }
    const { bits, bytes, n } = jumps;
    const exponentBits = exponent.toString(2).length;
    const suits = bits >= MIN_MODULUS_BITS && bits <= MAX_MODULUS_BITS && exponentBits >= MIN_EXPONENT_BITS;
    if (!suits || base >= modulus) return plainPowMod(base % modulus, exponent, modulus);
    const pieceBits = BigInt(bits - 8);
    if (exponentBits <= Number(pieceBits)) return power(base, exponent, bytes, n);
    // Longer exponents in pieces, the highest first.
    const mask = (1n << pieceBits) - 1n;
    const pieces: bigint[] = [];
    for (let rest = exponent; rest > 0n; rest >>= pieceBits) pieces.push(rest & mask);
    let result = 1n;
    for (let i = pieces.length - 1; i >= 0; i--) {
      if (i < pieces.length - 1) result = power(result, 1n << pieceBits, bytes, n);
      if (pieces[i]! > 0n) result = (result * power(base, pieces[i]!, bytes, n)) % modulus;
    }
    return result;
  };
}

function base64url(value: bigint): string {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex').toString('base64url');
}
