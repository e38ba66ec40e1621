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
import { BatchQueue, digestKey, OWN_END } from '../mix/batch-queue.ts';
import {
  type BatchRules,
  beginDigest,
  CERTIFICATE_BYTES,
  cellDigest,
  endDigest,
  isOpened,
  MAX_OPENING_BYTES,
  type Opening,
  readOpening,
  Side,
  TAG_BYTES,
} from '../mix/batch-records.ts';
import type { BatchMessage, BatchProgress, CellPair, CheckJob, Verdict } from '../mix/batch-work.ts';
import type { CellOwner } from '../mix/cell-owner.ts';
import type { TimeMs } from '../ports.ts';
import {
  type Ask,
  type AuditHop,
  decodeAsk,
  decodeNext,
  encodeAsk,
  encodeNext,
  type OpenedBatch,
  type TrailCell,
} from './batch-audit.ts';
import { BatchLedger, type FoundExchange, type LedgerStep, zeroCounts } from './batch-ledger.ts';
import { type EngineContext, Travel } from './circuit.ts';
import { decodePledges, type HopPledge } from './circuit-pledges.ts';
import { ClientCircuit } from './client-circuit.ts';
import type { CmixStats } from './contract.ts';
import type { LinkSlot } from './link-slot.ts';
import { digestName } from './step-names.ts';
import type { Timed } from './timer-heap.ts';

/** First byte of a message about batches. */
const About = { receipt: 1, proof: 2, heard: 3, statement: 4, evidence: 5, opening: 6, ask: 7, next: 8 } as const;

/** `batch key (32) ‖ number (8) ‖ SHA-256 of the statement without its signature`. */
const HEARD_BYTES = 72;
const SIGNATURE_BYTES = 64;
/** Where a record has its batch key and number. */
const IDENTITY_BYTES = 32;
const KEY_OFFSET = 32;
const NUMBER_OFFSET = CERTIFICATE_BYTES;

/** Openings of a neighbour that wait for its proofs. */
const MAX_OPENINGS_AHEAD = 8;

/** Statements remembered, of all mixes together: 1.3 KiB each. */
const MAX_STATEMENTS = 512;
/** Cheats remembered, so that each is told once. */
const MAX_CHEATS = 256;
/** Checks under way: for one neighbour, and for all. */
const MAX_CHECKS_OF_ONE = 32;
const MAX_CHECKS = 256;
/** Evidence that a neighbour may send, a minute. */
const MAX_EVIDENCE_PER_MINUTE = 4;
/**
 * So long a neighbour is told nothing more that was signed with the same batch key, after it has been told once or has told
 * us: who cheats in every batch would otherwise fill what there is room for, and what others have done would not get about.
 */
const TOLD_MS = 600_000;
/** Batch keys of which one neighbour has been told, as far as that is remembered. */
const MAX_TOLD = 64;
/** Questions of one client about its second hops are answered no more often. */
const MIN_NEXT_GAP_MS = 500;
/** Own questions that wait for an answer. */
const MAX_ASKS = 256;
/** Pledges that wait to be signed. */
const MAX_PLEDGES = 4096;
/** A neighbour is suspected aloud this often at most. */
const SUSPECT_GAP_MS = 60_000;
const COUNTS = ['proved', 'lost', 'withheld', 'unproved', 'missed', 'exchanged', 'unanswered'] as const;

/** Batches that can still be opened to clients of circuits that end here: our own, and those of each neighbour. */
const MAX_OWN_OPENED = 64;
const MAX_OPENED = 64;
const OPENED_BYTES = 1400 + MAX_OPENING_BYTES;

interface Opened extends OpenedBatch {
  readonly number: number;
  readonly leaves: Opening;
}

/** Hears what an audit of a batch came to. */
export interface AuditOwner {
  /** `useful`: the answer told something of the mix, whatever it was. */
  audited(hop: AuditHop, useful: boolean): void;
  /** The hop at this place of the path has exchanged one of its cells. */
  exchanged(at: number, cell: TrailCell, batch: OpenedBatch): void;
  /** The first hop's answer. */
  onNext(batch: OpenedBatch | undefined, digest: Uint8Array): void;
}

