/**
 * Cells that wait for a time that is known when they come: packets of the message lane (docs/protocol.md §9.1), whose senders have
 * chosen it. Only finished cells wait; when one's time has come, its owner gets it back.
 *
 * A calendar: a quarter of a millisecond to a day, and a list of cells for each day. What lies further ahead than its 4096
 * days goes to the day that has the same place, and is passed over until it is due. The days that have come are gone
 * through, and what is due of them leaves in an order drawn at random: senders choose whole milliseconds, and what left in
 * the order in which it came would say so. So a cell costs O(1), whatever the number that waits, no time is rounded, and
 * all of it lies in typed arrays, without an object for a cell.
 *
 * Memory is bounded as that of a PoissonMix is.
 */
import type { Random, TimeMs } from '../ports.ts';
import { CellList } from './cell-list.ts';
import type { CellOwner } from './cell-owner.ts';
import { CellStore } from './cell-store.ts';
import { Exponential } from './exponential.ts';

const OWNER_SHARE = 0.25;
/** A power of two: that a time falls into a day is then exact. */
const DAYS_PER_MS = 4;
const DAYS = 4096;
const NO_SLOT = -1;
const MIN_SLOTS = 64;
const NO_DOUBLES = new Float64Array(0);
const NO_SLOTS = new Int32Array(0);
/** Beside the cell, by slot: its time, its note, its owner, the next of its day. */
const SLOT_BYTES = 8 + 8 + 8 + 4;

export class DelayQueue {
  readonly #times: Exponential;
  readonly #store: CellStore;
  readonly #batchMs: number;

  /** By slot. */
  #owners: (CellOwner | undefined)[] = [];
  #notes = NO_DOUBLES;
  #dues = NO_DOUBLES;
  #nexts = NO_SLOTS;

  /** First cell of each day from `#today` on; of the days before, none is left. */
  #days = NO_SLOTS;
  #today = 0;
  /** The first time of those in the days; undefined = to be looked for. */
  #aheadMs: TimeMs | undefined = Number.POSITIVE_INFINITY;
  /** Cells whose time has come, and from when on they may leave. */
  readonly #due = new CellList();
  #turnMs: TimeMs = Number.NEGATIVE_INFINITY;

  #length = 0;
  /** Most cells at once since the last trim. */
  #peak = 0;
  /** Cells that have waited, and for how long all of them (those that still wait: as long as they will). */
  released = 0;
  waitedMs = 0;

  /**
   * @param maxCells that may wait at once.
   * @param batchMs from one release to the next: what becomes due meanwhile leaves together.
   */
  constructor(random: Random, maxCells: number, batchMs: number) {
    this.#batchMs = batchMs;
    this.#times = new Exponential(random);
    this.#store = new CellStore(maxCells);
  }

  get length(): number {
    return this.#length;
  }

  get memoryBytes(): number {
    return this.#store.memoryBytes + this.#dues.length * SLOT_BYTES + this.#days.byteLength + this.#due.memoryBytes;
  }

