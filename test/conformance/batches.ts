/** What mixes of class cmix sign, read and written as docs/protocol.md §7.1 has it. Readers throw what is wrong with the form. */
import { ed25519 } from '@noble/curves/ed25519.js';
import { sha256 } from '@noble/hashes/sha2.js';
import {
  ascii,
  type Bytes,
  bytes,
  cellKeys,
  concat,
  equal,
  hkdf,
  keystream,
  newSigner,
  nodeIdOf,
  number,
  random,
  ratchet,
  readNumber,
  type Signer,
} from './codec.ts';
import {
  accumulate,
  computeDelay,
  type Delay,
  ELEMENT,
  encodeElement,
  type Membership,
  proveMembers,
  readElement,
} from './group.ts';

export const About = {
  receipt: 1,
  proof: 2,
  heard: 3,
  statement: 4,
  evidence: 5,
  opening: 6,
  ask: 7,
  next: 8,
} as const;
export const Cheat = {
  equivocation: 1,
  delay: 2,
  membership: 3,
  receipt: 4,
  opening: 5,
  size: 6,
  exchange: 7,
} as const;
export const Side = { in: 0, out: 1 } as const;
export type Side = (typeof Side)[keyof typeof Side];

const CERTIFICATE = 144;
const SIGNATURE = 64;
export const STATEMENT = 1290;
/** certificate … hash of the opening: with what the delay begins. */
const HEAD = CERTIFICATE + 26 + 2 * ELEMENT + 32;
const LEAF = 16;
export const LONGEST_OPENING = 4154;
const MAX_CELLS = 128;

/** Of the train that came over a link, or went. */
export const circuitTag = (train: Uint8Array): Bytes => hash('nyx1 cmix circuit', train);
/** Of a cell on a link. Backward, what falls off at the next hop does not count. */
export const digestOf = (
  tag: Uint8Array,
  travel: 0 | 1,
  { counter, type = 0, path = 0 }: { readonly counter: number; readonly type?: number; readonly path?: number },
  cell: Uint8Array,
): Bytes =>
  hash(
    'nyx1 cmix cell',
    tag,
    concat(Uint8Array.of(travel), number(counter, 6), Uint8Array.of(type, path)),
    travel === 0 ? cell : cell.subarray(0, 1240),
  );
export const endOf = (digest: Uint8Array): Bytes => hash('nyx1 cmix end', digest);
export const beginOf = (digest: Uint8Array): Bytes => hash('nyx1 cmix begin', digest);
const hash = (domain: string, ...parts: readonly Uint8Array[]): Bytes =>
  new Uint8Array(sha256(concat(ascii(domain), ...parts)));

