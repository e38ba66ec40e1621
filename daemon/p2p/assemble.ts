/** Puts libp2p together: transports, limits, stores, and a DHT that knows who sent what it refuses. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { identify } from '@libp2p/identify';
import type { Libp2p, PeerId, Stream, StreamHandler } from '@libp2p/interface';
import { type KadDHT, type KadDHTComponents, kadDHT } from '@libp2p/kad-dht';
import { noise } from '@libp2p/noise';
import { type Ping, ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import { createLibp2p } from 'libp2p';
import { type P2pOptions, type P2pPorts, P2pProtocol, Refusal, RefusedError, TABLE_REFRESH_MS } from './contract.ts';
import { P2pDatabase } from './database.ts';
import { createGater, hostOf, isUsable } from './gater.ts';
import { PeerDatastore } from './peer-datastore.ts';
import { Penalties } from './penalties.ts';
import { RecordDatastore } from './record-datastore.ts';
import { RecordRules } from './record-rules.ts';
import { TokenBuckets } from './token-bucket.ts';

/** What the table of the pinned kad-dht can do beyond its published type. */
interface RoutingTable {
  readonly size: number;
  find(peer: PeerId): Promise<PeerId | undefined>;
  /** Pings the peer and adds it when it answers. */
  queueRoutingTableUpdate(peer: PeerId, options: { readonly activeTimeout: number }): void;
}

export interface Services extends Record<string, unknown> {
  readonly dht: KadDHT & { readonly routingTable: RoutingTable };
  readonly ping: Ping;
}

export interface Parts {
  readonly libp2p: Libp2p<Services>;
  readonly database: P2pDatabase;
  readonly peers: PeerDatastore;
  readonly records: RecordDatastore;
  readonly rules: RecordRules;
  readonly penalties: Penalties;
}

export interface Observer {
  /** `peer` is undefined when it was not sent by a peer just now. */
  readonly refused: (reason: Refusal, peer: PeerId | undefined) => void;
  readonly connectionRefused: () => void;
}

const STORED_PEER_MS = 30 * 86_400_000;
/** DHT streams of one peer. */
const DHT_BURST = 400;
const DHT_PER_SECOND = 50;
/** The longest request puts a descriptor of 16 KiB. */
const MAX_DHT_STREAM_BYTES = 20 * 1024;

/** Not started yet. */
export const assemble = async (options: P2pOptions, ports: P2pPorts, observer: Observer): Promise<Parts> => {
  const { limits, allowPrivate } = options;
  const { unixMs, log } = ports;
  const privateKey = await generateKeyPairFromSeed('Ed25519', options.keySeed);
  const database = new P2pDatabase(options.databaseFile, (problem) =>
    log('warn', 'stored peers are lost', { problem }),
  );
  const sender = new AsyncLocalStorage<PeerId>();
  const refused = (reason: Refusal) => observer.refused(reason, sender.getStore());
  const rules = new RecordRules(ports.suite, unixMs);
  const records = new RecordDatastore(database, rules, {
    maxRecords: limits.maxRecords,
    self: privateKey.publicKey.toMultihash().bytes,
    unixMs,
    onRefused: refused,
  });
  const peers = new PeerDatastore(database, limits.maxStoredPeers, unixMs);
  const penalties = new Penalties(() => performance.now());
  const rate = new TokenBuckets(DHT_BURST, DHT_PER_SECOND, 4096, () => performance.now());
  const addresses = [...options.listen, ...options.announce, ...options.bootstrap];
  const isWebSocketUsed = addresses.some((address) => address.includes('/ws'));

  const check = (key: Uint8Array, value: Uint8Array): void => {
    try {
      rules.check(key, value);
    } catch (error) {
      if (error instanceof RefusedError) refused(error.reason);
      throw error;
    }
  };
  const createDht = kadDHT({
    protocol: P2pProtocol.kad,
    clientMode: options.listen.length === 0,
    kBucketSize: 20,
    alpha: 4,
    disjointPaths: 4,
    allowQueryWithZeroPeers: true,
    maxInboundStreams: 16,
    querySelfInterval: TABLE_REFRESH_MS,
    // `pk` is there by default; this network does not have it.
    validators: { nyx: check, pk: check },
    selectors: { nyx: (key, found) => rules.select(key, found) },
    peerInfoMapper: (peer) => ({
      ...peer,
      multiaddrs: peer.multiaddrs.filter((address) => isUsable(address, allowPrivate)),
    }),
  });
  const attribute =
    (inner: StreamHandler): StreamHandler =>
    (stream, connection) => {
      const peer = connection.remotePeer;
      if (!rate.take(peer.toString())) {
        observer.refused(Refusal.tooOften, peer);
        stream.abort(new RefusedError(Refusal.tooOften, 'too many DHT requests'));
        return;
      }
      watch(stream, (reason) => observer.refused(reason, peer));
      return sender.run(peer, () => inner(stream, connection));
    };

  let libp2p: Libp2p<Services> | undefined;
  try {
    libp2p = await createLibp2p<Services>({
      start: false,
      privateKey,
      // Neither version nor platform are anybody's business.
      nodeInfo: { name: 'nyx', version: '1', userAgent: 'nyx/1' },
      addresses: { listen: [...options.listen], announce: [...options.announce] },
      transports: [tcp(), ...(isWebSocketUsed ? [(await import('@libp2p/websockets')).webSockets()] : [])],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      peerDiscovery: options.mdns
        ? [(await import('@libp2p/mdns')).mdns({ serviceTag: '_nyx-p2p._udp.local', interval: 10_000 })]
        : [],
      datastore: peers,
      peerStore: { maxAddressAge: STORED_PEER_MS, maxPeerAge: STORED_PEER_MS },
      connectionManager: {
        maxConnections: limits.maxConnections,
        inboundConnectionThreshold: limits.inboundPerSecond,
        maxIncomingPendingConnections: Math.max(10, limits.inboundPerSecond),
        maxParallelDials: 16,
        maxDialQueueLength: 256,
        maxPeerAddrsToDial: 8,
        dialTimeout: 10_000,
        addressDialTimeout: 5_000,
      },
      connectionMonitor: { pingInterval: 15_000 },
      connectionGater: createGater(penalties, {
        allowPrivate,
        maxPerSubnet: limits.maxPerSubnet,
        dialledHosts: () =>
          (libp2p?.getConnections() ?? [])
            .filter(({ direction }) => direction === 'outbound')
            .map(({ remoteAddr }) => hostOf(remoteAddr) ?? ''),
        onRefused: observer.connectionRefused,
      }),
      services: {
        identify: identify({ maxMessageSize: 8192 }),
        ping: ping(),
        dht: (components: KadDHTComponents) => {
          const dht = createDht(withOwn(components, records, attribute));
          setRefreshInterval(dht, TABLE_REFRESH_MS);
          return dht as unknown as Services['dht'];
        },
      },
    });
    return { libp2p, database, peers, records, rules, penalties };
  } catch (error) {
    database.close();
    throw error;
  }
};

