/**
 * One node's whole packet machine: links, circuits, sessions. Pure: datagrams and time go in, batches of datagrams and
 * events come out. The way of a packet:
 *
 * 1. handleDatagrams slices a received buffer and copies each datagram into the scratch cell.
 * 2. #handleDatagram finds the link by its id (0 = handshake) and unmasks the header.
 * 3. A control cell goes to its link, one of the message lane to message-lane.ts; any other finds its circuit by CID:
 *    relay-circuit.ts, last-hop-circuit.ts or client-circuit.ts, which open or seal one layer straight into the next
 *    link's batch, or feed a session.
 * 4. flush does what is due, lets links and sessions send, and hands every batch to the host: one per next hop.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop, dropNames } from '../drop-reason.ts';
import { LinkClose, type LinkHandshakesApi, LinkMessage } from '../link/contract.ts';
import { LinkHandshakes } from '../link/handshake.ts';
import type { Link } from '../link/link.ts';
import type { BatchProgress, Verdict } from '../mix/batch-work.ts';
import { pledgedCircuit } from '../mix/circuit-pledge.ts';
import { boundedDelayMs, PoissonMix } from '../mix/poisson-mix.ts';
import { ClientOnion } from '../onion/client-onion.ts';
import { KeySpares } from '../onion/key-spares.ts';
import { MixKeyRing } from '../onion/mix-key-ring.ts';
import { buildTrain } from '../onion/setup-train.ts';
import type { PeerAddress, Random, TimeMs } from '../ports.ts';
import type { PathStats, SessionApi } from '../stream/contract.ts';
import {
  BATCH_DATAGRAMS,
  CellBuffer,
  CellType,
  COUNTER_OFFSET,
  DATAGRAM_BYTES,
  FLAG_MULTIPATH,
  LayeredCell,
  MAX_HOPS,
  MIN_HOPS,
  PATH_OFFSET,
  readCounter,
  readLinkId,
  TYPE_OFFSET,
} from '../wire/datagram.ts';
import { Admission } from './admission.ts';
import { CidTable } from './cid-table.ts';
import { type CircuitEntry, type EngineCircuit, type EngineContext, randomCid, Travel } from './circuit.ts';
import { ClientCircuit } from './client-circuit.ts';
import type { ClientSession } from './client-session.ts';
import {
  type BuildCircuitOptions,
  CircuitEnd,
  type CmixStats,
  type CoverStats,
  type EngineApi,
  type EngineCounters,
  type EngineHost,
  type EngineOptions,
  type EngineTuning,
  type LinkEvent,
  type LinkInfo,
  type MessageLaneStats,
  type MixSecrets,
  type MixStats,
  type NodeContact,
  type SessionOwner,
  Via,
} from './contract.ts';
import { BatchPool, Egress } from './egress.ts';
import { EngineBatches } from './engine-batches.ts';
import { DropCover, EngineCover } from './engine-cover.ts';
import { HostGuard } from './host-guard.ts';
import { MAX_PATHS } from './last-hop-circuit.ts';
import { LinkCover } from './link-cover.ts';
import { LinkSlot } from './link-slot.ts';
import { MessageLane } from './message-lane.ts';
import { sendSetup } from './messages.ts';
import { PuzzleMemory } from './puzzle-memory.ts';
import { RelayCircuit } from './relay-circuit.ts';
import { ServedSession, ServedSessions } from './served-session.ts';
import { circuitName } from './step-names.ts';
import { TimerHeap } from './timer-heap.ts';

/** Low 6 bits of the type byte. */
const TYPE_MASK = 0x3f;
const SWEEP_MS = 1000;
/** Circuits looked at in one slice of a sweep: about a millisecond. */
const SWEEP_SLICE = 4096;
/** A link that we opened is closed when no circuit has used it for this long. */
const LINK_IDLE_MS = 300_000;
/** The other side should have closed it by then. */
const ACCEPTED_IDLE_MS = 2 * LINK_IDLE_MS;
/** An accepted link without circuits makes room for another after this. */
const EVICT_IDLE_MS = 10_000;
/** Sessions are counted anew at most this often. */
const COUNT_MS = 20;
/** Shares of the memory limit: no more circuits from here on, and where shedding stops. */
const TIGHT_SHARE = 0.75;
const SHED_TO_SHARE = 0.875;
const MAX_SHED_AT_ONCE = 64;
/** Cells of class mix that may wait: as many as a relay at 50 000 cells a second delays by 2.6 s on average … */
const MAX_MIX_CELLS = 131_072;
/** … and no more than half of the memory, at what a waiting cell costs. */
const MIX_SHARE = 0.5;
const MIX_CELL_BYTES = 1344;
/** Cells of class mix that one flush releases: some milliseconds' worth. */
const RELEASES_PER_FLUSH = 4096;
/** How long a hop of class cmix holds a cell when the client does not say what it expects. */
const DEFAULT_BATCH_MS = 1000;
/** A link besides what its queues hold: keys, views, entries in tables. */
const LINK_BYTES = 4096;

