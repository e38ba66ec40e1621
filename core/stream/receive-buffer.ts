/** The receiving half of a reliable byte stream: reassembly inside the window that was granted. */
import { ByteWindow } from './byte-window.ts';
import { RangeSet } from './ranges.ts';

/**
 * Holes a sender may leave. An honest one has a few per lost packet; beyond it a frame is refused and its packet not
 * acknowledged, so the sender repeats it when the holes are filled.
 */
const MAX_HOLES = 2048;

export const Received = { ok: 0, beyondLimit: 1, badFinalSize: 2, tooManyHoles: 3 } as const;
export type Received = (typeof Received)[keyof typeof Received];

export class ReceiveBuffer {
  readonly bytes = new ByteWindow();
  /** Everything below was read. */
  readOffset = 0;
  /** Everything below has arrived. */
  contiguous = 0;
  /** Behind the last byte that has arrived: what flow control counts. */
  highest = 0;
  /** Known from FIN or RESET; −1 before. */
  finalSize = -1;
  /** Ranges above `contiguous` that have arrived. */
  #ahead: RangeSet | undefined;

  get readableBytes(): number {
    return this.contiguous - this.readOffset;
  }

  /** All bytes up to the FIN have been read. */
  get ended(): boolean {
    return this.finalSize === this.readOffset;
  }

  get heldBytes(): number {
    return this.bytes.heldBytes;
  }

  /** `source[from, from + length)` belongs at `offset`; nothing may lie at or above `limit`. */
  receive(offset: number, source: Uint8Array, from: number, length: number, fin: boolean, limit: number): Received {
    const end = offset + length;
    if (end > limit) return Received.beyondLimit;
    if (this.finalSize >= 0 ? end > this.finalSize || (fin && end !== this.finalSize) : fin && end < this.highest) {
      return Received.badFinalSize;
    }
    const ahead = this.#ahead;
    if (length === 0) {
      // A FIN alone brings no bytes: what is missing below it stays missing.
    } else if (offset > this.contiguous) {
      const set = ahead ?? new RangeSet(MAX_HOLES);
      if (set.wouldOverflow(offset, end)) return Received.tooManyHoles;
      this.#ahead = set;
      this.bytes.put(offset, source, from, length);
      set.insert(offset, end);
    } else if (end > this.contiguous) {
      const skip = this.contiguous - offset;
      this.bytes.put(this.contiguous, source, from + skip, length - skip);
      this.contiguous = end;
      if (ahead !== undefined && ahead.count > 0 && ahead.startAt(0) <= end) this.#join(ahead);
    }
    if (end > this.highest) this.highest = end;
    if (fin) this.finalSize = end;
    return Received.ok;
  }

  /** Copies what is contiguous into `into` and frees it; returns the number of bytes. */
  read(into: Uint8Array): number {
    const length = Math.min(into.length, this.contiguous - this.readOffset);
    if (length === 0) return 0;
    this.bytes.copy(this.readOffset, into, 0, length);
    this.readOffset += length;
    if (this.readOffset === this.highest) this.bytes.clear();
    else this.bytes.discardBelow(this.readOffset);
    return length;
  }

  /** Forgets all data: the stream was reset. What was not read counts as read. */
  clear(): void {
    this.bytes.clear();
    this.#ahead = undefined;
    this.contiguous = this.highest;
    this.readOffset = this.highest;
  }

  #join(ahead: RangeSet): void {
    ahead.removeBelow(this.contiguous);
    if (ahead.count > 0 && ahead.startAt(0) === this.contiguous) {
      this.contiguous = ahead.endAt(0);
      ahead.removeBelow(this.contiguous);
    }
    if (ahead.count === 0) this.#ahead = undefined;
  }
}
