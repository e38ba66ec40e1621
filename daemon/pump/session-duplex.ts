/**
 * A session's stream as a Node Duplex: back-pressure both ways, half-close, reset. Used by the proxies and the API
 * bridge on the client's side and by the exit on the other.
 *
 * Way of a byte to the reader: the session calls onReadable once per payload (1 KiB); the duplex answers once per turn
 * of the event loop and takes everything that has come by then in chunks as large as possible, because one socket
 * write per payload would cost more than the rest of the path. Way of a byte from the writer: the session copies what
 * it accepts; when it accepts less, the write's callback waits for onWritable.
 */
import { Duplex } from 'node:stream';
import { SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import { DialError } from './contract.ts';
import { describeSessionError, dialCodeOf } from './dial-code.ts';

/** Largest chunk pushed at once. */
const READ_CHUNK_BYTES = 64 * 1024;
/** What Node may hold of received and of unsent bytes beside the session's own buffers. */
const HIGH_WATER_BYTES = 256 * 1024;

export interface SessionDuplexOptions {
  /** Called once, when the duplex is finished with the stream. */
  readonly onReleased?: () => void;
}

/**
 * Takes over the stream's onReadable, onWritable and onClose; onConnected stays free for the owner.
 * Fails with a DialError when the stream is reset by the peer or lost; `destroy(error)` resets it with the code that
 * fits the error (cancelled when there is none).
 */
export class SessionDuplex extends Duplex {
  readonly stream: SessionStream;
  readonly #onReleased: (() => void) | undefined;
  /** The reader wants bytes (push returned true, or _read was called). */
  #reading = false;
  #readScheduled = false;
  #readEnded = false;
  #writeEnded = false;
  #streamClosed = false;
  #pending: Uint8Array | undefined;
  #pendingDone: ((error?: Error | null) => void) | undefined;
  readonly #pull = () => {
    this.#readScheduled = false;
    this.#pullNow();
  };

  constructor(stream: SessionStream, options: SessionDuplexOptions = {}) {
    super({
      allowHalfOpen: true,
      autoDestroy: true,
      emitClose: true,
      readableHighWaterMark: HIGH_WATER_BYTES,
      writableHighWaterMark: HIGH_WATER_BYTES,
    });
    this.stream = stream;
    this.#onReleased = options.onReleased;
    stream.onReadable = () => this.#schedulePull();
    stream.onWritable = () => this.#writeMore();
    stream.onClose = (code, remote) => this.#onStreamClose(code, remote);
  }

  override _read(): void {
    this.#reading = true;
    if (this.stream.readableBytes > 0 || this.stream.readEnded) this.#pullNow();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#pending = chunk;
    this.#pendingDone = done;
    this.#writeMore();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (!this.#streamClosed) this.stream.end();
    this.#writeEnded = true;
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#pending = undefined;
    const pendingDone = this.#pendingDone;
    this.#pendingDone = undefined;
    if (!this.#streamClosed) {
      this.#streamClosed = true;
      if (!(this.#readEnded && this.#writeEnded)) this.stream.reset(resetCodeOf(error));
    }
    pendingDone?.(error ?? new DialError('CANCELLED', 'the stream was destroyed'));
    this.#onReleased?.();
    done(error);
  }

  #schedulePull(): void {
    if (this.#readScheduled || !this.#reading) return;
    this.#readScheduled = true;
    setImmediate(this.#pull);
  }

  #pullNow(): void {
    while (this.#reading && !this.#readEnded && !this.destroyed) {
      const available = this.stream.readableBytes;
      if (available > 0) {
        const chunk = Buffer.allocUnsafeSlow(Math.min(available, READ_CHUNK_BYTES));
        const length = this.stream.read(chunk);
        if (length === 0) return;
        this.#reading = this.push(length === chunk.length ? chunk : chunk.subarray(0, length));
        continue;
      }
      if (!this.stream.readEnded) {
        if (this.#streamClosed) this.destroy(new DialError('SESSION_LOST', 'the session ended before the stream did'));
        return;
      }
      this.#readEnded = true;
      this.push(null);
    }
  }

  #writeMore(): void {
    const chunk = this.#pending;
    const done = this.#pendingDone;
    if (chunk === undefined || done === undefined || this.#streamClosed) return;
    const accepted = this.stream.write(chunk);
    if (accepted < chunk.length) {
      this.#pending = accepted === 0 ? chunk : chunk.subarray(accepted);
      return;
    }
    this.#pending = undefined;
    this.#pendingDone = undefined;
    done();
  }

  #onStreamClose(code: number, remote: boolean): void {
    this.#streamClosed = true;
    if (code === SessionError.noError && this.#writeEnded) {
      // Both directions finished: what has arrived is still read, then the end.
      this.#schedulePull();
      return;
    }
    const side = remote ? 'the other end' : 'this end';
    this.destroy(new DialError(dialCodeOf(code), `${describeSessionError(code)} (${side})`));
  }
}

/** The code that tells the peer why the stream was given up. */
function resetCodeOf(error: Error | null): number {
  if (error === null) return SessionError.cancelled;
  if (!(error instanceof DialError)) return SessionError.peerReset;
  if (error.code === 'SHUTDOWN') return SessionError.shutdown;
  if (error.code === 'LIMIT') return SessionError.limit;
  return error.code === 'CANCELLED' ? SessionError.cancelled : SessionError.peerReset;
}
