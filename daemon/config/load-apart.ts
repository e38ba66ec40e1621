/**
 * The configuration, read in a thread that ends with it: the schema library and the YAML parser would stay in a node's
 * memory for as long as it runs (some 10 MB), and are needed once.
 */
import { Worker } from 'node:worker_threads';
import { ConfigError, type ConfigIssue } from './config-error.ts';
import type { Config } from './load.ts';

/** What the thread says. */
export type Loaded = { readonly config: Config } | { readonly issues: readonly ConfigIssue[] };

/** As loadConfig: rejects with ConfigError. */
export const loadConfigApart = (path: string): Promise<Config> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./load-worker.ts', import.meta.url), {
      workerData: path,
      name: 'configuration',
    });
    worker.once('message', (loaded: Loaded) => {
      if ('config' in loaded) resolve(loaded.config);
      else reject(new ConfigError(path, loaded.issues));
    });
    worker.once('error', reject);
    // After an answer this says nothing any more.
    worker.once('exit', (code) => reject(new Error(`the configuration's thread ended with code ${code}`)));
  });
