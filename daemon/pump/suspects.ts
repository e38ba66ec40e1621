/**
 * Nodes on paths that do not answer while they should. Most of them are well: one of a path is to blame, and nobody says
 * which. They are left out of new paths for a short while, as far as there are others.
 *
 * Which guard is used is the guards' affair (core/path/guards.ts), not that of whoever drops a packet behind it: a first
 * hop is left out only when nothing is heard on the link to it. Then it is to blame itself, and what lay behind it on
 * silent paths is not suspected any more.
 */
import type { TimeMs } from '@nyx/core/ports.ts';

export const SUSPECT_MS = 30_000;
const MAX_SUSPECTS = 64;
export const SILENT_LINK_MS = 10_000;
const MAX_FIRST = 32;

interface Suspicion {
  readonly untilMs: TimeMs;
  /** First hop of the path. */
  readonly first: string;
}

export class Suspects {
  /** By NodeID in hex; oldest first. */
  readonly #later = new Map<string, Suspicion>();
  /** First hops, until when. */
  readonly #first = new Map<string, TimeMs>();
  /** When a path over it was heard to work last. */
  readonly #answeredMs = new Map<string, TimeMs>();

  /** This path (first hop first) has been silent since then, but its first hop has not. */
  noteSilent(path: readonly string[], sinceMs: TimeMs, nowMs: TimeMs): void {
    const [first, ...later] = path;
    if (first === undefined) return;
    for (const id of later) {
      if ((this.#answeredMs.get(id) ?? Number.NEGATIVE_INFINITY) >= sinceMs) continue;
      this.#later.delete(id);
      this.#later.set(id, { untilMs: nowMs + SUSPECT_MS, first });
    }
    forgetOldest(this.#later, MAX_SUSPECTS);
  }

  /** There is no link to this first hop, or nothing is heard on it. */
  noteFirst(first: string, nowMs: TimeMs): void {
    this.#first.delete(first);
    this.#first.set(first, nowMs + SILENT_LINK_MS);
    forgetOldest(this.#first, MAX_FIRST);
    for (const [id, suspicion] of this.#later) if (suspicion.first === first) this.#later.delete(id);
  }

  /** A circuit over these came up. */
  clear(path: readonly string[], nowMs: TimeMs): void {
    for (const id of path) {
      this.#answeredMs.delete(id);
      this.#answeredMs.set(id, nowMs);
      this.#later.delete(id);
      this.#first.delete(id);
    }
    forgetOldest(this.#answeredMs, MAX_SUSPECTS);
  }

  has(nodeId: string, nowMs: TimeMs): boolean {
    return (this.#later.get(nodeId)?.untilMs ?? 0) > nowMs || (this.#first.get(nodeId) ?? 0) > nowMs;
  }

  list(nowMs: TimeMs): string[] {
    for (const [id, { untilMs }] of this.#later) if (untilMs <= nowMs) this.#later.delete(id);
    for (const [id, untilMs] of this.#first) if (untilMs <= nowMs) this.#first.delete(id);
    return [...this.#later.keys(), ...this.#first.keys()];
  }
}

function forgetOldest(map: Map<string, unknown>, limit: number): void {
  for (const key of map.keys()) {
    if (map.size <= limit) return;
    map.delete(key);
  }
}
