/**
 * A network of real engines on virtual time: one seed, one run. Datagrams travel with latency, jitter, loss,
 * duplication and partitions; nothing here knows what is in them.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import {
  type ClientCircuitEvent,
  type EngineApi,
  type EngineHost,
  type EngineOptions,
  type LinkEvent,
  type MixSecrets,
  type NodeContact,
  type NodeSecrets,
  type SessionOwner,
  Via,
} from '@nyx/core/engine/contract.ts';
import { Engine, type EngineDependencies } from '@nyx/core/engine/engine.ts';
import type { PeerAddress, Random } from '@nyx/core/ports.ts';
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';

export interface WireOptions {
  readonly latencyMs: number;
  readonly jitterMs: number;
  readonly lossRatio: number;
  readonly duplicateRatio: number;
}

export const perfectWire: WireOptions = { latencyMs: 1, jitterMs: 0, lossRatio: 0, duplicateRatio: 0 };

/** What a datagram looks like to whoever watches a wire, and what an attacker may change. Return false to drop it. */
export type Tap = (datagram: Uint8Array, from: SimNode, to: SimNode) => boolean;

export interface NodeOptions {
  readonly relay?: boolean;
  readonly exit?: boolean;
  readonly maxCircuits?: number;
  readonly setupsPerSecond?: number;
  readonly serve?: (session: SessionApi) => SessionOwner;
  readonly maxLinks?: number;
  readonly memoryBytes?: number;
  /** The NodeID, where it has to belong to an identity; else any. */
  readonly nodeId?: Uint8Array;
  /** Options of the engine that the ones above don't cover. */
  readonly engineOptions?: Partial<EngineOptions>;
  /** Callbacks of the test's own, in place of the node's. */
  readonly host?: Partial<EngineHost>;
  /** Something else in the engine's place (raw-peer.ts). */
  readonly engine?: (options: EngineOptions, deps: EngineDependencies) => EngineApi;
}

interface InFlight {
  readonly atMs: number;
  readonly order: number;
  readonly to: SimNode;
  readonly via: Via;
  readonly from: PeerAddress;
  readonly datagram: Uint8Array;
}

export class SimNode {
  readonly name: string;
  readonly address: PeerAddress;
  /** Answers to datagrams from this port come back to the node's dial socket. */
  dialAddress: PeerAddress;
  /** Another one after a restart. */
  engine: EngineApi;
  readonly #makeEngine: () => EngineApi;
  readonly contact: NodeContact;
  readonly linkEvents: LinkEvent[] = [];
  readonly circuitEvents: ClientCircuitEvent[] = [];
  down = false;

  constructor(name: string, index: number, network: VirtualNetwork, options: NodeOptions) {
    this.name = name;
    this.address = { address: `10.0.${index >> 8}.${index & 255}`, port: 4000 };
    this.dialAddress = { address: this.address.address, port: 5000 };
    const keys = makeNodeKeys(network.suite, network.random, [network.epoch], options.nodeId);
    this.contact = { ...keys.contact, addresses: [this.address] };
    const host: EngineHost = {
      send: (via, to, batch, length, release) => {
        network.send(this, via, to, batch.subarray(0, length));
        release();
      },
      resolve: (nodeId) => network.resolve(nodeId),
      onLink: (event) => this.linkEvents.push(event),
      onCircuit: (event) => this.circuitEvents.push(event),
      onIncomingSession: (session) => options.serve?.(session) ?? { onClose() {} },
      onIncomingSessionEnd: () => {},
      onWake: () => network.wake(this),
      unixSeconds: () => network.unixSeconds,
      ...options.host,
    };
    const engineOptions: EngineOptions = {
      secrets: keys.secrets,
      relay: options.relay ?? true,
      exit: options.exit ?? false,
      named: options.relay ?? true,
      maxLinks: options.maxLinks ?? 1000,
      maxCircuits: options.maxCircuits ?? 10_000,
      memoryBytes: options.memoryBytes ?? 256 * 1024 * 1024,
      session: {},
      setupsPerSecond: options.setupsPerSecond,
      ...options.engineOptions,
    };
    const deps = { suite: network.suite, random: network.random, host };
    this.#makeEngine = () => options.engine?.(engineOptions, deps) ?? new Engine(engineOptions, deps);
    this.engine = this.#makeEngine();
  }