export interface EngineDependencies {
  readonly suite: CryptoSuite;
  readonly random: Random;
  readonly host: EngineHost;
}

export class Engine implements EngineApi {
  readonly counters: EngineCounters = {
    datagramsIn: 0,
    datagramsOut: 0,
    cellsForward: 0,
    cellsBackward: 0,
    cellsDelivered: 0,
    cellsOriginated: 0,
    coverOut: 0,
    coverIn: 0,
    coverDropOut: 0,
    messagesIn: 0,
    messagesForward: 0,
    messagesDelivered: 0,
    messagesOriginated: 0,
    messageCoverIn: 0,
    controlIn: 0,
    controlOut: 0,
    setups: 0,
    shed: 0,
    drops: new Float64Array(dropNames.length),
  };
  readonly #host: HostGuard;
  /** Common to all parts; retune() changes it. */
  readonly #options: { -readonly [K in keyof EngineOptions]: EngineOptions[K] };
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  readonly #handshakes: LinkHandshakesApi;
  readonly #admission: Admission;
  readonly #cover: EngineCover;
  readonly #messages: MessageLane;
  readonly #cmix: EngineBatches;
  readonly #context: EngineContext;
  readonly #batches = new BatchPool();
  readonly #scratch = new LayeredCell();
  /** Where challenges to other addresses are made. */
  readonly #challenge = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  readonly #linkById = new Map<number, LinkSlot>();
  readonly #slots = new Map<Link, LinkSlot>();
  /** Links we opened, by NodeID. */
  readonly #linkByNode = new Map<string, LinkSlot>();
  readonly #circuits = new Set<EngineCircuit>();
  readonly #clients = new Map<number, ClientCircuit>();
  /** Sessions of ours, for circuits to come. */
  readonly #sessions = new WeakMap<SessionApi, ClientSession>();
  readonly #cids = new CidTable<LinkSlot, CircuitEntry>();
  /** Links in constant mode. */
  readonly #paced = new TimerHeap<LinkCover>();
  readonly #timers = new TimerHeap<EngineCircuit | LinkSlot | LinkCover | DropCover | ServedSession | EngineBatches>();
  readonly #puzzles = new PuzzleMemory();
  readonly #spares: KeySpares;
  readonly #served: ServedSessions;
  /** Links with a batch under way. */
  readonly #openBatches: LinkSlot[] = [];
  readonly #dirtyLinks: LinkSlot[] = [];
  #dirtyCircuits: EngineCircuit[] = [];
  #spareCircuits: EngineCircuit[] = [];
  /** The engine is inside a call of the host's: whatever becomes due is seen to by the flush that follows. */
  #inside = false;
  /** A callback asked for a flush while one was under way. */
  #flushAgain = false;
  #nowMs: TimeMs = 0;
  #nextSweepMs: TimeMs = 0;
  /** Where a sweep in slices has come to. */
  #sweeping: Iterator<EngineCircuit> | undefined = undefined;
  #sweepBegunMs: TimeMs = 0;
  /** What circuits and links hold, as counted last. */
  #circuitBytes = 0;
  #linkBytes = 0;
  #lastHandle = 0;
  #relayCircuits = 0;
  #closing = false;

