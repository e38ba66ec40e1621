/**
 * What a mailbox's owner and its node say to each other on a stream of a circuit that ends at the node: records
 * `length of the rest (2) ‖ type (1) ‖ body`.
 *
 *   node → owner   1 challenge  nonce (32)
 *   owner → node   2 open       owner key (32) ‖ signature (64) over "nyx1 mailbox open" ‖ 0 ‖ NodeID ‖ nonce
 *   node → owner   3 opened     waiting packets (4) ‖ packets refused since the last time (4) ‖ held at most, seconds (4)
 *   owner → node   4 keys       key bundle
 *   node → owner   5 packet     sequence (6) ‖ 0 (1) ‖ sealed packet (751), or sequence (6) ‖ 1 (1) ‖ reply id (16) ‖ reply (800)
 *   owner → node   6 taken      sequence (6): this one and all before it are erased
 *   owner → node   7 remove     the mailbox and all that is in it
 *   node → owner   8 refused    reason (1): 1 proof, 2 keys, 3 room, 4 opened elsewhere, 5 record, 6 shutdown
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import {
  type CryptoSuite,
  ED25519_PUBLIC_KEY_BYTES,
  ED25519_SIGNATURE_BYTES,
  type SignKeyPair,
} from '../crypto/suite.ts';
import { joinBytes, readNumber, writeNumber } from '../directory/bytes.ts';
import { DELTA_BYTES, REPLY_ID_BYTES } from '../sphinx/layout.ts';
import { KEY_BUNDLE_BYTES } from './key-bundle.ts';
import { SEALED_PACKET_BYTES } from './lane.ts';

/** Name and port that a mailbox node serves owners under, on a circuit that ends at it. */
export const MAILBOX_SERVICE = { host: 'mailbox.nyx', port: 1 } as const;

const RecordType = { challenge: 1, open: 2, opened: 3, keys: 4, packet: 5, taken: 6, remove: 7, refused: 8 } as const;
export const RefusedReason = { proof: 1, keys: 2, room: 3, elsewhere: 4, record: 5, shutdown: 6 } as const;
export type RefusedReason = (typeof RefusedReason)[keyof typeof RefusedReason];
export const refusedNames: Readonly<Record<RefusedReason, string>> = {
  1: 'the proof of ownership does not hold',
  2: 'the keys are not acceptable',
  3: 'the node has no room for another mailbox',
  4: 'the mailbox was opened elsewhere',
  5: 'a record was not understood',
  6: 'the node is shutting down',
};

const NONCE_BYTES = 32;
const SEQUENCE_BYTES = 6;
const LENGTH_BYTES = 2;
/** Type and body of the longest record. */
const MAX_RECORD_BYTES = 1 + KEY_BUNDLE_BYTES;

export type MailboxRecord =
  | { readonly type: 'challenge'; readonly nonce: Uint8Array }
  | { readonly type: 'open'; readonly ownerKey: Uint8Array; readonly signature: Uint8Array }
  | { readonly type: 'opened'; readonly waiting: number; readonly refused: number; readonly holdSeconds: number }
  | { readonly type: 'keys'; readonly bundle: Uint8Array }
  | { readonly type: 'packet'; readonly sequence: number; readonly packet: Uint8Array }
  | { readonly type: 'reply'; readonly sequence: number; readonly replyId: Uint8Array; readonly reply: Uint8Array }
  | { readonly type: 'taken'; readonly sequence: number }
  | { readonly type: 'remove' }
  | { readonly type: 'refused'; readonly reason: RefusedReason };

/** With its length. */
export function encodeRecord(record: MailboxRecord): Uint8Array {
  switch (record.type) {
    case 'challenge':
      return framed(RecordType.challenge, record.nonce);
    case 'open':
      return framed(RecordType.open, record.ownerKey, record.signature);
    case 'opened': {
      const body = new Uint8Array(12);
      writeNumber(body, 0, record.waiting, 4);
      writeNumber(body, 4, record.refused, 4);
      writeNumber(body, 8, record.holdSeconds, 4);
      return framed(RecordType.opened, body);
    }
    case 'keys':
      return framed(RecordType.keys, record.bundle);
    case 'packet':
      return framed(RecordType.packet, sequenceBytes(record.sequence), Uint8Array.of(0), record.packet);
    case 'reply': {
      const { sequence, replyId, reply } = record;
      return framed(RecordType.packet, sequenceBytes(sequence), Uint8Array.of(1), replyId, reply);
    }
    case 'taken':
      return framed(RecordType.taken, sequenceBytes(record.sequence));
    case 'remove':
      return framed(RecordType.remove);
    case 'refused':
      return framed(RecordType.refused, Uint8Array.of(record.reason));
  }
}

