/**
 * Answers the pumps' requests for paths: guards first, the rest by core/path. What fails is fed back: a first hop that
 * does not answer is a guard's failure, a later one is left out for a while.
 */
import { nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import type { SelectConstraints } from '@nyx/core/path/constraints.ts';
import { GuardSet, parseGuardState } from '@nyx/core/path/guards.ts';
import { PathError } from '@nyx/core/path/path-error.ts';
import { selectPath } from '@nyx/core/path/select.ts';
import { setup } from 'xstate';
import type { HeldView } from '../directory/directory-client.ts';
import type { SealedFiles } from '../directory/sealed-files.ts';
import { DialError, DialErrorCode, type FromPump, type PathConstraints } from '../pump/contract.ts';
import { actorChild } from '../supervision/actor-child.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import { type NodeContext, unixSeconds } from './context.ts';
import type { Directory } from './directory.ts';
import type { PumpPool } from './pump-pool.ts';

const GUARDS_FILE = 'guards.json';
/** A hop that failed is left out this long, if there are enough others. */
const AVOID_SECONDS = 20;
const MAX_AVOIDED = 1000;
/** Ends of circuits (as a pump describes them) that nobody asked for. */
const brokenOff: ReadonlySet<string> = new Set(['link lost', 'unreachable', 'timeout', 'shutdown']);

type PumpCircuitEvent = Extract<FromPump, { readonly type: 'circuit' }>;

export class PathBuilder {
  readonly #context: NodeContext;
  readonly #directory: Directory;
  readonly #pool: PumpPool;
  readonly #files: SealedFiles;
  readonly #self: string;
  readonly #guards: GuardSet;
  /** NodeID → until when: did not answer at a set-up. */
  readonly #avoided = new Map<string, number>();
  /** The same of hops of circuits that worked and went dead: one of each is to blame. */
  readonly #suspected = new Map<string, number>();

  constructor(context: NodeContext, directory: Directory, pool: PumpPool, files: SealedFiles, self: string) {
    this.#context = context;
    this.#directory = directory;
    this.#pool = pool;
    this.#files = files;
    this.#self = self;
    this.#guards = new GuardSet(this.#readGuards(), { primaryCount: context.config.path.guards });
  }

  get guards(): readonly string[] {
    return this.#guards.primaries();
  }

  /** A new view: the sample of guards follows it. */
  update(view: HeldView): void {
    if (!this.#context.config.roles.includes('client')) return;
    this.#guards.update(view.verified, unixSeconds(this.#context), this.#context.random, [this.#self]);
    this.#persist();
  }

  /** Hops of a path, first hop first. Throws DialError NO_PATH or BAD_REQUEST with the reason. */
  select(constraints: PathConstraints): NodeContact[] {
    const view = this.#directory.view;
    if (view === undefined) throw new DialError(DialErrorCode.noPath, 'no verified view of the network yet');
    const now = unixSeconds(this.#context);
    if (now >= view.verified.view.validUntil) {
      throw new DialError(DialErrorCode.noPath, 'the view of the network has expired and no newer one was found');
    }
    const { path } = this.#context.config;
    const base: SelectConstraints = {
      hops: constraints.nodeIds?.length ?? constraints.hops,
      exclude: [this.#self],
      guards: this.#guards.usable(now),
      sameSubnetAllowed: path.allowSameSubnet,
      needExit: constraints.needExit ?? anyExit(view),
      ...(constraints.nodeIds === undefined ? {} : { requiredNodeIds: constraints.nodeIds }),
    };
    for (const shunned of [this.#avoided, this.#suspected]) {
      for (const [id, until] of shunned) if (until <= now) shunned.delete(id);
    }
    const attempts: SelectConstraints[] = [base];
    if (constraints.nodeIds === undefined) {
      // Without all of them if there are enough others, else at least without those that are known not to answer.
      const avoided = [this.#self, ...this.#avoided.keys()];
      if (this.#avoided.size > 0) attempts.unshift({ ...base, exclude: avoided });
      if (this.#suspected.size > 0) attempts.unshift({ ...base, exclude: [...avoided, ...this.#suspected.keys()] });
      const { avoid } = constraints;
      if (avoid !== undefined) {
        // Other exits than the silent ones if there are any, else at least another way to them.
        const exits = new Set(
          view.verified.nodes.filter(({ roles }) => roles.exit).map(({ nodeId }) => nodeIdHex(nodeId)),
        );
        const inner = avoid.filter((id) => !exits.has(id));
        for (const ids of [inner, avoid]) attempts.unshift({ ...base, exclude: [...avoided, ...ids] });
      }
    }
    let failure: unknown;
    for (const attempt of attempts) {
      try {
        const chosen = selectPath(view.verified, attempt, this.#context.random);
        return chosen.map((descriptor) => this.#directory.contactOf(nodeIdHex(descriptor.nodeId))!);
      } catch (error) {
        if (!(error instanceof PathError)) throw error;
        failure = error;
      }
    }
    const { code, message } = failure as PathError;
    const isBad = code === 'BAD_REQUEST' || code === 'UNKNOWN_NODE' || code === 'CONFLICT';
    // There are exits, but none whose policy takes the target.
    const refused =
      code === 'NO_EXIT' && constraints.needExit !== undefined && view.verified.nodes.some(({ roles }) => roles.exit);
    if (refused) throw new DialError(DialErrorCode.exitPolicy, message);
    throw new DialError(isBad ? DialErrorCode.badRequest : DialErrorCode.noPath, message);
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
  observe(event: PumpCircuitEvent, wasReady: boolean): void {
    const [first] = event.path;
    if (first === undefined) return;
    const now = unixSeconds(this.#context);
    if (event.kind === 'ready') {
      this.#guards.noteSuccess(first, now);
      for (const id of event.path) {
        this.#avoided.delete(id);
        this.#suspected.delete(id);
      }
    } else if (event.kind === 'ended' && !wasReady) {
      // Given up by ourselves, another path was sooner: the pump keeps clear of it for a while.
      if (event.reason === 'requested') return;
      // Who says that it can't go on is well; the one after it does not answer.
      const failed = event.path[event.hop === undefined ? 0 : event.hop + 1] ?? event.path.at(-1)!;
      if (event.hop === undefined) this.#guards.noteFailure(first, now);
      // A guard too: with two of them dead, their short waits would otherwise alternate.
      shun(this.#avoided, failed, now);
    } else if (event.kind === 'ended' && event.reason !== undefined && brokenOff.has(event.reason)) {
      // A circuit that worked went dead: one of its hops is gone, and nobody says which. The next path does without them.
      for (const id of event.path.slice(1)) shun(this.#suspected, id, now);
    }
    this.#persist();
  }

  #readGuards(): ReturnType<typeof parseGuardState> | undefined {
    const bytes = this.#files.read(GUARDS_FILE);
    if (bytes === undefined) return undefined;
    try {
      return parseGuardState(JSON.parse(bytes.toString('utf8')));
    } catch (error) {
      // New guards cost anonymity, no guards cost the service: go on, and say so.
      this.#context.log('error', 'the stored guards cannot be used; new ones are chosen', {
        problem: (error as Error).message,
      });
      return undefined;
    }
  }

  #persist(): void {
    if (!this.#guards.changed) return;
    this.#files.write(GUARDS_FILE, Buffer.from(JSON.stringify(this.#guards.state())));
  }
}

const shun = (shunned: Map<string, number>, id: string, now: number): void => {
  if (shunned.size < MAX_AVOIDED) shunned.set(id, now + AVOID_SECONDS);
};

/** A target that some exit takes, for what needs an exit but has no target (name resolution, datagrams). */
const anyExit = (view: HeldView): { readonly port: number } => {
  for (const node of view.verified.nodes) {
    if (!node.roles.exit) continue;
    for (const rule of node.exitPolicy) {
      const port = /^accept .*:(?:(\d+)(?:-\d+)?|\*)$/.exec(rule);
      if (port !== null) return { port: port[1] === undefined ? 443 : Number(port[1]) };
    }
  }
  return { port: 443 };
};

type Event =
  | {
      readonly type: 'path-request';
      readonly worker: number;
      readonly request: number;
      readonly constraints: PathConstraints;
    }
  | { readonly type: 'circuit'; readonly event: PumpCircuitEvent; readonly wasReady: boolean }
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
        circuit: { actions: ({ context, event }) => context.builder.observe(event.event, event.wasReady) },
        view: { actions: ({ context, event }) => context.builder.update(event.view) },
      },
    },
  },
});

export const pathBuilderChild = (context: NodeContext, builder: PathBuilder): ChildSpec =>
  actorChild({ id: 'paths', machine, input: () => ({ builder }), timers: context.timers, inboxLimit: 4096 });
