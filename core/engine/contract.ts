/**
 * What the engine needs from outside and what it tells the outside. The engine (core/engine/engine.ts) is one
 * node's whole packet machine: links, circuits, sessions. It is pure; a pump or a simulator gives it datagrams
 * and time, and takes batches of datagrams and events from it.
 */
import type { Drop } from '../drop-reason.ts';
import type { Cheat } from '../mix/batch-evidence.ts';
import type { BatchQueueOptions } from '../mix/batch-queue.ts';
import type { BatchRules } from '../mix/batch-records.ts';
import type { BatchJob, BatchProgress, CheckJob, Verdict } from '../mix/batch-work.ts';
import type { CoverOptions } from '../mix/cover.ts';
import type { PeerAddress, TimeMs, UnixSeconds } from '../ports.ts';
import type { PathStats, SessionApi, SessionHost, SessionOptions } from '../stream/contract.ts';

/** What one needs to know of a node to open a link to it and to make it a hop. From its verified descriptor. */
export interface NodeContact {
  /** 32 bytes. */
  readonly nodeId: Uint8Array;
  /** Addresses to reach it at, in order of preference. */
  readonly addresses: readonly PeerAddress[];
  readonly linkX25519: Uint8Array;
  readonly linkKem: Uint8Array;
  /** Mix keys by epoch, newest last. */
  readonly mixKeys: readonly MixPublicKeys[];
}

export interface MixPublicKeys {
  readonly epoch: number;
  readonly x25519: Uint8Array;
  readonly kem: Uint8Array;
}

/** A node's own secrets for one epoch. Seeds, so that they cross a thread boundary and are wiped by the receiver. */
export interface MixSecrets {
  readonly epoch: number;
  /** 32 bytes. */
  readonly x25519Secret: Uint8Array;
  /** 64 bytes (d ‖ z). */
  readonly kemSeed: Uint8Array;
}

export interface NodeSecrets {
  readonly nodeId: Uint8Array;
  readonly linkX25519Secret: Uint8Array;
  readonly linkKemSeed: Uint8Array;
  readonly mix: readonly MixSecrets[];
}

export type CircuitClass = 'fast' | 'mix' | 'cmix';

/** Why a circuit or its set-up ended. Numbers go on the wire (DESTROY, SETUP_REFUSED). */
export const CircuitEnd = {
  requested: 0,
  linkLost: 1,
  unreachable: 2,
  refused: 3,
  puzzle: 4,
  limit: 5,
  expired: 6,
  shutdown: 7,
  protocol: 8,
  timeout: 9,
  memory: 10,
} as const;
export type CircuitEnd = (typeof CircuitEnd)[keyof typeof CircuitEnd];

/** A client's circuit, from the client's side. Handles are small positive integers, unique for the engine's life. */
export interface BuildCircuitOptions {
  readonly hops: readonly NodeContact[];
  readonly class: CircuitClass;
  readonly delayMeanUs: number;
  readonly expiry: UnixSeconds;
  /** Class cmix: how long a hop holds a cell, as far as the client can know. Default 1000. */
  readonly batchMs?: number;
}

/**
 * Events for the owner. All come between the engine's own calls' begin and end, never on their own. A callback may build
 * and close circuits and use sessions; flush() within one does nothing but ask for another, handleDatagrams() throws.
 * What a callback throws comes out of the engine's call once its work is done.
 */
