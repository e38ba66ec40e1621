/**
 * Nodes on paths that do not answer while they should. Most of them are well: one of a path is to blame, and nobody says
 * which. They are left out of new paths for a short while, as far as there are others.
 *
 * Which guard is used is the guards' affair (core/path/guards.ts), not that of whoever drops a packet behind it: a first
 * hop is left out only when there is no link to it, or after several silent paths over it in a row, and only for some
 * seconds or until a path over it answers. Then it is to blame itself, and what lay behind it is not suspected any more.
 */
import type { TimeMs } from '@nyx/core/ports.ts';

export const SUSPECT_MS = 30_000;
const MAX_SUSPECTS = 64;
/** Silent paths in a row until their common first hop is left out, and for how long. */
const GUARD_STRIKES = 2;
const GUARD_SUSPECT_MS = 10_000;
const MAX_GUARDS = 32;

interface Suspicion {
  readonly untilMs: TimeMs;
  /** First hop of the path. */
  readonly first: string;
}

interface Strikes {
  readonly count: number;
  readonly untilMs: TimeMs;
}

export class Suspects {
  /** By NodeID in hex; oldest first. */
  readonly #later = new Map<string, Suspicion>();
  readonly #first = new Map<string, Strikes>();

  /** This path (first hop first) is silent although the link to its first hop is up. `answering`: hops of one that is not silent. */
  noteSilent(path: readonly string[], answering: readonly string[], nowMs: TimeMs): void {
    const [first, ...later] = path;
    if (first === undefined) return;
    const before = this.#first.get(first);
    const count = before !== undefined && before.untilMs > nowMs ? before.count + 1 : 1;
    if (!answering.includes(first) && this.#strike(first, count, nowMs)) return;
    for (const id of later) {
      if (answering.includes(id)) continue;
      this.#later.delete(id);
      this.#later.set(id, { untilMs: nowMs + SUSPECT_MS, first });
    }
    forgetOldest(this.#later, MAX_SUSPECTS);
  }

  /** There is no link to this first hop. */
  noteUnlinked(first: string, nowMs: TimeMs): void {
    this.#strike(first, GUARD_STRIKES, nowMs);
  }

  /** A circuit over these came up. */
  clear(path: readonly string[]): void {
    for (const id of path) {
      this.#later.delete(id);
      this.#first.delete(id);
    }
  }

  has(nodeId: string, nowMs: TimeMs): boolean {
    return (this.#later.get(nodeId)?.untilMs ?? 0) > nowMs || isStruck(this.#first.get(nodeId), nowMs);
  }

  list(nowMs: TimeMs): string[] {
    for (const [id, { untilMs }] of this.#later) if (untilMs <= nowMs) this.#later.delete(id);
    const struck = [...this.#first].filter(([, strikes]) => isStruck(strikes, nowMs)).map(([id]) => id);
    return [...this.#later.keys(), ...struck];
  }

  /** True when it is left out from now on. */
  #strike(first: string, count: number, nowMs: TimeMs): boolean {
    this.#first.delete(first);
    this.#first.set(first, { count, untilMs: nowMs + GUARD_SUSPECT_MS });
    forgetOldest(this.#first, MAX_GUARDS);
    if (count < GUARD_STRIKES) return false;
    for (const [id, suspicion] of this.#later) if (suspicion.first === first) this.#later.delete(id);
    return true;
  }
}

function isStruck(strikes: Strikes | undefined, nowMs: TimeMs): boolean {
  return strikes !== undefined && strikes.count >= GUARD_STRIKES && strikes.untilMs > nowMs;
}

function forgetOldest(map: Map<string, unknown>, limit: number): void {
  for (const key of map.keys()) {
    if (map.size <= limit) return;
    map.delete(key);
  }
}