/** Hears what became of evidence against a mix on its own circuit. */
export interface EvidenceOwner {
  /** It holds. */
  shown(cheat: Cheat, evidence: Uint8Array): void;
}

interface Audit {
  readonly owner: AuditOwner;
  readonly hop: AuditHop;
  /** Place on the path of whom it is about. */
  readonly at: number;
  readonly cells: readonly TrailCell[];
}

interface Showing {
  readonly shows: EvidenceOwner;
}

interface Neighbour {
  readonly slot: LinkSlot;
  readonly ledger: BatchLedger;
  /** By batch key and number; of batches whose proofs come right behind. */
  readonly openings: Map<string, Uint8Array>;
  /** The last of its batches that were proved to us. */
  readonly opened: Opened[];
  checks: number;
  evidence: number;
  evidenceSinceMs: TimeMs;
  /** When it was told of a cheat, or told us, by the batch key. */
  readonly told: Map<string, TimeMs>;
  suspectedMs: TimeMs;
  answeredMs: TimeMs;
}

export class EngineBatches implements Timed {
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  readonly #context: EngineContext;
  /** Undefined: this node is no mix of the class. */
  readonly queue: BatchQueue | undefined;
  readonly #neighbours = new Map<number, Neighbour>();
  readonly #checks = new Map<number, { readonly job: CheckJob; readonly from: Neighbour | Audit | Showing }>();
  readonly #own: Opened[] = [];
  /** Circuits of our own whose first hop we have asked, by the digest they asked about. */
  readonly #asks = new Map<string, AuditOwner>();
  /** Of cells of our own circuits in our own batches: what the first hop will make of them. */
  readonly #beyond = new Map<string, Uint8Array>();
  /** Batches that the host has not told all of yet. */
  #proving = 0;
  #audited = 0;
  /** Circuits whose pledges are being signed. */
  readonly #pledges = new Map<number, HopPledge>();
  #lastPledge = 0;
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
    this.queue = cmix === undefined ? undefined : new BatchQueue(context.random, cmix, () => this.#rules[0]!);
  }

  /** Whether circuits of the class may pass or end here. */
  get accepts(): boolean {
    return this.queue !== undefined && this.#rules.length > 0;
  }

