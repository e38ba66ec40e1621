/** A store of the message lane with the node's key, timers and words for what is wrong with it. */
import type { NodeContext } from '../actors/context.ts';
import type { SealedFiles } from '../directory/sealed-files.ts';
import { SealedStore, type SealedStoreOptions } from './sealed-store.ts';

/** Throws KeyStoreError. */
export function openStore(options: SealedStoreOptions, context: NodeContext, files: SealedFiles): SealedStore {
  const { suite, random, timers, log, events } = context;
  return new SealedStore(options, {
    files,
    suite,
    random,
    after: (delayMs, callback) => void timers.after(delayMs, callback),
    onProblem: (problem) => {
      log('error', 'what messages left on disk', { store: options.name, problem });
      events.publish('message', 'store-problem', options.name, { reason: problem });
    },
  });
}

/** What was wrong when it was opened is said again where the API's watchers may hear it. */
export function tellDamage({ problem }: SealedStore, { events }: NodeContext): void {
  if (problem !== '') events.publish('message', 'store-problem', '', { reason: problem });
}
