/**
 * Preloaded into a daemon (node --import) it makes a lying mix of it: delays of class cmix are not computed. The program stays as
 * it is; whoever imports the delay function gets lazy-vdf.ts in its place.
 */
import { registerHooks } from 'node:module';

const LAZY = new URL('./lazy-vdf.ts', import.meta.url).href;

registerHooks({
  resolve(specifier, context, nextResolve) {
    const resolved = nextResolve(specifier, context);
    if (!resolved.url.endsWith('/core/mix/vdf.ts') || context.parentURL === LAZY) return resolved;
    return { ...resolved, url: LAZY };
  },
});
