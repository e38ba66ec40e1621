/**
 * One libp2p peer with the protocols of this network. Loaded only where the control plane is configured: this file and
 * what it imports cost memory.
 */
import type { Connection, Libp2p, PeerId } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { AnnounceService, AnnounceStatus, announceTo, askParams } from './announce.ts';
import { assemble, type Parts, type Services } from './assemble.ts';
import { Bindings } from './bindings.ts';
import {
  type DescriptorFeed,
  type MutableCounters,
  type P2pOptions,
  type P2pPorts,
  P2pProtocol,
  type P2pState,
  Refusal,
  RefusedError,
} from './contract.ts';
import { hostOf } from './gater.ts';
import { isPublicHost, parseMultiaddr } from './multiaddr-text.ts';
import { Outbox, type OutboxNetwork } from './outbox.ts';
import type { PeerDatastore } from './peer-datastore.ts';
import type { Penalties } from './penalties.ts';
import type { RecordDatastore } from './record-datastore.ts';
import { type Namespace, type RecordRules, recordKey } from './record-rules.ts';
import { decodeRecord } from './signed-record.ts';
import { type AuthorityRecord, authorityRecordKind, signAuthorityRecord } from './statements.ts';
import { ViewExchange } from './view-exchange.ts';

/** Fewer connections than this, and the node looks for more. */
const WANTED_CONNECTIONS = 8;
const DIALS_PER_ROUND = 6;
const DIAL_TIMEOUT_MS = 5_000;
const WALK_TIMEOUT_MS = 10_000;
/** A routing table that has doubled since the last look is walked through: after a start kad-dht does so with nobody in it. */
const FIRST_GROWTH_MS = 30_000;
const GROWTH_MS = 60_000;
const GROWTH_WALKS = 3;
/** Of one answer. */
const MAX_HEARD_OF = 20;
const MAX_HEARD_ADDRESSES = 8;
const QUERY_TIMEOUT_MS = 20_000;
const MIN_WAIT_MS = 250;
const MAX_WAIT_MS = 30_000;
const MAX_CONNECT_WAIT_MS = 8_000;
/** Own records are put again so often, because the peers that hold them come and go. */
const REPUBLISH_MS = 600_000;
const REPUBLISH_GROWN_MS = 2_000;
/** Peers that hold a record: k of the DHT. */
const REPLICATION = 20;
const DOUBLE_GRACE_MS = 5_000;
const RELAYS_ASKED = 3;
const MAX_SHOWN_PROTOCOLS = 32;
/** Code of /p2p in a multiaddr. */
const P2P_CODE = 421;

type AuthorityContact = Pick<AuthorityRecord, 'peerId' | 'addresses' | 'published'>;

export class P2pNode {
  readonly #options: P2pOptions;
  readonly #ports: P2pPorts;
  readonly #counters: MutableCounters;
  readonly #libp2p: Libp2p<Services>;
  readonly #parts: Parts;
  readonly #peers: PeerDatastore;
  readonly #records: RecordDatastore;
  readonly #rules: RecordRules;
  readonly #penalties: Penalties;
  readonly #bindings: Bindings;
  readonly #announce: AnnounceService;
  readonly #views: ViewExchange;
  readonly #outbox: Outbox;
  /** Where the configured authorities are, by key in hex. */
  readonly #authorities = new Map<string, AuthorityContact>();
  readonly #authorityKeys: ReadonlySet<string>;
  readonly #lookups = new Map<string, { waitMs: number; dueAtMs: number }>();
  /** By peer id; of connected peers only. */
  readonly #protocols = new Map<string, readonly string[]>();
  #isPublished = false;
  /** Size of the routing table then: put to few peers, a record is put again when there are more. */
  #publishedAmong = 0;
  #descriptor: { readonly nodeId: string; readonly bytes: Uint8Array } | undefined;
  #publishDueAtMs = 0;
  #publishWaitMs = MIN_WAIT_MS;
  #connectDueAtMs = 0;
  #connectWaitMs = MIN_WAIT_MS;
  #viewDueAtMs = 0;
  #viewWaitMs = MIN_WAIT_MS;
  #expireDueAtMs = 0;
  #growthDueAtMs = performance.now() + FIRST_GROWTH_MS;
  /** Size of the routing table at the last walk through it. */
  #walkedAmong = 0;

