/**
 * A model of kad-dht as this network uses it, in virtual time: XOR distances of 64 bits, buckets of 20, lookups over four
 * disjoint paths of four questions at a time that follow only peers closer than the one that named them, and dial
 * time-outs for peers that are gone. What peers hold is checked by the real rules (daemon/p2p/record-rules.ts). Not
 * modelled: loss, busy peers, NAT.
 */
import type { RecordRules } from '@nyx/daemon/p2p/record-rules.ts';

const K = 20;
const ALPHA = 4;
const PATHS = 4;
const BUCKETS = 64;
/** As in daemon/p2p: a dial is given up, and so is a query. */
const DIAL_TIMEOUT_MS = 5000;
const QUERY_TIMEOUT_MS = 20_000;
/** Bytes on the wire, framing and encryption included. */
const CONNECT_BYTES = 3000;
const REQUEST_BYTES = 180;
const PEER_BYTES = 100;
const ANSWER_HEAD_BYTES = 160;
/** A peer keeps this many connections before it closes the oldest ones; who has one is not dialled again. */
const KEPT_CONNECTIONS = 64;

export interface KadPlace {
  readonly hi: number;
  readonly lo: number;
}

/** Who is up when, and how far apart they are: the population's. */
export interface KadWorld {
  isUp(peer: number, atMs: number): boolean;
  rttMs(a: number, b: number): number;
}

interface Peer extends KadPlace {
  readonly buckets: number[][];
  readonly records: Map<string, Uint8Array>;
  readonly connected: Set<number>;
  /** Set: an attacker's, which names only these and holds nothing. */
  friends: readonly number[] | undefined;
}

export interface LookupResult {
  /** The closest that answered, best first. */
  readonly closest: readonly number[];
  readonly values: readonly Uint8Array[];
  readonly questions: number;
  readonly unanswered: number;
  readonly ms: number;
}

interface Question {
  readonly atMs: number;
  readonly path: number;
  readonly peer: number;
  readonly answered: boolean;
}

export class KadModel {
  readonly peers: Peer[] = [];
  readonly #world: KadWorld;
  readonly #rules: RecordRules;
  /** Records that the real rules took, so that twenty holders of one record cost one verification. */
  readonly #checked = new WeakSet<Uint8Array>();
  bytes = 0;
  refused = 0;

  constructor(world: KadWorld, rules: RecordRules) {
    this.#world = world;
    this.#rules = rules;
  }

  add({ hi, lo }: KadPlace): number {
    this.peers.push({
      hi,
      lo,
      buckets: Array.from({ length: BUCKETS }, () => []),
      records: new Map(),
      connected: new Set(),
      friends: undefined,
    });
    return this.peers.length - 1;
  }

  /** A peer that left keeps what it knew for when it comes back, but no connections and no records. */
  left(peer: number): void {
    const { connected, records } = this.peers[peer]!;
    for (const other of connected) this.peers[other]!.connected.delete(peer);
    connected.clear();
    records.clear();
  }

