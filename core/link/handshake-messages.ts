/** The two messages of the handshake (docs/protocol.md §2.2): IK-like, hybrid, the initiator's identity encrypted. */
import { ZERO_NONCE } from '../crypto/key-schedule.ts';
import {
  type CryptoSuite,
  type DhKeyPair,
  type KemKeyPair,
  MLKEM768_CIPHERTEXT_BYTES,
  MLKEM768_PUBLIC_KEY_BYTES,
  X25519_BYTES,
} from '../crypto/suite.ts';
import type { Random } from '../ports.ts';
import { LINK_ID_BYTES, readLinkId, TAG_BYTES, writeLinkId } from '../wire/datagram.ts';
import { type LinkKeys, Transcript } from './link-keys.ts';
import { freshDh, freshKem } from './rekey.ts';

export const LINK_VERSION = 1;
const flagNamed = 1;
const nodeIdBytes = 32;

const ctsOffset = X25519_BYTES;
const kemOffset = ctsOffset + MLKEM768_CIPHERTEXT_BYTES;
const initTagOffset = kemOffset + MLKEM768_PUBLIC_KEY_BYTES;
const identityOffset = initTagOffset + TAG_BYTES;
const identityBytes = 1 + 1 + LINK_ID_BYTES + 8 + nodeIdBytes + X25519_BYTES;
export const INIT_BYTES = identityOffset + identityBytes;

const cteOffset = X25519_BYTES;
const responseTagOffset = cteOffset + MLKEM768_CIPHERTEXT_BYTES;
const answerOffset = responseTagOffset + TAG_BYTES;
const answerBytes = 1 + LINK_ID_BYTES + 1;
export const RESPONSE_BYTES = answerOffset + answerBytes;

/** Last byte of a response. */
export const HandshakeStatus = { accepted: 0, refused: 1 } as const;

/** The responder's public link keys. */
export interface ResponderKeys {
  readonly x25519: Uint8Array;
  readonly kem: Uint8Array;
}

/** Who the initiator says it is. */
export interface NamedIdentity {
  readonly nodeId: Uint8Array;
  readonly dh: DhKeyPair;
}

/** An init that waits for its response. */
export interface InitState {
  readonly message: Uint8Array;
  readonly dh: DhKeyPair;
  readonly kem: KemKeyPair;
  readonly identity: NamedIdentity | undefined;
  /** State after the init; each response is tried on a copy of it. */
  readonly transcript: Transcript;
}

/** Undefined when the responder's published keys are no keys. */
export function makeInit(
  suite: CryptoSuite,
  random: Random,
  responder: ResponderKeys,
  localId: number,
  timestampMs: number,
  identity: NamedIdentity | undefined,
): InitState | undefined {
  const coins = new Uint8Array(32);
  random.fill(coins);
  const capsule = suite.mlkem768Encapsulate(responder.kem, coins);
  suite.wipe(coins);
  const dh = freshDh(suite, random);
  const shared = dh.agree(responder.x25519);
  if (capsule === undefined || shared === undefined) return undefined;
  const kem = freshKem(suite, random);
  const message = new Uint8Array(INIT_BYTES);
  message.set(dh.publicKey);
  message.set(capsule.ciphertext, ctsOffset);
  message.set(kem.publicKey, kemOffset);
  const transcript = new Transcript(suite, responder.x25519, responder.kem);
  transcript.mixHash(message.subarray(0, initTagOffset));
  suite.wipe(transcript.mixKey(shared));
  const k1 = transcript.mixKey(capsule.sharedSecret);
  const plaintext = message.subarray(identityOffset);
  writeIdentity(plaintext, localId, timestampMs, identity);
  suite.aeadSeal(
    plaintext,
    message.subarray(initTagOffset, identityOffset),
    plaintext,
    transcript.hash,
    ZERO_NONCE,
    k1,
  );
  suite.wipe(k1);
  transcript.mixHash(message.subarray(initTagOffset));
  return { message, dh, kem, identity, transcript };
}

/** An opened init. */
export interface OpenedInit {
  readonly peerLinkId: number;
  /** 0 for anonymous initiators. */
  readonly timestampMs: number;
  readonly named: { readonly nodeId: Uint8Array; readonly x25519: Uint8Array } | undefined;
  readonly transcript: Transcript;
}

/** Undefined when it does not open or says something impossible. `message` is INIT_BYTES long. */
export function openInit(
  suite: CryptoSuite,
  dh: DhKeyPair,
  kem: KemKeyPair,
  message: Uint8Array,
): OpenedInit | undefined {
  const shared = dh.agree(message.slice(0, X25519_BYTES));
  if (shared === undefined) return undefined;
  const transcript = new Transcript(suite, dh.publicKey, kem.publicKey);
  transcript.mixHash(message.subarray(0, initTagOffset));
  suite.wipe(transcript.mixKey(shared));
  const k1 = transcript.mixKey(kem.decapsulate(message.slice(ctsOffset, kemOffset)));
  const plaintext = new Uint8Array(identityBytes);
  const tag = message.subarray(initTagOffset, identityOffset);
  const opened = suite.aeadOpen(plaintext, tag, message.subarray(identityOffset), transcript.hash, ZERO_NONCE, k1);
  suite.wipe(k1);
  const identity = opened ? readIdentity(plaintext) : undefined;
  if (identity === undefined) {
    transcript.wipe();
    return undefined;
  }
  transcript.mixHash(message.subarray(initTagOffset));
  return { ...identity, transcript };
}

