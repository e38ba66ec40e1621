/**
 * What links offer the engine and what they ask of it (docs/protocol.md §2). Links are pure: time is an argument,
 * datagrams are borrowed buffers, nothing happens outside the caller's own calls.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { Drop } from '../drop-reason.ts';
import type { NodeContact, Via } from '../engine/contract.ts';
import type { PeerAddress, Random, TimeMs } from '../ports.ts';
import type { Link } from './link.ts';

/**
 * `handshaking`: opened by us, no keys yet; `send` queues, datagrams under its id go to `handleHandshake`.
 * `up`: cells flow. `draining`: closing, the last control cells still go out. `closed`: no keys, no ids.
 * An accepted link is `up` at once (it can open cells) but reported by `onUp` only when its initiator has proved
 * itself with a first valid control cell.
 */
export type LinkState = 'handshaking' | 'up' | 'draining' | 'closed';

/** Message types of the control channel (docs/protocol.md §2.3). Types 4 to 6 and 8 stay inside the link. */
export const LinkMessage = {
  setup: 1,
  destroy: 2,
  setupRefused: 3,
  rekeyInit: 4,
  rekeyResponse: 5,
  close: 6,
  /** Asks the responder for a constant rate of cells, and answers what it will be. */
  cover: 7,
  /** A receive link id for when the initiator's address has changed. */
  spareId: 8,
  /** Batches of class cmix: receipts, proofs and what was heard of them. */
  batch: 9,
  /** What the hops of a circuit of class cmix have signed of it, on the way back to its client. */
  pledges: 10,
} as const;

/** Why a link was closed, as the one byte of a CLOSE message. */
export const LinkClose = { requested: 0, shutdown: 1, protocol: 2, idle: 3, limit: 4 } as const;
export type LinkClose = (typeof LinkClose)[keyof typeof LinkClose];

/** Why a link ended, as told to the owner. `peer` = the peer closed it. */
export type LinkEnd = 'requested' | 'peer' | 'timeout' | 'unreachable' | 'refused' | 'protocol' | 'unconfirmed';

/** The owner of links. All calls come from within a call of the owner's. */
export interface LinkHost {
  /** A complete message of the reliable control stream. `body` is borrowed until the call returns. */
  onMessage(link: Link, type: number, body: Uint8Array): void;
  /** The handshake is complete and the peer has proved that it holds its keys. */
  onUp(link: Link): void;
  onRekeyed(link: Link): void;
  /** The peer has another address now, and has proved it. */
  onMoved?(link: Link): void;
  /**
   * Initiator: the peer is heard after an interruption, or (`moved`) asks for a proof of our new address or is heard from there:
   * what waited for it may go now.
   */
  onAnswered?(link: Link, moved: boolean): void;
  /**
   * Receive link ids to map to this link, or to forget. The first call of a new link, accepted ones included,
   * is this one; the last comes just before `onClosed`.
   */
  onIdsChanged(link: Link, added: readonly number[], removed: readonly number[]): void;
  /** The link is over; its keys are already wiped. Called once. */
  onClosed(link: Link, reason: LinkEnd): void;
  /** A random id, not 0, not in use: any int32. */
  newLinkId(): number;
  /** Told of each step that the specifications name. `link`: the id that the initiator was first reached under. */
  readonly onStep?: (spec: 'Handshake' | 'Rekey', action: string, link: number) => void;
}

/** Thresholds of a link, all with defaults (`defaultLinkOptions`). */
export interface LinkOptions {
  /** Bytes in both directions after which the initiator renews the keys. */
  readonly rekeyBytes: number;
  readonly rekeyMs: number;
  /** How long old receive keys live on. */
  readonly oldKeysMs: number;
  readonly keepAliveMs: number;
  /** Silence after which a link with unacknowledged data is dead. */
  readonly deadMs: number;
  /** Circuit cells have gone out and no datagram has come for this long: the peer is asked whether it is there. */
  readonly probeAfterMs: number;
  /** And asked again this often. */
  readonly probeGapMs: number;
  /** Asked for this long (or five round trips) without any answer, it is dead. */
  readonly probeMs: number;
  /** Most bytes waiting on the control stream, acknowledged ones not counted; short messages may take four times that. */
  readonly maxQueuedBytes: number;
  /** How long a link waits for the peer's first valid cell. */
  readonly confirmMs: number;
}