export interface EngineHost {
  /**
   * Sends `length` bytes (a multiple of 1280, at most 51 of them) of `batch` to `to`. The batch is the host's until it
   * calls `release()`. `via` says which socket: links keep the one they began on.
   */
  send(via: Via, to: PeerAddress, batch: Uint8Array, length: number, release: () => void): void;
  /** Finds a node by NodeID in the verified view; undefined = unknown, the set-up is refused. */
  resolve(nodeId: Uint8Array): NodeContact | undefined;
  /** Can this machine send to such an address at all? Links are opened to no other. Default: to all. */
  reaches?(address: PeerAddress): boolean;
  /** A link came up, was rekeyed, or ended. `nodeId` is undefined for anonymous initiators. */
  onLink(event: LinkEvent): void;
  /** Receive ids (as readLinkId() gives them) under which we hear accepted links came into use, or went out of it. */
  onLinkIds?(added: readonly number[], removed: readonly number[]): void;
  /**
   * A datagram (1280 bytes, borrowed) under a link id that is not ours, from whoever. What has become of it: `none` = the host knows
   * somebody who holds that link. Default: dropped as `unknownLink`.
   */
  onForeign?(linkId: number, datagram: Uint8Array, via: Via, from: PeerAddress): Drop;
  /** A client circuit of ours is ready (the last hop's reply verified), or ended. */
  onCircuit(event: ClientCircuitEvent): void;
  /** We are the last hop of a new circuit: serve its session. */
  onIncomingSession(session: SessionApi, circuit: number): SessionOwner;
  onIncomingSessionEnd(session: SessionApi, circuit: number, reason: CircuitEnd): void;
  /**
   * A packet of the message lane ends here. A host without this takes none: they are dropped as `notAllowed`. What the
   * event holds is borrowed until the call returns.
   */
  onMessagePacket?(event: MessagePacketEvent): void;
  /** Work came up outside the engine's own calls (a stream was written, a window opened): call flush() soon. */
  onWake(): void;
  /** Wall clock, for expiries. */
  unixSeconds(): UnixSeconds;
  /** Computes and checks the proofs of class cmix; undefined: this node has nothing to do with the class. */
  readonly cmix?: CmixHost;
  /** Told of each step that the specifications name; undefined: nobody wants to know, and none are made. */
  readonly onStep?: (step: Step) => void;
}

/**
 * An action of a module of formal/spec that this node has taken. Tests follow running nodes through the modules by it. It
 * holds no keys, but says which circuits and cells belong together: never to be kept by a node that somebody relies on.
 */
export interface Step {
  readonly spec: 'Handshake' | 'Rekey' | 'Circuit' | 'Session' | 'MixBatch';
  readonly action: string;
  /** Whose step it is: a link (as both ends name it), a circuit or batch (as this node numbers it), a cell (its digest). */
  readonly of: number | string;
  /** Circuit: what the other end calls it too. Batch: the kind of a cheat. */
  readonly as?: string;
  /** Session: circuits that it has now. Batch: its number. */
  readonly count?: number;
}

/** The work of class cmix that is too heavy for the packet machine. Answers: EngineApi.batchProgress, checked and pledged. */
export interface CmixHost {
  /** Length of a statement in the group that the host computes in. */
  readonly statementBytes: number;
  /** What the view says of batches, and what the one before it said: of neighbours both are taken. Empty: there is no view yet. */
  rules(): readonly BatchRules[];
  /** Proves a batch of ours. */
  prove(job: BatchJob): void;
  check(id: number, job: CheckJob): void;
  /** Signs what we pledge of a circuit (core/mix/circuit-pledge.ts). */
  pledge(id: number, fields: Uint8Array): void;
  /** A mix has signed what no honest one signs. `found`: by ourselves; otherwise a neighbour has told, and it is true. */
  cheated(cheat: Cheat, evidence: Uint8Array, found: boolean): void;
  /** A neighbour does not prove what it should; nobody else can be shown that. */
  suspected(nodeId: Uint8Array, counts: BatchCounts): void;
  /**
   * A mix on a circuit of ours took a cell and did not give out what it had to become, in a batch that it opened itself. If others can
   * be shown it, cheated() follows when the circuit has ended: evidence tells which link it came over and which it left by.
   */
  exchanged(nodeId: Uint8Array): void;
}

/** Cells given to neighbours that mix by batches, and got from them. */
export interface BatchCounts {
  /** In a batch, by the neighbour's proof. */
  readonly proved: number;
  /** Given, and no receipt came. */
  readonly lost: number;
  /** A receipt came, and no proof. */
  readonly withheld: number;
  /** Got, and no proof came. */
  readonly unproved: number;
  /** Proved to have been given to us, and never came: the link lost them, or the neighbour kept them. */
  readonly missed: number;
  /** Cells of our own circuits that went into a batch, or came out, and what they were on the other side did not. */
  readonly exchanged: number;
  /** Batches of later hops that we asked for, and that were not opened, or that of another cell. */
  readonly unanswered: number;
}

