/**
 * Messages of a worker to the main thread, in order. To hand one over costs more than all that a relay does with a cell, and wakes
 * the main thread; so what is only told (an event that somebody may watch) goes behind the flush of the turn in which it happened,
 * and the network does not wait for it.
 */
import type { MessagePort } from 'node:worker_threads';
import type { FromPump } from './contract.ts';

export class Outbox {
  readonly #port: Pick<MessagePort, 'postMessage'>;
  readonly #isFlushDue: () => boolean;
  readonly #nextTurn: (callback: () => void) => void;
  #told: FromPump[] = [];

  /** @param isFlushDue whether there is something to flush that has not been flushed yet. */
  constructor(
    port: Pick<MessagePort, 'postMessage'>,
    isFlushDue: () => boolean,
    nextTurn: (callback: () => void) => void = setImmediate,
  ) {
    this.#port = port;
    this.#isFlushDue = isFlushDue;
    this.#nextTurn = nextTurn;
  }

  /** Now, and before it what has been told. */
  post(message: FromPump, transfer?: ArrayBuffer[]): void {
    this.#empty();
    if (transfer === undefined) this.#port.postMessage(message);
    else this.#port.postMessage(message, transfer);
  }

  /** Soon. */
  tell(message: FromPump): void {
    if (this.#told.push(message) === 1) this.#nextTurn(this.#onTurn);
  }

  /** A turn later at most: under load the next flush may always be due. */
  readonly #onTurn = (): void => {
    if (this.#isFlushDue()) this.#nextTurn(this.#empty);
    else this.#empty();
  };

  readonly #empty = (): void => {
    if (this.#told.length === 0) return;
    const told = this.#told;
    this.#told = [];
    for (const message of told) this.#port.postMessage(message);
  };
}
