/** The thread of load-apart.ts: reads one configuration, says what came of it, ends. */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { ConfigError } from './config-error.ts';
import { loadConfig } from './load.ts';
import type { Loaded } from './load-apart.ts';

const load = (path: string): Loaded => {
  try {
    return { config: loadConfig(path) };
  } catch (error) {
    if (error instanceof ConfigError) return { issues: error.issues };
    throw error;
  }
};

if (!isMainThread) parentPort!.postMessage(load(workerData as string));
