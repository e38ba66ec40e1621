/**
 * Answers the pumps' and the API's requests for paths: guards first, the rest by core/path, all from the verified view.
 * What becomes of circuits is fed back, within the bounds of core/path: a first hop that does not answer is a guard's
 * failure, set-ups that fail behind it count for its path bias and against the later hops in equal parts, round-trip
 * times teach the latency book. Nothing that a peer says has a part in it, but which hop of a path claims to be cut off:
 * that hop's successor is left out for some seconds.
 */
import { ComplianceLevel } from '@nyx/core/directory/descriptor.ts';
import type { VerifiedView } from '@nyx/core/directory/view.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import { networkOf, type Origins } from '@nyx/core/path/candidates.ts';
import type { NodeFilter, PathStrategy, SelectConstraints } from '@nyx/core/path/constraints.ts';
import { type PathReport, reportPath } from '@nyx/core/path/explain.ts';
import { PathFeedback } from '@nyx/core/path/feedback.ts';
import { type GuardRecord, GuardSet, type GuardWarning, parseGuardState } from '@nyx/core/path/guards.ts';
import { LatencyBook } from '@nyx/core/path/latency.ts';
import { type PathEntropy, pathEntropy } from '@nyx/core/path/metrics.ts';
import { PathError } from '@nyx/core/path/path-error.ts';
import { parseSecondLayerState, SecondLayer } from '@nyx/core/path/second-layer.ts';
import { type ChosenPath, chooseDisjointPaths } from '@nyx/core/path/select.ts';
import { setup } from 'xstate';
import type { HeldView } from '../directory/directory-client.ts';
import type { SealedFiles } from '../directory/sealed-files.ts';
import type { IpOrigins } from '../io/ip-origins.ts';
import { OwnReach } from '../io/own-reach.ts';
import { DialError, DialErrorCode, type FromPump, type PathConstraints } from '../pump/contract.ts';
import { actorChild } from '../supervision/actor-child.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import type { Reloadable } from './config-reloader.ts';
import { type NodeContext, unixSeconds } from './context.ts';
import type { Directory } from './directory.ts';
import { globalId, type PumpPool, type WorkerStats, workerOf } from './pump-pool.ts';

const GUARDS_FILE = 'guards.json';
const SECOND_LAYER_FILE = 'second-layer.json';
/** So many nodes in doubt are let back one by one, then twice as many at a time. */
const SINGLE_STEPS = 8;
/** Choices among those that are left, while what comes out has been tried. */
const CHOICES = 4;
/** Mere counts are written this often. */
const COUNTS_SECONDS = 60;
/** Ends of circuits (as a pump describes them) that nobody asked for. */
const brokenOff: ReadonlySet<string> = new Set(['link lost', 'unreachable', 'timeout', 'shutdown']);

/** NodeIDs of those that take no circuits of class cmix, by view. */
const noBatches = new WeakMap<VerifiedView, readonly string[]>();

function withoutBatches(view: VerifiedView): readonly string[] {
  let ids = noBatches.get(view);
  if (ids === undefined) {
    ids = [...view.byId].filter(([, { compliance }]) => compliance !== ComplianceLevel.full).map(([id]) => id);
    noBatches.set(view, ids);
  }
  return ids;
}

type PumpCircuitEvent = Extract<FromPump, { readonly type: 'circuit' }>;

/** What the API can ask for beyond what pumps do. */
export interface PathWishes extends NodeFilter {
  readonly strategy?: PathStrategy;
  readonly latencyBias?: number;
  readonly excludeNodes?: readonly string[];
}

export interface BuiltPath extends PathReport {
  readonly contacts: readonly NodeContact[];
}

export interface GuardInfo extends GuardRecord {
  readonly primary: boolean;
}

/** What the client measured of a node. */
export interface NodeMeasures {
  readonly latencyMs: number | undefined;
  readonly linkMs: number | undefined;
  readonly successes: number;
  readonly failures: number;
}

interface WatchedCircuit {
  readonly path: readonly string[];
  /** It carried a stream. */
  used: boolean;
  /** The last that was learned from. */
  rttMs: number | undefined;
}