  private constructor(options: P2pOptions, ports: P2pPorts, counters: MutableCounters, parts: Parts) {
    this.#options = options;
    this.#ports = ports;
    this.#counters = counters;
    this.#libp2p = parts.libp2p;
    this.#parts = parts;
    this.#peers = parts.peers;
    this.#records = parts.records;
    this.#rules = parts.rules;
    this.#penalties = parts.penalties;
    this.#authorityKeys = new Set(ports.authorities.map(hex));
    const { libp2p, rules } = parts;
    const { suite } = ports;
    const onRefused = (reason: Refusal, connection: Connection) => this.#refused(reason, connection.remotePeer);
    const onProblem = (problem: string) => ports.log('debug', 'control plane problem', { problem });
    this.#bindings = new Bindings({
      libp2p,
      suite,
      unixSeconds: () => this.#unixSeconds(),
      keys: { identity: ports.identity, authority: ports.authority },
      addresses: () => this.#ownAddresses(),
      onAuthority: (record) => this.#learnAuthority(record),
      onRefused,
      onProblem,
    });
    const network: OutboxNetwork = {
      deliver: (authority, descriptor, isOwn) => this.#deliver(authority, descriptor, isOwn),
      passOn: (descriptor) => this.#passOn(descriptor),
    };
    // An authority's own descriptor does not travel to itself.
    const own = ports.authority === undefined ? '' : hex(ports.authority.publicKey);
    this.#outbox = new Outbox(
      [...this.#authorityKeys].filter((key) => key !== own),
      network,
      () => performance.now(),
    );
    this.#announce = new AnnounceService({
      libp2p,
      rules,
      counters,
      nowMs: () => performance.now(),
      isAuthority: ports.authority !== undefined,
      params: ports.params ?? (() => new Uint8Array()),
      passOn: (nodeId, descriptor) => {
        const isAdded = this.#outbox.add(nodeId, descriptor, false, 60_000);
        if (isAdded) counters.descriptorsRelayed++;
        return isAdded;
      },
      onRefused,
      onProblem,
    });
    this.#views = new ViewExchange({
      libp2p,
      view: ports.view,
      counters,
      nowMs: () => performance.now(),
      pick: (connections, count) => sample(connections, count, ports),
      onRefused,
      onProblem,
    });
    libp2p.addEventListener('peer:identify', ({ detail }) => {
      this.#protocols.set(detail.peerId.toString(), [...detail.protocols].slice(0, MAX_SHOWN_PROTOCOLS));
      if (libp2p.getConnections(detail.peerId).length === 0) this.#protocols.delete(detail.peerId.toString());
      // Somebody new to ask; before that there may have been nobody.
      if (ports.view.held() === undefined) this.#viewDueAtMs = 0;
      const routingPeers = libp2p.services.dht.routingTable.size;
      if (!this.#isPublished) this.#publishDueAtMs = 0;
      else if (routingPeers < REPLICATION && routingPeers >= 2 * this.#publishedAmong) {
        this.#publishDueAtMs = Math.min(this.#publishDueAtMs, performance.now() + REPUBLISH_GROWN_MS);
      }
    });
    libp2p.addEventListener('peer:disconnect', ({ detail }) => this.#protocols.delete(detail.toString()));
  }

  /** Listens and is ready to be maintained. Rejects when an address can't be had. */
  static async start(options: P2pOptions, ports: P2pPorts, counters: MutableCounters): Promise<P2pNode> {
    let node: P2pNode | undefined;
    const parts = await assemble(options, ports, {
      refused: (reason, peer) => {
        if (node !== undefined) node.#refused(reason, peer);
      },
      connectionRefused: () => counters.connectionsRefused++,
    });
    try {
      node = new P2pNode(options, ports, counters, parts);
      await node.#bindings.start();
      await node.#announce.start();
      await node.#views.start();
      await parts.libp2p.start();
      return node;
    } catch (error) {
      await parts.libp2p.stop();
      parts.database.close();
      throw error;
    }
  }

  get feed(): DescriptorFeed {
    return this.#announce;
  }

  /** Multiaddrs that this node listens at, with its peer id. */
  get addresses(): string[] {
    return this.#libp2p.getMultiaddrs().map(String);
  }

  /** The own descriptor: published in the DHT and brought to the authorities, at once and again until it is replaced. */
  publish(nodeId: string, descriptor: Uint8Array, lifetimeMs: number): void {
    this.#descriptor = { nodeId, bytes: descriptor };
    this.#outbox.add(nodeId, descriptor, true, lifetimeMs);
    this.#isPublished = false;
    this.#publishDueAtMs = 0;
    this.#publishWaitMs = MIN_WAIT_MS;
  }

  /** The parameters that some trusted authority goes by. Undefined: none could be asked. */
  async askParams(signal: AbortSignal): Promise<Uint8Array | undefined> {
    for (const authority of this.#authorityKeys) {
      try {
        const contact = this.#authorities.get(authority) ?? (await this.#lookUp(authority, signal));
        if (contact === undefined) continue;
        const params = await askParams(await this.#connectionTo(contact, signal), signal);
        if (params.length > 0) return params;
      } catch (error) {
        if (signal.aborted) throw error;
        this.#ports.log('debug', 'an authority was not asked', { problem: (error as Error).message });
      }
    }
    return undefined;
  }

  /** The best record under a key that peers have. Undefined when there is none. */
  async find(namespace: Namespace, id: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const key = recordKey(namespace, id);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(QUERY_TIMEOUT_MS)]);
    let found: Uint8Array | undefined;
    try {
      for await (const event of this.#libp2p.services.dht.get(key, { signal: limit })) {
        if (event.name === 'VALUE') found = event.value;
        else if (event.name === 'QUERY_ERROR' && event.error.message.startsWith('invalid record received')) {
          this.#refused(Refusal.badAnswer, event.from);
        }
      }
    } catch (error) {
      if (signal.aborted) throw error;
      this.#ports.log('debug', 'a record was not found', { namespace, problem: (error as Error).message });
    }
    return found;
  }

  /** Puts a record to the peers closest to its key. Returns how many took it. Throws RefusedError for a bad one. */
  async put(namespace: Namespace, id: string, record: Uint8Array, signal: AbortSignal): Promise<number> {
    const key = recordKey(namespace, id);
    this.#rules.check(key, record);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(QUERY_TIMEOUT_MS)]);
    let taken = 0;
    try {
      for await (const event of this.#libp2p.services.dht.put(key, record, { signal: limit })) {
        if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') taken++;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      this.#ports.log('debug', 'a record was not put everywhere', { namespace, problem: (error as Error).message });
    }
    return taken;
  }

  /** One round of all that is due: connections, view, own records, deliveries. */
  async maintain(signal: AbortSignal): Promise<void> {
    const nowMs = performance.now();
    const work: Promise<void>[] = [this.#deliverDue()];
    if (nowMs >= this.#connectDueAtMs) work.push(this.#connect(signal));
    if (nowMs >= this.#viewDueAtMs) work.push(this.#fetchView(signal));
    if (nowMs >= this.#publishDueAtMs) work.push(this.#publishOwn(signal));
    if (nowMs >= this.#growthDueAtMs) {
      this.#growthDueAtMs = nowMs + GROWTH_MS;
      // Nothing else waits for it.
      this.#walkGrown(signal).catch((error: Error) => {
        if (!signal.aborted) this.#ports.log('warn', 'the routing table was not walked', { problem: error.message });
      });
    }
    if (nowMs >= this.#expireDueAtMs) {
      this.#records.dropExpired();
      this.#expireDueAtMs = nowMs + 60_000;
    }
    await Promise.all(work);
  }

  /** Until the next round. */
  get sleepMs(): number {
    const nowMs = performance.now();
    const dueAtMs = Math.min(
      this.#connectDueAtMs,
      this.#viewDueAtMs,
      this.#publishDueAtMs,
      this.#expireDueAtMs,
      nowMs + (this.#outbox.sleepMs ?? MAX_WAIT_MS),
    );
    return Math.min(1000, Math.max(20, dueAtMs - nowMs));
  }

  state(): P2pState {
    const { dht } = this.#libp2p.services;
    return {
      peerId: this.#libp2p.peerId.toString(),
      addresses: this.addresses,
      serving: dht.getMode() === 'server',
      peers: this.#libp2p.getPeers().flatMap((id) => {
        const [connection] = this.#libp2p.getConnections(id);
        if (connection === undefined) return [];
        const peerId = id.toString();
        const binding = this.#bindings.get(peerId);
        return {
          peerId,
          address: connection.remoteAddr.decapsulateCode(P2P_CODE).toString(),
          inbound: connection.direction === 'inbound',
          connectedAtUnixMs: connection.timeline.open,
          rttMs: connection.rtt,
          nodeId: binding?.nodeId,
          isAuthority: binding?.isAuthority ?? false,
          protocols: this.#protocols.get(peerId) ?? [],
        };
      }),
      routingPeers: dht.routingTable.size,
      storedPeers: this.#peers.count,
      records: this.#records.count,
      deniedPeers: this.#penalties.deniedPeers,
      counters: this.#counters,
    };
  }

  async stop(): Promise<void> {
    try {
      await this.#libp2p.stop();
    } finally {
      this.#parts.database.close();
    }
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const before = this.#libp2p.getPeers().length;
    this.#closeDoubles();
    if (before < WANTED_CONNECTIONS) {
      const candidates = await this.#candidates();
      await Promise.all(candidates.map((candidate) => this.#dial(candidate, signal)));
      if (this.#libp2p.getPeers().length < WANTED_CONNECTIONS) await this.#walk(signal);
    }
    const now = this.#libp2p.getPeers().length;
    const isSatisfied = now > before || now >= WANTED_CONNECTIONS;
    this.#connectWaitMs = isSatisfied ? MIN_WAIT_MS * 4 : Math.min(MAX_CONNECT_WAIT_MS, this.#connectWaitMs * 2);
    this.#connectDueAtMs = performance.now() + this.#connectWaitMs;
  }

  /** Two peers that dial each other at once get two connections; the one with the lower peer id closes what is idle. */
  #closeDoubles(): void {
    const self = this.#libp2p.peerId.toString();
    const settledUnixMs = Date.now() - DOUBLE_GRACE_MS;
    for (const id of this.#libp2p.getPeers()) {
      if (self > id.toString()) continue;
      const idle = this.#libp2p
        .getConnections(id)
        .slice(1)
        .filter(({ timeline, streams }) => timeline.open < settledUnixMs && streams.length === 0);
      for (const connection of idle) {
        connection.close().catch((error: Error) => {
          this.#ports.log('debug', 'a second connection stays', { problem: error.message });
        });
      }
    }
  }

  /** Configured bootstrap addresses that are not connected, and some of the peers that were known before. */
  async #candidates(): Promise<(string | PeerId)[]> {
    const hosts = new Set(this.#libp2p.getConnections().map(({ remoteAddr }) => withoutPeer(remoteAddr.toString())));
    const own = new Set(this.addresses.map(withoutPeer));
    const bootstrap = this.#options.bootstrap.filter((address) => {
      const bare = withoutPeer(address);
      return !hosts.has(bare) && !own.has(bare);
    });
    const connected = new Set(this.#libp2p.getPeers().map(String));
    const stored = (await this.#libp2p.peerStore.all())
      .filter(({ id, addresses }) => addresses.length > 0 && !connected.has(id.toString()))
      .map(({ id }) => id);
    const some = sample(bootstrap, DIALS_PER_ROUND / 2, this.#ports);
    return [...some, ...sample(stored, DIALS_PER_ROUND - some.length, this.#ports)];
  }

  /** Those near to this node, and some of everywhere, once there are many more to ask than at the last time. */
  async #walkGrown(signal: AbortSignal): Promise<void> {
    const { size } = this.#libp2p.services.dht.routingTable;
    if (size === 0 || size < 2 * this.#walkedAmong) return;
    this.#walkedAmong = size;
    await this.#walk(signal, this.#libp2p.peerId.toMultihash().bytes);
    for (let i = 0; i < GROWTH_WALKS; i++) await this.#walk(signal);
  }

  #anyPlace(): Uint8Array {
    const place = new Uint8Array(32);
    this.#ports.random.fill(place);
    return place;
  }

  /** Asks for the peers around a place. What they are said to be is remembered and tried in a later round. */
  async #walk(signal: AbortSignal, place = this.#anyPlace()): Promise<void> {
    const { routingTable } = this.#libp2p.services.dht;
    // A peer that was too busy to answer when it connected is not in there, and would never be asked.
    for (const id of this.#libp2p.getPeers()) {
      const isServing = this.#protocols.get(id.toString())?.includes(P2pProtocol.kad) === true;
      if (isServing && (await routingTable.find(id)) === undefined) {
        routingTable.queueRoutingTableUpdate(id, { activeTimeout: QUERY_TIMEOUT_MS });
      }
    }
    const limit = AbortSignal.any([signal, AbortSignal.timeout(WALK_TIMEOUT_MS)]);
    try {
      for await (const event of this.#libp2p.services.dht.getClosestPeers(place, { signal: limit })) {
        if (event.name !== 'PEER_RESPONSE') continue;
        for (const { id, multiaddrs } of event.closer.slice(0, MAX_HEARD_OF)) {
          if (id.equals(this.#libp2p.peerId) || (await this.#libp2p.peerStore.has(id))) continue;
          await this.#libp2p.peerStore.merge(id, { multiaddrs: multiaddrs.slice(0, MAX_HEARD_ADDRESSES) });
        }
      }
    } catch (error) {
      if (signal.aborted) throw error;
      this.#ports.log('debug', 'a walk ended early', { problem: (error as Error).message });
    }
  }

  async #dial(candidate: string | PeerId, signal: AbortSignal): Promise<void> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(DIAL_TIMEOUT_MS)]);
    try {
      await this.#libp2p.dial(typeof candidate === 'string' ? multiaddr(candidate) : candidate, { signal: limit });
    } catch (error) {
      if (signal.aborted) throw error;
      this.#ports.log('debug', 'a peer can not be reached', { problem: (error as Error).message });
    }
  }

  async #fetchView(signal: AbortSignal): Promise<void> {
    const { view } = this.#ports;
    const isCurrent = () => (view.held()?.epoch ?? -1) >= view.epoch();
    if (isCurrent() || (await this.#views.fetch(signal))) this.#viewWaitMs = MIN_WAIT_MS;
    else this.#viewWaitMs = Math.min(10_000, this.#viewWaitMs * 1.5);
    this.#viewDueAtMs = performance.now() + (isCurrent() ? 1000 : this.#viewWaitMs);
  }

  /** Own records into the DHT. */
  async #publishOwn(signal: AbortSignal): Promise<void> {
    const { authority } = this.#ports;
    // Set first: a new descriptor meanwhile sets it to 0 again.
    this.#publishDueAtMs = Number.POSITIVE_INFINITY;
    const descriptor = this.#descriptor;
    this.#publishedAmong = this.#libp2p.services.dht.routingTable.size;
    const puts: Promise<number>[] = [];
    if (descriptor !== undefined) puts.push(this.put('node', descriptor.nodeId, descriptor.bytes, signal));
    if (authority !== undefined) {
      const peerId = this.#libp2p.peerId.toString();
      const record = signAuthorityRecord(authority, peerId, this.#ownAddresses(), this.#unixSeconds());
      puts.push(this.put('authority', hex(authority.publicKey), record, signal));
    }
    const taken = await Promise.all(
      puts.map(async (put) => {
        try {
          return await put;
        } catch (error) {
          if (!(error instanceof RefusedError)) throw error;
          // E.g. a descriptor that ran out while the machine slept; the next one is on its way.
          this.#ports.log('warn', 'an own record can not be published', { problem: error.message });
          return 0;
        }
      }),
    );
    if (descriptor !== this.#descriptor) return;
    this.#isPublished = taken.every((count) => count > 0);
    this.#publishWaitMs = this.#isPublished ? REPUBLISH_MS : Math.min(MAX_WAIT_MS, this.#publishWaitMs * 2);
    this.#publishDueAtMs = performance.now() + this.#publishWaitMs;
  }

  async #deliverDue(): Promise<void> {
    const before = this.#outbox.delivered;
    await this.#outbox.run();
    this.#counters.descriptorsDelivered += this.#outbox.delivered - before;
  }

  async #deliver(
    authority: string,
    descriptor: Uint8Array,
    isOwn: boolean,
  ): Promise<'taken' | 'refused' | 'failed' | 'unknown'> {
    const signal = AbortSignal.timeout(QUERY_TIMEOUT_MS);
    try {
      const contact = this.#authorities.get(authority) ?? (await this.#lookUp(authority, signal));
      if (contact === undefined) return 'unknown';
      const connection = await this.#connectionTo(contact, signal);
      const { status, params } = await announceTo(connection, descriptor, isOwn, signal);
      if (status === AnnounceStatus.refused && isOwn && params.length > 0) this.#ports.onRefusedParams(params);
      if (status === AnnounceStatus.taken) return 'taken';
      return status === AnnounceStatus.refused ? 'refused' : 'failed';
    } catch (error) {
      this.#ports.log('debug', 'an authority was not reached', { problem: (error as Error).message });
      // It may have moved.
      this.#authorities.delete(authority);
      return 'failed';
    }
  }

  async #connectionTo({ peerId, addresses }: AuthorityContact, signal: AbortSignal): Promise<Connection> {
    const id = peerIdFromString(peerId);
    const [open] = this.#libp2p.getConnections(id);
    if (open !== undefined) return open;
    const known = addresses.map((address) => multiaddr(`${withoutPeer(address)}/p2p/${peerId}`));
    return this.#libp2p.dial(known.length > 0 ? known : id, { signal });
  }

  async #lookUp(authority: string, signal: AbortSignal): Promise<AuthorityContact | undefined> {
    const nowMs = performance.now();
    const lookup = this.#lookups.get(authority) ?? { waitMs: 1000, dueAtMs: 0 };
    if (nowMs < lookup.dueAtMs) return undefined;
    const waitMs = Math.min(60_000, lookup.waitMs * 2);
    this.#lookups.set(authority, { waitMs, dueAtMs: nowMs + lookup.waitMs });
    const found = await this.find('authority', authority, signal);
    if (found !== undefined) this.#learnAuthority(decodeRecord(authorityRecordKind, found));
    return this.#authorities.get(authority);
  }

  /** Its signature has been checked. */
  #learnAuthority(record: AuthorityRecord): void {
    const key = hex(record.key);
    if (!this.#authorityKeys.has(key)) return;
    const known = this.#authorities.get(key);
    if (known !== undefined && known.published > record.published) return;
    const { peerId, addresses, published } = record;
    this.#authorities.set(key, { peerId, addresses, published });
    this.#lookups.delete(key);
  }

  async #passOn(descriptor: Uint8Array): Promise<number> {
    const able = this.#libp2p
      .getConnections()
      .filter(({ remotePeer }) => this.#protocols.get(remotePeer.toString())?.includes(P2pProtocol.announce));
    const signal = AbortSignal.timeout(QUERY_TIMEOUT_MS);
    const outcomes = await Promise.allSettled(
      sample(able, RELAYS_ASKED, this.#ports).map((connection) => announceTo(connection, descriptor, true, signal)),
    );
    return outcomes.filter(
      (outcome) =>
        outcome.status === 'fulfilled' &&
        (outcome.value.status === AnnounceStatus.passedOn || outcome.value.status === AnnounceStatus.taken),
    ).length;
  }

  /** Counts it, and drops and denies a peer that keeps doing it. */
  #refused(reason: Refusal, peer: PeerId | undefined): void {
    this.#counters.refusals[reason]++;
    if (peer === undefined || peer.equals(this.#libp2p.peerId)) return;
    const connections = this.#libp2p.getConnections(peer);
    const host = connections[0] === undefined ? undefined : hostOf(connections[0].remoteAddr);
    // On a private network many peers may share an address.
    const deniable = host !== undefined && isPublicHost(host) ? host : undefined;
    if (!this.#penalties.note(peer.toString(), reason, deniable)) return;
    this.#counters.peersDenied++;
    this.#ports.log('info', 'a peer is denied for a time', { peer: peer.toString(), reason });
    for (const connection of connections) connection.abort(new Error('denied'));
    this.#libp2p.peerStore.delete(peer).catch((error: Error) => {
      this.#ports.log('debug', 'a denied peer stays in the store', { problem: error.message });
    });
  }

  #ownAddresses(): string[] {
    return this.addresses
      .map(withoutPeer)
      .filter((address) => {
        const parsed = parseMultiaddr(address);
        return parsed !== undefined && (this.#options.allowPrivate || isPublicHost(parsed.host));
      })
      .slice(0, 8);
  }

  #unixSeconds(): number {
    return Math.floor(this.#ports.unixMs() / 1000);
  }
}

const withoutPeer = (address: string): string => address.replace(/\/p2p\/.*$/, '');

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Up to `count` of `items`, each set of them as likely as any other. */
const sample = <T>(items: readonly T[], count: number, { random }: P2pPorts): T[] => {
  const rest = [...items];
  const chosen: T[] = [];
  const bytes = new Uint8Array(4);
  while (chosen.length < count && rest.length > 0) {
    random.fill(bytes);
    const index = Math.floor((new DataView(bytes.buffer).getUint32(0) / 2 ** 32) * rest.length);
    chosen.push(...rest.splice(index, 1));
  }
  return chosen;
};