  constructor(given: EngineOptions, { suite, random, host: unguarded }: EngineDependencies) {
    const host = new HostGuard(unguarded);
    const options = { ...given };
    this.#host = host;
    this.#options = options;
    this.#suite = suite;
    this.#random = random;
    this.#spares = new KeySpares(suite, random);
    this.#handshakes = new LinkHandshakes(
      {
        identity: options.secrets,
        named: options.named,
        accept: options.relay || options.exit,
        unixMs: () => host.unixSeconds() * 1000,
        mayAccept: () => this.#mayAccept(),
        resolve: (nodeId) => host.resolve(nodeId),
        link: options.linkKeepAliveMs === undefined ? undefined : { keepAliveMs: options.linkKeepAliveMs },
      },
      {
        suite,
        random,
        host: {
          onMessage: (link, type, body) => this.#onMessage(link, type, body),
          onUp: (link) => this.#onUp(link),
          onRekeyed: (link) => this.#tellLink('rekeyed', this.#slots.get(link)),
          onMoved: (link) => this.#tellLink('moved', this.#slots.get(link)),
          onAnswered: (link, moved) => this.#onAnswered(link, moved),
          onIdsChanged: (link, added, removed) => this.#onIdsChanged(link, added, removed),
          onClosed: (link, reason) => this.#onLinkClosed(link, reason),
          newLinkId: () => this.#newLinkId(),
          onStep: host.onStep && ((spec, action, of) => host.onStep?.({ spec, action, of })),
        },
      },
    );
    const memoryTight = () => this.bufferedBytes > TIGHT_SHARE * options.memoryBytes;
    this.#served = new ServedSessions({ suite, host, timers: this.#timers, memoryTight });
    const cmix = () => this.#cmix;
    this.#context = {
      suite,
      random,
      spares: this.#spares,
      host,
      options,
      counters: this.counters,
      cids: this.#cids,
      timers: this.#timers,
      paced: this.#paced,
      served: this.#served,
      sendScratch: new LayeredCell(),
      held: { cells: 0 },
      get batches() {
        return cmix();
      },
      mix: new PoissonMix(
        random,
        Math.min(MAX_MIX_CELLS, Math.floor((MIX_SHARE * options.memoryBytes) / MIX_CELL_BYTES)),
        options.mixBatchMs ?? 0,
      ),
      mixScratch: new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0),
      markCircuit: (circuit) => this.#markCircuit(circuit),
      markLink: (slot) => this.#markLink(slot),
      sendControl: (slot, nowMs) => this.#sendControl(slot, nowMs),
      memoryTight,
      forget: (circuit) => this.#forget(circuit),
    };
    this.#cmix = new EngineBatches(this.#context, (error) => host.failed(error));
    this.#cover = new EngineCover({
      context: this.#context,
      clients: this.#clients,
    });
    this.#admission = new Admission(
      new MixKeyRing(suite, options.secrets.nodeId, options.secrets.mix, options.setupMemory, options.messageMemory),
      {
        context: this.#context,
        circuits: this.#circuits,
        linkTo: (contact, nowMs) => this.#linkTo(contact, nowMs),
        admit: (circuit) => {
          this.#circuits.add(circuit);
          this.#count(circuit, this.#nowMs);
          if (circuit instanceof RelayCircuit) this.#relayCircuits++;
        },
        nextHandle: () => ++this.#lastHandle,
        onPuzzle: (nodeId, difficulty, challenge, nowMs) =>
          this.#puzzles.remember(nodeId, difficulty, challenge, nowMs),
      },
    );
    this.#messages = new MessageLane({
      context: this.#context,
      keys: this.#admission.keys,
      linkTo: (contact, nowMs) => this.#messageLink(contact, nowMs),
    });
  }

  get relayCircuits(): number {
    return this.#relayCircuits;
  }

  get bufferedBytes(): number {
    const waiting = this.#context.mix.memoryBytes + this.#messages.memoryBytes + this.#cmix.memoryBytes;
    const queued = this.#batches.outstandingBytes + waiting;
    const held = this.#circuitBytes + this.#linkBytes + this.#served.waitingBytes;
    return queued + this.#handshakes.memoryBytes + held;
  }

  get cover(): CoverStats {
    return this.#cover.stats(this.#slots.values());
  }

  get messages(): MessageLaneStats {
    return this.#messages.stats;
  }

  get mix(): MixStats {
    const { length, released, waitedMs } = this.#context.mix;
    return { waiting: length, released, waitedMs };
  }

  get cmix(): CmixStats {
    return this.#cmix.stats;
  }

  batchProgress(progress: BatchProgress, nowMs: TimeMs): void {
    this.#nowMs = nowMs;
    this.#call(() => this.#cmix.progress(progress, nowMs));
  }

  checked(id: number, verdict: Verdict, nowMs: TimeMs): void {
    this.#nowMs = nowMs;
    this.#call(() => this.#cmix.checked(id, verdict, nowMs));
  }

  shareEvidence(evidence: Uint8Array, nowMs: TimeMs): void {
    this.#nowMs = nowMs;
    this.#call(() => this.#cmix.share(evidence));
  }

  pledged(id: number, slot: Uint8Array, nowMs: TimeMs): void {
    this.#nowMs = nowMs;
    this.#call(() => this.#cmix.pledged(id, slot));
  }

  links(): LinkInfo[] {
    return Array.from(this.#slots.values(), (slot) => slot.info());
  }

  // --- datagrams in ---

  handleDatagrams(buffer: Uint8Array, via: Via, from: PeerAddress, nowMs: TimeMs): void {
    const { counters } = this;
    const length = buffer.length;
    if (length === 0 || length % DATAGRAM_BYTES !== 0 || length > BATCH_DATAGRAMS * DATAGRAM_BYTES) {
      counters.drops[Drop.badLength]!++;
      return;
    }
    if (this.#inside) throw new Error('handleDatagrams was called from within a callback of the engine');
    this.#nowMs = nowMs;
    this.#inside = true;
    for (let offset = 0; offset < length; offset += DATAGRAM_BYTES) {
      const scratch = this.#scratch;
      // The scratch cell's views were made once; copying 1280 bytes is cheaper than making them for each datagram.
      if (length === DATAGRAM_BYTES) scratch.bytes.set(buffer);
      else copyDatagram(scratch.bytes, buffer, offset);
      counters.datagramsIn++;
      const drop = this.#handleDatagram(scratch, via, from, nowMs);
      if (drop !== Drop.none) counters.drops[drop]!++;
    }
    this.#inside = false;
    this.#host.rethrow();
  }

  #handleDatagram(cell: LayeredCell, via: Via, from: PeerAddress, nowMs: TimeMs): Drop {
    const { bytes } = cell;
    const linkId = readLinkId(bytes);
    if (linkId === 0) {
      if (this.#closing) return Drop.closed;
      return this.#handshakes.handleDatagram(bytes, from, via, nowMs, this.#emit);
    }
    const slot = this.#linkById.get(linkId);
    if (slot === undefined) return this.#host.onForeign(linkId, bytes, via, from);
    const { link } = slot;
    slot.bytesIn += DATAGRAM_BYTES;
    if (link.state === 'handshaking') {
      const drop = link.handleHandshake(bytes, nowMs, from);
      this.#markLink(slot);
      return drop;
    }
    link.unmask(linkId, cell);
    const typeAndFlags = bytes[TYPE_OFFSET]!;
    if ((typeAndFlags & TYPE_MASK) === CellType.control) {
      if (!link.isControl(cell, linkId)) return Drop.unknownCircuit;
      this.counters.controlIn++;
      const covers = link.coverIn;
      const drop = link.handleControl(linkId, cell, nowMs, from, via);
      if (link.coverIn !== covers) this.counters.coverIn++;
      this.#markLink(slot);
      return drop;
    }
    if (typeAndFlags === CellType.message) {
      const drop = link.openMessage(linkId, cell, nowMs);
      if (drop !== Drop.none) return drop;
      this.#markLink(slot);
      return this.#messages.handle(slot, cell.ct, nowMs);
    }
    const entry = this.#cids.find(bytes, slot);
    if (entry === undefined) return Drop.unknownCircuit;
    if ((typeAndFlags & ~FLAG_MULTIPATH) !== CellType.data) return Drop.badType;
    link.noteReceived(DATAGRAM_BYTES);
    const counter = readCounter(bytes, COUNTER_OFFSET);
    try {
      const drop = entry.circuit.handleCell(entry, cell, counter, typeAndFlags, bytes[PATH_OFFSET]!, nowMs);
      // What the client has sealed for us speaks for the link that it came over.
      if (drop === Drop.none && entry.travel === Travel.forward && link.noteFrom(linkId, from, via, nowMs)) {
        this.#markLink(slot);
      }
      return drop;
    } catch (error) {
      this.#failed(entry.circuit, error, nowMs);
      return Drop.closed;
    }
  }

  /** A callback of a session's owner threw: its session is in no state to go on. */
  #failed(circuit: EngineCircuit, error: unknown, nowMs: TimeMs): void {
    this.#host.failed(error);
    this.#end(circuit, CircuitEnd.protocol, nowMs);
  }

  #end(circuit: EngineCircuit, reason: CircuitEnd, nowMs: TimeMs): void {
    try {
      circuit.end(reason, undefined, nowMs);
    } catch (error) {
      this.#host.failed(error);
    }
  }

  // --- what is due, and datagrams out ---

  flush(nowMs: TimeMs, paced = true): void {
    if (this.#inside) {
      this.#flushAgain = true;
      return;
    }
    this.#nowMs = nowMs;
    this.#inside = true;
    this.#flushAgain = false;
    if (nowMs >= this.#nextSweepMs) this.#sweep(nowMs);
    if (this.bufferedBytes > this.#options.memoryBytes) this.#shed(nowMs);
    for (;;) {
      const due = this.#timers.popDue(nowMs) ?? (paced ? this.#paced.popDue(nowMs) : undefined);
      if (due === undefined) break;
      if (due instanceof LinkSlot) {
        due.link.handleTimeout(nowMs);
        this.#markLink(due);
      } else if (due instanceof LinkCover) {
        this.#cover.send(due, nowMs);
      } else if (due instanceof DropCover) {
        this.#cover.drop(due, nowMs);
      } else if (due instanceof EngineBatches) {
        due.handleTimeout(nowMs);
      } else if (due instanceof ServedSession) {
        try {
          due.handleTimeout();
        } catch (error) {
          this.#host.failed(error);
        }
      } else {
        try {
          due.handleTimeout(nowMs);
        } catch (error) {
          this.#failed(due, error, nowMs);
        }
      }
    }
    this.#handshakes.poll(nowMs, this.#emit);

    // Control first: a train has to be ahead of the data that follows it.
    this.#pollLinks(nowMs);
    if (this.#context.mix.length > 0) this.#releaseDelayed(nowMs);
    this.#messages.releaseDue(nowMs);
    const circuits = this.#dirtyCircuits;
    this.#dirtyCircuits = this.#spareCircuits;
    let more = false;
    for (const circuit of circuits) {
      circuit.dirty = false;
      if (!this.#circuits.has(circuit)) continue;
      try {
        if (circuit.service(nowMs)) {
          this.#markCircuit(circuit);
          more = true;
        }
      } catch (error) {
        this.#failed(circuit, error, nowMs);
      }
      if (nowMs - circuit.countedMs >= COUNT_MS) this.#count(circuit, nowMs);
    }
    circuits.length = 0;
    this.#spareCircuits = circuits;

    // Circuits may have ended and put a word on their links' control channels.
    this.#pollLinks(nowMs);
    for (let i = 0; i < this.#openBatches.length; i++) {
      const slot = this.#openBatches[i]!;
      if (slot.link.joinAck(nowMs)) this.#sendControl(slot, nowMs);
      slot.flush();
      if (slot.link.noteFlushed(nowMs)) this.#armLink(slot);
    }
    this.#openBatches.length = 0;
    // The answer takes at least a round trip: time for what the next set-up needs.
    if (this.#spares.wanting) this.#spares.refill(nowMs);
    this.#inside = false;
    if (more || this.#flushAgain || this.#dirtyCircuits.length > 0) this.#host.onWake();
    this.#host.rethrow();
  }

  /** Cells of class mix whose time has come. What a callback of a session's owner throws ends that one's circuit alone. */
  #releaseDelayed(nowMs: TimeMs): void {
    const { mix } = this.#context;
    const most = mix.released + RELEASES_PER_FLUSH;
    while (mix.released < most) {
      try {
        if (mix.release(nowMs, most - mix.released) === 0) return;
      } catch (error) {
        this.#host.failed(error);
      }
    }
  }

  #pollLinks(nowMs: TimeMs): void {
    const links = this.#dirtyLinks;
    for (let i = 0; i < links.length; i++) {
      const slot = links[i]!;
      slot.dirty = false;
      this.#sendControl(slot, nowMs);
    }
    links.length = 0;
  }

  #sendControl(slot: LinkSlot, nowMs: TimeMs): void {
    const { link } = slot;
    if (link.state === 'closed') return;
    while (!slot.constant && link.wantsSend(nowMs) && link.pollControl(slot.peekOut(), nowMs)) {
      this.counters.controlOut++;
      slot.commitControl();
    }
    const challenged = link.pollChallenge(this.#challenge, nowMs);
    if (challenged !== undefined) {
      this.counters.controlOut++;
      slot.bytesOut += DATAGRAM_BYTES;
      this.#emit(challenged.via, challenged.address, this.#challenge.bytes);
    }
    if (slot.link.state !== 'closed') this.#armLink(slot);
  }

  /** A constant link says nothing before its own next cell. */
  #armLink(slot: LinkSlot): void {
    const dueMs = slot.link.nextTimeoutMs();
    this.#timers.set(slot, slot.constant ? Math.max(dueMs, slot.cover!.sentMs) : dueMs);
  }

  nextPacedMs(): TimeMs {
    return this.#paced.nextMs();
  }

  nextTimeoutMs(paced = true): TimeMs {
    if (this.#dirtyCircuits.length > 0 || this.#dirtyLinks.length > 0) return this.#nowMs;
    const sweep = this.#slots.size > 0 || this.#circuits.size > 0 ? this.#nextSweepMs : Number.POSITIVE_INFINITY;
    const delayed = Math.min(this.#context.mix.nextMs(), this.#messages.nextMs());
    const cover = paced ? this.#paced.nextMs() : Number.POSITIVE_INFINITY;
    return Math.min(this.#timers.nextMs(), this.#handshakes.nextTimeoutMs(), sweep, delayed, cover);
  }

  #sweep(nowMs: TimeMs): void {
    if (this.#sweeping === undefined) {
      this.#sweepBegunMs = nowMs;
      this.#sweeping = this.#circuits.values();
      this.#sweepLinks(nowMs);
      this.#context.mix.trim();
      this.#messages.trim();
      this.#cmix.sweep(nowMs);
      this.#puzzles.expire(nowMs);
      this.#served.recount();
      this.#spares.expire(nowMs);
    }
    const unixSeconds = this.#host.unixSeconds();
    const sliceMs = SWEEP_MS / (1 + Math.ceil(this.#circuits.size / SWEEP_SLICE));
    for (let i = 0; i < SWEEP_SLICE; i++) {
      const { done, value: circuit } = this.#sweeping.next();
      if (done) {
        this.#sweeping = undefined;
        this.#nextSweepMs = Math.max(this.#sweepBegunMs + SWEEP_MS, nowMs + sliceMs);
        return;
      }
      try {
        circuit.sweep(nowMs, unixSeconds);
      } catch (error) {
        this.#failed(circuit, error, nowMs);
      }
      if (this.#circuits.has(circuit)) this.#count(circuit, nowMs);
    }
    this.#nextSweepMs = nowMs + sliceMs;
  }

  #sweepLinks(nowMs: TimeMs): void {
    let bytes = 0;
    for (const slot of this.#slots.values()) {
      bytes += LINK_BYTES + slot.link.memoryBytes + (slot.cover?.queue?.memoryBytes ?? 0);
      if (slot.circuits.size > 0 || (slot.constant && slot.link.initiator)) slot.idleSinceMs = nowMs;
      else if (nowMs - slot.idleSinceMs > (slot.link.initiator ? LINK_IDLE_MS : ACCEPTED_IDLE_MS)) {
        slot.link.close(LinkClose.idle, nowMs);
        this.#markLink(slot);
      }
    }
    this.#linkBytes = bytes;
  }

  /** Keeps the sum of what circuits hold up to date. */
  #count(circuit: EngineCircuit, nowMs: TimeMs): void {
    if (!this.#circuits.has(circuit)) return;
    const bytes = circuit.bufferedBytes;
    this.#circuitBytes += bytes - circuit.countedBytes;
    circuit.countedBytes = bytes;
    circuit.countedMs = nowMs;
  }

  /** Ends the circuits that hold most, until the rest fits. */
  #shed(nowMs: TimeMs): void {
    this.counters.shed += this.#served.endWaiting(CircuitEnd.memory);
    for (const circuit of this.#circuits) this.#count(circuit, nowMs);
    const target = SHED_TO_SHARE * this.#options.memoryBytes;
    const largest = [...this.#circuits].sort((a, b) => b.countedBytes - a.countedBytes).slice(0, MAX_SHED_AT_ONCE);
    for (const circuit of largest) {
      if (this.bufferedBytes <= target) break;
      this.counters.shed++;
      this.#end(circuit, CircuitEnd.memory, nowMs);
    }
  }

  #mayAccept(): boolean {
    if (this.#closing || this.bufferedBytes > TIGHT_SHARE * this.#options.memoryBytes) return false;
    return this.#slots.size < this.#options.maxLinks || this.#evictLink();
  }

  /** Closes the accepted link that has been without circuits for longest, if that is long enough. */
  #evictLink(): boolean {
    let victim: LinkSlot | undefined;
    for (const slot of this.#slots.values()) {
      if (slot.link.initiator || slot.circuits.size > 0 || slot.link.state !== 'up') continue;
      if (victim === undefined || slot.idleSinceMs < victim.idleSinceMs) victim = slot;
    }
    if (victim === undefined || this.#nowMs - victim.idleSinceMs < EVICT_IDLE_MS) return false;
    victim.link.abort('requested');
    return true;
  }

  /** Handshake datagrams are rare: each goes alone, in memory of its own, so that a flood of them holds no whole batches. */
  readonly #emit = (via: Via, to: PeerAddress, datagram: Uint8Array): void => {
    this.#send(via, to, new Uint8Array(datagram), DATAGRAM_BYTES, released);
  };

  readonly #send = (via: Via, to: PeerAddress, batch: Uint8Array, length: number, release: () => void): void => {
    this.counters.datagramsOut += length / DATAGRAM_BYTES;
    this.#host.send(via, to, batch, length, release);
  };

  // --- circuits of our own ---

  buildCircuit(
    options: BuildCircuitOptions,
    owner: SessionOwner,
    nowMs: TimeMs,
  ): { circuit: number; session: SessionApi } {
    const circuit = this.#build(options, owner, nowMs);
    return { circuit: circuit.handle, session: circuit.session };
  }

  attachCircuit(session: SessionApi, options: BuildCircuitOptions, nowMs: TimeMs): number | undefined {
    const holder = this.#sessions.get(session);
    if (holder?.ticket === undefined || holder.session.closed || holder.session.pathCount >= MAX_PATHS)
      return undefined;
    return this.#build(options, holder, nowMs).handle;
  }

  #build(options: BuildCircuitOptions, holder: SessionOwner | ClientSession, nowMs: TimeMs): ClientCircuit {
    const { hops } = options;
    const { minHops = MIN_HOPS } = this.#options;
    if (hops.length < minHops || hops.length > MAX_HOPS) {
      throw new RangeError(`a circuit has ${minHops} to ${MAX_HOPS} hops, not ${hops.length}`);
    }
    if (this.#closing) throw new Error('the engine is shutting down');
    if (options.class === 'cmix' && this.#host.cmix === undefined) {
      throw new RangeError('this node does not check the proofs of class cmix');
    }
    this.#nowMs = nowMs;
    const { train, secrets, routes, tags, fresh, firstPuzzleSolution } = buildTrain(
      this.#suite,
      this.#random,
      hops,
      {
        class: options.class,
        delayMeanUs: options.delayMeanUs,
        expiry: options.expiry,
        puzzles: hops.map((hop) => this.#puzzles.find(hop.nodeId, nowMs)),
      },
      this.#spares,
    );
    const pledged = tags.map((tag, i) => pledgedCircuit(this.#suite, secrets[i]!, routes[i]!, tag, tags[i + 1]));
    const binding = secrets.at(-1)!.binding.slice();
    const handle = ++this.#lastHandle;
    // Ahead of the train: the last hop may have it before this thread runs on.
    this.#host.onStep?.({ spec: 'Circuit', action: 'Build', of: handle, as: circuitName(this.#suite, binding) });
    const slot = this.#linkTo(hops[0]!, nowMs);
    const forwardCid = randomCid(this.#random);
    const backwardCid = randomCid(this.#random);
    const sent = sendSetup(slot.link, forwardCid, backwardCid, firstPuzzleSolution, train);
    // The train is on its way while the circuit is made. Within a call of the host's it goes with the flush behind it.
    if (sent && !this.#inside) this.#sendNow(slot, nowMs);
    const circuit = new ClientCircuit(
      this.#context,
      handle,
      hops,
      new ClientOnion(this.#suite, secrets, routes),
      fresh,
      slot,
      forwardCid,
      backwardCid,
      holder,
      binding,
      addedLatencyMs(options),
      pledged,
      nowMs,
    );
    this.#circuits.add(circuit);
    this.#clients.set(circuit.handle, circuit);
    if (!circuit.open(sent)) {
      circuit.fail(slot.link.state === 'closed' ? CircuitEnd.unreachable : CircuitEnd.limit, nowMs);
    }
    this.#markLink(slot);
    this.#wake();
    this.#sessions.set(circuit.session, circuit.holder);
    return circuit;
  }

  /** What the link's control channel has to say leaves at once, not with the next flush. */
  #sendNow(slot: LinkSlot, nowMs: TimeMs): void {
    this.#sendControl(slot, nowMs);
    if (!slot.isOpen) return;
    this.#openBatches.splice(this.#openBatches.indexOf(slot), 1);
    slot.flush();
  }

  pathStats(handle: number): PathStats | undefined {
    return this.#clients.get(handle)?.pathStats;
  }

  closeCircuit(handle: number, reason: CircuitEnd, nowMs: TimeMs): void {
    const circuit = this.#clients.get(handle);
    if (circuit === undefined) return;
    this.#nowMs = nowMs;
    this.#call(() => this.#end(circuit, reason, nowMs));
  }

  sendMessagePacket(firstHop: NodeContact, packet: Uint8Array, nowMs: TimeMs): Drop {
    if (this.#closing) return Drop.closed;
    this.#nowMs = nowMs;
    const drop = this.#messages.send(firstHop, packet, nowMs);
    this.#wake();
    return drop;
  }

  /** Runs `work` as a call of the host's, or as part of the one under way. */
  #call(work: () => void): void {
    const outermost = !this.#inside;
    this.#inside = true;
    work();
    if (!outermost) return;
    this.#inside = false;
    this.#host.onWake();
    this.#host.rethrow();
  }

  retune(tuning: EngineTuning, nowMs: TimeMs): void {
    this.#nowMs = nowMs;
    this.#call(() => {
      const { cover, messagesPerSecond } = this.#options;
      Object.assign(this.#options, tuning);
      this.#cover.retune(cover, this.#slots.values(), nowMs);
      if (tuning.messagesPerSecond !== undefined && tuning.messagesPerSecond !== messagesPerSecond) {
        this.#messages.setRate(tuning.messagesPerSecond, this.#slots.values());
      }
    });
  }

  setMixSecrets(mix: readonly MixSecrets[]): void {
    this.#admission.keys.set(mix);
  }

  shutdown(nowMs: TimeMs): void {
    this.#closing = true;
    this.#nowMs = nowMs;
    this.#call(() => {
      for (const circuit of [...this.#circuits]) this.#end(circuit, CircuitEnd.shutdown, nowMs);
      this.#served.endWaiting(CircuitEnd.shutdown);
      for (const slot of [...this.#slots.values()]) {
        slot.link.close(LinkClose.shutdown, nowMs);
        this.#markLink(slot);
      }
      this.#handshakes.wipe();
      this.#spares.wipe();
      this.#admission.keys.wipe();
    });
    this.flush(nowMs);
  }

  networkChanged(nowMs: TimeMs): void {
    this.#nowMs = nowMs;
    this.#call(() => {
      for (const slot of this.#slots.values()) {
        slot.link.migrate(nowMs);
        this.#markLink(slot);
      }
    });
  }

  // --- links ---

  #linkTo(contact: NodeContact, nowMs: TimeMs): LinkSlot {
    const key = hex(contact.nodeId);
    const present = this.#linkByNode.get(key);
    // One that is closing takes no more messages.
    if (present !== undefined && (present.link.state === 'up' || present.link.state === 'handshaking')) return present;
    const addresses = contact.addresses.filter((address) => this.#host.reaches(address));
    const link = this.#handshakes.connect({ ...contact, addresses }, nowMs, Via.dial);
    // A contact whose keys are no keys, or that can not be reached from here, gives a link that has ended already: it enters no table.
    if (link.state === 'closed') return this.#newSlot(link);
    const slot = this.#slotOf(link);
    this.#linkByNode.set(key, slot);
    this.#tellLink('handshaking', slot);
    return slot;
  }

  /** Whoever sends a packet may name any node of the view: no more links for it than there may be. */
  #messageLink(contact: NodeContact, nowMs: TimeMs): LinkSlot | undefined {
    const known = this.#linkByNode.has(hex(contact.nodeId)) || this.#slots.size < this.#options.maxLinks;
    return known ? this.#linkTo(contact, nowMs) : undefined;
  }

  #slotOf(link: Link): LinkSlot {
    let slot = this.#slots.get(link);
    if (slot === undefined) {
      slot = this.#newSlot(link);
      this.#slots.set(link, slot);
      this.#linkBytes += LINK_BYTES;
    }
    return slot;
  }

  #newSlot(link: Link): LinkSlot {
    const egress = new Egress(this.#batches, this.#send);
    return new LinkSlot(++this.#lastHandle, link, egress, this.#openBatches, this.#nowMs);
  }

  #newLinkId(): number {
    const bytes = new Uint8Array(4);
    for (;;) {
      this.#random.fill(bytes);
      const id = readLinkId(bytes);
      if (id !== 0 && !this.#linkById.has(id)) return id;
    }
  }

  #onIdsChanged(link: Link, added: readonly number[], removed: readonly number[]): void {
    if (added.length === 0 && removed.length === 0) return;
    const slot = this.#slotOf(link);
    for (const id of removed) this.#linkById.delete(id);
    for (const id of added) this.#linkById.set(id, slot);
    if (!link.initiator) this.#host.onLinkIds(added, removed);
    // A new link has timers from now on.
    if (added.length > 0) this.#markLink(slot);
  }

  #onUp(link: Link): void {
    const slot = this.#slotOf(link);
    slot.upSinceMs = this.#nowMs;
    this.#cover.linkUp(slot, this.#nowMs);
    this.#markLink(slot);
    this.#tellLink('up', slot);
    for (const circuit of slot.circuits) circuit.linkUp(slot, this.#nowMs);
    this.#messages.linkUp(slot);
  }

  #onAnswered(link: Link, moved: boolean): void {
    for (const circuit of this.#slots.get(link)?.circuits ?? []) {
      if (circuit instanceof ClientCircuit) circuit.linkAnswered(this.#nowMs, moved);
    }
  }

  #onLinkClosed(link: Link, reason: string): void {
    const slot = this.#slots.get(link);
    if (slot === undefined) return;
    this.#slots.delete(link);
    this.#timers.remove(slot);
    this.#cover.linkClosed(slot);
    this.#messages.linkClosed(slot);
    this.#cmix.linkClosed(slot);
    if (link.nodeId !== undefined) {
      const key = hex(link.nodeId);
      if (this.#linkByNode.get(key) === slot) this.#linkByNode.delete(key);
    }
    for (const circuit of [...slot.circuits]) {
      try {
        circuit.linkLost(slot, this.#nowMs);
      } catch (error) {
        this.#host.failed(error);
      }
    }
    this.#tellLink('closed', slot, reason);
  }

  #onMessage(link: Link, type: number, body: Uint8Array): void {
    const slot = this.#slotOf(link);
    const drop =
      type === LinkMessage.cover
        ? this.#cover.handleMessage(slot, body, this.#nowMs)
        : type === LinkMessage.batch
          ? this.#cmix.handleMessage(slot, body, this.#nowMs)
          : type === LinkMessage.pledges
            ? this.#cmix.handlePledges(slot, body)
            : this.#admission.handleMessage(slot, type, body, this.#nowMs);
    if (drop !== Drop.none) this.counters.drops[drop]!++;
    this.#markLink(slot);
  }

  #tellLink(kind: LinkEvent['kind'], slot: LinkSlot | undefined, reason?: string): void {
    if (slot === undefined) return;
    const { link } = slot;
    this.#host.onLink({
      kind,
      link: slot.handle,
      initiator: link.initiator,
      nodeId: link.nodeId,
      address: link.address,
      rttMs: link.rttMs,
      reason,
    });
  }

  // --- what has something to do ---

  #markLink(slot: LinkSlot): void {
    if (slot.dirty) return;
    slot.dirty = true;
    this.#dirtyLinks.push(slot);
    this.#wake();
  }

  #markCircuit(circuit: EngineCircuit): void {
    if (circuit.dirty) return;
    circuit.dirty = true;
    this.#dirtyCircuits.push(circuit);
    this.#wake();
  }

  #wake(): void {
    if (!this.#inside) this.#host.onWake();
  }

  #forget(circuit: EngineCircuit): void {
    if (!this.#circuits.delete(circuit)) return;
    this.#timers.remove(circuit);
    this.#circuitBytes -= circuit.countedBytes;
    circuit.countedBytes = 0;
    if (circuit instanceof ClientCircuit) this.#clients.delete(circuit.handle);
    else if (circuit instanceof RelayCircuit) this.#relayCircuits--;
  }
}

/** By the class, one way, on average. */
function addedLatencyMs({ class: name, hops, delayMeanUs, batchMs = DEFAULT_BATCH_MS }: BuildCircuitOptions): number {
  if (name === 'mix') return hops.length * boundedDelayMs(delayMeanUs);
  return name === 'cmix' ? hops.length * batchMs : 0;
}

/** What nobody gets back. */
function released(): void {}

function copyDatagram(into: Uint8Array, buffer: Uint8Array, offset: number): void {
  into.set(buffer.subarray(offset, offset + DATAGRAM_BYTES));
}

function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}
