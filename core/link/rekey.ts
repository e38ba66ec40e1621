/** The two messages of a rekey (docs/protocol.md §2.4): a fresh X25519 and ML-KEM-768 exchange inside the link. */
import {
  type CryptoSuite,
  type DhKeyPair,
  type KemKeyPair,
  MLKEM768_CIPHERTEXT_BYTES,
  MLKEM768_PUBLIC_KEY_BYTES,
  MLKEM768_SEED_BYTES,
  X25519_BYTES,
} from '../crypto/suite.ts';
import type { Random } from '../ports.ts';
import { LINK_ID_BYTES, readLinkId, writeLinkId } from '../wire/datagram.ts';
import { type LinkKeys, rekeyedLinkKeys } from './link-keys.ts';

export const REKEY_INIT_BYTES = LINK_ID_BYTES + X25519_BYTES + MLKEM768_PUBLIC_KEY_BYTES;
export const REKEY_RESPONSE_BYTES = LINK_ID_BYTES + X25519_BYTES + MLKEM768_CIPHERTEXT_BYTES;

/** A rekey that the initiator has begun. */
export interface RekeyStart {
  /** Our new receive link id. */
  readonly linkId: number;
  readonly body: Uint8Array;
  readonly dh: DhKeyPair;
  readonly kem: KemKeyPair;
}

/** Keys that follow from an exchange, and the id under which the peer receives from then on. */
export interface Rekeyed {
  readonly keys: LinkKeys;
  readonly peerLinkId: number;
}

export function freshDh(suite: CryptoSuite, random: Random): DhKeyPair {
  const secret = new Uint8Array(X25519_BYTES);
  random.fill(secret);
  const pair = suite.x25519(secret);
  suite.wipe(secret);
  return pair;
}

export function freshKem(suite: CryptoSuite, random: Random): KemKeyPair {
  const seed = new Uint8Array(MLKEM768_SEED_BYTES);
  random.fill(seed);
  const pair = suite.mlkem768(seed);
  suite.wipe(seed);
  return pair;
}

export function startRekey(suite: CryptoSuite, random: Random, linkId: number): RekeyStart {
  const dh = freshDh(suite, random);
  const kem = freshKem(suite, random);
  const body = new Uint8Array(REKEY_INIT_BYTES);
  writeLinkId(body, linkId);
  body.set(dh.publicKey, LINK_ID_BYTES);
  body.set(kem.publicKey, LINK_ID_BYTES + X25519_BYTES);
  return { linkId, body, dh, kem };
}

/** The responder's part. Undefined for a malformed message. */
export function answerRekey(
  suite: CryptoSuite,
  random: Random,
  before: LinkKeys,
  initBody: Uint8Array,
  linkId: number,
): (Rekeyed & { readonly body: Uint8Array }) | undefined {
  if (initBody.length !== REKEY_INIT_BYTES) return undefined;
  const peerLinkId = readLinkId(initBody);
  if (peerLinkId === 0) return undefined;
  const coins = new Uint8Array(32);
  random.fill(coins);
  const dh = freshDh(suite, random);
  const shared = dh.agree(initBody.slice(LINK_ID_BYTES, LINK_ID_BYTES + X25519_BYTES));
  const capsule = suite.mlkem768Encapsulate(initBody.slice(LINK_ID_BYTES + X25519_BYTES), coins);
  suite.wipe(coins);
  dh.wipe();
  if (shared === undefined || capsule === undefined) return undefined;
  const body = new Uint8Array(REKEY_RESPONSE_BYTES);
  writeLinkId(body, linkId);
  body.set(dh.publicKey, LINK_ID_BYTES);
  body.set(capsule.ciphertext, LINK_ID_BYTES + X25519_BYTES);
  const keys = mix(suite, before, shared, capsule.sharedSecret, initBody, body);
  return { keys, peerLinkId, body };
}

/** The initiator's end of it. Undefined for a malformed message. Wipes the ephemeral keys. */
export function finishRekey(
  suite: CryptoSuite,
  start: RekeyStart,
  before: LinkKeys,
  responseBody: Uint8Array,
): Rekeyed | undefined {
  if (responseBody.length !== REKEY_RESPONSE_BYTES) return undefined;
  const peerLinkId = readLinkId(responseBody);
  if (peerLinkId === 0) return undefined;
  const shared = start.dh.agree(responseBody.slice(LINK_ID_BYTES, LINK_ID_BYTES + X25519_BYTES));
  const kemShared = start.kem.decapsulate(responseBody.slice(LINK_ID_BYTES + X25519_BYTES));
  wipeRekey(start);
  if (shared === undefined) return undefined;
  return { keys: mix(suite, before, shared, kemShared, start.body, responseBody), peerLinkId };
}

export function wipeRekey(start: RekeyStart): void {
  start.dh.wipe();
  start.kem.wipe();
}

function mix(
  suite: CryptoSuite,
  before: LinkKeys,
  dhShared: Uint8Array,
  kemShared: Uint8Array,
  initBody: Uint8Array,
  responseBody: Uint8Array,
): LinkKeys {
  const secret = new Uint8Array(64);
  secret.set(dhShared);
  secret.set(kemShared, 32);
  suite.wipe(dhShared, kemShared);
  return rekeyedLinkKeys(suite, before, secret, initBody, responseBody);
}
