/**
 * What passes between the main thread (actors, API) and a pump worker (sockets, engine, sessions, proxies, exit).
 * Structured clones only. Packets never cross this boundary; API stream data does, under credit.
 */
import type { Duplex } from 'node:stream';
import type { MessagePort } from 'node:worker_threads';
import type { DropName } from '@nyx/core/drop-reason.ts';
import type {
  BatchCounts,
  CircuitClass,
  CmixStats,
  CoverStats,
  MessageLaneStats,
  MessagePacketEvent,
  MixSecrets,
  NodeContact,
  NodeSecrets,
} from '@nyx/core/engine/contract.ts';
import type { FecPolicy } from '@nyx/core/fec/policy.ts';
import type { FecStats } from '@nyx/core/fec/stats.ts';
import type { BatchRules } from '@nyx/core/mix/batch-records.ts';
import type { LoopAlarm, LoopStats } from '@nyx/core/mix/loop-monitor.ts';
import type { ResolvedAddress } from '@nyx/core/stream/contract.ts';
import type { Scheduler } from '@nyx/core/stream/path-choice.ts';
import type { PathState } from '@nyx/core/stream/session-path.ts';
import type { AddressFamilies } from '../io/own-reach.ts';
import type { SetupLog } from './setup-memory.ts';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface ExitOptions {
  /** Rules in order, first match decides: e.g. `accept *:80`, `reject 10.0.0.0/8:*`. The last rule is the default. */
  readonly policy: readonly string[];
  /** Allow loopback, private, link-local and other special ranges as targets (local test networks). */
  readonly allowPrivate: boolean;
  readonly maxStreamsPerCircuit: number;
  readonly connectTimeoutMs: number;
  readonly idleTimeoutMs: number;
  /** The same, once one side has ended. */
  readonly halfClosedTimeoutMs: number;
  /** Resolver addresses; empty = the system's. */
  readonly dnsServers: readonly string[];
}

export interface PumpOptions {
  /** 0-based; worker 0 also owns what must exist once. */
  readonly worker: number;
  readonly roles: {
    readonly client: boolean;
    readonly mix: boolean;
    readonly exit: boolean;
    readonly mailbox?: boolean;
  };
  /** Where links are accepted; empty = client only. */
  readonly listen: readonly ListenAddress[];
  /** Which addresses links are opened to. Default `auto`. */
  readonly addressFamilies?: AddressFamilies;
  /** `listen`, `socks` and `httpConnect` are shared with other workers (SO_REUSEPORT). Default false: taken is an error. */
  readonly reusePort?: boolean;
  readonly udp: 'auto' | 'gso' | 'plain';
  readonly socks: ListenAddress | undefined;
  readonly httpConnect: ListenAddress | undefined;
  /** The proxies may listen beyond loopback. Default false. */
  readonly allowRemoteProxies?: boolean;
  readonly exit: ExitOptions | undefined;
  /** Circuits may end here without an exit: an authority measures by them, and they open nothing. Default false. */
  readonly endsMeasurements?: boolean;
  readonly secrets: NodeSecrets;
  /** Where all workers of the node say which links they hold (link-table.ts). Undefined: this is the only one. */
  readonly linkTable?: SharedArrayBuffer;
  /** Logs of the epochs in `secrets`, common to all workers. Without them a worker remembers set-ups and messages for itself. */
  readonly setupLogs?: readonly SetupLog[];
  readonly limits: PumpLimits;
  readonly defaultHops: number;
  /** Circuits of the default length that a client's worker keeps ready. */
  readonly spareCircuits: number;
  readonly mix: MixOptions;
  readonly cmix: CmixOptions;
  readonly multipath: MultipathOptions;
  readonly fec: FecOptions;
  readonly cover: CoverConfig;
  /** Debug builds of a test network only: lets the API crash this worker on purpose. */
  readonly allowCrash: boolean;
  /** Of the configuration that these options are from. Default 1. */
  readonly generation?: number;
}

