/**
 * The portable suite, on @noble/*: browsers, and the independent second implementation in tests. Slower than the
 * native one and its per-packet functions allocate inside the library.
 */
import { __TESTS, chacha20, chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { blake2b } from '@noble/hashes/blake2.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { blake3 } from './blake3.ts';
import {
  assertAeadLengths,
  assertBlake2bLengths,
  assertLength,
  assertMultiplyLengths,
  assertStreamLengths,
} from './lengths.ts';
import { openPadded, PAD_BYTES } from './open-padded.ts';
import {
  type CryptoSuite,
  type DhKeyPair,
  ED25519_PUBLIC_KEY_BYTES,
  ED25519_SEED_BYTES,
  ED25519_SIGNATURE_BYTES,
  type KemKeyPair,
  MLKEM768_CIPHERTEXT_BYTES,
  MLKEM768_PUBLIC_KEY_BYTES,
  MLKEM768_SEED_BYTES,
  type SignKeyPair,
  X25519_BYTES,
} from './suite.ts';

const lastBlock = 0xffff_ffff;
/** "expand 32-byte k" as little-endian words (RFC 8439 §2.3). */
const sigma = Uint32Array.of(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574);

/** A suite without native code. Stateless; one can be shared. */
export function createNobleSuite(): CryptoSuite {
  const suite: CryptoSuite = {
    name: 'noble',

    aeadSeal(out, tag, plaintext, ad, nonce, key) {
      assertAeadLengths(out, tag, plaintext, nonce, key);
      const sealed = chacha20poly1305(key, nonce, ad).encrypt(plaintext);
      out.set(sealed.subarray(0, plaintext.length));
      tag.set(sealed.subarray(plaintext.length));
    },

    aeadOpen(out, tag, ciphertext, ad, nonce, key) {
      assertAeadLengths(out, tag, ciphertext, nonce, key);
      const sealed = new Uint8Array(ciphertext.length + tag.length);
      sealed.set(ciphertext);
      sealed.set(tag, ciphertext.length);
      let opened: Uint8Array;
      try {
        opened = chacha20poly1305(key, nonce, ad).decrypt(sealed);
      } catch (error) {
        if (error instanceof Error && error.message === 'invalid tag') return false;
        throw error;
      }
      out.set(opened);
      opened.fill(0);
      return true;
    },

    aeadOpenPadded(out, tag, ciphertext, ad, nonce, key) {
      assertAeadLengths(out, tag, ciphertext, nonce, key, PAD_BYTES);
      return openPadded(suite, out, tag, ciphertext, ad, nonce, key);
    },

    chacha20Xor(out, input, nonce, blockCounter, key) {
      assertStreamLengths(out, input, nonce, blockCounter, key);
      const blocks = Math.ceil(input.length / 64);
      if (blocks === 0) return;
      if (blockCounter + blocks <= lastBlock) {
        chacha20(key, nonce, input, out, blockCounter);
        return;
      }
      // The library refuses block 2^32−1, which header masks reach: their counter is a sample of the ciphertext.
      const head = (blocks - 1) * 64;
      if (head > 0) chacha20(key, nonce, input.subarray(0, head), out.subarray(0, head), blockCounter);
      xorLastBlock(out.subarray(head), input.subarray(head), nonce, key);
    },

    blake2b(out, key, input) {
      assertBlake2bLengths(out, key);
      out.set(blake2b(input, { key, dkLen: out.length }));
    },

    x25519Multiply(out, scalar, point) {
      assertMultiplyLengths(out, scalar, point);
      try {
        out.set(x25519.getSharedSecret(scalar, point));
        return true;
      } catch {
        // As in agree().
        return false;
      }
    },

    sha256(...parts) {
      const hash = sha256.create();
      for (const part of parts) hash.update(part);
      return hash.digest();
    },

    hkdf: (inputKey, salt, info, lengthBytes) => hkdf(sha256, inputKey, salt, info, lengthBytes),

    blake3,

    mac16(key, ...parts) {
      assertLength('MAC key', key, 32);
      const hash = blake2b.create({ key, dkLen: 16 });
      for (const part of parts) hash.update(part);
      return hash.digest();
    },

    x25519: x25519Pair,
    mlkem768: mlkem768Pair,

    mlkem768Encapsulate(publicKey, coins) {
      assertLength('ML-KEM-768 public key', publicKey, MLKEM768_PUBLIC_KEY_BYTES);
      assertLength('ML-KEM-768 coins', coins, 32);
      if (!hasReducedCoefficients(publicKey)) return undefined;
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(publicKey, coins);
      return { ciphertext: cipherText, sharedSecret: detached(sharedSecret) };
    },

    ed25519: ed25519Pair,

    ed25519Verify(publicKey, message, signature) {
      if (publicKey.length !== ED25519_PUBLIC_KEY_BYTES || signature.length !== ED25519_SIGNATURE_BYTES) return false;
      // RFC 8032 rules, not ZIP 215: only canonical encodings.
      return ed25519.verify(signature, message, publicKey, { zip215: false });
    },

    equal(a, b) {
      if (a.length !== b.length) return false;
      let difference = 0;
      for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
      return difference === 0;
    },

    wipe(...buffers) {
      for (const buffer of buffers) buffer.fill(0);
    },
  };
  return suite;
}

function x25519Pair(secretKey: Uint8Array): DhKeyPair {
  assertLength('X25519 secret key', secretKey, X25519_BYTES);
  const secret = new HeldSecret('X25519', new Uint8Array(secretKey));
  return {
    publicKey: x25519.getPublicKey(secret.use()),
    agree(peerPublicKey) {
      assertLength('X25519 public key', peerPublicKey, X25519_BYTES);
      const scalar = secret.use();
      try {
        return x25519.getSharedSecret(scalar, peerPublicKey);
      } catch {
        // With lengths asserted, the library throws for one thing only: an all-zero result.
        return undefined;
      }
    },
    wipe: () => secret.wipe(),
  };
}

function mlkem768Pair(seed: Uint8Array): KemKeyPair {
  assertLength('ML-KEM-768 seed', seed, MLKEM768_SEED_BYTES);
  const { publicKey, secretKey } = ml_kem768.keygen(seed);
  const secret = new HeldSecret('ML-KEM-768', secretKey);
  return {
    publicKey,
    decapsulate(ciphertext) {
      assertLength('ML-KEM-768 ciphertext', ciphertext, MLKEM768_CIPHERTEXT_BYTES);
      return detached(ml_kem768.decapsulate(ciphertext, secret.use()));
    },
    wipe: () => secret.wipe(),
  };
}

function ed25519Pair(seed: Uint8Array): SignKeyPair {
  assertLength('Ed25519 seed', seed, ED25519_SEED_BYTES);
  const secret = new HeldSecret('Ed25519', new Uint8Array(seed));
  return {
    publicKey: ed25519.getPublicKey(secret.use()),
    sign: (message) => ed25519.sign(message, secret.use()),
    wipe: () => secret.wipe(),
  };
}

/** A secret that can't be used by mistake once it was erased: all zeros would be a key like any other. */
class HeldSecret {
  readonly #name: string;
  readonly #bytes: Uint8Array;
  #wiped = false;

  constructor(name: string, bytes: Uint8Array) {
    this.#name = name;
    this.#bytes = bytes;
  }

  use(): Uint8Array {
    if (this.#wiped) throw new Error(`${this.#name} key was wiped`);
    return this.#bytes;
  }

  wipe(): void {
    this.#wiped = true;
    this.#bytes.fill(0);
  }
}

/** The library returns secrets as views of larger scratch memory: takes them out and erases what they lay in. */
function detached(secret: Uint8Array): Uint8Array {
  const copy = new Uint8Array(secret);
  new Uint8Array(secret.buffer).fill(0);
  return copy;
}

/** FIPS 203 §7.2, modulus check: every 12-bit coefficient of the first 1152 bytes is below q = 3329. */
function hasReducedCoefficients(publicKey: Uint8Array): boolean {
  const q = 3329;
  for (let i = 0; i < 1152; i += 3) {
    const middle = publicKey[i + 1]!;
    const first = publicKey[i]! | ((middle & 0x0f) << 8);
    const second = (middle >>> 4) | (publicKey[i + 2]! << 4);
    if (first >= q || second >= q) return false;
  }
  return true;
}

/** XORs block 2^32−1 of the keystream over up to 64 bytes, with the library's own block function. */
function xorLastBlock(out: Uint8Array, input: Uint8Array, nonce: Uint8Array, key: Uint8Array): void {
  const keyWords = littleEndianWords(key);
  const block = new Uint32Array(16);
  __TESTS.chachaCore(sigma, keyWords, littleEndianWords(nonce), block, lastBlock, 20);
  for (let i = 0; i < input.length; i++) out[i] = input[i]! ^ (block[i >>> 2]! >>> (8 * (i & 3)));
  keyWords.fill(0);
  block.fill(0);
}

function littleEndianWords(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const words = new Uint32Array(bytes.length / 4);
  for (let i = 0; i < words.length; i++) words[i] = view.getUint32(4 * i, true);
  return words;
}
