/**
 * Keeps a worker within its memory: adds up what its parts hold and, over the limit, ends circuits one by one until it
 * fits again. First what nobody uses, oldest first; then whoever holds most.
 */
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import { SessionError } from '@nyx/core/stream/contract.ts';

/** What one look may end: if that does not help at once, the next look goes on. */
const MAX_SHED_PER_CHECK = 16;

export interface MemoryGuardDeps {
  readonly limitBytes: number;
  readonly usedBytes: () => number;
  /** Ends a client circuit (see CircuitPool.shed). False: there is none. */
  readonly shedClient: () => boolean;
}

export class MemoryGuard {
  readonly #deps: MemoryGuardDeps;
  /** Sessions that end here, oldest first. */
  readonly #incoming = new Map<number, SessionApi>();
  shedTotal = 0;

  constructor(deps: MemoryGuardDeps) {
    this.#deps = deps;
  }

  incomingBegan(circuit: number, session: SessionApi): void {
    this.#incoming.set(circuit, session);
  }

  incomingEnded(circuit: number): void {
    this.#incoming.delete(circuit);
  }

  /** Looks once; returns how many circuits were ended. */
  check(): number {
    let shed = 0;
    while (shed < MAX_SHED_PER_CHECK && this.#deps.usedBytes() > this.#deps.limitBytes) {
      if (!this.#shedIncoming() && !this.#deps.shedClient()) break;
      shed++;
    }
    this.shedTotal += shed;
    return shed;
  }

  #shedIncoming(): boolean {
    let victim: number | undefined;
    let most = 0;
    for (const [circuit, { stats }] of this.#incoming) {
      if (stats.streams === 0) {
        victim = circuit;
        break;
      }
      if (stats.bufferedBytes > most) {
        victim = circuit;
        most = stats.bufferedBytes;
      }
    }
    if (victim === undefined) return false;
    const session = this.#incoming.get(victim)!;
    this.#incoming.delete(victim);
    session.close(SessionError.limit, 'out of memory');
    return true;
  }
}
