/**
 * Room for waiting datagrams: slots of 1280 bytes in slabs that come when they are needed and go when they are empty.
 * The slot that was given back last is taken first: its memory is still in the cache. When there is more memory than is
 * needed, the lowest slabs' slots are taken first for a while, so that the upper ones run empty and can be given back.
 *
 * What has waited for some milliseconds has left the cache. A view kept for each slot would have left it too, and its
 * two lines had to come back before those of the cell: making one anew for the moment that it is needed takes less.
 */
import { DATAGRAM_BYTES } from '../wire/datagram.ts';

const SLAB_BITS = 8;
const SLAB_CELLS = 1 << SLAB_BITS;
const SLAB_MASK = SLAB_CELLS - 1;
const SLAB_BYTES = SLAB_CELLS * DATAGRAM_BYTES;
const NO_SLOTS = new Int32Array(0);

interface Slab {
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
}

export class CellStore {
  readonly #slabs: (Slab | undefined)[] = [];
  readonly #maxSlabs: number;
  #allocated = 0;
  /** Free slots of the slabs that there are, as a stack. */
  #free = NO_SLOTS;
  #freeCount = 0;

  /** @param maxCells rounded up to whole slabs of 256. */
  constructor(maxCells: number) {
    this.#maxSlabs = Math.max(1, Math.ceil(maxCells / SLAB_CELLS));
  }

  get capacity(): number {
    return this.#maxSlabs * SLAB_CELLS;
  }

  get memoryBytes(): number {
    return this.#allocated * SLAB_BYTES + this.#free.byteLength;
  }

  /** A free slot; -1 = there is none. */
  take(): number {
    if (this.#freeCount === 0 && !this.#addSlab()) return -1;
    return this.#free[--this.#freeCount]!;
  }

  /** Copies 1280 bytes into a slot in use. */
  put(slot: number, bytes: Uint8Array): void {
    this.#slabs[slot >>> SLAB_BITS]!.bytes.set(bytes, (slot & SLAB_MASK) * DATAGRAM_BYTES);
  }

  /** The 1280 bytes of a slot in use. Until it is given back. */
  view(slot: number): Uint8Array {
    const { buffer } = this.#slabs[slot >>> SLAB_BITS]!;
    return new Uint8Array(buffer, (slot & SLAB_MASK) * DATAGRAM_BYTES, DATAGRAM_BYTES);
  }

  give(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }

  /** Gives empty slabs back as long as room for `keepCells` is left, and has the others run empty. Call every second or so. */
  trim(keepCells: number): void {
    const keep = Math.max(1, Math.ceil(keepCells / SLAB_CELLS));
    if (this.#allocated <= keep) return;
    const slots = this.#free.slice(0, this.#freeCount);
    const counts = new Uint16Array(this.#slabs.length);
    for (const slot of slots) counts[slot >>> SLAB_BITS]!++;
    // Where each slab's slots go: those of the lowest one to the end, which is the top of the stack.
    const places = new Int32Array(this.#slabs.length);
    this.#freeCount = 0;
    for (let index = this.#slabs.length - 1; index >= 0; index--) {
      if (counts[index] === SLAB_CELLS && this.#allocated > keep) {
        this.#slabs[index] = undefined;
        this.#allocated--;
        continue;
      }
      places[index] = this.#freeCount;
      this.#freeCount += counts[index]!;
    }
    if (this.#free.length > 4 * this.#allocated * SLAB_CELLS) {
      this.#free = new Int32Array(this.#allocated * SLAB_CELLS);
    }
    for (const slot of slots) {
      const index = slot >>> SLAB_BITS;
      if (this.#slabs[index] !== undefined) this.#free[places[index]!++] = slot;
    }
  }

  #addSlab(): boolean {
    if (this.#allocated === this.#maxSlabs) return false;
    let index = this.#slabs.indexOf(undefined);
    if (index < 0) index = this.#slabs.length;
    const buffer = new ArrayBuffer(SLAB_BYTES);
    this.#slabs[index] = { buffer, bytes: new Uint8Array(buffer) };
    this.#allocated++;
    if (this.#free.length < this.#allocated * SLAB_CELLS) this.#free = new Int32Array(2 * this.#allocated * SLAB_CELLS);
    for (let place = SLAB_MASK; place >= 0; place--) this.#free[this.#freeCount++] = (index << SLAB_BITS) | place;
    return true;
  }
}
