/** The hybrid exchange that gives the last hop's layer forward secrecy (docs/protocol.md §3.1, §4, §5 KEYS and REKEY). */
import {
  type CryptoSuite,
  type DhKeyPair,
  type KemKeyPair,
  MLKEM_SHARED_BYTES,
  MLKEM768_CIPHERTEXT_BYTES,
  MLKEM768_PUBLIC_KEY_BYTES,
  MLKEM768_SEED_BYTES,
  X25519_BYTES,
} from '../crypto/suite.ts';
import type { Random } from '../ports.ts';

/** X25519 public key ‖ ML-KEM-768 ciphertext. */
export const REPLY_BYTES = X25519_BYTES + MLKEM768_CIPHERTEXT_BYTES;
/** X25519 public key ‖ ML-KEM-768 public key. */
export const CLIENT_FRESH_BYTES = X25519_BYTES + MLKEM768_PUBLIC_KEY_BYTES;

/** The client's side: key pairs of one exchange, to be wiped after it. */
export interface FreshKeys {
  readonly dh: DhKeyPair;
  readonly kem: KemKeyPair;
}

/** What the last hop gets of them. */
export interface ClientFresh {
  readonly x25519: Uint8Array;
  readonly kem: Uint8Array;
}

export function createFreshKeys(suite: CryptoSuite, random: Random): FreshKeys {
  const secret = new Uint8Array(X25519_BYTES + MLKEM768_SEED_BYTES);
  random.fill(secret);
  const fresh = {
    dh: suite.x25519(secret.subarray(0, X25519_BYTES)),
    kem: suite.mlkem768(secret.subarray(X25519_BYTES)),
  };
  suite.wipe(secret);
  return fresh;
}

export function wipeFreshKeys(fresh: FreshKeys): void {
  fresh.dh.wipe();
  fresh.kem.wipe();
}

/**
 * The last hop's answer (1120 bytes) and the secret both will share (DH ‖ KEM secret, 64 bytes). Undefined when a key
 * of the client's is not a valid one. Takes `spare`, an ephemeral key pair made ahead.
 */
export function lastHopReply(
  suite: CryptoSuite,
  random: Random,
  client: ClientFresh,
  spare?: DhKeyPair,
): { message: Uint8Array; shared: Uint8Array } | undefined {
  if (client.x25519.length !== X25519_BYTES || client.kem.length !== MLKEM768_PUBLIC_KEY_BYTES) {
    spare?.wipe();
    return undefined;
  }
  const secret = new Uint8Array(X25519_BYTES + MLKEM_SHARED_BYTES);
  random.fill(secret);
  const own = spare ?? suite.x25519(secret.subarray(0, X25519_BYTES));
  const dh = own.agree(client.x25519);
  const kem = suite.mlkem768Encapsulate(client.kem, secret.subarray(X25519_BYTES));
  suite.wipe(secret);
  const message = new Uint8Array(REPLY_BYTES);
  message.set(own.publicKey);
  own.wipe();
  if (dh === undefined || kem === undefined) {
    if (dh !== undefined) suite.wipe(dh);
    if (kem !== undefined) suite.wipe(kem.sharedSecret);
    return undefined;
  }
  message.set(kem.ciphertext, X25519_BYTES);
  return { message, shared: join(suite, dh, kem.sharedSecret) };
}

/** The client's end of it: the same 64 bytes, or undefined for a message that is none. */
export function finishReply(suite: CryptoSuite, fresh: FreshKeys, message: Uint8Array): Uint8Array | undefined {
  if (message.length !== REPLY_BYTES) return undefined;
  const dh = fresh.dh.agree(message.subarray(0, X25519_BYTES));
  if (dh === undefined) return undefined;
  return join(suite, dh, fresh.kem.decapsulate(message.subarray(X25519_BYTES)));
}

/** Takes both. */
function join(suite: CryptoSuite, dh: Uint8Array, kem: Uint8Array): Uint8Array {
  const shared = new Uint8Array(X25519_BYTES + MLKEM_SHARED_BYTES);
  shared.set(dh);
  shared.set(kem, X25519_BYTES);
  suite.wipe(dh, kem);
  return shared;
}