/**
 * kad-dht's own five minutes can't be changed by an option. Throws when a version of it keeps the interval elsewhere: the
 * traffic would be back unnoticed.
 */
const setRefreshInterval = (dht: object, intervalMs: number): void => {
  const refresh: unknown = Reflect.get(dht, 'routingTableRefresh');
  const isKnown = typeof refresh === 'object' && refresh !== null && 'refreshInterval' in refresh;
  if (!isKnown || typeof refresh.refreshInterval !== 'number') {
    throw new Error('this version of @libp2p/kad-dht keeps the interval of its refreshes elsewhere');
  }
  refresh.refreshInterval = intervalMs;
};

/** kad-dht's components with the record store instead of the common one, and incoming streams under `attribute`. */
const withOwn = (
  components: KadDHTComponents,
  records: RecordDatastore,
  attribute: (inner: StreamHandler) => StreamHandler,
): KadDHTComponents => {
  const registrar = new Proxy(components.registrar, {
    get: (target, name) => {
      if (name === 'handle') {
        const handle: typeof target.handle = (protocol, inner, handleOptions) =>
          target.handle(protocol, attribute(inner), handleOptions);
        return handle;
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return new Proxy(components, {
    get: (target, name) => {
      if (name === 'registrar') return registrar;
      if (name === 'datastore') return records;
      return Reflect.get(target, name, target);
    },
  });
};

/**
 * kad-dht reads messages of up to 4 MiB; no request of this network comes near the limit here. And it ends the stream of
 * who sends what it can't read; why is seen only there.
 */
const watch = (stream: Stream, blame: (reason: Refusal) => void): void => {
  let sizeBytes = 0;
  stream.addEventListener('message', ({ data }) => {
    sizeBytes += data.byteLength;
    if (sizeBytes > MAX_DHT_STREAM_BYTES && stream.status === 'open') {
      blame(Refusal.oversized);
      stream.abort(new RefusedError(Refusal.oversized, 'a DHT request that is too long'));
    }
  });
  stream.addEventListener('close', ({ error, local }) => {
    if (error === undefined || local !== true) return;
    if (error.name === 'InvalidParametersError') blame(Refusal.unknownKey);
    else if (isNonsense(error)) blame(Refusal.malformed);
  });
};

/** What the decoders of kad-dht throw. */
const isNonsense = ({ name, message }: Error): boolean =>
  name === 'RangeError' ||
  /^Invalid(Message|MessageLength|DataLength|DataLengthLength)Error$/.test(name) ||
  (name === 'Error' && /^invalid/i.test(message));