export interface CmixStats extends BatchCounts {
  /** Cells that wait in batches of our own. */
  readonly waiting: number;
  /** Batches of our own that have left, and their cells. */
  readonly batches: number;
  readonly cells: number;
  /** Cells of the smallest of the last 64. */
  readonly smallestRecent: number | undefined;
  /** Batches of later hops that were opened to us, and held. */
  readonly audited: number;
  /** Receipts, proofs and evidence of neighbours that were not what they have to be. */
  readonly refused: number;
  /** Batches with which a mix was shown to have cheated. */
  readonly cheats: number;
}

/**
 * What a packet of the message lane has brought to its last hop. `message`: 784 bytes, as createPacket() got them, zeros
 * behind a shorter one. `reply`: 800 bytes that openReply() takes with the keys of the reply block of that id (16 bytes).
 */
export type MessagePacketEvent =
  | { readonly kind: 'message'; readonly payload: Uint8Array }
  | { readonly kind: 'reply'; readonly replyId: Uint8Array; readonly payload: Uint8Array };

/**
 * Which of a node's sockets a datagram uses: the shared listening port, or the worker's own port for links it opens. A
 * node that listens at several addresses has 2, 3, … for the further ones.
 */
export const Via = { listen: 0, dial: 1 } as const;
export type Via = number;

/** The callbacks of a session that are its owner's; the engine itself takes key messages and sending. */
export type SessionOwner = Omit<SessionHost, 'onAttach'>;

/** The set-ups, or the packets of the message lane, seen under one epoch's mix keys (docs/protocol.md §4, §9). */
export interface SetupMemory {
  /** Remembers a tag (16 bytes, borrowed): `none` = it is new; `setupReplayed`; `limit` = no more can be kept. */
  note(tag: Uint8Array): Drop;
  /** The epoch's keys are erased: nothing is noted any more. */
  clear(): void;
  readonly memoryBytes: number;
}

export interface EngineOptions {
  readonly secrets: NodeSecrets;
  /** Accept circuits to pass on. */
  readonly relay: boolean;
  /** Accept circuits that end here. */
  readonly exit: boolean;
  /** Link handshakes as a named node (true for relays) or anonymously (clients). */
  readonly named: boolean;
  readonly maxLinks: number;
  readonly maxCircuits: number;
  /**
   * What bufferedBytes may come to. From three quarters of it on, no new circuits and links are taken; above it, the
   * circuits that hold most are ended.
   */
  readonly memoryBytes: number;
  readonly session: Partial<SessionOptions>;
  /**
   * Where the set-ups seen under an epoch's mix keys are remembered, for as long as those keys live anywhere. Default: in
   * the engine itself, which is right only where no other engine has the same keys, now or after a restart.
   */
  readonly setupMemory?: (epoch: number) => SetupMemory;
  /** The same for packets of the message lane. */
  readonly messageMemory?: (epoch: number) => SetupMemory;
  /**
   * Packets of the message lane that are looked at in a second; as many again may come in a burst. One link may have a
   * quarter of it, an anonymous client's a twentieth. Default 1000, about a tenth of a core.
   */
  readonly messagesPerSecond?: number;
  /** Set-ups a second taken without a puzzle; as many again may come in a burst. Default 1000, about a third of a core. */
  readonly setupsPerSecond?: number;
  /** Cover traffic; undefined = none. */
  readonly cover?: CoverOptions;
  /** Most cells a second that clients may have a relay send to them all the time, all together. Default 2000: 2.5 MB/s. */
  readonly coverGrantPerSecond?: number;
  /** As in LinkOptions; default 15 000. */
  readonly linkKeepAliveMs?: number;
  /** Hops of own circuits, at least. Default 3; an authority measures nodes by circuits of two (docs/adr/0026). */
  readonly minHops?: number;
  /** Takes part as a mix of class cmix, with batches of its own; undefined = circuits of the class are refused. */
  readonly cmix?: BatchQueueOptions;
  /** Cells of class mix that become due within so much of each other leave together. Default 0: each at its very time. */
  readonly mixBatchMs?: number;
}

