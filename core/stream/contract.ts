/**
 * The session: the end-to-end context on a circuit, which carries streams and datagrams (docs/protocol.md §5).
 * Pure: payloads and time go in, payloads and callbacks come out. This file is the session's public shape;
 * session.ts implements it.
 */
import type { FecPolicy, FecResources } from '../fec/policy.ts';
import type { FecStats } from '../fec/stats.ts';
import type { TimeMs } from '../ports.ts';
import type { Scheduler } from './path-choice.ts';
import type { PathState, SessionPath } from './session-path.ts';

/** Session and stream error codes; on the wire in CLOSE, RESET and STOP. */
export const SessionError = {
  noError: 0x00,
  protocolViolation: 0x01,
  flowControl: 0x02,
  versionMismatch: 0x03,
  pathValidationFailed: 0x05,
  internal: 0x06,
  unsupportedCapability: 0x07,
  cryptoFail: 0x10,
  // Streams: why an exit could not serve or had to end one.
  cancelled: 0x20,
  connectRefused: 0x21,
  connectTimeout: 0x22,
  hostUnreachable: 0x23,
  networkUnreachable: 0x24,
  resolveFailed: 0x25,
  exitPolicy: 0x26,
  limit: 0x27,
  idleTimeout: 0x28,
  peerReset: 0x29,
  shutdown: 0x2a,
  sessionLost: 0x2b,
} as const;
export type SessionError = (typeof SessionError)[keyof typeof SessionError];

export interface SessionOptions {
  readonly role: 'client' | 'server';
  /** Streams the peer may have open at once. Default 256. */
  readonly maxStreams: number;
  /** Receive buffer of one stream; never more than this is held for a reader that does not read. Default 4 MiB. */
  readonly streamWindowBytes: number;
  /** Receive buffer of the whole session. Default 16 MiB. */
  readonly sessionWindowBytes: number;
  /** Unsent and unacknowledged bytes a writer may have in one stream before write() accepts nothing. Default 4 MiB. */
  readonly sendBufferBytes: number;
  /** Session ends after this long without a packet from the peer. Default 60 000; 0 = never. */
  readonly idleTimeoutMs: number;
  /** A PING goes out after this long without anything sent. Default 15 000; 0 = never. */
  readonly keepAliveMs: number;
  /** Names offered in the CAPS message. */
  readonly capabilities: readonly string[];
  /**
   * Class mix: relays delay every packet on its own, so they overtake each other all the time; by about this much in a
   * round trip. Default 0: they don't.
   */
  readonly mixRttMs: number;
  /** How data is spread where the session has several paths. Default latency_weighted; a server does as its client says. */
  readonly scheduler: Scheduler;
  /**
   * Error correction: what it works with, and what is protected. A server starts with this policy and follows its client's
   * wish. Undefined (default): none, in either direction.
   */
  readonly fec: { readonly resources: FecResources; readonly policy: FecPolicy } | undefined;
}

export interface StreamTarget {
  readonly kind: 'tcp' | 'udp';
  /** Name or literal address, 1…255 bytes. Resolved at the exit, never here. */
  readonly host: string;
  readonly port: number;
}

export interface ResolvedAddress {
  readonly family: 4 | 6;
  readonly address: string;
  readonly ttlSeconds: number;
}

/** What the session tells its owner. Called synchronously from within handle*() and stream calls; must not throw. */
export interface SessionHost {
  /** Both CAPS and (client) KEYS have arrived. */
  onReady?(capabilities: readonly string[]): void;
  /** Server: the peer opened a stream to a target. */
  onStream?(stream: SessionStream): void;
  /** Server: RESOLVE; answer with session.resolved(). */
  onResolve?(requestId: number, kind: 'name' | 'address', value: string): void;
  /** `lifetimeMs`: how old its sender lets it become; undefined: it has not said. Borrows `data`. */
  onDatagram?(flowId: number, data: Uint8Array, lifetimeMs?: number): void;
  /** A datagram was too old: one of ours (`own`) before it could leave, or one of the peer's when it came. */
  onDatagramExpired?(flowId: number, own: boolean): void;
  /**
   * Server: a newcomer's path asks for a session by its id. True: that session has adopted the path. Without this
   * callback, or with false, the newcomer is refused.
   */
  onAttach?(path: SessionPath, sessionId: Uint8Array, proof: Uint8Array): boolean;
  /** Data is under way and nothing comes back: another path would help, the sooner the better. */
  onStalled?(): void;
  /** The last path is lost; the session waits for another. Without this callback it ends instead. */
  onDetached?(): void;
  /** The session is over; every stream has already been told. */
  onClose(code: number, reason: string, remote: boolean): void;
}

