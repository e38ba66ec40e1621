/**
 * The circuits that this worker's streams run over. A circuit belongs to a pool key (isolation, hops, class): streams
 * with different keys never share one, streams with the same key share the newest that will do. Circuits that the API
 * built on purpose have no key and are used by their number only.
 *
 * A circuit takes no new streams after ten minutes (so that what a user does over a day is not all linkable at one
 * exit), and is closed once nothing has used it for ten minutes, or nothing uses it and it takes no new streams.
 *
 * Exit policies: a circuit is tried for any port; the exit decides. When it refuses, the circuit is remembered as
 * unfit for that port, and the stream is dialled again over a path that was asked for with that target.
 */
import {
  type CircuitClass,
  CircuitEnd,
  type ClientCircuitEvent,
  type EngineApi,
  type NodeContact,
  type SessionOwner,
} from '@nyx/core/engine/contract.ts';
import type { TimeMs, UnixSeconds } from '@nyx/core/ports.ts';
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import { DialError, DialErrorCode, type FromPump, type PathConstraints, type PumpStats } from './contract.ts';
import { describeCircuitEnd, dialCodeOfCircuitEnd } from './dial-code.ts';

/** After this a circuit gets no new streams; unused for this long it is closed. */
export const CIRCUIT_DIRTY_MS = 600_000;
/** How long the hops keep a circuit at most. */
const CIRCUIT_LIFETIME_SECONDS = 24 * 3600;

export interface PoolHost {
  /** A path from the verified view; rejects with DialError NO_PATH. */
  requestPath(constraints: PathConstraints): Promise<readonly NodeContact[]>;
  tell(message: FromPump): void;
  nowMs(): TimeMs;
  unixSeconds(): UnixSeconds;
}

export interface CircuitRequest {
  readonly isolation: string;
  readonly hops: number;
  readonly class: CircuitClass;
  /** Undefined: any exit (name resolution, datagrams). */
  readonly target: { readonly host: string; readonly port: number } | undefined;
  /** The path must have been asked for with this target. */
  readonly exact: boolean;
}

/** Whoever uses a circuit: counted, and shown in its statistics. */
export interface CircuitUser {
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** One circuit of ours, from its first cell to its end. */
export class PooledCircuit {
  readonly circuit: number;
  readonly session: SessionApi;
  readonly path: readonly string[];
  readonly class: CircuitClass;
  readonly addedLatencyMs: number;
  /** Undefined: not for reuse, only by its number. */
  readonly key: string | undefined;
  readonly builtAtMs: TimeMs;
  state: 'building' | 'ready' | 'ended' = 'building';
  setupMs: number | undefined = undefined;
  end: CircuitEnd | undefined = undefined;
  idleSinceMs: TimeMs;
  readonly users = new Set<CircuitUser>();
  /** Ports that its exit has refused. */
  readonly unfitPorts = new Set<number>();
  /** `host:port` it was asked for; its exit's refusal of that is final. */
  readonly askedFor: string | undefined;
  /** UDP associations by flow id. */
  readonly flows: Map<number, (data: Uint8Array) => void>;
  readonly settled: Promise<void>;
  readonly settle: () => void;
  #pastBytesSent = 0;
  #pastBytesReceived = 0;

  constructor(init: {
    circuit: number;
    session: SessionApi;
    path: readonly string[];
    class: CircuitClass;
    addedLatencyMs: number;
    key: string | undefined;
    askedFor: string | undefined;
    flows: Map<number, (data: Uint8Array) => void>;
    nowMs: TimeMs;
  }) {
    this.circuit = init.circuit;
    this.session = init.session;
    this.path = init.path;
    this.class = init.class;
    this.addedLatencyMs = init.addedLatencyMs;
    this.key = init.key;
    this.askedFor = init.askedFor;
    this.flows = init.flows;
    this.builtAtMs = init.nowMs;
    this.idleSinceMs = init.nowMs;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.settled = promise;
    this.settle = resolve;
  }

  enter(user: CircuitUser): void {
    this.users.add(user);
  }

  leave(user: CircuitUser, nowMs: TimeMs): void {
    if (!this.users.delete(user)) return;
    this.#pastBytesSent += user.bytesSent;
    this.#pastBytesReceived += user.bytesReceived;
    this.idleSinceMs = nowMs;
  }

  /** Why it ended, as an error of whoever wanted to use it. */
  failure(): DialError {
    const reason = this.end ?? CircuitEnd.linkLost;
    return new DialError(dialCodeOfCircuitEnd(reason), `circuit ended: ${describeCircuitEnd(reason)}`);
  }