  /** The process was killed and started again: same keys and addresses, nothing remembered. */
  restart(): void {
    this.engine = this.#makeEngine();
    this.down = false;
  }
}

export class VirtualNetwork {
  readonly suite: CryptoSuite;
  readonly random: Random;
  readonly seed: number;
  readonly nodes: SimNode[] = [];
  readonly epoch = 1;
  nowMs = 1000;
  wire: WireOptions;
  tap: Tap | undefined = undefined;
  /** Both directions between these two are cut while it returns true. */
  cut: ((a: SimNode, b: SimNode) => boolean) | undefined = undefined;
  readonly #dice: () => number;
  readonly #flight: InFlight[] = [];
  readonly #byAddress = new Map<string, { node: SimNode; via: Via }>();
  readonly #awake = new Set<SimNode>();
  #order = 0;

  constructor(suite: CryptoSuite, seed: number, wire: WireOptions = perfectWire) {
    this.suite = suite;
    this.seed = seed;
    this.wire = wire;
    this.random = createSeededRandom(`network ${seed}`);
    const dice = createSeededRandom(`wire ${seed}`);
    const four = new Uint8Array(4);
    this.#dice = () => {
      dice.fill(four);
      return (((four[0]! << 24) | (four[1]! << 16) | (four[2]! << 8) | four[3]!) >>> 0) / 2 ** 32;
    };
  }

  get unixSeconds(): number {
    return 1_800_000_000 + Math.floor(this.nowMs / 1000);
  }

  add(name: string, options: NodeOptions = {}): SimNode {
    const node = new SimNode(name, this.nodes.length + 1, this, options);
    this.nodes.push(node);
    this.#byAddress.set(key(node.address), { node, via: Via.listen });
    this.#byAddress.set(key(node.dialAddress), { node, via: Via.dial });
    return node;
  }

  /** The node opens its links from another address from now on; what comes to the old one is lost. */
  move(node: SimNode, address: PeerAddress): void {
    this.#byAddress.delete(key(node.dialAddress));
    node.dialAddress = address;
    this.#byAddress.set(key(address), { node, via: Via.dial });
  }

  resolve(nodeId: Uint8Array): NodeContact | undefined {
    return this.nodes.find((node) => this.suite.equal(node.contact.nodeId, nodeId))?.contact;
  }

  wake(node: SimNode): void {
    this.#awake.add(node);
  }

  send(from: SimNode, via: Via, to: PeerAddress, batch: Uint8Array): void {
    const target = this.#byAddress.get(key(to));
    if (target === undefined) return;
    const source = via === Via.listen ? from.address : from.dialAddress;
    for (let offset = 0; offset < batch.length; offset += DATAGRAM_BYTES) {
      const datagram = batch.slice(offset, offset + DATAGRAM_BYTES);
      if (this.tap !== undefined && !this.tap(datagram, from, target.node)) continue;
      if (this.cut?.(from, target.node) || this.cut?.(target.node, from)) continue;
      if (this.#dice() < this.wire.lossRatio) continue;
      this.#launch(target.node, target.via, source, datagram);
      if (this.#dice() < this.wire.duplicateRatio) this.#launch(target.node, target.via, source, datagram.slice());
    }
  }

  /** Puts a datagram on the wire as an outsider would. */
  inject(to: SimNode, datagram: Uint8Array, from: PeerAddress = { address: '10.9.9.9', port: 9 }): void {
    this.#launch(to, Via.listen, from, datagram);
  }

  #launch(to: SimNode, via: Via, from: PeerAddress, datagram: Uint8Array): void {
    const atMs = this.nowMs + this.wire.latencyMs + this.#dice() * this.wire.jitterMs;
    const item: InFlight = { atMs, order: this.#order++, to, via, from, datagram };
    // Sorted by arrival; a binary search keeps long runs cheap.
    let low = 0;
    let high = this.#flight.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#flight[middle]!.atMs <= atMs) low = middle + 1;
      else high = middle;
    }
    this.#flight.splice(low, 0, item);
  }

  /** Runs until `done` says so or the virtual time is over; true = done. */
  run(untilMs: number, done: () => boolean = () => false): boolean {
    for (const node of this.nodes) this.#awake.add(node);
    let stuckAtMs = this.nowMs;
    let stuckRounds = 0;
    for (;;) {
      this.#flushAwake();
      if (done()) return true;
      let next = this.#flight[0]?.atMs ?? Number.POSITIVE_INFINITY;
      for (const node of this.nodes) if (!node.down) next = Math.min(next, node.engine.nextTimeoutMs());
      if (next > untilMs) {
        this.nowMs = untilMs;
        return false;
      }
      this.nowMs = Math.max(this.nowMs, next);
      if (this.nowMs !== stuckAtMs) {
        stuckAtMs = this.nowMs;
        stuckRounds = 0;
      } else if (++stuckRounds > 100_000) {
        const timeouts = this.nodes.map((node) => `${node.name} ${node.engine.nextTimeoutMs()}`).join(', ');
        throw new Error(`seed ${this.seed}: time stands still at ${this.nowMs} (${timeouts})`);
      }
      while (this.#flight.length > 0 && this.#flight[0]!.atMs <= this.nowMs) {
        const item = this.#flight.shift()!;
        if (item.to.down) continue;
        item.to.engine.handleDatagrams(item.datagram, item.via, item.from, this.nowMs);
        this.#awake.add(item.to);
      }
      for (const node of this.nodes) {
        if (!node.down && node.engine.nextTimeoutMs() <= this.nowMs) this.#awake.add(node);
      }
    }
  }

  #flushAwake(): void {
    for (let rounds = 0; this.#awake.size > 0; rounds++) {
      if (rounds > 10_000) throw new Error(`seed ${this.seed}: a node never stops waking itself`);
      const nodes = [...this.#awake];
      this.#awake.clear();
      for (const node of nodes) if (!node.down) node.engine.flush(this.nowMs);
    }
  }
}