/** What of its options a running worker can change to, all of it at once (live-tuning.ts). */
export interface PumpTuning
  extends Pick<
    PumpOptions,
    'exit' | 'limits' | 'defaultHops' | 'spareCircuits' | 'mix' | 'multipath' | 'fec' | 'cover'
  > {
  readonly generation: number;
  /** Of circuits of class cmix. */
  readonly cmixHops: number;
}

/** Class cmix: as a mix, and for circuits that this client builds. */
export interface CmixOptions {
  /** This relay mixes by batches. */
  readonly enabled: boolean;
  /** After this a batch leaves that is not full. */
  readonly maxWaitMs: number;
  /** When the application does not say. */
  readonly hops: number;
  /** The key that signs batches, for this worker's life only. Undefined: this node mixes for nobody. */
  readonly signer: { readonly certificate: Uint8Array; readonly seed: Uint8Array } | undefined;
}

/** Circuits of class mix that this client builds. */
export interface MixOptions {
  /** When the application does not say. */
  readonly hops: number;
  /** How long every hop holds a packet on average. */
  readonly delayMs: number;
}

/** When the application does not say. */
export interface MultipathOptions {
  /** Circuits under a session, 1…8. */
  readonly paths: number;
  readonly strategy: Scheduler;
}

export interface FecOptions {
  /** Of own streams when the application does not say. */
  readonly policy: FecPolicy;
  /** What coding may take of a core, for all sessions of the worker; 0 = this node does not correct errors for anybody. */
  readonly cpuShare: number;
}

/** Cover traffic of this node; what the keys mean: docs/operating.md. */
export interface CoverConfig {
  readonly mode: 'off' | 'adaptive' | 'constant';
  readonly ratio: number;
  readonly baseCellsPerSecond: number;
  readonly constantCellsPerSecond: number;
  readonly dropCellsPerSecond: number;
  readonly loopsPerMinute: number;
  /** 0 = no limit. */
  readonly budgetBytesPerHour: number;
  readonly lowPower: boolean;
  readonly grantCellsPerSecond: number;
}

export interface PumpLimits {
  readonly maxLinks: number;
  readonly maxCircuits: number;
  readonly maxSessions: number;
  /** Packets of the message lane that are opened, and as many in a burst. */
  readonly messagesPerSecond: number;
  /** All buffers of the worker together; at the limit the oldest queues are shed first. */
  readonly memoryBytes: number;
}

export interface PathConstraints {
  readonly hops: number;
  readonly class: CircuitClass;
  /** The last hop has to be an exit; with a target, one whose policy allows it. Undefined: any exit. */
  readonly needExit: { readonly host: string; readonly port: number } | undefined;
  /** Explicit path (NodeIDs, hex), for tests and the API. */
  readonly nodeIds?: readonly string[];
  /** NodeID (hex) that the path has to end at: the last hop of a session that needs another circuit. */
  readonly lastHop?: string;
  /** Never in the path (NodeIDs, hex): other circuits of the session have them, or whoever sends over it is one. */
  readonly apartFrom?: readonly string[];
  /** The first hop may be any node: somebody else sends over the path, who must not learn our guards. */
  readonly withoutGuards?: boolean;
  /** Left out as far as there are others (NodeIDs, hex; the likeliest to be gone last): a path over them does not answer at the moment. */
  readonly avoid?: readonly string[];
  /** Later hops of paths that do not answer, or have not yet: others than over all of one of these, if there are any. */
  readonly tried?: readonly (readonly string[])[];
}

export interface StreamRequest {
  readonly target: { readonly kind: 'tcp'; readonly host: string; readonly port: number };
  readonly options: DialOptions;
}