/** One stream. Reading and writing are pulls by the owner; the callbacks only say that it is worth trying. */
export interface SessionStream {
  readonly id: number;
  readonly target: StreamTarget;
  /** Bytes accepted (0…data.length); the rest must be offered again after onWritable. Copies what it accepts. */
  write(data: Uint8Array): number;
  /** No more writes; FIN after what was written. */
  end(): void;
  /**
   * Copies up to `into.length` contiguous bytes that have arrived, frees them and returns their number; 0 = none now.
   * Reading is what opens the flow-control window.
   */
  read(into: Uint8Array): number;
  /** Bytes that read() could return now. */
  readonly readableBytes: number;
  /** All bytes up to the peer's FIN have been read. */
  readonly readEnded: boolean;
  /** Abandons both directions: RESET and STOP with this code. */
  reset(code: number): void;
  /** Server: the target was reached from this local address. */
  connected(family: 4 | 6, address: string, port: number): void;
  onConnected?: (family: 4 | 6, address: string, port: number) => void;
  onReadable?: () => void;
  onWritable?: () => void;
  /** Ended: both directions finished (code noError, remote false), or reset by someone. Called once. */
  onClose?: (code: number, remote: boolean) => void;
  readonly stats: StreamStats;
}

export interface StreamStats {
  readonly bytesWritten: number;
  readonly bytesAcked: number;
  readonly bytesReceived: number;
  readonly bytesRetransmitted: number;
  readonly openedAtMs: TimeMs;
}

/** Of one circuit under a session. */
export interface PathStats {
  readonly path: number;
  readonly state: PathState;
  readonly smoothedRttMs: number | undefined;
  readonly minRttMs: number | undefined;
  /** Smoothed mean deviation of the round trip. */
  readonly jitterMs: number | undefined;
  readonly packetsSent: number;
  readonly packetsReceived: number;
  readonly packetsLost: number;
  readonly spuriousRetransmissions: number;
  readonly packetsInFlight: number;
  readonly windowPackets: number;
  readonly deliveredPacketsPerMs: number;
  /** Of stream data sent again on purpose (scheduler `redundant`). */
  readonly copiedBytes: number;
}

/** Sums over the paths; round trip times are those of the quickest. */
export interface SessionStats {
  readonly smoothedRttMs: number | undefined;
  readonly minRttMs: number | undefined;
  readonly packetsSent: number;
  readonly packetsReceived: number;
  readonly packetsLost: number;
  readonly spuriousRetransmissions: number;
  readonly bytesInFlight: number;
  readonly congestionWindowBytes: number;
  readonly deliveryRateBytesPerSecond: number;
  readonly streams: number;
  /** Memory held in send and receive buffers. */
  readonly bufferedBytes: number;
  /** What a stream of ours may run ahead of its oldest unacknowledged byte now; Infinity while one path carries all. */
  readonly reorderLimitBytes: number;
  /** The most that a stream of the peer has run ahead of its oldest missing byte now. */
  readonly reorderedBytes: number;
  readonly scheduler: Scheduler;
  /** Undefined: without error correction. */
  readonly fec: FecStats | undefined;
  /** Not sent, or not delivered, because they were too old. */
  readonly datagramsExpired: number;
  readonly paths: readonly PathStats[];
}

export interface SessionApi {
  /** Client. Data may be written at once; the target's answer comes in onConnected or onClose. Undefined at the stream limit. */
  openStream(target: StreamTarget): SessionStream | undefined;
  /** Client. Resolves names at the exit; the callback gets undefined on failure. */
  resolve(
    kind: 'name' | 'address',
    value: string,
    onResult: (addresses: readonly ResolvedAddress[] | undefined, name: string | undefined, code: number) => void,
  ): void;
  /** Server: answers onResolve. */
  resolved(requestId: number, code: number, addresses: readonly ResolvedAddress[], name?: string): void;
  /**
   * Unreliable; false when it does not fit (max ~1120 bytes) or the queue is full. After `lifetimeMs` (whole milliseconds;
   * default 0: no limit) it is neither sent nor, as far as the peer can tell its age, delivered.
   */
  sendDatagram(flowId: number, data: Uint8Array, lifetimeMs?: number): boolean;
  /** Client: how both ends spread data over the session's paths from now on. */
  setScheduler(scheduler: Scheduler): void;
  /** Client: error correction from now on, in both directions. Without effect where the session has none. */
  setFec(policy: FecPolicy): void;
  /** Round trip time of PING/PONG. */
  ping(onPong: (rttMs: number) => void): void;
  /** CLOSE frame, then nothing more. Streams are closed with this code. */
  close(code: number, reason: string): void;
  /** No frame can be sent any more. Streams get `code`. */
  abandon(code: number, reason: string): void;
  readonly closed: boolean;
  readonly stats: SessionStats;
}
