/** A circuit that ends here: its cells carry the payloads of a session that this node serves. */
import { Drop } from '../drop-reason.ts';
import type { PledgedCircuit } from '../mix/circuit-pledge.ts';
import { boundedDelayMs, type MixOwner } from '../mix/poisson-mix.ts';
import { type ClientFresh, lastHopReply } from '../onion/fresh-exchange.ts';
import type { HopRoute } from '../onion/hop-route.ts';
import type { LastHop } from '../onion/last-hop.ts';
import type { TimeMs } from '../ports.ts';
import type { SessionApi } from '../stream/contract.ts';
import { SessionError } from '../stream/contract.ts';
import { Session } from '../stream/session.ts';
import type { SessionPath } from '../stream/session-path.ts';
import type { LayeredCell } from '../wire/datagram.ts';
import { CellType, COUNTER_OFFSET, readCounter } from '../wire/datagram.ts';
import { AuditHop, decodeQuestion, encodeAnswer, MIN_ANSWER_GAP_MS } from './batch-audit.ts';
import type { Cid } from './cid-table.ts';
import {
  CELLS_PER_TURN,
  CircuitEntry,
  type EngineCircuit,
  type EngineContext,
  Travel,
  writeHeader,
} from './circuit.ts';
import { HopPledge, sendPledges } from './circuit-pledges.ts';
import { SESSION_BYTES } from './client-circuit.ts';
import { CircuitEnd, type SessionOwner } from './contract.ts';
import { CryptoMessage, decodeRekey, sendKeyMessage } from './crypto-messages.ts';
import type { LinkSlot } from './link-slot.ts';
import { sendDestroy } from './messages.ts';
import type { ServedSession } from './served-session.ts';
import { circuitName } from './step-names.ts';

/** A gigabyte of cells, the other reason for a key exchange, takes longer than this at any rate we can serve. */
const MIN_REKEY_MS = 1000;

/** The mix was full: the session waits this long before it sends on. */
const FULL_RETRY_MS = 5;
/** Class mix, a first guess at how long the path is; what is measured replaces it. */
const USUAL_MIX_HOPS = 5;
const USUAL_BATCH_MS = 500;
/** Circuits that a session may have at once (docs/protocol.md §5.5). */
export const MAX_PATHS = 8;

export class LastHopCircuit implements EngineCircuit, MixOwner {
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  dirty = false;
  mixPlace = -1;
  countedBytes = 0;
  countedMs: TimeMs = 0;
  readonly handle: number;
  readonly #context: EngineContext;
  readonly #hop: LastHop;
  readonly #link: LinkSlot;
  readonly #forward: CircuitEntry;
  readonly #backwardCid: Cid;
  readonly #expiry: number;
  /** Class mix: how long a cell waits here on average, whichever way it goes; 0 = another class. */
  readonly #delayMs: number;
  /** Class cmix: what the circuit is called on the link. */
  readonly #tag: Uint8Array | undefined;
  readonly #pledged: PledgedCircuit | undefined;
  readonly #pledge: HopPledge | undefined;
  #auditedMs: TimeMs = Number.NEGATIVE_INFINITY;
  /** Class cmix: cells that wait for their batch. */
  #batched = 0;
  readonly #path: SessionPath;
  /** The session that began here. */
  readonly #own: Session;
  #ownServed: ServedSession | undefined = undefined;
  /** The session that its path belongs to: its own, or the one that it asked to join. */
  #served: ServedSession | undefined = undefined;
  /** Of this circuit, for proofs; 32 bytes. */
  readonly #binding: Uint8Array;
  #ended = false;
  #nowMs: TimeMs;
  #rekeyedMs: TimeMs = Number.NEGATIVE_INFINITY;

