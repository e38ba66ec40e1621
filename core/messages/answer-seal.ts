/**
 * What travels over a reply block, sealed between its maker and its user: the node that sends it on for the user sees neither
 * what it says nor to what message it belongs.
 *
 *   tag (16) ‖ ct (263)
 *   key = HKDF(secret, salt = SHA-256(reply block), info, 32): a block is used once, so a key is; nonce 0, no AD
 *
 *   status: secret = the message id, which only its sender and its recipient know; info = "nyx1 message status"
 *     state (1) ‖ fragments that are here (16; fragment 0 = highest bit of the first byte) ‖ zeros
 *   anonymous reply: secret = the token's key (32), info = "nyx1 anonymous reply"
 *     index (1) ‖ count (1) ‖ length (2) ‖ data ‖ zeros
 */
import { EMPTY, nyxLabel, ZERO_NONCE } from '../crypto/key-schedule.ts';
import { AEAD_KEY_BYTES, AEAD_TAG_BYTES, type CryptoSuite } from '../crypto/suite.ts';
import { readNumber, writeNumber } from '../directory/bytes.ts';
import { MAX_FRAGMENTS, SEALED_ANSWER_BYTES } from './lane.ts';

const PLAIN_BYTES = SEALED_ANSWER_BYTES - AEAD_TAG_BYTES;
const BITMAP_AT = 1;
const DATA_AT = 4;
/** Bytes of an anonymous reply that one reply block carries. */
export const ANSWER_BYTES = PLAIN_BYTES - DATA_AT;
/** Reply blocks that belong together, at most. */
export const MAX_ANSWER_PACKETS = 16;

export type AnswerKind = 'message status' | 'anonymous reply';

/** What a recipient says of a message. */
export const MessageState = {
  /** Fragments are missing. */
  incomplete: 0,
  /** It is stored, and will be given to the application. */
  stored: 1,
  /** It is complete, and no key opens it. */
  notOpened: 2,
  /** There is no room for it now; nothing of it is kept. */
  noRoom: 3,
} as const;
export type MessageState = (typeof MessageState)[keyof typeof MessageState];

export interface MessageStatus {
  readonly state: MessageState;
  /** Whether fragment i has arrived. */
  readonly has: (index: number) => boolean;
}

export interface AnswerPart {
  readonly index: number;
  /** 1…MAX_ANSWER_PACKETS. */
  readonly count: number;
  readonly data: Uint8Array;
}

/** The key of an answer over this block. */
export function answerKey(suite: CryptoSuite, kind: AnswerKind, secret: Uint8Array, block: Uint8Array): Uint8Array {
  return suite.hkdf(secret, suite.sha256(block), nyxLabel(kind), AEAD_KEY_BYTES);
}

/** Returns SEALED_ANSWER_BYTES. Wipes `key`: it is for this one. */
export function sealStatus(suite: CryptoSuite, key: Uint8Array, { state, has }: MessageStatus): Uint8Array {
  const plain = new Uint8Array(PLAIN_BYTES);
  plain[0] = state;
  for (let i = 0; i < MAX_FRAGMENTS; i++) {
    if (has(i)) plain[BITMAP_AT + (i >> 3)]! |= 0x80 >> (i & 7);
  }
  return seal(suite, key, plain);
}

/** `data` has at most ANSWER_BYTES. Returns SEALED_ANSWER_BYTES. Wipes `key`: it is for this one. */
export function sealAnswer(suite: CryptoSuite, key: Uint8Array, { index, count, data }: AnswerPart): Uint8Array {
  const plain = new Uint8Array(PLAIN_BYTES);
  plain[0] = index;
  plain[1] = count;
  writeNumber(plain, 2, data.length, 2);
  plain.set(data, DATA_AT);
  return seal(suite, key, plain);
}

/** Undefined: not sealed with this key, or of no known state. Borrows; what is behind the answer is not looked at. */
export function openStatus(suite: CryptoSuite, key: Uint8Array, payload: Uint8Array): MessageStatus | undefined {
  const plain = open(suite, key, payload);
  if (plain === undefined || plain[0]! > MessageState.noRoom) return undefined;
  return {
    state: plain[0] as MessageState,
    has: (index) => index < MAX_FRAGMENTS && (plain[BITMAP_AT + (index >> 3)]! & (0x80 >> (index & 7))) !== 0,
  };
}

/** As openStatus. */
export function openAnswer(suite: CryptoSuite, key: Uint8Array, payload: Uint8Array): AnswerPart | undefined {
  const plain = open(suite, key, payload);
  if (plain === undefined) return undefined;
  const [index, count] = plain as unknown as [number, number];
  const length = readNumber(plain, 2, 2);
  if (count === 0 || count > MAX_ANSWER_PACKETS || index >= count || length > ANSWER_BYTES) return undefined;
  return { index, count, data: plain.subarray(DATA_AT, DATA_AT + length) };
}

function seal(suite: CryptoSuite, key: Uint8Array, plain: Uint8Array): Uint8Array {
  const sealed = new Uint8Array(SEALED_ANSWER_BYTES);
  suite.aeadSeal(sealed.subarray(AEAD_TAG_BYTES), sealed.subarray(0, AEAD_TAG_BYTES), plain, EMPTY, ZERO_NONCE, key);
  suite.wipe(plain, key);
  return sealed;
}

function open(suite: CryptoSuite, key: Uint8Array, payload: Uint8Array): Uint8Array | undefined {
  if (payload.length < SEALED_ANSWER_BYTES) return undefined;
  const plain = new Uint8Array(PLAIN_BYTES);
  const tag = payload.subarray(0, AEAD_TAG_BYTES);
  const ct = payload.subarray(AEAD_TAG_BYTES, SEALED_ANSWER_BYTES);
  return suite.aeadOpen(plain, tag, ct, EMPTY, ZERO_NONCE, key) ? plain : undefined;
}
