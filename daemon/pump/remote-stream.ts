/**
 * The main thread's end of an API stream (the worker's is stream-bridge.ts): a Duplex whose bytes cross the boundary
 * under credit.
 */
import { Duplex } from 'node:stream';
import {
  DialError,
  DialErrorCode,
  type FromPump,
  STREAM_CREDIT_BYTES,
  type StreamRequest,
  type ToPump,
} from './contract.ts';

const HIGH_WATER_BYTES = 256 * 1024;
/** Credit goes back in steps of this, not for every chunk. */
const CREDIT_STEP_BYTES = STREAM_CREDIT_BYTES / 8;

export interface RemoteConnected {
  readonly address: string;
  readonly port: number;
  readonly circuit: number;
  readonly path: readonly string[];
}

type StreamMessage = Extract<FromPump, { readonly stream: number }>;

/** Fails with a DialError. `destroy(error)` resets the stream with the error's code, CANCELLED without one. */
export class RemoteStream extends Duplex {
  readonly id: number;
  /** Settles when the target has answered; rejects with DialError. */
  readonly connected: Promise<RemoteConnected>;
  /** The id under which the worker lists the stream (StreamInfo); rejects with DialError. */
  readonly listed: Promise<number>;
  /** What the class adds to the latency one way, on average; known once listed. */
  addedLatencyMs = 0;
  readonly #send: (message: ToPump) => void;
  readonly #onOver: (stream: RemoteStream) => void;
  readonly #resolve: (value: RemoteConnected) => void;
  readonly #reject: (error: DialError) => void;
  readonly #listed = Promise.withResolvers<number>();
  #connected: RemoteConnected | undefined;
  #sendCreditBytes = STREAM_CREDIT_BYTES;
  #owedCreditBytes = 0;
  #pending: Uint8Array | undefined;
  #pendingDone: ((error?: Error | null) => void) | undefined;
  #over = false;

  constructor(
    id: number,
    request: StreamRequest,
    send: (message: ToPump) => void,
    onOver: (stream: RemoteStream) => void,
  ) {
    super({ allowHalfOpen: true, highWaterMark: HIGH_WATER_BYTES });
    this.id = id;
    this.#send = send;
    this.#onOver = onOver;
    const { promise, resolve, reject } = Promise.withResolvers<RemoteConnected>();
    this.connected = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    // Whoever only watches the duplex hears of a failure there.
    promise.catch(() => {});
    this.listed = this.#listed.promise;
    this.listed.catch(() => {});
    send({ type: 'stream-open', stream: id, request });
  }

  /** Node ids of the circuit (hex); empty until connected. */
  path(): readonly string[] {
    return this.#connected?.path ?? [];
  }

  circuit(): number | undefined {
    return this.#connected?.circuit;
  }

  /** A message of the worker's about this stream. */
  handle(message: StreamMessage): void {
    if (this.#over) return;
    switch (message.type) {
      case 'stream-opened':
        this.addedLatencyMs = message.addedLatencyMs;
        this.#listed.resolve(message.id);
        break;
      case 'stream-connected': {
        const { address, port, circuit, path } = message;
        this.#connected = { address, port, circuit, path };
        this.#resolve(this.#connected);
        break;
      }
      case 'stream-data': {
        const { buffer, byteOffset, byteLength } = message.data;
        const roomLeft = this.push(Buffer.from(buffer, byteOffset, byteLength));
        this.#owedCreditBytes += byteLength;
        if (roomLeft) this.#giveCredit();
        break;
      }
      case 'stream-credit':
        this.#sendCreditBytes += message.bytes;
        this.#writeMore();
        break;
      case 'stream-end':
        this.push(null);
        break;
      default:
        this.#close(message.code, message.message);
    }
  }

  /** The worker is gone. */
  lost(message: string): void {
    if (!this.#over) this.#close(DialErrorCode.sessionLost, message);
  }

  override _read(): void {
    this.#giveCredit();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#pending = chunk;
    this.#pendingDone = done;
    this.#writeMore();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (!this.#over) this.#send({ type: 'stream-end', stream: this.id });
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const pendingDone = this.#pendingDone;
    this.#pending = undefined;
    this.#pendingDone = undefined;
    const reason =
      error instanceof DialError ? error : new DialError(DialErrorCode.cancelled, error?.message ?? 'given up');
    if (this.#connected === undefined) this.#reject(reason);
    this.#listed.reject(reason);
    if (!this.#over && !(this.readableEnded && this.writableFinished)) {
      this.#send({ type: 'stream-reset', stream: this.id, code: reason.code });
    }
    this.#over = true;
    this.#onOver(this);
    // The write under way fails with the rest.
    pendingDone?.(reason);
    done(error);
  }

  #giveCredit(): void {
    const bytes = this.#owedCreditBytes;
    if (bytes < CREDIT_STEP_BYTES || this.#over) return;
    this.#owedCreditBytes = 0;
    this.#send({ type: 'stream-credit', stream: this.id, bytes });
  }

  #writeMore(): void {
    while (this.#pending !== undefined && this.#sendCreditBytes > 0 && !this.#over) {
      const chunk = this.#pending;
      const part = chunk.length <= this.#sendCreditBytes ? chunk : chunk.subarray(0, this.#sendCreditBytes);
      this.#sendCreditBytes -= part.length;
      // A copy: cloning a view of Node's pooled memory would copy the pool and show it to the other side.
      this.#send({ type: 'stream-data', stream: this.id, data: new Uint8Array(part) });
      if (part.length < chunk.length) {
        this.#pending = chunk.subarray(part.length);
        continue;
      }
      const done = this.#pendingDone!;
      this.#pending = undefined;
      this.#pendingDone = undefined;
      done();
    }
  }

  /** The worker's last word. A clean end leaves what has arrived to be read. */
  #close(code: DialErrorCode | undefined, message: string): void {
    this.#over = true;
    if (code !== undefined) {
      this.destroy(new DialError(code, message));
      return;
    }
    if (this.#connected === undefined) this.destroy(new DialError(DialErrorCode.cancelled, 'ended before it began'));
    else if (!this.writableFinished) this.destroy();
    else if (!this.readableEnded) this.push(null);
  }
}
