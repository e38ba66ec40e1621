/**
 * One stream of a user through the network, from dial to close. Its duplex exists at once; the stream under it may be
 * replaced as long as the target has not answered: when the circuit fails (a few times), when another one is ready while
 * nothing comes back on this one, or when the exit of a circuit that was made for another target refuses this one.
 * What was written before the target has answered may therefore reach it more than once, on connections of its own.
 */
import type { Duplex } from 'node:stream';
import { SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import type { CircuitPool, CircuitRequest } from './circuit-pool.ts';
import { DialError, DialErrorCode, type NyxConnection, type StreamInfo } from './contract.ts';
import { RACE_MS } from './path-race.ts';
import type { CircuitUser, PooledCircuit } from './pooled-circuit.ts';
import { SessionDuplex } from './session-duplex.ts';

export interface ConnectedFrom {
  readonly address: string;
  readonly port: number;
  readonly family: 4 | 6;
}

export interface ClientStreamHost {
  readonly pool: CircuitPool;
  nowMs(): number;
  /** Calls once after this time; gives what cancels that. */
  schedule(delayMs: number, callback: () => void): () => void;
  /** Runs a task once at the end of this turn of the event loop. */
  readonly atTurnEnd: (task: () => void) => void;
  tell(kind: 'opened' | 'connected' | 'closed', stream: StreamInfo, reason?: string): void;
  /** It is over: forget it. */
  release(stream: ClientStream): void;
}

export interface ClientStreamOptions {
  readonly id: number;
  readonly source: StreamInfo['source'];
  readonly target: { readonly host: string; readonly port: number };
  readonly isolation: string;
  readonly hops: number;
  readonly class: CircuitRequest['class'];
  readonly wish: CircuitRequest['wish'];
  readonly addedLatencyMs: number;
  /** This circuit and no other. */
  readonly circuit: number | undefined;
  readonly timeoutMs: number;
  readonly openedAtUnixMs: number;
}

/** Circuits tried after one failed and with it all that were tried beside it; the dial's time-out bounds them all. */
const MAX_RETRIES = 3;

/** Whether a stream's end says that the circuit or the exit failed, not the target. */
function isCircuitFailure(code: number): boolean {
  return code < SessionError.cancelled || code === SessionError.sessionLost || code === SessionError.shutdown;
}

export class ClientStream implements NyxConnection, CircuitUser {
  readonly duplex: Duplex;
  readonly connected: Promise<ConnectedFrom>;
  readonly id: number;
  readonly addedLatencyMs: number;
  readonly #options: ClientStreamOptions;
  readonly #host: ClientStreamHost;
  readonly #duplex: SessionDuplex;
  readonly #resolve: (from: ConnectedFrom) => void;
  readonly #reject: (error: DialError) => void;
  readonly #timer: NodeJS.Timeout;
  #record: PooledCircuit | undefined;
  #state: StreamInfo['state'] = 'opening';
  readonly #startedMs: number;
  #retries: number;
  #exact = false;
  #cancelQuiet: () => void = () => {};

  constructor(options: ClientStreamOptions, host: ClientStreamHost, signal: AbortSignal | undefined) {
    this.id = options.id;
    this.addedLatencyMs = options.addedLatencyMs;
    this.#options = options;
    this.#host = host;
    this.#startedMs = host.nowMs();
    this.#retries = options.circuit === undefined ? MAX_RETRIES : 0;
    const { promise, resolve, reject } = Promise.withResolvers<ConnectedFrom>();
    this.connected = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    // Whoever only watches the duplex hears of a failure there.
    promise.catch(() => {});
    this.#duplex = new SessionDuplex(undefined, {
      atTurnEnd: host.atTurnEnd,
      onUnconfirmedEnd: (code) => this.#onUnconfirmedEnd(code),
    });
    this.duplex = this.#duplex;
    this.#timer = setTimeout(() => {
      this.#fail(new DialError(DialErrorCode.timeout, `not connected after ${options.timeoutMs} ms`));
    }, options.timeoutMs);
    const onAbort = () => this.#fail(abortError(signal!));
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#duplex.on('error', () => {}); // told by 'close' below; without a listener it would end the process
    this.#duplex.once('close', () => {
      signal?.removeEventListener('abort', onAbort);
      this.#onClose();
    });
    host.tell('opened', this.info());
    if (signal?.aborted) onAbort();
    else void this.#dial();
  }

  get bytesSent(): number {
    return this.#duplex.stream?.stats.bytesWritten ?? 0;
  }

  get bytesReceived(): number {
    return this.#duplex.stream?.stats.bytesReceived ?? 0;
  }

  get bufferedBytes(): number {
    return this.#duplex.bufferedBytes;
  }

  readonly path = (): readonly string[] => this.#record?.path ?? [];

  readonly circuit = (): number | undefined => this.#record?.circuit;

  lendReads(isTaken: () => boolean): void {
    this.#duplex.lendReads(isTaken);
  }

  info(): StreamInfo {
    const { host, port } = this.#options.target;
    return {
      id: this.id,
      target: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
      source: this.#options.source,
      circuit: this.circuit(),
      path: this.path(),
      openedAtUnixMs: this.#options.openedAtUnixMs,
      bytesSent: this.bytesSent,
      bytesReceived: this.bytesReceived,
      bytesAcknowledged: this.#duplex.stream?.stats.bytesAcked ?? 0,
      bytesRetransmitted: this.#duplex.stream?.stats.bytesRetransmitted ?? 0,
      state: this.#state === 'open' && this.#duplex.writableEnded ? 'closing' : this.#state,
    };
  }

  async #dial(unfit?: PooledCircuit): Promise<void> {
    try {
      const record = await this.#acquire(unfit);
      if (this.#duplex.destroyed) return;
      const stream = this.#open(record) ?? this.#open(await this.#acquire(record));
      if (stream === undefined) throw new DialError(DialErrorCode.limit, 'the session has all the streams it may have');
      if (this.#duplex.destroyed) {
        stream.reset(SessionError.cancelled);
        return;
      }
      stream.onConnected = (family, address, port) => this.#onConnected(stream, family, address, port);
      this.#duplex.attach(stream);
      this.#listenForQuiet();
    } catch (error) {
      this.#fail(
        error instanceof DialError
          ? error
          : new DialError(DialErrorCode.internal, (error as Error).message ?? 'failed'),
      );
    }
  }

  async #acquire(unfit: PooledCircuit | undefined): Promise<PooledCircuit> {
    const { pool } = this.#host;
    const { circuit } = this.#options;
    if (circuit === undefined) return pool.acquire(this.#request, unfit);
    const record = pool.find(circuit);
    if (record === undefined || unfit !== undefined) {
      throw new DialError(DialErrorCode.badRequest, `there is no circuit ${circuit} that takes streams`);
    }
    return record;
  }

  get #request(): CircuitRequest {
    const { isolation, hops, target, wish } = this.#options;
    return { isolation, hops, class: this.#options.class, target, exact: this.#exact, wish };
  }

  /** On a ready circuit something comes back soon, whatever the target does: the exit acknowledges the CONNECT. */
  #listenForQuiet(): void {
    this.#cancelQuiet();
    const record = this.#record!;
    if (this.#options.circuit !== undefined || record.state !== 'ready') return;
    const { packetsReceived } = record.session.stats;
    const sinceMs = this.#host.nowMs();
    this.#cancelQuiet = this.#host.schedule(this.#host.pool.quietMs(record), () => {
      if (record.session.stats.packetsReceived === packetsReceived) void this.#replace(record, sinceMs);
    });
  }

  async #replace(record: PooledCircuit, sinceMs: number): Promise<void> {
    const isStuck = () =>
      this.#state === 'opening' && !this.#duplex.destroyed && !this.#duplex.confirmed && this.#record === record;
    if (!isStuck()) return;
    try {
      const other = await this.#host.pool.replacement(record, this.#request, sinceMs);
      if (other === undefined || !isStuck() || !record.isQuiet) return;
      this.#duplex.detach();
      await this.#dial(record);
    } catch (error) {
      // No other path: the circuit under the stream may still come back, and its end is told to the stream.
      if (!(error instanceof DialError)) throw error;
    }
  }

  /** Undefined at the session's limit of streams, or when it has just ended. */
  #open(record: PooledCircuit): SessionStream | undefined {
    if (record.session.closed) return undefined;
    const { host, port } = this.#options.target;
    const stream = record.session.openStream({ kind: 'tcp', host, port });
    if (stream === undefined) return undefined;
    this.#leave();
    this.#record = record;
    this.#host.pool.enter(record, this);
    return stream;
  }

  #onConnected(stream: SessionStream, family: 4 | 6, address: string, port: number): void {
    if (this.#state !== 'opening' || stream !== this.#duplex.stream) return;
    this.#state = 'open';
    this.#cancelQuiet();
    clearTimeout(this.#timer);
    this.#duplex.confirm();
    this.#host.tell('connected', this.info());
    this.#resolve({ address, port, family });
  }

  /** Called from within the engine: what follows waits until it has said everything about the circuit. */
  #onUnconfirmedEnd(code: number): boolean {
    const record = this.#record;
    if (record === undefined || this.#duplex.destroyed) return false;
    if (isCircuitFailure(code)) {
      queueMicrotask(() => {
        if (this.#duplex.destroyed) return;
        // Another path was sooner, or may still come: no failure.
        const isEarly = this.#host.nowMs() - this.#startedMs < RACE_MS;
        if (record.hasSuccessor || (isEarly && this.#retries-- > 0)) void this.#dial(record);
        else this.#fail(record.failure());
      });
      return true;
    }
    const { host, port } = this.#options.target;
    if (code === SessionError.exitPolicy && !this.#exact && record.askedFor !== `${host}:${port}`) {
      record.unfitPorts.add(port);
      if (this.#options.circuit !== undefined) return false;
      this.#exact = true;
      queueMicrotask(() => {
        if (!this.#duplex.destroyed) void this.#dial(record);
      });
      return true;
    }
    return false;
  }

  #fail(error: DialError): void {
    this.#duplex.destroy(error);
  }

  #leave(): void {
    this.#record?.leave(this, this.#host.nowMs());
  }

  #onClose(): void {
    clearTimeout(this.#timer);
    this.#cancelQuiet();
    const error = this.#duplex.errored;
    const reason = error instanceof DialError ? error.code : undefined;
    if (this.#state === 'opening') {
      this.#reject(
        error instanceof DialError ? error : new DialError(DialErrorCode.cancelled, error?.message ?? 'given up'),
      );
    }
    this.#state = 'closed';
    this.#host.tell('closed', this.info(), reason);
    this.#leave();
    this.#host.release(this);
  }
}

export function abortError(signal: AbortSignal): DialError {
  const { reason } = signal;
  return reason instanceof DialError ? reason : new DialError(DialErrorCode.cancelled, 'the dial was given up');
}