  /** What the epoch says, and the one before. */
  get #rules(): readonly BatchRules[] {
    return this.#context.host.cmix?.rules() ?? [];
  }

  get stats(): CmixStats {
    const sum = { ...this.#gone };
    for (const { ledger } of this.#neighbours.values()) {
      for (const name of COUNTS) sum[name] += ledger.counts[name];
    }
    const { queue } = this;
    return {
      waiting: queue?.waiting ?? 0,
      batches: queue?.released ?? 0,
      cells: queue?.releasedCells ?? 0,
      smallestRecent: queue?.smallestRecent,
      ...sum,
      audited: this.#audited,
      refused: this.#refused,
      cheats: this.#cheats.size,
    };
  }

  get memoryBytes(): number {
    let bytes = (this.queue?.memoryBytes ?? 0) + this.#statements.size * 1400;
    bytes += this.#own.length * OPENED_BYTES + this.#beyond.size * 200;
    for (const { ledger, openings, opened } of this.#neighbours.values()) {
      bytes += ledger.memoryBytes + openings.size * MAX_OPENING_BYTES + opened.length * OPENED_BYTES;
    }
    return bytes;
  }

  // --- as a mix ---

  /** `circuit`: its tag on the link. */
  digest(
    circuit: Uint8Array,
    travel: Travel,
    counter: number,
    type: number,
    pathId: number,
    cell: Uint8Array,
  ): Uint8Array {
    return cellDigest(this.#context.suite, circuit, travel, counter, type, pathId, cell);
  }

  /** What stands for a cell on the side where it has none: it ended here, or began here. */
  endOf(digest: Uint8Array): Uint8Array {
    return endDigest(this.#context.suite, digest);
  }

  beginOf(digest: Uint8Array): Uint8Array {
    return beginDigest(this.#context.suite, digest);
  }

  /**
   * Puts a finished cell (1280 bytes, copied) into the open batch; `from`, `to` undefined: its circuit ends here. `beyond`: of
   * a circuit of our own, as in gave(). Only behind queue.hasRoom().
   */
  push(
    bytes: Uint8Array,
    owner: CellOwner,
    note: number,
    from: LinkSlot | undefined,
    inDigest: Uint8Array,
    to: LinkSlot | undefined,
    outDigest: Uint8Array,
    nowMs: TimeMs,
    beyond?: Uint8Array,
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
    if (beyond !== undefined) this.#beyond.set(digestKey(outDigest), beyond);
    if (from !== undefined) this.#neighbour(from, nowMs);
    if (to !== undefined) this.#neighbour(to, nowMs);
    if (queue.isFull) this.#close(nowMs);
    this.#context.timers.set(this, queue.dueMs);
    return Drop.none;
  }

  /**
   * A batch that is not full waits for the one before to be proved: its cells could not leave earlier, would have fewer others
   * around them, and a batch costs nearly the same with few.
   */
  handleTimeout(nowMs: TimeMs): void {
    if (this.#proving === 0) this.#close(nowMs);
    this.#context.timers.set(this, this.#proving === 0 ? this.queue!.dueMs : Number.POSITIVE_INFINITY);
  }

  #close(nowMs: TimeMs): void {
    const closed = this.queue!.close(nowMs);
    const { host } = this.#context;
    if (closed === undefined) return;
    host.onStep?.({ spec: 'MixBatch', action: 'Close', of: closed.batch });
    this.#proving++;
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
    if (progress.kind === 'receipts') {
      for (const message of progress.messages) this.#tell(About.receipt, message);
      return;
    }
    onStep?.({ spec: 'MixBatch', action: 'Prove', of: progress.batch });
    this.#proving--;
    this.#context.timers.set(this, this.queue?.dueMs ?? Number.POSITIVE_INFINITY);
    // Ahead of the proofs, which are checked with it.
    const { opening: bytes, statement, messages } = progress;
    const leaves = readOpening(bytes);
    if (leaves !== undefined) remember(this.#own, MAX_OWN_OPENED, progress.batch, statement, leaves);
    for (const neighbour of new Set(messages.map((message) => message.neighbour))) {
      this.#tell(About.opening, { neighbour, bytes });
    }
    for (const message of messages) this.#tell(About.proof, message);
  }

  #release(batch: number, nowMs: TimeMs): void {
    this.queue?.release(
      batch,
      nowMs,
      (handle, digest) => {
        const neighbour = this.#neighbours.get(handle);
        const key = digestKey(digest);
        const beyond = this.#beyond.get(key);
        this.#beyond.delete(key);
        if (neighbour === undefined) return;
        this.#context.host.onStep?.({ spec: 'MixBatch', action: 'Send', of: batch });
        this.gave(neighbour.slot, digest, nowMs, beyond);
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

  // --- pledges of circuits (core/mix/circuit-pledge.ts) ---

  /** Has our pledge of a circuit signed. */
  pledge(circuit: HopPledge, fields: Uint8Array): void {
    // As many as circuits may be set up while the host is busy; beyond that a circuit is left without.
    if (this.#pledges.size >= MAX_PLEDGES) return;
    this.#pledges.set(++this.#lastPledge, circuit);
    this.#context.host.cmix!.pledge(this.#lastPledge, fields);
  }

  /** The host's answer to that. */
  pledged(id: number, slot: Uint8Array): void {
    this.#pledges.get(id)?.signed(slot);
    this.#pledges.delete(id);
  }

  handlePledges(slot: LinkSlot, body: Uint8Array): Drop {
    const message = decodePledges(body);
    if (message === undefined) return Drop.badFrame;
    const entry = this.#context.cids.get(message.backwardCid, slot);
    if (entry === undefined) return Drop.unknownCircuit;
    if (entry.travel !== Travel.backward) return Drop.notAllowed;
    return entry.circuit.takePledges?.(message.train) ?? Drop.notAllowed;
  }

  // --- as a neighbour ---

  /** A cell of the class goes to a neighbour; one that says no name is a client, and mixes nothing. */
  gave(slot: LinkSlot, digest: Uint8Array, nowMs: TimeMs, beyond?: Uint8Array): void {
    if (slot.link.nodeId !== undefined) this.#neighbour(slot, nowMs).ledger.gave(digest, nowMs, beyond);
  }

  /** `beyond`, here and there: what the cell is on the neighbour's other side, where it is on a circuit of our own. */
  got(slot: LinkSlot, digest: Uint8Array, nowMs: TimeMs, beyond?: Uint8Array): void {
    const { nodeId } = slot.link;
    if (nodeId === undefined) return;
    const found = this.#neighbour(slot, nowMs).ledger.got(digest, nowMs, beyond);
    if (found !== undefined) this.#exchanged(slot, nodeId, found);
  }

  /** Our first hop has exchanged a cell: its circuit has what can be shown of it. */
  #exchanged(slot: LinkSlot, nodeId: Uint8Array, { digest, batch }: FoundExchange): void {
    this.#context.host.cmix?.exchanged(nodeId);
    for (const circuit of slot.circuits) {
      if (circuit instanceof ClientCircuit) circuit.exchangedAtFirst(digest, batch);
    }
  }

  #neighbour(slot: LinkSlot, nowMs: TimeMs): Neighbour {
    let neighbour = this.#neighbours.get(slot.handle);
    if (neighbour === undefined) {
      neighbour = {
        slot,
        ledger: new BatchLedger(this.#ledgerStep(slot.handle)),
        openings: new Map(),
        opened: [],
        checks: 0,
        evidence: 0,
        evidenceSinceMs: nowMs,
        told: new Map(),
        suspectedMs: Number.NEGATIVE_INFINITY,
        answeredMs: Number.NEGATIVE_INFINITY,
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
    for (const name of COUNTS) this.#gone[name] += counts[name];
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
        const heard = this.#statements.get(at.key);
        const opening = from.openings.get(at.key);
        return this.#check({ kind: 'proof', nodeId, bytes, receipt, heard, opening }, from);
      }
      case About.opening: {
        const at = batchOf(bytes, 0, 32);
        if (at === undefined || bytes.length > MAX_OPENING_BYTES) return Drop.badFrame;
        const { openings } = from;
        if (openings.size >= MAX_OPENINGS_AHEAD) openings.delete(openings.keys().next().value!);
        openings.set(at.key, bytes);
        return Drop.none;
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
      case About.ask:
        return this.#answer(bytes, slot, from, nowMs);
      case About.next: {
        const next = decodeNext(bytes, this.#context.host.cmix.statementBytes);
        if (next === undefined) return Drop.badFrame;
        const key = digestKey(next.digest);
        this.#asks.get(key)?.onNext(next.batch, next.digest);
        this.#asks.delete(key);
        return Drop.none;
      }
      default:
        return Drop.badFrame;
    }
  }

  /** A client asks for the second hop's batch with one of its cells. */
  #answer(bytes: Uint8Array, slot: LinkSlot, from: Neighbour, nowMs: TimeMs): Drop {
    const ask = decodeAsk(bytes);
    if (ask === undefined) return Drop.badFrame;
    if (nowMs - from.answeredMs < MIN_NEXT_GAP_MS) return Drop.limit;
    const { cids, host } = this.#context;
    const next = cids.get(ask.cid, slot)?.circuit.nextLink;
    if (next === undefined) return Drop.notAllowed;
    from.answeredMs = nowMs;
    const side = ask.travel === Travel.forward ? Side.in : Side.out;
    const batch = this.#find(this.#neighbours.get(next.handle)?.opened, side, ask.digest);
    this.#send(slot, About.next, encodeNext(ask.digest, batch, host.cmix!.statementBytes));
    return Drop.none;
  }

  #find(opened: readonly Opened[] | undefined, side: Side, digest: Uint8Array): OpenedBatch | undefined {
    return opened?.findLast(({ leaves }) => isOpened(this.#context.suite, leaves, side, digest));
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

  /** Tells all neighbours what somebody has shown us, by whatever way it came. */
  share(evidence: Uint8Array): void {
    for (const { slot } of this.#neighbours.values()) this.#send(slot, About.evidence, evidence);
  }

  // --- as either end of a circuit: spot checks (batch-audit.ts) ---

  /** The batches in which a cell of a circuit that ends here was: the previous hop's and our own, as far as they are known. */
  batchesOf(slot: LinkSlot, travel: Travel, digest: Uint8Array): readonly (OpenedBatch | undefined)[] {
    const forward = travel === Travel.forward;
    return [
      this.#find(this.#neighbours.get(slot.handle)?.opened, forward ? Side.out : Side.in, digest),
      this.#find(this.#own, forward ? Side.in : Side.out, digest),
    ];
  }

  /** Asks the first hop of a circuit for the second hop's batch with a cell. */
  ask(owner: AuditOwner, slot: LinkSlot, ask: Ask): void {
    if (this.#asks.size >= MAX_ASKS) this.#asks.delete(this.#asks.keys().next().value!);
    this.#asks.set(digestKey(ask.digest), owner);
    this.#send(slot, About.ask, encodeAsk(ask));
  }

  /** A batch that a mix on a circuit of ours is said to have made of some cells; the first was asked about. */
  audit(
    owner: AuditOwner,
    hop: AuditHop,
    nodeId: Uint8Array,
    at: number,
    { statement, opening }: OpenedBatch,
    cells: readonly TrailCell[],
    pairs: readonly CellPair[],
  ): void {
    this.#check({ kind: 'audit', nodeId, statement, opening, cells: pairs }, { owner, hop, at, cells });
  }

  /** Evidence against a mix on a circuit of ours: whether it is any is found elsewhere, as of all evidence. */
  show(owner: EvidenceOwner, evidence: Uint8Array): void {
    this.#check({ kind: 'evidence', bytes: evidence }, { shows: owner });
  }

  noteUnanswered(): void {
    this.#gone.unanswered++;
  }

  /** A node leaves questions without an answer, again and again. */
  suspectAnswers(nodeId: Uint8Array): void {
    this.#context.host.cmix!.suspected(nodeId, { ...zeroCounts(), unanswered: this.#gone.unanswered });
  }

  #judged(verdict: Verdict, job: CheckJob & { kind: 'audit' }, { owner, hop, at, cells }: Audit): void {
    const host = this.#context.host.cmix!;
    const held = verdict.kind === 'audit' && verdict.found === 'held' && this.#isRuled(verdict.statement.rules);
    let useful = true;
    if (held) this.#audited++;
    else if (verdict.kind === 'audit' && verdict.found === 'exchanged') {
      this.#gone.exchanged++;
      host.exchanged(job.nodeId);
      owner.exchanged(at, cells[verdict.at]!, job);
    } else if (verdict.kind === 'cheat') {
      // Our neighbours are not told: they would learn that the mix is on a path of ours. It has neighbours of its own.
      host.cheated(verdict.cheat, verdict.evidence, true);
    } else {
      this.#gone.unanswered++;
      useful = false;
    }
    owner.audited(hop, useful);
  }

  #isRuled({ cells, delayMs }: BatchRules): boolean {
    return this.#rules.some((rules) => rules.cells === cells && rules.delayMs === delayMs);
  }

  #check(job: CheckJob, from: Neighbour | Audit | Showing): Drop {
    if (this.#checks.size >= MAX_CHECKS) return Drop.limit;
    if ('checks' in from) {
      if (from.checks >= MAX_CHECKS_OF_ONE) return Drop.limit;
      from.checks++;
    }
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
    if ('shows' in from) {
      if (verdict.kind === 'cheat') from.shows.shown(verdict.cheat, verdict.evidence);
      return;
    }
    if (!('checks' in from)) {
      if (job.kind === 'audit') this.#judged(verdict, job, from);
      return;
    }
    from.checks--;
    switch (verdict.kind) {
      case 'receipt': {
        const { bytes, number, tag, digests } = verdict.receipt;
        from.ledger.receipt(bytes, number, tag, digests, nowMs);
        return;
      }
      case 'proof': {
        this.#proved(verdict, job, from, nowMs);
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
          action: this.#stepOf(job, cheat),
          of: from.slot.handle,
          as: cheatName(cheat.kind),
          count: cheat.number,
        });
        const key = cheat.key.join();
        if (job.kind === 'evidence') noteTold(from, key, nowMs);
        for (const other of this.#neighbours.values()) {
          if (nowMs - (other.told.get(key) ?? Number.NEGATIVE_INFINITY) < TOLD_MS) continue;
          noteTold(other, key, nowMs);
          this.#send(other.slot, About.evidence, evidence);
        }
        return;
      }
      case 'refused':
        this.#refused++;
        return;
      case 'audit':
      case 'nothing':
        return;
    }
  }

  /** What the specification calls it when a check shows a cheat. */
  #stepOf(job: CheckJob, { kind }: Cheat): string {
    if (job.kind === 'evidence') return 'HearEvidence';
    if (kind === CheatKind.equivocation || job.kind !== 'proof') return 'Compare';
    return job.bytes[this.#context.host.cmix!.statementBytes] === Side.in ? 'JudgeProofU' : 'JudgeProofW';
  }

  /** What is proved in a batch that stays shut, or not by the epoch's rules, is not proved. */
  #proved(verdict: Verdict & { kind: 'proof' }, job: CheckJob, from: Neighbour, nowMs: TimeMs): void {
    const { proof, statement, opened } = verdict;
    if (job.kind === 'proof' && job.receipt === undefined) {
      // It may have come right ahead of the proof, and was still being checked then.
      const receipt = from.ledger.receiptFor(statement.number, proof.tag);
      if (receipt !== undefined) {
        this.#check({ ...job, receipt }, from);
        return;
      }
    }
    const opening = job.kind === 'proof' && opened ? readOpening(job.opening!) : undefined;
    this.#remember(statement.key, statement.number, statement.bytes, from);
    if (opening === undefined || !this.#isRuled(statement.rules)) {
      this.#refused++;
      return;
    }
    // Clients mix for nobody, and nobody asks them.
    if (this.queue !== undefined) {
      remember(from.opened, MAX_OPENED, statement.number, statement.bytes, opening);
    }
    const { suite } = this.#context;
    const otherSide = proof.side === Side.in ? Side.out : Side.in;
    const other = {
      batch: { statement: statement.bytes, opening: opening.bytes },
      holds: (digest: Uint8Array) => isOpened(suite, opening, otherSide, digest),
    };
    const found =
      proof.side === Side.in
        ? from.ledger.provedIn(statement.number, proof.tag, proof.digests, other)
        : from.ledger.provedOut(proof.digests, nowMs, other);
    const { nodeId } = from.slot.link;
    if (found !== undefined && nodeId !== undefined) this.#exchanged(from.slot, nodeId, found);
  }

  #remember(key: Uint8Array, number: number, bytes: Uint8Array, from: Neighbour): void {
    const name = `${key.join()} ${number}`;
    const known = this.#statements.get(name);
    if (known !== undefined) {
      // Two statements whose proofs were on their way at once: neither was there for the other's check.
      if (compareBytes(this.#hashOf(known), this.#hashOf(bytes)) !== 0) {
        this.#check({ kind: 'statement', bytes, heard: known }, from);
      }
      return;
    }
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

/** The newest are last. */
function noteTold({ told }: Neighbour, key: string, nowMs: TimeMs): void {
  told.delete(key);
  if (told.size >= MAX_TOLD) told.delete(told.keys().next().value!);
  told.set(key, nowMs);
}

/** The newest are last. A batch is proved to a neighbour once for either side. */
function remember(opened: Opened[], most: number, number: number, statement: Uint8Array, leaves: Opening): void {
  if (opened.some((one) => one.number === number && compareBytes(one.leaves.key, leaves.key) === 0)) return;
  if (opened.length >= most) opened.shift();
  opened.push({ number, statement, opening: leaves.bytes, leaves });
}

/** Whose batch a record speaks of, as a key of maps; unread bytes, checked elsewhere. */
function batchOf(bytes: Uint8Array, keyAt: number, numberAt: number): { key: string; number: number } | undefined {
  if (bytes.length < numberAt + 8) return undefined;
  const number = readNumber(bytes, numberAt, 8);
  return { key: `${bytes.subarray(keyAt, keyAt + 32).join()} ${number}`, number };
}
