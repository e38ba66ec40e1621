/**
 * Reloads the configuration while the node runs: the file is read and checked as a whole; then the difference is applied in
 * one turn of the main thread, or nothing is. Workers get the new one as a whole as well, under its generation number, and
 * one that starts meanwhile starts with the newest (formal/spec/Reload.tla, docs/adr/0036-configuration-reload.md).
 */
import { ConfigError, type ConfigIssue } from '../config/config-error.ts';
import type { KeyAt, ReloadPlan } from '../config/plan-reload.ts';
import type { ConfigKey } from '../config/reload-classes.ts';
import type { Config } from '../config/schema.ts';
import { DialError, DialErrorCode, type PumpTuning } from '../pump/contract.ts';
import { FIRST_GENERATION } from '../pump/live-tuning.ts';
import type { Log } from './context.ts';
import type { EventBus } from './event-bus.ts';
import type { PumpPool } from './pump-pool.ts';

/** Problems that one log line or event names; the caller gets all. */
const MAX_LOGGED_PROBLEMS = 10;

export const ReloadOutcome = {
  applied: 'applied',
  /** The file says what is in force already. */
  unchanged: 'unchanged',
  /** Nothing has changed: the file has mistakes … */
  invalid: 'invalid',
  /** … or changes keys that need a restart. */
  needsRestart: 'needs-restart',
} as const;
export type ReloadOutcome = (typeof ReloadOutcome)[keyof typeof ReloadOutcome];

export interface ReloadReport {
  readonly outcome: ReloadOutcome;
  /** In force after it. */
  readonly generation: number;
  /** `applied`: keys with another value than before. */
  readonly changed: readonly KeyAt[];
  /** Keys of the file that need a restart: why it is `needs-restart`, or what was left as it was. */
  readonly needRestart: readonly KeyAt[];
  /** `invalid`: every mistake. */
  readonly issues: readonly ConfigIssue[];
  /** `applied`: workers that go by it now, and those that have not said so in time. Those that are being restarted start with it. */
  readonly workers: { readonly confirmed: number; readonly pending: number };
}

export interface ReloadState {
  readonly generation: number;
  /** When what is in force was applied; at first: when the node began. */
  readonly appliedUnixMs: number;
  readonly counts: Readonly<Record<ReloadOutcome, number>>;
  /** Undefined: there was none. */
  readonly last: { readonly outcome: ReloadOutcome; readonly atUnixMs: number } | undefined;
  /** Of the last reload, if it was refused; a line for each problem. */
  readonly lastError: string | undefined;
  /** What the file says differently since the last reload, and a restart would bring. */
  readonly needRestart: readonly ConfigKey[];
}

/** What a part of the node finds wrong with a configuration that only it can look into. */
export class ConfigProblem extends Error {
  readonly key: ConfigKey;
  constructor(key: ConfigKey, message: string) {
    super(message);
    this.name = 'ConfigProblem';
    this.key = key;
  }
}

/**
 * A part of the main thread with something to do at a change beyond reading the configuration when it needs it. Does all that
 * can fail, and gives what takes the new one into use, which can't; throws ConfigProblem, and then nothing has changed.
 */
export type Reloadable = (next: Config, present: Config) => () => void;

export interface ConfigReloaderOptions {
  readonly path: string;
  readonly first: Config;
}

export interface ConfigReloaderDependencies {
  /** As planReload. */
  readonly plan: (path: string, present: Config, partial: boolean) => Promise<ReloadPlan>;
  readonly tuning: (config: Config, generation: number) => PumpTuning;
  readonly pool: Pick<PumpPool, 'configure'>;
  readonly events: EventBus;
  readonly log: Log;
  readonly unixMs: () => number;
  /** A part threw when it took the new configuration into use, so that the node is between two. It can't go on. */
  readonly onTorn: (error: Error) => void;
}

/** What is wrong with the file. */
interface Unsound {
  readonly issues: readonly ConfigIssue[];
}

export class ConfigReloader {
  /** Of the file. */
  readonly path: string;
  readonly #dependencies: ConfigReloaderDependencies;
  readonly #parts: Reloadable[] = [];
  #config: Config;
  #generation = FIRST_GENERATION;
  #appliedUnixMs: number;
  readonly #counts: Record<ReloadOutcome, number> = { applied: 0, unchanged: 0, invalid: 0, 'needs-restart': 0 };
  #last: ReloadState['last'];
  #lastError: string | undefined;
  #needRestart: readonly ConfigKey[] = [];
  /** Reloads happen one after the other. Never rejects. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Those that have not begun to read, by `partial`: whoever asks meanwhile is served by them. */
  readonly #waiting = new Map<boolean, Promise<ReloadReport>>();
  #closed = false;

  constructor({ path, first }: ConfigReloaderOptions, dependencies: ConfigReloaderDependencies) {
    this.path = path;
    this.#config = first;
    this.#dependencies = dependencies;
    this.#appliedUnixMs = dependencies.unixMs();
  }

  /** In force. */
  get config(): Config {
    return this.#config;
  }

  get generation(): number {
    return this.#generation;
  }

  get state(): ReloadState {
    return {
      generation: this.#generation,
      appliedUnixMs: this.#appliedUnixMs,
      counts: this.#counts,
      last: this.#last,
      lastError: this.#lastError,
      needRestart: this.#needRestart,
    };
  }

  register(part: Reloadable): void {
    this.#parts.push(part);
  }

