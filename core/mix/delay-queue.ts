/**
 * Cells of class `mix` while they wait (docs/protocol.md §7): each leaves after an exponential time of its own, so the
 * order in which cells leave says nothing about the order in which they came. Only finished cells wait; when one's time
 * has come, its owner gets it back.
 *
 * A calendar: a quarter of a millisecond to a day, and a list of cells for each day. What lies further ahead than its 4096
 * days goes to the day that has the same place, and is passed over until it is due. The days that have come are gone
 * through, and what is due of them is handed to the outlets, from which it leaves in an order drawn at random. So a cell
 * costs O(1), whatever the number that waits, no time is rounded, and all of it lies in typed arrays, without an object
 * for a cell.
 *
 * Memory is bounded: at the bound new cells are dropped and counted. Sending the oldest ones early instead would
 * let anybody empty a mix at will by filling it up, which is the first half of an n−1 attack; what is dropped is lost
 * in plain sight. A circuit may hold no more than a quarter of the room that is left (the dynamic threshold of
 * Choudhury and Hahne, 1998), so that one flood leaves room for the others.
 */
import type { Random, TimeMs } from '../ports.ts';
import { CellStore } from './cell-store.ts';
import { DelayOutlet } from './delay-outlet.ts';
import { Exponential } from './exponential.ts';

/** Whose cells wait. */
export interface DelayOwner {
  /** Where the cell leaves, as it turns out when its time has come. Without one: where all such cells do. */
  outlet?(note: number): DelayOutlet | undefined;
  /**
   * A cell's time has come. `bytes` (the 1280 that were given to push) is borrowed until the call returns; `note` is
   * what push got.
   */
  release(bytes: Uint8Array, note: number, nowMs: TimeMs): void;
}

/** Means that a relay takes; what a client asks for beyond them is brought into the range. */
export const MIN_DELAY_MS = 1;
export const MAX_DELAY_MS = 10_000;

const OWNER_SHARE = 0.25;
/** A power of two: that a time falls into a day is then exact. */
const DAYS_PER_MS = 4;
const DAYS = 4096;
/** How often cells are looked for that are due, for each turn of an outlet. */
const GATHERS_PER_TURN = 4;
const NO_SLOT = -1;
const MIN_SLOTS = 64;
const NO_DOUBLES = new Float64Array(0);
const NO_SLOTS = new Int32Array(0);
/** Beside the cell, by slot: its time, its note, its owner, the next of its day, a place in an outlet. */
const SLOT_BYTES = 8 + 8 + 8 + 4 + 4;

export class DelayQueue {
  readonly #times: Exponential;
  readonly #store: CellStore;
  readonly #batchMs: number;
  readonly #gatherMs: number;
  /** When cells that are due were last looked for. */
  #gatheredMs: TimeMs = Number.NEGATIVE_INFINITY;

  /** By slot. */
  #owners: (DelayOwner | undefined)[] = [];
  #notes = NO_DOUBLES;
  #dues = NO_DOUBLES;
  #nexts = NO_SLOTS;

  /** First cell of each day from `#today` on; of the days before, none is left. */
  #days = NO_SLOTS;
  #today = 0;
  /** The first time of those in the days; undefined = to be looked for. */
  #aheadMs: TimeMs | undefined = Number.POSITIVE_INFINITY;
  /** Those that have cells, and of owners that name none. */
  readonly #outlets: DelayOutlet[] = [];
  readonly #common = new DelayOutlet(Number.POSITIVE_INFINITY);
  /** Cells in outlets. */
  #leaving = 0;

  #length = 0;
  /** Most cells at once since the last trim. */
  #peak = 0;
  /** Cells that have waited, and for how long all of them (those that still wait: as long as they will). */
  released = 0;
  waitedMs = 0;

  /**
   * @param maxCells that may wait at once.
   * @param batchMs from one release of an outlet to its turn, unless it has a full batch before: what becomes due meanwhile
   * leaves together, up to 1.25 times as much later than its time; what is left over from full batches, later. Without it a
   * busy relay would send nearly every cell on its own.
   */
  constructor(random: Random, maxCells: number, batchMs: number) {
    this.#batchMs = batchMs;
    this.#gatherMs = batchMs / GATHERS_PER_TURN;
    this.#times = new Exponential(random);
    this.#store = new CellStore(maxCells);
  }

  get length(): number {
    return this.#length;
  }

  get memoryBytes(): number {
    return this.#store.memoryBytes + this.#dues.length * SLOT_BYTES + this.#days.byteLength;
  }