export interface DialOptions {
  /** 3…7; undefined = the daemon's default. */
  readonly hops?: number;
  readonly class?: CircuitClass;
  /** Streams with different keys never share a circuit. */
  readonly isolation?: string;
  /** Circuits without a common node but the last that carry it together, 1…8; undefined = as configured. */
  readonly paths?: number;
  /** How it is spread over them. */
  readonly strategy?: Scheduler;
  /** Datagrams: how old one may become before it is neither sent nor delivered, 1…60 000; undefined = no limit. */
  readonly deadlineMs?: number;
  /** Error correction, both ways; undefined = as configured. */
  readonly fec?: FecPolicy;
  /** Use this ready circuit (from buildPath) and no other. */
  readonly circuit?: number;
  readonly timeoutMs?: number;
}

/** Errors that cross the boundary, and reach SOCKS replies, gRPC details and the SDK under the same code. */
export const DialErrorCode = {
  noPath: 'NO_PATH',
  pathFailed: 'PATH_FAILED',
  timeout: 'TIMEOUT',
  refused: 'CONNECTION_REFUSED',
  hostUnreachable: 'HOST_UNREACHABLE',
  networkUnreachable: 'NETWORK_UNREACHABLE',
  resolveFailed: 'RESOLVE_FAILED',
  exitPolicy: 'EXIT_POLICY',
  limit: 'LIMIT',
  reset: 'RESET',
  sessionLost: 'SESSION_LOST',
  cancelled: 'CANCELLED',
  badRequest: 'BAD_REQUEST',
  shutdown: 'SHUTDOWN',
  internal: 'INTERNAL',
} as const;
export type DialErrorCode = (typeof DialErrorCode)[keyof typeof DialErrorCode];

export class DialError extends Error {
  readonly code: DialErrorCode;
  constructor(code: DialErrorCode, message: string) {
    super(message);
    this.name = 'DialError';
    this.code = code;
  }
}

/** A stream through the network, as the proxies and the API see it. */
export interface NyxConnection {
  /** Bytes both ways; back-pressure and half-close as a socket's. Destroyed with a DialError on failure. */
  readonly duplex: Duplex;
  /** Settles when the exit has reached the target: the address it connected from; rejects with DialError. */
  readonly connected: Promise<{ readonly address: string; readonly port: number; readonly family: 4 | 6 }>;
  /** Node ids of the circuit's hops (hex), once known. */
  readonly path: () => readonly string[];
  /** Engine handle of the circuit. */
  readonly circuit: () => number | undefined;
  /** What the class adds to the latency one way, on average. */
  readonly addedLatencyMs: number;
  /** As listed in StreamInfo. */
  readonly id?: number;
  /**
   * From now on the duplex may read into memory that it uses again: `isTaken` says, when a 'data' event returns, whether
   * the reader is done with the bytes of all events so far.
   */
  lendReads?(isTaken: () => boolean): void;
}

/** A UDP association through the network (SOCKS5 UDP ASSOCIATE, SDK datagrams). */
export interface NyxDatagrams {
  /** False: dropped (queue full or too large). `deadlineMs` as in DialOptions, 0 = none; undefined = as dialled. */
  send(host: string, port: number, data: Uint8Array, deadlineMs?: number): boolean;
  onMessage: ((host: string, port: number, data: Uint8Array) => void) | undefined;
  onClose: ((error: DialError | undefined) => void) | undefined;
  close(): void;
}

/** What became of the datagrams of an association, as far as this side can know; `exit…`: by the exit's word, which is up to a second old. */
export interface DatagramCounts {
  /** Taken for sending. */
  readonly sent: number;
  /** Of them: too old before they could leave. */
  readonly expiredSending: number;
  /** Not taken: too many at once. */
  readonly droppedSending: number;
  readonly received: number;
  /** Too old when they came. */
  readonly expiredReceiving: number;
  /** Not read in time. */
  readonly droppedReceiving: number;
  /** Of those sent: reached the exit. */
  readonly exitArrived: number;
  /** Of them: too old when they came there. */
  readonly exitExpired: number;
  /** Of them: not sent on for another reason; policy, no such name, no room. */
  readonly exitDropped: number;
  /** Answers that the exit could not send back. */
  readonly exitAnswersDropped: number;
}

