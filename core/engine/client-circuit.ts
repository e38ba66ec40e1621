/**
 * A circuit of our own, with the session on it. Payloads of the session leave as cells sealed for every hop; the
 * session may be used from the first moment (0-RTT), and is forward secret once the last hop's reply is in.
 */
import { Drop } from '../drop-reason.ts';
import { type Cheat, CheatKind, encodeEvidence } from '../mix/batch-evidence.ts';
import type { CellOwner } from '../mix/cell-owner.ts';
import { completePledge, openPledges, type PledgedCircuit } from '../mix/circuit-pledge.ts';
import { encodeShown } from '../mix/exchange-evidence.ts';
import type { ClientOnion } from '../onion/client-onion.ts';
import { createFreshKeys, type FreshKeys, finishReply } from '../onion/fresh-exchange.ts';
import type { Random, TimeMs } from '../ports.ts';
import type { PathStats, SessionApi } from '../stream/contract.ts';
import { SessionError } from '../stream/contract.ts';
import { type PathHost, PathState, type SessionPath } from '../stream/session-path.ts';
import type { LayeredCell } from '../wire/datagram.ts';
import { CellType } from '../wire/datagram.ts';
import { readUint32 } from '../wire/frames.ts';
import {
  AuditHop,
  Auditor,
  AuditTrail,
  CellLayers,
  decodeAnswer,
  encodeQuestion,
  type OpenedBatch,
  type TrailCell,
} from './batch-audit.ts';
import type { Cid } from './cid-table.ts';
import {
  CELLS_PER_TURN,
  CircuitEntry,
  type EngineCircuit,
  type EngineContext,
  Travel,
  writeHeader,
} from './circuit.ts';
import { ClientSession } from './client-session.ts';
import { CircuitEnd, type NodeContact, type SessionOwner } from './contract.ts';
import { CryptoMessage, encodeRekey, sendKeyMessage } from './crypto-messages.ts';
import type { AuditOwner, EvidenceOwner } from './engine-batches.ts';
import type { LinkSlot } from './link-slot.ts';
import { sendDestroy } from './messages.ts';
import { attachBody } from './session-ticket.ts';

/** A set-up that has not come back by then has failed. */
const SETUP_TIMEOUT_MS = 10_000;
/** The last hop's layer gets fresh keys after this time or this many cells (1 GiB), whichever comes first. */
const REKEY_AFTER_MS = 600_000;
const REKEY_AFTER_CELLS = 2 ** 30 / 1280;
/**
 * A ready circuit on which data is out and nothing at all has come back for this long is dead. Links notice a dead
 * neighbour sooner (link.ts); this is for a node on the path that lives and forwards nothing. Long enough for several
 * probes of a session whose every second packet is lost on the way.
 */
const DEAD_AFTER_MS = 20_000;
const DEAD_AFTER_RTTS = 32;
/** By then all hops have pledged: the last one needs no longer for that than for its answer. */
const PLEDGE_MS = 60_000;
/** Our own batches are full: the session waits this long before it sends on. */
const FULL_RETRY_MS = 5;
/** A session without buffers, about. */
export const SESSION_BYTES = 8192;

function newChallenge(random: Random): readonly [number, number] {
  const bytes = new Uint8Array(8);
  random.fill(bytes);
  return [readUint32(bytes, 0), readUint32(bytes, 4)];
}

export class ClientCircuit implements EngineCircuit, PathHost, CellOwner, AuditOwner, EvidenceOwner {
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  dirty = false;
  countedBytes = 0;
  countedMs: TimeMs = 0;
  readonly handle: number;
  readonly hops: readonly NodeContact[];
  readonly holder: ClientSession;
  readonly #path: SessionPath;
  #refused = false;
  /** Class cmix: the first hop has to prove what becomes of our cells. */
  readonly #batched: boolean;
  readonly #pledged: readonly PledgedCircuit[];
  /** By hop: what it has signed of this circuit. Undefined: nothing, or nothing that holds. */
  #pledges: readonly (Uint8Array | undefined)[] | undefined = undefined;
  /** What others can be shown of a mix on this circuit, as soon as it has ended. */
  #shown: { readonly cheat: Cheat; readonly evidence: Uint8Array } | undefined = undefined;
  readonly #watch: CellLayers | undefined;
  readonly #trail: AuditTrail;
  /** There and back, as it was to be expected when the circuit was built. */
  readonly #expectedRttMs: number;
  readonly #firstHopAudit: Auditor;
  readonly #lastHopAudit: Auditor;
  /** Cells in our own batches: a node that mixes for others sends its own cells among theirs, and has to prove them too. */
  #mixed = 0;
  readonly #context: EngineContext;
  readonly #onion: ClientOnion;
  readonly #link: LinkSlot;
  readonly #forwardCid: Cid;
  readonly #backward: CircuitEntry;
  readonly #startedMs: TimeMs;
  readonly #setupTimeoutMs: number;
  #fresh: FreshKeys | undefined;
  #trainSent = false;
  #ready = false;
  #readyMs: TimeMs = 0;
  #ended = false;
  #failure: CircuitEnd | undefined = undefined;
  #rekeyedMs: TimeMs;
  #cellsSinceRekey = 0;
  #nowMs: TimeMs;
  /** When the last cell came back, or nothing was owed. */
  #heardMs: TimeMs;

