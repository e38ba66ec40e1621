/**
 * A set of integers as sorted, disjoint, half-open ranges in one typed array. Growing at the high end and shrinking
 * at the low end are O(1); anything else is a binary search and one memmove, bounded by `maxRanges`.
 */
export class RangeSet {
  #bounds: Float64Array;
  #first = 0;
  #count = 0;
  readonly #maxRanges: number;

  /** With more than `maxRanges` ranges the lowest are forgotten; see also wouldGrow(). */
  constructor(maxRanges: number) {
    this.#maxRanges = maxRanges;
    this.#bounds = EMPTY;
  }

  get count(): number {
    return this.#count;
  }

  startAt(index: number): number {
    return this.#bounds[(this.#first + index) * 2]!;
  }

  /** Behind the last member of the range. */
  endAt(index: number): number {
    return this.#bounds[(this.#first + index) * 2 + 1]!;
  }

  /** Bytes of the array behind it. */
  get memoryBytes(): number {
    return this.#bounds.byteLength;
  }

  /** Gives memory back that is not needed now. */
  compact(): void {
    if (this.#count * 4 >= this.#bounds.length / 2 || this.#bounds.length <= 16) return;
    const base = this.#first * 2;
    this.#bounds = this.#bounds.slice(base, base + this.#count * 2);
    this.#first = 0;
  }

  clear(): void {
    this.#bounds = EMPTY;
    this.#first = 0;
    this.#count = 0;
  }

  /** Index of the first range that ends behind `value` (it contains `value` or starts later); `count` if none. */
  indexAfter(value: number): number {
    const last = this.#count - 1;
    if (last < 0 || this.endAt(last) <= value) return this.#count;
    if (this.startAt(last) <= value) return last;
    let low = 0;
    let high = last;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.endAt(middle) > value) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  has(value: number): boolean {
    const index = this.indexAfter(value);
    return index < this.#count && this.startAt(index) <= value;
  }

  /** True when inserting [start, end) would need one range more than `maxRanges`. */
  wouldOverflow(start: number, end: number): boolean {
    if (this.#count < this.#maxRanges) return false;
    const index = this.indexAfter(start - 1);
    return index >= this.#count || this.startAt(index) > end;
  }

  /** Adds [start, end). */
  insert(start: number, end: number): void {
    if (start >= end) return;
    // First range that overlaps or touches, and the first one that lies wholly behind.
    const from = this.indexAfter(start - 1);
    if (from === this.#count) {
      this.#append(start, end);
      return;
    }
    let to = from;
    while (to < this.#count && this.startAt(to) <= end) to++;
    if (to === from) {
      this.#open(from);
      this.#set(from, start, end);
    } else {
      this.#set(from, Math.min(start, this.startAt(from)), Math.max(end, this.endAt(to - 1)));
      this.#erase(from + 1, to);
    }
    this.#trim();
  }

  /** Takes [start, end) out. */
  remove(start: number, end: number): void {
    if (start >= end) return;
    let from = this.indexAfter(start);
    if (from === this.#count || this.startAt(from) >= end) return;
    if (this.startAt(from) < start) {
      const rangeEnd = this.endAt(from);
      this.#bounds[(this.#first + from) * 2 + 1] = start;
      from++;
      if (rangeEnd > end) {
        this.#open(from);
        this.#set(from, end, rangeEnd);
        this.#trim();
        return;
      }
    }
    let to = from;
    while (to < this.#count && this.endAt(to) <= end) to++;
    if (to < this.#count && this.startAt(to) < end) this.#bounds[(this.#first + to) * 2] = end;
    this.#erase(from, to);
  }

  /** Takes everything below `value` out. */
  removeBelow(value: number): void {
    while (this.#count > 0 && this.endAt(0) <= value) {
      this.#first++;
      this.#count--;
    }
    if (this.#count === 0) this.#first = 0;
    else if (this.startAt(0) < value) this.#bounds[this.#first * 2] = value;
  }

  #set(index: number, start: number, end: number): void {
    const at = (this.#first + index) * 2;
    this.#bounds[at] = start;
    this.#bounds[at + 1] = end;
  }

  #append(start: number, end: number): void {
    this.#reserve();
    this.#set(this.#count, start, end);
    this.#count++;
    this.#trim();
  }

  /** Makes a hole for one range at `index`. */
  #open(index: number): void {
    this.#reserve();
    const base = this.#first * 2;
    this.#bounds.copyWithin(base + index * 2 + 2, base + index * 2, base + this.#count * 2);
    this.#count++;
  }

  #erase(from: number, to: number): void {
    if (from >= to) return;
    const base = this.#first * 2;
    this.#bounds.copyWithin(base + from * 2, base + to * 2, base + this.#count * 2);
    this.#count -= to - from;
  }

  #trim(): void {
    while (this.#count > this.#maxRanges) {
      this.#first++;
      this.#count--;
    }
  }

  /** Room for one range more behind the last. */
  #reserve(): void {
    const capacity = this.#bounds.length / 2;
    if (this.#first + this.#count < capacity) return;
    const base = this.#first * 2;
    // Moving down is paid for by the quarter of the array that was used up since the last time.
    if (this.#first > capacity / 4) {
      this.#bounds.copyWithin(0, base, base + this.#count * 2);
    } else {
      const grown = new Float64Array(Math.max(8, this.#bounds.length * 2));
      grown.set(this.#bounds.subarray(base, base + this.#count * 2));
      this.#bounds = grown;
    }
    this.#first = 0;
  }
}

const EMPTY = new Float64Array(0);