/** Sends one handshake datagram (1280 bytes). `datagram` is borrowed until the call returns. */
export type EmitDatagram = (via: Via, to: PeerAddress, datagram: Uint8Array) => void;

/** A node's own long-term link keys. */
export interface LinkIdentity {
  readonly nodeId: Uint8Array;
  readonly linkX25519Secret: Uint8Array;
  readonly linkKemSeed: Uint8Array;
}

export interface LinkHandshakeOptions {
  readonly identity: LinkIdentity;
  /** Links we open tell the responder who we are (relays), or don't (clients). */
  readonly named: boolean;
  /** Answer inits of others. */
  readonly accept: boolean;
  /** Wall clock in milliseconds (whole seconds suffice). */
  readonly unixMs: () => number;
  /** Asks for cookies while true, beside the responder's own measure of load. */
  readonly underLoad?: () => boolean;
  /** Room for one more link? False: the initiator is told "refused". */
  readonly mayAccept?: () => boolean;
  /**
   * The verified view's link key of a node that says its name. A name the view does not confirm is not believed:
   * the link is then treated as anonymous.
   */
  readonly resolve?: (nodeId: Uint8Array) => Pick<NodeContact, 'linkX25519'> | undefined;
  readonly link?: Partial<LinkOptions>;
  readonly limits?: Partial<HandshakeLimits>;
}

/** Bounds of the responder, all with defaults (`defaultHandshakeLimits`). */
export interface HandshakeLimits {
  /** Inits in reassembly; from half of it on, cookies are asked for. */
  readonly maxReassemblies: number;
  readonly reassemblyMs: number;
  /** Public-key handshakes per second without a cookie. */
  readonly handshakesPerSecond: number;
  /** Hashes of seen inits, and for how long. */
  readonly maxSeenInits: number;
  readonly seenInitMs: number;
  /** Responses kept for repeated inits. */
  readonly maxCachedResponses: number;
  readonly cachedResponseMs: number;
  /** Nodes whose timestamps are remembered. */
  readonly maxTimestamps: number;
  /** Accepted links that have not proved themselves. */
  readonly maxUnconfirmed: number;
  readonly cookieSecretMs: number;
}

export interface LinkDependencies {
  readonly suite: CryptoSuite;
  readonly random: Random;
  readonly host: LinkHost;
}

/**
 * All handshakes of a node (`new LinkHandshakes(options, deps)` in handshake.ts).
 *
 * The engine gives a datagram with link id 0 to `handleDatagram`, and one under the id of a link in state
 * `handshaking` to `link.handleHandshake`; everything else is unmasked. It calls `poll` in each flush.
 */
export interface LinkHandshakesApi {
  /**
   * Opens a link: returns at once, in state `handshaking`; `send` on it already queues. Its first datagrams go out
   * with the next `poll`. All addresses are tried in turn, their families alternating, and the link keeps to
   * the one from which the response came; after 5 s without an answer the link closes ('unreachable').
   */
  connect(peer: NodeContact, nowMs: TimeMs, via?: Via): Link;
  /** A datagram that came under link id 0. Borrows it; answers at most one datagram through `emit`. */
  handleDatagram(datagram: Uint8Array, from: PeerAddress, via: Via, nowMs: TimeMs, emit: EmitDatagram): Drop;
  /** Sends and expires what is due. */
  poll(nowMs: TimeMs, emit: EmitDatagram): void;
  /** When `poll` must be called at the latest (absolute; Infinity = no timer). */
  nextTimeoutMs(): TimeMs;
  /** Bytes held for inits in reassembly, seen inits and cached responses. */
  readonly memoryBytes: number;
  /** Erases the long-term keys. */
  wipe(): void;
}
