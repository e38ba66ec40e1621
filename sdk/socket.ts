/**
 * One stream through the network as a Duplex that stands in for a net.Socket: `connect`, `ready`, `timeout`, `close`,
 * half-close, back-pressure both ways. Over the API it is one `StreamService.Data` call; credits, not buffers, bound
 * what is under way: the daemon never sends more than this side granted, and the other way round.
 */
import { Duplex } from 'node:stream';
import { type ClientDuplexStream, status as grpcStatus, type ServiceError } from '@grpc/grpc-js';
import type { DataRequest, DataResponse, StreamOptions } from '@nyx/proto/types.ts';
import { NyxError, nyxErrorFromGrpc } from './errors.ts';

export type PathClassName = 'fast' | 'mix' | 'cmix';

export interface PathOptions {
  /** 3…7; the daemon's default when left out. */
  readonly hops?: number;
  readonly class?: PathClassName;
  /** Circuits without a common node but the last that carry it together, 1…8; as the daemon is configured when left out. */
  readonly paths?: number;
  /** How it is spread over them. */
  readonly strategy?: MultipathStrategyName;
  /** Error correction, both ways; as the daemon is configured when left out. A ratio is above 0 and at most 1. */
  readonly fec?: FecPolicy;
  /** Streams with different keys never share a circuit; at most 255 bytes. */
  readonly isolation?: string;
  /** A circuit from `paths.build`; the stream uses it and no other. */
  readonly pathId?: number;
  /** Time until the target must be reached. */
  readonly timeoutMs?: number;
}

/** `adaptive`: as the measured loss asks for, nothing without loss. A ratio: so many repair symbols for each packet. */
export type FecPolicy = 'off' | 'adaptive' | { readonly ratio: number };

export interface DialOptions extends PathOptions {
  /** Name or literal address; resolved at the exit, never here. */
  readonly host: string;
  readonly port: number;
  readonly signal?: AbortSignal;
  /** As in net.Socket: false (default) ends this side when the peer has ended its own. */
  readonly allowHalfOpen?: boolean;
}

export type DataCall = ClientDuplexStream<{ [K in keyof DataRequest]?: unknown }, DataResponse>;

/** Most bytes in one message of the API. */
const MAX_MESSAGE_BYTES = 65_536;
/** What the daemon may have under way to us. */
const RECEIVE_WINDOW_BYTES = 1024 * 1024;
/** Credit is given back in pieces of this size, so that it is not a message per chunk. */
const CREDIT_STEP_BYTES = 256 * 1024;

export const pathClassNames = {
  fast: 'PATH_CLASS_FAST',
  mix: 'PATH_CLASS_MIX',
  cmix: 'PATH_CLASS_CMIX',
} as const satisfies Record<PathClassName, string>;

export type MultipathStrategyName = 'latency_weighted' | 'lowest_latency' | 'load_balance' | 'redundant';

const multipathStrategyNames = {
  latency_weighted: 'MULTIPATH_STRATEGY_LATENCY_WEIGHTED',
  lowest_latency: 'MULTIPATH_STRATEGY_LOWEST_LATENCY',
  load_balance: 'MULTIPATH_STRATEGY_LOAD_BALANCE',
  redundant: 'MULTIPATH_STRATEGY_REDUNDANT',
} as const satisfies Record<MultipathStrategyName, string>;

export function streamOptions(options: PathOptions): Partial<StreamOptions> {
  return {
    hops: options.hops ?? 0,
    pathClass: options.class === undefined ? 'PATH_CLASS_UNSPECIFIED' : pathClassNames[options.class],
    isolation: options.isolation ?? '',
    pathId: options.pathId ?? 0,
    timeoutMs: options.timeoutMs ?? 0,
    paths: options.paths ?? 0,
    fec: options.fec === undefined ? '' : typeof options.fec === 'object' ? String(options.fec.ratio) : options.fec,
    strategy:
      options.strategy === undefined ? 'MULTIPATH_STRATEGY_UNSPECIFIED' : multipathStrategyNames[options.strategy],
  };
}

