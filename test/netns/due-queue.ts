/** What is due when, for numbers (packet slots): a binary heap without objects. Equal times leave in the order they came. */
export class DueQueue {
  readonly #atMs: Float64Array;
  readonly #order: Float64Array;
  readonly #item: Int32Array;
  #size = 0;
  #next = 0;

  constructor(capacity: number) {
    this.#atMs = new Float64Array(capacity);
    this.#order = new Float64Array(capacity);
    this.#item = new Int32Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** Of the first; Infinity = empty. */
  get nextMs(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : this.#atMs[0]!;
  }

  /** False: full, nothing added. */
  push(atMs: number, item: number): boolean {
    if (this.#size === this.#item.length) return false;
    const order = this.#next++;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(atMs, order, parent)) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#put(at, atMs, order, item);
    return true;
  }

  /** The first; −1 = empty. */
  pop(): number {
    if (this.#size === 0) return -1;
    const first = this.#item[0]!;
    const last = --this.#size;
    if (last === 0) return first;
    const atMs = this.#atMs[last]!;
    const order = this.#order[last]!;
    const item = this.#item[last]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= last) break;
      if (child + 1 < last && this.#isBefore(this.#atMs[child + 1]!, this.#order[child + 1]!, child)) child++;
      if (this.#isBefore(atMs, order, child)) break;
      this.#move(child, at);
      at = child;
    }
    this.#put(at, atMs, order, item);
    return first;
  }

  #isBefore(atMs: number, order: number, other: number): boolean {
    const otherMs = this.#atMs[other]!;
    return atMs < otherMs || (atMs === otherMs && order < this.#order[other]!);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#atMs[from]!, this.#order[from]!, this.#item[from]!);
  }

  #put(at: number, atMs: number, order: number, item: number): void {
    this.#atMs[at] = atMs;
    this.#order[at] = order;
    this.#item[at] = item;
  }
}
