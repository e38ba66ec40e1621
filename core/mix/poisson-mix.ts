/**
 * Cells of class `mix` while they wait (docs/protocol.md §7): each leaves after an exponential time of its own, so the
 * order in which cells leave says nothing about the order in which they came. Only finished cells wait, each at the link by
 * which it will leave; when one's time has come and that of its link, its owner gets it back. A cell costs O(1), whatever the
 * number that waits, no time is rounded, and there is no object for a cell.
 *
 * Memory is bounded: at the bound new cells are dropped and counted. Sending the oldest ones early instead would
 * let anybody empty a mix at will by filling it up, which is the first half of an n−1 attack; what is dropped is lost
 * in plain sight. A circuit may hold no more than a quarter of the room that is left (the dynamic threshold of
 * Choudhury and Hahne, 1998), so that one flood leaves room for the others.
 */
import type { Random, TimeMs } from '../ports.ts';
import type { CellOwner } from './cell-owner.ts';
import { CellStore } from './cell-store.ts';
import { Exponential } from './exponential.ts';
import { MixOutlet } from './mix-outlet.ts';

/** Whose cells wait in a mix. */
export interface MixOwner extends CellOwner {
  /** Its place in the mix while it has cells there; −1 = it has none. Owned by the mix. */
  mixPlace: number;
}

/** Means that a relay takes; what a client asks for beyond them is brought into the range. */
export const MIN_DELAY_MS = 1;
export const MAX_DELAY_MS = 10_000;

const OWNER_SHARE = 0.25;
/** How often cells are looked for that are due, for each turn of an outlet. */
const GATHERS_PER_TURN = 4;
const MIN_OWNERS = 64;
/** By place: mean, cells, the owner, and an entry among the free ones. */
const PLACE_BYTES = 8 + 4 + 8 + 8;

export class PoissonMix {
  readonly #times: Exponential;
  readonly #store: CellStore;
  readonly #batchMs: number;
  readonly #gatherMs: number;
  /** When cells that are due were last looked for. */
  #gatheredMs: TimeMs = Number.NEGATIVE_INFINITY;

  /** By place. */
  readonly #owners: (MixOwner | undefined)[] = [];
  #means = new Float64Array(MIN_OWNERS);
  #waiting = new Int32Array(MIN_OWNERS);
  readonly #freePlaces: number[] = [];

  /** Those that have cells. */
  readonly #outlets: MixOutlet[] = [];
  /** Of cells that leave by no link. */
  readonly inward = new MixOutlet(Number.POSITIVE_INFINITY);