/** A call that is cancelled, and not by this side, is a daemon that went away in the middle of it. */
export function callError(error: ServiceError): NyxError {
  const known = nyxErrorFromGrpc(error);
  if (error.code !== grpcStatus.CANCELLED || error.metadata.get('grpc-status-details-bin').length > 0) return known;
  return new NyxError('DAEMON_UNREACHABLE', 'the daemon broke the call off', { cause: error });
}

/** How a socket got lost, for the list that a reconnection reports. */
export interface LostStream {
  readonly streamId: number | undefined;
  readonly host: string;
  readonly port: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

export class NyxSocket extends Duplex {
  /** What was asked for. There is no remote address in the usual sense: the name is resolved at the exit. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly remoteFamily = 'IPv4';
  /** The address that the exit connected from, once connected. */
  localAddress: string | undefined;
  localPort: number | undefined;
  /** Until the target answered. */
  connecting = true;
  bytesRead = 0;
  bytesWritten = 0;
  /** Idle time-out as in net.Socket; 0 = none. */
  timeout = 0;

  #call: DataCall | undefined;
  #streamId: number | undefined;
  #addedLatencyMs: number | undefined;
  #pathId: number | undefined;
  #nodeIds: readonly string[] = [];
  #sendCredit = 0;
  /** Bytes received whose credit has not been given back. */
  #owedCredit = 0;
  #waiting: { chunk: Buffer; offset: number; done: (error?: Error | null) => void } | undefined;
  #ended = false;
  #peerEnded = false;
  #idleTimer: NodeJS.Timeout | undefined;
  #signal: AbortSignal | undefined;
  #onAbort: (() => void) | undefined;

