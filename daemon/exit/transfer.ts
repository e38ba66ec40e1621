/** What all TCP streams of an exit share to move bytes with few copies and few system calls. */

/** One read of a socket, one write at most. */
export const transferBytes = 128 * 1024;
/** Below this a write gets a buffer of its own size: a full one held by a slow socket would waste too much. */
const smallBytes = 16 * 1024;

export interface Flushable {
  flushQueued: boolean;
  flush(): void;
}

export class Transfer {
  #queue: Flushable[] = [];
  #flushing: Flushable[] = [];
  readonly #atTurnEnd: (task: () => void) => void;
  #scheduled = false;
  #writeBuffer = Buffer.allocUnsafeSlow(transferBytes);
  readonly #readBuffer = Buffer.allocUnsafeSlow(transferBytes);

  /** `atTurnEnd` runs a task once at the end of this turn of the event loop. */
  constructor(atTurnEnd: (task: () => void) => void = setImmediate) {
    this.#atTurnEnd = atTurnEnd;
  }

  /**
   * Calls flush() once after this turn's I/O events, however often a stream is queued before: one write then carries
   * what a whole batch of datagrams brought.
   */
  queue(stream: Flushable): void {
    if (stream.flushQueued) return;
    stream.flushQueued = true;
    this.#queue.push(stream);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#atTurnEnd(this.#flushAll);
  }

  /** Where a socket's bytes land; they are gone when the socket's callback returns. */
  readBuffer(): Uint8Array {
    // libuv fills and reports the buffer in one go, except on Windows, where it lends it to the kernel in between.
    return process.platform === 'win32' ? Buffer.allocUnsafeSlow(transferBytes / 2) : this.#readBuffer;
  }

  /** A buffer for up to `sizeBytes`. Still the transfer's, unless giveWriteBuffer() is called. */
  takeWriteBuffer(sizeBytes: number): Uint8Array {
    return sizeBytes < smallBytes ? Buffer.allocUnsafe(sizeBytes) : this.#writeBuffer;
  }

  /** The socket keeps this buffer; the transfer gets itself another one. */
  giveWriteBuffer(buffer: Uint8Array): void {
    if (buffer === this.#writeBuffer) this.#writeBuffer = Buffer.allocUnsafeSlow(transferBytes);
  }

  readonly #flushAll = (): void => {
    this.#scheduled = false;
    const batch = this.#queue;
    this.#queue = this.#flushing;
    this.#flushing = batch;
    for (const stream of batch) {
      stream.flushQueued = false;
      stream.flush();
    }
    batch.length = 0;
  };
}
