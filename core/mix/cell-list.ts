/**
 * What is known of waiting cells besides their bytes: slots in a CellStore, each with a tag that its user gives. Both lie
 * side by side, on one line of the cache.
 */
const FIELD_BITS = 1;
const FIELDS = 1 << FIELD_BITS;
const MIN_CELLS = 32;
const NO_CELLS = new Int32Array(0);

export class CellList {
  #cells = NO_CELLS;
  /** Where the first one is: those before have been taken. */
  #head = 0;
  #tail = 0;

  get count(): number {
    return (this.#tail - this.#head) >> FIELD_BITS;
  }

  get memoryBytes(): number {
    return this.#cells.byteLength;
  }

  add(slot: number, tag: number): void {
    if (this.#tail === this.#cells.length) this.#makeRoom();
    this.#cells[this.#tail] = slot;
    this.#cells[this.#tail + 1] = tag;
    this.#tail += FIELDS;
  }

  /** Place 0 … count − 1. */
  slotAt(place: number): number {
    return this.#cells[this.#head + FIELDS * place]!;
  }

  tagAt(place: number): number {
    return this.#cells[this.#head + FIELDS * place + 1]!;
  }

  /** Takes one out; the last one takes its place. */
  remove(place: number): void {
    const at = this.#head + FIELDS * place;
    this.#tail -= FIELDS;
    this.#cells[at] = this.#cells[this.#tail]!;
    this.#cells[at + 1] = this.#cells[this.#tail + 1]!;
  }

  /** Takes the first one out; the others keep their order. */
  removeFirst(): void {
    this.#head += FIELDS;
    if (this.#head === this.#tail) this.#head = this.#tail = 0;
  }

  /** Gives back memory far beyond what it needs; the least that it takes stays, so that a few cells now and then allocate nothing. */
  trim(): void {
    const needed = FIELDS * Math.max(MIN_CELLS, 2 * this.count);
    if (this.#cells.length > 2 * needed) this.#moveTo(new Int32Array(needed));
  }

  #makeRoom(): void {
    const { count } = this;
    // Where more than half of it has been taken, moving the rest to the front is enough.
    const isFull = 2 * FIELDS * count >= this.#cells.length;
    this.#moveTo(isFull ? new Int32Array(FIELDS * Math.max(MIN_CELLS, 2 * count)) : this.#cells);
  }

  #moveTo(cells: Int32Array<ArrayBuffer>): void {
    cells.set(this.#cells.subarray(this.#head, this.#tail));
    this.#cells = cells;
    this.#tail -= this.#head;
    this.#head = 0;
  }
}
