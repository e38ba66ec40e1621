/**
 * A reply block as applications pass it on: text, good for one anonymous reply of up to `count` packets.
 *
 *   nyx-reply: ‖ base64url( version 1 (1) ‖ key (32) ‖ expires, Unix seconds (8) ‖ count (1) ‖ reply blocks (504 each)
 *                           ‖ checksum (4) )
 *
 * Whoever has it can use it, and the first use is the only one: keep it as secret as an address is public.
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { joinBytes, readNumber, writeNumber } from '../directory/bytes.ts';
import { nodeIdHex } from '../directory/descriptor.ts';
import type { UnixSeconds } from '../ports.ts';
import { REPLY_BLOCK_BYTES } from '../sphinx/reply-block.ts';
import { MAX_ANSWER_PACKETS } from './answer-seal.ts';
import { MessageError, MessageErrorCode } from './message-error.ts';

export const REPLY_PREFIX = 'nyx-reply:';
const VERSION = 1;
const KEY_BYTES = 32;
const HEADER_BYTES = 1 + KEY_BYTES + 8 + 1;
const CHECKSUM_BYTES = 4;
const MAX_TEXT = Math.ceil(((HEADER_BYTES + MAX_ANSWER_PACKETS * REPLY_BLOCK_BYTES + CHECKSUM_BYTES) * 4) / 3) + 64;

export interface ReplyToken {
  /** What replies are sealed with, 32 bytes. */
  readonly key: Uint8Array;
  readonly expires: UnixSeconds;
  /** 504 bytes each, 1…16 of them. */
  readonly blocks: readonly Uint8Array[];
}

export function encodeReplyToken({ key, expires, blocks }: ReplyToken, suite: CryptoSuite): string {
  const header = new Uint8Array(HEADER_BYTES);
  header[0] = VERSION;
  header.set(key, 1);
  writeNumber(header, 1 + KEY_BYTES, expires, 8);
  header[HEADER_BYTES - 1] = blocks.length;
  const content = joinBytes(header, ...blocks);
  return (
    REPLY_PREFIX + joinBytes(content, checksumOf(content, suite)).toBase64({ alphabet: 'base64url', omitPadding: true })
  );
}

/** Throws MessageError BAD_REPLY_BLOCK, saying what is wrong. */
export function decodeReplyToken(text: string, suite: CryptoSuite): ReplyToken {
  const bad = (problem: string) => new MessageError(MessageErrorCode.badReplyBlock, `the reply block ${problem}`);
  const trimmed = text.length > MAX_TEXT ? '' : text.trim();
  if (text.length > MAX_TEXT) throw bad(`has ${text.length} characters; the longest has ${MAX_TEXT}`);
  if (!trimmed.startsWith(REPLY_PREFIX)) throw bad(`does not begin with ${REPLY_PREFIX}`);
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.fromBase64(trimmed.slice(REPLY_PREFIX.length), { alphabet: 'base64url' });
  } catch {
    throw bad('is not base64url, or is cut off');
  }
  if (bytes.length > 0 && bytes[0] !== VERSION) throw bad(`has version ${bytes[0]}; this node knows ${VERSION}`);
  const count = bytes[HEADER_BYTES - 1] ?? 0;
  const lengthBytes = HEADER_BYTES + count * REPLY_BLOCK_BYTES + CHECKSUM_BYTES;
  if (count === 0 || count > MAX_ANSWER_PACKETS || bytes.length !== lengthBytes) throw bad('has a wrong length');
  const content = bytes.subarray(0, -CHECKSUM_BYTES);
  if (!suite.equal(checksumOf(content, suite), bytes.subarray(-CHECKSUM_BYTES))) {
    throw bad('is changed or cut off: its checksum is wrong');
  }
  return {
    key: content.slice(1, 1 + KEY_BYTES),
    expires: readNumber(content, 1 + KEY_BYTES, 8),
    blocks: Array.from({ length: count }, (_, i) =>
      content.slice(HEADER_BYTES + i * REPLY_BLOCK_BYTES, HEADER_BYTES + (i + 1) * REPLY_BLOCK_BYTES),
    ),
  };
}

/** What maker and user know a token by, hex: no secret. */
export function replyTokenName({ key }: ReplyToken, suite: CryptoSuite): string {
  return nodeIdHex(suite.blake3(nyxLabel('reply token name'), Uint8Array.of(0), key).subarray(0, 16));
}

function checksumOf(content: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.blake3(nyxLabel('reply token'), Uint8Array.of(0), content).subarray(0, CHECKSUM_BYTES);
}
