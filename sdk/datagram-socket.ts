/**
 * Datagrams through the network, with the looks of dgram.Socket. Over the API a socket is one `StreamService.Datagrams`
 * call. Datagrams are never held back for long: what finds no room, or is older than its deadline, is dropped and counted.
 */
import { EventEmitter } from 'node:events';
import { isIP } from 'node:net';
import { type ClientDuplexStream, status as grpcStatus } from '@grpc/grpc-js';
import type { Datagram, DatagramCounts, DatagramsRequest, DatagramsResponse } from '@nyx/proto/types.ts';
import { NyxError } from './errors.ts';
import { callError, type PathOptions, streamOptions } from './socket.ts';

export interface DatagramSocketOptions extends PathOptions {
  /** How old a datagram may become before it is neither sent nor delivered, either way, 1…60 000; default: as old as it likes. */
  readonly deadlineMs?: number;
  /** Before the socket is open: gives it up. Afterwards: closes it. */
  readonly signal?: AbortSignal;
}

export interface SendDatagramOptions {
  /** Instead of the socket's, 0…60 000; 0 = none. The exit lets answers live as long as the last datagram that reached it. */
  readonly deadlineMs?: number;
}

/** Who sent a datagram: always a literal address, also when it was sent to by name. */
export interface DatagramInfo {
  readonly address: string;
  readonly family: 'IPv4' | 'IPv6';
  readonly port: number;
  /** Bytes of the datagram. */
  readonly size: number;
}

/** Since the socket was opened. What is lost on the way, or too old when it comes to the exit, nobody here learns. */
export interface DatagramStatistics {
  /** Taken for sending. */
  readonly sent: number;
  /** Too old before they could leave: some of those sent, and what waited here for the daemon. */
  readonly expiredSending: number;
  /** Not taken: too many at once. */
  readonly droppedSending: number;
  /** Given to the application; where there are several listeners and loops, to each loop and to all listeners together. */
  readonly received: number;
  /** Too old when they came. */
  readonly expiredReceiving: number;
  /** Not read in time, or nobody listened. */
  readonly droppedReceiving: number;
  /** Of those sent: reached the exit, by its own word, which is up to a second old; as all that follow. */
  readonly exitArrived: number;
  /** Of them: too old when they came there. */
  readonly exitExpired: number;
  /** Of them: not sent on for another reason; policy, no such name, no room. */
  readonly exitDropped: number;
  /** Answers that it could not send back. */
  readonly exitAnswersDropped: number;
}

export interface NyxDatagramSocketEvents {
  message: [data: Buffer, info: DatagramInfo];
  /** `close` follows. */
  error: [error: NyxError];
  close: [];
}

export type DatagramsCall = ClientDuplexStream<{ [K in keyof DatagramsRequest]?: unknown }, DatagramsResponse>;

/** Datagrams that wait for the daemon, or for a reader. */
const MAX_WAITING = 256;
const MAX_DEADLINE_MS = 60_000;
const MAX_NAME_BYTES = 255;

interface Waiting {
  readonly datagram: Datagram;
  /** Of its deadline; Infinity = none. */
  readonly expiresMs: number;
}

interface Reader {
  readonly queue: [Buffer, DatagramInfo][];
  wake: () => void;
}

