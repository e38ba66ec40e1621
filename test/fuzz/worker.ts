/**
 * Fuzzes one target in a thread of its own, so that a hang or memory without bound ends the thread and not the run: the
 * input under test lies in shared memory, where main.ts finds it. Coverage counts from before the decoders are loaded.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { Coverage } from './coverage.ts';

export interface WorkerInput {
  readonly target: string;
  readonly seed: number;
  readonly timeMs: number;
  /** Int32: executions so far, length of the input under test, then its bytes. */
  readonly shared: SharedArrayBuffer;
}

export type WorkerReport =
  | { readonly kind: 'crash'; readonly input: Uint8Array; readonly error: string }
  /** An input that ran blocks which no earlier one had run. */
  | { readonly kind: 'new'; readonly input: Uint8Array }
  | {
      readonly kind: 'done';
      readonly executions: number;
      /** Distinct blocks that ran, as Coverage.blocks; what loading the modules runs is not among them. */
      readonly blocks: readonly string[];
      readonly pool: number;
      readonly slowestMs: number;
    };

export const SHARED_HEADER_BYTES = 8;
/** Executions between two looks at the coverage; a look costs about as much as a short execution. */
const batchSize = 32;
/** Stacks that count as the same crash are told once. */
const maxCrashes = 20;

if (parentPort !== null) {
  const port = parentPort;
  const { target: name, seed, timeMs, shared } = workerData as WorkerInput;
  const tell = (report: WorkerReport) => port.postMessage(report);
  const coverage = new Coverage();
  const { Dice, Mutator, seedFor } = await import('./fuzzer.ts');
  const { readCorpus } = await import('./corpus.ts');
  const { targetNamed } = await import('./targets/index.ts');
  const target = targetNamed(name);
  coverage.forget();
  const state = new Int32Array(shared, 0, 2);
  const current = new Uint8Array(shared, SHARED_HEADER_BYTES);
  const stacks = new Set<string>();
  let slowestMs = 0;

  const execute = (input: Uint8Array): void => {
    state[1] = input.length;
    current.set(input);
    Atomics.add(state, 0, 1);
    const startMs = performance.now();
    try {
      target.run(input.slice());
    } catch (error) {
      const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
      const key = stack.split('\n').slice(0, 4).join('\n').replace(/\d+/g, '0');
      if (stacks.size < maxCrashes && !stacks.has(key)) tell({ kind: 'crash', input, error: stack });
      stacks.add(key);
    }
    slowestMs = Math.max(slowestMs, performance.now() - startMs);
  };

  const pool: Uint8Array[] = [];
  for (const input of [...target.seeds(), ...readCorpus('corpus', name).map((entry) => entry.bytes)]) {
    execute(input);
    pool.push(input);
  }
  for (const { bytes } of readCorpus('regressions', name)) execute(bytes);
  coverage.take();

  const mutator = new Mutator(target, new Dice(seedFor(name, seed)));
  const endMs = performance.now() + timeMs;
  while (performance.now() < endMs) {
    const batch: Uint8Array[] = [];
    for (let i = 0; i < batchSize && performance.now() < endMs; i++) {
      const input = mutator.mutate(pool);
      execute(input);
      batch.push(input);
    }
    if (!coverage.peek()) continue;
    // Something in the batch was new: run its inputs again one by one to see which.
    for (const input of batch) {
      execute(input);
      if (!coverage.take()) continue;
      pool.push(input);
      tell({ kind: 'new', input });
    }
  }
  tell({ kind: 'done', executions: state[0]!, blocks: coverage.blocks, pool: pool.length, slowestMs });
  coverage.close();
}