  /** Applications use `NyxClient.dial`. Takes the call. */
  constructor(call: DataCall, options: DialOptions) {
    super({
      allowHalfOpen: options.allowHalfOpen ?? false,
      readableHighWaterMark: CREDIT_STEP_BYTES,
      writableHighWaterMark: CREDIT_STEP_BYTES,
    });
    this.remoteAddress = options.host;
    this.remotePort = options.port;
    this.#call = call;
    call.on('data', (message: DataResponse) => this.#onMessage(message));
    call.on('error', (error: ServiceError) => this.#onFailure(callError(error)));
    call.on('status', ({ code }: { code: grpcStatus }) => {
      if (code === grpcStatus.OK && !this.#peerEnded) {
        this.#onFailure(new NyxError('SESSION_LOST', 'the daemon closed the stream before its end'));
      }
    });
    call.write({
      open: {
        host: options.host,
        port: options.port,
        options: streamOptions(options),
        initialCreditBytes: RECEIVE_WINDOW_BYTES,
      },
    });
    const signal = options.signal;
    if (signal) {
      this.#signal = signal;
      this.#onAbort = () => this.destroy(new NyxError('CANCELLED', 'dial: cancelled', { cause: signal.reason }));
      if (signal.aborted) process.nextTick(this.#onAbort);
      else signal.addEventListener('abort', this.#onAbort, { once: true });
    }
  }

  /** The stream's id in the daemon (`streams.get`), once opened. */
  get streamId(): number | undefined {
    return this.#streamId;
  }

  /** What the path's class adds to the latency one way, on average; a round trip takes twice that. Once opened. */
  get expectedAddedLatencyMs(): number | undefined {
    return this.#addedLatencyMs;
  }

  /** The circuit that carries it and its hops (NodeIDs, hex, first hop first), once connected. */
  get pathId(): number | undefined {
    return this.#pathId;
  }

  get nodeIds(): readonly string[] {
    return this.#nodeIds;
  }

  get pending(): boolean {
    return this.connecting;
  }

  get readyState(): 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.destroyed) return 'closed';
    if (this.connecting) return 'opening';
    if (this.readable && this.writable) return 'open';
    if (this.readable) return 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }

  /** As in net.Socket: `timeout` is emitted after `timeoutMs` without data either way; the stream stays open. */
  setTimeout(timeoutMs: number, callback?: () => void): this {
    this.timeout = timeoutMs;
    clearTimeout(this.#idleTimer);
    this.#idleTimer = undefined;
    if (timeoutMs > 0) {
      if (callback) this.once('timeout', callback);
      this.#idleTimer = setTimeout(() => this.emit('timeout'), timeoutMs);
      this.#idleTimer.unref();
    } else if (callback) {
      this.off('timeout', callback);
    }
    return this;
  }

  /** Does nothing: small writes always leave at once. Here so that code written for net.Socket runs. */
  setNoDelay(_noDelay?: boolean): this {
    return this;
  }

  /** Does nothing: the session below keeps itself alive. */
  setKeepAlive(_enable?: boolean, _initialDelayMs?: number): this {
    return this;
  }

  /** Does nothing: the connection to the daemon belongs to the client, and `NyxClient.ref`/`unref` decide. */
  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  address(): { address?: string; family?: string; port?: number } {
    return this.localAddress === undefined
      ? {}
      : { address: this.localAddress, family: this.localAddress.includes(':') ? 'IPv6' : 'IPv4', port: this.localPort };
  }

  /** Destroys once everything written has been sent. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** Sends a reset instead of an end. */
  resetAndDestroy(): this {
    this.destroy();
    return this;
  }

  toLostStream(): LostStream {
    return {
      streamId: this.#streamId,
      host: this.remoteAddress,
      port: this.remotePort,
      bytesRead: this.bytesRead,
      bytesWritten: this.bytesWritten,
    };
  }

  override _read(): void {
    this.#repayCredit();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#waiting = { chunk, offset: 0, done };
    this.#flush();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#ended = true;
    this.#call?.write({ end: {} });
    if (this.#peerEnded) this.#call?.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#idleTimer);
    if (this.#onAbort) this.#signal?.removeEventListener('abort', this.#onAbort);
    this.connecting = false;
    const call = this.#call;
    this.#call = undefined;
    if (call) {
      if (this.#ended && this.#peerEnded) {
        call.end();
      } else {
        call.on('error', () => {}); // the cancellation itself comes back as an error; it is this side's own doing
        call.write({ reset: { code: 'CANCELLED' } });
        call.cancel();
      }
    }
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.done(error ?? new NyxError('CANCELLED', 'the stream was destroyed'));
    done(error);
  }

  #onMessage(message: DataResponse): void {
    if (this.destroyed) return;
    if (message.data !== undefined && message.response === 'data') {
      const chunk = message.data;
      this.bytesRead += chunk.length;
      this.#owedCredit += chunk.length;
      this.#touch();
      if (this.push(chunk)) this.#repayCredit();
    } else if (message.response === 'creditBytes') {
      this.#sendCredit += message.creditBytes ?? 0;
      this.#flush();
    } else if (message.opened) {
      this.#streamId = message.opened.streamId;
      this.#addedLatencyMs = message.opened.expectedAddedLatencyMs;
      this.#sendCredit += message.opened.initialCreditBytes;
      this.#flush();
    } else if (message.connected) {
      this.localAddress = message.connected.address;
      this.localPort = message.connected.port;
      this.#pathId = message.connected.pathId;
      this.#nodeIds = message.connected.nodeIds;
      this.connecting = false;
      this.#touch();
      this.emit('connect');
      this.emit('ready');
    } else if (message.end) {
      this.#peerEnded = true;
      this.push(null);
      if (this.#ended) this.#call?.end();
    }
  }

  #onFailure(error: NyxError): void {
    this.#call = undefined;
    if (!this.destroyed) this.destroy(error);
  }

  /** Sends as much of the waiting chunk as credit allows; its callback, and so `drain`, waits for the rest. */
  #flush(): void {
    const waiting = this.#waiting;
    if (!waiting || !this.#call) return;
    while (waiting.offset < waiting.chunk.length && this.#sendCredit > 0) {
      const size = Math.min(waiting.chunk.length - waiting.offset, this.#sendCredit, MAX_MESSAGE_BYTES);
      this.#call.write({ data: waiting.chunk.subarray(waiting.offset, waiting.offset + size) });
      waiting.offset += size;
      this.#sendCredit -= size;
      this.bytesWritten += size;
    }
    if (waiting.offset === waiting.chunk.length) {
      this.#waiting = undefined;
      this.#touch();
      waiting.done();
    }
  }

  #repayCredit(): void {
    if (this.#owedCredit < CREDIT_STEP_BYTES || !this.#call || this.#peerEnded) return;
    this.#call.write({ creditBytes: this.#owedCredit });
    this.#owedCredit = 0;
  }

  #touch(): void {
    this.#idleTimer?.refresh();
  }
}
