/**
 * Who sends what is refused. A peer's points go down with time; at the limit it is denied, longer each time. A peer id
 * costs nothing, so addresses that keep bringing denied peers are denied as well.
 */
import { Refusal } from './contract.ts';

/** Points of one offence. What also happens to honest peers (clocks, old copies) weighs little. */
const weights: Readonly<Record<Refusal, number>> = {
  [Refusal.unknownKey]: 10,
  [Refusal.oversized]: 10,
  [Refusal.malformed]: 10,
  [Refusal.misplaced]: 10,
  [Refusal.badSignature]: 20,
  [Refusal.expired]: 2,
  [Refusal.notYetValid]: 2,
  [Refusal.replayed]: 1,
  [Refusal.badAnswer]: 5,
  [Refusal.badView]: 20,
  [Refusal.tooOften]: 2,
  [Refusal.provider]: 1,
};

const LIMIT_POINTS = 50;
const DENY_MS = 600_000;
const MAX_DENY_MS = 86_400_000;
/** Points halve in these times. */
const PEER_HALF_LIFE_MS = 60_000;
const ADDRESS_HALF_LIFE_MS = 3_600_000;
/** The third denied peer of an address denies the address; a little less, because points fade. */
const ADDRESS_LIMIT_POINTS = 2.5;
const MAX_TRACKED = 4096;

interface Entry {
  points: number;
  atMs: number;
  deniedUntilMs: number;
  denials: number;
}

export class Penalties {
  readonly #nowMs: () => number;
  /** Oldest first: an entry that is touched goes to the end. */
  readonly #peers = new Map<string, Entry>();
  readonly #addresses = new Map<string, Entry>();

  /** `nowMs` is monotonic. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** True: the peer is denied from now on and has to be dropped. `address` is its host, undefined when that must not be denied. */
  note(peerId: string, reason: Refusal, address: string | undefined): boolean {
    const nowMs = this.#nowMs();
    if (
      !add(this.#peers, peerId, { points: weights[reason], limit: LIMIT_POINTS, halfLifeMs: PEER_HALF_LIFE_MS }, nowMs)
    )
      return false;
    if (address !== undefined) {
      add(
        this.#addresses,
        address,
        { points: 1, limit: ADDRESS_LIMIT_POINTS, halfLifeMs: ADDRESS_HALF_LIFE_MS },
        nowMs,
      );
    }
    return true;
  }

  isDenied(peerId: string): boolean {
    return isDenied(this.#peers, peerId, this.#nowMs());
  }

  isAddressDenied(address: string): boolean {
    return isDenied(this.#addresses, address, this.#nowMs());
  }

  /** Peers that are denied now. */
  get deniedPeers(): number {
    const nowMs = this.#nowMs();
    let count = 0;
    for (const entry of this.#peers.values()) if (entry.deniedUntilMs > nowMs) count++;
    return count;
  }
}

const isDenied = (entries: ReadonlyMap<string, Entry>, key: string, nowMs: number): boolean =>
  (entries.get(key)?.deniedUntilMs ?? 0) > nowMs;

/** True when this takes `key` over the limit. */
const add = (
  entries: Map<string, Entry>,
  key: string,
  { points, limit, halfLifeMs }: { readonly points: number; readonly limit: number; readonly halfLifeMs: number },
  nowMs: number,
): boolean => {
  const entry = entries.get(key) ?? { points: 0, atMs: nowMs, deniedUntilMs: 0, denials: 0 };
  entries.delete(key);
  if (entries.size >= MAX_TRACKED) entries.delete(entries.keys().next().value!);
  entries.set(key, entry);
  entry.points = entry.points * 0.5 ** ((nowMs - entry.atMs) / halfLifeMs) + points;
  entry.atMs = nowMs;
  if (entry.points < limit) return false;
  entry.points = 0;
  entry.deniedUntilMs = nowMs + Math.min(MAX_DENY_MS, DENY_MS * 2 ** entry.denials);
  entry.denials++;
  return true;
};