  /** `peer` has heard of `other`. A full bucket keeps its oldest member while that one answers. */
  meet(peer: number, other: number, atMs: number): void {
    if (peer === other) return;
    const bucket = this.peers[peer]!.buckets[this.#bucketOf(peer, other)]!;
    const at = bucket.indexOf(other);
    if (at >= 0) {
      bucket.splice(at, 1);
      bucket.push(other);
    } else if (bucket.length < K) bucket.push(other);
    else {
      this.bytes += REQUEST_BYTES + ANSWER_HEAD_BYTES;
      const oldest = bucket.shift()!;
      bucket.push(this.#world.isUp(oldest, atMs) ? oldest : other);
    }
  }

  tableSize(peer: number): number {
    return this.peers[peer]!.buckets.reduce((sum, bucket) => sum + bucket.length, 0);
  }

  /** Bits that the closest peer in its table has in common with `peer`, at most 15, as far as kad-dht refreshes. */
  longestPrefix(peer: number): number {
    const { buckets } = this.peers[peer]!;
    return Math.min(
      15,
      Math.max(
        0,
        buckets.findLastIndex((bucket) => bucket.length > 0),
      ),
    );
  }

  /** The K peers closest to a place that `peer` knows, best first. */
  closest(peer: number, place: KadPlace): number[] {
    const self = this.peers[peer]!;
    const found: number[] = [];
    const take = (some: number[]) => {
      const sorted = some.sort((a, b) => this.compare(a, b, place));
      for (const each of sorted) if (found.length < K) found.push(each);
    };
    const own = prefixOf(self, place);
    if (own < BUCKETS) take([...self.buckets[own]!]);
    if (found.length < K) take(self.buckets.slice(own + 1).flat());
    for (let i = Math.min(own, BUCKETS) - 1; i >= 0 && found.length < K; i--) take([...self.buckets[i]!]);
    return found;
  }

  /** Below 0: `a` is closer to the place. */
  compare(a: number, b: number, { hi, lo }: KadPlace): number {
    const [x, y] = [this.peers[a]!, this.peers[b]!];
    return ((x.hi ^ hi) >>> 0) - ((y.hi ^ hi) >>> 0) || ((x.lo ^ lo) >>> 0) - ((y.lo ^ lo) >>> 0);
  }

  /** FIND_NODE, or GET_VALUE with a `key`. */
  lookup(from: number, place: KadPlace, startMs: number, key?: string): LookupResult {
    const seen = new Set<number>([from]);
    const queues: number[][] = Array.from({ length: PATHS }, () => []);
    const answered: number[][] = Array.from({ length: PATHS }, () => []);
    const running: Question[] = [];
    const active = new Array<number>(PATHS).fill(0);
    const values = new Set<Uint8Array>();
    let questions = 0;
    let unanswered = 0;
    let nowMs = startMs;
    this.closest(from, place).forEach((peer, i) => {
      seen.add(peer);
      queues[i % PATHS]!.push(peer);
    });
    const fits = (path: number, peer: number) => {
      const best = answered[path]!;
      return best.length < K || this.compare(peer, best[K - 1]!, place) < 0;
    };
    const ask = (path: number) => {
      const queue = queues[path]!;
      while (active[path]! < ALPHA && queue.length > 0) {
        const peer = queue.shift()!;
        if (!fits(path, peer)) continue;
        questions++;
        active[path]!++;
        running.push(this.#ask(from, peer, path, nowMs));
      }
    };
    for (let path = 0; path < PATHS; path++) ask(path);
    while (running.length > 0) {
      let next = 0;
      for (let i = 1; i < running.length; i++) if (running[i]!.atMs < running[next]!.atMs) next = i;
      const [{ atMs, path, peer, answered: isAnswered }] = running.splice(next, 1) as [Question];
      if (atMs - startMs > QUERY_TIMEOUT_MS) {
        nowMs = startMs + QUERY_TIMEOUT_MS;
        break;
      }
      nowMs = atMs;
      active[path]!--;
      if (isAnswered) {
        const best = answered[path]!;
        insert(best, peer, (a, b) => this.compare(a, b, place));
        best.length = Math.min(best.length, K);
        const value = key === undefined ? undefined : this.peers[peer]!.records.get(key);
        if (value !== undefined) {
          values.add(value);
          this.bytes += value.length;
        }
        for (const closer of this.#answer(peer, place)) {
          if (seen.has(closer) || this.compare(closer, peer, place) >= 0 || !fits(path, closer)) continue;
          seen.add(closer);
          insert(queues[path]!, closer, (a, b) => this.compare(a, b, place));
        }
        this.meet(from, peer, nowMs);
        if (this.peers[from]!.friends === undefined) this.meet(peer, from, nowMs);
      } else {
        unanswered++;
        this.#forget(from, peer);
      }
      ask(path);
    }
    const closest = answered.flat().sort((a, b) => this.compare(a, b, place));
    return { closest: closest.slice(0, K), values: [...values], questions, unanswered, ms: nowMs - startMs };
  }

  /** PUT_VALUE to those that a lookup found. Returns how many took it. */
  put(from: number, key: string, place: KadPlace, value: Uint8Array, startMs: number): number {
    let taken = 0;
    const { closest, ms } = this.lookup(from, place, startMs);
    for (const peer of closest) {
      if (!this.#world.isUp(peer, startMs + ms)) continue;
      this.bytes += 2 * value.length + 2 * ANSWER_HEAD_BYTES;
      if (this.peers[peer]!.friends === undefined && this.#take(peer, key, value)) taken++;
    }
    return taken;
  }

  /** The record that `peer` would believe. */
  best(key: string, values: readonly Uint8Array[]): Uint8Array | undefined {
    const name = Buffer.from(key);
    const valid = values.filter((value) => this.#passes(key, value));
    return valid.length === 0 ? undefined : valid[this.#rules.select(name, valid)];
  }

  #take(peer: number, key: string, value: Uint8Array): boolean {
    const { records } = this.peers[peer]!;
    const held = records.get(key);
    if (held === value) return true;
    if (!this.#isValid(key, value)) return false;
    if (held !== undefined) {
      try {
        this.#rules.assertNotOlder(Buffer.from(key), held, value);
      } catch {
        this.refused++;
        return false;
      }
    }
    records.set(key, value);
    return true;
  }

  #isValid(key: string, value: Uint8Array): boolean {
    if (this.#checked.has(value)) return true;
    const passes = this.#passes(key, value);
    if (passes) this.#checked.add(value);
    return passes;
  }

  #passes(key: string, value: Uint8Array): boolean {
    try {
      this.#rules.check(Buffer.from(key), value);
    } catch {
      this.refused++;
      return false;
    }
    return true;
  }

  #ask(from: number, peer: number, path: number, nowMs: number): Question {
    const { connected } = this.peers[from]!;
    const isUp = this.#world.isUp(peer, nowMs);
    const rttMs = this.#world.rttMs(from, peer);
    const isConnected = connected.has(peer) && isUp;
    if (!isUp) return { atMs: nowMs + DIAL_TIMEOUT_MS, path, peer, answered: false };
    if (!isConnected) {
      this.bytes += CONNECT_BYTES;
      this.#connect(from, peer);
      this.#connect(peer, from);
    }
    this.bytes += REQUEST_BYTES + ANSWER_HEAD_BYTES + K * PEER_BYTES;
    // TCP, noise (1.5), yamux and the question.
    return { atMs: nowMs + rttMs * (isConnected ? 1 : 4), path, peer, answered: true };
  }

  #connect(a: number, b: number): void {
    const { connected } = this.peers[a]!;
    connected.add(b);
    if (connected.size <= KEPT_CONNECTIONS) return;
    const [oldest] = connected;
    connected.delete(oldest!);
    this.peers[oldest!]!.connected.delete(a);
  }

  #answer(peer: number, place: KadPlace): readonly number[] {
    return this.peers[peer]!.friends ?? this.closest(peer, place);
  }

  #forget(peer: number, other: number): void {
    const bucket = this.peers[peer]!.buckets[this.#bucketOf(peer, other)]!;
    const at = bucket.indexOf(other);
    if (at >= 0) bucket.splice(at, 1);
  }

  #bucketOf(peer: number, other: number): number {
    return Math.min(BUCKETS - 1, prefixOf(this.peers[peer]!, this.peers[other]!));
  }
}

/** Leading bits that two places have in common. */
function prefixOf(a: KadPlace, b: KadPlace): number {
  const high = Math.clz32(a.hi ^ b.hi);
  return high < 32 ? high : 32 + Math.clz32(a.lo ^ b.lo);
}

function insert(sorted: number[], item: number, compare: (a: number, b: number) => number): void {
  let at = sorted.length;
  while (at > 0 && compare(item, sorted[at - 1]!) < 0) at--;
  sorted.splice(at, 0, item);
}