/** What the proxies and the API bridge need of the session manager in their worker. */
export interface Dialer {
  connect(
    target: { readonly host: string; readonly port: number },
    options: DialOptions,
    signal?: AbortSignal,
  ): NyxConnection;
  datagrams(options: DialOptions): Promise<NyxDatagrams>;
  resolve(
    kind: 'name' | 'address',
    value: string,
    options: DialOptions,
  ): Promise<{ addresses: readonly ResolvedAddress[]; name: string | undefined }>;
}

/**
 * Bytes of one API stream that may be under way across the boundary, in each direction. The receiver gives credit back
 * (`stream-credit`) as they are consumed; a sender without credit waits.
 */
export const STREAM_CREDIT_BYTES = 1024 * 1024;

/**
 * Datagrams of one API association that may be under way across the boundary, in each direction. Credit goes back in
 * steps; without it a datagram is dropped and counted, for it is worth nothing later.
 */
export const DATAGRAM_CREDIT = 256;
export const DATAGRAM_CREDIT_STEP = 64;

/** A packet of the message lane (1240 bytes) and the node that it goes to first. */
export interface OutgoingPacket {
  readonly firstHop: NodeContact;
  readonly packet: Uint8Array;
}

/** A node's own service on a circuit that ends at it, by the name and port that a client asks for (core/messages). */
export interface ServiceName {
  readonly host: string;
  readonly port: number;
}

export type ToPump =
  /** Replaces all contacts. `more`: the rest follows in messages of the same kind, and nothing changes until the last. */
  | {
      readonly type: 'view';
      readonly contacts: readonly NodeContact[];
      readonly more?: boolean;
      readonly first?: boolean;
      /** What the view says of class cmix. Undefined: nothing yet. */
      readonly batches?: BatchRules | undefined;
    }
  /** The way to another worker, for datagrams of its links. */
  | { readonly type: 'neighbour'; readonly worker: number; readonly port: MessagePort }
  | { readonly type: 'mix-secrets'; readonly mix: readonly MixSecrets[]; readonly setupLogs?: readonly SetupLog[] }
  /** The answer is `configured`, with the generation that the worker goes by then. */
  | { readonly type: 'configure'; readonly request: number; readonly tuning: PumpTuning }
  | { readonly type: 'path'; readonly request: number; readonly hops: readonly NodeContact[] }
  | { readonly type: 'path-error'; readonly request: number; readonly code?: DialErrorCode; readonly message: string }
  | {
      readonly type: 'build';
      readonly request: number;
      readonly constraints: PathConstraints;
      readonly hops: readonly NodeContact[];
    }
  | { readonly type: 'close-circuit'; readonly circuit: number }
  /** Ends any client stream of the worker, by its id in StreamInfo, with CANCELLED. */
  | { readonly type: 'close-stream'; readonly id: number }
  /** Evidence against a mix, verified: for the neighbours. */
  | { readonly type: 'share-evidence'; readonly evidence: Uint8Array }
  | { readonly type: 'stats'; readonly request: number }
  | {
      readonly type: 'resolve';
      readonly request: number;
      readonly kind: 'name' | 'address';
      readonly value: string;
      readonly options: DialOptions;
    }
  | { readonly type: 'stream-open'; readonly stream: number; readonly request: StreamRequest }
  | { readonly type: 'stream-data'; readonly stream: number; readonly data: Uint8Array }
  | { readonly type: 'stream-credit'; readonly stream: number; readonly bytes: number }
  | { readonly type: 'stream-end'; readonly stream: number }
  | { readonly type: 'stream-reset'; readonly stream: number; readonly code: DialErrorCode }
  | { readonly type: 'datagrams-open'; readonly association: number; readonly options: DialOptions }
  | {
      readonly type: 'datagram';
      readonly association: number;
      readonly host: string;
      readonly port: number;
      readonly data: Uint8Array;
      readonly deadlineMs: number | undefined;
    }
  | { readonly type: 'datagrams-credit'; readonly association: number; readonly datagrams: number }
  /** The answer is `datagrams-counts`, after all that was sent before has been taken or dropped. */
  | { readonly type: 'datagrams-count'; readonly association: number }
  | { readonly type: 'datagrams-close'; readonly association: number }
  /** Sends packets of the message lane, at once. The answer is `packets-sent`. */
  | { readonly type: 'send-packets'; readonly request: number; readonly packets: readonly OutgoingPacket[] }
  /** To a service's client; `end`: nothing follows. */
  | { readonly type: 'service-data'; readonly service: number; readonly data: Uint8Array; readonly end: boolean }
  /** So many bytes of a service's client are dealt with. */
  | { readonly type: 'service-credit'; readonly service: number; readonly bytes: number }
  | { readonly type: 'drain'; readonly timeoutMs: number }
  | { readonly type: 'crash' };

