/**
 * A session's stream as a Node Duplex: back-pressure both ways, half-close, reset. Used by the proxies and the API
 * bridge on the client's side and by the exit on the other.
 *
 * Way of a byte to the reader: the session calls onReadable once per payload (1 KiB); the duplex answers once per turn
 * of the event loop and takes everything that has come by then in chunks as large as possible, because one socket
 * write per payload would cost more than the rest of the path. Way of a byte from the writer: the session copies what
 * it accepts; when it accepts less, the write's callback waits for onWritable.
 *
 * A dialer makes one before it has a stream and attaches it later. Until it calls confirm(), what was written is kept
 * (within a bound), so that it can be sent again on another circuit if the first one fails.
 */
import { Duplex } from 'node:stream';
import { SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import { DialError, DialErrorCode } from './contract.ts';
import { describeSessionError, dialCodeOf } from './dial-code.ts';

/** Largest chunk pushed at once. */
const READ_CHUNK_BYTES = 64 * 1024;
/** What Node may hold of received and of unsent bytes beside the session's own buffers. */
const HIGH_WATER_BYTES = 256 * 1024;
/** What may be sent before the target has answered, and is kept to be sent again. */
const MAX_EARLY_BYTES = 64 * 1024;
/** Below this a chunk gets memory of its own: all of a lent one would stay with whoever keeps a few bytes of it. */
const MIN_LENT_BYTES = 16 * 1024;

/** What is lent to readers that take bytes at once, of all duplexes of this thread. Fresh memory costs a page fault per 4 KiB. */
let lent: Buffer | undefined;

export interface SessionDuplexOptions {
  /** Runs a task once at the end of this turn of the event loop. Default: setImmediate. */
  readonly atTurnEnd?: (task: () => void) => void;
  /** Called once, when the duplex is finished with its stream for good. */
  readonly onReleased?: () => void;
  /**
   * The attached stream ended with an error before confirm(). True: the owner takes care (attaches another stream, or
   * destroys the duplex). Without it the duplex fails.
   */
  readonly onUnconfirmedEnd?: (code: number, remote: boolean) => boolean;
}

/**
 * Takes over the stream's onReadable, onWritable and onClose; onConnected stays free for the owner.
 * Fails with a DialError when the stream is reset by the peer or lost. `destroy(error)` resets the stream with the code
 * that fits the error (cancelled when there is none).
 */
export class SessionDuplex extends Duplex {
  readonly #options: SessionDuplexOptions;
  #stream: SessionStream | undefined;
  /** The reader wants bytes: _read was called and push has not returned false since. */
  #reading = false;
  #readScheduled = false;
  #readEnded = false;
  #writeEnded = false;
  #streamClosed = false;
  #pending: Uint8Array | undefined;
  #pendingDone: ((error?: Error | null) => void) | undefined;
  #confirmed: boolean;
  #early: Uint8Array[] = [];
  #earlyBytes = 0;
  #isTaken: (() => boolean) | undefined;

  /** With a stream: attached and confirmed at once. */
  constructor(stream?: SessionStream, options: SessionDuplexOptions = {}) {
    super({
      allowHalfOpen: true,
      autoDestroy: true,
      emitClose: true,
      readableHighWaterMark: HIGH_WATER_BYTES,
      writableHighWaterMark: HIGH_WATER_BYTES,
    });
    this.#options = options;
    this.#confirmed = stream !== undefined;
    if (stream !== undefined) this.#adopt(stream);
  }

  /** The attached stream. */
  get stream(): SessionStream | undefined {
    return this.#stream;
  }

  /** Bytes that this object holds beside the session's buffers. */
  get bufferedBytes(): number {
    return this.readableLength + this.writableLength + this.#earlyBytes;
  }

  /** Gives it a stream, or another one after onUnconfirmedEnd: everything written so far is sent on it. */
  attach(stream: SessionStream): void {
    if (this.destroyed) {
      stream.reset(SessionError.cancelled);
      return;
    }
    this.#streamClosed = false;
    this.#adopt(stream);
    const early = this.#early;
    this.#early = [];
    this.#earlyBytes = 0;
    // A stream accepts far more than MAX_EARLY_BYTES before it says no.
    for (const chunk of early) this.#offer(chunk);
    if (this.#writeEnded) stream.end();
    else this.#writeMore();
    if (this.#reading) this.#schedulePull();
  }

  /** As NyxConnection has it. */
  lendReads(isTaken: () => boolean): void {
    this.#isTaken = isTaken;
  }

  get confirmed(): boolean {
    return this.#confirmed;
  }

  /** Before confirm(): gives its stream up without failing; another one will be attached. */
  detach(): void {
    if (this.#streamClosed || this.#confirmed) return;
    this.#streamClosed = true;
    this.#stream?.reset(SessionError.cancelled);
  }

  /** The target has answered: nothing is sent twice from now on. */
  confirm(): void {
    this.#confirmed = true;
    this.#early = [];
    this.#earlyBytes = 0;
    this.#writeMore();
  }

  #adopt(stream: SessionStream): void {
    this.#stream = stream;
    stream.onReadable = () => this.#schedulePull();
    stream.onWritable = () => this.#writeMore();
    stream.onClose = (code, remote) => this.#onStreamClose(stream, code, remote);
  }

  override _read(): void {
    this.#reading = true;
    const stream = this.#stream;
    if (stream !== undefined && (stream.readableBytes > 0 || stream.readEnded)) this.#pullNow();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#pending = chunk;
    this.#pendingDone = done;
    this.#writeMore();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#writeEnded = true;
    if (!this.#streamClosed) this.#stream?.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const pendingDone = this.#pendingDone;
    this.#pending = undefined;
    this.#pendingDone = undefined;
    this.#early = [];
    this.#earlyBytes = 0;
    if (!this.#streamClosed) {
      this.#streamClosed = true;
      // After both ends the stream finishes on its own: what is unacknowledged must still get through.
      if (!(this.#readEnded && this.#writeEnded)) this.#stream?.reset(resetCodeOf(error));
    }
    this.#options.onReleased?.();
    // The write under way fails with the rest.
    pendingDone?.(error ?? new DialError(DialErrorCode.cancelled, 'the stream was given up'));
    done(error);
  }

  readonly #pull = (): void => {
    this.#readScheduled = false;
    this.#pullNow();
  };

  #schedulePull(): void {
    if (this.#readScheduled || !this.#reading) return;
    this.#readScheduled = true;
    (this.#options.atTurnEnd ?? setImmediate)(this.#pull);
  }

  #pullNow(): void {
    while (this.#reading && !this.#readEnded && !this.destroyed) {
      const stream = this.#stream;
      if (stream === undefined) return;
      const available = stream.readableBytes;
      if (available > 0) {
        const isLent = this.#isTaken !== undefined && available >= MIN_LENT_BYTES;
        const chunk = isLent ? takeLent() : Buffer.allocUnsafeSlow(Math.min(available, READ_CHUNK_BYTES));
        const length = stream.read(chunk);
        if (length > 0) {
          if (!this.#confirmed) this.confirm(); // data is an answer, too: it may overtake CONNECTED
          this.#reading = this.push(length === chunk.length ? chunk : chunk.subarray(0, length));
        }
        // What Node keeps for later, and what the reader keeps, is theirs.
        if (isLent && this.readableLength === 0 && this.#isTaken!()) lent = chunk;
        if (length === 0) return;
        continue;
      }
      if (stream.readEnded) {
        this.#readEnded = true;
        this.push(null);
      } else if (this.#streamClosed && this.#confirmed) {
        this.destroy(new DialError(DialErrorCode.sessionLost, 'the session ended before the stream did'));
      }
      return;
    }
  }

  #writeMore(): void {
    const chunk = this.#pending;
    const done = this.#pendingDone;
    if (chunk === undefined || done === undefined || this.#streamClosed || this.#stream === undefined) return;
    const accepted = this.#offer(chunk);
    if (accepted < chunk.length) {
      this.#pending = accepted === 0 ? chunk : chunk.subarray(accepted);
      return;
    }
    this.#pending = undefined;
    this.#pendingDone = undefined;
    done();
  }

  /** Writes to the stream as much as it takes, remembering it until the target has answered. */
  #offer(chunk: Uint8Array): number {
    const stream = this.#stream!;
    if (this.#confirmed) return stream.write(chunk);
    const room = MAX_EARLY_BYTES - this.#earlyBytes;
    const accepted = room <= 0 ? 0 : stream.write(room < chunk.length ? chunk.subarray(0, room) : chunk);
    if (accepted > 0) {
      // A Buffer's slice() is a view; this is a copy.
      this.#early.push(new Uint8Array(chunk.subarray(0, accepted)));
      this.#earlyBytes += accepted;
    }
    return accepted;
  }

  #onStreamClose(stream: SessionStream, code: number, remote: boolean): void {
    if (stream !== this.#stream || this.#streamClosed) return;
    this.#streamClosed = true;
    if (code === SessionError.noError && this.#writeEnded) {
      // Both directions finished: what has arrived is still read, then the end.
      this.#schedulePull();
      return;
    }
    if (!this.#confirmed && this.#options.onUnconfirmedEnd?.(code, remote) === true) return;
    const side = remote ? 'by the other end' : 'here';
    this.destroy(new DialError(dialCodeOf(code), `stream ended ${side}: ${describeSessionError(code)}`));
  }
}

function takeLent(): Buffer {
  const buffer = lent ?? Buffer.allocUnsafeSlow(READ_CHUNK_BYTES);
  lent = undefined;
  return buffer;
}

/** The code that tells the peer why the stream was given up. */
function resetCodeOf(error: Error | null): number {
  if (error === null) return SessionError.cancelled;
  if (!(error instanceof DialError)) return SessionError.peerReset;
  if (error.code === DialErrorCode.shutdown) return SessionError.shutdown;
  if (error.code === DialErrorCode.limit) return SessionError.limit;
  return error.code === DialErrorCode.cancelled ? SessionError.cancelled : SessionError.peerReset;
}
