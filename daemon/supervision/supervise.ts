/**
 * Supervision as in OTP: children start in order and stop in reverse, a child that ends is restarted as its policy
 * says, too many restarts in a period end the supervisor itself, which is then its own supervisor's affair.
 */
import { Mailbox } from './mailbox.ts';
import type { Timers } from './timers.ts';

/** permanent: always restarted. transient: only after a crash. temporary: never. */
export type Restart = 'permanent' | 'transient' | 'temporary';
/** What a crash takes with it: the child; the child and those started after it; all. */
export type Strategy = 'one_for_one' | 'rest_for_one' | 'one_for_all';
export type ChildStatus = 'starting' | 'running' | 'restarting' | 'stopping' | 'stopped' | 'failed';

export interface ChildSpec {
  /** Unique among its siblings; no slash. */
  readonly id: string;
  /** Starts the child. A throw or rejection is a crash. */
  readonly start: (context: ChildContext) => RunningChild | Promise<RunningChild>;
  readonly restart: Restart;
  /** Time that stop() has before the child is given up and killed. */
  readonly shutdownMs: number;
  readonly inboxLimit: number;
}

/** What a child gets to say how it fares. Calls of a child that has been replaced are ignored. */
export interface ChildContext {
  /** The child can't go on. */
  crash(error: unknown): void;
  /** The child has done its work. */
  done(): void;
  /** Outlives restarts: what is sent while the child is down waits, up to the limit. */
  readonly inbox: Mailbox<unknown>;
  /** Aborts when this instance is stopped, killed or replaced. */
  readonly signal: AbortSignal;
}

export interface RunningChild {
  stop(): void | Promise<void>;
  /** When stop() took too long. */
  kill?(): void;
  /** For display: the state of a state machine. */
  machineState?(): string;
  readonly supervisor?: Supervisor;
}

export interface SupervisorOptions {
  readonly id: string;
  readonly strategy: Strategy;
  /** More restarts than this within the period are too many. Default 5 in 60 s. */
  readonly maxRestarts?: number;
  readonly periodMs?: number;
  /** Delay before a restart: doubles from min to max, and is forgotten once the child has run for the period. */
  readonly backoffMinMs?: number;
  readonly backoffMaxMs?: number;
  /** A start that takes longer is a crash. Default 30 s. */
  readonly startTimeoutMs?: number;
}

export type SupervisionEvent =
  | { readonly kind: 'started' | 'stopped'; readonly path: string }
  | { readonly kind: 'crashed'; readonly path: string; readonly error: string }
  | { readonly kind: 'restarted'; readonly path: string; readonly restarts: number }
  | { readonly kind: 'killed'; readonly path: string; readonly shutdownMs: number }
  | { readonly kind: 'escalated'; readonly path: string; readonly error: string };

export interface SupervisorDependencies {
  readonly timers: Timers;
  readonly onEvent?: (event: SupervisionEvent) => void;
  /** Too many restarts; all children have been stopped. */
  readonly onEscalate?: (error: Error) => void;
  /** Wall clock, for what is shown. */
  readonly unixMs?: () => number;
}

export interface SupervisorSnapshot {
  readonly id: string;
  readonly strategy: Strategy;
  readonly children: readonly ChildSnapshot[];
}

export interface ChildSnapshot {
  readonly id: string;
  readonly restart: Restart;
  readonly status: ChildStatus;
  readonly restarts: number;
  readonly lastError: string | undefined;
  readonly lastCrashUnixMs: number | undefined;
  readonly uptimeMs: number;
  readonly inboxLength: number;
  readonly inboxLimit: number;
  readonly inboxDropped: number;
  readonly machineState: string | undefined;
  readonly supervisor: SupervisorSnapshot | undefined;
}