  #length = 0;
  /** Most cells at once since the last trim. */
  #peak = 0;
  /** Cells that have waited and left, and for how long all together have waited until `#nowMs`, those that still do too. */
  released = 0;
  waitedMs = 0;
  #nowMs: TimeMs = 0;

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
    const places = this.#means.length * PLACE_BYTES;
    return this.#outlets.reduce((sum, outlet) => sum + outlet.memoryBytes, this.#store.memoryBytes + places);
  }

  /** Whether this owner may put in another cell. */
  hasRoom({ mixPlace }: MixOwner): boolean {
    const waiting = mixPlace < 0 ? 0 : this.#waiting[mixPlace]!;
    return waiting < OWNER_SHARE * (this.#store.capacity - this.#length);
  }

  /**
   * Stores a copy of a cell for an exponential time with the owner's mean, the same for all of its cells, until it leaves by
   * this outlet. `note` is 0 or 1. Only behind hasRoom().
   */
  push(bytes: Uint8Array, owner: MixOwner, note: number, outlet: MixOutlet, meanMs: number, nowMs: TimeMs): void {
    const slot = this.#store.take();
    if (slot < 0) throw new Error('the mix is full: push without hasRoom');
    this.#store.put(slot, bytes);
    if (owner.mixPlace < 0) this.#enlist(owner, meanMs);
    const place = owner.mixPlace;
    this.#waiting[place]!++;
    if (nowMs !== this.#nowMs) this.#passTo(nowMs);
    outlet.add(slot, (place << 1) | note, meanMs, this.#times, this.#means, nowMs);
    if (!outlet.active) {
      outlet.active = true;
      this.#outlets.push(outlet);
    }
    if (++this.#length > this.#peak) this.#peak = this.#length;
  }

  /** When release() has something to do: no cell leaves before. Infinity when none waits. */
  nextMs(): TimeMs {
    let dueMs = Number.POSITIVE_INFINITY;
    let leavableMs = Number.POSITIVE_INFINITY;
    for (const outlet of this.#outlets) {
      dueMs = Math.min(dueMs, outlet.nextMs);
      leavableMs = Math.min(leavableMs, outlet.leavableMs);
    }
    return Math.min(Math.max(dueMs, this.#gatheredMs + this.#gatherMs), Math.max(leavableMs, this.#gatheredMs));
  }

  /**
   * Hands up to `most` cells that may leave to their owners, outlet by outlet; gives how many. What release() throws comes
   * out of here, with the cell already gone; the others leave at the next call.
   */
  release(nowMs: TimeMs, most: number): number {
    if (nowMs !== this.#nowMs) this.#passTo(nowMs);
    const gathers = this.#gatheredMs + this.#gatherMs <= nowMs;
    if (gathers) this.#gatheredMs = nowMs;
    const outlets = this.#outlets;
    let count = 0;
    for (let i = 0; i < outlets.length; ) {
      const outlet = outlets[i]!;
      if (gathers && outlet.nextMs <= nowMs) outlet.passDue(this.#means, nowMs);
      const leavable = outlet.leavable(nowMs);
      const mayLeave = Math.min(leavable, most - count);
      try {
        if (mayLeave > 0) count += this.#releaseFrom(outlet, mayLeave, nowMs);
        if (mayLeave > 0 && mayLeave === leavable) outlet.startTurn(nowMs, this.#batchMs);
      } finally {
        if (outlet.empty) {
          outlet.active = false;
          outlet.trim();
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
    for (const outlet of this.#outlets) outlet.trim();
  }

  #releaseFrom(outlet: MixOutlet, most: number, nowMs: TimeMs): number {
    const store = this.#store;
    let count = 0;
    let slot = -1;
    try {
      while (count < most) {
        slot = outlet.firstSlot;
        const tag = outlet.firstTag;
        outlet.removeFirst();
        count++;
        this.#length--;
        const place = tag >>> 1;
        const owner = this.#owners[place]!;
        if (--this.#waiting[place]! === 0) this.#dismiss(owner);
        owner.release(store.view(slot), tag & 1, nowMs);
        store.give(slot);
        slot = -1;
      }
    } finally {
      if (slot >= 0) store.give(slot);
      this.released += count;
    }
    return count;
  }

  #enlist(owner: MixOwner, meanMs: number): void {
    const place = this.#freePlaces.pop() ?? this.#owners.length;
    if (place === this.#means.length) {
      this.#means = grown(this.#means, new Float64Array(2 * place));
      this.#waiting = grown(this.#waiting, new Int32Array(2 * place));
    }
    this.#owners[place] = owner;
    this.#means[place] = meanMs;
    owner.mixPlace = place;
  }

  #dismiss(owner: MixOwner): void {
    this.#owners[owner.mixPlace] = undefined;
    this.#freePlaces.push(owner.mixPlace);
    owner.mixPlace = -1;
  }

  #passTo(nowMs: TimeMs): void {
    this.waitedMs += this.#length * (nowMs - this.#nowMs);
    this.#nowMs = nowMs;
  }
}

/** The mean that a relay applies for what a set-up asks. */
export function boundedDelayMs(delayMeanUs: number): number {
  return Math.min(MAX_DELAY_MS, Math.max(MIN_DELAY_MS, delayMeanUs / 1000));
}

function grown<T extends Float64Array | Int32Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
