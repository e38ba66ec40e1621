/**
 * `npm run fuzz -- [TARGET…] [--time SECONDS | --total SECONDS] [--seed N] [--json] [--keep]`: fuzzes each target for so
 * long (default 10 s), or all together for so long, guided by coverage. A crash is saved under regressions/, where the test
 * replays it; --keep also adds inputs that reached new blocks to the corpus. Exit code 1 on a crash, 2 on bad usage.
 */
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { writeEntry } from './corpus.ts';
import { DEFAULT_MAX_BYTES } from './fuzzer.ts';
import { SHARED_HEADER_BYTES, type WorkerInput, type WorkerReport } from './worker.ts';

/** No execution may take this long. */
const hangMs = 20_000;
const heapMb = 1024;
/** What --keep adds: small ones only, for the corpus lives in the repository. */
const maxKeptBytes = 4096;
const sharedBytes = SHARED_HEADER_BYTES + 1024 * 1024;

interface Crash {
  readonly file: string;
  readonly error: string;
}

interface Result {
  readonly target: string;
  readonly seed: number;
  readonly seconds: number;
  readonly executions: number;
  /** Distinct blocks of the project's sources that ran. */
  readonly blocks: number;
  readonly newInputs: number;
  readonly kept: number;
  readonly slowestMs: number;
  readonly crashes: readonly Crash[];
}

function usage(problem: string): never {
  process.stderr.write(
    `${problem}\nnpm run fuzz -- [TARGET…] [--time SECONDS | --total SECONDS] [--seed N] [--json] [--keep]\n`,
  );
  process.exit(2);
}

function wholeNumber(text: string | undefined, name: string, fallback: number): number {
  if (text === undefined) return fallback;
  if (!/^\d{1,9}$/.test(text)) usage(`--${name} must be a whole number, is ${text}`);
  return Number(text);
}

/** Of all targets together. */
const covered = new Set<string>();

function fuzz(target: string, maxBytes: number, seed: number, timeMs: number, keep: boolean): Promise<Result> {
  return new Promise((resolve) => {
    const startedMs = performance.now();
    const shared = new SharedArrayBuffer(sharedBytes + maxBytes);
    const state = new Int32Array(shared, 0, 2);
    const input: WorkerInput = { target, seed, timeMs, shared };
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: input,
      resourceLimits: { maxOldGenerationSizeMb: heapMb },
    });
    const crashes: Crash[] = [];
    let newInputs = 0;
    let kept = 0;
    let done: Extract<WorkerReport, { kind: 'done' }> | undefined;
    const crash = (bytes: Uint8Array, error: string) =>
      crashes.push({ file: writeEntry('regressions', target, bytes), error });
    const underTest = () => new Uint8Array(shared, SHARED_HEADER_BYTES, state[1]).slice();
    let executionsBefore = -1;
    const watchdog = setInterval(() => {
      const executions = Atomics.load(state, 0);
      if (executions === executionsBefore && executions > 0 && done === undefined) {
        crash(underTest(), `no end after ${hangMs / 1000} s`);
        void worker.terminate();
      }
      executionsBefore = executions;
    }, hangMs);
    worker.on('message', (report: WorkerReport) => {
      if (report.kind === 'crash') crash(report.input, report.error);
      else if (report.kind === 'done') done = report;
      else {
        newInputs++;
        if (!keep || report.input.length > maxKeptBytes) return;
        writeEntry('corpus', target, report.input);
        kept++;
      }
    });
    worker.on('error', (error) => crash(underTest(), (error as Error).stack ?? String(error)));
    worker.on('exit', () => {
      clearInterval(watchdog);
      const executions = done?.executions ?? Atomics.load(state, 0);
      const { blocks = [], slowestMs = 0 } = done ?? {};
      for (const block of blocks) covered.add(block);
      resolve({
        target,
        seed,
        seconds: Math.round(performance.now() - startedMs) / 1000,
        executions,
        blocks: blocks.length,
        newInputs,
        kept,
        slowestMs: Math.round(slowestMs),
        crashes,
      });
    });
  });
}

const { values, positionals } = (() => {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        time: { type: 'string' },
        total: { type: 'string' },
        seed: { type: 'string' },
        json: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    return usage((error as Error).message);
  }
})();
if (values.time !== undefined && values.total !== undefined)
  usage('--time is for each target, --total for all: not both');
const seed = wholeNumber(values.seed, 'seed', 1);
const { targetNamed, targets } = await import('./targets/index.ts');
const chosen = (() => {
  try {
    return positionals.length === 0 ? targets : positionals.map(targetNamed);
  } catch (error) {
    return usage((error as Error).message);
  }
})();

const timeMs =
  values.total === undefined
    ? 1000 * wholeNumber(values.time, 'time', 10)
    : (1000 * wholeNumber(values.total, 'total', 0)) / chosen.length;

/** With --json, how far it is goes beside the one document that is printed at the end. */
const tell = values.json ? console.error : console.log;
const results: Result[] = [];
for (const { name, maxBytes } of chosen) {
  const result = await fuzz(name, maxBytes ?? DEFAULT_MAX_BYTES, seed, timeMs, values.keep);
  results.push(result);
  const { executions, blocks, newInputs, kept, slowestMs, crashes } = result;
  tell(
    `${name.padEnd(16)} ${executions} executions, ${blocks} blocks, ${newInputs} new inputs (${kept} kept), slowest ${slowestMs} ms, ${crashes.length} crashes`,
  );
  for (const { file, error } of crashes)
    tell(`  CRASH saved as ${file}\n    ${error.split('\n').slice(0, 6).join('\n    ')}`);
}
const sum = (of: (result: Result) => number) => results.reduce((total, result) => total + of(result), 0);
/** By folder, core/wire and the like: distinct blocks of all targets together. */
const folders: Record<string, number> = {};
for (const block of [...covered].sort()) {
  const folder = block.split('/').slice(0, -1).join('/');
  folders[folder] = (folders[folder] ?? 0) + 1;
}
const total = {
  targets: results.length,
  seconds: Math.round(sum((r) => r.seconds)),
  executions: sum((r) => r.executions),
  blocks: covered.size,
  newInputs: sum((r) => r.newInputs),
  crashes: sum((r) => r.crashes.length),
};
if (values.json) console.log(JSON.stringify({ seed, total, folders, results }, null, 2));
else {
  for (const [folder, blocks] of Object.entries(folders)) console.log(`${folder.padEnd(24)} ${blocks} blocks`);
  console.log(
    `${total.targets} targets, ${total.seconds} s, ${total.executions} executions, ${total.blocks} blocks, ${total.crashes} crashes, seed ${seed}`,
  );
}
process.exitCode = total.crashes > 0 ? 1 : 0;
