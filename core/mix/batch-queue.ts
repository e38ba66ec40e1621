/**
 * Cells of class cmix while they wait (docs/protocol.md §7.1): they gather in an open batch, which closes when it is full or
 * its oldest cell has waited long enough; closed batches wait for their delay, and then all cells of one leave in an order drawn
 * at random. Memory is bounded; beyond it new cells are dropped and counted, as in poisson-mix.ts.
 */
import { compareBytes } from '../directory/bytes.ts';
import type { Random, TimeMs } from '../ports.ts';
import { type BatchRules, MAX_BATCH_CELLS, SALT_BYTES, TAG_BYTES } from './batch-records.ts';
import type { BatchJob, BatchShare } from './batch-work.ts';
import type { CellOwner } from './cell-owner.ts';
import { CellStore } from './cell-store.ts';
import { Exponential } from './exponential.ts';

/** Closed batches that may wait for their delay, and the open one: more would only make the way longer. */
const MAX_BATCHES = 6;
/** An initial window finds room also where batches are small. */
const MIN_CAPACITY = 128;
const OWNER_SHARE = 0.5;
/** The circuit ends here: nobody is to be told. */
export const OWN_END = 0;

interface Held {
  readonly slot: number;
  readonly owner: CellOwner;
  readonly note: number;
  readonly from: number;
  readonly inDigest: Uint8Array;
  readonly to: number;
  readonly outDigest: Uint8Array;
}

interface Closed {
  readonly cells: Held[];
  readonly sinceMs: TimeMs;
}

export interface BatchQueueOptions {
  /** After this a batch closes as it is. */
  readonly maxWaitMs: number;
}

export class BatchQueue {
  readonly #options: BatchQueueOptions;
  readonly #rules: () => BatchRules;
  readonly #random: Random;
  readonly #dice: Exponential;
  readonly #store: CellStore;
  #open: Held[] = [];
  #known = new Set<string>();
  #openedMs: TimeMs = 0;
  readonly #closed = new Map<number, Closed>();
  #nextNumber = 0;
  #waiting = 0;
  /** Of all batches that have left: their number, cells, the smallest of the last 64, and how long cells waited together. */
  released = 0;
  releasedCells = 0;
  waitedMs = 0;
  readonly #recentSizes: number[] = [];

  /** @param rules what the epoch says now. */
  constructor(random: Random, options: BatchQueueOptions, rules: () => BatchRules) {
    this.#random = random;
    this.#dice = new Exponential(random);
    this.#options = options;
    this.#rules = rules;
    this.#store = new CellStore(MAX_BATCHES * MAX_BATCH_CELLS);
  }

  get #capacity(): number {
    return Math.max(MIN_CAPACITY, MAX_BATCHES * this.#rules().cells);
  }

  /** Cells that wait, in the open batch and in closed ones. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Cells of the smallest of the last 64 batches: with how many others a cell was at least. */
  get smallestRecent(): number | undefined {
    return this.#recentSizes.length === 0 ? undefined : Math.min(...this.#recentSizes);
  }

  get memoryBytes(): number {
    return this.#store.memoryBytes + this.#waiting * 400;
  }

  /** When the open batch closes at the latest. */
  get dueMs(): TimeMs {
    return this.#open.length === 0 ? Number.POSITIVE_INFINITY : this.#openedMs + this.#options.maxWaitMs;
  }

  /** Whether an owner that has `waiting` cells here may put in another one. */
  hasRoom(waiting: number): boolean {
    const capacity = this.#capacity;
    return this.#waiting < capacity && waiting < OWNER_SHARE * capacity && waiting < capacity - this.#waiting;
  }

