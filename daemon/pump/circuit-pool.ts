/**
 * The circuits that this worker's streams run over. A circuit belongs to a pool key (isolation, hops, class): streams
 * with different keys never share one, streams with the same key share the newest that will do. Circuits that the API
 * built on purpose have no key and are used by their number only.
 *
 * A circuit takes no new streams after ten minutes (so that what a user does over a day is not all linkable at one
 * exit), and is closed once nothing has used it for ten minutes, or nothing uses it and it takes no new streams.
 *
 * Dead relays: a set-up that does not answer gets company (path-race.ts), for as long as somebody waits, and so does a
 * ready circuit on which nothing comes back (replacement()). A few circuits are built ahead for whoever comes first (spare-circuits.ts).
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
import { fecPolicyText } from '@nyx/core/fec/policy.ts';
import type { TimeMs, UnixSeconds } from '@nyx/core/ports.ts';
import { type SessionApi, SessionError } from '@nyx/core/stream/contract.ts';
import { DialError, DialErrorCode, type FromPump, type PathConstraints, type PumpStats } from './contract.ts';
import { describeCircuitEnd } from './dial-code.ts';
import { PathKeeper } from './path-keeper.ts';
import { MIN_WAIT_MS, PathRace, SetupTimes } from './path-race.ts';
import {
  type CircuitUser,
  type DatagramFlow,
  ONE_PATH,
  type PathWish,
  PooledCircuit,
  type UnderCircuit,
  underCircuit,
} from './pooled-circuit.ts';
import { Resumption } from './resumption.ts';
import { type SpareOptions, SparePlan } from './spare-circuits.ts';
import { Suspects } from './suspects.ts';

/** After this a circuit gets no new streams; unused for this long it is closed. */
export const CIRCUIT_DIRTY_MS = 600_000;
/** What a circuit has to answer when the network is back: a link's move and some round trips. */
const NETWORK_BACK_MS = 700;
/** How long the hops keep a circuit at most. */
const CIRCUIT_LIFETIME_SECONDS = 24 * 3600;
/** Pool key of the circuits that are nobody's yet. No request has it: theirs begin with a number. */
const SPARE = 'spare';

export interface PoolHost {
  /** A path from the verified view; rejects with DialError NO_PATH. */
  requestPath(constraints: PathConstraints): Promise<readonly NodeContact[]>;
  tell(message: FromPump): void;
  nowMs(): TimeMs;
  unixSeconds(): UnixSeconds;
  /** This machine has no network now. */
  isAway(): boolean;
  /** Calls once after this time; gives what cancels that. */
  schedule(delayMs: number, callback: () => void): () => void;
}

export interface PoolOptions {
  /** Circuits at once. */
  readonly maxCircuits: number;
  readonly mixDelayMs: number;
  /** Class cmix: how long a hop holds a cell, about. */
  readonly batchMs: () => number;
  readonly spares: SpareOptions;
}

export interface CircuitRequest {
  readonly isolation: string;
  readonly hops: number;
  readonly class: CircuitClass;
  /** Undefined: any exit (name resolution, datagrams). */
  readonly target: { readonly host: string; readonly port: number } | undefined;
  /** The path must have been asked for with this target. */
  readonly exact: boolean;
  readonly wish: PathWish;
}

export class CircuitPool {
  readonly #engine: EngineApi;
  readonly #host: PoolHost;
  #options: PoolOptions;
  readonly #records = new Set<PooledCircuit>();
  /** By the number of any circuit under it. */
  readonly #circuits = new Map<number, PooledCircuit>();
  /** Oldest first. */
  readonly #byKey = new Map<string, PooledCircuit[]>();
  readonly #pending = new Map<string, Promise<PooledCircuit>>();
  /** Under way. */
  readonly #races = new Set<PathRace>();
  readonly #suspects = new Suspects();
  readonly #setupTimes = new SetupTimes();
  readonly #spares: SparePlan;
  readonly #keeper: PathKeeper;

