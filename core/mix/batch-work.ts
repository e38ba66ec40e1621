/**
 * The heavy part of class cmix, for a thread of its own (docs/protocol.md §7.1): what a batch is proved with, and whether what
 * others prove holds. Everything is plain data, so that it crosses threads as it is. Work comes in turns of some milliseconds.
 */
import type { CryptoSuite, SignKeyPair } from '../crypto/suite.ts';
import type { UnixSeconds } from '../ports.ts';
import { generatorOf, proveMembers, raise } from './accumulator.ts';
import {
  breaksOpening,
  breaksReceipt,
  type Cheat,
  CheatKind,
  delayHolds,
  differ,
  encodeEvidence,
  isOpeningOf,
  isTooLarge,
  MIN_SQUARINGS_PER_MS,
  membershipHolds,
  verifyEvidence,
} from './batch-evidence.ts';
import {
  type BatchRecords,
  type BatchRules,
  type Certificate,
  isOpened,
  type Proof,
  type Receipt,
  readOpening,
  Side,
  type Statement,
} from './batch-records.ts';
import { evaluate, prove, type Turns } from './vdf.ts';

/** Cells of a batch that came from one neighbour, or go to one. */
export interface BatchShare {
  /** The engine's own number for the neighbour. */
  readonly neighbour: number;
  readonly tag: Uint8Array;
  readonly digests: readonly Uint8Array[];
}

/** A closed batch. Shares with neighbours that get no proof (our own circuits' ends, clients that are not ours) have no tag to be asked by. */
export interface BatchJob {
  readonly batch: number;
  /** Of its opening, 16 bytes. */
  readonly salt: Uint8Array;
  readonly closedAt: UnixSeconds;
  readonly rules: BatchRules;
  readonly inputs: readonly BatchShare[];
  readonly outputs: readonly BatchShare[];
}

export type BatchProgress =
  /** For the neighbours the cells came from: at once. */
  | { readonly kind: 'receipts'; readonly batch: number; readonly messages: readonly BatchMessage[] }
  /** The delay is over: the cells may go. */
  | { readonly kind: 'delayed'; readonly batch: number; readonly squarings: number; readonly delayMs: number }
  | {
      readonly kind: 'proofs';
      readonly batch: number;
      readonly statement: Uint8Array;
      /** For every neighbour that gets a proof. */
      readonly opening: Uint8Array;
      readonly messages: readonly BatchMessage[];
    };

export interface BatchMessage {
  readonly neighbour: number;
  readonly bytes: Uint8Array;
}

export interface BatchSigner {
  readonly certificate: Uint8Array;
  readonly key: SignKeyPair;
}

/** What turns need of time: how long the delay took is told, never decided on. */
export type NowMs = () => number;

/** Proves a batch. `tell` is called as soon as there is something to say. */
export function* proveBatch(
  records: BatchRecords,
  suite: Pick<CryptoSuite, 'sha256'>,
  signer: BatchSigner,
  squaringsPerMs: number,
  job: BatchJob,
  tell: (progress: BatchProgress) => void,
  nowMs: NowMs,
): Turns<void> {
  const { batch, rules } = job;
  const { certificate, key } = signer;
  const { group } = records;
  tell({
    kind: 'receipts',
    batch,
    messages: job.inputs
      .filter(({ tag }) => tag.length > 0)
      .map(({ neighbour, tag, digests }) => ({
        neighbour,
        bytes: records.encodeReceipt(certificate, key, batch, tag, digests),
      })),
  });
  const inPrimes = yield* primesOf(records, job.inputs);
  const outPrimes = yield* primesOf(records, job.outputs);
  const generator = generatorOf(suite, group);
  const digestsOf = (shares: readonly BatchShare[]) => shares.flatMap(({ digests }) => digests);
  const opening = records.encodeOpening(key.publicKey, batch, job.salt, digestsOf(job.inputs), digestsOf(job.outputs));
  // Never less than what neighbours take for a delay at all.
  const squarings = Math.ceil(Math.max(MIN_SQUARINGS_PER_MS, squaringsPerMs) * rules.delayMs);
  const fields = {
    number: batch,
    closedAt: job.closedAt,
    cells: inPrimes.flat().length,
    rules,
    squarings,
    inputs: yield* raise(group, generator, inPrimes.flat()),
    outputs: yield* raise(group, generator, outPrimes.flat()),
    opening: records.openingHash(opening),
  };
  const startedMs = nowMs();
  const evaluation = yield* evaluate(group, records.delayInput(certificate, fields), squarings);
  tell({ kind: 'delayed', batch, squarings, delayMs: nowMs() - startedMs });
  const delayProof = yield* prove(suite, group, evaluation);
  const statement = records.encodeStatement(certificate, key, fields, evaluation.output, delayProof);
  const messages: BatchMessage[] = [];
  for (const [side, shares, primes, accumulator] of [
    [Side.in, job.inputs, inPrimes, fields.inputs],
    [Side.out, job.outputs, outPrimes, fields.outputs],
  ] as const) {
    for (let i = 0; i < shares.length; i++) {
      const { neighbour, tag, digests } = shares[i]!;
      if (tag.length === 0) continue;
      const others = primes.filter((_, k) => k !== i).flat();
      const { witness, quotient } = yield* proveMembers(suite, group, accumulator, primes[i]!, others);
      const bytes = records.encodeProof(statement, key, side, tag, digests, witness, quotient);
      messages.push({ neighbour, bytes });
    }
  }
  tell({ kind: 'proofs', batch, statement, opening, messages });
}

