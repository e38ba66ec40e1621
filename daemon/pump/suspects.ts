/**
 * Nodes that lay on a path which did not answer while another one did. Most of them are well: one of a path is to blame,
 * and nobody says which. They are left out of new paths for a short while, as far as there are others. First hops are
 * not entered: which guard is used is the guards' affair (core/path/guards.ts), not that of whoever drops a packet.
 */
import type { TimeMs } from '@nyx/core/ports.ts';

export const SUSPECT_MS = 30_000;
const MAX_SUSPECTS = 64;

export class Suspects {
  /** NodeID in hex → until when; oldest first. */
  readonly #untilMs = new Map<string, TimeMs>();

  note(nodeIds: Iterable<string>, nowMs: TimeMs): void {
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
    for (const id of nodeIds) this.#untilMs.delete(id);
  }

  has(nodeId: string, nowMs: TimeMs): boolean {
    return (this.#untilMs.get(nodeId) ?? 0) > nowMs;
  }

  list(nowMs: TimeMs): string[] {
    for (const [id, untilMs] of this.#untilMs) if (untilMs <= nowMs) this.#untilMs.delete(id);
    return [...this.#untilMs.keys()];
  }
}
