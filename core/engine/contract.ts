/**
 * What the engine needs from outside and what it tells the outside. The engine (core/engine/engine.ts) is one
 * node's whole packet machine: links, circuits, sessions. It is pure; a pump or a simulator gives it datagrams
 * and time, and takes batches of datagrams and events from it.
 */
import type { Drop } from '../drop-reason.ts';
import type { PeerAddress, TimeMs, UnixSeconds } from '../ports.ts';
import type { SessionApi } from '../stream/contract.ts';

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
}

/** Events for the owner. All come between the engine's own calls' begin and end, never on their own. */
export interface EngineHost {
  /**
   * Sends `length` bytes (a multiple of 1280, at most 51 of them) of `batch` to `to`. The batch is the host's until it
   * calls `release()`.
   */
  send(to: PeerAddress, batch: Uint8Array, length: number, release: () => void): void;
  /** Finds a node by NodeID in the verified view; undefined = unknown, the set-up is refused. */
  resolve(nodeId: Uint8Array): NodeContact | undefined;
  /** A link came up, was rekeyed, or ended. `nodeId` is undefined for anonymous initiators. */
  onLink(event: LinkEvent): void;
  /** A client circuit of ours is ready (the last hop's reply verified), or ended. */
  onCircuit(event: ClientCircuitEvent): void;
  /** We are the last hop of a new circuit: serve its session. */
  onIncomingSession(session: SessionApi, circuit: number): void;
  onIncomingSessionEnd(session: SessionApi, circuit: number, reason: CircuitEnd): void;
  /** Wall clock, for expiries. */
  unixSeconds(): UnixSeconds;
}

export interface LinkEvent {
  readonly kind: 'handshaking' | 'up' | 'rekeyed' | 'closed';
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
      /** The hop that said so, as far as one can tell (0 = the first). */
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
  controlIn: number;
  controlOut: number;
  setups: number;
  /** Drops by reason, indexed by Drop. */
  readonly drops: Float64Array;
}

export type { Drop, TimeMs };
