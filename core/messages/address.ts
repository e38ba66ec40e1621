/**
 * The address that a recipient gives to others:
 *
 *   nyx-msg: ‖ base32( version 1 (1) ‖ NodeID of the mailbox node (32) ‖ mailbox id (32) ‖ checksum (4) )
 *
 * The mailbox id is a hash of the mailbox's owner key, so the recipient's keys, which that key signs (key-bundle.ts), need
 * not be in it. The checksum finds slips of the pen, nothing else.
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { joinBytes } from '../directory/bytes.ts';
import { decodeBase32, encodeBase32 } from './base32.ts';
import { MessageError, MessageErrorCode } from './message-error.ts';

export const ADDRESS_PREFIX = 'nyx-msg:';
export const MAILBOX_ID_BYTES = 32;
const VERSION = 1;
const NODE_ID_BYTES = 32;
const CHECKSUM_BYTES = 4;
const ADDRESS_BYTES = 1 + NODE_ID_BYTES + MAILBOX_ID_BYTES + CHECKSUM_BYTES;
/** Far beyond the length of any version's address. */
const MAX_TEXT = 1024;

export interface MessageAddress {
  /** Of the node that keeps the mailbox, 32 bytes. */
  readonly nodeId: Uint8Array;
  /** 32 bytes. */
  readonly mailboxId: Uint8Array;
}

/** BLAKE3("nyx1 mailbox" ‖ 0 ‖ owner's Ed25519 public key), 32 bytes. */
export function mailboxIdOf(ownerKey: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.blake3(nyxLabel('mailbox'), Uint8Array.of(0), ownerKey);
}

export function encodeAddress({ nodeId, mailboxId }: MessageAddress, suite: CryptoSuite): string {
  const content = joinBytes(Uint8Array.of(VERSION), nodeId, mailboxId);
  return ADDRESS_PREFIX + encodeBase32(joinBytes(content, checksumOf(content, suite)));
}

/** Throws MessageError BAD_ADDRESS, saying what is wrong. Upper case is taken, too. */
export function decodeAddress(text: string, suite: CryptoSuite): MessageAddress {
  const bad = (problem: string) => new MessageError(MessageErrorCode.badAddress, `the address ${problem}`);
  if (text.length > MAX_TEXT) throw bad(`has ${text.length} characters`);
  const lower = text.trim().toLowerCase();
  if (!lower.startsWith(ADDRESS_PREFIX)) throw bad(`does not begin with ${ADDRESS_PREFIX}`);
  const bytes = decodeBase32(lower.slice(ADDRESS_PREFIX.length));
  if (bytes === undefined) throw bad('has letters that are not of base32, or is cut off');
  if (bytes.length > 0 && bytes[0] !== VERSION) throw bad(`has version ${bytes[0]}; this node knows ${VERSION}`);
  if (bytes.length !== ADDRESS_BYTES) throw bad(`has ${bytes.length} bytes; an address has ${ADDRESS_BYTES}`);
  const content = bytes.subarray(0, ADDRESS_BYTES - CHECKSUM_BYTES);
  if (!suite.equal(checksumOf(content, suite), bytes.subarray(ADDRESS_BYTES - CHECKSUM_BYTES))) {
    throw bad('is mistyped: its checksum is wrong');
  }
  return {
    nodeId: content.slice(1, 1 + NODE_ID_BYTES),
    mailboxId: content.slice(1 + NODE_ID_BYTES),
  };
}

function checksumOf(content: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.blake3(nyxLabel('message address'), Uint8Array.of(0), content).subarray(0, CHECKSUM_BYTES);
}