  constructor(
    context: EngineContext,
    handle: number,
    hops: readonly NodeContact[],
    onion: ClientOnion,
    fresh: FreshKeys,
    link: LinkSlot,
    forwardCid: Cid,
    backwardCid: Cid,
    holder: ClientSession | SessionOwner,
    binding: Uint8Array,
    addedLatencyMs: number,
    pledged: readonly PledgedCircuit[],
    nowMs: TimeMs,
  ) {
    this.#context = context;
    this.#batched = pledged.length > 0;
    this.#pledged = pledged;
    const tags = pledged.map(({ inward }) => inward);
    this.#watch = this.#batched ? new CellLayers(context.suite, tags) : undefined;
    this.#trail = new AuditTrail(context.random);
    this.#expectedRttMs = 2 * addedLatencyMs;
    this.#firstHopAudit = new Auditor(context.random, this.#trail, [AuditHop.second]);
    this.#lastHopAudit = new Auditor(context.random, this.#trail, [AuditHop.before, AuditHop.last]);
    this.handle = handle;
    this.hops = hops;
    this.#onion = onion;
    this.#fresh = fresh;
    this.#link = link;
    this.#forwardCid = forwardCid;
    this.#backward = new CircuitEntry(backwardCid, link, this, Travel.backward);
    this.#startedMs = nowMs;
    this.#rekeyedMs = nowMs;
    this.#nowMs = nowMs;
    this.#heardMs = nowMs;
    this.#setupTimeoutMs = SETUP_TIMEOUT_MS + 3 * addedLatencyMs;
    const { suite } = context;
    if (holder instanceof ClientSession) {
      this.holder = holder;
      const ticket = holder.ticket;
      if (ticket === undefined) throw new Error('a session without a ticket takes no further circuit');
      const body = attachBody(suite, ticket, binding);
      this.#path = holder.session.addPath(this, body, newChallenge(context.random), 2 * addedLatencyMs, nowMs);
    } else {
      const options = { ...context.options.session, mixRttMs: 2 * addedLatencyMs };
      const { onStep } = context.host;
      const step = onStep && ((action: string) => onStep({ spec: 'Session', action, of: handle }));
      this.holder = new ClientSession(suite, options, holder, this, step, nowMs);
      this.#path = this.holder.session.firstPath;
    }
    suite.wipe(binding);
  }

  get pathStats(): PathStats {
    return this.#path.stats;
  }

  get session(): SessionApi {
    return this.holder.session;
  }

  onWantSend(): void {
    this.#context.markCircuit(this);
  }

  /** The last hop knows nothing of the session, or not that it is ours. */
  onRefused(): void {
    this.#refused = true;
    this.#context.markCircuit(this);
  }

  /** It could not be opened: ends with the next flush, when whoever built it knows its number. */
  fail(reason: CircuitEnd, nowMs: TimeMs): void {
    this.#failure = reason;
    this.#context.timers.set(this, nowMs);
  }