  constructor(
    context: EngineContext,
    handle: number,
    hop: LastHop,
    binding: Uint8Array,
    route: HopRoute,
    link: LinkSlot,
    forwardCid: Cid,
    backwardCid: Cid,
    pledged: PledgedCircuit | undefined,
    nowMs: TimeMs,
  ) {
    this.#context = context;
    this.handle = handle;
    this.#hop = hop;
    this.#binding = binding;
    this.#link = link;
    this.#forward = new CircuitEntry(forwardCid, link, this, Travel.forward);
    this.#backwardCid = backwardCid;
    this.#expiry = route.expiry;
    this.#delayMs = route.class === 'mix' ? boundedDelayMs(route.delayMeanUs) : 0;
    this.#tag = pledged?.inward;
    this.#pledged = pledged;
    this.#pledge =
      pledged &&
      new HopPledge(context.suite, pledged, (train) => {
        sendPledges(link.link, backwardCid, train);
        context.markLink(link);
      });
    const hopMs = pledged !== undefined ? USUAL_BATCH_MS : this.#delayMs;
    this.#nowMs = nowMs;
    const session = new Session(
      { ...context.options.session, role: 'server', mixRttMs: 2 * USUAL_MIX_HOPS * hopMs },
      {
        onCryptoMessage: (type, body) => this.#onCrypto(type, body),
        onReady: (capabilities) => this.#owner?.onReady?.(capabilities),
        onStream: (stream) => this.#owner?.onStream?.(stream),
        onResolve: (id, kind, value) => this.#owner?.onResolve?.(id, kind, value),
        onDatagram: (flow, data, lifetimeMs) => this.#owner?.onDatagram?.(flow, data, lifetimeMs),
        onDatagramExpired: (flow, own) => this.#owner?.onDatagramExpired?.(flow, own),
        onWantSend: () => context.markCircuit(this),
        onAttach: (path, id, proof) => this.#onAttach(path, id, proof),
        // What becomes of it then is seen to when the circuit has ended.
        onDetached: () => {},
        onClose: (code, reason, remote) => this.#owner?.onClose(code, reason, remote),
      },
      nowMs,
    );
    this.#own = session;
    this.#path = session.firstPath;
  }

