/**
 * Class cmix in a node (docs/protocol.md §7.1). As a mix: cells gather in batches, whose proofs the host computes elsewhere; the
 * cells of a batch leave when its delay is over. As a neighbour of mixes: what they sign is checked, elsewhere too, against
 * what was given to them and got from them; a mix that has signed what no honest one signs is reported with that as evidence,
 * and all neighbours are told.
 */

import { compareBytes, joinBytes, readNumber, writeNumber } from '../directory/bytes.ts';
import { Drop } from '../drop-reason.ts';
import { LinkMessage } from '../link/contract.ts';
import { type Cheat, CheatKind, cheatName, MAX_EVIDENCE_BYTES } from '../mix/batch-evidence.ts';
import { BatchQueue, OWN_END } from '../mix/batch-queue.ts';
import { CERTIFICATE_BYTES, cellDigest, Side, TAG_BYTES } from '../mix/batch-records.ts';
import type { BatchMessage, BatchProgress, CheckJob, Verdict } from '../mix/batch-work.ts';
import type { DelayOwner } from '../mix/delay-queue.ts';
import type { TimeMs } from '../ports.ts';
import { BatchLedger, type LedgerStep, zeroCounts } from './batch-ledger.ts';
import type { EngineContext } from './circuit.ts';
import type { CmixStats } from './contract.ts';
import type { LinkSlot } from './link-slot.ts';
import { digestName } from './step-names.ts';
import type { Timed } from './timer-heap.ts';

/** First byte of a message about batches. */
const About = { receipt: 1, proof: 2, heard: 3, statement: 4, evidence: 5 } as const;

/** `batch key (32) ‖ number (8) ‖ SHA-256 of the statement without its signature`. */
const HEARD_BYTES = 72;
const SIGNATURE_BYTES = 64;
/** Where a record has its batch key and number. */
const IDENTITY_BYTES = 32;
const KEY_OFFSET = 32;
const NUMBER_OFFSET = CERTIFICATE_BYTES;

/** Statements remembered, of all mixes together: 1.3 KiB each. */
const MAX_STATEMENTS = 512;
/** Cheats remembered, so that each is told once. */
const MAX_CHEATS = 256;
/** Checks under way: for one neighbour, and for all. */
const MAX_CHECKS_OF_ONE = 32;
const MAX_CHECKS = 256;
/** Evidence that a neighbour may send, a minute. */
const MAX_EVIDENCE_PER_MINUTE = 4;
/** A neighbour is suspected aloud this often at most. */
const SUSPECT_GAP_MS = 60_000;

const text = new TextEncoder();
const END_DOMAIN = text.encode('nyx1 cmix end');
const BEGIN_DOMAIN = text.encode('nyx1 cmix begin');

interface Neighbour {
  readonly slot: LinkSlot;
  readonly ledger: BatchLedger;
  checks: number;
  evidence: number;
  evidenceSinceMs: TimeMs;
  suspectedMs: TimeMs;
}

export class EngineBatches implements Timed {
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  readonly #context: EngineContext;
  /** Undefined: this node is no mix of the class. */
  readonly queue: BatchQueue | undefined;
  readonly #neighbours = new Map<number, Neighbour>();
  readonly #checks = new Map<number, { readonly job: CheckJob; readonly from: Neighbour }>();
  #lastCheck = 0;
  /** By batch key and number. */
  readonly #statements = new Map<string, Uint8Array>();
  readonly #cheats = new Set<string>();
  readonly #gone = zeroCounts();
  #refused = 0;

  readonly #failed: (error: unknown) => void;

  /** @param failed takes what a callback of a session's owner throws. */
  constructor(context: EngineContext, failed: (error: unknown) => void) {
    this.#context = context;
    this.#failed = failed;
    const { cmix } = context.options;
    this.queue = cmix === undefined ? undefined : new BatchQueue(context.random, cmix);
  }

  /** Whether circuits of the class may pass or end here. */
  get accepts(): boolean {
    return this.queue !== undefined && this.#context.host.cmix !== undefined;
  }