  /** Enters the tables. False when the link did not take its train, or the CID is taken. */
  open(trainSent: boolean): boolean {
    this.#trainSent = trainSent;
    const { cids, timers } = this.#context;
    if (!trainSent || !cids.add(this.#backward)) return false;
    this.#link.circuits.add(this);
    timers.set(this, this.#startedMs + this.#setupTimeoutMs);
    this.#context.markCircuit(this);
    return true;
  }

  onCryptoMessage(type: number, body: Uint8Array): void {
    if (type === CryptoMessage.opened && this.#batched) {
      this.#onOpened(body);
      return;
    }
    const expected = this.#ready ? CryptoMessage.rekeyKeys : CryptoMessage.keys;
    const { suite, host } = this.#context;
    const shared = type === expected && this.#fresh ? finishReply(suite, this.#fresh, body) : undefined;
    if (shared === undefined) {
      this.session.close(SessionError.cryptoFail, 'bad key exchange');
      return;
    }
    this.#onion.installFresh(shared);
    if (!this.#ready && this.#path.id === 0) this.holder.onFirstKeys(shared);
    suite.wipe(shared);
    this.#dropFresh();
    if (!this.#ready) {
      this.#ready = true;
      this.#readyMs = this.#nowMs;
      this.#path.noteSetup(this.#nowMs - this.#startedMs);
      host.onStep?.({ spec: 'Circuit', action: 'ClientTakes', of: this.handle });
      host.onCircuit({ kind: 'ready', circuit: this.handle, setupMs: this.#nowMs - this.#startedMs });
    }
  }

  /** The last hop opens a batch in which a cell of ours was: its own, or that of the hop before. */
  #onOpened(body: Uint8Array): void {
    const answer = decodeAnswer(body, this.#context.host.cmix!.statementBytes);
    const cells = answer && this.#lastHopAudit.take(answer, answer.hop);
    if (answer === undefined || cells === undefined) return;
    const last = this.hops.length - 1;
    this.#audit(answer.hop, answer.hop === AuditHop.last ? last : last - 1, cells, answer.batch);
  }

  /** The first hop opens the second one's batch. */
  onNext(batch: OpenedBatch | undefined, digest: Uint8Array): void {
    const cells = this.#ended ? undefined : this.#firstHopAudit.takeNext(digest);
    if (cells !== undefined) this.#audit(AuditHop.second, 1, cells, batch);
  }

  /** Checks the batch of the hop at `at` with all cells of ours: most were in others, but none on one side only. */
  #audit(hop: AuditHop, at: number, cells: readonly TrailCell[], batch: OpenedBatch | undefined): void {
    const { batches } = this.#context;
    const contact = this.hops[at];
    if (batch === undefined || contact === undefined) {
      batches.noteUnanswered();
      this.audited(hop, false);
      return;
    }
    const last = this.hops.length - 1;
    const pairs = cells.map(({ travel, digests }) => {
      const forward = travel === Travel.forward;
      const near = digests[at]!;
      const end = () => (forward ? batches.endOf(near) : batches.beginOf(near));
      const far = at === last ? end() : digests[at + 1]!;
      return forward ? { input: near, output: far } : { input: far, output: near };
    });
    batches.audit(this, hop, contact.nodeId, at, batch, cells, pairs);
  }

  // --- what others can be shown (core/mix/exchange-evidence.ts) ---

  takePledges(train: Uint8Array): Drop {
    if (!this.#batched || this.#pledges !== undefined) return Drop.notAllowed;
    const { suite } = this.#context;
    const slots = openPledges(
      suite,
      this.#pledged.map(({ trainKey }) => trainKey),
      train,
    );
    this.#pledges = slots.map((slot, i) => completePledge(suite, this.hops[i]!.nodeId, this.#pledged[i]!.fields, slot));
    return Drop.none;
  }

  /** The first hop has exchanged the cell with this digest, which may be one of ours. */
  exchangedAtFirst(digest: Uint8Array, batch: OpenedBatch): void {
    const { suite } = this.#context;
    const cell = this.#trail.cells.find(({ digests }) => suite.equal(digests[0]!, digest));
    if (cell !== undefined) this.exchanged(0, cell, batch);
  }

  /** Puts together what shows it, if the keys are still there, and the mix's pledge is. */
  exchanged(at: number, { travel, index, shown }: TrailCell, { statement, opening }: OpenedBatch): void {
    const pledge = this.#pledges?.[at];
    if (pledge === undefined || this.#shown !== undefined || this.#ended) return;
    const { outward, layerKeys } = this.#pledged[at]!;
    // Back to the client a cell comes from the hop's other side.
    const input = outward !== undefined && travel === Travel.backward ? shown[at + 1]! : shown[at]!;
    const aeadKey = outward === undefined ? undefined : this.#onion.layerKey(at, travel, index);
    if (outward !== undefined && aeadKey === undefined) return;
    const what = encodeShown(input, aeadKey && { aeadKey, layerKeys });
    this.#context.batches.show(this, encodeEvidence(CheatKind.exchange, statement, opening, pledge, what));
  }

  /** It holds. It is kept until the circuit has ended: others could tell by it who is before and behind the mix. */
  shown(cheat: Cheat, evidence: Uint8Array): void {
    if (this.#shown !== undefined) return;
    this.#shown = { cheat, evidence };
    if (this.#ended) this.#show();
  }

  #show(): void {
    if (this.#shown === undefined) return;
    const { cheat, evidence } = this.#shown;
    // Our neighbours are not told: see docs/adr/0037-exchanges-that-can-be-shown.md.
    this.#context.host.cmix?.cheated(cheat, evidence, true);
  }

  /**
   * Hops that do not pledge in time could cheat and leave nothing to show: the circuit ends, and its session finds another. Which
   * hop it was nobody can say: each passes on what later ones sign.
   */
  #pledgesMissing(nowMs: TimeMs): boolean {
    if (!this.#batched || !this.#ready || nowMs - this.#readyMs < PLEDGE_MS) return false;
    if (this.#pledges?.every((pledge) => pledge !== undefined)) return false;
    this.#context.batches.noteUnanswered();
    this.#endAt(CircuitEnd.timeout, undefined, undefined, nowMs);
    return true;
  }

  /** What a batch that was opened to us, or was not, came to. */
  audited(hop: AuditHop, useful: boolean): void {
    const isFirst = hop === AuditHop.second;
    if (!(isFirst ? this.#firstHopAudit : this.#lastHopAudit).settle(useful)) return;
    this.#context.batches.suspectAnswers(this.hops.at(isFirst ? 0 : -1)!.nodeId);
  }

  get #rttMs(): number {
    return Math.max(this.#expectedRttMs, this.#path.stats.smoothedRttMs ?? 0);
  }

  /** Asks about a cell, now and then. */
  #auditIfDue(nowMs: TimeMs): void {
    if (!this.#batched || !this.#ready) return;
    const { batches } = this.#context;
    const rttMs = this.#rttMs;
    for (const hop of [...this.#firstHopAudit.expire(rttMs, nowMs), ...this.#lastHopAudit.expire(rttMs, nowMs)]) {
      batches.noteUnanswered();
      this.audited(hop, false);
    }
    const atLast = this.#lastHopAudit.poll(rttMs, nowMs);
    if (atLast !== undefined) {
      const question = { travel: atLast.travel, digest: atLast.digests.at(-1)! };
      sendKeyMessage(this.#path, CryptoMessage.audit, encodeQuestion(question));
    }
    const atFirst = this.hops.length > 1 ? this.#firstHopAudit.poll(rttMs, nowMs) : undefined;
    if (atFirst === undefined) return;
    const { travel, digests } = atFirst;
    batches.ask(this, this.#link, { cid: this.#forwardCid, travel, digest: digests[1]! });
  }

  #rekeyIfDue(nowMs: TimeMs): void {
    if (!this.#ready || this.#fresh !== undefined) return;
    const byTime = nowMs - this.#rekeyedMs >= REKEY_AFTER_MS;
    if (!byTime && this.#cellsSinceRekey < REKEY_AFTER_CELLS) return;
    const { suite, random } = this.#context;
    this.#fresh = createFreshKeys(suite, random);
    this.#rekeyedMs = nowMs;
    this.#cellsSinceRekey = 0;
    const body = encodeRekey(this.#fresh.dh.publicKey, this.#fresh.kem.publicKey);
    if (!sendKeyMessage(this.#path, CryptoMessage.rekey, body)) return;
    if (byTime) this.#onion.skipToNextGeneration();
  }

  handleCell(
    _entry: CircuitEntry,
    cell: LayeredCell,
    counter: number,
    type: number,
    pathId: number,
    nowMs: TimeMs,
  ): Drop {
    this.#nowMs = nowMs;
    const watch = this.#watch?.begin();
    const drop = this.#onion.openBackward(counter, type, pathId, cell, nowMs, watch);
    if (drop !== Drop.none) return drop;
    if (watch !== undefined) {
      this.#context.batches.got(this.#link, watch.digests[0]!, nowMs, watch.digests[1]);
      this.#trail.note(Travel.backward, this.#onion.lastIndex, watch, this.#rttMs, nowMs);
    }
    this.#heardMs = nowMs;
    this.#cellsSinceRekey++;
    this.#context.counters.cellsDelivered++;
    const payload = cell.layerPayloads[this.#onion.hops - 1]!;
    const bad = this.#path.handlePayload(this.#onion.lastIndex, payload, nowMs);
    this.#context.markCircuit(this);
    return bad;
  }

  service(nowMs: TimeMs): boolean {
    this.#nowMs = nowMs;
    if (this.#ended) return false;
    const { counters, timers, sendScratch } = this.#context;
    const { session } = this;
    const path = this.#path;
    if (this.#link.link.state !== 'up') {
      // What the session asked for waits for the link, but not its end.
      if (session.closed) this.end(CircuitEnd.requested, undefined, nowMs);
      else timers.set(this, this.#ready ? path.nextTimeoutMs() : this.#startedMs + this.#setupTimeoutMs);
      return false;
    }
    this.#rekeyIfDue(nowMs);
    const onion = this.#onion;
    const link = this.#link;
    const payload = sendScratch.layerPayloads[onion.hops - 1]!;
    let budget = CELLS_PER_TURN;
    while (!this.#ended && budget-- > 0 && !link.full && path.wantsSend(nowMs)) {
      if (this.#mixesItself && !this.#context.batches.queue!.hasRoom(this.#mixed)) {
        timers.set(this, nowMs + FULL_RETRY_MS);
        return false;
      }
      const index = onion.allocateIndex();
      if (index < 0) {
        this.end(CircuitEnd.limit, undefined, nowMs);
        return false;
      }
      // A callback within may have ended the circuit, and with it the keys.
      if (!path.pollPayload(payload, index, nowMs) || this.#ended) break;
      this.#sendCell(index);
      counters.cellsOriginated++;
    }
    if (this.#ended) return false;
    if (session.closed) {
      this.end(CircuitEnd.requested, undefined, nowMs);
      return false;
    }
    if (this.#refused) {
      this.end(CircuitEnd.refused, undefined, nowMs);
      return false;
    }
    const due = Math.max(path.nextTimeoutMs(), link.full ? link.cover!.sentMs : Number.NEGATIVE_INFINITY);
    timers.set(this, this.#ready ? due : Math.min(due, this.#startedMs + this.#setupTimeoutMs));
    // A constant link asks again when it has sent some.
    return !link.full && path.wantsSend(nowMs);
  }

  /** Seals what is in the scratch cell's payload for every hop and puts it on the link. */
  #sendCell(index: number): void {
    const { sendScratch, mixScratch, batches } = this.#context;
    const onion = this.#onion;
    const watch = this.#watch?.begin();
    onion.sealForward(index, CellType.data, 0, sendScratch, watch);
    const cell = this.#mixesItself ? mixScratch : this.#link.peek();
    cell.cell.set(sendScratch.cell);
    writeHeader(cell, this.#forwardCid, onion.forwardCounter(index), CellType.data, 0);
    this.#cellsSinceRekey++;
    if (watch !== undefined) {
      const { digests } = watch;
      const [digest, beyond] = digests as [Uint8Array, Uint8Array | undefined];
      this.#trail.note(Travel.forward, index, watch, this.#rttMs, this.#nowMs);
      if (this.#mixesItself) {
        const begin = batches.beginOf(digest);
        const refused = batches.push(cell.bytes, this, 0, undefined, begin, this.#link, digest, this.#nowMs, beyond);
        if (refused === Drop.none) this.#mixed++;
        return;
      }
      batches.gave(this.#link, digest, this.#nowMs, beyond);
    }
    this.#link.commitCell(cell);
  }

  get #mixesItself(): boolean {
    return this.#batched && this.#context.batches.queue !== undefined;
  }

  /** The batch that a cell of ours was in leaves. */
  release(bytes: Uint8Array, _note: number, _nowMs: TimeMs): void {
    this.#mixed--;
    if (this.#ended || this.#link.link.state !== 'up') {
      this.#context.counters.drops[Drop.closed]!++;
      return;
    }
    const cell = this.#link.peek();
    cell.bytes.set(bytes);
    this.#link.commitCell(cell);
  }

  /** Drop cover: a cell that the last hop opens and finds nothing in. False = not now. */
  sendCover(nowMs: TimeMs): boolean {
    const link = this.#link;
    if (this.#ended || !this.#ready || link.link.state !== 'up' || link.full) return false;
    if (this.#mixesItself && !this.#context.batches.queue!.hasRoom(this.#mixed)) return false;
    const onion = this.#onion;
    const index = onion.allocateIndex();
    const payload = this.#context.sendScratch.layerPayloads[onion.hops - 1]!;
    if (index < 0 || !this.#path.coverPayload(payload, index, nowMs)) return false;
    this.#sendCell(index);
    return true;
  }

  handleTimeout(nowMs: TimeMs): void {
    this.#nowMs = nowMs;
    if (this.#failure !== undefined) {
      this.#endAt(this.#failure, this.#trainSent ? undefined : this.#link, undefined, nowMs);
      return;
    }
    if (!this.#ready && nowMs >= this.#startedMs + this.#setupTimeoutMs) {
      this.end(CircuitEnd.timeout, undefined, nowMs);
      return;
    }
    this.#path.handleTimeout(nowMs);
    this.#context.markCircuit(this);
  }

  linkUp(_slot: LinkSlot, _nowMs: TimeMs): void {
    this.#context.markCircuit(this);
  }

  /** Its first hop is heard again: so may be the last one. */
  linkAnswered(nowMs: TimeMs, moved: boolean): void {
    if (this.#ended || !this.#ready) return;
    this.#nowMs = nowMs;
    this.#path.reachable(nowMs, moved);
    this.#context.markCircuit(this);
  }

  linkLost(slot: LinkSlot, nowMs: TimeMs): void {
    // No hop said so: the first one itself is out of reach.
    this.#endAt(this.#ready ? CircuitEnd.linkLost : CircuitEnd.unreachable, slot, undefined, nowMs);
  }

  hasHop(nodeId: Uint8Array): boolean {
    return this.hops.some((contact) => this.#context.suite.equal(contact.nodeId, nodeId));
  }

  /** A hop refused the set-up. */
  refused(reason: CircuitEnd, refuser: Uint8Array, nowMs: TimeMs): void {
    const hop = this.hops.findIndex((contact) => this.#context.suite.equal(contact.nodeId, refuser));
    this.#endAt(reason, this.#link, hop < 0 ? undefined : hop, nowMs);
  }

  end(reason: CircuitEnd, heardFrom: LinkSlot | undefined, nowMs: TimeMs): void {
    // What comes over the first link is the first hop's word, whoever may have said it before.
    this.#endAt(reason, heardFrom, heardFrom === undefined ? undefined : 0, nowMs);
  }

  #endAt(reason: CircuitEnd, heardFrom: LinkSlot | undefined, hop: number | undefined, nowMs: TimeMs): void {
    if (this.#ended) return;
    this.#ended = true;
    if (heardFrom !== this.#link) sendDestroy(this.#link.link, this.#forwardCid, 0, reason);
    this.#context.cids.remove(this.#backward);
    this.#link.circuits.delete(this);
    this.#context.markLink(this.#link);
    this.#context.forget(this);
    this.#dropFresh();
    for (const { trainKey } of this.#pledged) this.#context.suite.wipe(trainKey);
    this.#show();
    this.#onion.wipe();
    // Of our own will: nobody is to bring the session onto another circuit.
    const ours = heardFrom === undefined && reason !== CircuitEnd.timeout && reason !== CircuitEnd.limit;
    const { session } = this.holder;
    const alone = session.pathCount === 1 && this.#path.state !== PathState.gone;
    if (alone && (ours || this.#refused) && !session.closed) {
      session.abandon(SessionError.sessionLost, this.#refused ? 'the last hop has forgotten it' : 'the circuit ended');
    }
    this.#path.lost(nowMs);
    this.#context.host.onStep?.({ spec: 'Circuit', action: 'ClientEnds', of: this.handle });
    this.#context.host.onCircuit({ kind: 'ended', circuit: this.handle, reason, hop });
  }

  #dropFresh(): void {
    this.#fresh?.dh.wipe();
    this.#fresh?.kem.wipe();
    this.#fresh = undefined;
  }

  sweep(nowMs: TimeMs, _unixSeconds: number): void {
    const { packetsInFlight, smoothedRttMs } = this.#path.stats;
    if (packetsInFlight === 0) this.#heardMs = nowMs;
    else if (this.#ready && nowMs - this.#heardMs > Math.max(DEAD_AFTER_MS, DEAD_AFTER_RTTS * (smoothedRttMs ?? 0))) {
      this.#endAt(CircuitEnd.timeout, undefined, undefined, nowMs);
      return;
    }
    if (this.#pledgesMissing(nowMs)) return;
    this.#rekeyIfDue(nowMs);
    this.#auditIfDue(nowMs);
    this.#onion.expireOld(nowMs);
  }

  get bufferedBytes(): number {
    // A session's buffers are counted once, however many circuits it has. In whole bytes: sums of others drift.
    const { bufferedBytes, paths } = this.session.stats;
    const share = Math.ceil(bufferedBytes / Math.max(1, paths.length));
    return share + SESSION_BYTES + this.#onion.memoryBytes + this.#trail.memoryBytes;
  }
}
