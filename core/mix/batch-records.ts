/**
 * What a mix of class cmix puts its name to (docs/protocol.md §7.1). Under a batch key of the worker's own, which the node's
 * identity certifies, it signs for every batch: receipts for what it took from each neighbour, before it can know what
 * will come out; one statement with accumulators of all that went in and came out, and the delay between; and for each
 * neighbour a proof that its cells are among them. An opening is what a statement's hash of leaves stands for: one leaf for
 * every cell on either side, which tells something only to who knows the cell. Reading checks form and signatures;
 * batch-evidence.ts the mathematics.
 */
import type { CryptoSuite, SignKeyPair } from '../crypto/suite.ts';
import { compareBytes, joinBytes as join, readNumber, writeNumber } from '../directory/bytes.ts';
import { ViewParam, type ViewParams, viewParam } from '../directory/params.ts';
import { Direction } from '../onion/direction-keys.ts';
import type { UnixSeconds } from '../ports.ts';
import { CT_BYTES, writeCounter } from '../wire/datagram.ts';
import { DIGEST_BYTES, memberPrime } from './accumulator.ts';
import type { RsaGroup } from './rsa-group.ts';

/** Most cells in a batch: a receipt and a proof have to fit into one message of the control channel, as evidence. */
export const MAX_BATCH_CELLS = 128;
export const MAX_DELAY_MS = 10_000;
export const CERTIFICATE_BYTES = 144;
export const TAG_BYTES = 8;
export const LEAF_BYTES = 16;
/** Of the leaves of one batch, drawn when it closes. */
export const SALT_BYTES = 16;
const OPENING_HEAD_BYTES = 58;
export const MAX_OPENING_BYTES = OPENING_HEAD_BYTES + 2 * MAX_BATCH_CELLS * LEAF_BYTES;
const HASH_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** Of some ten batches: about a megabyte. */
const MAX_PRIMES = 4096;
const SIGNED_CERTIFICATE_BYTES = CERTIFICATE_BYTES - SIGNATURE_BYTES;

const text = new TextEncoder();
const CERTIFICATE_DOMAIN = text.encode('nyx1 cmix key');
const RECEIPT_DOMAIN = text.encode('nyx1 cmix receipt');
const STATEMENT_DOMAIN = text.encode('nyx1 cmix statement');
const PROOF_DOMAIN = text.encode('nyx1 cmix proof');
const CELL_DOMAIN = text.encode('nyx1 cmix cell');
const LEAF_DOMAIN = text.encode('nyx1 cmix leaf');
const END_DOMAIN = text.encode('nyx1 cmix end');
const BEGIN_DOMAIN = text.encode('nyx1 cmix begin');
const OPENING_DOMAIN = text.encode('nyx1 cmix opening');

/** What went in, or what came out. */
export const Side = { in: 0, out: 1 } as const;
export type Side = (typeof Side)[keyof typeof Side];

/** What the epoch's view says of batches. */
export interface BatchRules {
  /** Of a full batch, 2…128. */
  readonly cells: number;
  /** What every batch is delayed by, 1…10 000. */
  readonly delayMs: number;
}

/** The rules that a view's parameters give; what is out of bounds counts as the nearest that is not. */
export function batchRulesOf(params: ViewParams): BatchRules {
  const between = (low: number, value: number, high: number) => Math.min(high, Math.max(low, value));
  return {
    cells: between(2, viewParam(params, ViewParam.cmixCells), MAX_BATCH_CELLS),
    delayMs: between(1, viewParam(params, ViewParam.cmixDelayMs), MAX_DELAY_MS),
  };
}

export interface Certificate {
  readonly bytes: Uint8Array;
  /** NodeID of who certified, 32 bytes. */
  readonly nodeId: Uint8Array;
  readonly identity: Uint8Array;
  readonly key: Uint8Array;
  readonly from: UnixSeconds;
  readonly until: UnixSeconds;
}

export interface Receipt {
  readonly bytes: Uint8Array;
  readonly certificate: Certificate;
  readonly number: number;
  /** Of the neighbour, in this batch. */
  readonly tag: Uint8Array;
  readonly digests: readonly Uint8Array[];
}

