/**
 * Two seals around a message, both to the recipient's keys (key-bundle.ts).
 *
 * A whole message is sealed to the hybrid key; what comes out is cut into fragments:
 *   X25519 (32) ‖ ML-KEM-768 ciphertext (1088) ‖ tag (16) ‖ ct
 *   key = HKDF(DH ‖ KEM secret, salt = SHA-256("nyx1 message" ‖ 0 ‖ mailbox id ‖ X25519 pk ‖ SHA-256(KEM pk) ‖ X25519 ‖
 *   ciphertext ‖ message id), info = "nyx1 message seal", 32)
 *
 * Every packet is sealed again, to the X25519 key alone, so that the mailbox node sees neither which packets belong together
 * nor whether one carries anything:
 *   X25519 (32) ‖ tag (16) ‖ ct
 *   key = HKDF(DH, salt = SHA-256("nyx1 message packet" ‖ 0 ‖ mailbox id ‖ X25519 pk ‖ X25519), info = "nyx1 packet seal", 32)
 *
 * Every key is used once: nonce 0, no AD. What a quantum computer opens of a packet is the sealed message's fragment.
 */
import { EMPTY, nyxLabel, ZERO_NONCE } from '../crypto/key-schedule.ts';
import {
  AEAD_KEY_BYTES,
  AEAD_TAG_BYTES,
  type CryptoSuite,
  type DhKeyPair,
  type KemKeyPair,
  MLKEM_SHARED_BYTES,
  MLKEM768_CIPHERTEXT_BYTES,
  X25519_BYTES,
} from '../crypto/suite.ts';
import { joinBytes } from '../directory/bytes.ts';
import type { Random } from '../ports.ts';
import type { SealKeys } from './key-bundle.ts';

export const PACKET_SEAL_BYTES = X25519_BYTES + AEAD_TAG_BYTES;
export const MESSAGE_SEAL_BYTES = X25519_BYTES + MLKEM768_CIPHERTEXT_BYTES + AEAD_TAG_BYTES;

/** One generation of a recipient's keys. */
export interface SealSecrets {
  readonly mailboxId: Uint8Array;
  readonly dh: DhKeyPair;
  readonly kem: KemKeyPair;
}

/** Seals `plaintext`; undefined when the keys are not fit for it (low order, modulus). */
export function sealMessage(
  suite: CryptoSuite,
  random: Random,
  to: SealKeys,
  messageId: Uint8Array,
  plaintext: Uint8Array,
): Uint8Array | undefined {
  const sealed = new Uint8Array(MESSAGE_SEAL_BYTES + plaintext.length);
  const ephemeral = freshPair(suite, random);
  const coins = randomBytes(random, MLKEM_SHARED_BYTES);
  const encapsulated = suite.mlkem768Encapsulate(to.kem, coins);
  const shared = ephemeral.agree(to.x25519);
  suite.wipe(coins);
  ephemeral.wipe();
  if (encapsulated === undefined || shared === undefined) return undefined;
  const { ciphertext, sharedSecret } = encapsulated;
  sealed.set(ephemeral.publicKey, 0);
  sealed.set(ciphertext, X25519_BYTES);
  const key = messageKey(suite, to.mailboxId, to.x25519, to.kem, sealed, messageId, shared, sharedSecret);
  aead(suite, sealed, MESSAGE_SEAL_BYTES, plaintext, key);
  suite.wipe(shared, sharedSecret, key);
  return sealed;
}

/** Undefined: not sealed to these keys, or changed. */
export function openMessage(
  suite: CryptoSuite,
  secrets: SealSecrets,
  messageId: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length < MESSAGE_SEAL_BYTES) return undefined;
  const shared = secrets.dh.agree(sealed.subarray(0, X25519_BYTES));
  if (shared === undefined) return undefined;
  const sharedSecret = secrets.kem.decapsulate(sealed.subarray(X25519_BYTES, X25519_BYTES + MLKEM768_CIPHERTEXT_BYTES));
  const { dh, kem, mailboxId } = secrets;
  const key = messageKey(suite, mailboxId, dh.publicKey, kem.publicKey, sealed, messageId, shared, sharedSecret);
  const plaintext = open(suite, sealed, MESSAGE_SEAL_BYTES, key);
  suite.wipe(shared, sharedSecret, key);
  return plaintext;
}

