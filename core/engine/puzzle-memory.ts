/** Which nodes asked for a puzzle lately, so that the next circuit through them brings the solution along. */
import type { TimeMs } from '../ports.ts';

/** Issuers renew challenges every minute and accept the previous one. */
const LIFETIME_MS = 60_000;
const MAX_NODES = 256;
/** Work beyond this stalls the sender more than the circuit is worth: better another path. */
const MAX_DIFFICULTY = 16;

export interface PuzzleDemand {
  readonly difficulty: number;
  readonly challenge: Uint8Array;
}

export class PuzzleMemory {
  readonly #demands = new Map<string, PuzzleDemand & { readonly nodeId: string; readonly untilMs: TimeMs }>();

  remember(nodeId: Uint8Array, difficulty: number, challenge: Uint8Array, nowMs: TimeMs): void {
    if (difficulty > MAX_DIFFICULTY) return;
    const key = nodeId.join();
    if (this.#demands.size >= MAX_NODES) this.#demands.delete(this.#demands.keys().next().value!);
    this.#demands.set(key, { nodeId: key, difficulty, challenge: challenge.slice(), untilMs: nowMs + LIFETIME_MS });
  }

  find(nodeId: Uint8Array, nowMs: TimeMs): PuzzleDemand | undefined {
    if (this.#demands.size === 0) return undefined;
    const demand = this.#demands.get(nodeId.join());
    return demand !== undefined && demand.untilMs > nowMs ? demand : undefined;
  }

  expire(nowMs: TimeMs): void {
    for (const [key, demand] of this.#demands) if (demand.untilMs <= nowMs) this.#demands.delete(key);
  }
}