/** A record without its length; undefined: none of this version. Borrows. */
export function decodeRecord(bytes: Uint8Array): MailboxRecord | undefined {
  const body = bytes.subarray(1);
  switch (bytes[0]) {
    case RecordType.challenge:
      return body.length === NONCE_BYTES ? { type: 'challenge', nonce: body } : undefined;
    case RecordType.open: {
      if (body.length !== ED25519_PUBLIC_KEY_BYTES + ED25519_SIGNATURE_BYTES) return undefined;
      const ownerKey = body.subarray(0, ED25519_PUBLIC_KEY_BYTES);
      return { type: 'open', ownerKey, signature: body.subarray(ED25519_PUBLIC_KEY_BYTES) };
    }
    case RecordType.opened: {
      if (body.length !== 12) return undefined;
      const [waiting, refused, holdSeconds] = [0, 4, 8].map((at) => readNumber(body, at, 4)) as [
        number,
        number,
        number,
      ];
      return { type: 'opened', waiting, refused, holdSeconds };
    }
    case RecordType.keys:
      return body.length === KEY_BUNDLE_BYTES ? { type: 'keys', bundle: body } : undefined;
    case RecordType.packet:
      return decodePacket(body);
    case RecordType.taken:
      return body.length === SEQUENCE_BYTES
        ? { type: 'taken', sequence: readNumber(body, 0, SEQUENCE_BYTES) }
        : undefined;
    case RecordType.remove:
      return body.length === 0 ? { type: 'remove' } : undefined;
    case RecordType.refused: {
      const reason = body[0];
      if (body.length !== 1 || !Object.hasOwn(refusedNames, String(reason))) return undefined;
      return { type: 'refused', reason: reason as RefusedReason };
    }
    default:
      return undefined;
  }
}

/** Cuts a stream of bytes into records. */
export class RecordReader {
  readonly #held = new Uint8Array(LENGTH_BYTES + MAX_RECORD_BYTES);
  #length = 0;

  /** Calls `take` with each record that is complete (borrowed). False: what comes is no record, and the stream is of no more use. */
  push(chunk: Uint8Array, take: (record: MailboxRecord) => void): boolean {
    let at = 0;
    while (at < chunk.length) {
      const wanted =
        this.#length < LENGTH_BYTES ? LENGTH_BYTES : LENGTH_BYTES + readNumber(this.#held, 0, LENGTH_BYTES);
      const part = chunk.subarray(at, at + wanted - this.#length);
      this.#held.set(part, this.#length);
      this.#length += part.length;
      at += part.length;
      if (this.#length < wanted) continue;
      if (wanted === LENGTH_BYTES) {
        const length = readNumber(this.#held, 0, LENGTH_BYTES);
        if (length === 0 || length > MAX_RECORD_BYTES) return false;
        continue;
      }
      const record = decodeRecord(this.#held.subarray(LENGTH_BYTES, wanted));
      this.#length = 0;
      if (record === undefined) return false;
      take(record);
    }
    return true;
  }
}

/** Proof of who owns a mailbox, good for one session with one node. */
export function signOpen(owner: SignKeyPair, nodeId: Uint8Array, nonce: Uint8Array): Uint8Array {
  return owner.sign(openMessage(nodeId, nonce));
}

export function verifyOpen(
  suite: CryptoSuite,
  ownerKey: Uint8Array,
  nodeId: Uint8Array,
  nonce: Uint8Array,
  signature: Uint8Array,
): boolean {
  return suite.ed25519Verify(ownerKey, openMessage(nodeId, nonce), signature);
}

function openMessage(nodeId: Uint8Array, nonce: Uint8Array): Uint8Array {
  return joinBytes(nyxLabel('mailbox open'), Uint8Array.of(0), nodeId, nonce);
}

function decodePacket(body: Uint8Array): MailboxRecord | undefined {
  if (body.length < SEQUENCE_BYTES + 1) return undefined;
  const sequence = readNumber(body, 0, SEQUENCE_BYTES);
  const rest = body.subarray(SEQUENCE_BYTES + 1);
  if (body[SEQUENCE_BYTES] === 0) {
    return rest.length === SEALED_PACKET_BYTES ? { type: 'packet', sequence, packet: rest } : undefined;
  }
  if (body[SEQUENCE_BYTES] !== 1 || rest.length !== REPLY_ID_BYTES + DELTA_BYTES) return undefined;
  return {
    type: 'reply',
    sequence,
    replyId: rest.subarray(0, REPLY_ID_BYTES),
    reply: rest.subarray(REPLY_ID_BYTES),
  };
}

function sequenceBytes(sequence: number): Uint8Array {
  const bytes = new Uint8Array(SEQUENCE_BYTES);
  writeNumber(bytes, 0, sequence, SEQUENCE_BYTES);
  return bytes;
}

function framed(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = joinBytes(Uint8Array.of(type), ...parts);
  const length = new Uint8Array(LENGTH_BYTES);
  writeNumber(length, 0, body.length, LENGTH_BYTES);
  return joinBytes(length, body);
}