  /** The node is going down. */
  close(): void {
    this.#closed = true;
  }

  /**
   * Reads the file and goes by it, or says why not. `partial`: keys that need a restart are left as they are and the rest is
   * applied. A call while another reload is under way reads the file after that; all that come meanwhile share one.
   * Rejects with DialError SHUTDOWN alone.
   */
  reload(partial: boolean): Promise<ReloadReport> {
    if (this.#closed) return Promise.reject(new DialError(DialErrorCode.shutdown, 'the node is going down'));
    const waiting = this.#waiting.get(partial);
    if (waiting !== undefined) return waiting;
    const reload = this.#turn.then(() => {
      this.#waiting.delete(partial);
      return this.#reload(partial);
    });
    this.#waiting.set(partial, reload);
    // The caller deals with how it ends.
    this.#turn = reload.catch(() => undefined);
    return reload;
  }

  async #reload(partial: boolean): Promise<ReloadReport> {
    const plan = await this.#plan(partial);
    if (this.#closed) throw new DialError(DialErrorCode.shutdown, 'the node is going down');
    if ('issues' in plan) return this.#refuse({ outcome: ReloadOutcome.invalid, issues: plan.issues });
    if (plan.kind === 'needs-restart') {
      return this.#refuse({ outcome: ReloadOutcome.needsRestart, needRestart: plan.keys });
    }
    this.#needRestart = plan.left.map(({ key }) => key);
    if (plan.kind === 'unchanged') {
      return this.#report({ outcome: ReloadOutcome.unchanged, needRestart: plan.left }, undefined);
    }
    const prepared = this.#prepare(plan);
    if ('issues' in prepared) return this.#refuse({ outcome: ReloadOutcome.invalid, issues: prepared.issues });

    // Up to here nothing has changed, and from here to the end of the turn nothing can fail.
    const { pool, tuning, unixMs, onTorn } = this.#dependencies;
    this.#config = plan.config;
    this.#generation++;
    this.#appliedUnixMs = unixMs();
    try {
      for (const commit of prepared.commits) commit();
    } catch (error) {
      onTorn(error as Error);
      throw error;
    }
    const workers = await pool.configure(tuning(this.#config, this.#generation));
    const { changed, left } = plan;
    return this.#report({ outcome: ReloadOutcome.applied, changed, needRestart: left, workers }, undefined);
  }

  async #plan(partial: boolean): Promise<ReloadPlan | Unsound> {
    try {
      return await this.#dependencies.plan(this.path, this.#config, partial);
    } catch (error) {
      if (error instanceof ConfigError) return { issues: error.issues };
      const message = `could not be checked: ${(error as Error).message}`;
      return { issues: [{ line: 0, column: 0, path: '', message }] };
    }
  }

  #prepare({
    config,
    changed,
  }: Extract<ReloadPlan, { readonly kind: 'apply' }>): { readonly commits: readonly (() => void)[] } | Unsound {
    const commits: (() => void)[] = [];
    const issues: ConfigIssue[] = [];
    for (const part of this.#parts) {
      try {
        commits.push(part(config, this.#config));
      } catch (error) {
        const key = error instanceof ConfigProblem ? error.key : undefined;
        const { line, column } = changed.find((at) => at.key === key) ?? { line: 0, column: 0 };
        issues.push({ line, column, path: key ?? '', message: (error as Error).message });
      }
    }
    return issues.length > 0 ? { issues } : { commits };
  }

  #refuse(report: Pick<ReloadReport, 'outcome'> & Partial<ReloadReport>): ReloadReport {
    const { issues = [], needRestart = [] } = report;
    const problems = [
      ...issues.map(
        ({ line, column, path, message }) => `${line}:${column}: ${path === '' ? '' : `${path} `}${message}`,
      ),
      ...needRestart.map(({ key, line, column }) => `${line}:${column}: ${key} needs a restart`),
    ];
    return this.#report(report, problems);
  }

  /** `problems`: why it was refused. */
  #report(
    given: Pick<ReloadReport, 'outcome'> & Partial<ReloadReport>,
    problems: readonly string[] | undefined,
  ): ReloadReport {
    const { log, events, unixMs } = this.#dependencies;
    const { outcome } = given;
    const generation = this.#generation;
    const report: ReloadReport = {
      generation,
      changed: [],
      needRestart: [],
      issues: [],
      workers: { confirmed: 0, pending: 0 },
      ...given,
    };
    this.#counts[outcome]++;
    this.#last = { outcome, atUnixMs: unixMs() };
    this.#lastError = problems?.join('\n');
    if (problems !== undefined) {
      const named = problems.slice(0, MAX_LOGGED_PROBLEMS);
      const more = problems.length - named.length;
      const facts = { outcome, generation, file: this.path };
      log('error', 'the configuration is not reloaded and stays as it is', { ...facts, problems: named, more });
      events.publish('config', 'refused', generation, { ...facts, problems: named.join('\n'), more });
      return report;
    }
    const names = (keys: readonly KeyAt[]) => keys.map(({ key }) => key).join(' ');
    const facts = {
      outcome,
      generation,
      changed: names(report.changed),
      needRestart: names(report.needRestart),
      workers: report.workers.confirmed,
      pendingWorkers: report.workers.pending,
    };
    log('info', 'configuration reloaded', facts);
    events.publish('config', 'reloaded', generation, facts);
    return report;
  }
}