function key(address: PeerAddress): string {
  return `${address.address}:${address.port}`;
}

/** A node's keys and the public half that others need. */
export function makeNodeKeys(
  suite: CryptoSuite,
  random: Random,
  epochs: readonly number[],
  knownNodeId?: Uint8Array,
): { secrets: NodeSecrets; contact: Omit<NodeContact, 'addresses'> } {
  const fill = (length: number) => {
    const bytes = new Uint8Array(length);
    random.fill(bytes);
    return bytes;
  };
  const nodeId = knownNodeId ?? fill(32);
  const linkX25519Secret = fill(32);
  const linkKemSeed = fill(64);
  const mix: MixSecrets[] = epochs.map((epoch) => ({ epoch, x25519Secret: fill(32), kemSeed: fill(64) }));
  return {
    secrets: { nodeId, linkX25519Secret, linkKemSeed, mix },
    contact: {
      nodeId,
      linkX25519: suite.x25519(linkX25519Secret).publicKey,
      linkKem: suite.mlkem768(linkKemSeed).publicKey,
      mixKeys: mix.map(({ epoch, x25519Secret, kemSeed }) => ({
        epoch,
        x25519: suite.x25519(x25519Secret).publicKey,
        kem: suite.mlkem768(kemSeed).publicKey,
      })),
    },
  };
}
