/**
 * The main thread's handle of one pump worker. A supervisor calls start(), listens for `exit`, and starts another one
 * when it comes unasked for. Every message of the worker is an event under its type.
 */
import { EventEmitter } from 'node:events';
import { type MessagePort, Worker } from 'node:worker_threads';
import type { DropName } from '@nyx/core/drop-reason.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import type { ResolvedAddress } from '@nyx/core/stream/contract.ts';
import {
  DialError,
  DialErrorCode,
  type DialOptions,
  type FromPump,
  type OutgoingPacket,
  type PathConstraints,
  type PumpOptions,
  type PumpStats,
  type PumpTuning,
  type StreamRequest,
  type ToPump,
} from './contract.ts';
import { RemoteDatagrams } from './remote-datagrams.ts';
import { RemoteStream } from './remote-stream.ts';

const START_TIMEOUT_MS = 20_000;
const STATS_TIMEOUT_MS = 5_000;
const CONFIGURE_TIMEOUT_MS = 5_000;
const BUILD_TIMEOUT_MS = 30_000;
const RESOLVE_TIMEOUT_MS = 60_000;
/** Beyond its time-out a drain may take this long to close sockets and end the thread. */
const DRAIN_GRACE_MS = 5_000;

export type PumpReady = Extract<FromPump, { readonly type: 'ready' }>;

export interface PumpExit {
  /** 0 = it drained. */
  readonly code: number;
  /** It was told to end (drain or terminate). */
  readonly expected: boolean;
  /** What it died of. */
  readonly error: Error | undefined;
}

type PumpEvents = {
  [T in FromPump['type']]: [message: Extract<FromPump, { readonly type: T }>];
} & { exit: [exit: PumpExit] };

interface Waiter {
  readonly resolve: (message: FromPump) => void;
  readonly reject: (error: DialError) => void;
  readonly timer: NodeJS.Timeout;
}

export class PumpClient extends EventEmitter<PumpEvents> {
  #worker: Worker | undefined;
  #lastRequest = 0;
  #lastStream = 0;
  readonly #waiters = new Map<number, Waiter>();
  readonly #streams = new Map<number, RemoteStream>();
  #lastAssociation = 0;
  readonly #associations = new Map<number, RemoteDatagrams>();
  #expected = false;
  #error: Error | undefined;
  #exited: Promise<PumpExit> | undefined;

