/**
 * Outgoing datagrams, gathered by next hop: each link fills a batch of up to 51 cells that leaves as one GSO send.
 * A batch's buffer and its views are made once and go round: filled here, sent by the host, released back.
 */
import type { PeerAddress } from '../ports.ts';
import { BATCH_DATAGRAMS, CellBuffer, DATAGRAM_BYTES } from '../wire/datagram.ts';
import type { Via } from './contract.ts';

type Send = (via: Via, to: PeerAddress, batch: Uint8Array, length: number, release: () => void) => void;

class Batch {
  readonly bytes = new Uint8Array(BATCH_DATAGRAMS * DATAGRAM_BYTES);
  readonly #cells: CellBuffer[] = [];
  readonly release: () => void;
  count = 0;

  constructor(pool: BatchPool) {
    this.release = () => pool.put(this);
  }

  /** Views come into being as far as a batch has ever been filled: most carry few cells. */
  cell(index: number): CellBuffer {
    let cell = this.#cells[index];
    if (cell === undefined) {
      cell = new CellBuffer(this.bytes.buffer, index * DATAGRAM_BYTES);
      this.#cells.push(cell);
    }
    return cell;
  }
}

export class BatchPool {
  readonly #free: Batch[] = [];
  readonly #keep: number;
  #outstanding = 0;

  /** @param keep batches kept for reuse; more than that are left to the collector once a burst is over. */
  constructor(keep = 64) {
    this.#keep = keep;
  }

  take(): Batch {
    this.#outstanding++;
    const batch = this.#free.pop() ?? new Batch(this);
    batch.count = 0;
    return batch;
  }

  put(batch: Batch): void {
    this.#outstanding--;
    if (this.#free.length < this.#keep) this.#free.push(batch);
  }

  /** Bytes of batches that are being filled or sent. */
  get outstandingBytes(): number {
    return this.#outstanding * BATCH_DATAGRAMS * DATAGRAM_BYTES;
  }
}

/** One link's outgoing batch. */
export class Egress {
  readonly #pool: BatchPool;
  readonly #send: Send;
  #batch: Batch | undefined;

  constructor(pool: BatchPool, send: Send) {
    this.#pool = pool;
    this.#send = send;
  }

  /** Where the next cell has to be written. Nothing is sent unless commit() follows. */
  peek(): CellBuffer {
    this.#batch ??= this.#pool.take();
    return this.#batch.cell(this.#batch.count);
  }

  /** The cell from peek() is complete. A full batch leaves at once. */
  commit(via: Via, to: PeerAddress): void {
    const batch = this.#batch!;
    batch.count++;
    if (batch.count === BATCH_DATAGRAMS) this.flush(via, to);
  }

  flush(via: Via, to: PeerAddress): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    this.#batch = undefined;
    if (batch.count === 0) batch.release();
    else this.#send(via, to, batch.bytes, batch.count * DATAGRAM_BYTES, batch.release);
  }
}