export interface StatementFields {
  /** Of the batch, under this key: 0, 1, 2 … */
  readonly number: number;
  readonly closedAt: UnixSeconds;
  /** So many went in, and so many came out. */
  readonly cells: number;
  /** By these the mix says that it went. */
  readonly rules: BatchRules;
  readonly squarings: number;
  /** Accumulators of the digests of all cells. */
  readonly inputs: bigint;
  readonly outputs: bigint;
  /** Hash of the opening, 32 bytes. */
  readonly opening: Uint8Array;
}

export interface Statement extends StatementFields {
  readonly bytes: Uint8Array;
  readonly certificate: Certificate;
  readonly delayOutput: bigint;
  readonly delayProof: bigint;
}

export interface Proof {
  readonly bytes: Uint8Array;
  readonly statement: Statement;
  readonly side: Side;
  readonly tag: Uint8Array;
  readonly digests: readonly Uint8Array[];
  readonly witness: bigint;
  readonly quotient: bigint;
}

/** All leaves of a batch, rising: as many as it has cells, on either side. */
export interface Opening {
  readonly bytes: Uint8Array;
  readonly key: Uint8Array;
  readonly number: number;
  /** Unknown before the batch closes: nobody can have looked for two cells with one leaf. */
  readonly salt: Uint8Array;
  readonly cells: number;
}

type Suite = Pick<CryptoSuite, 'sha256' | 'blake3' | 'ed25519Verify' | 'aeadOpenPadded' | 'aeadSeal' | 'chacha20Xor'>;

/** Length of a statement in a group with elements of this size. */
export function statementBytesFor(elementBytes: number): number {
  return CERTIFICATE_BYTES + 26 + HASH_BYTES + 4 * elementBytes + SIGNATURE_BYTES;
}

/** travel ‖ counter ‖ type ‖ path id */
const cellHead = new Uint8Array(9);

/**
 * By this name a cell (1256 bytes) is known to both ends of a link and to its client. It says on which circuit (`circuitTag` of
 * the train that came over the link), which way and as which cell it goes: else whoever has seen it could have it taken on
 * another circuit, where it becomes something else. What falls off at the next hop on the way back does not count, since no
 * client can tell what it was.
 */
export function cellDigest(
  suite: Pick<CryptoSuite, 'sha256'>,
  circuit: Uint8Array,
  travel: Direction,
  counter: number,
  type: number,
  pathId: number,
  cell: Uint8Array,
): Uint8Array {
  cellHead[0] = travel;
  writeCounter(cellHead, 1, counter);
  cellHead[7] = type;
  cellHead[8] = pathId;
  const known = travel === Direction.forward ? cell : cell.subarray(0, CT_BYTES);
  return suite.sha256(CELL_DOMAIN, circuit, cellHead, known);
}

/** What stands for a cell on the side where it has none: its circuit ended there, or it began there. */
export function endDigest(suite: Pick<CryptoSuite, 'sha256'>, digest: Uint8Array): Uint8Array {
  return suite.sha256(END_DOMAIN, digest);
}

export function beginDigest(suite: Pick<CryptoSuite, 'sha256'>, digest: Uint8Array): Uint8Array {
  return suite.sha256(BEGIN_DOMAIN, digest);
}

/** What stands for a cell in an opening; only who knows the cell can tell. */
function leafOf(
  suite: Pick<CryptoSuite, 'sha256'>,
  key: Uint8Array,
  number: number,
  salt: Uint8Array,
  side: Side,
  digest: Uint8Array,
): Uint8Array {
  const hash = suite.sha256(LEAF_DOMAIN, key, numberBytes(number, 8), salt, Uint8Array.of(side), digest);
  return hash.subarray(0, LEAF_BYTES);
}

