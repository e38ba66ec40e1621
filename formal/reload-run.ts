/**
 * One run of the code that reloads configurations, followed through the table of Reload.tla: the real reloader, pool and
 * tuning of workers; what the operator, the messages between threads and the crashes do, and in which order, is drawn.
 */
import type * as reloaderModule from '@nyx/daemon/actors/config-reloader.ts';
import { EventBus } from '@nyx/daemon/actors/event-bus.ts';
import type * as poolModule from '@nyx/daemon/actors/pump-pool.ts';
import { pumpTuning } from '@nyx/daemon/actors/pump-tuning.ts';
import { changedKeys } from '@nyx/daemon/config/difference.ts';
import { type Config, defaultConfig } from '@nyx/daemon/config/load.ts';
import type { ReloadPlan } from '@nyx/daemon/config/plan-reload.ts';
import { DialError, DialErrorCode, type PumpTuning } from '@nyx/daemon/pump/contract.ts';
import type * as tuningModule from '@nyx/daemon/pump/live-tuning.ts';
import type { PumpClient, PumpReady } from '@nyx/daemon/pump/pump-client.ts';
import { Follower, readTable } from './trace.ts';

export interface ReloadCode {
  readonly ConfigReloader: typeof reloaderModule.ConfigReloader;
  readonly PumpPool: typeof poolModule.PumpPool;
  readonly LiveTuning: typeof tuningModule.LiveTuning;
}

/** As the table was made: versions of the file, those that are not sound, crashes. */
const MAX_VERSION = 3;
const UNSOUND: ReadonlySet<number> = new Set([2]);
const MAX_CRASHES = 1;
const WORKERS = [1, 2];
const MAX_STEPS = 60;

/** The version of the file is what both of these limits say. */
const configOf = (version: number): Config =>
  defaultConfig({
    directory: { authorities: { keys: ['ab'.repeat(32)] }, sources: ['http://127.0.0.1:1'] },
    limits: { maxLinks: version, maxSessions: version },
  });
const configs = Array.from({ length: MAX_VERSION + 1 }, (_, version) => configOf(Math.max(1, version)));

interface Sent {
  readonly tuning: PumpTuning;
  readonly answer: PromiseWithResolvers<number>;
}

/** A worker, from its start on: two parts that take a tuning over, and the way to it. */
class Worker {
  readonly id: number;
  state: 'starting' | 'up' | 'down' = 'starting';
  readonly parts: number[];
  readonly tuning: tuningModule.LiveTuning;
  readonly inbox: Sent[] = [];

  constructor(id: number, { LiveTuning }: ReloadCode, first: PumpTuning) {
    this.id = id;
    this.parts = [first.limits.maxLinks, first.limits.maxSessions];
    this.tuning = new LiveTuning(first, [
      ({ limits }) => {
        this.parts[0] = limits.maxLinks;
      },
      ({ limits }) => {
        this.parts[1] = limits.maxSessions;
      },
    ]);
  }

  get client(): PumpClient {
    return this as unknown as PumpClient;
  }

  configure(tuning: PumpTuning): Promise<number> {
    const answer = Promise.withResolvers<number>();
    this.inbox.push({ tuning, answer });
    return answer.promise;
  }

  /** The ways between workers are no matter of the module. */
  send(_message: unknown, ports: readonly { close(): void }[] = []): void {
    for (const port of ports) port.close();
  }

  take(): void {
    const { tuning, answer } = this.inbox.shift()!;
    answer.resolve(this.tuning.take(tuning));
  }

  crash(): void {
    this.state = 'down';
    for (const { answer } of this.inbox.splice(0)) {
      answer.reject(new DialError(DialErrorCode.sessionLost, 'the pump failed'));
    }
  }
}

/** A generator of whole numbers below a bound, the same for each seed. */
function drawsOf(seed: number): (below: number) => number {
  let state = (seed * 2_654_435_761) >>> 0;
  return (below) => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_507) + 0x9e37_79b9) >>> 0;
    return Math.floor((((state ^ (state >>> 13)) >>> 0) / 2 ** 32) * below);
  };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Throws Deviation, or says what is not as it has to be when everything has come to rest. */