export class PathBuilder {
  readonly #context: NodeContext;
  readonly #directory: Pick<Directory, 'view' | 'contactOf'>;
  readonly #pool: Pick<PumpPool, 'get'>;
  readonly #files: Pick<SealedFiles, 'read' | 'write'>;
  readonly #self: string;
  readonly #tables: Pick<IpOrigins, 'lookup'> | undefined;
  readonly #guards: GuardSet;
  readonly #secondLayer: SecondLayer;
  readonly #feedback = new PathFeedback();
  readonly #latency = new LatencyBook();
  /** What this machine can open links to now, and could when the guards were looked at last. */
  readonly #reach: OwnReach;
  #guardReach: number | undefined;
  #origins: Origins | undefined;
  /** NodeIDs that no path goes over: it was proved that they cheat. */
  excluded: () => readonly string[] = () => [];
  #countsWrittenAt = 0;
  /** Circuits that are ready, by global id. */
  readonly #circuits = new Map<number, WatchedCircuit>();
  /** First hops that a link is up to, by global link id. */
  readonly #links = new Map<number, string>();
  #entropy: { readonly view: HeldView; readonly version: number; readonly value: PathEntropy | undefined } | undefined;

  /** `tables` undefined: countries are what operators declare. */
  constructor(
    context: NodeContext,
    directory: Pick<Directory, 'view' | 'contactOf'>,
    pool: Pick<PumpPool, 'get'>,
    files: Pick<SealedFiles, 'read' | 'write'>,
    self: string,
    tables: Pick<IpOrigins, 'lookup'> | undefined,
  ) {
    this.#context = context;
    this.#directory = directory;
    this.#pool = pool;
    this.#files = files;
    this.#self = self;
    this.#tables = tables;
    this.#reach = new OwnReach(context.config.addressFamilies, { nowMs: () => performance.now() });
    this.#guards = new GuardSet(this.#read(GUARDS_FILE, parseGuardState), {
      primaryCount: context.config.path.guards,
    });
    this.#secondLayer = new SecondLayer(this.#read(SECOND_LAYER_FILE, parseSecondLayerState));
  }

  /** Guards that are new among the primaries are those that the sample ranks next. */
  readonly reloadable: Reloadable =
    ({ path }) =>
    () => {
      this.#guards.setPrimaryCount(path.guards);
      this.#entropy = undefined;
    };

  /** The primary guards' NodeIDs, best first. */
  get guards(): readonly string[] {
    return this.#guards.primaries();
  }

  guardInfos(): GuardInfo[] {
    const primaries = new Set(this.#guards.primaries());
    return this.#guards.records().map((record) => ({ ...record, primary: primaries.has(record.nodeId) }));
  }

  measuresOf(nodeId: string): NodeMeasures {
    const account = this.#feedback.accountOf(nodeId);
    return {
      latencyMs: this.#latency.shareMs(nodeId),
      linkMs: this.#latency.linkMs(nodeId),
      successes: account?.successes ?? 0,
      failures: account?.failures ?? 0,
    };
  }

  originOf(nodeId: string): {
    readonly countries: readonly string[];
    readonly asns: readonly number[];
    weight: number;
  } {
    const view = this.#directory.view;
    const candidate = view && networkOf(view.verified, this.#origins).byId.get(nodeId);
    return candidate ?? { countries: [], asns: [], weight: 0 };
  }

  /** Of paths as this client chooses them by default; undefined while there are none. At most one computation per view and measurement. */
  entropy(): PathEntropy | undefined {
    const view = this.#directory.view;
    if (view === undefined) return undefined;
    const { version } = this.#latency;
    if (this.#entropy?.view !== view || this.#entropy.version !== version) {
      let value: PathEntropy | undefined;
      try {
        value = pathEntropy(view.verified, this.#constraints(view, { hops: this.#context.config.path.hops }, {}));
      } catch (error) {
        if (!(error instanceof PathError)) throw error;
      }
      this.#entropy = { view, version, value };
    }
    return this.#entropy.value;
  }

  /** A new view: the sample of guards follows it. */
  update(view: HeldView): void {
    if (!this.#context.config.roles.includes('client')) return;
    const now = unixSeconds(this.#context);
    this.#guardReach = this.#reach.mask;
    this.#guards.update(view.verified, now, this.#context.random, [this.#self], this.#guardReach);
    const notSecond = [this.#self, ...this.#guards.primaries()];
    this.#secondLayer.update(view.verified, now, this.#context.random, notSecond);
    this.#persist();
    if (this.#tables === undefined) return;
    const addresses = view.verified.nodes.flatMap((node) => node.addresses.map(({ address }) => address));
    this.#tables.lookup(addresses).then(
      (origins) => {
        this.#origins = origins;
      },
      (error: Error) => {
        this.#context.log('warn', 'countries and autonomous systems are not known', { problem: error.message });
      },
    );
  }

  /** Hops of a path, first hop first. Throws DialError NO_PATH or BAD_REQUEST with the reason. */
  select(constraints: PathConstraints): NodeContact[] {
    const view = this.#usableView();
    const { path } = this.#choose(view, constraints, {}, 1);
    return path[0]!.hops.map(({ id }) => this.#directory.contactOf(id)!);
  }

  /** Up to `count` paths without a common node, and why each is as it is. Throws as select does. */
  build(constraints: PathConstraints, wishes: PathWishes, count = 1): BuiltPath[] {
    const view = this.#usableView();
    const { path, used } = this.#choose(view, constraints, wishes, count);
    return path.map((chosen) => ({
      ...reportPath(view.verified, used, chosen),
      contacts: chosen.hops.map(({ id }) => this.#directory.contactOf(id)!),
    }));
  }

  #usableView(): HeldView {
    const view = this.#directory.view;
    if (view === undefined) throw new DialError(DialErrorCode.noPath, 'no verified view of the network yet');
    if (unixSeconds(this.#context) >= view.verified.view.validUntil) {
      throw new DialError(DialErrorCode.noPath, 'the view of the network has expired and no newer one was found');
    }
    return view;
  }

  #constraints(
    view: HeldView,
    constraints: Pick<PathConstraints, 'hops' | 'nodeIds'> & Partial<PathConstraints>,
    wishes: PathWishes,
  ): SelectConstraints {
    const { path } = this.#context.config;
    const { apartFrom = [] } = constraints;
    const { excludeNodes = [], strategy = path.strategy, latencyBias = path.latencyBias, ...filter } = wishes;
    const isNamed = constraints.nodeIds !== undefined;
    const reach = this.#reach.mask;
    // Another network, other guards.
    if (this.#guardReach !== undefined && reach !== this.#guardReach) this.update(view);
    return {
      ...filter,
      hops: constraints.nodeIds?.length ?? constraints.hops,
      exclude: [
        ...[this.#self, ...excludeNodes, ...apartFrom],
        ...(isNamed ? [] : this.#excluded(constraints.lastHop)),
        ...(isNamed || constraints.class !== 'cmix' ? [] : withoutBatches(view.verified)),
      ],
      ...(constraints.withoutGuards ? {} : { reach, guards: this.#guards.usable(unixSeconds(this.#context)) }),
      sameSubnetAllowed: path.allowSameSubnet,
      privateTargetsAllowed: path.allowPrivateTargets || path.allowSameSubnet,
      asDiversity: path.diversity.as,
      countryDiversity: path.diversity.country,
      ...(constraints.lastHop === undefined ? { needExit: constraints.needExit ?? anyExit(view) } : {}),
      strategy,
      latencyBias,
      latency: this.#latency,
      feedback: this.#feedback,
      ...(this.#origins === undefined ? {} : { origins: this.#origins }),
      ...(strategy === 'service' && !isNamed ? { secondHops: this.#secondLayer.hops() } : {}),
      ...(constraints.nodeIds === undefined ? {} : { requiredNodeIds: constraints.nodeIds }),
      ...(constraints.lastHop === undefined ? {} : { lastHop: constraints.lastHop }),
    };
  }

  /** A session that is bound to its last hop keeps it. */
  #excluded(lastHop: string | undefined): readonly string[] {
    return this.excluded().filter((id) => id !== lastHop);
  }

  #choose(
    view: HeldView,
    constraints: PathConstraints,
    wishes: PathWishes,
    count: number,
  ): { readonly path: readonly ChosenPath[]; readonly used: SelectConstraints } {
    const base = this.#constraints(view, constraints, wishes);
    const attempts = constraints.nodeIds === undefined ? this.#attempts(view, constraints, base) : [base];
    const { tried = [] } = constraints;
    let found: { readonly path: readonly ChosenPath[]; readonly used: SelectConstraints } | undefined;
    let failure: unknown;
    for (const used of attempts) {
      try {
        for (let choice = 0; choice < CHOICES; choice++) {
          const path = chooseDisjointPaths(view.verified, used, count, this.#context.random);
          if (!path.some((one) => isTried(one, tried))) return { path, used };
          found ??= { path, used };
        }
      } catch (error) {
        if (!(error instanceof PathError)) throw error;
        failure = error;
      }
    }
    // What has been tried may answer after all.
    if (found !== undefined) return found;
    const { code, message } = failure as PathError;
    const isBad = code === 'BAD_REQUEST' || code === 'UNKNOWN_NODE' || code === 'CONFLICT';
    // There are exits, but none whose policy takes the target.
    const refused =
      code === 'NO_EXIT' && constraints.needExit !== undefined && view.verified.nodes.some(({ roles }) => roles.exit);
    if (refused) throw new DialError(DialErrorCode.exitPolicy, message);
    throw new DialError(isBad ? DialErrorCode.badRequest : DialErrorCode.noPath, message);
  }

  /** From the strictest on: without all that is in doubt if there are enough others, in the end with everybody. */
  *#attempts(view: HeldView, constraints: PathConstraints, base: SelectConstraints): Generator<SelectConstraints> {
    const now = unixSeconds(this.#context);
    const avoided = this.#feedback.avoided(networkOf(view.verified, this.#origins), now);
    // Whatever is said of the last hop: it is the only one that has the session.
    const other = (id: string) => id !== constraints.lastHop;
    const dead = avoided.dead.filter(other);
    const doubtful = [...new Set([...avoided.suspected, ...(constraints.avoid ?? [])])].filter(other);
    const without = (ids: readonly string[]) => ({ ...base, exclude: [...base.exclude!, ...ids] });
    if (doubtful.length > 0) {
      const isExit = (id: string) => view.verified.byId.get(id)?.roles.exit === true;
      for (const ids of withoutDoubtful(doubtful, isExit)) yield without([...dead, ...ids]);
    }
    if (dead.length > 0) yield without(dead);
    yield base;
    // The one guard that is not backing off may be the one exit for the target.
    if (!constraints.withoutGuards) yield { ...base, guards: this.#guards.listed(now) };
  }

  /** A worker asks. */
  answer(worker: number, request: number, constraints: PathConstraints): void {
    const pump = this.#pool.get(worker);
    if (pump === undefined) return;
    try {
      pump.send({ type: 'path', request, hops: this.select(constraints) });
    } catch (error) {
      if (!(error instanceof DialError)) throw error;
      pump.send({ type: 'path-error', request, code: error.code, message: error.message });
    }
  }

  /** What became of a circuit. */
  observe(worker: number, event: PumpCircuitEvent): void {
    const [first] = event.path;
    if (first === undefined) return;
    const id = globalId(worker, event.circuit);
    const now = unixSeconds(this.#context);
    if (event.kind === 'ready') {
      this.#circuits.set(id, { path: event.path, used: false, rttMs: undefined });
      this.#guards.noteSuccess(first, now);
      this.#feedback.noteSuccess(event.path, now);
      this.#noteSetup(event.path, true, now);
    } else if (event.kind === 'ended') {
      const circuit = this.#circuits.get(id);
      this.#circuits.delete(id);
      if (circuit === undefined) this.#setupFailed(event, first, now);
      else if (event.reason !== undefined && brokenOff.has(event.reason)) this.#wentDead(event, circuit, now);
    }
    this.#persist();
  }

  /** A stream's target was reached over a circuit: the circuit does what it is for. */
  carried(circuit: number): void {
    const watched = this.#circuits.get(circuit);
    if (watched === undefined || watched.used) return;
    watched.used = true;
    this.#noteUse(watched.path, true, unixSeconds(this.#context));
    this.#persist();
  }

  /** A link that we opened came up or went; `nodeId` undefined = went. */
  linkChanged(link: number, nodeId: string | undefined): void {
    if (nodeId === undefined) this.#links.delete(link);
    else this.#links.set(link, nodeId);
  }

  /** A worker is gone with all its links and circuits; no fault of any node. */
  workerLost(worker: number): void {
    for (const circuit of this.#circuits.keys()) if (workerOf(circuit) === worker) this.#circuits.delete(circuit);
    for (const link of this.#links.keys()) if (workerOf(link) === worker) this.#links.delete(link);
  }

  /** The workers' figures: round-trip times. */
  measured(workers: readonly WorkerStats[]): void {
    if (!this.#context.config.roles.includes('client')) return;
    for (const { worker, stats } of workers) {
      for (const { initiator, nodeId, rttMs } of stats.links) {
        if (initiator && nodeId !== undefined && rttMs !== undefined) this.#latency.noteLink(nodeId, rttMs);
      }
      for (const { circuit, path, class: circuitClass, rttMs } of stats.clientCircuits) {
        // A circuit that is idle has nothing new to say, and one that delays on purpose nothing about its hops.
        const watched = this.#circuits.get(globalId(worker, circuit));
        if (rttMs === undefined || watched === undefined || watched.rttMs === rttMs || circuitClass !== 'fast')
          continue;
        watched.rttMs = rttMs;
        this.#latency.notePath(path, rttMs);
      }
    }
  }

  #setupFailed(event: PumpCircuitEvent, first: string, now: number): void {
    if (event.reason === 'requested') {
      // Another path was sooner. The pump keeps off this one for a while; for the guard it counts, or it could drop at will.
      if ([...this.#links.values()].includes(first)) this.#noteSetup(event.path, false, now);
      return;
    }
    // Who says that it can't go on is well; the one after it does not answer.
    const failed = event.path[event.hop === undefined ? 0 : event.hop + 1] ?? event.path.at(-1)!;
    if (event.hop === undefined) this.#guards.noteFailure(first, now);
    // A guard too: with two of them dead, their short waits would otherwise alternate.
    // But what comes through a guard that fails suspiciously many circuits blames nobody: it would steer us so.
    const isHearsay = event.hop !== undefined && this.#guards.verdictOf(first) !== 'fine';
    if (!isHearsay) this.#feedback.avoid(failed, now);
    // The guard had the set-up if it, or who is behind it, says something, or if there is a link to it that works.
    const taken = event.hop !== undefined || (event.reason === 'timeout' && [...this.#links.values()].includes(first));
    if (!taken) return;
    this.#feedback.noteFailure(event.path, now);
    this.#noteSetup(event.path, false, now);
  }

  #wentDead(event: PumpCircuitEvent, circuit: WatchedCircuit, now: number): void {
    if (event.hop === undefined && event.reason === 'link lost') {
      const [first] = circuit.path;
      this.#guards.noteFailure(first!, now);
      this.#feedback.avoid(first!, now);
      return;
    }
    // One of its hops is gone, and nobody says which. The next path does without them.
    this.#feedback.suspect(event.path.slice(1), now);
    const behindGuard = event.hop !== undefined || event.reason === 'timeout';
    if (!circuit.used && behindGuard) this.#noteUse(circuit.path, false, now);
  }

  #noteSetup(path: readonly string[], succeeded: boolean, now: number): void {
    if (this.#isFresh(now)) this.#warn(this.#guards.noteSetup(path[0]!, succeeded, path.length, now));
  }

  #noteUse(path: readonly string[], succeeded: boolean, now: number): void {
    if (this.#isFresh(now)) this.#warn(this.#guards.noteUse(path[0]!, succeeded, path.length, now));
  }

  /** From an old view circuits fail because nodes are gone. */
  #isFresh(now: number): boolean {
    const view = this.#directory.view?.verified.view;
    return view !== undefined && now < view.freshUntil;
  }

  #warn(warning: GuardWarning | undefined): void {
    if (warning === undefined) return;
    const { nodeId, verdict, dropped, counts } = warning;
    const message = dropped
      ? 'a guard fails too many circuits and is not used any more'
      : 'a guard fails many circuits';
    this.#context.log('warn', message, { guard: nodeId, ...counts });
    this.#context.events.publish('guard', dropped ? 'dropped' : verdict, nodeId, { ...counts });
  }

  #read<T>(file: string, parse: (value: unknown) => T): T | undefined {
    const bytes = this.#files.read(file);
    if (bytes === undefined) return undefined;
    try {
      return parse(JSON.parse(bytes.toString('utf8')));
    } catch (error) {
      // New guards cost anonymity, no guards cost the service: go on, and say so.
      this.#context.log('error', 'the stored guards cannot be used; new ones are chosen', {
        file,
        problem: (error as Error).message,
      });
      return undefined;
    }
  }

  #persist(): void {
    const now = unixSeconds(this.#context);
    const countsDue = this.#guards.counted && Math.abs(now - this.#countsWrittenAt) >= COUNTS_SECONDS;
    if (this.#guards.changed || countsDue) {
      this.#countsWrittenAt = now;
      this.#files.write(GUARDS_FILE, Buffer.from(JSON.stringify(this.#guards.state())));
    }
    if (this.#secondLayer.changed) {
      this.#files.write(SECOND_LAYER_FILE, Buffer.from(JSON.stringify(this.#secondLayer.state())));
    }
  }
}

/**
 * What to leave out, in the order in which to try: all in doubt, then fewer and fewer, those last in `doubtful` longest.
 * Exits are few: when all of them are in doubt, the first of them comes back before anybody else does.
 */
function* withoutDoubtful(doubtful: readonly string[], isExit: (id: string) => boolean): Generator<readonly string[]> {
  yield doubtful;
  const exit = doubtful.find(isExit);
  if (exit !== undefined) yield doubtful.filter((id) => id !== exit);
  for (let back = 1; back < doubtful.length; back = back < SINGLE_STEPS ? back + 1 : 2 * back)
    yield doubtful.slice(back);
}

/** A way over all of these is known not to answer, or being tried. */
function isTried({ hops }: ChosenPath, tried: readonly (readonly string[])[]): boolean {
  const later = hops.slice(1).map(({ id }) => id);
  return tried.some((set) => set.every((id) => later.includes(id)));
}

/** A target that some exit takes, for what needs an exit but has no target (name resolution, datagrams). */
const anyExit = (view: HeldView): { readonly port: number } => {
  let port = exitPorts.get(view);
  if (port === undefined) {
    port = findExitPort(view);
    exitPorts.set(view, port);
  }
  return { port };
};

const exitPorts = new WeakMap<HeldView, number>();

const findExitPort = (view: HeldView): number => {
  for (const node of view.verified.nodes) {
    if (!node.roles.exit) continue;
    for (const rule of node.exitPolicy) {
      const port = /^accept .*:(?:(\d+)(?:-\d+)?|\*)$/.exec(rule);
      if (port !== null) return port[1] === undefined ? 443 : Number(port[1]);
    }
  }
  return 443;
};

type Event =
  | {
      readonly type: 'path-request';
      readonly worker: number;
      readonly request: number;
      readonly constraints: PathConstraints;
    }
  | { readonly type: 'circuit'; readonly worker: number; readonly event: PumpCircuitEvent }
  | { readonly type: 'carried'; readonly circuit: number }
  | { readonly type: 'link'; readonly link: number; readonly nodeId: string | undefined }
  | { readonly type: 'worker-lost'; readonly worker: number }
  | { readonly type: 'view'; readonly view: HeldView };

const machine = setup({
  types: {} as { context: { builder: PathBuilder }; input: { builder: PathBuilder }; events: Event },
}).createMachine({
  id: 'path-builder',
  context: ({ input }) => input,
  initial: 'serving',
  states: {
    serving: {
      on: {
        'path-request': {
          actions: ({ context, event }) => context.builder.answer(event.worker, event.request, event.constraints),
        },
        circuit: { actions: ({ context, event }) => context.builder.observe(event.worker, event.event) },
        carried: { actions: ({ context, event }) => context.builder.carried(event.circuit) },
        link: { actions: ({ context, event }) => context.builder.linkChanged(event.link, event.nodeId) },
        'worker-lost': { actions: ({ context, event }) => context.builder.workerLost(event.worker) },
        view: { actions: ({ context, event }) => context.builder.update(event.view) },
      },
    },
  },
});

export const pathBuilderChild = (context: NodeContext, builder: PathBuilder): ChildSpec =>
  actorChild({ id: 'paths', machine, input: () => ({ builder }), timers: context.timers, inboxLimit: 4096 });