/** Whether a cell is in an opened batch, on that side. */
export function isOpened(
  suite: Pick<CryptoSuite, 'sha256'>,
  opening: Opening,
  side: Side,
  digest: Uint8Array,
): boolean {
  const { bytes, key, number, salt, cells } = opening;
  const leaf = leafOf(suite, key, number, salt, side, digest);
  let low = 0;
  let high = cells - 1;
  const start = OPENING_HEAD_BYTES + side * cells * LEAF_BYTES;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const order = compareAt(bytes, start + middle * LEAF_BYTES, leaf);
    if (order === 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle - 1;
  }
  return false;
}

/** Undefined: not the form of an opening. Borrows `bytes`. */
export function readOpening(bytes: Uint8Array): Opening | undefined {
  if (bytes.length < OPENING_HEAD_BYTES || bytes.length > MAX_OPENING_BYTES) return undefined;
  const cells = readNumber(bytes, 56, 2);
  const number = readNumber(bytes, 32, 8);
  if (cells < 1 || bytes.length !== OPENING_HEAD_BYTES + 2 * cells * LEAF_BYTES) return undefined;
  if (number > Number.MAX_SAFE_INTEGER) return undefined;
  for (let i = 0; i < 2 * cells; i++) {
    if (i % cells === 0) continue;
    const at = OPENING_HEAD_BYTES + i * LEAF_BYTES;
    if (compareAt(bytes, at - LEAF_BYTES, bytes.subarray(at, at + LEAF_BYTES)) >= 0) return undefined;
  }
  return { bytes, key: bytes.subarray(0, 32), number, salt: bytes.subarray(40, 56), cells };
}

/** The word of a node that `key` signs its batches. */
export function certifyBatchKey(
  identity: SignKeyPair,
  key: Uint8Array,
  from: UnixSeconds,
  until: UnixSeconds,
): Uint8Array {
  const bytes = new Uint8Array(CERTIFICATE_BYTES);
  bytes.set(identity.publicKey, 0);
  bytes.set(key, 32);
  writeNumber(bytes, 64, Math.floor(from), 8);
  writeNumber(bytes, 72, Math.floor(until), 8);
  bytes.set(identity.sign(join(CERTIFICATE_DOMAIN, bytes.subarray(0, SIGNED_CERTIFICATE_BYTES))), 80);
  return bytes;
}

/** Undefined: not signed by the identity in it. Keeps `bytes` (144). */
export function readCertificate(
  suite: Pick<CryptoSuite, 'blake3' | 'ed25519Verify'>,
  bytes: Uint8Array,
): Certificate | undefined {
  const identity = bytes.subarray(0, 32);
  const signed = join(CERTIFICATE_DOMAIN, bytes.subarray(0, SIGNED_CERTIFICATE_BYTES));
  if (!suite.ed25519Verify(identity, signed, bytes.subarray(SIGNED_CERTIFICATE_BYTES))) return undefined;
  return {
    bytes,
    nodeId: suite.blake3(identity),
    identity,
    key: bytes.subarray(32, 64),
    from: readNumber(bytes, 64, 8),
    until: readNumber(bytes, 72, 8),
  };
}

export class BatchRecords {
  readonly suite: Suite;
  readonly group: RsaGroup;
  readonly #primes = new Map<string, bigint>();

  constructor(suite: Suite, group: RsaGroup) {
    this.suite = suite;
    this.group = group;
  }