export async function followReloads(code: ReloadCode, seed: number): Promise<Follower> {
  const draw = drawsOf(seed);
  const follower = new Follower(readTable('reload'));
  const pool = new code.PumpPool();
  const workers = new Map<number, Worker>();
  let file = 1;
  let phase = 'idle';
  let checks: (() => void)[] = [];
  let crashes = 0;
  let failure: unknown;

  const see = () => {
    const shown = WORKERS.map((id) => {
      const worker = workers.get(id);
      return worker === undefined || worker.state === 'down' ? 'down' : `${worker.state} ${worker.parts.join()}`;
    });
    try {
      follower.see(`main ${reloader.config.limits.maxLinks} ${phase}; ${shown.sort().join('; ')}`);
    } catch (error) {
      failure ??= error;
    }
  };
  const reloader = new code.ConfigReloader(
    { path: '/nyx.yaml', first: configs[1]! },
    {
      plan: async (_path, present): Promise<ReloadPlan> => {
        const config = configs[file]!;
        phase = 'checking';
        see();
        await new Promise<void>((resolve) => checks.push(resolve));
        const changed = changedKeys(present, config).map((key) => ({ key, line: 1, column: 1 }));
        return changed.length === 0 ? { kind: 'unchanged', left: [] } : { kind: 'apply', config, changed, left: [] };
      },
      tuning: pumpTuning,
      pool: {
        configure: (tuning) => {
          const told = pool.configure(tuning);
          phase = 'spreading';
          see();
          return told;
        },
      },
      events: new EventBus(() => 0),
      log: () => {},
      unixMs: () => 0,
      onTorn: (error) => {
        failure ??= error;
      },
    },
  );
  reloader.register((next) => {
    if (UNSOUND.has(next.limits.maxLinks)) throw new Error('not to be had');
    return () => {};
  });
  const known = new Set<Promise<unknown>>();
  const ask = () => {
    const reload = reloader.reload(false);
    if (known.has(reload)) return;
    known.add(reload);
    reload.then(
      () => {
        phase = 'idle';
        see();
      },
      (error: unknown) => {
        failure ??= error;
      },
    );
  };
  /** As main.ts has it: options are read when a worker starts, and the pool hears of it when it is ready. */
  const start = (id: number) => {
    workers.set(id, new Worker(id, code, pumpTuning(reloader.config, reloader.generation)));
  };
  const ready = (worker: Worker) => {
    worker.state = 'up';
    pool.attach(worker.id, worker.client, { generation: worker.tuning.current.generation } as PumpReady);
  };
  const crash = (worker: Worker) => {
    crashes++;
    pool.detach(worker.id, worker.client);
    worker.crash();
  };

  /** What may happen now; the operator's part only while `busy`. */
  const possible = (busy: boolean): (() => void)[] => {
    const steps: (() => void)[] = [];
    if (busy && file < MAX_VERSION) steps.push(() => file++);
    if (busy) steps.push(ask);
    for (const check of checks) {
      steps.push(() => {
        checks = checks.filter((other) => other !== check);
        check();
      });
    }
    for (const id of WORKERS) {
      const worker = workers.get(id);
      if (worker === undefined || worker.state === 'down') steps.push(() => start(id));
      else {
        if (worker.state === 'starting') steps.push(() => ready(worker));
        if (worker.state === 'up' && worker.inbox.length > 0) steps.push(() => worker.take());
        if (busy && crashes < MAX_CRASHES) steps.push(() => crash(worker));
      }
    }
    return steps;
  };

  see();
  for (let step = 0; step < MAX_STEPS && failure === undefined; step++) {
    const steps = possible(step < MAX_STEPS / 2);
    if (steps.length === 0) break;
    steps[draw(steps.length)]!();
    see();
    await settled();
    see();
  }
  if (failure !== undefined) throw failure;
  if (possible(false).length > 0) throw new Error(`seed ${seed}: it has not come to rest`);
  const { maxLinks } = reloader.config.limits;
  for (const { parts } of workers.values()) {
    if (parts.some((part) => part !== maxLinks)) {
      throw new Error(`seed ${seed}: a worker goes by ${parts}, the node by ${maxLinks}: ${follower.seen.join(' → ')}`);
    }
  }
  return follower;
}
