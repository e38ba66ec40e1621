/**
 * Room for waiting datagrams: slots of 1280 bytes in slabs that come when they are needed and go when they are empty.
 * Of all free slots the one in the lowest slab is taken first: after a burst the upper slabs run empty and can be given
 * back. Within a slab it is the one that was given back last, whose memory is still in the cache.
 *
 * What has waited for some milliseconds has left the cache. A view kept for each slot would have left it too, and its
 * two lines had to come back before those of the cell: making one anew for the moment that it is needed takes less.
 */
import { DATAGRAM_BYTES } from '../wire/datagram.ts';

const SLAB_BITS = 8;
const SLAB_CELLS = 1 << SLAB_BITS;
const SLAB_MASK = SLAB_CELLS - 1;
const SLAB_BYTES = SLAB_CELLS * DATAGRAM_BYTES;

interface Slab {
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
  /** Free places, as a stack. */
  readonly free: Uint16Array;
  freeCount: number;
}

export class CellStore {
  readonly #slabs: (Slab | undefined)[] = [];
  /** One bit per slab: it has a free place (or does not exist). */
  readonly #roomy: Uint32Array;
  readonly #maxSlabs: number;
  #allocated = 0;
  #used = 0;

  /** @param maxCells rounded up to whole slabs of 256. */
  constructor(maxCells: number) {
    this.#maxSlabs = Math.max(1, Math.ceil(maxCells / SLAB_CELLS));
    this.#roomy = new Uint32Array(Math.ceil(this.#maxSlabs / 32));
    for (let i = 0; i < this.#maxSlabs; i++) this.#roomy[i >>> 5]! |= 1 << (i & 31);
  }

  get used(): number {
    return this.#used;
  }

  get capacity(): number {
    return this.#maxSlabs * SLAB_CELLS;
  }

  get memoryBytes(): number {
    return this.#allocated * SLAB_BYTES;
  }

  /** A free slot; -1 = there is none. */
  take(): number {
    const index = this.#lowestRoomy();
    if (index < 0) return -1;
    const slab = this.#slabs[index] ?? this.#add(index);
    const place = slab.free[--slab.freeCount]!;
    if (slab.freeCount === 0) this.#roomy[index >>> 5]! &= ~(1 << (index & 31));
    this.#used++;
    return (index << SLAB_BITS) | place;
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
    const index = slot >>> SLAB_BITS;
    const slab = this.#slabs[index]!;
    slab.free[slab.freeCount++] = slot & SLAB_MASK;
    this.#roomy[index >>> 5]! |= 1 << (index & 31);
    this.#used--;
  }

  /** Gives empty slabs back as long as room for `keepCells` is left. Call now and then. */
  trim(keepCells: number): void {
    const keep = Math.max(1, Math.ceil(keepCells / SLAB_CELLS));
    for (let i = this.#slabs.length - 1; i >= 0 && this.#allocated > keep; i--) {
      if (this.#slabs[i]?.freeCount !== SLAB_CELLS) continue;
      this.#slabs[i] = undefined;
      this.#allocated--;
    }
  }

  #add(index: number): Slab {
    const buffer = new ArrayBuffer(SLAB_BYTES);
    const slab: Slab = {
      buffer,
      bytes: new Uint8Array(buffer),
      free: Uint16Array.from({ length: SLAB_CELLS }, (_, i) => SLAB_MASK - i),
      freeCount: SLAB_CELLS,
    };
    this.#slabs[index] = slab;
    this.#allocated++;
    return slab;
  }

  #lowestRoomy(): number {
    const roomy = this.#roomy;
    for (let i = 0; i < roomy.length; i++) {
      const word = roomy[i]!;
      if (word !== 0) return i * 32 + (31 - Math.clz32(word & -word));
    }
    return -1;
  }
}
