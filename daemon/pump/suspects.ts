/**
 * Nodes on paths that do not answer while they should. Most of them are well: one of a path is to blame, and nobody says
 * which. They are left out of new paths for a short while, as far as there are others; where there are not, those come
 * back first that there is least against: who was on several silent paths, or on one of which the others have answered
 * since, is the likeliest to be gone.
 *
 * Which guard is used is the guards' affair (core/path/guards.ts), not that of whoever drops a packet behind it: a first
 * hop is left out only when nothing is heard on the link to it. Then it is to blame itself, and what lay behind it on
 * silent paths is not suspected any more.
 */
import type { TimeMs } from '@nyx/core/ports.ts';

export const SUSPECT_MS = 30_000;
const MAX_PATHS = 24;
export const SILENT_LINK_MS = 10_000;
const MAX_FIRST = 32;
const MAX_ANSWERED = 64;

interface SilentPath {
  readonly untilMs: TimeMs;
  readonly first: string;
  /** Those behind it that have not answered since. */
  readonly later: Set<string>;
}

export class Suspects {
  /** Oldest first. */
  #paths: SilentPath[] = [];
  /** First hops, until when. */
  readonly #first = new Map<string, TimeMs>();
  /** When a path over it was heard to work last. */
  readonly #answeredMs = new Map<string, TimeMs>();

  /** This path (first hop first) has been silent since then, but its first hop has not. */
  noteSilent(path: readonly string[], sinceMs: TimeMs, nowMs: TimeMs): void {
    const [first, ...behind] = path;
    if (first === undefined) return;
    const later = behind.filter((id) => (this.#answeredMs.get(id) ?? Number.NEGATIVE_INFINITY) < sinceMs);
    if (later.length === 0) return;
    this.#paths.push({ untilMs: nowMs + SUSPECT_MS, first, later: new Set(later) });
    if (this.#paths.length > MAX_PATHS) this.#paths.shift();
  }

  /**
   * The hop at `reporter` says that the next one does not answer. It may lie, but it is there, and so are those before
   * it; what lay further on has no part in it.
   */
  noteReport(path: readonly string[], reporter: number, nowMs: TimeMs): void {
    const [first] = path;
    const next = path[reporter + 1];
    if (first === undefined || next === undefined) return;
    const isThis = (silent: SilentPath) => silent.first === first && [...silent.later].every((id) => path.includes(id));
    const index = this.#paths.findIndex(isThis);
    if (index >= 0) this.#paths.splice(index, 1);
    this.clear(path.slice(0, reporter + 1), nowMs);
    this.noteSilent([first, next], nowMs, nowMs);
  }

  /** There is no link to this first hop, or nothing is heard on it. */
  noteFirst(first: string, nowMs: TimeMs): void {
    this.#first.delete(first);
    this.#first.set(first, nowMs + SILENT_LINK_MS);
    forgetOldest(this.#first, MAX_FIRST);
    this.#paths = this.#paths.filter((path) => path.first !== first);
  }

  /** Something came from these: a circuit over them came up, or the word of one. */
  clear(ids: readonly string[], nowMs: TimeMs): void {
    for (const id of ids) {
      this.#answeredMs.delete(id);
      this.#answeredMs.set(id, nowMs);
      this.#first.delete(id);
      for (const { later } of this.#paths) later.delete(id);
    }
    this.#paths = this.#paths.filter(({ later }) => later.size > 0);
    forgetOldest(this.#answeredMs, MAX_ANSWERED);
  }

  has(nodeId: string, nowMs: TimeMs): boolean {
    const isLater = this.#paths.some(({ untilMs, later }) => untilMs > nowMs && later.has(nodeId));
    return isLater || (this.#first.get(nodeId) ?? 0) > nowMs;
  }

  /** Of each silent path those that may be to blame. */
  sets(nowMs: TimeMs): string[][] {
    return this.#paths.filter(({ untilMs }) => untilMs > nowMs).map(({ later }) => [...later]);
  }

  /** Those that there is least against come first, of equals the oldest. */
  list(nowMs: TimeMs): string[] {
    this.#paths = this.#paths.filter(({ untilMs }) => untilMs > nowMs);
    for (const [id, untilMs] of this.#first) if (untilMs <= nowMs) this.#first.delete(id);
    const blame = new Map<string, number>();
    for (const { later } of this.#paths) {
      for (const id of later) blame.set(id, (blame.get(id) ?? 0) + 1 / later.size);
    }
    const behind = [...blame].filter(([id]) => !this.#first.has(id)).sort(([, a], [, b]) => a - b);
    return [...behind.map(([id]) => id), ...this.#first.keys()];
  }
}

function forgetOldest(map: Map<string, unknown>, limit: number): void {
  for (const key of map.keys()) {
    if (map.size <= limit) return;
    map.delete(key);
  }
}
