/**
 * The control plane as the rest of the daemon sees it. Nothing here loads libp2p: that is done by dynamic import, and
 * only where the configuration asks for it, because an idle node should stay small.
 */
import type { CryptoSuite, SignKeyPair } from '@nyx/core/crypto/suite.ts';
import type { Random } from '@nyx/core/ports.ts';

/** Protocols on a libp2p connection; docs/protocol.md has their bytes. */
export const P2pProtocol = {
  kad: '/nyx/kad/1',
  /** Statements that a peer makes about itself: which node it is, which authority. */
  bind: '/nyx/bind/1',
  /** A node's descriptor on its way to the authorities. */
  announce: '/nyx/announce/1',
  /** The signed view of the epoch. */
  view: '/nyx/view/1',
} as const;

/**
 * How often the DHT's routing table is walked through. kad-dht would do it every five minutes, which with 10 000 nodes is most
 * of the directory's traffic; Kademlia (Maymounkov and Mazières 2002, §2.3) has an hour. See docs/simulation/dht.md.
 */
export const TABLE_REFRESH_MS = 30 * 60_000;

/** Why something that a peer sent was refused. Metrics count by these names. */
export const Refusal = {
  /** A key or namespace that this network does not have. */
  unknownKey: 'unknownKey',
  oversized: 'oversized',
  malformed: 'malformed',
  /** Key and identity in the record differ. */
  misplaced: 'misplaced',
  badSignature: 'badSignature',
  expired: 'expired',
  notYetValid: 'notYetValid',
  /** A newer one is held. */
  replayed: 'replayed',
  /** An invalid answer to a question of ours. */
  badAnswer: 'badAnswer',
  /** A view that does not verify. */
  badView: 'badView',
  /** More often than is allowed. */
  tooOften: 'tooOften',
  /** Provider records, which this network does not use. */
  provider: 'provider',
} as const;
export type Refusal = (typeof Refusal)[keyof typeof Refusal];

/** Thrown by the checks of this folder. */
export class RefusedError extends Error {
  readonly reason: Refusal;
  constructor(reason: Refusal, message: string) {
    super(message);
    this.name = 'RefusedError';
    this.reason = reason;
  }
}

export interface P2pLimits {
  readonly maxConnections: number;
  /** Connections with one subnet: /16 of IPv4, /32 of IPv6. */
  readonly maxPerSubnet: number;
  /** New connections from one address. */
  readonly inboundPerSecond: number;
  readonly maxStoredPeers: number;
  /** DHT records that are kept for others. */
  readonly maxRecords: number;
}

export interface P2pOptions {
  /** Multiaddrs: /ip4|ip6/ADDRESS/tcp/PORT[/ws]. Empty: nobody can connect to this node. */
  readonly listen: readonly string[];
  readonly announce: readonly string[];
  /** As `listen`, with or without /p2p/PEERID. */
  readonly bootstrap: readonly string[];
  readonly mdns: boolean;
  /** Loopback, private and other special addresses, of peers and in what they say. */
  readonly allowPrivate: boolean;
  readonly limits: P2pLimits;
  /** Peers and records are kept here. */
  readonly databaseFile: string;
  /** Seed of the libp2p key, 32 bytes. */
  readonly keySeed: Uint8Array;
}

/**
 * Called for every descriptor that came over the control plane and passed all checks; the bytes are the listener's. To
 * throw or reject is to refuse it: the sender is told so, the reason goes to the log.
 */
export type DescriptorListener = (descriptor: Uint8Array) => void | Promise<void>;

/** Descriptors as they come in from other nodes: validated, rate-limited, each once. What an authority votes on. */
export interface DescriptorFeed {
  /** Returns how to stop. */
  subscribe(listener: DescriptorListener): () => void;
}

export interface ViewReference {
  readonly epoch: number;
  /** BLAKE3 of the signed body, 32 bytes. */
  readonly digest: Uint8Array;
}

/** The view that is held, and where newer ones go. */
export interface ViewPort {
  /** The present epoch by the clock. */
  epoch(): number;
  held(): (ViewReference & { readonly bytes: Uint8Array }) | undefined;
  /** The delta from the view with that digest to the one that is held, if it is here. */
  delta(from: Uint8Array): Promise<Uint8Array | undefined>;
  /** A bundle, or a delta from the view that is held. True: it verified and is newer than what was held. Throws, or rejects with, DirectoryError. */
  offer(bytes: Uint8Array): boolean | Promise<boolean>;
}

export interface P2pPorts {
  readonly suite: CryptoSuite;
  readonly random: Random;
  readonly unixMs: () => number;
  readonly log: (
    level: 'debug' | 'info' | 'warn' | 'error',
    message: string,
    fields?: Readonly<Record<string, unknown>>,
  ) => void;
  /** Undefined: a client, which tells nobody who it is. */
  readonly identity: SignKeyPair | undefined;
  /** Undefined: not an authority. */
  readonly authority: SignKeyPair | undefined;
  /** Ed25519 public keys of the authorities that descriptors have to reach. */
  readonly authorities: readonly Uint8Array[];
  readonly view: ViewPort;
  /** An authority's parameters (core/directory/params.ts), told to those whose descriptor it refuses. */
  readonly params: (() => Uint8Array) | undefined;
  /** An authority has refused the own descriptor and says which parameters it goes by; not checked yet. */
  readonly onRefusedParams: (params: Uint8Array) => void;
}

export interface P2pPeer {
  readonly peerId: string;
  /** Multiaddr of the connection. */
  readonly address: string;
  readonly inbound: boolean;
  readonly connectedAtUnixMs: number;
  /** By ping; undefined until there was one. */
  readonly rttMs: number | undefined;
  /** Lower-case hex; undefined: the peer has not said, or is a client. */
  readonly nodeId: string | undefined;
  readonly isAuthority: boolean;
  readonly protocols: readonly string[];
}

export interface P2pState {
  readonly peerId: string;
  readonly addresses: readonly string[];
  /** Whether this node keeps records for others. */
  readonly serving: boolean;
  readonly peers: readonly P2pPeer[];
  readonly routingPeers: number;
  readonly storedPeers: number;
  readonly records: number;
  readonly deniedPeers: number;
  readonly counters: P2pCounters;
}

/** Totals since the control plane was first started; a restart of its actor does not reset them. */
export interface P2pCounters {
  readonly refusals: Readonly<Record<Refusal, number>>;
  peersDenied: number;
  connectionsRefused: number;
  descriptorsReceived: number;
  descriptorsRelayed: number;
  descriptorsDelivered: number;
  viewsServed: number;
  /** Of these, as deltas. */
  deltasServed: number;
  viewsFetched: number;
  viewBytesServed: number;
  viewBytesFetched: number;
}

export interface MutableCounters extends P2pCounters {
  readonly refusals: Record<Refusal, number>;
}

export const zeroCounters = (): MutableCounters => ({
  refusals: Object.fromEntries(Object.values(Refusal).map((reason) => [reason, 0])) as Record<Refusal, number>,
  peersDenied: 0,
  connectionsRefused: 0,
  descriptorsReceived: 0,
  descriptorsRelayed: 0,
  descriptorsDelivered: 0,
  viewsServed: 0,
  deltasServed: 0,
  viewsFetched: 0,
  viewBytesServed: 0,
  viewBytesFetched: 0,
});