/** What may change while the engine runs (EngineApi.retune). */
export type EngineTuning = Pick<
  EngineOptions,
  'maxLinks' | 'maxCircuits' | 'session' | 'messagesPerSecond' | 'cover' | 'coverGrantPerSecond'
>;

/** One link as the outside may see it. */
export interface LinkInfo {
  readonly link: number;
  readonly nodeId: Uint8Array | undefined;
  readonly initiator: boolean;
  readonly address: PeerAddress;
  readonly rttMs: number | undefined;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly upSinceMs: TimeMs | undefined;
  /** When the peer was heard last. A living one acknowledges a set-up within its ack delay. */
  readonly lastHeardMs: TimeMs;
  /** Share of the control segments that had to be sent again (they or what acknowledged them was lost), of the last hundred or so; undefined before the first. */
  readonly lossRatio: number | undefined;
  readonly state: 'handshaking' | 'up' | 'rekeying' | 'draining';
}

/**
 * The engine as pumps and simulators use it (implemented by core/engine/engine.ts,
 * `new Engine(options, { suite, random, host })`).
 */
export interface EngineApi {
  /** A received buffer of 1…51 glued datagrams; anything else is counted and dropped. Borrows `buffer` until it returns. */
  handleDatagrams(buffer: Uint8Array, via: Via, from: PeerAddress, nowMs: TimeMs): void;
  /** Does what is due (timers, sessions with something to send) and gives all filled batches to host.send. */
  flush(nowMs: TimeMs, paced?: boolean): void;
  /** When flush must be called at the latest (absolute; Infinity = no timer). */
  nextTimeoutMs(paced?: boolean): TimeMs;
  /**
   * When the next cell of a link in constant mode leaves. Who drives the engine by real events gives `paced: false` to flush
   * and nextTimeoutMs, and `true` to the flush of a timer that stands for this alone: else the time at which such a cell
   * leaves would show when something else happened. In virtual time every flush may be paced (the default).
   */
  nextPacedMs(): TimeMs;
  /** Starts a circuit; its session can be used at once (0-RTT). Throws RangeError for a bad number of hops. */
  buildCircuit(
    options: BuildCircuitOptions,
    owner: SessionOwner,
    nowMs: TimeMs,
  ): { circuit: number; session: SessionApi };
  /**
   * Starts another circuit, to the same last hop, for a session of ours that was ready once: beside those that it has,
   * or in the place of those that it lost (SessionOwner.onDetached). Undefined: the session can't take one (it is over, was
   * never ready, or has eight). Throws RangeError for a bad number of hops.
   */
  attachCircuit(session: SessionApi, options: BuildCircuitOptions, nowMs: TimeMs): number | undefined;
  /**
   * Sends a packet that createPacket() or useReplyBlock() made (1240 bytes, borrowed) to its first hop, over a link that is
   * opened if need be. `none`: it leaves with the next flush, or as soon as the link is up; else why not: `badLength`,
   * `noRoute`, `messageQueueFull`, `closed`. Nothing more is ever heard of it.
   */
  sendMessagePacket(firstHop: NodeContact, packet: Uint8Array, nowMs: TimeMs): Drop;
  /** What a circuit of ours is to its session. Undefined: there is no such circuit. */
  pathStats(circuit: number): PathStats | undefined;
  /** Ends a circuit; a session without another ends with it. */
  closeCircuit(circuit: number, reason: CircuitEnd, nowMs: TimeMs): void;
  /** Our own address has changed, or may have: links that we opened tell their other ends, under ids not used before. */
  networkChanged(nowMs: TimeMs): void;
  /**
   * Replaces these options, all at once. Links, circuits and sessions that there are stay, even beyond a lower limit; sessions keep the options
   * that they were made with. The mode of cover, and the rate of links in constant mode, must not change: that needs another engine.
   */
  retune(tuning: EngineTuning, nowMs: TimeMs): void;
  /** Replaces the epoch keys; those of epochs no longer given are erased. */
  setMixSecrets(mix: readonly MixSecrets[]): void;
  links(): LinkInfo[];
  readonly relayCircuits: number;
  /** Cells of class mix that wait for their time now, and all that have; `waitedMs` is how long both have waited together so far. */
  readonly mix: MixStats;
  readonly cover: CoverStats;
  readonly messages: MessageLaneStats;
  readonly cmix: CmixStats;
  /** What came of a batch that CmixHost.prove got. */
  batchProgress(progress: BatchProgress, nowMs: TimeMs): void;
  /** What came of CmixHost.check. */
  checked(id: number, verdict: Verdict, nowMs: TimeMs): void;
  /** Tells the neighbours of class cmix evidence that was verified (core/mix/batch-evidence.ts). Borrows it. */
  shareEvidence(evidence: Uint8Array, nowMs: TimeMs): void;
  /** What came of CmixHost.pledge. */
  pledged(id: number, slot: Uint8Array, nowMs: TimeMs): void;
  /** Memory of circuits, links and batches, bytes: queues, session buffers, replay windows, keys. At most a second old. */
  readonly bufferedBytes: number;
  readonly counters: EngineCounters;
  /** Closes circuits and links with a word to the peers. */
  shutdown(nowMs: TimeMs): void;
}

