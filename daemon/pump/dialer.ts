/**
 * Opens streams, UDP associations and name look-ups over circuits of this worker, for the proxies and for the API.
 * Which circuit: circuit-pool.ts. The life of one stream: client-stream.ts.
 */
import type { ClientCircuitEvent, EngineApi, NodeContact } from '@nyx/core/engine/contract.ts';
import type { FecPolicy } from '@nyx/core/fec/policy.ts';
import type { ResolvedAddress } from '@nyx/core/stream/contract.ts';
import { schedulers } from '@nyx/core/stream/path-choice.ts';
import { CircuitPool, type PoolHost } from './circuit-pool.ts';
import { ClientStream, type ClientStreamHost } from './client-stream.ts';
import {
  type CmixOptions,
  DialError,
  DialErrorCode,
  type Dialer,
  type DialOptions,
  type MixOptions,
  type MultipathOptions,
  type NyxConnection,
  type PathConstraints,
  type PumpStats,
  type StreamInfo,
} from './contract.ts';
import { associate, type DatagramAssociation } from './datagram-association.ts';
import { describeSessionError, dialCodeOf } from './dial-code.ts';
import type { CircuitUser, PathWish, PooledCircuit } from './pooled-circuit.ts';

/** From dial to the target's answer, when the dial says nothing else. */
const DIAL_TIMEOUT_MS = 30_000;
/** Circuits under a session (docs/protocol.md §5.5). */
const MAX_PATHS = 8;
/** Class cmix: accumulators of a batch with few cells, before its delay begins; a full one takes some 300 ms. */
const PROVING_MS = 30;
const MIN_HOPS = 3;
const MAX_HOPS = 7;

type Source = StreamInfo['source'];

export interface DialerHost extends PoolHost {
  /** Class cmix: how long batches are delayed, by the view. */
  batchDelayMs(): number;
  unixMs(): number;
  /** Runs a task once at the end of this turn of the event loop. */
  readonly atTurnEnd: (task: () => void) => void;
}

export interface SessionDialerOptions {
  /** Stream ids are `worker * 2^32 + n`. */
  readonly worker: number;
  readonly defaultHops: number;
  readonly mix: MixOptions;
  readonly cmix: Pick<CmixOptions, 'hops' | 'maxWaitMs'>;
  readonly multipath: MultipathOptions;
  /** Error correction when the application does not say. */
  readonly fec: FecPolicy;
  /** Circuits at once. */
  readonly maxCircuits: number;
  /** Of the default length, kept ready. */
  readonly spareCircuits: number;
}

const poolOptions = (
  { maxCircuits, mix, cmix, spareCircuits, defaultHops }: SessionDialerOptions,
  host: DialerHost,
) => ({
  maxCircuits,
  mixDelayMs: mix.delayMs,
  batchMs: () => cmix.maxWaitMs + host.batchDelayMs() + PROVING_MS,
  spares: { count: spareCircuits, hops: defaultHops },
});

export class SessionDialer implements Dialer {
  readonly pool: CircuitPool;
  #options: SessionDialerOptions;
  readonly #host: DialerHost;
  readonly #streams = new Map<number, ClientStream>();
  readonly #associations = new Set<DatagramAssociation>();
  readonly #streamHost: ClientStreamHost;
  #lastStream = 0;
  #closing = false;