  /** The prime of a digest. A cell's is needed when it is proved to us and when we prove it: the last ones are kept. */
  primeOf(digest: Uint8Array): bigint {
    const key = String.fromCharCode(...digest);
    let prime = this.#primes.get(key);
    if (prime === undefined) {
      prime = memberPrime(this.suite, this.group, digest);
      if (this.#primes.size >= MAX_PRIMES) this.#primes.delete(this.#primes.keys().next().value!);
      this.#primes.set(key, prime);
    }
    return prime;
  }

  get statementBytes(): number {
    return statementBytesFor(this.group.elementBytes);
  }

  // --- writing ---

  encodeReceipt(
    certificate: Uint8Array,
    key: SignKeyPair,
    number: number,
    tag: Uint8Array,
    digests: readonly Uint8Array[],
  ): Uint8Array {
    return sign(RECEIPT_DOMAIN, key, join(certificate, numberBytes(number, 8), tag, listBytes(digests)));
  }

  encodeStatement(
    certificate: Uint8Array,
    key: SignKeyPair,
    fields: StatementFields,
    delayOutput: bigint,
    delayProof: bigint,
  ): Uint8Array {
    const { group } = this;
    const body = join(this.#statementHead(certificate, fields), group.encode(delayOutput), group.encode(delayProof));
    return sign(STATEMENT_DOMAIN, key, body);
  }

  encodeProof(
    statement: Uint8Array,
    key: SignKeyPair,
    side: Side,
    tag: Uint8Array,
    digests: readonly Uint8Array[],
    witness: bigint,
    quotient: bigint,
  ): Uint8Array {
    const { group } = this;
    const body = join(
      statement,
      Uint8Array.of(side),
      tag,
      listBytes(digests),
      group.encode(witness),
      group.encode(quotient),
    );
    return sign(PROOF_DOMAIN, key, body);
  }

  /** Leaves of all cells; `inputs` and `outputs` are digests, as many on either side. */
  encodeOpening(
    key: Uint8Array,
    number: number,
    salt: Uint8Array,
    inputs: readonly Uint8Array[],
    outputs: readonly Uint8Array[],
  ): Uint8Array {
    const leaves = (side: Side, digests: readonly Uint8Array[]) =>
      digests.map((digest) => leafOf(this.suite, key, number, salt, side, digest)).sort(compareBytes);
    return join(
      key,
      numberBytes(number, 8),
      salt,
      numberBytes(inputs.length, 2),
      ...leaves(Side.in, inputs),
      ...leaves(Side.out, outputs),
    );
  }

  openingHash(opening: Uint8Array): Uint8Array {
    return this.suite.sha256(OPENING_DOMAIN, opening);
  }

  /** What the delay begins with: everything about a batch that is known when it is closed. */
  delayInput(certificate: Uint8Array, fields: StatementFields): bigint {
    return this.group.hashToElement(this.suite, 'nyx1 cmix delay', this.#statementHead(certificate, fields));
  }

  #statementHead(certificate: Uint8Array, fields: StatementFields): Uint8Array {
    const { group } = this;
    return join(
      certificate,
      numberBytes(fields.number, 8),
      numberBytes(fields.closedAt, 8),
      numberBytes(fields.cells, 2),
      numberBytes(fields.rules.cells, 2),
      numberBytes(fields.rules.delayMs, 2),
      numberBytes(fields.squarings, 4),
      group.encode(fields.inputs),
      group.encode(fields.outputs),
      fields.opening,
    );
  }

  // --- reading: undefined for whatever does not have the form, or not the signatures ---

  readReceipt(bytes: Uint8Array): Receipt | undefined {
    const at = new Cursor(bytes);
    const certificate = this.#certificate(at);
    const number = at.number(8);
    const tag = at.take(TAG_BYTES);
    const digests = at.list();
    if (certificate === undefined || !this.#signed(at, RECEIPT_DOMAIN, certificate)) return undefined;
    return { bytes: bytes.slice(), certificate, number, tag, digests };
  }

  readStatement(bytes: Uint8Array): Statement | undefined {
    const at = new Cursor(bytes);
    const statement = this.#statement(at);
    return at.left === 0 ? statement : undefined;
  }

  readProof(bytes: Uint8Array): Proof | undefined {
    const at = new Cursor(bytes);
    const statement = this.#statement(at);
    const side = at.number(1);
    const tag = at.take(TAG_BYTES);
    const digests = at.list();
    const witness = this.#element(at);
    const quotient = this.#element(at);
    if (statement === undefined || witness === undefined || quotient === undefined || side > 1) return undefined;
    if (digests.length > statement.cells || !this.#signed(at, PROOF_DOMAIN, statement.certificate)) return undefined;
    return { bytes: bytes.slice(), statement, side: side as Side, tag, digests, witness, quotient };
  }

  #statement(at: Cursor): Statement | undefined {
    const begin = at.at;
    const certificate = this.#certificate(at);
    const number = at.number(8);
    const closedAt = at.number(8);
    const cells = at.number(2);
    const rules = { cells: at.number(2), delayMs: at.number(2) };
    const squarings = at.number(4);
    const inputs = this.#element(at);
    const outputs = this.#element(at);
    const opening = at.take(HASH_BYTES);
    const delayOutput = this.#element(at);
    const delayProof = this.#element(at);
    if (certificate === undefined || inputs === undefined || outputs === undefined) return undefined;
    if (delayOutput === undefined || delayProof === undefined) return undefined;
    if (cells < 1 || cells > MAX_BATCH_CELLS || squarings < 1) return undefined;
    if (closedAt < certificate.from || closedAt > certificate.until) return undefined;
    const signed = at.taken(begin);
    const signature = at.take(SIGNATURE_BYTES);
    if (at.bad || !this.suite.ed25519Verify(certificate.key, join(STATEMENT_DOMAIN, signed), signature))
      return undefined;
    const bytes = at.taken(begin).slice();
    const fields = { number, closedAt, cells, rules, squarings, inputs, outputs, opening };
    return { bytes, certificate, ...fields, delayOutput, delayProof };
  }

  #certificate(at: Cursor): Certificate | undefined {
    const bytes = at.take(CERTIFICATE_BYTES);
    return at.bad ? undefined : readCertificate(this.suite, bytes);
  }

  #element(at: Cursor): bigint | undefined {
    const bytes = at.take(this.group.elementBytes);
    return at.bad ? undefined : this.group.decode(bytes);
  }

  /** The rest is a signature of everything before it. */
  #signed(at: Cursor, domain: Uint8Array, certificate: Certificate): boolean {
    const signed = at.taken(0);
    const signature = at.take(SIGNATURE_BYTES);
    return !at.bad && at.left === 0 && this.suite.ed25519Verify(certificate.key, join(domain, signed), signature);
  }
}

