/** Length assertions that every suite makes before it touches memory. */
import { AEAD_KEY_BYTES, AEAD_NONCE_BYTES, AEAD_TAG_BYTES, X25519_BYTES } from './suite.ts';

/** ChaCha20 counts 64-byte blocks in 32 bits (RFC 8439 §2.3). */
const maxBlocks = 2 ** 32;

/** Throws RangeError unless the buffers of an AEAD call have their lengths, `out` with `more` bytes. A wrong length is the caller's bug. */
export function assertAeadLengths(
  out: Uint8Array,
  tag: Uint8Array,
  input: Uint8Array,
  nonce: Uint8Array,
  key: Uint8Array,
  more = 0,
): void {
  if (
    out.length !== input.length + more ||
    tag.length !== AEAD_TAG_BYTES ||
    nonce.length !== AEAD_NONCE_BYTES ||
    key.length !== AEAD_KEY_BYTES
  ) {
    throw new RangeError(
      `AEAD lengths: out ${out.length} must be input ${input.length} and ${more}, tag ${tag.length} must be ${AEAD_TAG_BYTES}, nonce ${nonce.length} must be ${AEAD_NONCE_BYTES}, key ${key.length} must be ${AEAD_KEY_BYTES}`,
    );
  }
}

/** The same for a ChaCha20 call; the keystream must not run over the end of the block counter. */
export function assertStreamLengths(
  out: Uint8Array,
  input: Uint8Array,
  nonce: Uint8Array,
  blockCounter: number,
  key: Uint8Array,
): void {
  if (out.length !== input.length || nonce.length !== AEAD_NONCE_BYTES || key.length !== AEAD_KEY_BYTES) {
    throw new RangeError(
      `ChaCha20 lengths: out ${out.length} must equal input ${input.length}, nonce ${nonce.length} must be ${AEAD_NONCE_BYTES}, key ${key.length} must be ${AEAD_KEY_BYTES}`,
    );
  }
  // The first comparison is negated so that it refuses NaN as well.
  if (!(blockCounter >= 0) || blockCounter + Math.ceil(input.length / 64) > maxBlocks || blockCounter % 1 !== 0) {
    throw new RangeError(`ChaCha20 block counter ${blockCounter} with ${input.length} bytes leaves 0…2^32−1`);
  }
}

/** The same for keyed BLAKE2b. */
export function assertBlake2bLengths(out: Uint8Array, key: Uint8Array): void {
  if (out.length < 16 || out.length > 64 || key.length !== 32) {
    throw new RangeError(`BLAKE2b lengths: out ${out.length} must be 16…64, key ${key.length} must be 32`);
  }
}

/** The same for a multiplication on Curve25519. */
export function assertMultiplyLengths(out: Uint8Array, scalar: Uint8Array, point: Uint8Array): void {
  if (out.length !== X25519_BYTES || scalar.length !== X25519_BYTES || point.length !== X25519_BYTES) {
    throw new RangeError(
      `X25519 lengths: out ${out.length}, scalar ${scalar.length} and point ${point.length} must be ${X25519_BYTES}`,
    );
  }
}

/** Throws RangeError unless `bytes` has exactly `length` bytes. */
export function assertLength(name: string, bytes: Uint8Array, length: number): void {
  if (!(bytes instanceof Uint8Array) || bytes.length !== length) {
    throw new RangeError(`${name} must be ${length} bytes, got ${bytes?.length}`);
  }
}