export type FromPump =
  | {
      readonly type: 'ready';
      readonly listen: readonly ListenAddress[];
      readonly socks: ListenAddress | undefined;
      readonly httpConnect: ListenAddress | undefined;
      readonly udpMode: 'gso' | 'plain';
      readonly generation: number;
    }
  | { readonly type: 'configured'; readonly request: number; readonly generation: number }
  | {
      readonly type: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields?: Record<string, unknown>;
    }
  | {
      readonly type: 'link';
      readonly kind: 'handshaking' | 'up' | 'rekeyed' | 'moved' | 'closed';
      readonly link: number;
      readonly initiator: boolean;
      readonly nodeId: string | undefined;
      readonly address: string;
      readonly rttMs?: number;
      readonly reason?: string;
    }
  | {
      readonly type: 'circuit';
      readonly kind: 'building' | 'ready' | 'ended';
      readonly circuit: number;
      readonly path: readonly string[];
      readonly setupMs?: number;
      readonly reason?: string;
      readonly hop?: number;
    }
  /**
   * The circuits under a session have changed: one more than before, one less, one in the place of a lost one, or one
   * for a session that had none or heard nothing.
   */
  | {
      readonly type: 'path';
      readonly kind: 'added' | 'lost' | 'replaced' | 'resumed';
      /** The session's first circuit. */
      readonly session: number;
      readonly circuit: number;
      readonly path: readonly string[];
      /** Circuits that carry it now. */
      readonly paths: number;
      readonly reason?: string;
    }
  /** A session of ours began when its first circuit answered, waits for another circuit, goes on over one, or is over. */
  | {
      readonly type: 'session';
      readonly kind: 'opened' | 'resuming' | 'carried' | 'closed';
      /** Its first circuit. */
      readonly session: number;
      readonly reason?: string;
    }
  | {
      readonly type: 'stream';
      readonly kind: 'opened' | 'connected' | 'closed';
      readonly stream: StreamInfo;
      readonly reason?: string;
    }
  /** The loops say that somebody drops or holds back cells, or that it is over. */
  | {
      readonly type: 'cover';
      readonly kind: 'alarm' | 'all-clear';
      readonly alarm: LoopAlarm;
      readonly loops: LoopStats;
    }
  /** A mix of class cmix was shown to cheat; the evidence is verified. */
  | {
      readonly type: 'cheat';
      readonly nodeId: string;
      readonly kind: string;
      readonly batch: number;
      readonly evidence: Uint8Array;
      /** By this worker; otherwise a neighbour told it. */
      readonly found: boolean;
    }
  /** A mix of class cmix does not prove what it should, which can't be shown to others. */
  | { readonly type: 'suspect'; readonly nodeId: string; readonly counts: BatchCounts }
  /** A mix of class cmix on a circuit of ours took a cell and gave out another: sure, and known to this node alone. */
  | { readonly type: 'exchanged'; readonly nodeId: string }
  | { readonly type: 'path-request'; readonly request: number; readonly constraints: PathConstraints }
  | {
      readonly type: 'built';
      readonly request: number;
      readonly circuit: number;
      readonly path: readonly string[];
      readonly setupMs: number;
      readonly addedLatencyMs: number;
    }
  | {
      readonly type: 'resolved';
      readonly request: number;
      readonly addresses: readonly ResolvedAddress[];
      readonly name: string | undefined;
    }
  | {
      readonly type: 'request-failed';
      readonly request: number;
      readonly code: DialErrorCode;
      readonly message: string;
    }
  /** The first answer to stream-open: the id under which the stream is listed. */
  | { readonly type: 'stream-opened'; readonly stream: number; readonly id: number; readonly addedLatencyMs: number }
  | {
      readonly type: 'stream-connected';
      readonly stream: number;
      readonly circuit: number;
      readonly path: readonly string[];
      readonly address: string;
      readonly port: number;
    }
  | { readonly type: 'stream-data'; readonly stream: number; readonly data: Uint8Array }
  | { readonly type: 'stream-credit'; readonly stream: number; readonly bytes: number }
  | { readonly type: 'stream-end'; readonly stream: number }
  | {
      readonly type: 'stream-closed';
      readonly stream: number;
      readonly code: DialErrorCode | undefined;
      readonly message: string;
    }
  | {
      readonly type: 'datagrams-opened';
      readonly association: number;
      readonly circuit: number;
      readonly path: readonly string[];
      /** The exit's side. */
      readonly address: string;
      readonly port: number;
      readonly addedLatencyMs: number;
    }
  /** From that address. */
  | {
      readonly type: 'datagram';
      readonly association: number;
      readonly host: string;
      readonly port: number;
      readonly data: Uint8Array;
    }
  | { readonly type: 'datagrams-credit'; readonly association: number; readonly datagrams: number }
  | { readonly type: 'datagrams-counts'; readonly association: number; readonly counts: DatagramCounts }
  | {
      readonly type: 'datagrams-closed';
      readonly association: number;
      readonly code: DialErrorCode | undefined;
      readonly message: string;
    }
  /** What became of each packet: `none` = it leaves, or will once its link is up. */
  | { readonly type: 'packets-sent'; readonly request: number; readonly drops: readonly DropName[] }
  /** Somebody asks for this node's service; then his bytes, then that he is gone. */
  | { readonly type: 'service-opened'; readonly service: number }
  | { readonly type: 'service-data'; readonly service: number; readonly data: Uint8Array }
  | { readonly type: 'service-closed'; readonly service: number }
  /** A packet of the message lane ended at this node. The bytes are the receiver's. */
  | { readonly type: 'message-packet'; readonly event: MessagePacketEvent }
  | { readonly type: 'stats'; readonly request: number; readonly stats: PumpStats }
  | { readonly type: 'drained'; readonly closedStreams: number };