function* primesOf(records: BatchRecords, shares: readonly BatchShare[]): Turns<bigint[][]> {
  const primes: bigint[][] = [];
  for (const { digests } of shares) {
    const some: bigint[] = [];
    for (const digest of digests) {
      some.push(records.primeOf(digest));
      if (some.length % 8 === 0) yield;
    }
    primes.push(some);
  }
  return primes;
}

/** Digests of a cell as a mix takes it, and as it gives it on. */
export interface CellPair {
  readonly input: Uint8Array;
  readonly output: Uint8Array;
}

/** Something that a neighbour sent, to be judged. */
export type CheckJob =
  | { readonly kind: 'receipt'; readonly nodeId: Uint8Array; readonly bytes: Uint8Array }
  | {
      readonly kind: 'proof';
      readonly nodeId: Uint8Array;
      readonly bytes: Uint8Array;
      /** The receipt that came before it, if one did; it was checked then. */
      readonly receipt: Uint8Array | undefined;
      /** A statement of the same batch that was heard before. */
      readonly heard: Uint8Array | undefined;
      /** What came as the batch's opening. */
      readonly opening: Uint8Array | undefined;
    }
  | { readonly kind: 'statement'; readonly bytes: Uint8Array; readonly heard: Uint8Array | undefined }
  /** A batch of some mix on a circuit of our own, in which the first of these cells has to be, and others may be. */
  | {
      readonly kind: 'audit';
      readonly nodeId: Uint8Array;
      readonly statement: Uint8Array;
      readonly opening: Uint8Array;
      readonly cells: readonly CellPair[];
    }
  | { readonly kind: 'evidence'; readonly bytes: Uint8Array };

export type StatementSummary = Pick<Statement, 'bytes' | 'number' | 'cells' | 'rules' | 'squarings'> & {
  readonly key: Uint8Array;
};

export type Verdict =
  | { readonly kind: 'receipt'; readonly receipt: Pick<Receipt, 'bytes' | 'number' | 'tag' | 'digests'> }
  | {
      readonly kind: 'proof';
      readonly proof: Pick<Proof, 'side' | 'tag' | 'digests'>;
      readonly statement: StatementSummary;
      /** The opening is the statement's, and our cells are in it. */
      readonly opened: boolean;
    }
  /** `elsewhere`: the first cell was neither in this batch nor came out of it. `exchanged`: one of all was, and not on both sides. */
  | {
      readonly kind: 'audit';
      readonly found: 'held' | 'exchanged' | 'elsewhere';
      /** Of all cells, which was exchanged: one that was taken, if there is one. */
      readonly at: number;
      readonly statement: StatementSummary;
    }
  | { readonly kind: 'cheat'; readonly cheat: Cheat; readonly evidence: Uint8Array }
  /** Of another node than it came from, or not what it has to be: nobody signed it, so it shows nothing. */
  | { readonly kind: 'refused' }
  | { readonly kind: 'nothing' };

