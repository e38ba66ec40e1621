/** One circuit of ours, from its first cell to its end, as the pool keeps it. */

import { type CircuitClass, CircuitEnd } from '@nyx/core/engine/contract.ts';
import type { FecPolicy } from '@nyx/core/fec/policy.ts';
import type { TimeMs } from '@nyx/core/ports.ts';
import type { PathStats, SessionApi } from '@nyx/core/stream/contract.ts';
import { Scheduler } from '@nyx/core/stream/path-choice.ts';
import { PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import { DialError, type PumpStats } from './contract.ts';
import { describeCircuitEnd, dialCodeOfCircuitEnd } from './dial-code.ts';
import type { PathRace } from './path-race.ts';
import type { Resumption } from './resumption.ts';

/** Whoever uses a circuit: counted, and shown in its statistics. */
export interface CircuitUser {
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** What a session tells about the datagrams of one flow. */
export interface DatagramFlow {
  /** Borrows. */
  onDatagram(data: Uint8Array): void;
  /** One was too old: of ours (`own`) before it could leave, of the exit's when it came. */
  onExpired(own: boolean): void;
}

/** One circuit under a session, or on its way to it. */
export interface UnderCircuit {
  readonly path: readonly string[];
  readonly builtAtMs: TimeMs;
  /** Undefined: not yet. */
  readyAtMs: TimeMs | undefined;
  setupMs: number | undefined;
  /** Since when nothing comes from it while others carry. */
  suspectSinceMs: TimeMs | undefined;
}

export interface PathWish {
  /** 1…8 circuits without a common node but the last. */
  readonly paths: number;
  readonly strategy: Scheduler;
  readonly fec: FecPolicy;
}

export const ONE_PATH: PathWish = { paths: 1, strategy: Scheduler.latencyWeighted, fec: 'adaptive' };

export class PooledCircuit {
  /** The first one that the session had: how events name it. */
  readonly id: number;
  /** The oldest one under the session that is ready. */
  circuit: number;
  /** All that are under the session now or on their way to it. */
  readonly circuits = new Map<number, UnderCircuit>();
  readonly session: SessionApi;
  path: readonly string[];
  wanted: PathWish = ONE_PATH;
  /** Circuits that a session on several has lost and not got back. */
  missing = 0;
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
  /** While it is being built, and after that has failed: those that try the same at the same time. */
  race: PathRace | undefined = undefined;
  /** It has not answered in time. */
  isSuspected = false;
  /** It was ready, and then nothing came back on it any more. */
  wentSilent = false;
  /** It was given up because this one was ready sooner. */
  successor: PooledCircuit | undefined = undefined;
  readonly users = new Set<CircuitUser>();
  /** Ports that its exit has refused. */
  readonly unfitPorts = new Set<number>();
  /** `host:port` it was asked for; its exit's refusal of that is final. */
  readonly askedFor: string | undefined;
  /** UDP associations by flow id. */
  readonly flows: Map<number, DatagramFlow>;
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
    flows: Map<number, DatagramFlow>;
    nowMs: TimeMs;
  }) {
    this.id = init.circuit;
    this.circuit = init.circuit;
    this.circuits.set(init.circuit, underCircuit(init.path, init.nowMs));
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

  /** How its users want it to be spread. */
  wish(wanted: PathWish): void {
    this.wanted = wanted;
    this.session.setScheduler(wanted.strategy);
    this.session.setFec(wanted.fec);
  }

  get wantedPaths(): number {
    return this.wanted.paths;
  }

  /** Those that have joined. */
  get readyPaths(): number {
    let ready = 0;
    for (const { readyAtMs } of this.circuits.values()) if (readyAtMs !== undefined) ready++;
    return ready;
  }

  /** It is over, but others were set up for the same: whoever was on it asks for one of those. */
  get hasSuccessor(): boolean {
    return this.successor !== undefined || (this.state === 'ended' && this.race?.over === false);
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

  /** `statsOf`: of a circuit's path in the session. */
  stats(nowMs: TimeMs, statsOf: (circuit: number) => PathStats | undefined): PumpStats['clientCircuits'][number] {
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
      wantedPaths: this.wantedPaths,
      strategy: s.scheduler,
      fec: s.fec,
      reorderedBytes: s.reorderedBytes,
      reorderLimitBytes: Number.isFinite(s.reorderLimitBytes) ? s.reorderLimitBytes : undefined,
      paths: Array.from(this.circuits, ([circuit, { path, setupMs, builtAtMs }]) =>
        pathView(circuit, path, setupMs, nowMs - builtAtMs, statsOf(circuit)),
      ),
    };
  }
}

export function underCircuit(path: readonly string[], nowMs: TimeMs): UnderCircuit {
  return { path, builtAtMs: nowMs, readyAtMs: undefined, setupMs: undefined, suspectSinceMs: undefined };
}

function pathView(
  circuit: number,
  path: readonly string[],
  setupMs: number | undefined,
  ageMs: number,
  stats: PathStats | undefined,
): PumpStats['clientCircuits'][number]['paths'][number] {
  const sent = stats?.packetsSent ?? 0;
  return {
    circuit,
    path,
    setupMs,
    ageMs,
    state: setupMs === undefined ? 'building' : (stats?.state ?? 'gone'),
    rttMs: stats?.smoothedRttMs,
    minRttMs: stats?.minRttMs,
    jitterMs: stats?.jitterMs,
    lossRatio: sent === 0 ? 0 : stats!.packetsLost / sent,
    packetsSent: sent,
    packetsReceived: stats?.packetsReceived ?? 0,
    packetsInFlight: stats?.packetsInFlight ?? 0,
    windowPackets: stats?.windowPackets ?? 0,
    deliveryRateBytesPerSecond: (stats?.deliveredPacketsPerMs ?? 0) * 1000 * PAYLOAD_BYTES,
    copiedBytes: stats?.copiedBytes ?? 0,
  };
}