  constructor(options: SessionDialerOptions, deps: { readonly engine: EngineApi; readonly host: DialerHost }) {
    this.#options = options;
    this.#host = deps.host;
    this.pool = new CircuitPool(deps.engine, deps.host, poolOptions(options, deps.host));
    this.#streamHost = {
      pool: this.pool,
      nowMs: () => deps.host.nowMs(),
      schedule: (delayMs, callback) => deps.host.schedule(delayMs, callback),
      atTurnEnd: deps.host.atTurnEnd,
      tell: (kind, stream, reason) => deps.host.tell({ type: 'stream', kind, stream, reason }),
      release: (stream) => this.#streams.delete(stream.id),
    };
  }

  /** For streams and circuits to come. */
  retune(options: SessionDialerOptions): void {
    this.#options = options;
    this.pool.retune(poolOptions(options, this.#host));
  }

  /** The same dialer for one kind of user: its streams are listed under that name. */
  forSource(source: Source): Dialer {
    return {
      connect: (target, options, signal) => this.connect(target, options, signal, source),
      datagrams: (options) => this.datagrams(options),
      resolve: (kind, value, options) => this.resolve(kind, value, options),
    };
  }

  connect(
    target: { readonly host: string; readonly port: number },
    options: DialOptions,
    signal?: AbortSignal,
    source: Source = 'api',
  ): NyxConnection {
    const problem = this.#problemWith(options) ?? problemWithTarget(target);
    const aborted = problem === undefined ? signal : AbortSignal.abort(problem);
    const hops = this.#hopsOf(options);
    const given = options.circuit === undefined ? undefined : this.pool.find(options.circuit);
    const circuitClass = options.class ?? given?.class ?? 'fast';
    const stream = new ClientStream(
      {
        id: this.#options.worker * 2 ** 32 + ++this.#lastStream,
        source,
        target,
        isolation: options.isolation ?? '',
        hops,
        class: circuitClass,
        wish: this.#wishOf(options),
        addedLatencyMs: given?.addedLatencyMs ?? this.pool.addedLatencyMs(circuitClass, hops),
        circuit: options.circuit,
        timeoutMs: options.timeoutMs ?? DIAL_TIMEOUT_MS,
        openedAtUnixMs: this.#host.unixMs(),
      },
      this.#streamHost,
      aborted,
    );
    this.#streams.set(stream.id, stream);
    return stream;
  }

  async datagrams(options: DialOptions): Promise<DatagramAssociation> {
    return await this.#withCircuit(options, undefined, async (circuit) => {
      const { timeoutMs = DIAL_TIMEOUT_MS, deadlineMs = 0 } = options;
      const association = await associate(circuit, timeoutMs, deadlineMs, (ended) => {
        this.#associations.delete(ended);
        ended.circuit.leave(ended, this.#host.nowMs());
      });
      this.#associations.add(association);
      this.pool.enter(circuit, association);
      return association;
    });
  }

  async resolve(
    kind: 'name' | 'address',
    value: string,
    options: DialOptions,
  ): Promise<{ addresses: readonly ResolvedAddress[]; name: string | undefined }> {
    if (!isHost(value)) throw new DialError(DialErrorCode.badRequest, 'a name or address has 1…255 bytes');
    return await this.#withCircuit(options, undefined, async (circuit) => {
      const user: CircuitUser = { bytesSent: 0, bytesReceived: 0 };
      this.pool.enter(circuit, user);
      try {
        return await resolveOn(circuit, kind, value, options.timeoutMs ?? DIAL_TIMEOUT_MS);
      } finally {
        circuit.leave(user, this.#host.nowMs());
      }
    });
  }

  /** Builds a circuit over these hops, used by its number only. Resolves when it is ready. */
  async build(
    hops: readonly NodeContact[],
    constraints: PathConstraints,
  ): Promise<{ circuit: number; path: readonly string[]; setupMs: number; addedLatencyMs: number }> {
    const problem = this.#problemWith({ hops: hops.length, class: constraints.class });
    if (problem !== undefined) throw problem;
    const record = this.pool.build(hops, constraints.class);
    await record.settled;
    if (record.state !== 'ready') throw record.failure();
    const { circuit, path, setupMs = 0, addedLatencyMs } = record;
    return { circuit, path, setupMs, addedLatencyMs };
  }

  onCircuit(event: ClientCircuitEvent): void {
    this.pool.onCircuit(event);
  }

  /** Once a second or so. */
  sweep(nowMs: number): void {
    this.pool.sweep(nowMs);
  }

  /** Open streams and associations. */
  get active(): number {
    return this.#streams.size + this.#associations.size;
  }

  get bufferedBytes(): number {
    let bytes = 0;
    for (const stream of this.#streams.values()) bytes += stream.bufferedBytes;
    return bytes;
  }

  /** New dials fail with SHUTDOWN from now on. */
  stopAccepting(): void {
    this.#closing = true;
    this.pool.stopSpares();
  }

  /** Ends what is still open. Returns how much that was. */
  closeAll(): number {
    this.stopAccepting();
    const open = this.active;
    const error = new DialError(DialErrorCode.shutdown, 'the daemon is shutting down');
    for (const stream of [...this.#streams.values()]) stream.duplex.destroy(error);
    for (const association of [...this.#associations]) association.close(error);
    return open;
  }

  /** Ends a stream by its listed id with CANCELLED; nothing happens when it is over. */
  closeStream(id: number): void {
    this.#streams.get(id)?.duplex.destroy(new DialError(DialErrorCode.cancelled, 'closed over the API'));
  }

  streams(): StreamInfo[] {
    return Array.from(this.#streams.values(), (stream) => stream.info());
  }

  circuits(): PumpStats['clientCircuits'] {
    return Array.from(this.pool.all(), (record) => this.pool.stats(record));
  }

  /** Runs `use` on a circuit, once more on another one if that circuit fails under it. */
  async #withCircuit<T>(
    options: DialOptions,
    target: { readonly host: string; readonly port: number } | undefined,
    use: (circuit: PooledCircuit) => Promise<T>,
  ): Promise<T> {
    const problem = this.#problemWith(options);
    if (problem !== undefined) throw problem;
    const request = {
      isolation: options.isolation ?? '',
      hops: this.#hopsOf(options),
      class: options.class ?? ('fast' as const),
      target,
      exact: false,
      wish: this.#wishOf(options),
    };
    let failed: PooledCircuit | undefined;
    for (;;) {
      const circuit =
        options.circuit === undefined ? await this.pool.acquire(request, failed) : this.pool.find(options.circuit);
      if (circuit === undefined)
        throw new DialError(DialErrorCode.badRequest, `there is no circuit ${options.circuit}`);
      try {
        return await use(circuit);
      } catch (error) {
        if (circuit.hasSuccessor) continue;
        const lost = circuit.state === 'ended' || circuit.session.closed;
        if (!lost || failed !== undefined || options.circuit !== undefined) {
          throw lost && circuit.setupMs === undefined ? circuit.failure() : error;
        }
        failed = circuit;
      }
    }
  }

  #problemWith(options: DialOptions): DialError | undefined {
    if (this.#closing) return new DialError(DialErrorCode.shutdown, 'the daemon is shutting down');
    const hops = this.#hopsOf(options);
    if (!Number.isInteger(hops) || hops < MIN_HOPS || hops > MAX_HOPS) {
      return new DialError(DialErrorCode.badRequest, `a path has ${MIN_HOPS} to ${MAX_HOPS} hops, not ${hops}`);
    }
    const { paths, strategy } = this.#wishOf(options);
    if (!Number.isInteger(paths) || paths < 1 || paths > MAX_PATHS) {
      return new DialError(DialErrorCode.badRequest, `a session has 1 to ${MAX_PATHS} paths, not ${paths}`);
    }
    if (!schedulers.includes(strategy)) {
      return new DialError(DialErrorCode.badRequest, `strategy must be one of ${schedulers.join(', ')}`);
    }
    if (options.circuit !== undefined && options.paths !== undefined && options.paths > 1) {
      const message = 'a stream on one circuit of its choice takes no further paths';
      return new DialError(DialErrorCode.badRequest, message);
    }
    const given = options.circuit === undefined ? undefined : this.pool.find(options.circuit);
    if (given !== undefined && options.class !== undefined && options.class !== given.class) {
      const message = `circuit ${given.circuit} is of class ${given.class}, not ${options.class}`;
      return new DialError(DialErrorCode.badRequest, message);
    }
    return undefined;
  }

  #wishOf({ paths, strategy, fec }: DialOptions): PathWish {
    const { multipath } = this.#options;
    return {
      paths: paths ?? multipath.paths,
      strategy: strategy ?? multipath.strategy,
      fec: fec ?? this.#options.fec,
    };
  }

  #hopsOf(options: DialOptions): number {
    const { mix, cmix, defaultHops } = this.#options;
    return options.hops ?? { fast: defaultHops, mix: mix.hops, cmix: cmix.hops }[options.class ?? 'fast'];
  }
}

function problemWithTarget(target: { readonly host: string; readonly port: number }): DialError | undefined {
  if (!isHost(target.host)) return new DialError(DialErrorCode.badRequest, 'a host name has 1…255 bytes');
  if (!Number.isInteger(target.port) || target.port < 1 || target.port > 0xffff) {
    return new DialError(DialErrorCode.badRequest, `port must be 1…65535, not ${target.port}`);
  }
  return undefined;
}

function isHost(host: string): boolean {
  const length = Buffer.byteLength(host);
  return length >= 1 && length <= 255;
}

function resolveOn(
  circuit: PooledCircuit,
  kind: 'name' | 'address',
  value: string,
  timeoutMs: number,
): Promise<{ addresses: readonly ResolvedAddress[]; name: string | undefined }> {
  return new Promise((resolve, reject) => {
    const fail = (code: DialErrorCode, message: string) => {
      clearTimeout(timer);
      reject(new DialError(code, message));
    };
    const timer = setTimeout(() => fail(DialErrorCode.timeout, `no answer after ${timeoutMs} ms`), timeoutMs);
    void circuit.settled.then(() => {
      if (circuit.state === 'ended') fail(DialErrorCode.sessionLost, 'the circuit ended');
    });
    circuit.session.resolve(kind, value, (addresses, name, code) => {
      if (addresses === undefined && name === undefined) {
        fail(dialCodeOf(code), `not resolved: ${describeSessionError(code)}`);
        return;
      }
      clearTimeout(timer);
      resolve({ addresses: addresses ?? [], name });
    });
  });
}