interface Child {
  readonly spec: ChildSpec;
  readonly inbox: Mailbox<unknown>;
  /** Added while running and forgotten when it ends. */
  readonly dynamic: boolean;
  running: RunningChild | undefined;
  status: ChildStatus;
  /** Of the instance; reports of older ones are ignored. */
  generation: number;
  abort: AbortController;
  restarts: number;
  /** Restarts since it last ran for a whole period. */
  streak: number;
  lastError: string | undefined;
  lastCrashUnixMs: number | undefined;
  startedAtMs: number;
  /** Crash reported by start() itself before it returned. */
  crashedInStart: { readonly error: unknown } | undefined;
  /** A start that is under way; settled once its outcome has been dealt with. Never rejects. */
  starting: Promise<void> | undefined;
}

/** Thrown by start() when a child could not be started; those started before it have been stopped. */
export class StartError extends Error {
  readonly child: string;
  constructor(child: string, cause: unknown) {
    super(`${child} did not start: ${messageOf(cause)}`, { cause });
    this.name = 'StartError';
    this.child = child;
  }
}

export class Supervisor {
  readonly id: string;
  readonly #options: Required<SupervisorOptions>;
  readonly #dependencies: SupervisorDependencies;
  readonly #children: Child[] = [];
  readonly #restartTimes: number[] = [];
  #state: 'idle' | 'running' | 'stopping' | 'stopped' = 'idle';
  /** Restarts happen one after the other. */
  #work: Promise<void> = Promise.resolve();
  /** Ends the back-off of a restart when everything stops. */
  #wakeUp: (() => void) | undefined;
  /** Path in the tree, set by the parent. */
  path: string;

