/** Finished cells in the order they came, bounded: what waits for its turn on a link with one constant rate. */
import { CellStore } from './cell-store.ts';

export class CellFifo {
  readonly #store: CellStore;
  /** Ring of slots. */
  readonly #ring: Uint32Array;
  #head = 0;
  #length = 0;

  /** @param maxCells a power of two. */
  constructor(maxCells: number) {
    this.#store = new CellStore(maxCells);
    this.#ring = new Uint32Array(maxCells);
  }

  get length(): number {
    return this.#length;
  }

  get memoryBytes(): number {
    return this.#store.memoryBytes + this.#ring.byteLength;
  }

  /** Copies the cell; false = full. */
  push(bytes: Uint8Array): boolean {
    if (this.#length === this.#ring.length) return false;
    const slot = this.#store.take();
    if (slot < 0) return false;
    this.#store.put(slot, bytes);
    this.#ring[(this.#head + this.#length++) & (this.#ring.length - 1)] = slot;
    return true;
  }

  /** Moves the oldest cell into `into`; false = there is none. */
  shift(into: Uint8Array): boolean {
    if (this.#length === 0) return false;
    const slot = this.#ring[this.#head]!;
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.#length--;
    into.set(this.#store.view(slot));
    this.#store.give(slot);
    if (this.#length === 0) this.#store.trim(0);
    return true;
  }
}
