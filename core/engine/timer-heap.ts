/**
 * A binary heap of things that are due at a time. An entry knows its place, so that moving it costs O(log n)
 * and thousands of idle circuits cost nothing while they wait.
 */
import type { TimeMs } from '../ports.ts';

export interface Timed {
  dueMs: TimeMs;
  /** The entry's place in the heap; -1 = not in it. Owned by the heap. */
  heapIndex: number;
}

export class TimerHeap<T extends Timed> {
  readonly #heap: T[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** When the first entry is due; Infinity when there is none. */
  nextMs(): TimeMs {
    return this.#heap.length === 0 ? Number.POSITIVE_INFINITY : this.#heap[0]!.dueMs;
  }

  /** Inserts or moves an entry; Infinity takes it out. */
  set(entry: T, dueMs: TimeMs): void {
    if (dueMs === Number.POSITIVE_INFINITY) {
      this.remove(entry);
      return;
    }
    const before = entry.dueMs;
    entry.dueMs = dueMs;
    if (entry.heapIndex < 0) {
      entry.heapIndex = this.#heap.length;
      this.#heap.push(entry);
      this.#up(entry);
    } else if (dueMs < before) {
      this.#up(entry);
    } else if (dueMs > before) {
      this.#down(entry);
    }
  }

  remove(entry: T): void {
    const index = entry.heapIndex;
    if (index < 0) return;
    entry.heapIndex = -1;
    entry.dueMs = Number.POSITIVE_INFINITY;
    const last = this.#heap.pop()!;
    if (last === entry) return;
    this.#heap[index] = last;
    last.heapIndex = index;
    this.#up(last);
    this.#down(last);
  }

  /** Takes the first entry out if it is due at `nowMs`. */
  popDue(nowMs: TimeMs): T | undefined {
    const first = this.#heap[0];
    if (first === undefined || first.dueMs > nowMs) return undefined;
    this.remove(first);
    return first;
  }

  #up(entry: T): void {
    const heap = this.#heap;
    let index = entry.heapIndex;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = heap[parentIndex]!;
      if (parent.dueMs <= entry.dueMs) break;
      heap[index] = parent;
      parent.heapIndex = index;
      index = parentIndex;
    }
    heap[index] = entry;
    entry.heapIndex = index;
  }

  #down(entry: T): void {
    const heap = this.#heap;
    const length = heap.length;
    let index = entry.heapIndex;
    for (;;) {
      let childIndex = 2 * index + 1;
      if (childIndex >= length) break;
      if (childIndex + 1 < length && heap[childIndex + 1]!.dueMs < heap[childIndex]!.dueMs) childIndex++;
      const child = heap[childIndex]!;
      if (child.dueMs >= entry.dueMs) break;
      heap[index] = child;
      child.heapIndex = index;
      index = childIndex;
    }
    heap[index] = entry;
    entry.heapIndex = index;
  }
}
