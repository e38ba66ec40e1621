/**
 * What a Sphinx payload (784 bytes) says to the mailbox node that it ends at, and what a reply says to whoever made the
 * reply block. Everything is padded to the full length.
 *
 *   deliver = 1 ‖ mailbox id (32) ‖ sealed packet (751)                 to the mailbox, if it exists and has room
 *   fetch   = 2 ‖ mailbox id (32) ‖ part (1) ‖ reply block (504)        asks for a part of the recipient's keys
 *
 *   status  = 1 ‖ message id (16) ‖ state (1) ‖ fragments that are here (16, bit 0 = highest of the first byte)
 *   keys    = 2 ‖ part (1), 255 = there is no such mailbox ‖ length (2) ‖ that part
 *   answer  = 3 ‖ group (16) ‖ index (1) ‖ count (1) ‖ length (2) ‖ data          by an application, anonymous
 */

import { readNumber, writeNumber } from '../directory/bytes.ts';
import { MESSAGE_BYTES } from '../sphinx/packet.ts';
import { REPLY_BLOCK_BYTES } from '../sphinx/reply-block.ts';
import { MAILBOX_ID_BYTES } from './address.ts';
import { KEY_BUNDLE_BYTES } from './key-bundle.ts';

export const MESSAGE_ID_BYTES = 16;
/** Fragments of a message; one bit for each of them in a status. */
export const MAX_FRAGMENTS = 128;
const BITMAP_BYTES = MAX_FRAGMENTS / 8;

const LaneKind = { deliver: 1, fetch: 2 } as const;
const ReplyKind = { status: 1, keys: 2, answer: 3 } as const;

const PACKET_AT = 1 + MAILBOX_ID_BYTES;
/** A packet sealed to the recipient. */
export const SEALED_PACKET_BYTES = MESSAGE_BYTES - PACKET_AT;
const FETCH_BLOCK_AT = PACKET_AT + 1;

/** Parts that a recipient's keys travel in. */
const KEYS_HEADER_BYTES = 4;
const KEYS_PART_BYTES = MESSAGE_BYTES - KEYS_HEADER_BYTES;
export const KEYS_PARTS = Math.ceil(KEY_BUNDLE_BYTES / KEYS_PART_BYTES);
const NO_MAILBOX = 255;

const ANSWER_HEADER_BYTES = 1 + MESSAGE_ID_BYTES + 4;
/** Bytes of an anonymous reply that one reply block carries. */
export const ANSWER_BYTES = MESSAGE_BYTES - ANSWER_HEADER_BYTES;
/** Reply blocks that belong together, at most. */
export const MAX_ANSWER_PACKETS = 16;

export type LanePayload =
  | { readonly kind: 'deliver'; readonly mailboxId: Uint8Array; readonly packet: Uint8Array }
  | {
      readonly kind: 'fetch';
      readonly mailboxId: Uint8Array;
      readonly part: number;
      readonly replyBlock: Uint8Array;
    };

/** `packet` has SEALED_PACKET_BYTES. */
export function encodeDeliver(mailboxId: Uint8Array, packet: Uint8Array): Uint8Array {
  const payload = new Uint8Array(MESSAGE_BYTES);
  payload[0] = LaneKind.deliver;
  payload.set(mailboxId, 1);
  payload.set(packet, PACKET_AT);
  return payload;
}

export function encodeFetch(mailboxId: Uint8Array, part: number, replyBlock: Uint8Array): Uint8Array {
  const payload = new Uint8Array(MESSAGE_BYTES);
  payload[0] = LaneKind.fetch;
  payload.set(mailboxId, 1);
  payload[PACKET_AT] = part;
  payload.set(replyBlock, FETCH_BLOCK_AT);
  return payload;
}

/** Undefined: says nothing that a mailbox node knows. Copies. */
export function decodeLanePayload(payload: Uint8Array): LanePayload | undefined {
  if (payload.length !== MESSAGE_BYTES) return undefined;
  const bytes = new Uint8Array(payload);
  const mailboxId = bytes.subarray(1, PACKET_AT);
  if (bytes[0] === LaneKind.deliver) return { kind: 'deliver', mailboxId, packet: bytes.subarray(PACKET_AT) };
  if (bytes[0] !== LaneKind.fetch) return undefined;
  const part = bytes[PACKET_AT]!;
  if (part >= KEYS_PARTS) return undefined;
  const replyBlock = bytes.subarray(FETCH_BLOCK_AT, FETCH_BLOCK_AT + REPLY_BLOCK_BYTES);
  return { kind: 'fetch', mailboxId, part, replyBlock };
}

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

