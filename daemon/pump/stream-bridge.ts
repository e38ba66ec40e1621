/**
 * The worker's end of API streams: what the dialer opens here is a duplex on the main thread (remote-stream.ts). Bytes
 * cross the boundary under credit in both directions, so a slow reader stops the sender and not the worker.
 */
import {
  DialError,
  DialErrorCode,
  type Dialer,
  type FromPump,
  type NyxConnection,
  STREAM_CREDIT_BYTES,
  type StreamRequest,
  type ToPump,
} from './contract.ts';

/** API streams of one worker at once. */
const MAX_BRIDGED_STREAMS = 4096;

export type Post = (message: FromPump, transfer?: ArrayBuffer[]) => void;

export class StreamBridge {
  readonly #dialer: Pick<Dialer, 'connect'>;
  readonly #post: Post;
  readonly #streams = new Map<number, BridgedConnection>();

  constructor(dialer: Pick<Dialer, 'connect'>, post: Post) {
    this.#dialer = dialer;
    this.#post = post;
  }

  get size(): number {
    return this.#streams.size;
  }

  get bufferedBytes(): number {
    let bytes = 0;
    for (const stream of this.#streams.values()) bytes += stream.bufferedBytes;
    return bytes;
  }

  /** Messages for a stream that is already over are late, not wrong. */
  handle(message: Extract<ToPump, { readonly stream: number }>): void {
    const { stream } = message;
    if (message.type === 'stream-open') {
      this.#open(stream, message.request);
      return;
    }
    const bridged = this.#streams.get(stream);
    if (bridged === undefined) return;
    if (message.type === 'stream-data') bridged.data(message.data);
    else if (message.type === 'stream-credit') bridged.credit(message.bytes);
    else if (message.type === 'stream-end') bridged.end();
    else bridged.reset(new DialError(message.code, 'reset by the application'));
  }

  #open(stream: number, request: StreamRequest): void {
    const over = (error: Error | undefined) => {
      this.#streams.delete(stream);
      const code = error instanceof DialError ? error.code : error && DialErrorCode.internal;
      this.#post({ type: 'stream-closed', stream, code, message: error?.message ?? '' });
    };
    if (this.#streams.size >= MAX_BRIDGED_STREAMS) {
      over(new DialError(DialErrorCode.limit, `${MAX_BRIDGED_STREAMS} API streams are open, which is the limit`));
      return;
    }
    const connection = this.#dialer.connect(request.target, request.options);
    if (connection.id !== undefined) {
      const { id, addedLatencyMs } = connection;
      this.#post({ type: 'stream-opened', stream, id, addedLatencyMs });
    }
    this.#streams.set(stream, new BridgedConnection(stream, connection, this.#post, over));
  }
}

class BridgedConnection {
  readonly #stream: number;
  readonly #connection: NyxConnection;
  readonly #post: Post;
  #creditBytes = STREAM_CREDIT_BYTES;

  constructor(stream: number, connection: NyxConnection, post: Post, over: (error: Error | undefined) => void) {
    this.#stream = stream;
    this.#connection = connection;
    this.#post = post;
    const { duplex } = connection;
    connection.connected.then(
      ({ address, port }) => {
        const path = connection.path();
        post({ type: 'stream-connected', stream, circuit: connection.circuit() ?? 0, path, address, port });
      },
      () => {}, // 'close' tells
    );
    duplex.on('data', (chunk: Buffer) => this.#forward(chunk));
    duplex.once('end', () => post({ type: 'stream-end', stream }));
    duplex.once('close', () => over(duplex.errored ?? undefined));
    duplex.on('error', () => {}); // 'close' tells
  }

  get bufferedBytes(): number {
    return STREAM_CREDIT_BYTES - this.#creditBytes;
  }

  #forward(chunk: Buffer): void {
    this.#creditBytes -= chunk.length;
    if (this.#creditBytes <= 0) this.#connection.duplex.pause();
    const { buffer } = chunk;
    const whole = buffer instanceof ArrayBuffer && buffer.byteLength === chunk.length;
    const data = new Uint8Array(buffer, chunk.byteOffset, chunk.length);
    this.#post({ type: 'stream-data', stream: this.#stream, data }, whole ? [buffer] : undefined);
  }

  data(bytes: Uint8Array): void {
    const { duplex } = this.#connection;
    if (duplex.destroyed || duplex.writableEnded) return;
    duplex.write(bytes, (error) => {
      if (!error) this.#post({ type: 'stream-credit', stream: this.#stream, bytes: bytes.length });
    });
  }

  credit(bytes: number): void {
    this.#creditBytes += bytes;
    if (this.#creditBytes > 0 && this.#connection.duplex.isPaused()) this.#connection.duplex.resume();
  }

  end(): void {
    this.#connection.duplex.end();
  }

  reset(error: DialError): void {
    this.#connection.duplex.destroy(error);
  }
}