export class NyxDatagramSocket
  extends EventEmitter<NyxDatagramSocketEvents>
  implements AsyncIterable<[data: Buffer, info: DatagramInfo]>
{
  readonly #call: DatagramsCall;
  readonly #deadlineMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #opened = Promise.withResolvers<void>();
  readonly #waiting: Waiting[] = [];
  readonly #readers = new Set<Reader>();
  #asking: PromiseWithResolvers<DatagramCounts>[] = [];
  #askingNext: PromiseWithResolvers<DatagramCounts>[] = [];
  #state: 'opening' | 'open' | 'closed' = 'opening';
  #error: NyxError | undefined;
  #address: DatagramInfo | undefined;
  #pathId: number | undefined;
  #nodeIds: readonly string[] = [];
  #addedLatencyMs = 0;
  #maxBytes = 0;
  #expiredSending = 0;
  #droppedSending = 0;
  #received = 0;
  #droppedReceiving = 0;

  /** Applications use `NyxClient.createDatagramSocket`. Takes the call. */
  constructor(call: DatagramsCall, options: DatagramSocketOptions) {
    super();
    this.#call = call;
    this.#deadlineMs = options.deadlineMs ?? 0;
    this.#signal = options.signal;
    // Who does not wait for it hears of a failure by 'error'.
    this.#opened.promise.catch(() => {});
    call.on('data', (message: DatagramsResponse) => this.#onMessage(message));
    call.on('error', (error) => this.#end(callError(error)));
    call.on('status', ({ code }: { code: grpcStatus }) => {
      if (code === grpcStatus.OK) this.#end(new NyxError('SESSION_LOST', 'the daemon closed the socket'));
    });
    call.on('drain', () => this.#flush());
    call.write({ open: { options: streamOptions(options), deadlineMs: this.#deadlineMs } });
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (this.#signal?.aborted) this.#onAbort();
  }

  /** Settles when the exit has a socket; rejects with what kept it from that. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  get closed(): boolean {
    return this.#state === 'closed';
  }

  /** The circuit that carries it and its hops (NodeIDs, hex, first hop first), when it was opened. */
  get pathId(): number | undefined {
    return this.#pathId;
  }

  get nodeIds(): readonly string[] {
    return this.#nodeIds;
  }

  /** What the path's class adds to the latency one way, on average. */
  get expectedAddedLatencyMs(): number {
    return this.#addedLatencyMs;
  }

  /** The exit's socket. What targets see may be another one, if the exit is behind a NAT. */
  address(): { readonly address: string; readonly family: 'IPv4' | 'IPv6'; readonly port: number } {
    if (this.#address === undefined) throw new NyxError('BAD_REQUEST', 'address: the socket is not open yet');
    const { address, family, port } = this.#address;
    return { address, family, port };
  }

  /** The most that a datagram to this host can carry: it has to fit into one cell, address and all. */
  maxDataBytes(host: string): number {
    return Math.max(0, this.#maxBytes - addressBytes(host));
  }

  /**
   * Sends to a name or a literal address; names are resolved at the exit, IPv4 first. False: dropped, because too many
   * wait already. Throws BAD_REQUEST for what could never be sent, CANCELLED once the socket is closed. Copies `data`.
   */
  send(data: Uint8Array | string, port: number, host: string, options: SendDatagramOptions = {}): boolean {
    if (this.#state !== 'open') throw new NyxError('CANCELLED', `send: the socket is ${this.#state}`);
    const bytes = Buffer.from(data);
    const deadlineMs = options.deadlineMs ?? this.#deadlineMs;
    this.#check(bytes, port, host, deadlineMs);
    const expiresMs = deadlineMs === 0 ? Number.POSITIVE_INFINITY : performance.now() + deadlineMs;
    if (this.#waiting.length >= MAX_WAITING) this.#dropExpired();
    if (this.#waiting.length >= MAX_WAITING) {
      this.#droppedSending++;
      return false;
    }
    this.#waiting.push({ datagram: { host, port, data: bytes, deadlineMs }, expiresMs });
    this.#flush();
    return true;
  }

  /** What became of all that was sent before. */
  async statistics(): Promise<DatagramStatistics> {
    if (this.#state !== 'open') throw new NyxError('CANCELLED', `statistics: the socket is ${this.#state}`);
    const asked = Promise.withResolvers<DatagramCounts>();
    this.#askingNext.push(asked);
    this.#ask();
    const counts = await asked.promise;
    return {
      sent: counts.sent,
      expiredSending: counts.expiredSending + this.#expiredSending,
      droppedSending: counts.droppedSending + this.#droppedSending,
      received: this.#received,
      expiredReceiving: counts.expiredReceiving,
      droppedReceiving: counts.droppedReceiving + this.#droppedReceiving,
      exitArrived: counts.exitArrived,
      exitExpired: counts.exitExpired,
      exitDropped: counts.exitDropped,
      exitAnswersDropped: counts.exitAnswersDropped,
    };
  }

  /** Ends the association; what still waits is not sent. `close` follows. */
  close(): void {
    this.#end(undefined);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Datagrams from now on, until the socket is closed; throws what it fails with. A reader that is 256 behind loses the
   * oldest.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<[data: Buffer, info: DatagramInfo], void, undefined> {
    const reader: Reader = { queue: [], wake: () => {} };
    this.#readers.add(reader);
    try {
      for (;;) {
        const next = reader.queue.shift();
        if (next !== undefined) {
          this.#received++;
          yield next;
        } else if (this.#state === 'closed') break;
        else {
          await new Promise<void>((resolve) => {
            reader.wake = resolve;
          });
        }
      }
      if (this.#error !== undefined) throw this.#error;
    } finally {
      this.#readers.delete(reader);
    }
  }

  #check(data: Buffer, port: number, host: string, deadlineMs: number): void {
    const problem = (field: string, description: string) => {
      throw new NyxError('BAD_REQUEST', `send: ${field} ${description}`, { violations: [{ field, description }] });
    };
    const hostBytes = Buffer.byteLength(host);
    if (hostBytes < 1 || hostBytes > MAX_NAME_BYTES || /[\s\p{Cc}%]/u.test(host)) {
      problem('host', `must be a literal address or a name of 1…${MAX_NAME_BYTES} bytes`);
    }
    if (!Number.isInteger(port) || port < 1 || port > 65_535) problem('port', `is ${port}; must be 1…65535`);
    if (!Number.isInteger(deadlineMs) || deadlineMs < 0 || deadlineMs > MAX_DEADLINE_MS) {
      problem('deadlineMs', `is ${deadlineMs}; must be 0…${MAX_DEADLINE_MS}`);
    }
    const maxBytes = this.maxDataBytes(host);
    if (data.length > maxBytes) {
      problem('data', `has ${data.length} bytes; must have at most ${maxBytes} to this host, to fit into one cell`);
    }
  }

  #flush(): void {
    while (this.#state === 'open' && this.#waiting.length > 0 && !this.#call.writableNeedDrain) {
      const { datagram, expiresMs } = this.#waiting.shift()!;
      if (expiresMs === Number.POSITIVE_INFINITY) {
        this.#call.write({ datagram });
        continue;
      }
      // The daemon counts from when it gets it.
      const deadlineMs = Math.ceil(expiresMs - performance.now());
      if (deadlineMs < 1) this.#expiredSending++;
      else this.#call.write({ datagram: { ...datagram, deadlineMs } });
    }
    this.#ask();
  }

  #dropExpired(): void {
    const nowMs = performance.now();
    for (let i = this.#waiting.length - 1; i >= 0; i--) {
      if (this.#waiting[i]!.expiresMs >= nowMs) continue;
      this.#waiting.splice(i, 1);
      this.#expiredSending++;
    }
  }

  /** One question at a time, behind all that was sent before it. */
  #ask(): void {
    if (this.#asking.length > 0 || this.#askingNext.length === 0 || this.#waiting.length > 0) return;
    this.#asking = this.#askingNext;
    this.#askingNext = [];
    this.#call.write({ count: {} });
  }

  #onMessage({ opened, datagram, counts }: DatagramsResponse): void {
    if (this.#state === 'closed') return;
    if (datagram) this.#receive(datagram);
    else if (counts) {
      const asking = this.#asking;
      this.#asking = [];
      for (const { resolve } of asking) resolve(counts);
      this.#ask();
    } else if (opened) {
      const { address, port } = opened;
      this.#address = { address, family: familyOf(address), port, size: 0 };
      this.#pathId = opened.pathId;
      this.#nodeIds = opened.nodeIds;
      this.#addedLatencyMs = opened.expectedAddedLatencyMs;
      this.#maxBytes = opened.maxBytes;
      this.#state = 'open';
      this.#opened.resolve();
    }
  }

  #receive({ host, port, data }: Datagram): void {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const info: DatagramInfo = { address: host, family: familyOf(host), port, size: bytes.length };
    if (this.#readers.size === 0 && this.listenerCount('message') === 0) {
      this.#droppedReceiving++;
      return;
    }
    for (const { queue, wake } of this.#readers) {
      if (queue.length >= MAX_WAITING) {
        queue.shift();
        this.#droppedReceiving++;
      }
      queue.push([bytes, info]);
      wake();
    }
    if (this.emit('message', bytes, info)) this.#received++;
  }

  readonly #onAbort = (): void => {
    const cancelled = new NyxError('CANCELLED', 'createDatagramSocket: cancelled', { cause: this.#signal?.reason });
    this.#end(this.#state === 'opening' ? cancelled : undefined);
  };

  /** `error` undefined: by this application. */
  #end(error: NyxError | undefined): void {
    if (this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    this.#state = 'closed';
    this.#error = error;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#waiting.length = 0;
    // The cancellation itself comes back as an error; it is this side's own doing.
    this.#call.on('error', () => {});
    this.#call.cancel();
    const why = error ?? new NyxError('CANCELLED', 'the socket was closed');
    this.#opened.reject(why);
    for (const { reject } of [...this.#asking, ...this.#askingNext]) reject(why);
    for (const { wake } of this.#readers) wake();
    // An error that a reader throws, or createDatagramSocket, need not be listened for as well.
    const told = !wasOpen || this.#readers.size > 0;
    if (error !== undefined && (!told || this.listenerCount('error') > 0)) this.emit('error', error);
    this.emit('close');
  }
}

function familyOf(address: string): 'IPv4' | 'IPv6' {
  return address.includes(':') ? 'IPv6' : 'IPv4';
}

/** What an address takes of a cell. */
function addressBytes(host: string): number {
  const version = isIP(host);
  if (version === 0) return Buffer.byteLength(host);
  return version === 4 ? 4 : 16;
}