  stats(nowMs: TimeMs): PumpStats['clientCircuits'][number] {
    const { session } = this;
    const s = session.stats;
    let bytesSent = this.#pastBytesSent;
    let bytesReceived = this.#pastBytesReceived;
    for (const user of this.users) {
      bytesSent += user.bytesSent;
      bytesReceived += user.bytesReceived;
    }
    return {
      circuit: this.circuit,
      path: this.path,
      class: this.class,
      addedLatencyMs: this.addedLatencyMs,
      state: this.state === 'building' ? 'building' : 'ready',
      setupMs: this.setupMs,
      rttMs: s.smoothedRttMs,
      streams: this.users.size,
      bytesSent,
      bytesReceived,
      deliveryRateBytesPerSecond: s.deliveryRateBytesPerSecond,
      lossRatio: s.packetsSent === 0 ? 0 : s.packetsLost / s.packetsSent,
      spuriousRatio: s.packetsSent === 0 ? 0 : s.spuriousRetransmissions / s.packetsSent,
      ageMs: nowMs - this.builtAtMs,
    };
  }
}

export class CircuitPool {
  readonly #engine: EngineApi;
  readonly #host: PoolHost;
  readonly #maxCircuits: number;
  readonly #mixDelayMs: number;
  readonly #circuits = new Map<number, PooledCircuit>();
  /** Oldest first. */
  readonly #byKey = new Map<string, PooledCircuit[]>();
  readonly #pending = new Map<string, Promise<PooledCircuit>>();

  constructor(engine: EngineApi, host: PoolHost, maxCircuits: number, mixDelayMs: number) {
    this.#engine = engine;
    this.#host = host;
    this.#maxCircuits = maxCircuits;
    this.#mixDelayMs = mixDelayMs;
  }

  get size(): number {
    return this.#circuits.size;
  }

  /** What the class adds to the latency one way, on average. */
  addedLatencyMs(circuitClass: CircuitClass, hops: number): number {
    return circuitClass === 'mix' ? hops * this.#mixDelayMs : 0;
  }

  find(circuit: number): PooledCircuit | undefined {
    return this.#circuits.get(circuit);
  }

  all(): IterableIterator<PooledCircuit> {
    return this.#circuits.values();
  }

  /** A circuit that may carry the request, at once if there is one; usable while it is still being built (0-RTT). */
  async acquire(request: CircuitRequest, unfit?: PooledCircuit): Promise<PooledCircuit> {
    const key = poolKey(request);
    const present = this.#reusable(key, request, unfit);
    if (present !== undefined) return present;
    const pendingKey = request.exact && request.target ? `${key} for ${targetText(request.target)}` : key;
    const pending = this.#pending.get(pendingKey);
    if (pending !== undefined) return pending;
    const building = this.#build(key, request).finally(() => this.#pending.delete(pendingKey));
    this.#pending.set(pendingKey, building);
    return building;
  }

  /** Builds one over these hops, for use by its number. Throws DialError. */
  build(hops: readonly NodeContact[], circuitClass: CircuitClass): PooledCircuit {
    return this.#open(hops, circuitClass, undefined, undefined);
  }

  /** The engine's word on one of our circuits. */
  onCircuit(event: ClientCircuitEvent): void {
    const record = this.#circuits.get(event.circuit);
    if (record === undefined) return;
    const { circuit, path } = record;
    if (event.kind === 'ready') {
      record.state = 'ready';
      record.setupMs = event.setupMs;
      this.#host.tell({ type: 'circuit', kind: 'ready', circuit, path, setupMs: event.setupMs });
    } else {
      record.state = 'ended';
      record.end = event.reason;
      this.#remove(record);
      const reason = describeCircuitEnd(event.reason);
      this.#host.tell({ type: 'circuit', kind: 'ended', circuit, path, reason, hop: event.hop });
    }
    record.settle();
  }