  /**
   * Stores a copy of a finished cell. `from` and `to` are neighbours, or OWN_END. Only behind hasRoom(). False: the open batch
   * has this very cell already: replay windows do not let it come here again, and its leaf must not be there twice.
   */
  push(
    bytes: Uint8Array,
    owner: CellOwner,
    note: number,
    from: number,
    inDigest: Uint8Array,
    to: number,
    outDigest: Uint8Array,
    nowMs: TimeMs,
  ): boolean {
    const inKey = digestKey(inDigest);
    const outKey = digestKey(outDigest);
    if (this.#known.has(inKey) || this.#known.has(outKey)) return false;
    const slot = this.#store.take();
    if (slot < 0) throw new Error('the batches are full: push without hasRoom');
    this.#known.add(inKey);
    this.#known.add(outKey);
    this.#store.put(slot, bytes);
    if (this.#open.length === 0) this.#openedMs = nowMs;
    this.#open.push({ slot, owner, note, from, inDigest, to, outDigest });
    this.#waiting++;
    return true;
  }

  get isFull(): boolean {
    return this.#open.length >= this.#rules().cells;
  }

  /** Closes the open batch, if it has any cells: what is to be proved of it. */
  close(nowMs: TimeMs): Omit<BatchJob, 'closedAt'> | undefined {
    const cells = this.#open;
    if (cells.length === 0) return undefined;
    const rules = this.#rules();
    // The epoch may have changed since the last cell.
    this.#open = cells.splice(rules.cells);
    this.#known = new Set(this.#open.flatMap(({ inDigest, outDigest }) => [digestKey(inDigest), digestKey(outDigest)]));
    const batch = this.#nextNumber++;
    this.#closed.set(batch, { cells, sinceMs: this.#openedMs });
    this.waitedMs += nowMs - this.#openedMs;
    const salt = new Uint8Array(SALT_BYTES);
    this.#random.fill(salt);
    return {
      batch,
      salt,
      rules,
      inputs: this.#shares(cells, ({ from, inDigest }) => [from, inDigest]),
      outputs: this.#shares(cells, ({ to, outDigest }) => [to, outDigest]),
    };
  }

  #shares(cells: readonly Held[], side: (cell: Held) => readonly [number, Uint8Array]): BatchShare[] {
    const digests = new Map<number, Uint8Array[]>();
    for (const cell of cells) {
      const [neighbour, digest] = side(cell);
      const some = digests.get(neighbour);
      if (some === undefined) digests.set(neighbour, [digest]);
      else some.push(digest);
    }
    return Array.from(digests, ([neighbour, some]) => {
      const tag = new Uint8Array(neighbour === OWN_END ? 0 : TAG_BYTES);
      this.#random.fill(tag);
      // In rising order: not in that of their coming.
      return { neighbour, tag, digests: some.sort(compareBytes) };
    });
  }

  /**
   * The delay of a batch is over: hands its cells to their owners in random order. `sent` hears first of each where it goes.
   * What an owner throws goes to `failed`.
   */
  release(
    batch: number,
    nowMs: TimeMs,
    sent: (neighbour: number, digest: Uint8Array) => void,
    failed: (error: unknown) => void,
  ): void {
    const closed = this.#closed.get(batch);
    if (closed === undefined) return;
    this.#closed.delete(batch);
    const { cells } = closed;
    this.#shuffle(cells);
    this.released++;
    this.releasedCells += cells.length;
    this.#recentSizes.push(cells.length);
    if (this.#recentSizes.length > 64) this.#recentSizes.shift();
    for (const { slot, owner, note, to, outDigest } of cells) {
      this.#waiting--;
      if (to !== OWN_END) sent(to, outDigest);
      try {
        owner.release(this.#store.view(slot), note, nowMs);
      } catch (error) {
        failed(error);
      } finally {
        this.#store.give(slot);
      }
    }
  }

  /** Fisher and Yates; 53 bits of the generator for each place. */
  #shuffle(cells: Held[]): void {
    for (let i = cells.length - 1; i > 0; i--) {
      const k = Math.ceil(this.#dice.uniform() * (i + 1)) - 1;
      [cells[i], cells[k]] = [cells[k]!, cells[i]!];
    }
  }

  /** Gives memory back. Call now and then. */
  trim(): void {
    this.#store.trim(this.#waiting);
  }
}

/** A digest as a key of maps. */
export function digestKey(digest: Uint8Array): string {
  return String.fromCharCode(...digest);
}