/** Reads on; once something is missing, everything is. */
class Cursor {
  readonly #bytes: Uint8Array;
  at = 0;
  bad = false;

  constructor(bytes: Uint8Array) {
    // A Buffer's slice() would be a view of the caller's memory instead of a copy.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get left(): number {
    return this.bad ? -1 : this.#bytes.length - this.at;
  }

  /** A copy. */
  take(length: number): Uint8Array {
    if (this.left < length) {
      this.bad = true;
      return new Uint8Array(length);
    }
    this.at += length;
    return this.#bytes.slice(this.at - length, this.at);
  }

  /** What was taken since `begin`; a view. */
  taken(begin: number): Uint8Array {
    return this.#bytes.subarray(begin, this.at);
  }

  number(lengthBytes: number): number {
    const value = readNumber(this.take(lengthBytes), 0, lengthBytes);
    if (value > Number.MAX_SAFE_INTEGER) this.bad = true;
    return value;
  }

  /** Digests in rising order, each once. */
  list(): Uint8Array[] {
    const count = this.number(2);
    if (count < 1 || count > MAX_BATCH_CELLS) this.bad = true;
    const digests: Uint8Array[] = [];
    for (let i = 0; i < count && !this.bad; i++) {
      digests.push(this.take(DIGEST_BYTES));
      if (i > 0 && compareDigests(digests[i - 1]!, digests[i]!) >= 0) this.bad = true;
    }
    return digests;
  }
}

/** Order of the bytes at `at` and `other`, which has their length. */
function compareAt(bytes: Uint8Array, at: number, other: Uint8Array): number {
  for (let i = 0; i < other.length; i++) if (bytes[at + i] !== other[i]) return bytes[at + i]! - other[i]!;
  return 0;
}

export function compareDigests(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < DIGEST_BYTES; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}

function sign(domain: Uint8Array, key: SignKeyPair, body: Uint8Array): Uint8Array {
  return join(body, key.sign(join(domain, body)));
}

function numberBytes(value: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  writeNumber(bytes, 0, value, lengthBytes);
  return bytes;
}

/** A list says who is in it, not in which order they came. */
function listBytes(digests: readonly Uint8Array[]): Uint8Array {
  return join(numberBytes(digests.length, 2), ...[...digests].sort(compareDigests));
}
