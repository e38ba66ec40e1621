/** The sending half of a reliable byte stream: what was written, what is acknowledged, what was lost. */
import { ByteWindow } from './byte-window.ts';
import { RangeSet } from './ranges.ts';

/** More ranges than a session has packets in flight in practice; beyond it the lowest are simply sent again. */
const MAX_RANGES = 16_384;

export class SendBuffer {
  readonly bytes = new ByteWindow();
  /** Everything below is acknowledged. */
  base = 0;
  /** Everything below was sent at least once. */
  next = 0;
  /** Everything below was written. */
  tail = 0;
  /** No more writes: `tail` is the final size. */
  ended = false;
  /** The FIN has yet to be sent (again). */
  finPending = false;
  finAcked = false;
  /** Acknowledged ranges above `base`. */
  #acked: RangeSet | undefined;
  /** Ranges below `next` to send again. */
  #lost: RangeSet | undefined;

  get unackedBytes(): number {
    return this.tail - this.base;
  }

  /** All bytes and the FIN are acknowledged. */
  get done(): boolean {
    return this.finAcked && this.base === this.tail;
  }

  get hasLost(): boolean {
    return this.#lost !== undefined && this.#lost.count > 0;
  }

  get heldBytes(): number {
    return this.bytes.heldBytes;
  }

  write(data: Uint8Array, length: number): void {
    this.bytes.put(this.tail, data, 0, length);
    this.tail += length;
  }

  end(): void {
    this.ended = true;
    this.finPending = true;
  }

  /** Start of the lowest range to send again. Only with hasLost. */
  get lostStart(): number {
    return this.#lost!.startAt(0);
  }

  get lostLength(): number {
    return this.#lost!.endAt(0) - this.#lost!.startAt(0);
  }

  /** [start, start + length) from the lowest lost range is being sent again. */
  takeLost(length: number): void {
    this.#lost!.removeBelow(this.lostStart + length);
  }

  /** Returns the bytes newly acknowledged. */
  onAcked(offset: number, length: number, fin: boolean): number {
    if (fin) {
      this.finAcked = true;
      this.finPending = false;
    }
    const start = Math.max(offset, this.base);
    const end = offset + length;
    if (start >= end) return 0;
    if (this.hasLost) this.#lost!.remove(start, end);
    const acked = this.#acked;
    if (start === this.base && (acked === undefined || acked.count === 0)) {
      this.#advance(end);
      return end - start;
    }
    const set = acked ?? new RangeSet(MAX_RANGES);
    this.#acked = set;
    let known = 0;
    for (let i = set.indexAfter(start); i < set.count && set.startAt(i) < end; i++) {
      known += Math.min(end, set.endAt(i)) - Math.max(start, set.startAt(i));
    }
    set.insert(start, end);
    if (set.startAt(0) <= this.base) {
      const base = set.endAt(0);
      set.removeBelow(base);
      this.#advance(base);
    }
    return end - start - known;
  }

  /** The first byte of [offset, end) that is not acknowledged; `end`: all are. */
  unackedFrom(offset: number, end: number): number {
    let at = Math.min(end, Math.max(offset, this.base));
    const acked = this.#acked;
    if (acked !== undefined && at < end) {
      const i = acked.indexAfter(at);
      if (i < acked.count && acked.startAt(i) <= at) at = Math.min(end, acked.endAt(i));
    }
    return at;
  }

  /** Notes what of a lost frame is not acknowledged by now. Returns the bytes to send again. */
  onLost(offset: number, length: number, fin: boolean): number {
    if (fin && !this.finAcked) this.finPending = true;
    const end = offset + length;
    let at = Math.max(offset, this.base);
    if (at >= end) return 0;
    this.#lost ??= new RangeSet(MAX_RANGES);
    const acked = this.#acked;
    if (acked === undefined || acked.count === 0) {
      this.#lost.insert(at, end);
      return end - at;
    }
    let again = 0;
    for (let i = acked.indexAfter(at); at < end; i++) {
      const gapEnd = i < acked.count ? Math.min(end, acked.startAt(i)) : end;
      if (gapEnd > at) {
        this.#lost.insert(at, gapEnd);
        again += gapEnd - at;
      }
      at = i < acked.count ? Math.max(at, acked.endAt(i)) : end;
    }
    return again;
  }

  /** Forgets all data: the stream was reset, and is never done in the sense of delivered. */
  clear(): void {
    this.finAcked = false;
    this.bytes.clear();
    this.#acked = undefined;
    this.#lost = undefined;
    this.finPending = false;
    this.base = this.next;
    this.tail = this.next;
  }

  #advance(base: number): void {
    this.base = base;
    if (base === this.tail) {
      this.bytes.clear();
      this.#acked = undefined;
      this.#lost = undefined;
    } else {
      this.bytes.discardBelow(base);
    }
  }
}
