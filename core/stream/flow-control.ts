/** Flow control of the session: what may be sent and received over all streams together, and how far windows grow. */
import { Control, type SessionCore } from './session-core.ts';
import { INITIAL_SESSION_WINDOW_BYTES, INITIAL_STREAM_WINDOW_BYTES } from './session-options.ts';
import type { Stream } from './stream.ts';

/** Streams for which a first window is kept free, whatever the others have grown to. */
const RESERVED_STREAMS = 8;
/** Each time a window is announced: where packets get lost, a reader on a long line has few occasions. */
const WINDOW_GROWTH = 4;

export class FlowControl {
  /** What the peer lets us send, and what we have sent. */
  sendMax = INITIAL_SESSION_WINDOW_BYTES;
  sentBytes = 0;
  /** A new stream's first window at the peer. */
  peerStreamWindow = INITIAL_STREAM_WINDOW_BYTES;
  /** What we let the peer send, and what it has sent. */
  receiveMax: number;
  receivedBytes = 0;
  readonly windowBytes: number;
  readonly #core: SessionCore;
  #consumedBytes = 0;
  /** Sum over the streams of what their windows have grown beyond the first one. */
  #extraWindow = 0;

  constructor(core: SessionCore) {
    this.#core = core;
    this.windowBytes = Math.max(INITIAL_SESSION_WINDOW_BYTES, core.options.sessionWindowBytes);
    this.receiveMax = this.windowBytes;
  }

  /** Fresh stream data may go out. */
  get hasCredit(): boolean {
    return this.sentBytes < this.sendMax;
  }

  /** The application has read, or will never read, so many bytes. */
  consume(length: number): void {
    this.#consumedBytes += length;
    if (this.#consumedBytes + this.windowBytes - this.receiveMax >= this.windowBytes / 4) {
      this.#core.want(Control.maxData);
    }
  }

  /** The limit to announce now. */
  raiseReceiveMax(): number {
    this.receiveMax = this.#consumedBytes + this.windowBytes;
    return this.receiveMax;
  }

  /**
   * A reader that keeps up gets a larger window, up to the option's maximum and half of what the session has left
   * when every stream and a few new ones have their first window: readers that then stop can't take everything.
   */
  growWindow(stream: Stream, streams: number): void {
    const { sessionWindowBytes, streamWindowBytes } = this.#core.options;
    const base = INITIAL_STREAM_WINDOW_BYTES;
    const extra = stream.windowBytes - base;
    const firstWindows = base * (streams + RESERVED_STREAMS);
    const spare = (sessionWindowBytes - firstWindows - (this.#extraWindow - extra)) / 2;
    const wanted = Math.min(WINDOW_GROWTH * stream.windowBytes, streamWindowBytes);
    const window = Math.max(base, Math.min(wanted, base + Math.floor(spare)));
    this.#extraWindow += window - stream.windowBytes;
    stream.windowBytes = window;
  }

  /** The stream is over. */
  forgetWindow(stream: Stream): void {
    this.#extraWindow -= stream.windowBytes - INITIAL_STREAM_WINDOW_BYTES;
  }
}