  get stats(): CmixStats {
    const sum = { ...this.#gone };
    for (const { ledger } of this.#neighbours.values()) {
      for (const name of ['proved', 'lost', 'withheld', 'unproved'] as const) sum[name] += ledger.counts[name];
    }
    const { queue } = this;
    return {
      waiting: queue?.waiting ?? 0,
      batches: queue?.released ?? 0,
      cells: queue?.releasedCells ?? 0,
      smallestRecent: queue?.smallestRecent,
      ...sum,
      refused: this.#refused,
      cheats: this.#cheats.size,
    };
  }

  get memoryBytes(): number {
    let bytes = (this.queue?.memoryBytes ?? 0) + this.#statements.size * 1400;
    for (const { ledger } of this.#neighbours.values()) bytes += ledger.memoryBytes;
    return bytes;
  }

  // --- as a mix ---

  digest(cell: Uint8Array): Uint8Array {
    return cellDigest(this.#context.suite, cell);
  }

  /** What stands for a cell on the side where it has none: it ended here, or began here. */
  endOf(digest: Uint8Array): Uint8Array {
    return this.#context.suite.sha256(END_DOMAIN, digest);
  }

  beginOf(digest: Uint8Array): Uint8Array {
    return this.#context.suite.sha256(BEGIN_DOMAIN, digest);
  }

  /** Puts a finished cell (1280 bytes, copied) into the open batch; `from`, `to` undefined: its circuit ends here. Only behind queue.hasRoom(). */
  push(
    bytes: Uint8Array,
    owner: DelayOwner,
    note: number,
    from: LinkSlot | undefined,
    inDigest: Uint8Array,
    to: LinkSlot | undefined,
    outDigest: Uint8Array,
    nowMs: TimeMs,
  ): Drop {
    const queue = this.queue!;
    if (from !== undefined) this.got(from, inDigest, nowMs);
    const isNew = queue.push(
      bytes,
      owner,
      note,
      from?.handle ?? OWN_END,
      inDigest,
      to?.handle ?? OWN_END,
      outDigest,
      nowMs,
    );
    if (!isNew) return Drop.replayed;
    if (from !== undefined) this.#neighbour(from, nowMs);
    if (to !== undefined) this.#neighbour(to, nowMs);
    if (queue.isFull) this.#close(nowMs);
    this.#context.timers.set(this, queue.dueMs);
    return Drop.none;
  }

  handleTimeout(nowMs: TimeMs): void {
    this.#close(nowMs);
    this.#context.timers.set(this, this.queue!.dueMs);
  }

  #close(nowMs: TimeMs): void {
    const closed = this.queue!.close(nowMs);
    const { host } = this.#context;
    if (closed === undefined) return;
    host.onStep?.({ spec: 'MixBatch', action: 'Close', of: closed.batch });
    host.cmix!.prove({ ...closed, closedAt: Math.floor(host.unixSeconds()) });
  }

  /** What came of a batch that the host was given. */
  progress(progress: BatchProgress, nowMs: TimeMs): void {
    const { onStep } = this.#context.host;
    if (progress.kind === 'delayed') {
      onStep?.({ spec: 'MixBatch', action: 'Compute', of: progress.batch });
      this.#release(progress.batch, nowMs);
      return;
    }
    if (progress.kind === 'proofs') onStep?.({ spec: 'MixBatch', action: 'Prove', of: progress.batch });
    const about = progress.kind === 'receipts' ? About.receipt : About.proof;
    for (const message of progress.messages) this.#tell(about, message);
  }

  #release(batch: number, nowMs: TimeMs): void {
    this.queue?.release(
      batch,
      nowMs,
      (handle, digest) => {
        const neighbour = this.#neighbours.get(handle);
        if (neighbour === undefined) return;
        this.#context.host.onStep?.({ spec: 'MixBatch', action: 'Send', of: batch });
        this.gave(neighbour.slot, digest, nowMs);
      },
      this.#failed,
    );
  }

  #tell(about: number, { neighbour, bytes }: BatchMessage): void {
    const slot = this.#neighbours.get(neighbour)?.slot;
    if (slot !== undefined) this.#send(slot, about, bytes);
  }