  /**
   * Starts the worker and resolves when its sockets and proxies listen. Rejects with what kept it from starting (an
   * address in use: `error.code` as Node's); then it is gone. One start per running worker.
   */
  async start(options: PumpOptions): Promise<PumpReady> {
    if (this.#worker !== undefined) throw new Error('this pump is running');
    this.#expected = false;
    this.#error = undefined;
    const worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: options,
      name: `pump ${options.worker}`,
    });
    this.#worker = worker;
    const exited = Promise.withResolvers<PumpExit>();
    this.#exited = exited.promise;
    worker.on('message', (message: FromPump) => this.#onMessage(message));
    worker.on('error', (error) => {
      this.#error = error instanceof Error ? error : new Error(String(error));
    });
    worker.on('exit', (code) => exited.resolve(this.#onExit(code)));
    return await new Promise<PumpReady>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`pump ${options.worker} did not start within ${START_TIMEOUT_MS} ms`));
        void this.terminate();
      }, START_TIMEOUT_MS);
      const done = () => {
        clearTimeout(timer);
        this.off('ready', onReady);
        this.off('exit', onExit);
      };
      const onReady = (ready: PumpReady) => {
        done();
        resolve(ready);
      };
      const onExit = (exit: PumpExit) => {
        done();
        reject(exit.error ?? new Error(`pump ${options.worker} ended with code ${exit.code} before it was ready`));
      };
      this.on('ready', onReady);
      this.on('exit', onExit);
    });
  }

  get running(): boolean {
    return this.#worker !== undefined;
  }

  /** Lost when the worker is gone, as everything in it is. `transfer`: ports in the message. */
  send(message: ToPump, transfer: readonly MessagePort[] = []): void {
    this.#worker?.postMessage(message, transfer);
  }

  async stats(): Promise<PumpStats> {
    const request = ++this.#lastRequest;
    const answer = await this.#request({ type: 'stats', request }, STATS_TIMEOUT_MS);
    return expectType(answer, 'stats').stats;
  }

  /** Builds a circuit over `hops`, which is then used by its number. Rejects with DialError. */
  async build(
    constraints: PathConstraints,
    hops: readonly NodeContact[],
    timeoutMs = BUILD_TIMEOUT_MS,
  ): Promise<{ circuit: number; path: readonly string[]; setupMs: number; addedLatencyMs: number }> {
    const request = ++this.#lastRequest;
    const answer = await this.#request({ type: 'build', request, constraints, hops }, timeoutMs);
    const { circuit, path, setupMs, addedLatencyMs } = expectType(answer, 'built');
    return { circuit, path, setupMs, addedLatencyMs };
  }

  /** Resolves a name or an address at an exit. Rejects with DialError. */
  async resolve(
    kind: 'name' | 'address',
    value: string,
    options: DialOptions = {},
  ): Promise<{ addresses: readonly ResolvedAddress[]; name: string | undefined }> {
    const request = ++this.#lastRequest;
    const timeoutMs = options.timeoutMs === undefined ? RESOLVE_TIMEOUT_MS : options.timeoutMs + 1000;
    const answer = await this.#request({ type: 'resolve', request, kind, value, options }, timeoutMs);
    const { addresses, name } = expectType(answer, 'resolved');
    return { addresses, name };
  }

  /** A stream through the network. It can be written at once; `connected` tells when the target has answered. */
  openStream(request: StreamRequest): RemoteStream {
    const stream = new RemoteStream(
      ++this.#lastStream,
      request,
      (message) => this.send(message),
      ({ id }) => this.#streams.delete(id),
    );
    this.#streams.set(stream.id, stream);
    if (this.#worker === undefined) stream.lost('the pump is not running');
    return stream;
  }

  /** A UDP association through the network; `opened` tells when the exit has its socket. */
  openDatagrams(options: DialOptions): RemoteDatagrams {
    const datagrams = new RemoteDatagrams(
      ++this.#lastAssociation,
      options,
      (message) => this.send(message),
      ({ id }) => this.#associations.delete(id),
    );
    this.#associations.set(datagrams.id, datagrams);
    if (this.#worker === undefined) datagrams.lost('the pump is not running');
    return datagrams;
  }

  /** Sends packets of the message lane; what became of each: `none` = it leaves. Rejects with DialError. */
  async sendPackets(packets: readonly OutgoingPacket[]): Promise<readonly DropName[]> {
    const request = ++this.#lastRequest;
    const answer = await this.#request({ type: 'send-packets', request, packets }, STATS_TIMEOUT_MS);
    return expectType(answer, 'packets-sent').drops;
  }

  /** The worker goes over to another configuration, all of it at once; the generation that it goes by then. Rejects with DialError. */
  async configure(tuning: PumpTuning): Promise<number> {
    const request = ++this.#lastRequest;
    const answer = await this.#request({ type: 'configure', request, tuning }, CONFIGURE_TIMEOUT_MS);
    return expectType(answer, 'configured').generation;
  }

  closeCircuit(circuit: number): void {
    this.send({ type: 'close-circuit', circuit });
  }

  /** Lets open streams finish for up to `timeoutMs`, then ends the worker with code 0. */
  async drain(timeoutMs: number): Promise<PumpExit> {
    if (this.#worker === undefined || this.#exited === undefined) return { code: 0, expected: true, error: undefined };
    this.#expected = true;
    this.send({ type: 'drain', timeoutMs });
    const timer = setTimeout(() => void this.#worker?.terminate(), timeoutMs + DRAIN_GRACE_MS);
    const exit = await this.#exited;
    clearTimeout(timer);
    return exit;
  }

  /** Ends it at once. */
  async terminate(): Promise<void> {
    this.#expected = true;
    await this.#worker?.terminate();
    await this.#exited;
  }

  #onMessage(message: FromPump): void {
    switch (message.type) {
      case 'stats':
      case 'configured':
      case 'built':
      case 'resolved':
      case 'packets-sent':
        this.#takeWaiter(message.request)?.resolve(message);
        break;
      case 'request-failed':
        this.#takeWaiter(message.request)?.reject(new DialError(message.code, message.message));
        break;
      case 'stream-opened':
      case 'stream-connected':
      case 'stream-data':
      case 'stream-credit':
      case 'stream-end':
      case 'stream-closed':
        this.#streams.get(message.stream)?.handle(message);
        return; // bytes and credit are no events
      case 'datagrams-opened':
      case 'datagram':
      case 'datagrams-credit':
      case 'datagrams-counts':
      case 'datagrams-closed':
        this.#associations.get(message.association)?.handle(message);
        return;
    }
    // The types of event and message are tied by PumpEvents; the compiler cannot follow that through a union.
    (this as EventEmitter).emit(message.type, message);
  }

  #onExit(code: number): PumpExit {
    const exit: PumpExit = { code, expected: this.#expected, error: this.#error };
    this.#worker = undefined;
    const why = this.#error === undefined ? `the pump ended with code ${code}` : 'the pump failed';
    for (const [request, waiter] of this.#waiters) {
      clearTimeout(waiter.timer);
      this.#waiters.delete(request);
      waiter.reject(new DialError(this.#expected ? DialErrorCode.shutdown : DialErrorCode.sessionLost, why));
    }
    for (const stream of [...this.#streams.values()]) stream.lost(why);
    for (const datagrams of [...this.#associations.values()]) datagrams.lost(why);
    this.emit('exit', exit);
    return exit;
  }

  #request(message: Extract<ToPump, { readonly request: number }>, timeoutMs: number): Promise<FromPump> {
    return new Promise((resolve, reject) => {
      if (this.#worker === undefined) {
        reject(new DialError(DialErrorCode.internal, 'the pump is not running'));
        return;
      }
      const { request, type } = message;
      const timer = setTimeout(() => {
        this.#waiters.delete(request);
        reject(new DialError(DialErrorCode.timeout, `the pump did not answer ${type} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#waiters.set(request, { resolve, reject, timer });
      this.send(message);
    });
  }

  #takeWaiter(request: number): Waiter | undefined {
    const waiter = this.#waiters.get(request);
    if (waiter === undefined) return undefined;
    this.#waiters.delete(request);
    clearTimeout(waiter.timer);
    return waiter;
  }
}

function expectType<T extends FromPump['type']>(message: FromPump, type: T): Extract<FromPump, { readonly type: T }> {
  if (message.type !== type) throw new DialError(DialErrorCode.internal, `expected ${type}, got ${message.type}`);
  return message as Extract<FromPump, { readonly type: T }>;
}