/** A client stream as the API lists it. Ids are unique per worker: `worker * 2^32 + n`. */
export interface StreamInfo {
  readonly id: number;
  readonly target: string;
  readonly source: 'socks' | 'http-connect' | 'api';
  readonly circuit: number | undefined;
  readonly path: readonly string[];
  readonly openedAtUnixMs: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Of those sent: that the exit has, and that had to be sent again. */
  readonly bytesAcknowledged: number;
  readonly bytesRetransmitted: number;
  readonly state: 'opening' | 'open' | 'closing' | 'closed';
}

export interface PumpStats {
  /** Of the configuration that the worker goes by. */
  readonly generation: number;
  readonly datagramsIn: number;
  readonly datagramsOut: number;
  readonly cellsForward: number;
  readonly cellsBackward: number;
  readonly cellsDelivered: number;
  readonly cellsOriginated: number;
  readonly setups: number;
  /** By name of the reason. */
  readonly drops: Readonly<Record<string, number>>;
  readonly links: readonly {
    readonly link: number;
    readonly nodeId: string | undefined;
    readonly initiator: boolean;
    readonly rttMs: number | undefined;
    readonly lossRatio: number | undefined;
    readonly bytesIn: number;
    readonly bytesOut: number;
    readonly upSinceUnixMs: number;
    readonly state: 'handshaking' | 'up' | 'rekeying' | 'draining';
  }[];
  readonly relayCircuits: number;
  /** Cells of class mix: how many wait now, how many have, and for how long together. */
  readonly mixWaiting: number;
  readonly mixReleased: number;
  readonly mixWaitedMs: number;
  /** Cover cells: of links, sent and received; to last hops, sent. */
  readonly coverOut: number;
  readonly coverIn: number;
  readonly coverDropOut: number;
  readonly cover: CoverStats;
  readonly cmix: CmixStats;
  /** How long the delay of our last batch took; undefined: none yet. */
  readonly cmixDelayMs: number | undefined;
  /** Packets of the message lane: taken, passed on, ended here, sent as their first, cover that ended here; and those that wait. */
  readonly messagesIn: number;
  readonly messagesForward: number;
  readonly messagesDelivered: number;
  readonly messagesOriginated: number;
  readonly messageCoverIn: number;
  readonly messages: MessageLaneStats;
  /** Undefined: this node sends no loops. */
  readonly loops: LoopStats | undefined;
  /** Error correction of all sessions that were or are here, by FecCounters. */
  readonly fecSourcesSent: number;
  readonly fecRepairsSent: number;
  readonly fecRepairsReceived: number;
  readonly fecRepairsUsed: number;
  readonly fecRepairsWasted: number;
  readonly fecRepairsRejected: number;
  readonly fecPacketsRecovered: number;
  readonly fecRecoveredByPeer: number;
  readonly fecOverBudget: number;
  readonly exitStreams: number;
  /** Sockets the exit opened, ever. */
  readonly exitSocketsOpened: number;
  /** Of UDP associations that end here, either way: too old, not allowed, no room. */
  readonly exitDatagramsDropped: number;
  readonly clientCircuits: readonly {
    readonly circuit: number;
    readonly path: readonly string[];
    readonly class: CircuitClass;
    /** One way, on average. */
    readonly addedLatencyMs: number;
    readonly state: 'building' | 'ready';
    readonly setupMs: number | undefined;
    readonly rttMs: number | undefined;
    readonly streams: number;
    readonly bytesSent: number;
    readonly bytesReceived: number;
    readonly deliveryRateBytesPerSecond: number;
    readonly lossRatio: number;
    /** Packets that were sent again and had only been late, of all sent. */
    readonly spuriousRatio: number;
    readonly ageMs: number;
    readonly wantedPaths: number;
    readonly strategy: Scheduler;
    /** Undefined: this node does not correct errors. */
    readonly fec: FecStats | undefined;
    /** Bytes of a stream that have come out of order now; and what may at the other end (undefined: one path alone carries). */
    readonly reorderedBytes: number;
    readonly reorderLimitBytes: number | undefined;
    /** Each circuit under the session. */
    readonly paths: readonly {
      readonly circuit: number;
      readonly path: readonly string[];
      readonly state: 'building' | PathState;
      readonly setupMs: number | undefined;
      readonly ageMs: number;
      readonly rttMs: number | undefined;
      readonly minRttMs: number | undefined;
      readonly jitterMs: number | undefined;
      readonly lossRatio: number;
      readonly packetsSent: number;
      readonly packetsReceived: number;
      readonly packetsInFlight: number;
      readonly windowPackets: number;
      readonly deliveryRateBytesPerSecond: number;
      /** Sent on purpose although another path had sent it. */
      readonly copiedBytes: number;
    }[];
  }[];
  readonly streams: readonly StreamInfo[];
  readonly bufferedBytes: number;
  /** Circuits and sessions ended because the worker's memory was used up. */
  readonly shedTotal: number;
  /** Datagrams of links that another worker holds. */
  readonly handedOver: number;
  /** Datagrams that the kernel refused to send. */
  readonly sendErrors: number;
  readonly cpuSeconds: number;
  readonly udpMode: 'gso' | 'plain';
}
