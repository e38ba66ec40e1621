/** What streams have to tell their owners: given when the session is consistent, never in the middle of a payload. */
import { type Stream, StreamEvent } from './stream.ts';

export class StreamEvents {
  readonly #queue: Stream[] = [];
  #dispatching = false;

  get pending(): boolean {
    return this.#queue.length > 0;
  }

  add(stream: Stream, event: number): void {
    if (stream.events === 0) this.#queue.push(stream);
    stream.events |= event;
  }

  /** Gives the callbacks that are due; those may call anything, and what that causes is given here too. */
  dispatch(): void {
    if (this.#dispatching || this.#queue.length === 0) return;
    this.#dispatching = true;
    for (let i = 0; i < this.#queue.length; i++) {
      const stream = this.#queue[i]!;
      const { events } = stream;
      stream.events = 0;
      tell(stream, events);
    }
    this.#queue.length = 0;
    this.#dispatching = false;
  }
}

function tell(stream: Stream, events: number): void {
  if (!stream.opened || stream.closeTold) return;
  const from = stream.connectedFrom;
  if ((events & StreamEvent.connected) !== 0 && from !== undefined && !stream.aborted) {
    stream.onConnected?.(from.family, from.address, from.port);
  }
  if ((events & StreamEvent.readable) !== 0 && !stream.aborted) stream.onReadable?.();
  if ((events & StreamEvent.writable) !== 0 && !stream.aborted) stream.onWritable?.();
  if ((events & StreamEvent.closed) !== 0 && !stream.closeTold) {
    stream.closeTold = true;
    stream.onClose?.(stream.closeCode, stream.closeRemote);
  }
}