  close(circuit: number): void {
    if (this.#circuits.has(circuit)) this.#engine.closeCircuit(circuit, CircuitEnd.requested, this.#host.nowMs());
  }

  /** Closes what nobody uses any more. */
  sweep(nowMs: TimeMs): void {
    for (const record of [...this.#circuits.values()]) {
      if (record.users.size > 0) continue;
      const dirty = record.key !== undefined && nowMs - record.builtAtMs > CIRCUIT_DIRTY_MS;
      if (dirty || nowMs - record.idleSinceMs > CIRCUIT_DIRTY_MS) this.close(record.circuit);
    }
  }

  /** Under memory pressure: ends the circuit that has been idle longest, else the oldest; gives what its buffers held. Undefined: none. */
  shed(): number | undefined {
    let victim: PooledCircuit | undefined;
    for (const record of this.#circuits.values()) {
      if (record.users.size === 0 && (victim === undefined || record.idleSinceMs < victim.idleSinceMs)) victim = record;
    }
    // Oldest first: maps keep the order in which circuits were built.
    victim ??= this.#circuits.values().next().value;
    if (victim === undefined) return undefined;
    const { bufferedBytes } = victim.session.stats;
    this.#engine.closeCircuit(victim.circuit, CircuitEnd.memory, this.#host.nowMs());
    return bufferedBytes;
  }

  #reusable(key: string, request: CircuitRequest, unfit: PooledCircuit | undefined): PooledCircuit | undefined {
    const records = this.#byKey.get(key);
    if (records === undefined) return undefined;
    const nowMs = this.#host.nowMs();
    const asked = request.target && targetText(request.target);
    for (let i = records.length - 1; i >= 0; i--) {
      const record = records[i]!;
      if (record === unfit || record.session.closed || nowMs - record.builtAtMs > CIRCUIT_DIRTY_MS) continue;
      if (request.target && record.unfitPorts.has(request.target.port)) continue;
      if (request.exact && record.askedFor !== asked) continue;
      return record;
    }
    return undefined;
  }

  async #build(key: string, request: CircuitRequest): Promise<PooledCircuit> {
    const hops = await this.#host.requestPath({
      hops: request.hops,
      class: request.class,
      needExit: request.target,
    });
    return this.#open(hops, request.class, key, request.target && targetText(request.target));
  }

  #open(
    hops: readonly NodeContact[],
    circuitClass: CircuitClass,
    key: string | undefined,
    askedFor: string | undefined,
  ): PooledCircuit {
    this.#makeRoom();
    const nowMs = this.#host.nowMs();
    const flows = new Map<number, (data: Uint8Array) => void>();
    const owner: SessionOwner = {
      onDatagram: (flowId, data) => flows.get(flowId)?.(data),
      onClose: () => {}, // its streams and onCircuit have said so
    };
    let built: { circuit: number; session: SessionApi };
    try {
      built = this.#engine.buildCircuit(
        {
          hops,
          class: circuitClass,
          delayMeanUs: circuitClass === 'mix' ? 1000 * this.#mixDelayMs : 0,
          expiry: this.#host.unixSeconds() + CIRCUIT_LIFETIME_SECONDS,
        },
        owner,
        nowMs,
      );
    } catch (error) {
      // A path that cannot be built at all: a bad number of hops, a hop without usable keys.
      throw new DialError(DialErrorCode.pathFailed, error instanceof Error ? error.message : String(error));
    }
    const { circuit, session } = built;
    const path = hops.map((hop) => Buffer.from(hop.nodeId).toString('hex'));
    const addedLatencyMs = this.addedLatencyMs(circuitClass, hops.length);
    const record = new PooledCircuit({
      circuit,
      session,
      path,
      class: circuitClass,
      addedLatencyMs,
      key,
      askedFor,
      flows,
      nowMs,
    });
    if (session.closed) throw new DialError(DialErrorCode.pathFailed, 'the first link takes no further circuits');
    this.#circuits.set(circuit, record);
    if (key !== undefined) {
      const records = this.#byKey.get(key);
      if (records === undefined) this.#byKey.set(key, [record]);
      else records.push(record);
    }
    this.#host.tell({ type: 'circuit', kind: 'building', circuit, path });
    return record;
  }

  #makeRoom(): void {
    if (this.#circuits.size < this.#maxCircuits) return;
    for (const record of this.#circuits.values()) {
      if (record.users.size > 0 || record.key === undefined) continue;
      this.close(record.circuit);
      if (this.#circuits.size < this.#maxCircuits) return;
    }
    throw new DialError(DialErrorCode.limit, `${this.#maxCircuits} circuits are in use, which is the limit`);
  }

  #remove(record: PooledCircuit): void {
    this.#circuits.delete(record.circuit);
    if (record.key === undefined) return;
    const records = this.#byKey.get(record.key);
    if (records === undefined) return;
    const index = records.indexOf(record);
    if (index >= 0) records.splice(index, 1);
    if (records.length === 0) this.#byKey.delete(record.key);
  }
}

function poolKey(request: CircuitRequest): string {
  return `${request.hops} ${request.class} ${request.isolation}`;
}

function targetText(target: { readonly host: string; readonly port: number }): string {
  return `${target.host}:${target.port}`;
}
