import { ExpiringMap } from './expiring-map.ts';

/** How far behind the newest timestamp of a node another one of its own may be. */
const windowMs = 10_000;
const maxPerNode = 16;

/**
 * The newest init timestamps of named nodes, so that an old init of theirs can't be played again
 * (docs/protocol.md §2.2). A node with several sockets opens several links at a time, and their inits overtake each
 * other: what counts as new is a timestamp not seen before and not left of a window.
 *
 * Only proved ones are remembered: anybody can write somebody's NodeID and a date in the far future into an init.
 */
export class InitTimestamps {
  readonly #seen: ExpiringMap<number[]>;

  constructor(maxNodes: number) {
    this.#seen = new ExpiringMap(maxNodes, Number.POSITIVE_INFINITY);
  }

  get size(): number {
    return this.#seen.size;
  }

  /** Whether an init of `node` (any key) with this timestamp may be new. */
  isNew(node: string, timestampMs: number): boolean {
    const seen = this.#seen.get(node, 0);
    if (seen === undefined) return true;
    const newest = seen.at(-1)!;
    if (timestampMs > newest) return true;
    if (timestampMs <= newest - windowMs || seen.includes(timestampMs)) return false;
    return seen.length < maxPerNode || timestampMs > seen[0]!;
  }

  /** Remembers a timestamp whose sender has proved itself. */
  record(node: string, timestampMs: number): void {
    const seen = this.#seen.get(node, 0) ?? [];
    if (!seen.includes(timestampMs)) seen.push(timestampMs);
    seen.sort((a, b) => a - b);
    while (seen.length > maxPerNode || seen[0]! <= seen.at(-1)! - windowMs) seen.shift();
    this.#seen.set(node, seen, 0);
  }
}