  /** Of the session that began here; that one may outlive this circuit. */
  get #owner(): SessionOwner | undefined {
    return this.#ownServed?.owner;
  }

  get #session(): SessionApi {
    return this.#path.session;
  }

  /** Enters the tables and answers with the fresh key exchange; false when that is impossible. */
  open(clientFresh: ClientFresh): boolean {
    const { suite, random, spares, served, cids, batches } = this.#context;
    const reply = lastHopReply(suite, random, clientFresh, spares.takePair());
    if (reply === undefined || !cids.add(this.#forward)) return false;
    this.#link.circuits.add(this);
    if (this.#pledge !== undefined) {
      this.#pledge.endHere(random);
      batches.pledge(this.#pledge, this.#pledged!.fields);
    }
    this.#hop.installFresh(reply.shared);
    this.#path.sendCryptoMessage(CryptoMessage.keys, reply.message);
    const { onStep } = this.#context.host;
    onStep?.({ spec: 'Circuit', action: 'ExitTakesSetup', of: this.handle, as: circuitName(suite, this.#binding) });
    this.#ownServed = served.open(this.#own, this.handle, reply.shared);
    this.#served = this.#ownServed;
    suite.wipe(reply.shared);
    this.#context.markCircuit(this);
    return true;
  }

  /** The client says that this circuit is for a session that it has here already. */
  #onAttach(path: SessionPath, id: Uint8Array, proof: Uint8Array): boolean {
    const claimed = this.#context.served.claimed(id, proof, this.#binding);
    if (claimed === undefined || claimed === this.#ownServed || claimed.session.pathCount >= MAX_PATHS) return false;
    claimed.adopt(path);
    this.#served = claimed;
    this.#ownServed?.end(CircuitEnd.requested);
    return true;
  }

  #onCrypto(type: number, body: Uint8Array): void {
    if (type === CryptoMessage.audit && this.#tag !== undefined) {
      this.#onAudit(body);
      return;
    }
    if (type !== CryptoMessage.rekey) {
      this.#session.close(SessionError.protocolViolation, 'unexpected key message');
      return;
    }
    // Public-key work at the client's wish: no more often than one that keeps its keys fresh can want it.
    if (this.#nowMs - this.#rekeyedMs < MIN_REKEY_MS) {
      this.#session.close(SessionError.protocolViolation, 'too many key exchanges');
      return;
    }
    this.#rekeyedMs = this.#nowMs;
    const { suite, random } = this.#context;
    const fresh = decodeRekey(body);
    const reply = fresh && lastHopReply(suite, random, fresh);
    if (reply === undefined) {
      this.#session.close(SessionError.cryptoFail, 'bad key exchange');
      return;
    }
    if (!sendKeyMessage(this.#path, CryptoMessage.rekeyKeys, reply.message)) {
      suite.wipe(reply.shared);
      return;
    }
    this.#hop.installFresh(reply.shared);
    this.#hop.skipToNextGeneration();
    suite.wipe(reply.shared);
  }

  /** The client wants to see the batches in which one of its cells was. What is not known (any more) is said not to be. */
  #onAudit(body: Uint8Array): void {
    const question = decodeQuestion(body);
    if (question === undefined) {
      this.#session.close(SessionError.protocolViolation, 'bad audit');
      return;
    }
    if (this.#nowMs - this.#auditedMs < MIN_ANSWER_GAP_MS) return;
    this.#auditedMs = this.#nowMs;
    const { travel, digest } = question;
    const [before, last] = this.#context.batches.batchesOf(this.#link, travel, digest);
    for (const [hop, batch] of [
      [AuditHop.before, before],
      [AuditHop.last, last],
    ] as const) {
      if (!sendKeyMessage(this.#path, CryptoMessage.opened, encodeAnswer(question, hop, batch))) return;
    }
  }

  handleCell(
    _entry: CircuitEntry,
    cell: LayeredCell,
    counter: number,
    type: number,
    pathId: number,
    nowMs: TimeMs,
  ): Drop {
    const { mix, batches } = this.#context;
    if (!this.#hasRoom()) return Drop.mixQueueFull;
    // It is opened in place.
    const tag = this.#tag;
    const digest = tag && batches.digest(tag, Travel.forward, counter, type, pathId, cell.cell);
    const drop = this.#hop.openForward(counter, type, pathId, cell, nowMs);
    if (drop !== Drop.none) return drop;
    if (digest !== undefined) {
      const end = batches.endOf(digest);
      const refused = batches.push(cell.bytes, this, Travel.forward, this.#link, digest, undefined, end, nowMs);
      if (refused === Drop.none) this.#batched++;
      return refused;
    }
    if (this.#delayMs > 0) {
      mix.push(cell.bytes, this, Travel.forward, mix.inward, this.#delayMs, nowMs);
      return Drop.none;
    }
    this.#nowMs = nowMs;
    this.#context.counters.cellsDelivered++;
    const bad = this.#path.handlePayload(this.#hop.lastIndex, cell.payload, nowMs);
    this.#context.markCircuit(this);
    return bad;
  }

  #hasRoom(): boolean {
    const { mix, batches } = this.#context;
    if (this.#tag !== undefined) return batches.queue!.hasRoom(this.#batched);
    return this.#delayMs === 0 || mix.hasRoom(this);
  }

  /** A cell of class mix or cmix has waited long enough: what came in goes to the session, what goes out to the link. */
  release(bytes: Uint8Array, travel: number, nowMs: TimeMs): void {
    if (this.#tag !== undefined) this.#batched--;
    const { counters, mixScratch } = this.#context;
    if (this.#ended) {
      counters.drops[Drop.closed]!++;
      bytes.fill(0);
      return;
    }
    if (travel === Travel.backward) {
      const next = this.#link.peek();
      next.bytes.set(bytes);
      this.#link.commitCell(next);
      return;
    }
    this.#nowMs = nowMs;
    mixScratch.bytes.set(bytes);
    // It was a payload in the clear.
    bytes.fill(0);
    counters.cellsDelivered++;
    try {
      const index = this.#hop.indexOf(readCounter(mixScratch.bytes, COUNTER_OFFSET));
      const bad = this.#path.handlePayload(index, mixScratch.payload, nowMs);
      if (bad !== Drop.none) counters.drops[bad]!++;
    } catch (error) {
      this.end(CircuitEnd.protocol, undefined, nowMs);
      throw error;
    }
    this.#context.markCircuit(this);
  }

  service(nowMs: TimeMs): boolean {
    const { counters, timers, mix, batches, mixScratch } = this.#context;
    const path = this.#path;
    const link = this.#link;
    const delayMs = this.#delayMs;
    const tag = this.#tag;
    const held = tag !== undefined || delayMs > 0;
    let budget = CELLS_PER_TURN;
    while (!this.#ended && budget-- > 0 && !link.full && path.wantsSend(nowMs)) {
      if (!this.#hasRoom()) {
        timers.set(this, nowMs + FULL_RETRY_MS);
        return false;
      }
      const cell = held ? mixScratch : link.peek();
      const index = this.#hop.allocateIndex();
      if (index < 0) {
        this.end(CircuitEnd.limit, undefined, nowMs);
        return false;
      }
      // A callback within may have ended the circuit, and with it the keys.
      if (!path.pollPayload(cell.payload, index, nowMs) || this.#ended) break;
      this.#hop.sealBackward(CellType.data, 0, cell, index);
      const counter = this.#hop.counterFor(index);
      writeHeader(cell, this.#backwardCid, counter, CellType.data, 0);
      if (tag !== undefined) {
        const digest = batches.digest(tag, Travel.backward, counter, CellType.data, 0, cell.cell);
        const begin = batches.beginOf(digest);
        if (batches.push(cell.bytes, this, Travel.backward, undefined, begin, link, digest, nowMs) === Drop.none) {
          this.#batched++;
        }
      } else if (delayMs > 0) {
        mix.push(cell.bytes, this, Travel.backward, link.outlet, delayMs, nowMs);
      } else {
        link.commitCell(cell);
      }
      counters.cellsOriginated++;
    }
    if (this.#ended) return false;
    if (path.session.closed) {
      this.end(CircuitEnd.requested, undefined, nowMs);
      return false;
    }
    timers.set(this, Math.max(path.nextTimeoutMs(), link.full ? link.cover!.sentMs : Number.NEGATIVE_INFINITY));
    return !link.full && path.wantsSend(nowMs);
  }

  handleTimeout(nowMs: TimeMs): void {
    this.#path.handleTimeout(nowMs);
    this.#context.markCircuit(this);
  }

  linkUp(): void {}

  linkLost(slot: LinkSlot, nowMs: TimeMs): void {
    this.end(CircuitEnd.linkLost, slot, nowMs);
  }

  end(reason: CircuitEnd, heardFrom: LinkSlot | undefined, nowMs: TimeMs): void {
    if (this.#ended) return;
    this.#ended = true;
    if (heardFrom !== this.#link) sendDestroy(this.#link.link, this.#backwardCid, 1, reason);
    this.#context.cids.remove(this.#forward);
    this.#link.circuits.delete(this);
    this.#context.markLink(this.#link);
    this.#context.forget(this);
    this.#hop.wipe();
    this.#context.suite.wipe(this.#binding);
    this.#pledge?.wipe();
    this.#context.host.onStep?.({ spec: 'Circuit', action: 'ExitEnds', of: this.handle });
    this.#path.lost(nowMs);
    // Of our own will: there is nothing to wait for.
    if (heardFrom === undefined && reason !== CircuitEnd.expired && reason !== CircuitEnd.limit)
      this.#served?.end(reason);
    else this.#served?.circuitGone(reason, nowMs);
  }

  sweep(nowMs: TimeMs, unixSeconds: number): void {
    if (unixSeconds > this.#expiry) this.end(CircuitEnd.expired, undefined, nowMs);
    else this.#hop.expireOld(nowMs);
  }

  get bufferedBytes(): number {
    // A session's buffers are counted once, however many circuits it has. In whole bytes: sums of others drift.
    const { bufferedBytes, paths } = this.#session.stats;
    const share = Math.ceil(bufferedBytes / Math.max(1, paths.length));
    return share + SESSION_BYTES + this.#hop.memoryBytes;
  }
}