  constructor(engine: EngineApi, host: PoolHost, options: PoolOptions) {
    this.#engine = engine;
    this.#host = host;
    this.#options = options;
    this.#spares = new SparePlan(options.spares, host.nowMs());
    this.#keeper = new PathKeeper({
      requestPath: (constraints) => host.requestPath(constraints),
      attach: (record, hops) => this.#attach(record, hops),
      drop: (circuit) => engine.closeCircuit(circuit, CircuitEnd.requested, host.nowMs()),
      stateOf: (circuit) => engine.pathStats(circuit)?.state,
      waitMs: (circuitClass, hops) => this.#setupTimes.waitMs(circuitClass, hops, 1),
      suspects: () => this.#suspects.list(host.nowMs()),
      nowMs: () => host.nowMs(),
    });
  }

  /** For circuits to come; those that there are stay, even beyond a lower limit. */
  retune(options: PoolOptions): void {
    this.#options = options;
    this.#spares.options = options.spares;
  }

  get size(): number {
    return this.#records.size;
  }

  /** What the class adds to the latency one way, on average. */
  addedLatencyMs(circuitClass: CircuitClass, hops: number): number {
    const { mixDelayMs, batchMs } = this.#options;
    return hops * { fast: 0, mix: mixDelayMs, cmix: batchMs() }[circuitClass];
  }

  find(circuit: number): PooledCircuit | undefined {
    return this.#circuits.get(circuit);
  }

  all(): IterableIterator<PooledCircuit> {
    return this.#records.values();
  }

  /** A circuit that may carry the request, at once if there is one; usable while it is still being built (0-RTT). */
  async acquire(request: CircuitRequest, unfit?: PooledCircuit): Promise<PooledCircuit> {
    const key = poolKey(request);
    this.#spares.noteDial(this.#host.nowMs());
    const present = this.#reusable(key, request, unfit);
    if (present !== undefined) return present;
    const pendingKey = pendingKeyOf(key, request);
    const pending = this.#pending.get(pendingKey);
    if (pending !== undefined) return pending;
    for (const race of this.#races) {
      // All that were in it have failed, and it goes on.
      if (race.racers.size === 0 && pendingKeyOf(race.key, race.request) === pendingKey) return race.next();
    }
    const spare = this.#takeSpare(key, request);
    if (spare !== undefined) return spare;
    const building = this.#build(key, request).finally(() => this.#pending.delete(pendingKey));
    this.#pending.set(pendingKey, building);
    return building;
  }

  /** What each circuit under it is to its session is in there. */
  stats(record: PooledCircuit): PumpStats['clientCircuits'][number] {
    return record.stats(this.#host.nowMs(), (circuit) => this.#engine.pathStats(circuit));
  }

  /** Somebody uses it from now on: further circuits are built if they were asked for. */
  enter(record: PooledCircuit, user: CircuitUser): void {
    record.enter(user);
    this.#keeper.look(record);
  }

  /** How long a stream on this ready circuit waits for a word of the other end before it asks for a replacement. */
  quietMs(record: PooledCircuit): number {
    return this.#setupTimes.quietMs(record.session.stats.smoothedRttMs);
  }

  /**
   * Another circuit for the request, in place of a ready one on which nothing comes back. Resolves once it is ready;
   * undefined: it ended first. Rejects with DialError when there is no path. The quiet one stays as it is. Who is to
   * blame is not known while the first hop, too, has not been heard `sinceMs`: it owes no answer to data that it passes on.
   */
  async replacement(
    record: PooledCircuit,
    request: CircuitRequest,
    sinceMs: TimeMs,
  ): Promise<PooledCircuit | undefined> {
    record.noteQuiet();
    if (this.#isHeardSince(record.path[0]!, sinceMs)) {
      this.#suspects.noteSilent(record.path, sinceMs, this.#host.nowMs());
    }
    let other: PooledCircuit | undefined = await this.acquire(request, record);
    await other.settled;
    other = other.successor ?? other;
    return other.state === 'ready' ? other : undefined;
  }

  /** No circuits are built ahead any more. */
  stopSpares(): void {
    this.#spares.stop();
  }

  /** Builds one over these hops, for use by its number. Throws DialError. */
  build(hops: readonly NodeContact[], circuitClass: CircuitClass): PooledCircuit {
    return this.#open(hops, circuitClass, undefined, undefined, ONE_PATH);
  }

  /** The engine's word on one of our circuits. */
  onCircuit(event: ClientCircuitEvent): void {
    const record = this.#circuits.get(event.circuit);
    if (record === undefined) return;
    if (event.circuit !== record.circuit || record.resumption !== undefined) {
      this.#onFurtherCircuit(record, event);
      return;
    }
    const { circuit, path } = record;
    if (event.kind === 'ended' && !record.session.closed) {
      this.#forgetCircuit(record, event);
      return;
    }
    if (event.kind === 'ready') {
      this.#become(record, 'ready');
      this.#noteReady(record, event);
      this.#suspects.clear(path, this.#host.nowMs());
      this.#spares.noteReady();
      this.#setupTimes.note(record.class, path.length, event.setupMs);
      this.#host.tell({ type: 'circuit', kind: 'ready', circuit, path, setupMs: event.setupMs });
      if (record.key === SPARE) this.#giveAway(record);
      this.#win(record);
      this.#keeper.look(record);
    } else {
      const wasReady = record.state === 'ready';
      record.end = event.reason;
      this.#become(record, 'ended');
      this.#remove(record);
      const reason = describeCircuitEnd(event.reason);
      this.#host.tell({ type: 'circuit', kind: 'ended', circuit, path, reason, hop: event.hop });
      this.#learn(record, event);
      this.#lose(record);
      if (record.key === SPARE && !wasReady && record.successor === undefined) {
        this.#spares.noteFailure(this.#host.nowMs());
      }
    }
    record.settle();
  }

  close(circuit: number): void {
    const record = this.#circuits.get(circuit);
    if (record !== undefined) this.#closeAll(record, CircuitEnd.requested);
  }

  /** Ends the session with all that is under it. */
  #closeAll(record: PooledCircuit, reason: CircuitEnd): void {
    record.resumption?.stop();
    const nowMs = this.#host.nowMs();
    if (record.circuits.size === 0) record.session.abandon(SessionError.sessionLost, 'the circuit ended');
    for (const handle of [...record.circuits.keys()]) this.#engine.closeCircuit(handle, reason, nowMs);
  }

  /** Closes what nobody uses any more, and builds what may be needed next. */
  sweep(nowMs: TimeMs): void {
    for (const record of [...this.#records]) {
      if (record.users.size > 0) {
        this.#keeper.look(record);
        continue;
      }
      const dirty = record.key !== undefined && nowMs - record.takenAtMs > CIRCUIT_DIRTY_MS;
      if (dirty || nowMs - record.idleSinceMs > CIRCUIT_DIRTY_MS) this.close(record.circuit);
    }
    this.#buildSpare(nowMs);
  }

  /** Under memory pressure: ends the circuit that has been idle longest, else the oldest; gives what its buffers held. Undefined: none. */
  shed(): number | undefined {
    let victim: PooledCircuit | undefined;
    for (const record of this.#records) {
      if (record.users.size === 0 && (victim === undefined || record.idleSinceMs < victim.idleSinceMs)) victim = record;
    }
    // Oldest first: sets keep the order in which circuits were built.
    victim ??= this.#records.values().next().value;
    if (victim === undefined) return undefined;
    const { bufferedBytes } = victim.session.stats;
    this.#closeAll(victim, CircuitEnd.memory);
    return bufferedBytes;
  }

  #reusable(key: string, request: CircuitRequest, unfit: PooledCircuit | undefined): PooledCircuit | undefined {
    const records = this.#byKey.get(key);
    if (records === undefined) return undefined;
    const nowMs = this.#host.nowMs();
    const asked = request.target && targetText(request.target);
    for (let i = records.length - 1; i >= 0; i--) {
      const record = records[i]!;
      if (record === unfit || record.session.closed || record.isQuiet || record.state === 'resuming') continue;
      if (nowMs - record.takenAtMs > CIRCUIT_DIRTY_MS) continue;
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
      ...this.#silence(),
    });
    const race = new PathRace(request, key, this.#host.nowMs());
    this.#races.add(race);
    this.#waitForAnswer(race);
    const first = race.next();
    this.#enter(race, hops);
    return first;
  }

  // --- races ---

  #enter(race: PathRace, hops: readonly NodeContact[]): void {
    const { request } = race;
    const askedFor = request.target && targetText(request.target);
    race.lastMs = this.#host.nowMs();
    try {
      race.add(this.#open(hops, request.class, race.key, askedFor, race.wish));
    } catch (error) {
      if (!(error instanceof DialError)) throw error;
      // Another path may do. Of too many circuits none will.
      if (error.code === DialErrorCode.pathFailed) this.#goOn(race, error);
      else if (race.racers.size === 0) this.#finish(race, error);
    }
  }

  #waitForAnswer(race: PathRace): void {
    const { request } = race;
    const waitMs = this.#setupTimes.waitMs(request.class, request.hops, race.attempts);
    race.cancelTimer();
    race.cancelTimer = this.#host.schedule(waitMs, () => void this.#tryBeside(race));
  }

  /** One has failed: the next one need not wait. */
  #goOn(race: PathRace, error: DialError): void {
    const nowMs = this.#host.nowMs();
    race.cancelTimer();
    if (race.isLate(nowMs)) {
      if (race.racers.size === 0) this.#finish(race, error);
      return;
    }
    race.failure = error;
    race.cancelTimer = this.#host.schedule(race.gapMs(nowMs), () => void this.#tryBeside(race));
  }

  /** One more path, beside those that have not answered yet. */
  async #tryBeside(race: PathRace): Promise<void> {
    if (race.over) return;
    const nowMs = this.#host.nowMs();
    if (!race.mayTry(nowMs)) {
      if (race.racers.size === 0) this.#finish(race, race.failure);
      return;
    }
    const { request } = race;
    race.attempts++;
    this.#waitForAnswer(race);
    for (const racer of race.racers) this.#suspect(racer, nowMs);
    try {
      const hops = await this.#host.requestPath({
        hops: request.hops,
        class: request.class,
        needExit: request.target,
        ...this.#doubts(),
      });
      if (!race.over) this.#enter(race, hops);
    } catch (error) {
      if (!(error instanceof DialError)) throw error;
      // Whoever waits still has the attempts under way, and hears of it when they fail.
      if (!race.over && race.racers.size === 0) this.#finish(race, error);
      this.#host.tell({ type: 'log', level: 'debug', message: 'no further path to try', fields: { code: error.code } });
    }
  }

  /** What a path should do without. */
  #silence(): Pick<PathConstraints, 'avoid' | 'tried'> {
    const nowMs = this.#host.nowMs();
    const avoid = this.#suspects.list(nowMs);
    return avoid.length === 0 ? {} : { avoid, tried: this.#suspects.sets(nowMs) };
  }

  /**
   * What the next path of a race should do without. Set-ups that are not late yet count as well: another way is more likely to say
   * something new than one over the same nodes.
   */
  #doubts(): Pick<PathConstraints, 'avoid' | 'tried'> {
    const silent = this.#silence();
    const onTrial: (readonly string[])[] = [];
    for (const { racers } of this.#races) {
      for (const { isSuspected, path } of racers) if (!isSuspected) onTrial.push(path.slice(1));
    }
    return {
      avoid: [...new Set([...onTrial.flat(), ...(silent.avoid ?? [])])],
      tried: [...onTrial, ...(silent.tried ?? [])],
    };
  }

  /** The first one that is ready: the others are given up, and what only they went through is suspected. */
  #win(record: PooledCircuit): void {
    const { race } = record;
    if (race === undefined) return;
    const losers = [...race.racers].filter((racer) => racer !== record);
    this.#finish(race);
    const nowMs = this.#host.nowMs();
    for (const loser of losers) {
      loser.successor = record;
      if (nowMs - loser.builtAtMs >= MIN_WAIT_MS) this.#suspect(loser, nowMs);
      this.#engine.closeCircuit(loser.circuit, CircuitEnd.requested, nowMs);
    }
  }

  #lose(record: PooledCircuit): void {
    const { race } = record;
    if (race === undefined) return;
    race.racers.delete(record);
    if (!race.over) this.#goOn(race, record.failure());
  }

  #finish(race: PathRace, error?: DialError): void {
    race.finish(error);
    this.#races.delete(race);
  }

  /** A spare is ready while others still wait for paths of their own: it decides the race that began first. */
  #giveAway(record: PooledCircuit): void {
    const hops = record.path.length;
    for (const race of this.#races) {
      const { request } = race;
      if (race.key === SPARE) continue;
      if (request.class !== 'fast' || request.exact || request.hops !== hops) continue;
      const own = record.race;
      if (own !== undefined) {
        own.racers.delete(record);
        if (own.racers.size === 0) this.#finish(own);
      }
      this.#handTo(record, race.key, race.wish);
      race.add(record);
      return;
    }
  }

  #handTo(record: PooledCircuit, key: string, wish: PathWish): void {
    this.#removeFromKey(record);
    record.wish(wish);
    record.key = key;
    record.takenAtMs = this.#host.nowMs();
    this.#addToKey(key, record);
  }

  /** Once for each set-up that does not answer. */
  #suspect(racer: PooledCircuit, nowMs: TimeMs): void {
    if (racer.isSuspected) return;
    racer.isSuspected = true;
    this.#blame(racer.path, racer.builtAtMs, nowMs);
  }

  /** A set-up over this path, begun then, has not been answered. */
  #blame(path: readonly string[], sinceMs: TimeMs, nowMs: TimeMs): void {
    const first = path[0]!;
    // It acknowledges a set-up on its link whatever is behind it.
    if (this.#isHeardSince(first, sinceMs)) this.#suspects.noteSilent(path, sinceMs, nowMs);
    else this.#suspects.noteFirst(first, nowMs);
  }

  /** What the end of a set-up says of those on its path. */
  #learn({ path, setupMs }: PooledCircuit, event: ClientCircuitEvent & { readonly kind: 'ended' }): void {
    if (setupMs !== undefined || event.reason !== CircuitEnd.unreachable) return;
    if (event.hop === undefined) this.#suspects.noteFirst(path[0]!, this.#host.nowMs());
    else this.#suspects.noteReport(path, event.hop, this.#host.nowMs());
  }

  #isHeardSince(nodeIdHex: string, sinceMs: TimeMs): boolean {
    return this.#engine
      .links()
      .some(
        ({ nodeId, upSinceMs, lastHeardMs }) =>
          upSinceMs !== undefined && lastHeardMs > sinceMs && nodeId !== undefined && hex(nodeId) === nodeIdHex,
      );
  }

  // --- sessions that need another circuit ---

  /** The session's circuit is lost, or silent: another one to the same last hop, while its streams wait. */
  #resume(record: PooledCircuit | undefined): void {
    if (record === undefined || record.state === 'ended' || record.resumption !== undefined) return;
    // Nobody would miss it.
    if (record.users.size === 0) {
      if (record.circuits.size === 0 || record.session.stats.paths.length === 0) {
        record.session.abandon(SessionError.sessionLost, 'the circuit ended');
      }
      return;
    }
    const lostPath = record.path;
    const sinceMs = this.#host.nowMs();
    // Of a first hop that owed no answer nothing is known.
    if (this.#isHeardSince(lostPath[0]!, sinceMs - 1000)) this.#suspects.noteSilent(lostPath, sinceMs, sinceMs);
    /** Attempts that have been found late. */
    const late = new Set<UnderCircuit>();
    const heard = record.session.stats.packetsReceived;
    this.#become(record, 'resuming');
    record.resumption = new Resumption({
      requestPath: () => {
        const nowMs = this.#host.nowMs();
        for (const under of record.circuits.values()) {
          if (under.readyAtMs !== undefined || late.has(under) || nowMs - under.builtAtMs < MIN_WAIT_MS) continue;
          late.add(under);
          this.#blame(under.path, under.builtAtMs, nowMs);
        }
        return this.#host.requestPath({
          hops: lostPath.length,
          class: record.class,
          needExit: undefined,
          lastHop: lostPath.at(-1)!,
          avoid: [...new Set([...this.#suspects.list(nowMs), ...lostPath.slice(1, -1)])],
          tried: this.#suspects.sets(nowMs),
        });
      },
      attach: (hops) => this.#attach(record, hops),
      waitMs: (attempt) => this.#setupTimes.growingWaitMs(record.class, lostPath.length, attempt),
      schedule: (delayMs, callback) => this.#host.schedule(delayMs, callback),
      nowMs: () => this.#host.nowMs(),
      isOnline: (since) => this.#engine.links().some((link) => link.lastHeardMs > since),
      giveUp: () => {
        record.resumption = undefined;
        // A circuit that is still there but silent leads to a last hop that is gone.
        if (record.session.stats.packetsReceived > heard) this.#become(record, 'ready');
        else record.session.abandon(SessionError.sessionLost, 'no other path to its last hop was found in time');
        if (record.session.closed && record.circuits.size === 0) this.#gone(record);
      },
    });
    record.resumption.next();
  }

  #attach(record: PooledCircuit, hops: readonly NodeContact[]): boolean {
    const handle = this.#engine.attachCircuit(
      record.session,
      {
        hops,
        class: record.class,
        delayMeanUs: record.class === 'mix' ? 1000 * this.#options.mixDelayMs : 0,
        batchMs: this.#options.batchMs(),
        expiry: this.#host.unixSeconds() + CIRCUIT_LIFETIME_SECONDS,
      },
      this.#host.nowMs(),
    );
    if (handle === undefined) return false;
    const path = hops.map((hop) => hex(hop.nodeId));
    record.circuits.set(handle, underCircuit(path, this.#host.nowMs()));
    this.#circuits.set(handle, record);
    this.#host.tell({ type: 'circuit', kind: 'building', circuit: handle, path });
    return true;
  }

  /** Of a session that has, had or gets more circuits than one. */
  #onFurtherCircuit(record: PooledCircuit, event: ClientCircuitEvent): void {
    const { circuit } = event;
    if (event.kind === 'ended') {
      this.#forgetCircuit(record, event);
      return;
    }
    const { path } = record.circuits.get(circuit)!;
    this.#noteReady(record, event);
    const isResumed = record.resumption !== undefined;
    // A silent one may still be there: whoever looks for the session's circuit is shown the one that carries it.
    if (isResumed || record.circuits.get(record.circuit)?.readyAtMs === undefined) {
      record.circuit = circuit;
      record.path = path;
      record.setupMs = event.setupMs;
    }
    this.#become(record, 'ready');
    record.resumption?.stop();
    record.resumption = undefined;
    this.#tellPath(isResumed ? 'resumed' : record.missing > 0 ? 'replaced' : 'added', record, circuit, path);
    record.missing = Math.max(0, record.missing - 1);
    this.#keeper.succeeded(record);
    this.#keeper.look(record);
    this.#suspects.clear(path, this.#host.nowMs());
    this.#setupTimes.note(record.class, path.length, event.setupMs);
    this.#host.tell({ type: 'circuit', kind: 'ready', circuit, path, setupMs: event.setupMs });
  }

  #noteReady(record: PooledCircuit, event: ClientCircuitEvent & { readonly kind: 'ready' }): void {
    const under = record.circuits.get(event.circuit)!;
    under.readyAtMs = this.#host.nowMs();
    under.setupMs = event.setupMs;
    if (event.circuit === record.circuit) record.setupMs = event.setupMs;
  }

  /** One of a session's circuits is gone; the session may go on without. */
  #forgetCircuit(record: PooledCircuit, event: ClientCircuitEvent & { readonly kind: 'ended' }): void {
    const { circuit } = event;
    const { path, readyAtMs } = record.circuits.get(circuit)!;
    const wasAttaching = readyAtMs === undefined;
    record.circuits.delete(circuit);
    this.#circuits.delete(circuit);
    const reason = describeCircuitEnd(event.reason);
    this.#host.tell({ type: 'circuit', kind: 'ended', circuit, path, reason, hop: event.hop });
    if (record.session.closed) {
      if (record.circuits.size > 0) return;
      record.end = event.reason;
      this.#gone(record);
      return;
    }
    if (!wasAttaching) {
      this.#tellPath('lost', record, circuit, path, reason);
      if (record.readyPaths < record.wantedPaths && record.wantedPaths > 1) record.missing++;
    }
    if (circuit === record.circuit) this.#showAnother(record);
    if (wasAttaching && record.resumption !== undefined) record.resumption.next();
    else if (wasAttaching) this.#keeper.failed(record);
    this.#keeper.look(record);
  }

  #showAnother(record: PooledCircuit): void {
    for (const [handle, { path, readyAtMs, setupMs }] of record.circuits) {
      if (readyAtMs === undefined) continue;
      record.circuit = handle;
      record.path = path;
      record.setupMs = setupMs;
      return;
    }
  }

  #tellPath(
    kind: 'added' | 'lost' | 'replaced' | 'resumed',
    record: PooledCircuit,
    circuit: number,
    path: readonly string[],
    reason?: string,
  ): void {
    const { id: session, readyPaths: paths } = record;
    this.#host.tell({ type: 'path', kind, session, circuit, path, paths, ...(reason === undefined ? {} : { reason }) });
  }

  /** One that never answered had no session. */
  #become(record: PooledCircuit, state: PooledCircuit['state']): void {
    const before = record.state;
    record.state = state;
    if (before === state || (before === 'building' && state !== 'ready')) return;
    const carried = before === 'building' ? 'opened' : 'carried';
    const kind = state === 'ended' ? 'closed' : state === 'resuming' ? 'resuming' : carried;
    const reason = state === 'ended' && record.end !== undefined ? describeCircuitEnd(record.end) : undefined;
    this.#host.tell({ type: 'session', kind, session: record.id, ...(reason === undefined ? {} : { reason }) });
  }

  /** Its session is over and nothing is under it any more. */
  #gone(record: PooledCircuit): void {
    if (record.state === 'ended') return;
    record.resumption?.stop();
    record.resumption = undefined;
    this.#become(record, 'ended');
    this.#remove(record);
    record.settle();
  }

  // --- circuits built ahead ---

  #buildSpare(nowMs: TimeMs): void {
    const { hops } = this.#spares.options;
    // Those of another length were built before a change of the options: nobody will ask for them, and they go with their time.
    const present = this.#byKey.get(SPARE)?.filter(({ path }) => path.length === hops).length ?? 0;
    if (this.#pending.has(SPARE) || this.#records.size >= this.#options.maxCircuits) return;
    if (!this.#spares.isDue(present, nowMs)) return;
    const request: CircuitRequest = {
      isolation: '',
      hops,
      class: 'fast',
      target: undefined,
      exact: false,
      wish: ONE_PATH,
    };
    const building = this.#build(SPARE, request).finally(() => this.#pending.delete(SPARE));
    this.#pending.set(SPARE, building);
    building.catch(() => this.#spares.noteFailure(this.#host.nowMs()));
  }

  /** The oldest ready one without a suspect on its path, else any ready one, else one under way. It is `key`'s from now on. */
  #takeSpare(key: string, request: CircuitRequest): PooledCircuit | undefined {
    const { hops } = this.#spares.options;
    if (request.class !== 'fast' || request.exact || request.hops !== hops) return undefined;
    const spares = this.#byKey
      .get(SPARE)
      ?.filter((record) => record.path.length === hops && !record.session.closed && !record.isQuiet);
    if (spares === undefined) return undefined;
    const nowMs = this.#host.nowMs();
    const isSuspect = (record: PooledCircuit) => record.path.some((id) => this.#suspects.has(id, nowMs));
    const ready = spares.filter(({ state }) => state === 'ready');
    const taken = ready.find((record) => !isSuspect(record)) ?? ready[0] ?? spares.findLast((r) => !r.isSuspected);
    if (taken === undefined) return undefined;
    for (const record of taken.race?.racers ?? [taken]) this.#handTo(record, key, request.wish);
    taken.race?.handTo(key, request.wish, nowMs);
    return taken;
  }

  #open(
    hops: readonly NodeContact[],
    circuitClass: CircuitClass,
    key: string | undefined,
    askedFor: string | undefined,
    wish: PathWish,
  ): PooledCircuit {
    this.#makeRoom();
    const nowMs = this.#host.nowMs();
    const flows = new Map<number, DatagramFlow>();
    const owner: SessionOwner = {
      onDatagram: (flowId, data) => flows.get(flowId)?.onDatagram(data),
      onDatagramExpired: (flowId, own) => flows.get(flowId)?.onExpired(own),
      onStalled: () => record && this.#onStalled(record),
      onDetached: () => this.#resume(record),
      // Its streams and onCircuit have said so, unless it ended between two circuits.
      onClose: () => {
        if (record?.resumption !== undefined && record.circuits.size === 0) this.#gone(record);
      },
    };
    let record: PooledCircuit | undefined;
    let built: { circuit: number; session: SessionApi };
    try {
      built = this.#engine.buildCircuit(
        {
          hops,
          class: circuitClass,
          delayMeanUs: circuitClass === 'mix' ? 1000 * this.#options.mixDelayMs : 0,
          batchMs: this.#options.batchMs(),
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
    const path = hops.map((hop) => hex(hop.nodeId));
    const addedLatencyMs = this.addedLatencyMs(circuitClass, hops.length);
    record = new PooledCircuit({
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
    record.wish(wish);
    this.#records.add(record);
    this.#circuits.set(circuit, record);
    if (key !== undefined) this.#addToKey(key, record);
    this.#host.tell({ type: 'circuit', kind: 'building', circuit, path });
    return record;
  }

  /** Probes on its only path go unanswered. */
  #onStalled(record: PooledCircuit): void {
    if (this.#host.isAway()) {
      this.#waitForNetwork(record, record.session.stats.packetsReceived, true);
      return;
    }
    record.wentSilent = true;
    this.#resume(record);
  }

  /** Without a network nothing answers and no circuit can be built. Once it is back, what is there is given some time before it counts as dead. */
  #waitForNetwork(record: PooledCircuit, packetsReceived: number, away: boolean): void {
    this.#host.schedule(NETWORK_BACK_MS, () => {
      if (record.session.closed || record.session.stats.packetsReceived !== packetsReceived) return;
      const stillAway = this.#host.isAway();
      if (away || stillAway) this.#waitForNetwork(record, packetsReceived, stillAway);
      else this.#onStalled(record);
    });
  }

  #makeRoom(): void {
    if (this.#records.size < this.#options.maxCircuits) return;
    for (const record of [...(this.#byKey.get(SPARE) ?? []), ...this.#records]) {
      if (record.users.size > 0 || record.key === undefined || record.state === 'ended') continue;
      this.close(record.circuit);
      if (this.#records.size < this.#options.maxCircuits) return;
    }
    throw new DialError(DialErrorCode.limit, `${this.#options.maxCircuits} circuits are in use, which is the limit`);
  }

  #remove(record: PooledCircuit): void {
    for (const handle of record.circuits.keys()) this.#circuits.delete(handle);
    record.circuits.clear();
    this.#records.delete(record);
    this.#removeFromKey(record);
  }

  #addToKey(key: string, record: PooledCircuit): void {
    const records = this.#byKey.get(key);
    if (records === undefined) this.#byKey.set(key, [record]);
    else records.push(record);
  }

  #removeFromKey(record: PooledCircuit): void {
    if (record.key === undefined) return;
    const records = this.#byKey.get(record.key);
    if (records === undefined) return;
    const index = records.indexOf(record);
    if (index >= 0) records.splice(index, 1);
    if (records.length === 0) this.#byKey.delete(record.key);
  }
}

function poolKey(request: CircuitRequest): string {
  const { paths, strategy, fec } = request.wish;
  const spread = `${paths} ${paths === 1 ? '' : strategy}`;
  return `${request.hops} ${request.class} ${spread} ${fecPolicyText(fec)} ${request.isolation}`;
}

/** Requests for which the same path does. */
function pendingKeyOf(key: string, { exact, target }: CircuitRequest): string {
  return exact && target ? `${key} for ${targetText(target)}` : key;
}

function targetText(target: { readonly host: string; readonly port: number }): string {
  return `${target.host}:${target.port}`;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
