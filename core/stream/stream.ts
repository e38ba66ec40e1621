/** One stream of a session: both buffers, their flow-control limits, and what its owner is to be told. */
import type { SessionStream, StreamStats, StreamTarget } from './contract.ts';
import { ListNode } from './linked-list.ts';
import { ReceiveBuffer } from './receive-buffer.ts';
import { SendBuffer } from './send-buffer.ts';

/** Control frames of a stream that wait to be sent. */
export const StreamControl = { connect: 1, connected: 2, reset: 4, stop: 8, maxStreamData: 16 } as const;

/** What the owner has yet to be told. */
export const StreamEvent = { connected: 1, readable: 2, writable: 4, closed: 8 } as const;

/** onWritable comes when this much room (or a quarter of the buffer) is free again. */
const WRITABLE_BYTES = 65_536;

/** What a stream needs of its session. */
export interface StreamOwner {
  readonly sendBufferBytes: number;
  /** Streams whose writer was turned away and waits. */
  blockedWriters: number;
  /** Something to send may have come up, or gone. */
  update(stream: Stream): void;
  onRead(stream: Stream, length: number): void;
  resetStream(stream: Stream, code: number): void;
}

export interface ConnectedFrom {
  readonly family: 4 | 6;
  readonly address: string;
  readonly port: number;
}

const NO_TARGET: StreamTarget = { kind: 'tcp', host: '', port: 0 };

export class Stream implements SessionStream {
  readonly id: number;
  target: StreamTarget = NO_TARGET;
  onConnected: SessionStream['onConnected'];
  onReadable: SessionStream['onReadable'];
  onWritable: SessionStream['onWritable'];
  onClose: SessionStream['onClose'];

  // For the session only, from here on.
  readonly send = new SendBuffer();
  readonly receive = new ReceiveBuffer();
  readonly controlNode = new ListNode<Stream>(this);
  /** Lost data or a lone FIN: needs no flow-control credit. */
  readonly urgentNode = new ListNode<Stream>(this);
  readonly freshNode = new ListNode<Stream>(this);
  /** The owner knows of it (server: CONNECT has arrived). */
  opened = false;
  /** What the peer lets us send, and what we have let it send. */
  sendLimit: number;
  receiveLimit: number;
  /** Size of the receive window: grows while the owner reads. */
  windowBytes: number;
  /** There is fresh data, and it runs as far ahead as it may. */
  held = false;
  control = 0;
  controlAcked = 0;
  events = 0;
  /** Abandoned by someone: nothing is written or delivered any more. */
  aborted = false;
  /** Code of our RESET; −1 = none. */
  resetCode = -1;
  closeCode = 0;
  closeRemote = false;
  closeTold = false;
  connectedFrom: ConnectedFrom | undefined;
  bytesAcked = 0;
  bytesRetransmitted = 0;
  readonly #openedAtMs: number;
  readonly #owner: StreamOwner;
  #written = 0;
  #writeBlocked = false;

  constructor(id: number, owner: StreamOwner, sendLimit: number, windowBytes: number, nowMs: number) {
    this.id = id;
    this.#owner = owner;
    this.sendLimit = sendLimit;
    this.receiveLimit = windowBytes;
    this.windowBytes = windowBytes;
    this.#openedAtMs = nowMs;
  }

  write(data: Uint8Array): number {
    const { send } = this;
    if (this.aborted || send.ended || data.length === 0) return 0;
    const length = Math.min(data.length, this.#owner.sendBufferBytes - send.unackedBytes);
    if (length < data.length && !this.#writeBlocked) {
      this.#writeBlocked = true;
      this.#owner.blockedWriters++;
    }
    if (length <= 0) return 0;
    send.write(data, length);
    this.#written += length;
    this.#owner.update(this);
    return length;
  }

  end(): void {
    if (this.aborted || this.send.ended) return;
    this.send.end();
    this.#owner.update(this);
  }

  read(into: Uint8Array): number {
    if (this.aborted) return 0;
    const length = this.receive.read(into);
    if (length > 0) this.#owner.onRead(this, length);
    return length;
  }

  get readableBytes(): number {
    return this.aborted ? 0 : this.receive.readableBytes;
  }

  get readEnded(): boolean {
    return !this.aborted && this.receive.ended;
  }

  reset(code: number): void {
    if (!this.aborted && !this.closeTold) this.#owner.resetStream(this, code);
  }

  connected(family: 4 | 6, address: string, port: number): void {
    if (this.aborted || this.connectedFrom !== undefined) return;
    this.connectedFrom = { family, address, port };
    this.control |= StreamControl.connected;
    this.#owner.update(this);
  }

  get stats(): StreamStats {
    return {
      bytesWritten: this.#written,
      bytesAcked: this.bytesAcked,
      bytesReceived: this.receive.highest,
      bytesRetransmitted: this.bytesRetransmitted,
      openedAtMs: this.#openedAtMs,
    };
  }

  /** True once when a writer that was turned away may try again. */
  takeWritable(): boolean {
    if (!this.#writeBlocked) return false;
    const { sendBufferBytes } = this.#owner;
    const free = sendBufferBytes - this.send.unackedBytes;
    if (free < Math.min(WRITABLE_BYTES, sendBufferBytes / 4)) return false;
    this.forgetWriter();
    return true;
  }

  /** Nobody waits to write any more. */
  forgetWriter(): void {
    if (this.#writeBlocked) this.#owner.blockedWriters--;
    this.#writeBlocked = false;
  }

  get heldBytes(): number {
    return this.send.heldBytes + this.receive.heldBytes;
  }

  /** Our direction is over: everything acknowledged, or the RESET. */
  get sendDone(): boolean {
    return this.send.done || (this.controlAcked & StreamControl.reset) !== 0;
  }

  /** The peer's direction is over for us. */
  get receiveDone(): boolean {
    return this.aborted ? this.receive.finalSize >= 0 : this.receive.ended;
  }
}