/** Cover on links now. */
export interface CoverStats {
  /** Links with cover, and the sum of their rates, cells a second (constant links: of all their cells). */
  readonly links: number;
  readonly cellsPerSecond: number;
  /** Constant links: real cells that wait for their turn, those that found no room, and links whose way back is constant too. */
  readonly queued: number;
  readonly overflowed: number;
  readonly granted: number;
  /** Constant links that clients have here. */
  readonly served: number;
}

export interface MixStats {
  readonly waiting: number;
  readonly released: number;
  readonly waitedMs: number;
}

/** Packets of the message lane: how many wait for their time, how many for links; how many have waited, and for how long together. */
export interface MessageLaneStats {
  readonly waiting: number;
  readonly held: number;
  readonly released: number;
  readonly waitedMs: number;
}

export interface LinkEvent {
  readonly kind: 'handshaking' | 'up' | 'rekeyed' | 'moved' | 'closed';
  readonly link: number;
  readonly initiator: boolean;
  readonly nodeId: Uint8Array | undefined;
  readonly address: PeerAddress;
  readonly rttMs?: number;
  readonly reason?: string;
}

export type ClientCircuitEvent =
  | { readonly kind: 'ready'; readonly circuit: number; readonly setupMs: number }
  | {
      readonly kind: 'ended';
      readonly circuit: number;
      readonly reason: CircuitEnd;
      /** The hop that said so, as far as one can tell (0 = the first); undefined: none, e.g. the link to the first is lost. */
      readonly hop: number | undefined;
    };

/** Counters of one engine; plain numbers, read by the owner whenever it likes. */
export interface EngineCounters {
  datagramsIn: number;
  datagramsOut: number;
  cellsForward: number;
  cellsBackward: number;
  cellsDelivered: number;
  cellsOriginated: number;
  /** Cover cells: of links, sent and received; to last hops (drop cover), sent. */
  coverOut: number;
  coverIn: number;
  coverDropOut: number;
  /** Packets of the message lane: taken, passed on, ended here, sent as their first; cover that ended here. */
  messagesIn: number;
  messagesForward: number;
  messagesDelivered: number;
  messagesOriginated: number;
  messageCoverIn: number;
  controlIn: number;
  controlOut: number;
  setups: number;
  /** Circuits ended because the engine's memory was used up. */
  shed: number;
  /** Drops by reason, indexed by Drop. */
  readonly drops: Float64Array;
}

export type { Drop, TimeMs };
