/** The thread of load-apart.ts: reads one configuration, says what came of it, ends. */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { ConfigError } from './config-error.ts';
import { loadConfig } from './load.ts';
import type { Loaded, LoadTask } from './load-apart.ts';
import { planReload } from './plan-reload.ts';

const load = ({ path, present, partial = false }: LoadTask): Loaded => {
  try {
    return present === undefined ? { config: loadConfig(path) } : { plan: planReload(path, present, partial) };
  } catch (error) {
    if (error instanceof ConfigError) return { issues: error.issues };
    throw error;
  }
};

if (!isMainThread) parentPort!.postMessage(load(workerData as LoadTask));