export const rising = (parts: readonly Uint8Array[]): Uint8Array[] => [...parts].sort(Buffer.compare);
const sameBytes = (a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean =>
  a.length === b.length && equal(concat(...a), concat(...b));
/** Whether two lists have the same parts, in whatever order. */
export const sameParts = (a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean =>
  sameBytes(rising(a), rising(b));

// --- reading

export interface Certificate {
  readonly bytes: Bytes;
  readonly identity: Bytes;
  readonly key: Bytes;
  readonly from: number;
  readonly until: number;
}

export interface Receipt {
  readonly bytes: Bytes;
  readonly certificate: Certificate;
  readonly number: number;
  readonly tag: Bytes;
  readonly digests: readonly Bytes[];
}

export interface Statement {
  readonly bytes: Bytes;
  readonly certificate: Certificate;
  readonly number: number;
  readonly closedAt: number;
  readonly cells: number;
  readonly rules: BatchRules;
  readonly squarings: number;
  readonly inputs: bigint;
  readonly outputs: bigint;
  readonly opening: Bytes;
  readonly delay: Delay;
  readonly head: Bytes;
}

export interface Proof {
  readonly bytes: Bytes;
  readonly statement: Statement;
  readonly side: Side;
  readonly tag: Bytes;
  readonly digests: readonly Bytes[];
  readonly membership: Membership;
}

export interface Opening {
  readonly bytes: Bytes;
  readonly key: Bytes;
  readonly number: number;
  readonly salt: Bytes;
  readonly cells: number;
  /** By side. */
  readonly leaves: readonly [readonly Bytes[], readonly Bytes[]];
}

export interface BatchRules {
  readonly cells: number;
  readonly delayMs: number;
}

class Reader {
  readonly #from: Uint8Array;
  #at = 0;

  constructor(from: Uint8Array) {
    this.#from = from;
  }

  get left(): number {
    return this.#from.length - this.#at;
  }

  take(length: number): Bytes {
    if (this.left < length) throw new Error('a record is too short');
    this.#at += length;
    return new Uint8Array(this.#from.slice(this.#at - length, this.#at));
  }

  number(length: number): number {
    return readNumber(this.take(length), 0, length);
  }

  element(): bigint {
    return readElement(this.take(ELEMENT));
  }

  certificate(): Certificate {
    const certificate = this.take(CERTIFICATE);
    return {
      bytes: certificate,
      identity: certificate.slice(0, 32),
      key: certificate.slice(32, 64),
      from: readNumber(certificate, 64, 8),
      until: readNumber(certificate, 72, 8),
    };
  }

  list(): Bytes[] {
    const count = this.number(2);
    if (count < 1 || count > MAX_CELLS) throw new Error(`a list has ${count} digests`);
    return inOrder(Array.from({ length: count }, () => this.take(32)));
  }

  end(): void {
    if (this.left !== 0) throw new Error(`${this.left} bytes follow a record`);
  }
}

function inOrder(parts: Bytes[]): Bytes[] {
  for (let i = 1; i < parts.length; i++) {
    if (Buffer.compare(parts[i - 1]!, parts[i]!) >= 0) throw new Error('a list is not in rising order, each once');
  }
  return parts;
}

export function readReceipt(from: Uint8Array): Receipt {
  const reader = new Reader(from);
  const receipt = {
    bytes: new Uint8Array(from),
    certificate: reader.certificate(),
    number: reader.number(8),
    tag: reader.take(8),
    digests: reader.list(),
  };
  reader.take(SIGNATURE);
  reader.end();
  return receipt;
}

export function readStatement(from: Uint8Array): Statement {
  const reader = new Reader(from);
  const statement = {
    bytes: new Uint8Array(from),
    certificate: reader.certificate(),
    number: reader.number(8),
    closedAt: reader.number(8),
    cells: reader.number(2),
    rules: { cells: reader.number(2), delayMs: reader.number(2) },
    squarings: reader.number(4),
    inputs: reader.element(),
    outputs: reader.element(),
    opening: reader.take(32),
    delay: { output: reader.element(), proof: reader.element() },
    head: new Uint8Array(from.slice(0, HEAD)),
  };
  reader.take(SIGNATURE);
  reader.end();
  return statement;
}

export function readProof(from: Uint8Array): Proof {
  const statement = readStatement(from.slice(0, STATEMENT));
  const reader = new Reader(from.slice(STATEMENT));
  const side = reader.number(1);
  if (side > 1) throw new Error(`side ${side}`);
  const proof = {
    bytes: new Uint8Array(from),
    statement,
    side: side as Side,
    tag: reader.take(8),
    digests: reader.list(),
    membership: { witness: reader.element(), quotient: reader.element() },
  };
  reader.take(SIGNATURE);
  reader.end();
  return proof;
}

export function readOpening(from: Uint8Array): Opening {
  const reader = new Reader(from);
  const [key, batch, salt, cells] = [reader.take(32), reader.number(8), reader.take(16), reader.number(2)];
  if (cells < 1 || cells > MAX_CELLS) throw new Error(`an opening of ${cells} cells`);
  const side = () => inOrder(Array.from({ length: cells }, () => reader.take(LEAF)));
  const opening = { bytes: new Uint8Array(from), key, number: batch, salt, cells, leaves: [side(), side()] as const };
  reader.end();
  return opening;
}

/** Whether a record's signature is its key's. */
export const isSigned = (kind: 'receipt' | 'statement' | 'proof', record: Uint8Array, key: Uint8Array): boolean =>
  ed25519.verify(record.subarray(-SIGNATURE), concat(ascii(`nyx1 cmix ${kind}`), record.subarray(0, -SIGNATURE)), key);

/** Whether a certificate is signed by its identity, and that is the node's. */
export const isCertificateOf = ({ bytes: all, identity }: Certificate, nodeId: Uint8Array): boolean =>
  equal(nodeIdOf(identity), nodeId) &&
  ed25519.verify(all.subarray(80), concat(ascii('nyx1 cmix key'), all.subarray(0, 80)), identity);

export const leafOf = (key: Uint8Array, batch: number, salt: Uint8Array, side: Side, digest: Uint8Array): Bytes =>
  hash('nyx1 cmix leaf', key, number(batch, 8), salt, Uint8Array.of(side), digest).slice(0, LEAF);
export const openingHash = (opening: Uint8Array): Bytes => hash('nyx1 cmix opening', opening);
/** By which nodes tell each other what statement they have heard. */
export const heardOf = ({ bytes: all, certificate, number: batch }: Statement): Bytes =>
  concat(certificate.key, number(batch, 8), sha256(all.subarray(0, -SIGNATURE)));

export const has = (opening: Opening, side: Side, digest: Uint8Array): boolean => {
  const leaf = leafOf(opening.key, opening.number, opening.salt, side, digest);
  return opening.leaves[side].some((one) => equal(one, leaf));
};

// --- pledges

const PLEDGE_SLOT = 208;
export const PLEDGES = 1456;
const GENERATIONS = 8;

/** What client and hop know of a circuit of the class at that hop. */
export interface Pledged {
  readonly inward: Bytes;
  /** Undefined: the circuit ends there. */
  readonly outward?: Bytes;
  readonly counters: readonly [number, number, number, number];
  readonly chains: readonly [Uint8Array, Uint8Array];
}

/** Hashes of a layer's keys by direction and generation. */
export const layerKeysOf = (chains: Pledged['chains']): Bytes =>
  concat(
    ...chains.flatMap((first) => {
      let chain = new Uint8Array(first);
      return Array.from({ length: GENERATIONS }, () => {
        const { aead } = cellKeys(chain);
        chain = new Uint8Array(ratchet(chain));
        return hash('nyx1 cmix layer key', aead);
      });
    }),
  );

export const pledgeFields = ({ inward, outward, counters, chains }: Pledged): Bytes =>
  concat(
    inward,
    outward ?? bytes(32),
    ...counters.map((counter) => number(counter, 6)),
    outward === undefined ? bytes(32) : hash('nyx1 cmix layer keys', layerKeysOf(chains)),
  );

/** Of the pledges that come back: the hop's own, and what later hops have said. */
export const openPledges = (binding: Uint8Array, pledges: Uint8Array): { slot: Bytes; later: Bytes } => {
  const stream = keystream(hkdf(binding, bytes(0), ascii('nyx1 cmix pledges'), 32), bytes(12), 0, PLEDGES);
  const open = new Uint8Array(pledges.map((byte, i) => byte ^ stream[i]!));
  return { slot: open.slice(0, PLEDGE_SLOT), later: open.slice(PLEDGE_SLOT) };
};

/** Whether that is the node's pledge, by the batch key in it. */
export const isPledgeOf = (slot: Uint8Array, nodeId: Uint8Array, fields: Uint8Array): boolean => {
  const certificate = new Reader(slot).certificate();
  const signed = concat(ascii('nyx1 cmix pledge'), certificate.bytes, fields);
  return isCertificateOf(certificate, nodeId) && ed25519.verify(slot.subarray(CERTIFICATE), signed, certificate.key);
};

// --- writing, as the suite's own node mixes: well, or not

export const encodeEvidence = (kind: number, ...parts: readonly Uint8Array[]): Bytes =>
  concat(ascii('NYXCHEAT1'), Uint8Array.of(kind), ...parts.flatMap((part) => [number(part.length, 2), part]));

/** What is wrong with a batch. */
export interface Flaws {
  readonly cells?: number;
  readonly rules?: BatchRules;
  readonly squarings?: number;
  readonly delay?: Delay;
  readonly closedAt?: number;
  /** In place of the digests that are proved. */
  readonly opened?: readonly [readonly Uint8Array[], readonly Uint8Array[]];
  readonly openingNumber?: number;
}

export class Mix {
  readonly identity: Signer;
  readonly #key = newSigner();
  readonly #certificate: Bytes;
  /** The same for all its batches, which harms only itself. */
  readonly #salt = random(16);

  constructor(identity: Signer) {
    this.identity = identity;
    const now = Math.floor(Date.now() / 1000);
    const certified = concat(identity.publicKey, this.#key.publicKey, number(now - 3600, 8), number(now + 3600, 8));
    this.#certificate = concat(certified, identity.sign(concat(ascii('nyx1 cmix key'), certified)));
  }

  #signed(kind: string, record: Uint8Array): Bytes {
    return concat(record, this.#key.sign(concat(ascii(`nyx1 cmix ${kind}`), record)));
  }

  pledge(fields: Uint8Array): Bytes {
    const signed = concat(this.#certificate, fields);
    return concat(signed, this.#key.sign(concat(ascii('nyx1 cmix pledge'), signed)));
  }

  receipt(batch: number, tag: Uint8Array, digests: readonly Uint8Array[]): Bytes {
    return this.#signed('receipt', concat(this.#certificate, number(batch, 8), tag, listOf(digests)));
  }

  opening(batch: number, inputs: readonly Uint8Array[], outputs: readonly Uint8Array[], flaws: Flaws = {}): Bytes {
    const { publicKey } = this.#key;
    const leaves = (side: Side, digests: readonly Uint8Array[]) =>
      rising(digests.map((digest) => leafOf(publicKey, batch, this.#salt, side, digest)));
    const [opensIn, opensOut] = flaws.opened ?? [inputs, outputs];
    return concat(
      publicKey,
      number(flaws.openingNumber ?? batch, 8),
      this.#salt,
      number(opensIn.length, 2),
      ...leaves(Side.in, opensIn),
      ...leaves(Side.out, opensOut),
    );
  }

  statement(
    batch: number,
    inputs: readonly Uint8Array[],
    outputs: readonly Uint8Array[],
    rules: BatchRules,
    flaws: Flaws = {},
  ): Bytes {
    const said = flaws.rules ?? rules;
    const squarings = flaws.squarings ?? 100 * said.delayMs;
    const head = concat(
      this.#certificate,
      number(batch, 8),
      number(flaws.closedAt ?? Math.floor(Date.now() / 1000), 8),
      number(flaws.cells ?? inputs.length, 2),
      number(said.cells, 2),
      number(said.delayMs, 2),
      number(squarings, 4),
      encodeElement(accumulate(inputs)),
      encodeElement(accumulate(outputs)),
      openingHash(this.opening(batch, inputs, outputs, flaws)),
    );
    const { output, proof } = flaws.delay ?? computeDelay(head, squarings);
    return this.#signed('statement', concat(head, encodeElement(output), encodeElement(proof)));
  }

  /** `all`: the digests of that side. */
  proof(
    statement: Uint8Array,
    side: Side,
    tag: Uint8Array,
    digests: readonly Uint8Array[],
    all: readonly Uint8Array[],
    membership: Membership = proveMembers(
      digests,
      all.filter((one) => !digests.includes(one)),
    ),
  ): Bytes {
    const { witness, quotient } = membership;
    const body = concat(
      statement,
      Uint8Array.of(side),
      tag,
      listOf(digests),
      encodeElement(witness),
      encodeElement(quotient),
    );
    return this.#signed('proof', body);
  }
}

const listOf = (digests: readonly Uint8Array[]): Bytes => concat(number(digests.length, 2), ...rising(digests));

/** Digests of cells that nobody ever sent. */
export const anyDigests = (count: number): Bytes[] => Array.from({ length: count }, () => random(32));
export const anyTag = (): Bytes => random(8);
export const noBatch = bytes(STATEMENT + 2 + LONGEST_OPENING);