export function judge(records: BatchRecords, job: CheckJob): Verdict {
  switch (job.kind) {
    case 'receipt': {
      const receipt = records.readReceipt(job.bytes);
      if (receipt === undefined || !isOf(receipt.certificate, job.nodeId)) return { kind: 'refused' };
      const { bytes, number, tag, digests } = receipt;
      return { kind: 'receipt', receipt: { bytes, number, tag, digests } };
    }
    case 'proof':
      return judgeProof(records, job);
    case 'statement': {
      const statement = records.readStatement(job.bytes);
      if (statement === undefined) return { kind: 'refused' };
      const cheat = judgeStatement(records, statement, job.heard);
      return cheat ?? { kind: 'nothing' };
    }
    case 'audit':
      return judgeAudit(records, job);
    case 'evidence': {
      const cheat = verifyEvidence(records, job.bytes);
      return cheat === undefined ? { kind: 'refused' } : { kind: 'cheat', cheat, evidence: job.bytes };
    }
  }
}

function judgeProof(records: BatchRecords, job: CheckJob & { kind: 'proof' }): Verdict {
  const proof = records.readProof(job.bytes);
  if (proof === undefined || !isOf(proof.statement.certificate, job.nodeId)) return { kind: 'refused' };
  const { statement } = proof;
  const cheat = judgeStatement(records, statement, job.heard);
  if (cheat !== undefined) return cheat;
  if (!membershipHolds(records, proof)) return shown(CheatKind.membership, statement, proof.bytes);
  const receipt = job.receipt && records.readReceipt(job.receipt);
  if (receipt && breaksReceipt(receipt, proof)) {
    return shown(CheatKind.receipt, statement, receipt.bytes, proof.bytes);
  }
  const { side, tag, digests } = proof;
  const { opening } = job;
  if (opening && breaksOpening(records, statement, proof, opening)) {
    return shown(CheatKind.opening, statement, proof.bytes, opening);
  }
  const opened = opening !== undefined && isOpeningOf(records, statement, opening);
  return { kind: 'proof', proof: { side, tag, digests }, statement: summaryOf(statement), opened };
}

function judgeAudit(records: BatchRecords, job: CheckJob & { kind: 'audit' }): Verdict {
  const statement = records.readStatement(job.statement);
  if (statement === undefined || !isOf(statement.certificate, job.nodeId)) return { kind: 'refused' };
  const cheat = judgeStatement(records, statement, undefined);
  if (cheat !== undefined) return cheat;
  if (breaksOpening(records, statement, undefined, job.opening)) {
    return shown(CheatKind.opening, statement, statement.bytes, job.opening);
  }
  const opening = readOpening(job.opening);
  if (opening === undefined || !isOpeningOf(records, statement, job.opening)) return { kind: 'refused' };
  const sides = job.cells.map(({ input, output }) => ({
    took: isOpened(records.suite, opening, Side.in, input),
    gave: isOpened(records.suite, opening, Side.out, output),
  }));
  const taken = sides.findIndex(({ took, gave }) => took && !gave);
  const at = taken >= 0 ? taken : sides.findIndex(({ took, gave }) => took !== gave);
  const found = at >= 0 ? 'exchanged' : sides[0]?.took ? 'held' : 'elsewhere';
  return { kind: 'audit', found, at, statement: summaryOf(statement) };
}

function summaryOf({ bytes, number, cells, rules, squarings, certificate }: Statement): StatementSummary {
  return { bytes, number, cells, rules, squarings, key: certificate.key };
}

function judgeStatement(
  records: BatchRecords,
  statement: Statement,
  heardBytes: Uint8Array | undefined,
): Verdict | undefined {
  const heard = heardBytes && records.readStatement(heardBytes);
  if (heard && differ(statement, heard)) {
    return shown(CheatKind.equivocation, statement, heard.bytes, statement.bytes);
  }
  if (isTooLarge(statement)) return shown(CheatKind.size, statement, statement.bytes);
  // Heard and equal: its delay was checked then.
  if (heard === undefined && !delayHolds(records, statement)) {
    return shown(CheatKind.delay, statement, statement.bytes);
  }
  return undefined;
}

function shown(kind: CheatKind, { certificate, number }: Statement, ...parts: readonly Uint8Array[]): Verdict {
  const { nodeId, key } = certificate;
  return { kind: 'cheat', cheat: { kind, nodeId, key, number }, evidence: encodeEvidence(kind, ...parts) };
}

function isOf(certificate: Certificate, nodeId: Uint8Array): boolean {
  return certificate.nodeId.length === nodeId.length && certificate.nodeId.every((byte, i) => byte === nodeId[i]);
}
