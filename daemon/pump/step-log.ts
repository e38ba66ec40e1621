/**
 * Writes down the steps that a node takes as the specifications name them (formal/spec), for tests that follow running daemons
 * through the tables of formal/tables. Off unless NYX_STEP_LOG names a folder: what it says ties circuits and cells of one
 * node to those of another, so a node that somebody relies on must not have it. Nothing in it is a key.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Step } from '@nyx/core/engine/contract.ts';

/** Of one worker: some megabytes. What comes then is counted in the last line. */
const MAX_STEPS = 50_000;

/** A line of the file: when (µs of the machine's monotonic clock, the same for all processes), and what. */
interface LoggedStep extends Step {
  readonly at: number;
}

class StepLog {
  readonly #file: number;
  #left: number;

  /** Throws when the file can't be made. */
  constructor(folder: string, name: string, maxSteps: number) {
    this.#left = maxSteps;
    this.#file = openSync(join(folder, `${name}.steps`), 'ax', 0o600);
  }

  readonly write = (step: Step): void => {
    if (this.#left === 0) return;
    const at = Number(process.hrtime.bigint() / 1000n);
    this.#left--;
    const line: LoggedStep | { readonly full: true } = this.#left === 0 ? { full: true } : { at, ...step };
    // At once: a process that is killed has written what it has done.
    writeSync(this.#file, `${JSON.stringify(line)}\n`);
  };

  close(): void {
    this.#left = 0;
    closeSync(this.#file);
  }
}

/** The log that the environment asks for; undefined = none, which is usual. */
export function stepLogOf(environment: NodeJS.ProcessEnv, name: string, maxSteps = MAX_STEPS): StepLog | undefined {
  const folder = environment.NYX_STEP_LOG;
  return folder === undefined || folder === '' ? undefined : new StepLog(folder, name, maxSteps);
}
