/**
 * Nodes that lay on a path which did not answer while another one did. Most of them are well: one of a path is to blame,
 * and nobody says which. They are left out of new paths for a short while, as far as there are others. Which guard is
 * used is the guards' affair (core/path/guards.ts), not that of whoever drops a packet behind it: a first hop is left out
 * only after several paths over it in a row were silent, and only until one over it is ready, or for some seconds.
 */
import type { TimeMs } from '@nyx/core/ports.ts';

export const SUSPECT_MS = 30_000;
const MAX_SUSPECTS = 64;
/** Silent paths in a row until their common first hop is left out, and for how long. */
const GUARD_STRIKES = 2;
const GUARD_SUSPECT_MS = 10_000;
const MAX_GUARDS = 32;

export class Suspects {
  /** NodeID in hex → until when; oldest first. */
  readonly #untilMs = new Map<string, TimeMs>();

  /** First hop → silent paths over it since one was ready. */
  readonly #strikes = new Map<string, { count: number; untilMs: TimeMs }>();

  /** This path (first hop first) is silent. `answering`: hops of one that is not. */
  notePath(path: readonly string[], answering: readonly string[], nowMs: TimeMs): void {
    this.#note(
      path.slice(1).filter((id) => !answering.includes(id)),
      nowMs,
    );
    const [first] = path;
    if (first === undefined || answering.includes(first)) return;
    const strikes = this.#strikes.get(first);
    const count = strikes !== undefined && strikes.untilMs > nowMs ? strikes.count + 1 : 1;
    this.#strikes.delete(first);
    this.#strikes.set(first, { count, untilMs: nowMs + GUARD_SUSPECT_MS });
    for (const id of this.#strikes.keys()) {
      if (this.#strikes.size <= MAX_GUARDS) break;
      this.#strikes.delete(id);
    }
  }

  #note(nodeIds: readonly string[], nowMs: TimeMs): void {
    for (const id of nodeIds) {
      this.#untilMs.delete(id);
      this.#untilMs.set(id, nowMs + SUSPECT_MS);
    }
    for (const id of this.#untilMs.keys()) {
      if (this.#untilMs.size <= MAX_SUSPECTS) break;
      this.#untilMs.delete(id);
    }
  }

  /** A circuit over these came up. */
  clear(nodeIds: Iterable<string>): void {
    for (const id of nodeIds) {
      this.#untilMs.delete(id);
      this.#strikes.delete(id);
    }
  }

  has(nodeId: string, nowMs: TimeMs): boolean {
    if ((this.#untilMs.get(nodeId) ?? 0) > nowMs) return true;
    const strikes = this.#strikes.get(nodeId);
    return strikes !== undefined && strikes.untilMs > nowMs && strikes.count >= GUARD_STRIKES;
  }

  list(nowMs: TimeMs): string[] {
    for (const [id, untilMs] of this.#untilMs) if (untilMs <= nowMs) this.#untilMs.delete(id);
    const guards = [...this.#strikes.keys()].filter((id) => this.has(id, nowMs));
    return [...this.#untilMs.keys(), ...guards];
  }
}