/** Writes PACKET_SEAL_BYTES and the sealed `inner` to `out`. False: the key is not fit for it. */
export function sealPacket(
  suite: CryptoSuite,
  random: Random,
  to: Pick<SealKeys, 'mailboxId' | 'x25519'>,
  inner: Uint8Array,
  out: Uint8Array,
): boolean {
  const ephemeral = freshPair(suite, random);
  const shared = ephemeral.agree(to.x25519);
  ephemeral.wipe();
  if (shared === undefined) return false;
  out.set(ephemeral.publicKey, 0);
  const key = packetKey(suite, to.mailboxId, to.x25519, ephemeral.publicKey, shared);
  aead(suite, out, PACKET_SEAL_BYTES, inner, key);
  suite.wipe(shared, key);
  return true;
}

/** Undefined: not sealed to this key, or changed. */
export function openPacket(
  suite: CryptoSuite,
  secrets: Pick<SealSecrets, 'mailboxId' | 'dh'>,
  sealed: Uint8Array,
): Uint8Array | undefined {
  if (sealed.length < PACKET_SEAL_BYTES) return undefined;
  const ephemeral = sealed.subarray(0, X25519_BYTES);
  const shared = secrets.dh.agree(ephemeral);
  if (shared === undefined) return undefined;
  const key = packetKey(suite, secrets.mailboxId, secrets.dh.publicKey, ephemeral, shared);
  const inner = open(suite, sealed, PACKET_SEAL_BYTES, key);
  suite.wipe(shared, key);
  return inner;
}

function messageKey(
  suite: CryptoSuite,
  mailboxId: Uint8Array,
  x25519: Uint8Array,
  kem: Uint8Array,
  sealed: Uint8Array,
  messageId: Uint8Array,
  shared: Uint8Array,
  sharedSecret: Uint8Array,
): Uint8Array {
  const clear = sealed.subarray(0, X25519_BYTES + MLKEM768_CIPHERTEXT_BYTES);
  const salt = suite.sha256(
    nyxLabel('message'),
    Uint8Array.of(0),
    mailboxId,
    x25519,
    suite.sha256(kem),
    clear,
    messageId,
  );
  const secret = joinBytes(shared, sharedSecret);
  const key = suite.hkdf(secret, salt, nyxLabel('message seal'), AEAD_KEY_BYTES);
  suite.wipe(secret);
  return key;
}

function packetKey(
  suite: CryptoSuite,
  mailboxId: Uint8Array,
  x25519: Uint8Array,
  ephemeral: Uint8Array,
  shared: Uint8Array,
): Uint8Array {
  const salt = suite.sha256(nyxLabel('message packet'), Uint8Array.of(0), mailboxId, x25519, ephemeral);
  return suite.hkdf(shared, salt, nyxLabel('packet seal'), AEAD_KEY_BYTES);
}

/** `out` = … ‖ tag ‖ ct, where the ct begins at `from`. */
function aead(suite: CryptoSuite, out: Uint8Array, from: number, plaintext: Uint8Array, key: Uint8Array): void {
  const tag = out.subarray(from - AEAD_TAG_BYTES, from);
  suite.aeadSeal(out.subarray(from, from + plaintext.length), tag, plaintext, EMPTY, ZERO_NONCE, key);
}

function open(suite: CryptoSuite, sealed: Uint8Array, from: number, key: Uint8Array): Uint8Array | undefined {
  const tag = sealed.subarray(from - AEAD_TAG_BYTES, from);
  const plaintext = new Uint8Array(sealed.length - from);
  return suite.aeadOpen(plaintext, tag, sealed.subarray(from), EMPTY, ZERO_NONCE, key) ? plaintext : undefined;
}

function freshPair(suite: CryptoSuite, random: Random): DhKeyPair {
  const secret = randomBytes(random, X25519_BYTES);
  const pair = suite.x25519(secret);
  suite.wipe(secret);
  return pair;
}

function randomBytes(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  random.fill(bytes);
  return bytes;
}
