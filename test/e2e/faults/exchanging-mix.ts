/** Preloaded into a daemon it makes a mix of it that exchanges cells, as lying-mix.ts one that does not wait. */
import { registerHooks } from 'node:module';

const EXCHANGING = new URL('./exchanging-work.ts', import.meta.url).href;

registerHooks({
  resolve(specifier, context, nextResolve) {
    const resolved = nextResolve(specifier, context);
    if (!resolved.url.endsWith('/core/mix/batch-work.ts') || context.parentURL === EXCHANGING) return resolved;
    return { ...resolved, url: EXCHANGING };
  },
});
