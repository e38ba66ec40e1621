/**
 * The configuration, read in a thread that ends with it: the schema library and the YAML parser would stay in a node's
 * memory for as long as it runs (some 10 MB), and are needed once, and again for a reload.
 */
import { Worker } from 'node:worker_threads';
import { ConfigError, type ConfigIssue } from './config-error.ts';
import type { Config } from './load.ts';
import type { ReloadPlan } from './plan-reload.ts';

/** What the thread is given. */
export interface LoadTask {
  readonly path: string;
  /** For a reload: what is in force. */
  readonly present?: Config;
  readonly partial?: boolean;
}

/** What the thread says. */
export type Loaded =
  | { readonly config: Config }
  | { readonly plan: ReloadPlan }
  | { readonly issues: readonly ConfigIssue[] };

/** As loadConfig: rejects with ConfigError. */
export const loadConfigApart = async (path: string): Promise<Config> => {
  const loaded = await runApart({ path });
  if ('config' in loaded) return loaded.config;
  throw new Error('the thread of the configuration has answered something else');
};

/** As planReload: rejects with ConfigError. */
export const planReloadApart = async (path: string, present: Config, partial: boolean): Promise<ReloadPlan> => {
  const loaded = await runApart({ path, present, partial });
  if ('plan' in loaded) return loaded.plan;
  throw new Error('the thread of the configuration has answered something else');
};

const runApart = (task: LoadTask): Promise<Exclude<Loaded, { readonly issues: unknown }>> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./load-worker.ts', import.meta.url), {
      workerData: task,
      name: 'configuration',
    });
    worker.once('message', (loaded: Loaded) => {
      if ('issues' in loaded) reject(new ConfigError(task.path, loaded.issues));
      else resolve(loaded);
    });
    worker.once('error', reject);
    // After an answer this says nothing any more.
    worker.once('exit', (code) => reject(new Error(`the configuration's thread ended with code ${code}`)));
  });