  #send(slot: LinkSlot, about: number, bytes: Uint8Array): void {
    if (slot.link.state !== 'up') return;
    slot.link.send(LinkMessage.batch, Uint8Array.of(about), bytes);
    this.#context.markLink(slot);
  }

  // --- as a neighbour ---

  /** A cell of the class goes to a neighbour; one that says no name is a client, and mixes nothing. */
  gave(slot: LinkSlot, digest: Uint8Array, nowMs: TimeMs): void {
    if (slot.link.nodeId !== undefined) this.#neighbour(slot, nowMs).ledger.gave(digest, nowMs);
  }

  got(slot: LinkSlot, digest: Uint8Array, nowMs: TimeMs): void {
    if (slot.link.nodeId !== undefined) this.#neighbour(slot, nowMs).ledger.got(digest, nowMs);
  }

  #neighbour(slot: LinkSlot, nowMs: TimeMs): Neighbour {
    let neighbour = this.#neighbours.get(slot.handle);
    if (neighbour === undefined) {
      neighbour = {
        slot,
        ledger: new BatchLedger(this.#ledgerStep(slot.handle)),
        checks: 0,
        evidence: 0,
        evidenceSinceMs: nowMs,
        suspectedMs: Number.NEGATIVE_INFINITY,
      };
      this.#neighbours.set(slot.handle, neighbour);
    }
    return neighbour;
  }

  #ledgerStep(link: number): LedgerStep | undefined {
    const { onStep } = this.#context.host;
    if (onStep === undefined) return undefined;
    return (action, cell, count) => {
      const of = digestName(Uint8Array.from(cell, (letter) => letter.charCodeAt(0)));
      onStep({ spec: 'MixBatch', action, of: `${link} ${of}`, count });
    };
  }

  linkClosed(slot: LinkSlot): void {
    const neighbour = this.#neighbours.get(slot.handle);
    if (neighbour === undefined) return;
    this.#neighbours.delete(slot.handle);
    const { counts } = neighbour.ledger;
    for (const name of ['proved', 'lost', 'withheld', 'unproved'] as const) this.#gone[name] += counts[name];
  }

  handleMessage(slot: LinkSlot, body: Uint8Array, nowMs: TimeMs): Drop {
    if (this.#context.host.cmix === undefined) return Drop.notAllowed;
    // Whoever has given us no cell of the class and got none has nothing to say about batches.
    const from = this.#neighbours.get(slot.handle);
    if (from === undefined) return Drop.notAllowed;
    const bytes = body.slice(1);
    switch (body[0]) {
      case About.receipt: {
        const nodeId = this.#signerOf(bytes, slot);
        return nodeId === undefined ? Drop.notAllowed : this.#check({ kind: 'receipt', nodeId, bytes }, from);
      }
      case About.proof: {
        const at = batchOf(bytes, KEY_OFFSET, NUMBER_OFFSET);
        const nodeId = this.#signerOf(bytes, slot);
        if (at === undefined || nodeId === undefined) return Drop.notAllowed;
        const tag = this.#tagOf(bytes);
        const receipt = from.ledger.receiptFor(at.number, tag);
        return this.#check({ kind: 'proof', nodeId, bytes, receipt, heard: this.#statements.get(at.key) }, from);
      }
      case About.heard:
        return this.#heard(bytes, slot);
      case About.statement: {
        const at = batchOf(bytes, KEY_OFFSET, NUMBER_OFFSET);
        const heard = at && this.#statements.get(at.key);
        if (heard === undefined || bytes.length !== heard.length) return Drop.notAllowed;
        return this.#check({ kind: 'statement', bytes, heard }, from);
      }
      case About.evidence:
        return this.#hearEvidence(bytes, from, nowMs);
      default:
        return Drop.badFrame;
    }
  }

  /**
   * Who has to have signed a record: the neighbour. One whose name was not in our view when the link came up counts as without
   * a name for the link's life; then it is whatever mix of the view the record says, and nothing is held against the neighbour.
   */
  #signerOf(record: Uint8Array, slot: LinkSlot): Uint8Array | undefined {
    const { suite, host } = this.#context;
    if (slot.link.nodeId !== undefined || record.length < CERTIFICATE_BYTES) return slot.link.nodeId;
    const nodeId = suite.blake3(record.subarray(0, IDENTITY_BYTES));
    return host.resolve(nodeId) === undefined ? undefined : nodeId;
  }

  /** Behind the statement, whose length is that of the rest but two elements, list and signature: read by the check; here only for the receipt. */
  #tagOf(proof: Uint8Array): Uint8Array {
    const statementBytes = this.#context.host.cmix!.statementBytes;
    return proof.slice(statementBytes + 1, statementBytes + 1 + TAG_BYTES);
  }

  /** A neighbour has heard a statement: if we have heard another, it gets ours, and can show both. */
  #heard(bytes: Uint8Array, slot: LinkSlot): Drop {
    const at = batchOf(bytes, 0, 32);
    if (bytes.length !== HEARD_BYTES || at === undefined) return Drop.badFrame;
    const ours = this.#statements.get(at.key);
    if (ours !== undefined && compareBytes(this.#hashOf(ours), bytes.subarray(40)) !== 0) {
      this.#send(slot, About.statement, ours);
    }
    return Drop.none;
  }

  #hearEvidence(bytes: Uint8Array, from: Neighbour, nowMs: TimeMs): Drop {
    if (bytes.length > MAX_EVIDENCE_BYTES) return Drop.badFrame;
    if (nowMs - from.evidenceSinceMs > 60_000) {
      from.evidenceSinceMs = nowMs;
      from.evidence = 0;
    }
    if (++from.evidence > MAX_EVIDENCE_PER_MINUTE) return Drop.limit;
    return this.#check({ kind: 'evidence', bytes }, from);
  }

  #check(job: CheckJob, from: Neighbour): Drop {
    if (from.checks >= MAX_CHECKS_OF_ONE || this.#checks.size >= MAX_CHECKS) return Drop.limit;
    from.checks++;
    const id = ++this.#lastCheck;
    this.#checks.set(id, { job, from });
    this.#context.host.cmix!.check(id, job);
    return Drop.none;
  }

  /** The host's answer to a check. */
  checked(id: number, verdict: Verdict, nowMs: TimeMs): void {
    const check = this.#checks.get(id);
    if (check === undefined) return;
    this.#checks.delete(id);
    const { job, from } = check;
    from.checks--;
    switch (verdict.kind) {
      case 'receipt': {
        const { bytes, number, tag, digests } = verdict.receipt;
        from.ledger.receipt(bytes, number, tag, digests, nowMs);
        return;
      }
      case 'proof': {
        const { proof, statement } = verdict;
        if (proof.side === 0) from.ledger.provedIn(statement.number, proof.tag, proof.digests);
        else from.ledger.provedOut(proof.digests, nowMs);
        this.#remember(statement.key, statement.number, statement.bytes, from);
        return;
      }
      case 'cheat': {
        const { cheat, evidence } = verdict;
        const name = `${cheat.kind} ${cheat.nodeId.join()} ${cheat.key.join()} ${cheat.number}`;
        if (this.#cheats.has(name)) return;
        if (this.#cheats.size >= MAX_CHEATS) this.#cheats.delete(this.#cheats.values().next().value!);
        this.#cheats.add(name);
        this.#context.host.cmix!.cheated(cheat, evidence, job.kind !== 'evidence');
        this.#context.host.onStep?.({
          spec: 'MixBatch',
          action: this.#judged(job, cheat),
          of: from.slot.handle,
          as: cheatName(cheat.kind),
          count: cheat.number,
        });
        for (const other of this.#neighbours.values()) {
          if (other !== from || job.kind !== 'evidence') this.#send(other.slot, About.evidence, evidence);
        }
        return;
      }
      case 'refused':
        this.#refused++;
        return;
      case 'nothing':
        return;
    }
  }

  /** What the specification calls it when a check shows a cheat. */
  #judged(job: CheckJob, { kind }: Cheat): string {
    if (job.kind === 'evidence') return 'HearEvidence';
    if (kind === CheatKind.equivocation) return 'Compare';
    return job.bytes[this.#context.host.cmix!.statementBytes] === Side.in ? 'JudgeProofU' : 'JudgeProofW';
  }

  #remember(key: Uint8Array, number: number, bytes: Uint8Array, from: Neighbour): void {
    const name = `${key.join()} ${number}`;
    if (this.#statements.has(name)) return;
    if (this.#statements.size >= MAX_STATEMENTS) this.#statements.delete(this.#statements.keys().next().value!);
    this.#statements.set(name, bytes);
    const numberBytes = new Uint8Array(8);
    writeNumber(numberBytes, 0, number, 8);
    const heard = joinBytes(key, numberBytes, this.#hashOf(bytes));
    for (const other of this.#neighbours.values()) {
      if (other !== from && other.slot.link.nodeId !== undefined) this.#send(other.slot, About.heard, heard);
    }
  }

  #hashOf(statement: Uint8Array): Uint8Array {
    return this.#context.suite.sha256(statement.subarray(0, statement.length - SIGNATURE_BYTES));
  }

  /** Once a second or so. */
  sweep(nowMs: TimeMs): void {
    this.queue?.trim();
    for (const neighbour of this.#neighbours.values()) {
      const { ledger, slot } = neighbour;
      if (!ledger.sweep(nowMs) || nowMs - neighbour.suspectedMs < SUSPECT_GAP_MS) continue;
      neighbour.suspectedMs = nowMs;
      this.#context.host.cmix?.suspected(slot.link.nodeId!, { ...ledger.counts });
    }
  }
}

/** Whose batch a record speaks of, as a key of maps; unread bytes, checked elsewhere. */
function batchOf(bytes: Uint8Array, keyAt: number, numberAt: number): { key: string; number: number } | undefined {
  if (bytes.length < numberAt + 8) return undefined;
  const number = readNumber(bytes, numberAt, 8);
  return { key: `${bytes.subarray(keyAt, keyAt + 32).join()} ${number}`, number };
}