  constructor(options: SupervisorOptions, children: readonly ChildSpec[], dependencies: SupervisorDependencies) {
    this.id = options.id;
    this.path = '';
    this.#options = {
      maxRestarts: 5,
      periodMs: 60_000,
      backoffMinMs: 50,
      backoffMaxMs: 10_000,
      startTimeoutMs: 30_000,
      ...options,
    };
    this.#dependencies = dependencies;
    for (const spec of children) this.#insert(spec, false);
  }

  /** Starts all children in order. Rejects with StartError. */
  async start(): Promise<void> {
    if (this.#state !== 'idle') throw new Error(`supervisor ${this.id} was started before`);
    this.#state = 'running';
    for (const child of [...this.#children]) {
      try {
        // Told to stop meanwhile: what is not started yet stays so.
        if (this.#state !== 'running') throw new Error('stopped while it started');
        await this.#startChild(child);
      } catch (error) {
        await this.stop();
        throw error instanceof StartError ? error : new StartError(this.#pathOf(child), error);
      }
    }
  }

  /** Stops all children in reverse order, each within its time; then nothing is running. */
  async stop(): Promise<void> {
    if (this.#state === 'stopped' || this.#state === 'stopping') return await this.#work;
    this.#state = 'stopping';
    this.#wakeUp?.();
    const work = this.#work.then(() => this.#stopGroup(this.#children));
    this.#work = work;
    await work;
    this.#state = 'stopped';
  }

  /** Starts a child beside the others (always one_for_one for it). Rejects with StartError. */
  async add(spec: ChildSpec): Promise<void> {
    if (this.#state !== 'running') throw new Error(`supervisor ${this.id} is not running`);
    const child = this.#insert(spec, true);
    try {
      await this.#startChild(child);
    } catch (error) {
      this.#forget(child);
      throw new StartError(this.#pathOf(child), error);
    }
  }

  /** Stops and forgets a child that was added. */
  async remove(id: string): Promise<void> {
    const child = this.#children.find((other) => other.spec.id === id && other.dynamic);
    if (child === undefined) return;
    await this.#stopChild(child);
    this.#forget(child);
  }

  get size(): number {
    return this.#children.length;
  }

  /** Puts a message into a child's inbox. False: no such child, or its inbox is full. */
  send(id: string, message: unknown): boolean {
    return this.#children.find((child) => child.spec.id === id)?.inbox.send(message) ?? false;
  }

  /** Ends a child as a crash would. `path` from this supervisor down, e.g. `pumps/pump-0`. Returns its restarts so far. */
  crash(path: string, reason: string): number | undefined {
    const [id, ...rest] = path.split('/');
    const child = this.#children.find((other) => other.spec.id === id);
    if (child === undefined) return undefined;
    if (rest.length > 0) return child.running?.supervisor?.crash(rest.join('/'), reason);
    if (child.status !== 'running') return undefined;
    const { restarts } = child;
    this.#ended(child, child.generation, { error: new Error(reason) });
    return restarts;
  }

  /** Paths of everything that can be crashed. */
  paths(): string[] {
    return this.#children.flatMap((child) => [
      child.spec.id,
      ...(child.running?.supervisor?.paths().map((path) => `${child.spec.id}/${path}`) ?? []),
    ]);
  }

  /** All permanent children are running, those of supervisors below included. */
  get healthy(): boolean {
    return this.#children.every(
      (child) =>
        (child.status === 'running' || (child.spec.restart !== 'permanent' && child.status === 'stopped')) &&
        (child.running?.supervisor?.healthy ?? true),
    );
  }

  /** State of the tree. Of children added at run time at most `maxDynamic` (the newest) are listed. */
  snapshot(maxDynamic = 50): SupervisorSnapshot {
    const { timers } = this.#dependencies;
    let dynamicLeft = maxDynamic;
    const listed = [...this.#children]
      .reverse()
      .filter((child) => !child.dynamic || dynamicLeft-- > 0)
      .reverse();
    return {
      id: this.id,
      strategy: this.#options.strategy,
      children: listed.map((child) => ({
        id: child.spec.id,
        restart: child.spec.restart,
        status: child.status,
        restarts: child.restarts,
        lastError: child.lastError,
        lastCrashUnixMs: child.lastCrashUnixMs,
        uptimeMs: child.status === 'running' ? timers.nowMs() - child.startedAtMs : 0,
        inboxLength: child.inbox.length,
        inboxLimit: child.inbox.limit,
        inboxDropped: child.inbox.dropped,
        machineState: child.running?.machineState?.(),
        supervisor: child.running?.supervisor?.snapshot(maxDynamic),
      })),
    };
  }

  #insert(spec: ChildSpec, dynamic: boolean): Child {
    if (spec.id === '' || spec.id.includes('/')) throw new Error(`child id "${spec.id}" must be non-empty, without /`);
    if (this.#children.some((child) => child.spec.id === spec.id)) {
      throw new Error(`supervisor ${this.id} has a child ${spec.id} already`);
    }
    const child: Child = {
      spec,
      inbox: new Mailbox(spec.inboxLimit),
      dynamic,
      running: undefined,
      status: 'stopped',
      generation: 0,
      abort: new AbortController(),
      restarts: 0,
      streak: 0,
      lastError: undefined,
      lastCrashUnixMs: undefined,
      startedAtMs: 0,
      crashedInStart: undefined,
      starting: undefined,
    };
    this.#children.push(child);
    return child;
  }

  #forget(child: Child): void {
    const index = this.#children.indexOf(child);
    if (index >= 0) this.#children.splice(index, 1);
  }

  #pathOf(child: Child): string {
    return this.path === '' ? child.spec.id : `${this.path}/${child.spec.id}`;
  }

  /** Rejects when the child could not be started, or was stopped before it was up; then nothing of it runs. */
  async #startChild(child: Child): Promise<void> {
    const settled = Promise.withResolvers<void>();
    child.starting = settled.promise;
    try {
      await this.#bringUp(child);
    } finally {
      child.starting = undefined;
      settled.resolve();
    }
  }

  async #bringUp(child: Child): Promise<void> {
    const generation = ++child.generation;
    child.status = 'starting';
    child.crashedInStart = undefined;
    child.abort = new AbortController();
    const context: ChildContext = {
      crash: (error) => this.#ended(child, generation, { error }),
      done: () => this.#ended(child, generation, undefined),
      inbox: child.inbox,
      signal: child.abort.signal,
    };
    const { startTimeoutMs } = this.#options;
    const started = Promise.resolve().then(() => child.spec.start(context));
    const running = await this.#within(startTimeoutMs, started, () => {
      // Whatever still comes of a start that is given up must not run on.
      started.then((late) => stopQuietly(late)).catch(() => {});
      throw new Error(`start took more than ${startTimeoutMs} ms`);
    }).catch((error: unknown) => {
      if (generation !== child.generation) throw error;
      this.#noteCrash(child, error);
      child.status = 'failed';
      child.abort.abort();
      throw error;
    });
    if (generation !== child.generation) {
      // It was stopped while it started: what has come up all the same must not run on.
      await stopQuietly(running);
      throw new Error('stopped while it started');
    }
    child.running = running;
    if (running.supervisor !== undefined) running.supervisor.path = this.#pathOf(child);
    const crashed = child.crashedInStart as { readonly error: unknown } | undefined;
    if (crashed !== undefined) {
      this.#noteCrash(child, crashed.error);
      await this.#stopChild(child);
      child.status = 'failed';
      throw crashed.error;
    }
    child.status = 'running';
    child.startedAtMs = this.#dependencies.timers.nowMs();
    this.#emit({ kind: 'started', path: this.#pathOf(child) });
  }

  async #stopChild(child: Child): Promise<void> {
    child.generation++;
    child.inbox.detach();
    child.abort.abort();
    const { running, starting } = child;
    const { shutdownMs } = child.spec;
    child.running = undefined;
    if (running === undefined) {
      if (starting !== undefined) {
        child.status = 'stopping';
        await this.#within(shutdownMs, starting, () =>
          this.#emit({ kind: 'killed', path: this.#pathOf(child), shutdownMs }),
        );
      }
      child.status = 'stopped';
      return;
    }
    child.status = 'stopping';
    try {
      await this.#within(
        shutdownMs,
        Promise.resolve().then(() => running.stop()),
        () => {
          this.#emit({ kind: 'killed', path: this.#pathOf(child), shutdownMs });
          running.kill?.();
        },
      );
    } catch (error) {
      // It is down either way; that it did not go quietly is worth knowing.
      child.lastError = messageOf(error);
      running.kill?.();
    }
    child.status = 'stopped';
    this.#emit({ kind: 'stopped', path: this.#pathOf(child) });
  }

  async #stopGroup(group: readonly Child[]): Promise<void> {
    for (const child of [...group].reverse()) await this.#stopChild(child);
  }

  /** A child ended: by a crash, or (outcome undefined) because it was done. */
  #ended(child: Child, generation: number, outcome: { readonly error: unknown } | undefined): void {
    if (generation !== child.generation || this.#state !== 'running') return;
    if (child.status === 'starting') {
      child.crashedInStart ??= outcome ?? { error: new Error('ended while it started') };
      return;
    }
    if (outcome !== undefined) this.#noteCrash(child, outcome.error);
    const { restart } = child.spec;
    const restarts = restart === 'permanent' || (restart === 'transient' && outcome !== undefined);
    // From here on nothing of this instance counts any more.
    child.generation++;
    child.status = restarts ? 'restarting' : 'stopping';
    this.#work = this.#work.then(() => (restarts ? this.#restart(child) : this.#retire(child)));
  }

  async #retire(child: Child): Promise<void> {
    if (child.status !== 'stopping') return;
    await this.#stopChild(child);
    if (child.dynamic) this.#forget(child);
  }

  async #restart(crashed: Child): Promise<void> {
    const { timers } = this.#dependencies;
    const { strategy, backoffMinMs, backoffMaxMs, periodMs, maxRestarts } = this.#options;
    // A restart of the group that was under way has healed it already, or everything stops.
    if (this.#state !== 'running' || crashed.status !== 'restarting') return;
    const index = this.#children.indexOf(crashed);
    const group =
      strategy === 'one_for_one' || crashed.dynamic
        ? [crashed]
        : this.#children.filter((child, at) => !child.dynamic && (strategy === 'one_for_all' || at >= index));
    await this.#stopGroup(group);
    for (;;) {
      const nowMs = timers.nowMs();
      while (this.#restartTimes.length > 0 && this.#restartTimes[0]! <= nowMs - periodMs) this.#restartTimes.shift();
      if (this.#restartTimes.length >= maxRestarts) {
        await this.#escalate(crashed);
        return;
      }
      this.#restartTimes.push(nowMs);
      if (crashed.startedAtMs > 0 && nowMs - crashed.startedAtMs >= periodMs) crashed.streak = 0;
      const delayMs = Math.min(backoffMaxMs, backoffMinMs * 2 ** crashed.streak);
      crashed.streak++;
      for (const child of group) child.status = 'restarting';
      await this.#sleep(delayMs);
      // Everything stops, or the child was taken out meanwhile.
      if (this.#state !== 'running' || !this.#children.includes(crashed)) return;
      if (await this.#startGroup(group)) break;
    }
    crashed.restarts++;
    this.#emit({ kind: 'restarted', path: this.#pathOf(crashed), restarts: crashed.restarts });
  }

  /** False when one failed; all of the group are stopped then. */
  async #startGroup(group: readonly Child[]): Promise<boolean> {
    for (const child of group) {
      try {
        await this.#startChild(child);
      } catch {
        // Noted by #startChild; the caller tries again or gives up by the intensity limit.
        await this.#stopGroup(group);
        return false;
      }
    }
    return true;
  }

  async #escalate(crashed: Child): Promise<void> {
    const { maxRestarts, periodMs } = this.#options;
    const error = new Error(
      `${this.#pathOf(crashed)} was restarted more than ${maxRestarts} times in ${periodMs / 1000} s; last: ${crashed.lastError ?? 'no error'}`,
    );
    this.#state = 'stopping';
    await this.#stopGroup(this.#children);
    crashed.status = 'failed';
    this.#state = 'stopped';
    this.#emit({ kind: 'escalated', path: this.path === '' ? this.id : this.path, error: error.message });
    this.#dependencies.onEscalate?.(error);
  }

  #noteCrash(child: Child, error: unknown): void {
    child.lastError = messageOf(error);
    child.lastCrashUnixMs = (this.#dependencies.unixMs ?? Date.now)();
    this.#emit({ kind: 'crashed', path: this.#pathOf(child), error: child.lastError });
  }

  #emit(event: SupervisionEvent): void {
    this.#dependencies.onEvent?.(event);
  }

  /** Ends early, or at once, when everything stops. */
  #sleep(delayMs: number): Promise<void> {
    if (this.#state !== 'running') return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#dependencies.timers.after(delayMs, () => this.#wakeUp?.());
      this.#wakeUp = () => {
        cancel();
        this.#wakeUp = undefined;
        resolve();
      };
    });
  }

  /** The promise's outcome, or onTimeout's if that comes first. */
  #within<T>(timeoutMs: number, promise: Promise<T>, onTimeout: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const cancel = this.#dependencies.timers.after(timeoutMs, () => {
        try {
          resolve(onTimeout());
        } catch (error) {
          reject(error as Error);
        }
      });
      promise.then(resolve, reject).finally(cancel);
    });
  }
}

/** A supervisor as a child of another: its escalation is that child's crash. */
export const supervisorChild = (
  options: SupervisorOptions,
  children: () => readonly ChildSpec[],
  dependencies: Omit<SupervisorDependencies, 'onEscalate'>,
  child: { readonly restart?: Restart; readonly shutdownMs?: number } = {},
): ChildSpec => ({
  id: options.id,
  restart: child.restart ?? 'permanent',
  shutdownMs: child.shutdownMs ?? 30_000,
  inboxLimit: 1,
  async start(context) {
    const supervisor = new Supervisor(options, children(), { ...dependencies, onEscalate: context.crash });
    supervisor.path = options.id;
    await supervisor.start();
    return { stop: () => supervisor.stop(), supervisor };
  },
});

const stopQuietly = async (child: RunningChild): Promise<void> => {
  try {
    await child.stop();
  } catch {
    child.kill?.();
  }
};

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).slice(0, 500) || 'no message';
