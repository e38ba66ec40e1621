/** One circuit of ours, from its first cell to its end, as the pool keeps it. */
import { type CircuitClass, CircuitEnd } from '@nyx/core/engine/contract.ts';
import type { TimeMs } from '@nyx/core/ports.ts';
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import { DialError, type PumpStats } from './contract.ts';
import { describeCircuitEnd, dialCodeOfCircuitEnd } from './dial-code.ts';
import type { PathRace } from './path-race.ts';
import type { Resumption } from './resumption.ts';

/** Whoever uses a circuit: counted, and shown in its statistics. */
export interface CircuitUser {
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

export class PooledCircuit {
  /** The newest one under the session. */
  circuit: number;
  /** All that are under the session now or on their way to it. */
  readonly handles = new Set<number>();
  /** Of those on their way: their paths. */
  readonly attaching = new Map<number, readonly string[]>();
  readonly session: SessionApi;
  path: readonly string[];
  readonly class: CircuitClass;
  readonly addedLatencyMs: number;
  /** Undefined: not for reuse, only by its number. */
  key: string | undefined;
  readonly builtAtMs: TimeMs;
  /** From when on its age counts: built for somebody, or made somebody's. */
  takenAtMs: TimeMs;
  /** `resuming`: its circuit is silent or lost, and another one is being built for the session. */
  state: 'building' | 'ready' | 'resuming' | 'ended' = 'building';
  /** While it is resuming: what brings another circuit. */
  resumption: Resumption | undefined = undefined;
  setupMs: number | undefined = undefined;
  end: CircuitEnd | undefined = undefined;
  idleSinceMs: TimeMs;
  /** While it is being built: those that try the same at the same time. */
  race: PathRace | undefined = undefined;
  /** It has not answered in time. */
  isSuspected = false;
  /** It was given up because this one was ready sooner. */
  successor: PooledCircuit | undefined = undefined;
  readonly users = new Set<CircuitUser>();
  /** Ports that its exit has refused. */
  readonly unfitPorts = new Set<number>();
  /** `host:port` it was asked for; its exit's refusal of that is final. */
  readonly askedFor: string | undefined;
  /** UDP associations by flow id. */
  readonly flows: Map<number, (data: Uint8Array) => void>;
  readonly settled: Promise<void>;
  readonly settle: () => void;
  #quietAtPackets = -1;
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
    this.handles.add(init.circuit);
    this.session = init.session;
    this.path = init.path;
    this.class = init.class;
    this.addedLatencyMs = init.addedLatencyMs;
    this.key = init.key;
    this.askedFor = init.askedFor;
    this.flows = init.flows;
    this.builtAtMs = init.nowMs;
    this.takenAtMs = init.nowMs;
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

  /** Something was sent and nothing came back: it takes no new streams until something does. */
  noteQuiet(): void {
    this.#quietAtPackets = this.session.stats.packetsReceived;
  }

  get isQuiet(): boolean {
    return this.session.stats.packetsReceived === this.#quietAtPackets;
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
