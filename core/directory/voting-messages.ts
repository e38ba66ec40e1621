/**
 * What authorities say to each other while they vote. Everything is signed, so it does not matter who delivers it.
 *
 *   message = "NYXM" ‖ version (1) ‖ type (1) ‖ epoch (6) ‖ round (4) ‖ sender (32) ‖ content
 *   offer   (1): voter (32) ‖ vote digest (32) ‖ signatures                "I can give you this vote; these vouch that
 *                it was there in time"        signed: "nyx1 directory vote" ‖ 0 ‖ epoch ‖ round ‖ voter ‖ digest
 *   prepare (2): view digest (32) ‖ signature (64)                                     "the votes give this view"
 *                                       signed: "nyx1 directory prepare" ‖ 0 ‖ epoch ‖ round ‖ view digest
 *   endorse (3): signed body of the view (view.ts) ‖ signatures             "I sign it, because so many prepared it"
 *   signatures = count (1) ‖ (key (32) ‖ signature (64))*
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import { type CryptoSuite, ED25519_PUBLIC_KEY_BYTES, ED25519_SIGNATURE_BYTES } from '../crypto/suite.ts';
import { ByteReader, ByteWriter, joinBytes, magicOf } from './bytes.ts';
import { nodeIdHex } from './descriptor.ts';
import { encodeSignedBody, MAX_VIEW_SIGNATURES, readSignedBody, type SignedBody, type ViewSignature } from './view.ts';

const VOTING_VERSION = 1;
const DIGEST_BYTES = 32;
const magic = magicOf('NYXM');
const what = 'voting message';
const MessageType = { offer: 1, prepare: 2, endorse: 3 } as const;

export const MAX_VOTING_MESSAGE_BYTES = 48 * 1024;

interface Head {
  readonly epoch: number;
  readonly round: number;
  /** Key of the authority that sends this, to whom questions may be put. */
  readonly sender: Uint8Array;
}

export interface OfferMessage extends Head {
  readonly type: 'offer';
  readonly voter: Uint8Array;
  readonly digest: Uint8Array;
  /** Of different authorities, the voter and the sender among them. */
  readonly signatures: readonly ViewSignature[];
}

export interface PrepareMessage extends Head {
  readonly type: 'prepare';
  readonly digest: Uint8Array;
  readonly signature: Uint8Array;
}

export interface EndorseMessage extends Head {
  readonly type: 'endorse';
  readonly signed: SignedBody;
  /** Prepares of a threshold of authorities. */
  readonly prepares: readonly ViewSignature[];
}

export type VotingMessage = OfferMessage | PrepareMessage | EndorseMessage;

export function encodeVotingMessage(message: VotingMessage): Uint8Array {
  const writer = new ByteWriter()
    .bytes(magic)
    .number(VOTING_VERSION, 1)
    .number(MessageType[message.type], 1)
    .number(message.epoch, 6)
    .number(message.round, 4)
    .bytes(message.sender);
  switch (message.type) {
    case 'offer':
      writer.bytes(message.voter).bytes(message.digest);
      writeSignatures(writer, message.signatures);
      break;
    case 'prepare':
      writer.bytes(message.digest).bytes(message.signature);
      break;
    case 'endorse':
      writer.bytes(encodeSignedBody(message.signed));
      writeSignatures(writer, message.prepares);
  }
  return writer.finish();
}

/** Throws DirectoryError. Checks the form only; the result holds copies. */
export function decodeVotingMessage(bytes: Uint8Array): VotingMessage {
  const reader = new ByteReader(bytes, what);
  if (bytes.length > MAX_VOTING_MESSAGE_BYTES) throw reader.malformed(`has ${bytes.length} bytes`);
  reader.expect(magic, VOTING_VERSION);
  const type = reader.number(1);
  const head: Head = {
    epoch: reader.number(6),
    round: reader.number(4),
    sender: reader.take(ED25519_PUBLIC_KEY_BYTES),
  };
  const message = readContent(reader, type, head);
  reader.end();
  return message;
}

/** What is signed by whoever vouches for a vote. */
export function offerStatement({ epoch, round, voter, digest }: Omit<OfferMessage, 'type' | 'sender' | 'signatures'>) {
  return joinBytes(nyxLabel('directory vote'), slotBytes(epoch, round), voter, digest);
}

export function prepareStatement(epoch: number, round: number, digest: Uint8Array): Uint8Array {
  return joinBytes(nyxLabel('directory prepare'), slotBytes(epoch, round), digest);
}

/**
 * True when each of `signatures` is over `statement`, by a different one of `authorities` (lower-case hex). Stops at the
 * first that is not, so that whoever sends rubbish costs one verification.
 */
export function allSigned(
  statement: Uint8Array,
  signatures: readonly ViewSignature[],
  authorities: ReadonlySet<string>,
  suite: CryptoSuite,
): boolean {
  const seen = new Set<string>();
  for (const { key } of signatures) {
    const id = nodeIdHex(key);
    if (!authorities.has(id) || seen.has(id)) return false;
    seen.add(id);
  }
  return signatures.every(({ key, signature }) => suite.ed25519Verify(key, statement, signature));
}

function readContent(reader: ByteReader, type: number, head: Head): VotingMessage {
  switch (type) {
    case MessageType.offer: {
      const voter = reader.take(ED25519_PUBLIC_KEY_BYTES);
      const digest = reader.take(DIGEST_BYTES);
      return { type: 'offer', ...head, voter, digest, signatures: readSignatures(reader) };
    }
    case MessageType.prepare: {
      const digest = reader.take(DIGEST_BYTES);
      return { type: 'prepare', ...head, digest, signature: reader.take(ED25519_SIGNATURE_BYTES) };
    }
    case MessageType.endorse: {
      const signed = readSignedBody(reader);
      if (signed.view.epoch !== head.epoch) throw reader.malformed('endorses the view of another epoch');
      return { type: 'endorse', ...head, signed, prepares: readSignatures(reader) };
    }
    default:
      throw reader.malformed(`has type ${type}`);
  }
}

function writeSignatures(writer: ByteWriter, signatures: readonly ViewSignature[]): void {
  writer.number(signatures.length, 1);
  for (const { key, signature } of signatures) writer.bytes(key).bytes(signature);
}

function readSignatures(reader: ByteReader): ViewSignature[] {
  const count = reader.number(1);
  if (count > MAX_VIEW_SIGNATURES) throw reader.malformed(`has ${count} signatures`);
  return Array.from({ length: count }, () => ({
    key: reader.take(ED25519_PUBLIC_KEY_BYTES),
    signature: reader.take(ED25519_SIGNATURE_BYTES),
  }));
}

function slotBytes(epoch: number, round: number): Uint8Array {
  return new ByteWriter().number(0, 1).number(epoch, 6).number(round, 4).finish();
}
