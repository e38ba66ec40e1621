/**
 * The keys that messages to a mailbox are sealed to, as its owner publishes them there:
 *
 *   signature (64) ‖ version 1 (1) ‖ owner key, Ed25519 (32) ‖ X25519 (32) ‖ ML-KEM-768 (1184) ‖ from (8) ‖ until (8)
 *   signature = Ed25519(owner key, "nyx1 message keys" ‖ 0 ‖ what follows it), times in Unix seconds
 *
 * Whoever has the address checks them against the mailbox id, which is a hash of the owner key. The mailbox node can hold
 * newer keys back as long as older ones are valid, and nothing else.
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import {
  type CryptoSuite,
  ED25519_PUBLIC_KEY_BYTES,
  ED25519_SIGNATURE_BYTES,
  MLKEM768_PUBLIC_KEY_BYTES,
  type SignKeyPair,
  X25519_BYTES,
} from '../crypto/suite.ts';
import { joinBytes, readNumber, writeNumber } from '../directory/bytes.ts';
import type { UnixSeconds } from '../ports.ts';
import { mailboxIdOf } from './address.ts';

const VERSION = 1;
const TIME_BYTES = 8;
const X25519_AT = ED25519_SIGNATURE_BYTES + 1 + ED25519_PUBLIC_KEY_BYTES;
const KEM_AT = X25519_AT + X25519_BYTES;
const TIMES_AT = KEM_AT + MLKEM768_PUBLIC_KEY_BYTES;
export const KEY_BUNDLE_BYTES = TIMES_AT + 2 * TIME_BYTES;
/** Keys are signed for at most this long. */
export const MAX_BUNDLE_SECONDS = 14 * 86_400;
const CLOCK_SKEW_SECONDS = 300;

/** Public keys of a recipient. */
export interface SealKeys {
  readonly mailboxId: Uint8Array;
  readonly x25519: Uint8Array;
  readonly kem: Uint8Array;
}

export interface KeyBundle extends SealKeys {
  readonly ownerKey: Uint8Array;
  readonly from: UnixSeconds;
  readonly until: UnixSeconds;
}

/** Returns KEY_BUNDLE_BYTES. */
export function signKeyBundle(keys: Omit<KeyBundle, 'ownerKey' | 'mailboxId'>, owner: SignKeyPair): Uint8Array {
  const times = new Uint8Array(2 * TIME_BYTES);
  writeNumber(times, 0, keys.from, TIME_BYTES);
  writeNumber(times, TIME_BYTES, keys.until, TIME_BYTES);
  const body = joinBytes(Uint8Array.of(VERSION), owner.publicKey, keys.x25519, keys.kem, times);
  return joinBytes(owner.sign(signedMessage(body)), body);
}

/** Undefined: not the keys of this mailbox, or not valid now. Keeps nothing of `bytes`. */
export function openKeyBundle(
  bytes: Uint8Array,
  mailboxId: Uint8Array,
  now: UnixSeconds,
  suite: CryptoSuite,
): KeyBundle | undefined {
  if (bytes.length !== KEY_BUNDLE_BYTES || bytes[ED25519_SIGNATURE_BYTES] !== VERSION) return undefined;
  const copy = new Uint8Array(bytes);
  const ownerKey = copy.subarray(ED25519_SIGNATURE_BYTES + 1, X25519_AT);
  if (!suite.equal(mailboxIdOf(ownerKey, suite), mailboxId)) return undefined;
  const from = readNumber(copy, TIMES_AT, TIME_BYTES);
  const until = readNumber(copy, TIMES_AT + TIME_BYTES, TIME_BYTES);
  if (!(until > from && until - from <= MAX_BUNDLE_SECONDS)) return undefined;
  if (now + CLOCK_SKEW_SECONDS < from || now >= until) return undefined;
  const body = copy.subarray(ED25519_SIGNATURE_BYTES);
  if (!suite.ed25519Verify(ownerKey, signedMessage(body), copy.subarray(0, ED25519_SIGNATURE_BYTES))) return undefined;
  return {
    mailboxId: new Uint8Array(mailboxId),
    ownerKey,
    x25519: copy.subarray(X25519_AT, KEM_AT),
    kem: copy.subarray(KEM_AT, TIMES_AT),
    from,
    until,
  };
}

function signedMessage(body: Uint8Array): Uint8Array {
  return joinBytes(nyxLabel('message keys'), Uint8Array.of(0), body);
}
