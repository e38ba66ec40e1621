/**
 * X25519 by libsodium. node:crypto would make a key object for every public key that comes in and derive each public key
 * anew: about twice the time of a set-up's exchange, and secrets that only the garbage collector clears.
 */
import { createRequire } from 'node:module';
import { assertLength, assertMultiplyLengths } from '@nyx/core/crypto/lengths.ts';
import { type DhKeyPair, X25519_BYTES } from '@nyx/core/crypto/suite.ts';

/** They return 0, or −1 for an all-zero result (RFC 7748 §6.1). */
interface Binding {
  crypto_scalarmult_base(publicKey: Uint8Array, secretKey: Uint8Array): number;
  crypto_scalarmult(shared: Uint8Array, secretKey: Uint8Array, publicKey: Uint8Array): number;
}

const sodium: Binding = createRequire(import.meta.url)('sodium-native/binding');

/** As CryptoSuite.x25519. Copies `secretKey` (32 bytes) and erases the copy on wipe(). */
export function x25519Pair(secretKey: Uint8Array): DhKeyPair {
  assertLength('X25519 secret key', secretKey, X25519_BYTES);
  const secret = new Uint8Array(secretKey);
  let wiped = false;
  const publicKey = new Uint8Array(X25519_BYTES);
  if (sodium.crypto_scalarmult_base(publicKey, secret) !== 0) throw new Error('X25519 gave no public key');
  return {
    publicKey,
    agree(peerPublicKey) {
      assertLength('X25519 public key', peerPublicKey, X25519_BYTES);
      if (wiped) throw new Error('x25519 key was wiped');
      const shared = new Uint8Array(X25519_BYTES);
      return sodium.crypto_scalarmult(shared, secret, peerPublicKey) === 0 ? shared : undefined;
    },
    wipe() {
      wiped = true;
      secret.fill(0);
    },
  };
}

/** As CryptoSuite.x25519Multiply. */
export function x25519Multiply(out: Uint8Array, scalar: Uint8Array, point: Uint8Array): boolean {
  assertMultiplyLengths(out, scalar, point);
  return sodium.crypto_scalarmult(out, scalar, point) === 0;
}
