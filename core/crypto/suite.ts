/**
 * The primitives the protocol stands on, behind one interface, so that a native suite (Node) and a portable
 * one (browsers, tests) can replace each other. No primitive is implemented in this project.
 *
 * Conventions: every length is fixed by the standard and asserted by the suite; outputs go into buffers of the
 * caller; nothing is retained. Per-packet functions never allocate and never throw for bad data.
 */

export const AEAD_KEY_BYTES = 32;
export const AEAD_NONCE_BYTES = 12;
export const AEAD_TAG_BYTES = 16;
export const X25519_BYTES = 32;
export const MLKEM768_PUBLIC_KEY_BYTES = 1184;
export const MLKEM768_CIPHERTEXT_BYTES = 1088;
export const MLKEM768_SEED_BYTES = 64;
export const MLKEM_SHARED_BYTES = 32;
export const ED25519_PUBLIC_KEY_BYTES = 32;
export const ED25519_SEED_BYTES = 32;
export const ED25519_SIGNATURE_BYTES = 64;

/** An ML-KEM-768 key pair ready for use; how the secret is held is the suite's affair. */
export interface KemKeyPair {
  readonly publicKey: Uint8Array;
  /** Shared secret (32 bytes) for a 1088-byte ciphertext; implicit rejection as in FIPS 203 §6.3, never throws for content. */
  decapsulate(ciphertext: Uint8Array): Uint8Array;
  /** Erases the secret as far as the platform allows; the pair is unusable afterwards. */
  wipe(): void;
}

/** An X25519 key pair (RFC 7748). */
export interface DhKeyPair {
  readonly publicKey: Uint8Array;
  /** Shared secret (32 bytes), or undefined when the peer's key is of low order (all-zero output, RFC 7748 §6.1). */
  agree(peerPublicKey: Uint8Array): Uint8Array | undefined;
  wipe(): void;
}

/** An Ed25519 key pair (RFC 8032). */
export interface SignKeyPair {
  readonly publicKey: Uint8Array;
  sign(message: Uint8Array): Uint8Array;
  wipe(): void;
}

export interface CryptoSuite {
  readonly name: 'native' | 'noble';

  // --- per packet: no allocation, buffers of the caller; `out` may be exactly the same memory as the input ---

  /** ChaCha20-Poly1305 (RFC 8439 §2.8), tag detached. `out.length === plaintext.length`, `tag` is 16 bytes. */
  aeadSeal(
    out: Uint8Array,
    tag: Uint8Array,
    plaintext: Uint8Array,
    ad: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): void;
  /** Opens what aeadSeal made. False when the tag does not verify; `out` is then unspecified and must not be used. */
  aeadOpen(
    out: Uint8Array,
    tag: Uint8Array,
    ciphertext: Uint8Array,
    ad: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): boolean;
  /**
   * aeadOpen, and 16 bytes more: `out` is that much longer than the ciphertext and ends in the keystream that follows, which is
   * what 16 zeros behind the ciphertext would decrypt to. Must not be the same memory. When it gives false, `out` is unspecified.
   */
  aeadOpenPadded(
    out: Uint8Array,
    tag: Uint8Array,
    ciphertext: Uint8Array,
    ad: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): boolean;
  /** `out = input XOR ChaCha20 keystream` from 64-byte block `blockCounter` on (RFC 8439 §2.4). */
  chacha20Xor(out: Uint8Array, input: Uint8Array, nonce: Uint8Array, blockCounter: number, key: Uint8Array): void;
  /** Keyed BLAKE2b (RFC 7693), 32-byte key, as many bytes as `out` has: 16…64. `out` must not overlap the rest. */
  blake2b(out: Uint8Array, key: Uint8Array, input: Uint8Array): void;
  /**
   * `out = X25519(scalar, point)` (RFC 7748 §5, so the scalar is clamped); all 32 bytes. False for a point of low order
   * (all-zero result, §6.1), `out` is then unspecified.
   */
  x25519Multiply(out: Uint8Array, scalar: Uint8Array, point: Uint8Array): boolean;

  // --- per handshake ---

  sha256(...parts: Uint8Array[]): Uint8Array;
  /** HKDF-SHA-256 (RFC 5869), extract and expand. */
  hkdf(inputKey: Uint8Array, salt: Uint8Array, info: Uint8Array, lengthBytes: number): Uint8Array;
  /** BLAKE3, 32 bytes. */
  blake3(...parts: Uint8Array[]): Uint8Array;
  /** Keyed BLAKE2b (RFC 7693) with a 32-byte key, 16 bytes out: short MACs. */
  mac16(key: Uint8Array, ...parts: Uint8Array[]): Uint8Array;

  x25519(secretKey: Uint8Array): DhKeyPair;
  mlkem768(seed: Uint8Array): KemKeyPair;
  /**
   * Encapsulates to a public key (FIPS 203 §6.2); `undefined` when the key fails the modulus check of §7.2.
   * `coins` (32 bytes) makes it deterministic where the suite can (noble); a suite that cannot uses the operating
   * system's generator and ignores them. `keep`: a node's published key, which will be used again; a suite may keep it
   * in a form that saves work.
   */
  mlkem768Encapsulate(
    publicKey: Uint8Array,
    coins: Uint8Array,
    keep?: boolean,
  ): { ciphertext: Uint8Array; sharedSecret: Uint8Array } | undefined;
  ed25519(seed: Uint8Array): SignKeyPair;
  /** False for anything that does not verify, malformed keys and signatures included. */
  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;

  /** Constant-time comparison; false when the lengths differ. */
  equal(a: Uint8Array, b: Uint8Array): boolean;
  /** Overwrites with zeros in a way that is not optimised away. */
  wipe(...buffers: Uint8Array[]): void;
}
