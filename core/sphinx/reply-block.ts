/**
 * Single-use reply blocks (Danezis and Goldberg 2009, §3.5): who gets one can send one packet back to its maker without
 * learning who or where that is. Every packet made from a block has the same header, so relays refuse the second.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { Random } from '../ports.ts';
import { assertHeaderRoom, assertReplyId, createHeader, type SphinxHop } from './header.ts';
import {
  CHECK_BYTES,
  Command,
  DELTA_AT,
  DELTA_BYTES,
  HEADER_BYTES,
  MESSAGE_BYTES,
  NODE_ID_BYTES,
  PACKET_BYTES,
} from './layout.ts';
import { Lioness } from './lioness.ts';

const KEY_BYTES = 32;
const KEY_AT = NODE_ID_BYTES + HEADER_BYTES;
/** First hop's NodeID (32) ‖ header (440) ‖ key (32). */
export const REPLY_BLOCK_BYTES = KEY_AT + KEY_BYTES;

export { REPLY_ID_BYTES } from './layout.ts';

/** What a reply block's maker keeps to open the reply. Secret. */
export interface ReplyKeys {
  /** The block's own key (32), then each hop's payload key (32 each), first hop to last. */
  readonly bytes: Uint8Array;
}

/**
 * A block (504 bytes) for one reply over 1…7 `hops`, the last of which gets `replyId` (16 bytes) with it. Throws as
 * createPacket.
 */
export function createReplyBlock(
  suite: CryptoSuite,
  random: Random,
  hops: readonly SphinxHop[],
  replyId: Uint8Array,
): { readonly block: Uint8Array; readonly keys: ReplyKeys } {
  assertReplyId(replyId);
  const block = new Uint8Array(REPLY_BLOCK_BYTES);
  const header = block.subarray(NODE_ID_BYTES, KEY_AT);
  const payloadKeys = createHeader(suite, random, hops, { command: Command.reply, replyId }, header);
  block.set(hops[0]!.nodeId);
  random.fill(block.subarray(KEY_AT));
  const bytes = new Uint8Array(KEY_BYTES * (1 + payloadKeys.length));
  bytes.set(block.subarray(KEY_AT));
  for (const [i, key] of payloadKeys.entries()) bytes.set(key, KEY_BYTES * (1 + i));
  suite.wipe(...payloadKeys);
  return { block, keys: { bytes } };
}

/**
 * Writes the packet that carries `payload` (at most 784 bytes) over a block to `out` (1240 bytes), and returns the NodeID of
 * the hop that it has to be sent to; undefined when the block has another length than 504 bytes. A block is for one
 * packet: a second one is dropped on its way. What else a block is worth shows on the way only.
 */
export function useReplyBlock(
  suite: CryptoSuite,
  block: Uint8Array,
  payload: Uint8Array,
  out: Uint8Array,
): Uint8Array | undefined {
  if (block.length !== REPLY_BLOCK_BYTES) return undefined;
  if (payload.length > MESSAGE_BYTES) {
    throw new RangeError(`a packet carries at most ${MESSAGE_BYTES} bytes, not ${payload.length}`);
  }
  assertHeaderRoom(out, PACKET_BYTES);
  const delta = out.subarray(DELTA_AT);
  delta.fill(0);
  delta.set(payload, CHECK_BYTES);
  out.set(block.subarray(NODE_ID_BYTES, KEY_AT));
  new Lioness(suite).encrypt(block.subarray(KEY_AT), delta);
  return block.slice(0, NODE_ID_BYTES);
}

/**
 * Opens a reply (800 bytes, as the block's last hop got it; left as it is) with the keys of its block: 784 bytes, zeros
 * behind a shorter payload. Undefined when anything on the way has changed it or it belongs to another block.
 */
export function openReply(suite: CryptoSuite, keys: ReplyKeys, reply: Uint8Array): Uint8Array | undefined {
  if (reply.length !== DELTA_BYTES || keys.bytes.length % KEY_BYTES !== 0) return undefined;
  const delta = reply.slice();
  const lioness = new Lioness(suite);
  for (let at = keys.bytes.length - KEY_BYTES; at > 0; at -= KEY_BYTES) {
    lioness.encrypt(keys.bytes.subarray(at, at + KEY_BYTES), delta);
  }
  lioness.decrypt(keys.bytes.subarray(0, KEY_BYTES), delta);
  return hasCheck(delta) ? delta.subarray(CHECK_BYTES) : undefined;
}

/** Whether a payload begins with the zeros that it was made with. */
export function hasCheck(delta: Uint8Array): boolean {
  let bits = 0;
  for (let i = 0; i < CHECK_BYTES; i++) bits |= delta[i]!;
  return bits === 0;
}
