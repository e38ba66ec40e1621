/**
 * Evidence that a mix cheated: what it signed itself, such that an honest node would never have signed it. Anybody can
 * check it, with nothing but the bytes. What cannot be shown this way (a mix that says nothing, cells lost between two nodes):
 * docs/adr/0021-batches-with-proofs.md.
 */
import { compareBytes, joinBytes, readNumber, writeNumber } from '../directory/bytes.ts';
import { verifyMembers } from './accumulator.ts';
import {
  type BatchRecords,
  compareDigests,
  isOpened,
  type Proof,
  type Receipt,
  readOpening,
  Side,
  type Statement,
} from './batch-records.ts';
import { isExchange } from './exchange-evidence.ts';
import { verify } from './vdf.ts';

/** Less delay than this is none: a tenth of what a usual machine does in a millisecond. */
export const MIN_SQUARINGS_PER_MS = 100;

/** Numbers go on the wire and into files. */
export const CheatKind = {
  /** Two statements for one batch. */
  equivocation: 1,
  /** The delay was not computed, or is too short. */
  delay: 2,
  /** A proof of cells that are not in the batch. */
  membership: 3,
  /** A receipt for a cell, and a proof to the same neighbour without it. */
  receipt: 4,
  /** An opening that is none, or without a cell that was proved to be in the batch. */
  opening: 5,
  /** More cells than a full batch has. */
  size: 6,
  /** A cell that went in, and did not come out as what it had to become. */
  exchange: 7,
} as const;
export type CheatKind = (typeof CheatKind)[keyof typeof CheatKind];

const names = Object.fromEntries(Object.entries(CheatKind).map(([name, kind]) => [kind, name])) as Record<
  CheatKind,
  keyof typeof CheatKind
>;

export function cheatName(kind: CheatKind): keyof typeof CheatKind {
  return names[kind];
}

/** `magic ‖ kind (1) ‖ parts, each behind its length (2)`. */
const MAGIC = Uint8Array.from('NYXCHEAT1', (letter) => letter.charCodeAt(0));
const MAX_PARTS = 4;
/** It fits into a message of the control channel. */
export const MAX_EVIDENCE_BYTES = 16_383;

export interface Cheat {
  readonly kind: CheatKind;
  readonly nodeId: Uint8Array;
  /** The batch key and the batch's number under it. */
  readonly key: Uint8Array;
  readonly number: number;
}

export function encodeEvidence(kind: CheatKind, ...parts: readonly Uint8Array[]): Uint8Array {
  const framed: Uint8Array[] = [MAGIC, Uint8Array.of(kind)];
  for (const part of parts) {
    const length = new Uint8Array(2);
    writeNumber(length, 0, part.length, 2);
    framed.push(length, part);
  }
  return joinBytes(...framed);
}

