/**
 * What a Sphinx payload (784 bytes) says to the mailbox node that it ends at, and what comes back over a reply block.
 * Everything is padded to the full length.
 *
 *   deliver = 1 ‖ mailbox id (32) ‖ sealed packet (751)                 to the mailbox, if it exists and has room
 *   fetch   = 2 ‖ mailbox id (32) ‖ part (1) ‖ reply block (504)        asks for a part of the recipient's keys
 *   forward = 3 ‖ reply block (504) ‖ sealed answer (279)               sends the answer over the block
 *
 *   keys    = part (1), 255 = there is no such mailbox ‖ length (2) ‖ that part
 *   answer  = tag (16) ‖ ct (263), sealed between the maker of the block and whoever uses it (answer-seal.ts)
 *
 * A client never sends over a block itself: the maker of a block chooses its first hop, and would learn who connects to it.
 * It has a mailbox node of its own choice do so, at the end of a path of its own choice.
 */
import { readNumber, writeNumber } from '../directory/bytes.ts';
import { NODE_ID_BYTES } from '../sphinx/layout.ts';
import { MESSAGE_BYTES } from '../sphinx/packet.ts';
import { REPLY_BLOCK_BYTES } from '../sphinx/reply-block.ts';
import { MAILBOX_ID_BYTES } from './address.ts';
import { KEY_BUNDLE_BYTES } from './key-bundle.ts';

export const MESSAGE_ID_BYTES = 16;
/** Fragments of a message; one bit for each of them in a status. */
export const MAX_FRAGMENTS = 128;

const LaneKind = { deliver: 1, fetch: 2, forward: 3 } as const;

const PACKET_AT = 1 + MAILBOX_ID_BYTES;
/** A packet sealed to the recipient. */
export const SEALED_PACKET_BYTES = MESSAGE_BYTES - PACKET_AT;
const FETCH_BLOCK_AT = PACKET_AT + 1;

/** Parts that a recipient's keys travel in. */
const KEYS_HEADER_BYTES = 3;
const KEYS_PART_BYTES = MESSAGE_BYTES - KEYS_HEADER_BYTES;
export const KEYS_PARTS = Math.ceil(KEY_BUNDLE_BYTES / KEYS_PART_BYTES);
const NO_MAILBOX = 255;

const ANSWER_AT = 1 + REPLY_BLOCK_BYTES;
/** An answer as it travels over a reply block. */
export const SEALED_ANSWER_BYTES = MESSAGE_BYTES - ANSWER_AT;

export type LanePayload =
  | { readonly kind: 'deliver'; readonly mailboxId: Uint8Array; readonly packet: Uint8Array }
  | {
      readonly kind: 'fetch';
      readonly mailboxId: Uint8Array;
      readonly part: number;
      readonly replyBlock: Uint8Array;
    }
  | { readonly kind: 'forward'; readonly replyBlock: Uint8Array; readonly answer: Uint8Array };

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

/** `answer` has SEALED_ANSWER_BYTES. */
export function encodeForward(replyBlock: Uint8Array, answer: Uint8Array): Uint8Array {
  const payload = new Uint8Array(MESSAGE_BYTES);
  payload[0] = LaneKind.forward;
  payload.set(replyBlock, 1);
  payload.set(answer, ANSWER_AT);
  return payload;
}

/** NodeID that the reply block of a `forward` payload begins at. A view. */
export function forwardFirstHop(payload: Uint8Array): Uint8Array {
  return payload.subarray(1, 1 + NODE_ID_BYTES);
}

/** Undefined: says nothing that a mailbox node knows. Copies. */
export function decodeLanePayload(payload: Uint8Array): LanePayload | undefined {
  if (payload.length !== MESSAGE_BYTES) return undefined;
  const bytes = new Uint8Array(payload);
  const mailboxId = bytes.subarray(1, PACKET_AT);
  if (bytes[0] === LaneKind.deliver) return { kind: 'deliver', mailboxId, packet: bytes.subarray(PACKET_AT) };
  if (bytes[0] === LaneKind.forward) {
    return { kind: 'forward', replyBlock: bytes.subarray(1, ANSWER_AT), answer: bytes.subarray(ANSWER_AT) };
  }
  if (bytes[0] !== LaneKind.fetch) return undefined;
  const part = bytes[PACKET_AT]!;
  if (part >= KEYS_PARTS) return undefined;
  const replyBlock = bytes.subarray(FETCH_BLOCK_AT, FETCH_BLOCK_AT + REPLY_BLOCK_BYTES);
  return { kind: 'fetch', mailboxId, part, replyBlock };
}

/** The part of `bundle`; undefined as bundle: there is no such mailbox. */
export function encodeKeysPart(bundle: Uint8Array | undefined, part: number): Uint8Array {
  const payload = new Uint8Array(MESSAGE_BYTES);
  payload[0] = bundle === undefined ? NO_MAILBOX : part;
  if (bundle === undefined) return payload;
  const data = bundle.subarray(part * KEYS_PART_BYTES, (part + 1) * KEYS_PART_BYTES);
  writeNumber(payload, 1, data.length, 2);
  payload.set(data, KEYS_HEADER_BYTES);
  return payload;
}

/** Undefined: no answer to a fetch. Copies. */
export function decodeKeysPart(
  payload: Uint8Array,
): 'no-mailbox' | { readonly part: number; readonly data: Uint8Array } | undefined {
  if (payload.length !== MESSAGE_BYTES) return undefined;
  const part = payload[0]!;
  if (part === NO_MAILBOX) return 'no-mailbox';
  if (part >= KEYS_PARTS) return undefined;
  const length = readNumber(payload, 1, 2);
  if (length !== Math.min(KEYS_PART_BYTES, KEY_BUNDLE_BYTES - part * KEYS_PART_BYTES)) return undefined;
  return { part, data: new Uint8Array(payload.subarray(KEYS_HEADER_BYTES, KEYS_HEADER_BYTES + length)) };
}
