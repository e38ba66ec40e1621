/** Cover on one link: when its next cell leaves, and how many have. What leaves is the engine's affair. */
import { CellFifo } from '../mix/cell-fifo.ts';
import { CoverController, type CoverOptions, PoissonProcess } from '../mix/cover.ts';
import type { Exponential } from '../mix/exponential.ts';
import type { TimeMs } from '../ports.ts';
import { DATAGRAM_BYTES } from '../wire/datagram.ts';
import type { LinkSlot } from './link-slot.ts';
import type { Timed } from './timer-heap.ts';

/** Real cells that may wait for their turn on a constant link, and from how many on our own circuits hold back. */
const MAX_QUEUED_CELLS = 128;
export const FULL_QUEUE_CELLS = 16;
/** What a stall of the process held up by more than this is left out: a burst would show. */
const MAX_CATCH_UP_MS = 50;
/** Of timers in whole milliseconds. */
const LATE_MS = 2;

export class LinkCover implements Timed {
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  readonly slot: LinkSlot;
  /** Constant mode: finished cells, not yet masked. Undefined: adaptive, real cells go their own way. */
  readonly queue: CellFifo | undefined;
  /** Cover cells sent. */
  sent = 0;
  readonly #process: PoissonProcess;
  readonly #controller: CoverController | undefined;

  private constructor(
    slot: LinkSlot,
    process: PoissonProcess,
    queue: CellFifo | undefined,
    controller: CoverController | undefined,
  ) {
    this.slot = slot;
    this.queue = queue;
    this.#process = process;
    this.#controller = controller;
  }

  static adaptive(slot: LinkSlot, options: CoverOptions, times: Exponential, nowMs: TimeMs): LinkCover {
    const process = new PoissonProcess(times);
    const realCells = slot.bytesOut / DATAGRAM_BYTES;
    return new LinkCover(slot, process, undefined, new CoverController(options, process, realCells, nowMs));
  }

  static constant(slot: LinkSlot, cellsPerSecond: number, times: Exponential, nowMs: TimeMs): LinkCover {
    const process = new PoissonProcess(times);
    process.setRate(cellsPerSecond, nowMs);
    return new LinkCover(slot, process, new CellFifo(MAX_QUEUED_CELLS), undefined);
  }

  /** Cells a second now: of cover, or of all (constant). */
  get perSecond(): number {
    return this.#process.perSecond;
  }

  get nextMs(): TimeMs {
    return Math.min(this.#process.nextMs, this.#controller?.nextMs ?? Number.POSITIVE_INFINITY);
  }

  /** When the next cell has left, and what waits for that may look again: the timer that it leaves by fires a little late. */
  get sentMs(): TimeMs {
    return this.nextMs + LATE_MS;
  }

  /** Before a turn of take(). */
  begin(nowMs: TimeMs): void {
    this.#controller?.adjust(this.slot.bytesOut / DATAGRAM_BYTES - this.sent, nowMs);
    this.#process.skipTo(nowMs - MAX_CATCH_UP_MS);
  }

  /** Whether a cell leaves now. */
  take(nowMs: TimeMs): boolean {
    return this.#process.take(nowMs);
  }
}