function decodeParts(bytes: Uint8Array): { kind: number; parts: Uint8Array[] } | undefined {
  if (bytes.length <= MAGIC.length || bytes.length > MAX_EVIDENCE_BYTES) return undefined;
  if (compareBytes(bytes.subarray(0, MAGIC.length), MAGIC) !== 0) return undefined;
  const parts: Uint8Array[] = [];
  let at = MAGIC.length + 1;
  while (at < bytes.length) {
    if (at + 2 > bytes.length || parts.length === MAX_PARTS) return undefined;
    const end = at + 2 + readNumber(bytes, at, 2);
    if (end > bytes.length) return undefined;
    parts.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return { kind: bytes[MAGIC.length]!, parts };
}

/** Who cheated and how; undefined: the bytes prove nothing. */
export function verifyEvidence(records: BatchRecords, bytes: Uint8Array): Cheat | undefined {
  const decoded = decodeParts(bytes);
  if (decoded === undefined) return undefined;
  const { kind, parts } = decoded;
  switch (kind) {
    case CheatKind.equivocation: {
      const [first, second] = statementsOf(records, parts, 2);
      return first && second && differ(first, second) ? cheat(kind, first) : undefined;
    }
    case CheatKind.delay: {
      const [statement] = statementsOf(records, parts, 1);
      return statement && !delayHolds(records, statement) ? cheat(kind, statement) : undefined;
    }
    case CheatKind.membership: {
      const proof = parts.length === 1 ? records.readProof(parts[0]!) : undefined;
      return proof && !membershipHolds(records, proof) ? cheat(kind, proof.statement) : undefined;
    }
    case CheatKind.receipt: {
      if (parts.length !== 2) return undefined;
      const receipt = records.readReceipt(parts[0]!);
      const proof = records.readProof(parts[1]!);
      return receipt && proof && breaksReceipt(receipt, proof) ? cheat(kind, proof.statement) : undefined;
    }
    case CheatKind.opening: {
      const [first, opening] = parts;
      if (first === undefined || opening === undefined || parts.length > 2) return undefined;
      const proof = records.readProof(first);
      const statement = proof?.statement ?? records.readStatement(first);
      if (statement === undefined) return undefined;
      return breaksOpening(records, statement, proof, opening) ? cheat(kind, statement) : undefined;
    }
    case CheatKind.size: {
      const [statement] = statementsOf(records, parts, 1);
      return statement && isTooLarge(statement) ? cheat(kind, statement) : undefined;
    }
    case CheatKind.exchange: {
      const [first, opening, pledge, shown] = parts;
      if (first === undefined || opening === undefined || pledge === undefined || shown === undefined) return undefined;
      const statement = records.readStatement(first);
      if (statement === undefined) return undefined;
      return isExchange(records, statement, opening, pledge, shown) ? cheat(kind, statement) : undefined;
    }
    default:
      return undefined;
  }
}

/** Whether two statements are of one batch and not the same. */
export function differ(a: Statement, b: Statement): boolean {
  const same = a.number === b.number && compareBytes(a.certificate.key, b.certificate.key) === 0;
  return same && compareBytes(signedPart(a.bytes), signedPart(b.bytes)) !== 0;
}

/** Without the signature: Ed25519 has more than one of the same. */
function signedPart(statement: Uint8Array): Uint8Array {
  return statement.subarray(0, statement.length - 64);
}

export function delayHolds(records: BatchRecords, statement: Statement): boolean {
  const { suite, group } = records;
  const { squarings, rules, delayOutput, delayProof, certificate } = statement;
  if (squarings < MIN_SQUARINGS_PER_MS * rules.delayMs) return false;
  const input = records.delayInput(certificate.bytes, statement);
  return verify(suite, group, input, delayOutput, squarings, delayProof);
}

export function membershipHolds(records: BatchRecords, proof: Proof): boolean {
  const { suite, group } = records;
  const { inputs, outputs } = proof.statement;
  const primes = proof.digests.map((digest) => records.primeOf(digest));
  return verifyMembers(suite, group, proof.side === Side.in ? inputs : outputs, primes, proof);
}

/** Whether a neighbour that has the receipt got a proof without one of its cells. */
export function breaksReceipt(receipt: Receipt, proof: Proof): boolean {
  const { certificate, number } = proof.statement;
  if (proof.side !== Side.in || receipt.number !== number || compareBytes(receipt.tag, proof.tag) !== 0) return false;
  if (compareBytes(receipt.certificate.key, certificate.key) !== 0) return false;
  return receipt.digests.some((digest) => !proof.digests.some((proved) => compareDigests(digest, proved) === 0));
}

/** More cells than by the rules that the mix itself names. */
export function isTooLarge({ cells, rules }: Statement): boolean {
  return cells > rules.cells;
}

/** Whether these bytes are what the statement has the hash of. */
export function isOpeningOf(records: BatchRecords, statement: Statement, bytes: Uint8Array): boolean {
  return compareBytes(records.openingHash(bytes), statement.opening) === 0;
}

/** Whether a mix stands by an opening that does not fit to its statement, or to what it has proved beside it. */
export function breaksOpening(
  records: BatchRecords,
  statement: Statement,
  proof: Pick<Proof, 'side' | 'digests'> | undefined,
  bytes: Uint8Array,
): boolean {
  if (!isOpeningOf(records, statement, bytes)) return false;
  const opening = readOpening(bytes);
  if (opening === undefined || opening.cells !== statement.cells || opening.number !== statement.number) return true;
  if (compareBytes(opening.key, statement.certificate.key) !== 0) return true;
  return proof?.digests.some((digest) => !isOpened(records.suite, opening, proof.side, digest)) ?? false;
}

function statementsOf(records: BatchRecords, parts: readonly Uint8Array[], count: number): Statement[] {
  if (parts.length !== count) return [];
  return parts.flatMap((part) => records.readStatement(part) ?? []);
}

function cheat(kind: CheatKind, { certificate, number }: Statement): Cheat {
  return { kind, nodeId: certificate.nodeId, key: certificate.key, number };
}
