/**
 * One packet to a recipient, before it is sealed (seal.ts); all have the same length:
 *
 *   flags (1) ‖ message id (16) ‖ index (1) ‖ count (1) ‖ length (2) ‖ data ‖ zeros ‖ [reply block (504)]
 *
 * Flag 1: the last 504 bytes are a reply block, and the sender wants to know what has arrived. Flag 2: cover, to be thrown
 * away; the id says which to whom sent it to himself. A packet that only asks has index = count and no data.
 */
import { readNumber, writeNumber } from '../directory/bytes.ts';
import { REPLY_BLOCK_BYTES } from '../sphinx/reply-block.ts';
import { MAX_FRAGMENTS, MESSAGE_ID_BYTES, SEALED_PACKET_BYTES } from './lane.ts';
import { PACKET_SEAL_BYTES } from './seal.ts';

/** What is sealed. */
export const INNER_BYTES = SEALED_PACKET_BYTES - PACKET_SEAL_BYTES;
const HEADER_BYTES = 1 + MESSAGE_ID_BYTES + 4;
/** Bytes of a message in one packet, without and with a reply block beside them. */
export const FRAGMENT_BYTES = INNER_BYTES - HEADER_BYTES;
export const FRAGMENT_BESIDE_REPLY_BYTES = FRAGMENT_BYTES - REPLY_BLOCK_BYTES;
const Flag = { asks: 1, cover: 2 } as const;

export interface Fragment {
  readonly messageId: Uint8Array;
  /** 0…count; count = there is no data. */
  readonly index: number;
  /** 1…MAX_FRAGMENTS. */
  readonly count: number;
  readonly data: Uint8Array;
  /** 504 bytes, where the sender asks what has arrived. */
  readonly replyBlock: Uint8Array | undefined;
}

/** The data must fit: FRAGMENT_BYTES, or FRAGMENT_BESIDE_REPLY_BYTES. */
export function encodeFragment(fragment: Fragment): Uint8Array {
  const { messageId, index, count, data, replyBlock } = fragment;
  const inner = new Uint8Array(INNER_BYTES);
  inner[0] = replyBlock === undefined ? 0 : Flag.asks;
  inner.set(messageId, 1);
  inner[1 + MESSAGE_ID_BYTES] = index;
  inner[2 + MESSAGE_ID_BYTES] = count;
  writeNumber(inner, 3 + MESSAGE_ID_BYTES, data.length, 2);
  inner.set(data, HEADER_BYTES);
  if (replyBlock !== undefined) inner.set(replyBlock, INNER_BYTES - REPLY_BLOCK_BYTES);
  return inner;
}

/** Whoever opens it throws it away. `id`: 16 bytes. */
export function encodeCover(id: Uint8Array): Uint8Array {
  const inner = new Uint8Array(INNER_BYTES);
  inner[0] = Flag.cover;
  inner.set(id, 1);
  return inner;
}

/** The id of what decodeFragment() says is cover. A view. */
export function coverId(inner: Uint8Array): Uint8Array {
  return inner.subarray(1, 1 + MESSAGE_ID_BYTES);
}

/** Undefined: no packet of this version. Copies. */
export function decodeFragment(inner: Uint8Array): Fragment | 'cover' | undefined {
  if (inner.length !== INNER_BYTES) return undefined;
  if (inner[0] === Flag.cover) return 'cover';
  if (inner[0] !== 0 && inner[0] !== Flag.asks) return undefined;
  const bytes = new Uint8Array(inner);
  const asks = bytes[0] === Flag.asks;
  const index = bytes[1 + MESSAGE_ID_BYTES]!;
  const count = bytes[2 + MESSAGE_ID_BYTES]!;
  const length = readNumber(bytes, 3 + MESSAGE_ID_BYTES, 2);
  if (count === 0 || count > MAX_FRAGMENTS || index > count) return undefined;
  if (length > (asks ? FRAGMENT_BESIDE_REPLY_BYTES : FRAGMENT_BYTES)) return undefined;
  if (index === count ? length > 0 || !asks : length === 0) return undefined;
  return {
    messageId: bytes.subarray(1, 1 + MESSAGE_ID_BYTES),
    index,
    count,
    data: bytes.subarray(HEADER_BYTES, HEADER_BYTES + length),
    replyBlock: asks ? bytes.subarray(INNER_BYTES - REPLY_BLOCK_BYTES) : undefined,
  };
}