  /** Whether an owner that has `waiting` cells here may put in another one. */
  hasRoom(waiting: number): boolean {
    return waiting < OWNER_SHARE * (this.#store.capacity - this.#length);
  }

  /** Stores a copy of a cell for so long. Only behind hasRoom(). */
  push(bytes: Uint8Array, owner: CellOwner, note: number, delayMs: number, nowMs: TimeMs): void {
    const slot = this.#store.take();
    if (slot < 0) throw new Error('the delay queue is full: push without hasRoom');
    this.#store.put(slot, bytes);
    if (slot >= this.#dues.length) this.#growSlots(slot);
    const dueMs = nowMs + delayMs;
    this.#owners[slot] = owner;
    this.#notes[slot] = note;
    this.#dues[slot] = dueMs;
    this.waitedMs += delayMs;
    this.#enter(Math.max(dayOf(dueMs), this.#today), slot);
    if (this.#aheadMs !== undefined && dueMs < this.#aheadMs) this.#aheadMs = dueMs;
    if (++this.#length > this.#peak) this.#peak = this.#length;
  }

  /** When release() has something to do: no cell leaves before. Infinity when none waits. */
  nextMs(): TimeMs {
    if (this.#due.count > 0) return this.#turnMs;
    return Math.max(this.#firstAheadMs(), this.#turnMs);
  }

  /**
   * Hands up to `most` cells that are due to their owners; gives how many. What release() throws comes out of here, with the
   * cell already gone from the queue; the others leave at the next call.
   */
  release(nowMs: TimeMs, most: number): number {
    if (nowMs < this.#turnMs) return 0;
    if (this.#firstAheadMs() <= nowMs) this.#gather(nowMs);
    const { count } = this.#due;
    if (count === 0) return 0;
    const mayLeave = Math.min(count, most);
    this.#releaseDue(mayLeave, nowMs);
    if (mayLeave === count) this.#turnMs = nowMs + this.#batchMs;
    return mayLeave;
  }

  /** Gives memory back that the last second did not need. */
  trim(): void {
    this.#store.trim(Math.max(this.#length, this.#peak));
    this.#peak = this.#length;
    this.#due.trim();
    if (this.#length > 0 || this.#dues.length === 0) return;
    this.#owners = [];
    this.#notes = NO_DOUBLES;
    this.#dues = NO_DOUBLES;
    this.#nexts = NO_SLOTS;
    this.#days = NO_SLOTS;
  }

  #enter(day: number, slot: number): void {
    const place = placeOf(day);
    this.#nexts[slot] = this.#days[place]!;
    this.#days[place] = slot;
  }

  /** Takes what is due out of its days. A jump over the whole calendar looks at each place once. */
  #gather(nowMs: TimeMs): void {
    const nowDay = dayOf(nowMs);
    for (let day = Math.max(this.#today, nowDay - DAYS + 1); day <= nowDay; day++) {
      const place = placeOf(day);
      let slot = this.#days[place]!;
      if (slot === NO_SLOT) continue;
      this.#days[place] = NO_SLOT;
      while (slot !== NO_SLOT) {
        const next = this.#nexts[slot]!;
        if (this.#dues[slot]! <= nowMs) this.#due.add(slot, 0);
        else this.#enter(day, slot);
        slot = next;
      }
    }
    this.#today = nowDay;
    this.#aheadMs = undefined;
  }

  #releaseDue(most: number, nowMs: TimeMs): void {
    const store = this.#store;
    const due = this.#due;
    for (let i = 0; i < most; i++) {
      // Each of those left with the same probability.
      const place = this.#times.place(due.count);
      const slot = due.slotAt(place);
      due.remove(place);
      this.#length--;
      this.released++;
      this.waitedMs += nowMs - this.#dues[slot]!;
      const owner = this.#owners[slot]!;
      this.#owners[slot] = undefined;
      try {
        owner.release(store.view(slot), this.#notes[slot]!, nowMs);
      } finally {
        store.give(slot);
      }
    }
  }

  /** The first time of all cells in the days. */
  #firstAheadMs(): TimeMs {
    this.#aheadMs ??= this.#lookAhead();
    return this.#aheadMs;
  }

  /** Each cell is looked at once at most. */
  #lookAhead(): TimeMs {
    let firstMs = Number.POSITIVE_INFINITY;
    if (this.#length === this.#due.count) return firstMs;
    for (let day = this.#today; day < this.#today + DAYS; day++) {
      for (let slot = this.#days[placeOf(day)]!; slot !== NO_SLOT; slot = this.#nexts[slot]!) {
        if (this.#dues[slot]! < firstMs) firstMs = this.#dues[slot]!;
      }
      // What is in later days is later, unless it comes round another time and is later still.
      if (dayOf(firstMs) <= day) break;
    }
    return firstMs;
  }

  #growSlots(slot: number): void {
    if (this.#days.length === 0) this.#days = new Int32Array(DAYS).fill(NO_SLOT);
    const size = Math.max(MIN_SLOTS, this.#dues.length * 2, slot + 1);
    this.#notes = grown(this.#notes, new Float64Array(size));
    this.#dues = grown(this.#dues, new Float64Array(size));
    this.#nexts = grown(this.#nexts, new Int32Array(size));
  }
}

function dayOf(timeMs: TimeMs): number {
  return Math.floor(timeMs * DAYS_PER_MS);
}

function placeOf(day: number): number {
  return day & (DAYS - 1);
}

function grown<T extends Float64Array | Int32Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