/** The responder's answer and the keys that follow. Undefined when the initiator's keys are no keys. */
export function answerInit(
  suite: CryptoSuite,
  random: Random,
  initMessage: Uint8Array,
  init: OpenedInit,
  localId: number,
  status: number,
): { message: Uint8Array; keys: LinkKeys } | undefined {
  const { transcript } = init;
  const coins = new Uint8Array(32);
  random.fill(coins);
  const capsule = suite.mlkem768Encapsulate(initMessage.slice(kemOffset, initTagOffset), coins);
  const dh = freshDh(suite, random);
  const shared = dh.agree(initMessage.slice(0, X25519_BYTES));
  const named = init.named && dh.agree(init.named.x25519);
  suite.wipe(coins);
  dh.wipe();
  if (capsule === undefined || shared === undefined || (init.named !== undefined && named === undefined)) {
    transcript.wipe();
    return undefined;
  }
  const message = new Uint8Array(RESPONSE_BYTES);
  message.set(dh.publicKey);
  message.set(capsule.ciphertext, cteOffset);
  transcript.mixHash(message.subarray(0, responseTagOffset));
  const k2 = mixResponse(suite, transcript, shared, named, capsule.sharedSecret);
  const plaintext = message.subarray(answerOffset);
  plaintext[0] = LINK_VERSION;
  writeLinkId(plaintext.subarray(1), localId);
  plaintext[1 + LINK_ID_BYTES] = status;
  const tag = message.subarray(responseTagOffset, answerOffset);
  suite.aeadSeal(plaintext, tag, plaintext, transcript.hash, ZERO_NONCE, k2);
  suite.wipe(k2);
  transcript.mixHash(message.subarray(responseTagOffset));
  return { message, keys: transcript.finish() };
}

/** The initiator's end. Undefined when the response does not open; the init stays usable for another one. */
export function openResponse(
  suite: CryptoSuite,
  init: InitState,
  message: Uint8Array,
): { peerLinkId: number; status: number; keys: LinkKeys } | undefined {
  const ephemeral = message.slice(0, X25519_BYTES);
  const shared = init.dh.agree(ephemeral);
  const named = init.identity?.dh.agree(ephemeral);
  if (shared === undefined || (init.identity !== undefined && named === undefined)) return undefined;
  const kemShared = init.kem.decapsulate(message.slice(cteOffset, responseTagOffset));
  const transcript = init.transcript.copy();
  transcript.mixHash(message.subarray(0, responseTagOffset));
  const k2 = mixResponse(suite, transcript, shared, named, kemShared);
  const plaintext = new Uint8Array(answerBytes);
  const tag = message.subarray(responseTagOffset, answerOffset);
  const opened = suite.aeadOpen(plaintext, tag, message.subarray(answerOffset), transcript.hash, ZERO_NONCE, k2);
  suite.wipe(k2);
  const peerLinkId = readLinkId(plaintext.subarray(1));
  const status = plaintext[1 + LINK_ID_BYTES]!;
  if (!opened || plaintext[0] !== LINK_VERSION || (status === HandshakeStatus.accepted && peerLinkId === 0)) {
    transcript.wipe();
    return undefined;
  }
  transcript.mixHash(message.subarray(responseTagOffset));
  return { peerLinkId, status, keys: transcript.finish() };
}

function mixResponse(
  suite: CryptoSuite,
  transcript: Transcript,
  shared: Uint8Array,
  named: Uint8Array | undefined,
  kemShared: Uint8Array,
): Uint8Array {
  suite.wipe(transcript.mixKey(shared));
  if (named !== undefined) suite.wipe(transcript.mixKey(named));
  return transcript.mixKey(kemShared);
}

function writeIdentity(
  into: Uint8Array,
  localId: number,
  timestampMs: number,
  identity: NamedIdentity | undefined,
): void {
  into.fill(0);
  into[0] = LINK_VERSION;
  writeLinkId(into.subarray(2), localId);
  if (identity === undefined) return;
  into[1] = flagNamed;
  const view = new DataView(into.buffer, into.byteOffset + 2 + LINK_ID_BYTES, 8);
  view.setBigUint64(0, BigInt(timestampMs));
  into.set(identity.nodeId, 2 + LINK_ID_BYTES + 8);
  into.set(identity.dh.publicKey, 2 + LINK_ID_BYTES + 8 + nodeIdBytes);
}

function readIdentity(plaintext: Uint8Array): Omit<OpenedInit, 'transcript'> | undefined {
  const peerLinkId = readLinkId(plaintext.subarray(2));
  if (plaintext[0] !== LINK_VERSION || plaintext[1]! > flagNamed || peerLinkId === 0) return undefined;
  if (plaintext[1] !== flagNamed) return { peerLinkId, timestampMs: 0, named: undefined };
  const view = new DataView(plaintext.buffer, plaintext.byteOffset + 2 + LINK_ID_BYTES, 8);
  const timestampMs = Number(view.getBigUint64(0));
  if (!Number.isSafeInteger(timestampMs)) return undefined;
  const nodeId = plaintext.slice(2 + LINK_ID_BYTES + 8, 2 + LINK_ID_BYTES + 8 + nodeIdBytes);
  const x25519 = plaintext.slice(2 + LINK_ID_BYTES + 8 + nodeIdBytes);
  return { peerLinkId, timestampMs, named: { nodeId, x25519 } };
}
