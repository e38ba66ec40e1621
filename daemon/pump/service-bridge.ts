/**
 * The node's own service on circuits that end here: streams to its name go to the main thread, which serves them for all
 * workers. Bytes of a client wait in his session until those before are dealt with.
 */
import { SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import type { FromPump, ServiceName, ToPump } from './contract.ts';
import { SessionDuplex } from './session-duplex.ts';

/** Of all circuits of the worker. */
const MAX_SERVED = 4096;
/** A client's bytes that may be under way to the main thread. */
const CREDIT_BYTES = 16 * 1024;
/** What a client may leave unread; the service itself keeps less under way. */
const MAX_UNREAD_BYTES = 1024 * 1024;

interface Served {
  readonly duplex: SessionDuplex;
  creditBytes: number;
}

export class ServiceBridge {
  readonly #name: ServiceName;
  readonly #post: (message: FromPump) => void;
  readonly #served = new Map<number, Served>();
  #last = 0;
  #draining = false;

  constructor(name: ServiceName, post: (message: FromPump) => void) {
    this.#name = name;
    this.#post = post;
  }

  get bufferedBytes(): number {
    let bytes = 0;
    for (const { duplex } of this.#served.values()) bytes += duplex.bufferedBytes;
    return bytes;
  }

  /** Whether a stream is for the service. */
  isFor({ target }: SessionStream): boolean {
    return target.kind === 'tcp' && target.host === this.#name.host && target.port === this.#name.port;
  }

  serve(stream: SessionStream): void {
    if (this.#draining || this.#served.size >= MAX_SERVED) {
      stream.reset(this.#draining ? SessionError.shutdown : SessionError.limit);
      return;
    }
    const service = ++this.#last;
    const duplex = new SessionDuplex(stream);
    const served: Served = { duplex, creditBytes: CREDIT_BYTES };
    this.#served.set(service, served);
    // The address says nothing: there is no connection behind it.
    stream.connected(4, '0.0.0.0', this.#name.port);
    this.#post({ type: 'service-opened', service });
    duplex.on('data', (chunk: Buffer) => {
      served.creditBytes -= chunk.length;
      if (served.creditBytes <= 0) duplex.pause();
      this.#post({ type: 'service-data', service, data: new Uint8Array(chunk) });
    });
    duplex.once('end', () => duplex.end());
    duplex.on('error', () => {}); // 'close' tells
    duplex.once('close', () => {
      this.#served.delete(service);
      this.#post({ type: 'service-closed', service });
    });
  }

  /** What comes for a client who is gone is late, not wrong. */
  handle(message: Extract<ToPump, { readonly service: number }>): void {
    const served = this.#served.get(message.service);
    if (served === undefined) return;
    const { duplex } = served;
    if (message.type === 'service-credit') {
      served.creditBytes += message.bytes;
      if (served.creditBytes > 0 && duplex.isPaused()) duplex.resume();
      return;
    }
    if (duplex.destroyed || duplex.writableEnded) return;
    if (message.data.length > 0) duplex.write(message.data);
    if (message.end) duplex.end();
    else if (duplex.bufferedBytes > MAX_UNREAD_BYTES) duplex.destroy();
  }

  /** Nobody new is served, and those that are here are sent away. */
  close(): void {
    this.#draining = true;
    for (const { duplex } of this.#served.values()) duplex.destroy();
  }
}
