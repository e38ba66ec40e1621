/**
 * What is sealed as one message: version 1 (1) ‖ flags 0 (1) ‖ content. Room for more fields behind other versions; the
 * content is the application's, bytes as they are.
 */

import { MAX_FRAGMENTS } from './lane.ts';
import { FRAGMENT_BYTES } from './packet.ts';
import { MESSAGE_SEAL_BYTES } from './seal.ts';

const VERSION = 1;
const HEADER_BYTES = 2;
/** The longest message of an application. */
export const MAX_MESSAGE_BYTES = 65_536;

export function encodeContent(content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + content.length);
  bytes[0] = VERSION;
  bytes.set(content, HEADER_BYTES);
  return bytes;
}

/** Undefined: of another version, or too long. A view. */
export function decodeContent(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length < HEADER_BYTES || bytes.length > HEADER_BYTES + MAX_MESSAGE_BYTES) return undefined;
  return bytes[0] === VERSION && bytes[1] === 0 ? bytes.subarray(HEADER_BYTES) : undefined;
}

/** Packets that a message of so many bytes is cut into. */
export function fragmentsOf(contentBytes: number): number {
  return Math.ceil((MESSAGE_SEAL_BYTES + HEADER_BYTES + contentBytes) / FRAGMENT_BYTES);
}

if (fragmentsOf(MAX_MESSAGE_BYTES) > MAX_FRAGMENTS) throw new RangeError('the longest message has too many fragments');