  /** Whether an owner that has `waiting` cells here may put in another one. */
  hasRoom(waiting: number): boolean {
    return waiting < OWNER_SHARE * (this.#store.capacity - this.#length);
  }

  /** Stores a copy of a cell for an exponential time. Only behind hasRoom(). */
  push(bytes: Uint8Array, owner: DelayOwner, note: number, meanMs: number, nowMs: TimeMs): void {
    this.pushFor(bytes, owner, note, this.#times.quickSample(meanMs), nowMs);
  }

  /** Stores a copy of a cell for so long. Only behind hasRoom(). */
  pushFor(bytes: Uint8Array, owner: DelayOwner, note: number, delayMs: number, nowMs: TimeMs): void {
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
    if (this.#aheadMs === undefined) this.#aheadMs = this.#firstAheadMs();
    const firstMs = Math.max(this.#aheadMs, this.#gatheredMs + this.#gatherMs);
    const leavingMs = this.#leaving === 0 ? Number.POSITIVE_INFINITY : this.#firstTurnMs();
    return Math.min(firstMs, leavingMs);
  }

  /**
   * Hands up to `most` cells that may leave to their owners, outlet by outlet; gives how many. What release() throws comes
   * out of here, with the cell already gone from the queue; the others leave at the next call.
   */
  release(nowMs: TimeMs, most: number): number {
    if (this.#aheadMs === undefined) this.#aheadMs = this.#firstAheadMs();
    if (this.#aheadMs <= nowMs && this.#gatheredMs + this.#gatherMs <= nowMs) this.#gather(nowMs);
    const outlets = this.#outlets;
    let count = 0;
    for (let i = 0; i < outlets.length && count < most; ) {
      const outlet = outlets[i]!;
      const leavable = outlet.leavable(nowMs);
      const mayLeave = Math.min(leavable, most - count);
      try {
        count += this.#releaseFrom(outlet, mayLeave, nowMs);
        if (mayLeave > 0 && mayLeave === leavable) outlet.startTurn(nowMs, this.#batchMs);
      } finally {
        if (outlet.count === 0) {
          outlets[i] = outlets[outlets.length - 1]!;
          outlets.pop();
        } else i++;
      }
    }
    return count;
  }

  /** Gives memory back that the last second did not need. */
  trim(): void {
    this.#store.trim(Math.max(this.#length, this.#peak));
    this.#peak = this.#length;
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
    this.#gatheredMs = nowMs;
    const nowDay = dayOf(nowMs);
    for (let day = Math.max(this.#today, nowDay - DAYS + 1); day <= nowDay; day++) {
      const place = placeOf(day);
      let slot = this.#days[place]!;
      if (slot === NO_SLOT) continue;
      this.#days[place] = NO_SLOT;
      while (slot !== NO_SLOT) {
        const next = this.#nexts[slot]!;
        if (this.#dues[slot]! <= nowMs) this.#comeDue(slot);
        else this.#enter(day, slot);
        slot = next;
      }
    }
    this.#today = nowDay;
    this.#aheadMs = undefined;
  }

  #comeDue(slot: number): void {
    const owner = this.#owners[slot]!;
    const outlet = owner.outlet?.(this.#notes[slot]!) ?? this.#common;
    if (outlet.count === 0) this.#outlets.push(outlet);
    outlet.add(slot);
    this.#leaving++;
  }

  #releaseFrom(outlet: DelayOutlet, most: number, nowMs: TimeMs): number {
    const store = this.#store;
    let count = 0;
    let slot = NO_SLOT;
    try {
      while (count < most) {
        // Each of those left with the same probability.
        const left = outlet.count;
        slot = outlet.take(left === 1 ? 0 : this.#times.place(left));
        count++;
        this.#leaving--;
        this.#length--;
        this.waitedMs += nowMs - this.#dues[slot]!;
        const owner = this.#owners[slot]!;
        this.#owners[slot] = undefined;
        owner.release(store.view(slot), this.#notes[slot]!, nowMs);
        store.give(slot);
        slot = NO_SLOT;
      }
    } finally {
      if (slot !== NO_SLOT) store.give(slot);
      this.released += count;
    }
    return count;
  }

  /** When the first outlet may send; there is one with cells. */
  #firstTurnMs(): TimeMs {
    let firstMs = Number.POSITIVE_INFINITY;
    for (const outlet of this.#outlets) firstMs = Math.min(firstMs, outlet.leavableMs);
    return Math.max(firstMs, this.#gatheredMs);
  }

  /** The first time of all cells in the days. Each is looked at once at most. */
  #firstAheadMs(): TimeMs {
    let firstMs = Number.POSITIVE_INFINITY;
    if (this.#length === this.#leaving) return firstMs;
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

/** The mean that a relay applies for what a set-up asks. */
export function boundedDelayMs(delayMeanUs: number): number {
  return Math.min(MAX_DELAY_MS, Math.max(MIN_DELAY_MS, delayMeanUs / 1000));
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