export type ReplyPayload =
  | {
      readonly kind: 'status';
      readonly messageId: Uint8Array;
      readonly state: MessageState;
      /** Whether fragment i has arrived. */
      readonly has: (index: number) => boolean;
    }
  | { readonly kind: 'keys'; readonly part: number; readonly data: Uint8Array }
  | { readonly kind: 'no-mailbox' }
  | {
      readonly kind: 'answer';
      readonly group: Uint8Array;
      readonly index: number;
      readonly count: number;
      readonly data: Uint8Array;
    };

export function encodeStatus(messageId: Uint8Array, state: MessageState, has: (index: number) => boolean): Uint8Array {
  const payload = new Uint8Array(MESSAGE_BYTES);
  payload[0] = ReplyKind.status;
  payload.set(messageId, 1);
  payload[1 + MESSAGE_ID_BYTES] = state;
  const bitmapAt = 2 + MESSAGE_ID_BYTES;
  for (let i = 0; i < MAX_FRAGMENTS; i++) {
    if (has(i)) payload[bitmapAt + (i >> 3)]! |= 0x80 >> (i & 7);
  }
  return payload;
}

/** The part of `bundle`; undefined as bundle: there is no such mailbox. */
export function encodeKeysPart(bundle: Uint8Array | undefined, part: number): Uint8Array {
  const payload = new Uint8Array(MESSAGE_BYTES);
  payload[0] = ReplyKind.keys;
  payload[1] = bundle === undefined ? NO_MAILBOX : part;
  if (bundle === undefined) return payload;
  const data = bundle.subarray(part * KEYS_PART_BYTES, (part + 1) * KEYS_PART_BYTES);
  writeNumber(payload, 2, data.length, 2);
  payload.set(data, KEYS_HEADER_BYTES);
  return payload;
}

/** `data` has at most ANSWER_BYTES. */
export function encodeAnswer(group: Uint8Array, index: number, count: number, data: Uint8Array): Uint8Array {
  const payload = new Uint8Array(MESSAGE_BYTES);
  payload[0] = ReplyKind.answer;
  payload.set(group, 1);
  payload[1 + MESSAGE_ID_BYTES] = index;
  payload[2 + MESSAGE_ID_BYTES] = count;
  writeNumber(payload, 3 + MESSAGE_ID_BYTES, data.length, 2);
  payload.set(data, ANSWER_HEADER_BYTES);
  return payload;
}

/** Undefined: no reply of ours. Copies. */
export function decodeReply(payload: Uint8Array): ReplyPayload | undefined {
  if (payload.length !== MESSAGE_BYTES) return undefined;
  const bytes = new Uint8Array(payload);
  switch (bytes[0]) {
    case ReplyKind.status:
      return decodeStatus(bytes);
    case ReplyKind.keys: {
      const part = bytes[1]!;
      if (part === NO_MAILBOX) return { kind: 'no-mailbox' };
      const length = readNumber(bytes, 2, 2);
      if (part >= KEYS_PARTS || length !== keysPartBytes(part)) return undefined;
      return { kind: 'keys', part, data: bytes.subarray(KEYS_HEADER_BYTES, KEYS_HEADER_BYTES + length) };
    }
    case ReplyKind.answer: {
      const index = bytes[1 + MESSAGE_ID_BYTES]!;
      const count = bytes[2 + MESSAGE_ID_BYTES]!;
      const length = readNumber(bytes, 3 + MESSAGE_ID_BYTES, 2);
      if (count === 0 || count > MAX_ANSWER_PACKETS || index >= count || length > ANSWER_BYTES) return undefined;
      const data = bytes.subarray(ANSWER_HEADER_BYTES, ANSWER_HEADER_BYTES + length);
      return { kind: 'answer', group: bytes.subarray(1, 1 + MESSAGE_ID_BYTES), index, count, data };
    }
    default:
      return undefined;
  }
}

function decodeStatus(bytes: Uint8Array): ReplyPayload | undefined {
  const state = bytes[1 + MESSAGE_ID_BYTES]!;
  if (state > MessageState.noRoom) return undefined;
  const bitmap = bytes.subarray(2 + MESSAGE_ID_BYTES, 2 + MESSAGE_ID_BYTES + BITMAP_BYTES);
  return {
    kind: 'status',
    messageId: bytes.subarray(1, 1 + MESSAGE_ID_BYTES),
    state: state as MessageState,
    has: (index) => index < MAX_FRAGMENTS && (bitmap[index >> 3]! & (0x80 >> (index & 7))) !== 0,
  };
}

function keysPartBytes(part: number): number {
  return Math.min(KEYS_PART_BYTES, KEY_BUNDLE_BYTES - part * KEYS_PART_BYTES);
}
