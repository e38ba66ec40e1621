/**
 * Preloaded into a daemon (node --import) it makes a lying mix of it: delays of class cmix are not computed, and cells do not
 * even wait for that. The program stays as it is: whoever imports the delay function gets lazy-vdf.ts in its place, and the
 * batches one line more.
 */
import { registerHooks } from 'node:module';

const LAZY = new URL('./lazy-vdf.ts', import.meta.url).href;
const CLOSED = "action: 'Close', of: closed.batch });\n";

registerHooks({
  resolve(specifier, context, nextResolve) {
    const resolved = nextResolve(specifier, context);
    if (!resolved.url.endsWith('/core/mix/vdf.ts') || context.parentURL === LAZY) return resolved;
    return { ...resolved, url: LAZY };
  },
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.endsWith('/core/engine/engine-batches.ts')) return loaded;
    const parts = Buffer.from(loaded.source as Uint8Array)
      .toString('utf8')
      .split(CLOSED);
    if (parts.length !== 2) throw new Error(`${url} does not close batches where this fault begins`);
    return { ...loaded, source: parts.join(`${CLOSED}    this.#release(closed.batch, nowMs);\n`) };
  },
});
