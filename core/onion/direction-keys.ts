import { AEAD_KEY_BYTES, AEAD_NONCE_BYTES, type CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { TimeMs } from '../ports.ts';
import { COUNTER_MODULUS, CT_BYTES } from '../wire/datagram.ts';

/** Cells per generation of keys: 2^19 × 1280 bytes = 640 MiB. */
export const GENERATION_CELLS = 2 ** 19;
/** How many generations ahead of its own a receiver follows. */
export const MAX_GENERATIONS_AHEAD = 4;
/** Life of replaced receive keys. */
export const OLD_KEYS_MS = 10_000;
export const CHAIN_BYTES = 32;

export const Direction = { forward: 0, backward: 1 } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** Replaced keys held at once; the oldest goes when another comes. */
const MAX_OLD_KEYS = 8;
/**
 * Generations that a receiver follows within a second. A sender gets through one in some ten; without a bound every
 * cell of a hostile one could leap, at dozens of key derivations each.
 */
const MAX_LEAPS_PER_SECOND = 16;

const text = new TextEncoder();
const EMPTY = new Uint8Array(0);
const INFO_RATCHET = text.encode('nyx1 ratchet');
const INFO_CELL_KEYS = text.encode('nyx1 cell keys');
const INFO_FORWARD_SECRET = [
  Uint8Array.of(...text.encode('nyx1 forward secret'), Direction.forward),
  Uint8Array.of(...text.encode('nyx1 forward secret'), Direction.backward),
] as const;

// Scratch of the packet path. One thread runs one packet at a time, so one of each is enough for all circuits.
const savedCt = new Uint8Array(CT_BYTES);
/** `0(6) ‖ n (6)` of the cell at hand. Written by setCellNonce. */
export const cellNonce = new Uint8Array(AEAD_NONCE_BYTES);
/** `type/flags ‖ path id` of the cell at hand. */
export const cellAd = new Uint8Array(2);

/** Fills `cellNonce` and `cellAd` for the cell with this index. */
export function setCellContext(index: number, type: number, pathId: number): void {
  const high = Math.floor(index / 0x1_0000_0000);
  const low = index >>> 0;
  cellNonce[6] = high >>> 8;
  cellNonce[7] = high;
  cellNonce[8] = low >>> 24;
  cellNonce[9] = low >>> 16;
  cellNonce[10] = low >>> 8;
  cellNonce[11] = low;
  cellAd[0] = type;
  cellAd[1] = pathId;
}

/** Index of the cell whose header carries `counter`: `(counter − start) mod 2^48`. */
export function cellIndex(counter: number, start: number): number {
  const index = counter - start;
  return index < 0 ? index + COUNTER_MODULUS : index;
}

/** `(counter + offset) mod 2^48`. */
export function addCounter(counter: number, offset: number): number {
  const sum = counter + offset;
  return sum >= COUNTER_MODULUS ? sum - COUNTER_MODULUS : sum;
}

export function generationOf(index: number): number {
  return Math.floor(index / GENERATION_CELLS);
}

/** The chain of the next generation. */
export function ratchet(suite: CryptoSuite, chain: Uint8Array): Uint8Array {
  return suite.hkdf(chain, EMPTY, INFO_RATCHET, CHAIN_BYTES);
}

/** The chain that replaces `oldChain` after a fresh exchange (docs/protocol.md §3.1). `shared` = DH ‖ KEM secret. */
export function freshChain(
  suite: CryptoSuite,
  shared: Uint8Array,
  oldChain: Uint8Array,
  direction: Direction,
): Uint8Array {
  return suite.hkdf(shared, oldChain, INFO_FORWARD_SECRET[direction], CHAIN_BYTES);
}

/** The keys of one generation. */
export class CellKeys {
  readonly generation: number;
  readonly chain: Uint8Array;
  readonly aeadKey: Uint8Array;
  readonly prgKey: Uint8Array;
  /** Derived from the pending exchange, mixed in at this generation; -1 = from the present chain. */
  readonly freshAt: number;
  expiresAtMs: TimeMs = Number.POSITIVE_INFINITY;

  /** Takes `chain`. */
  constructor(suite: CryptoSuite, chain: Uint8Array, generation: number, freshAt: number) {
    const okm = suite.hkdf(chain, EMPTY, INFO_CELL_KEYS, 2 * AEAD_KEY_BYTES);
    this.generation = generation;
    this.chain = chain;
    this.aeadKey = okm.slice(0, AEAD_KEY_BYTES);
    this.prgKey = okm.slice(AEAD_KEY_BYTES);
    this.freshAt = freshAt;
    suite.wipe(okm);
  }

  wipe(suite: CryptoSuite): void {
    suite.wipe(this.chain, this.aeadKey, this.prgKey);
  }
}

/**
 * The keys of one hop in one direction (docs/protocol.md §3, §3.1).
 *
 * A sender calls senderKeys(index); keys it has passed are erased at once. A receiver calls select(index), tries
 * `candidates[0…candidateCount)` and commits the one under which the tag verified; open() does all of that. Later
 * generations are derived once and kept, so a peer that sends rubbish counters makes no work beyond the first time.
 */
export class DirectionKeys {
  readonly #suite: CryptoSuite;
  readonly #direction: Direction;
  #current: CellKeys;
  readonly #old: CellKeys[] = [];
  /** Of #old; −1 = there are none. */
  #newestOldGeneration = -1;
  /** Keys derived ahead that no tag has verified under yet. */
  readonly #ahead: CellKeys[] = [];
  #pendingShared: Uint8Array | undefined;
  #leaps = 0;
  #leapsSinceMs: TimeMs = Number.NEGATIVE_INFINITY;

  /** Filled by select(): what may open the cell, in the order to try. Valid entries: the first `candidateCount`. */
  readonly candidates: CellKeys[] = [];
  candidateCount = 0;

  /** Copies `chain` (chain_0). */
  constructor(suite: CryptoSuite, chain: Uint8Array, direction: Direction) {
    this.#suite = suite;
    this.#direction = direction;
    this.#current = new CellKeys(suite, chain.slice(), 0, -1);
  }

  get generation(): number {
    return this.#current.generation;
  }

  get hasPending(): boolean {
    return this.#pendingShared !== undefined;
  }

  /** The AEAD key of a generation, copied; undefined: it is not there (any more), or not of the first chain alone. */
  copyAeadKey(generation: number): Uint8Array | undefined {
    const keys = [this.#current, ...this.#old].find((held) => held.generation === generation && held.freshAt < 0);
    return keys?.aeadKey.slice();
  }

  // --- sending ---

  /**
   * Keys for sealing the cell with this index. Indices of one sender only grow, so earlier generations are erased.
   * A pending exchange is mixed in here, at the generation of the first cell sent under it.
   */
  senderKeys(index: number): CellKeys {
    const generation = generationOf(index);
    if (generation === this.#current.generation && this.#pendingShared === undefined) return this.#current;
    return this.#advanceSender(generation);
  }

  // --- receiving ---

  /** Finds the keys that may open the cell with this index. `Drop.none` = there is at least one candidate. */
  select(index: number, nowMs: TimeMs): Drop {
    const generation = generationOf(index);
    const current = this.#current;
    // Replaced keys matter to late cells, and in a generation in which a fresh exchange took over.
    if (
      generation === current.generation &&
      this.#pendingShared === undefined &&
      this.#newestOldGeneration < generation
    ) {
      this.candidates[0] = current;
      this.candidateCount = 1;
      return Drop.none;
    }
    return this.#selectSlow(generation, nowMs);
  }

  /**
   * Opens a cell received in this direction under whichever candidate verifies, and commits to it. `cellNonce` and
   * `cellAd` are set. `out` may be `ct` itself. On any Drop but none, `out` must not be used.
   */
  open(out: Uint8Array, tag: Uint8Array, ct: Uint8Array, index: number, nowMs: TimeMs): Drop {
    const drop = this.select(index, nowMs);
    if (drop !== Drop.none) return drop;
    const suite = this.#suite;
    const count = this.candidateCount;
    // A failed open leaves `out` undefined; with more than one candidate the ciphertext must survive the first.
    if (count > 1) savedCt.set(ct);
    for (let i = 0; i < count; i++) {
      const keys = this.candidates[i]!;
      if (suite.aeadOpen(out, tag, count > 1 ? savedCt : ct, cellAd, cellNonce, keys.aeadKey)) {
        this.commit(keys, nowMs);
        return Drop.none;
      }
    }
    return Drop.badTag;
  }

  /** A tag verified under `keys`: if they are ahead of the present ones, they become the present ones. True = a pending exchange took effect. */
  commit(keys: CellKeys, nowMs: TimeMs): boolean {
    if (keys === this.#current || keys.expiresAtMs !== Number.POSITIVE_INFINITY) return false;
    return this.#commitAhead(keys, nowMs);
  }

  /** A fresh exchange (`shared` = DH ‖ KEM secret, copied): receivers try it after the present chain, senders switch to it. */
  setPending(shared: Uint8Array): void {
    this.#dropPending();
    this.#pendingShared = shared.slice();
  }

  /** Erases replaced keys whose time is over. Call every second or so. */
  expireOld(nowMs: TimeMs): void {
    this.#eraseExpired(nowMs);
  }

  /** Erases everything; the object is unusable afterwards. */
  wipe(): void {
    this.#erase(this.#current);
    for (const keys of this.#old) this.#erase(keys);
    this.#old.length = 0;
    this.#dropAhead();
    this.#dropPending();
    this.candidates.length = 0;
    this.candidateCount = 0;
  }

  get memoryBytes(): number {
    return 800 + (this.#old.length + this.#ahead.length) * 500;
  }

  #advanceSender(generation: number): CellKeys {
    const suite = this.#suite;
    let chain = this.#ratchetTo(this.#current.chain, generation - this.#current.generation);
    if (this.#pendingShared !== undefined) {
      const fresh = freshChain(suite, this.#pendingShared, chain, this.#direction);
      suite.wipe(chain);
      chain = fresh;
      this.#dropPending();
    }
    this.#erase(this.#current);
    this.#current = new CellKeys(suite, chain, generation, -1);
    return this.#current;
  }

  #selectSlow(generation: number, nowMs: TimeMs): Drop {
    this.#eraseExpired(nowMs);
    const current = this.#current;
    this.candidateCount = 0;
    if (generation > current.generation + MAX_GENERATIONS_AHEAD) return Drop.badCounter;
    if (generation > current.generation && this.#leaps >= MAX_LEAPS_PER_SECOND) {
      if (nowMs - this.#leapsSinceMs < 1000) return Drop.limit;
      this.#leaps = 0;
    }
    if (generation >= current.generation) {
      this.#addCandidate(generation === current.generation ? current : this.#aheadKeys(generation, -1));
    }
    for (let i = this.#old.length - 1; i >= 0; i--) {
      if (this.#old[i]!.generation === generation) this.#addCandidate(this.#old[i]!);
    }
    // The sender mixes the exchange in at the generation of its first cell under it, which is not before ours.
    if (this.#pendingShared !== undefined) {
      for (let at = generation; at >= current.generation; at--) this.#addCandidate(this.#aheadKeys(generation, at));
    }
    return this.candidateCount > 0 ? Drop.none : Drop.tooOld;
  }

  #addCandidate(keys: CellKeys): void {
    this.candidates[this.candidateCount++] = keys;
  }

  /** Keys of a later generation, or of one with the pending exchange mixed in at generation `freshAt`. */
  #aheadKeys(generation: number, freshAt: number): CellKeys {
    for (const keys of this.#ahead) if (keys.generation === generation && keys.freshAt === freshAt) return keys;
    const suite = this.#suite;
    const current = this.#current;
    let chain: Uint8Array;
    if (freshAt < 0) {
      chain = this.#ratchetTo(current.chain, generation - current.generation);
    } else {
      const salt = this.#ratchetTo(current.chain, freshAt - current.generation);
      const fresh = freshChain(suite, this.#pendingShared!, salt, this.#direction);
      chain = this.#ratchetTo(fresh, generation - freshAt);
      suite.wipe(salt, fresh);
    }
    const keys = new CellKeys(suite, chain, generation, freshAt);
    this.#ahead.push(keys);
    return keys;
  }

  /** chain_{g+steps}, always in memory of its own. */
  #ratchetTo(chain: Uint8Array, steps: number): Uint8Array {
    let next: Uint8Array = chain.slice();
    for (let i = 0; i < steps; i++) {
      const after = ratchet(this.#suite, next);
      this.#suite.wipe(next);
      next = after;
    }
    return next;
  }

  #commitAhead(keys: CellKeys, nowMs: TimeMs): boolean {
    const switched = keys.freshAt >= 0;
    const expiresAtMs = nowMs + OLD_KEYS_MS;
    const before = this.#current;
    if (nowMs - this.#leapsSinceMs >= 1000) {
      this.#leapsSinceMs = nowMs;
      this.#leaps = 0;
    }
    this.#leaps += keys.generation - before.generation;
    // Cells of a generation that was leapt over may only be late: its keys stay as long as those of the present one.
    const presentEnd = switched ? keys.freshAt + 1 : keys.generation;
    this.#retire(before, expiresAtMs);
    for (let g = before.generation + 1; g < presentEnd; g++) this.#retire(this.#aheadKeys(g, -1), expiresAtMs);
    for (let g = keys.freshAt; switched && g < keys.generation; g++) {
      this.#retire(this.#aheadKeys(g, keys.freshAt), expiresAtMs);
    }
    for (const old of this.#old) this.#suite.wipe(old.chain);
    this.#current = keys;
    this.#ahead.splice(this.#ahead.indexOf(keys), 1);
    this.#dropAhead();
    if (switched) this.#dropPending();
    return switched;
  }

  /** Keeps the keys for late cells. Their chain is erased when nothing more is derived from it. */
  #retire(keys: CellKeys, expiresAtMs: TimeMs): void {
    const at = this.#ahead.indexOf(keys);
    if (at >= 0) this.#ahead.splice(at, 1);
    keys.expiresAtMs = expiresAtMs;
    if (this.#old.length === MAX_OLD_KEYS) this.#erase(this.#old.shift()!);
    this.#old.push(keys);
    this.#newestOldGeneration = Math.max(this.#newestOldGeneration, keys.generation);
  }

  #eraseExpired(nowMs: TimeMs): void {
    while (this.#old.length > 0 && this.#old[0]!.expiresAtMs <= nowMs) this.#erase(this.#old.shift()!);
    if (this.#old.length === 0) this.#newestOldGeneration = -1;
  }

  #dropAhead(): void {
    for (const keys of this.#ahead) this.#erase(keys);
    this.#ahead.length = 0;
    // Candidates are only good until the next commit.
    this.candidates.length = 0;
    this.candidateCount = 0;
  }

  #dropPending(): void {
    if (this.#pendingShared === undefined) return;
    this.#suite.wipe(this.#pendingShared);
    this.#pendingShared = undefined;
    for (let i = this.#ahead.length - 1; i >= 0; i--) {
      if (this.#ahead[i]!.freshAt >= 0) this.#erase(this.#ahead.splice(i, 1)[0]!);
    }
  }

  #erase(keys: CellKeys): void {
    keys.wipe(this.#suite);
  }
}
