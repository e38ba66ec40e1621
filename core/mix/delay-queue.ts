/**
 * Cells of class `mix` while they wait (docs/protocol.md §7): each leaves after an exponential time of its own, so the
 * order in which cells leave says nothing about the order in which they came. Only finished cells wait; when one's time
 * has come, its owner gets it back.
 *
 * A heap of four-way nodes over typed arrays orders them: O(log n) per cell, no objects, no allocation but when it
 * grows. Memory is bounded: at the bound new cells are dropped and counted. Sending the oldest ones early instead would
 * let anybody empty a mix at will by filling it up, which is the first half of an n−1 attack; what is dropped is lost
 * in plain sight. A circuit may hold no more than a quarter of the room that is left (the dynamic threshold of
 * Choudhury and Hahne, 1998), so that one flood leaves room for the others.
 */
import type { Random, TimeMs } from '../ports.ts';
import { CellStore } from './cell-store.ts';
import { Exponential } from './exponential.ts';

/** Whose cells wait. */
export interface DelayOwner {
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
const MIN_HEAP = 64;
const EMPTY_DOUBLES = new Float64Array(0);
const EMPTY_SLOTS = new Uint32Array(0);
/** Beside the cell: its place in the heap, its owner, its note. */
const PLACE_BYTES = 8 + 4 + 8 + 8;

export class DelayQueue {
  readonly #times: Exponential;
  readonly #store: CellStore;
  readonly #batchMs: number;
  /** When cells were last released. */
  #turnMs: TimeMs = Number.NEGATIVE_INFINITY;
  #due = EMPTY_DOUBLES;
  #slots = EMPTY_SLOTS;
  /** By slot. */
  #owners: (DelayOwner | undefined)[] = [];
  #notes = EMPTY_DOUBLES;
  #length = 0;
  /** Most cells at once since the last trim. */
  #peak = 0;
  /** Cells that have waited, and for how long all of them (those that still wait: as long as they will). */
  released = 0;
  waitedMs = 0;

  /**
   * @param maxCells that may wait at once.
   * @param batchMs least time between two releases: what becomes due within it leaves together, as one batch per link. That
   * is up to so much later than its time; without it a busy relay would send nearly every cell on its own.
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
    return this.#store.memoryBytes + this.#due.length * PLACE_BYTES;
  }

  /** Whether an owner that has `waiting` cells here may put in another one. */
  hasRoom(waiting: number): boolean {
    return waiting < OWNER_SHARE * (this.#store.capacity - this.#length);
  }

  /** Stores a copy of a cell for an exponential time. Only behind hasRoom(). */
  push(bytes: Uint8Array, owner: DelayOwner, note: number, meanMs: number, nowMs: TimeMs): void {
    this.pushFor(bytes, owner, note, this.#times.sample(meanMs), nowMs);
  }

  /** Stores a copy of a cell for so long. Only behind hasRoom(). */
  pushFor(bytes: Uint8Array, owner: DelayOwner, note: number, delayMs: number, nowMs: TimeMs): void {
    const slot = this.#store.take();
    if (slot < 0) throw new Error('the delay queue is full: push without hasRoom');
    this.#store.view(slot).set(bytes);
    if (slot >= this.#notes.length) this.#growNotes(slot);
    this.#owners[slot] = owner;
    this.#notes[slot] = note;
    this.waitedMs += delayMs;
    if (this.#length === this.#due.length) this.#growHeap();
    this.#up(this.#length++, nowMs + delayMs, slot);
    if (this.#length > this.#peak) this.#peak = this.#length;
  }

  /** When the first cell may leave; Infinity when none waits. */
  nextMs(): TimeMs {
    return this.#length === 0 ? Number.POSITIVE_INFINITY : Math.max(this.#due[0]!, this.#turnMs + this.#batchMs);
  }

  /**
   * Hands the next cell that is due to its owner; false when none is, or none may leave yet. What release() throws comes out of here, with the
   * cell already gone from the queue.
   */
  releaseNext(nowMs: TimeMs): boolean {
    if (this.#length === 0 || this.#due[0]! > nowMs) return false;
    if (nowMs !== this.#turnMs) {
      if (nowMs < this.#turnMs + this.#batchMs) return false;
      this.#turnMs = nowMs;
    }
    const slot = this.#slots[0]!;
    this.waitedMs += nowMs - this.#due[0]!;
    this.#length--;
    if (this.#length > 0) this.#down(this.#due[this.#length]!, this.#slots[this.#length]!);
    const owner = this.#owners[slot]!;
    this.#owners[slot] = undefined;
    this.released++;
    const bytes = this.#store.view(slot);
    try {
      owner.release(bytes, this.#notes[slot]!, nowMs);
    } finally {
      this.#store.give(slot);
    }
    return true;
  }

  /** Gives memory back that the last second did not need. */
  trim(): void {
    this.#store.trim(Math.max(this.#length, this.#peak));
    this.#peak = this.#length;
    if (this.#length === 0 && this.#due.length > MIN_HEAP) {
      this.#due = EMPTY_DOUBLES;
      this.#slots = EMPTY_SLOTS;
      this.#notes = EMPTY_DOUBLES;
      this.#owners = [];
    }
  }

  #up(from: number, dueMs: number, slot: number): void {
    const due = this.#due;
    const slots = this.#slots;
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 2;
      if (due[parent]! <= dueMs) break;
      due[index] = due[parent]!;
      slots[index] = slots[parent]!;
      index = parent;
    }
    due[index] = dueMs;
    slots[index] = slot;
  }

  /** Puts a cell where the first one was. */
  #down(dueMs: number, slot: number): void {
    const due = this.#due;
    const slots = this.#slots;
    const length = this.#length;
    let index = 0;
    for (;;) {
      const first = 4 * index + 1;
      if (first >= length) break;
      const end = Math.min(first + 4, length);
      let least = first;
      for (let child = first + 1; child < end; child++) if (due[child]! < due[least]!) least = child;
      if (due[least]! >= dueMs) break;
      due[index] = due[least]!;
      slots[index] = slots[least]!;
      index = least;
    }
    due[index] = dueMs;
    slots[index] = slot;
  }

  #growHeap(): void {
    const size = Math.max(MIN_HEAP, this.#due.length * 2);
    const due = new Float64Array(size);
    const slots = new Uint32Array(size);
    due.set(this.#due);
    slots.set(this.#slots);
    this.#due = due;
    this.#slots = slots;
  }

  #growNotes(slot: number): void {
    const notes = new Float64Array(Math.max(MIN_HEAP, this.#notes.length * 2, slot + 1));
    notes.set(this.#notes);
    this.#notes = notes;
  }
}

/** The mean that a relay applies for what a set-up asks. */
export function boundedDelayMs(delayMeanUs: number): number {
  return Math.min(MAX_DELAY_MS, Math.max(MIN_DELAY_MS, delayMeanUs / 1000));
}
