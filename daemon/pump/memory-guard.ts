/**
 * Keeps a worker within its memory: adds up what its parts hold and, over the limit, ends circuits one by one until it
 * fits again. First what nobody uses, oldest first; then whoever holds most.
 */
import type { SessionApi } from '@nyx/core/stream/contract.ts';
import { SessionError } from '@nyx/core/stream/contract.ts';

/** What one look may end: if that does not help, the next look goes on. */
const MAX_SHED_PER_CHECK = 16;
/** What an ended circuit frees besides its buffers, about: keys, windows, tables. Memory comes back after the look. */
const CIRCUIT_BYTES = 16 * 1024;

export interface MemoryGuardDeps {
  readonly limitBytes: number;
  readonly usedBytes: () => number;
  /** Ends a client circuit and gives the bytes its buffers held (CircuitPool.shed). Undefined: there is none. */
  readonly shedClient: () => number | undefined;
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
    let excessBytes = this.#deps.usedBytes() - this.#deps.limitBytes;
    while (shed < MAX_SHED_PER_CHECK && excessBytes > 0) {
      const heldBytes = this.#shedIncoming() ?? this.#deps.shedClient();
      if (heldBytes === undefined) break;
      excessBytes -= heldBytes + CIRCUIT_BYTES;
      shed++;
    }
    this.shedTotal += shed;
    return shed;
  }

  #shedIncoming(): number | undefined {
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
    if (victim === undefined) return undefined;
    const session = this.#incoming.get(victim)!;
    const { bufferedBytes } = session.stats;
    this.#incoming.delete(victim);
    session.close(SessionError.limit, 'out of memory');
    return bufferedBytes;
  }
}
