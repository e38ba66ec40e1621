/** nyx.api.v1.StreamService */
import { type ServerDuplexStream, status } from '@grpc/grpc-js';
import type {
  CloseStreamRequest,
  DatagramsRequest,
  DatagramsResponse,
  DataRequest,
  DataRequestOpen,
  DataResponse,
  Empty,
  GetStreamRequest,
  ListStreamsResponse,
  ResolveRequest,
  ResolveResponse,
  StatStreamRequest,
  StreamInfo,
  StreamStatistics,
} from '@nyx/proto/types.ts';
import { globalId, workerOf } from '../actors/pump-pool.ts';
import { DialError, DialErrorCode, type DialOptions } from '../pump/contract.ts';
import type { RemoteStream } from '../pump/remote-stream.ts';
import { DatagramsCall, OPEN_TIMEOUT_MS } from './datagrams-call.ts';
import { ApiError, invalidArgument, notFound, toStatus } from './errors.ts';
import { pause, serverStream, unary } from './handlers.ts';
import type { ApiHost } from './host.ts';
import { pumpFor } from './pump-for.ts';
import { Validator } from './validate.ts';
import { paths, streams } from './views.ts';

const DEFAULT_CREDIT_BYTES = 1024 * 1024;
const MAX_CREDIT_BYTES = 64 * 1024 * 1024;
/** Between two messages of StatStream. */
const DEFAULT_INTERVAL_MS = 1000;
const MAX_DATA_BYTES = 65_536;

export const streamService = (host: ApiHost) => {
  return {
    Data: (call: ServerDuplexStream<DataRequest, DataResponse>): void => {
      const leave = enter(host, call);
      if (leave !== undefined) new DataCall(host, call, leave);
    },

    Datagrams: (call: ServerDuplexStream<DatagramsRequest, DatagramsResponse>): void => {
      const leave = enter(host, call);
      if (leave !== undefined) new DatagramsCall(host, call, leave);
    },

    ListStreams: unary<Empty, ListStreamsResponse>(async () => {
      await host.measure();
      return { streams: streams(host) };
    }),

    GetStream: unary<GetStreamRequest, StreamInfo>(async ({ streamId }) => await find(host, streamId)),

    StatStream: serverStream<StatStreamRequest, StreamStatistics>(async ({ streamId, intervalMs }, send, signal) => {
      const validator = new Validator();
      if (intervalMs !== 0) validator.integer('interval_ms', intervalMs, 100, 60_000);
      validator.check();
      await find(host, streamId);
      while (!signal.aborted) {
        await host.measure();
        const stream = streams(host).find((candidate) => candidate.streamId === streamId);
        if (stream === undefined) return;
        const path = paths(host).find((candidate) => candidate.pathId === stream.pathId);
        await send({ timeUnixMs: host.context.unixMs(), stream, ...(path === undefined ? {} : { path }) });
        await pause(intervalMs === 0 ? DEFAULT_INTERVAL_MS : intervalMs, signal);
      }
    }),

    CloseStream: unary<CloseStreamRequest, Empty>(async ({ streamId }) => {
      await find(host, streamId);
      host.pool.get(workerOf(streamId))?.send({ type: 'close-stream', id: streamId });
      return {};
    }),

    Resolve: unary<ResolveRequest, ResolveResponse>(async (request) => {
      const validator = new Validator();
      const options = validator.streamOptions('options', request.options);
      const { query } = request;
      if (query === undefined) validator.fail('query', 'is missing; set name or address');
      const value = (query === 'name' ? request.name : request.address) ?? '';
      if (query !== undefined) validator.host(query, value);
      validator.check();
      const { pump } = pumpFor(host, request.options?.pathId ?? 0);
      const { addresses, name } = await pump.resolve(query!, value, options);
      return { addresses: addresses.map((entry) => ({ ...entry })), ...(name === undefined ? {} : { name }) };
    }),
  };
};

/** Counts a call that carries something; what undoes that. Undefined: there is no room for it, and it has been told. */
const enter = (host: ApiHost, call: { emit(event: 'error', error: Error): boolean }): (() => void) | undefined => {
  const { apiStreams } = host;
  const limit = host.context.config.limits.maxApiStreams;
  if (host.state() === 'draining') {
    call.emit('error', toStatus(new DialError(DialErrorCode.shutdown, 'the daemon is shutting down')));
    return undefined;
  }
  if (apiStreams.open >= limit) {
    const message = `${limit} API streams are open, which is the limit`;
    call.emit('error', toStatus(new DialError(DialErrorCode.limit, message)));
    return undefined;
  }
  apiStreams.open++;
  return () => {
    apiStreams.open--;
  };
};

const find = async (host: ApiHost, streamId: number): Promise<StreamInfo> => {
  const validator = new Validator();
  validator.id('stream_id', streamId);
  validator.check();
  await host.measure();
  const found = streams(host).find((stream) => stream.streamId === streamId);
  if (found === undefined) throw notFound('stream', streamId);
  return found;
};

/** One call of Data, from open to its end. */
class DataCall {
  readonly #host: ApiHost;
  readonly #call: ServerDuplexStream<DataRequest, DataResponse>;
  readonly #onOver: () => void;
  readonly #openTimer: NodeJS.Timeout;
  #worker = 0;
  #stream: RemoteStream | undefined;
  /** Bytes that the caller can take. */
  #sendCreditBytes = 0;
  /** Bytes that the caller may still send. */
  #receiveCreditBytes = DEFAULT_CREDIT_BYTES;
  #ended = false;
  /** Credit that is given back once `opened` is out, which comes first. */
  #owedCreditBytes = 0;
  #opened = false;
  #over = false;

  constructor(host: ApiHost, call: ServerDuplexStream<DataRequest, DataResponse>, onOver: () => void) {
    this.#host = host;
    this.#call = call;
    this.#onOver = onOver;
    this.#openTimer = setTimeout(
      () => this.#fail(new ApiError(status.DEADLINE_EXCEEDED, 'TIMEOUT', `no open within ${OPEN_TIMEOUT_MS} ms`)),
      OPEN_TIMEOUT_MS,
    );
    call.on('data', (request: DataRequest) => {
      try {
        this.#onRequest(request);
      } catch (error) {
        this.#fail(error);
      }
    });
    // The caller's half of the call ends: the same as an `end` message.
    call.on('end', () => this.#endWriting());
    call.on('cancelled', () => this.#abandon(new DialError(DialErrorCode.cancelled, 'the caller cancelled')));
    call.on('error', () => this.#abandon(new DialError(DialErrorCode.cancelled, 'the call broke')));
  }

  #onRequest(request: DataRequest): void {
    if (this.#over) return;
    if (this.#stream === undefined) {
      if (request.request !== 'open' || request.open == null) {
        throw invalidArgument([{ field: 'request', description: 'must be open in the first message' }]);
      }
      this.#open(request.open);
      return;
    }
    switch (request.request) {
      case 'data':
        this.#write(request.data!);
        break;
      case 'creditBytes':
        this.#addCredit(request.creditBytes!);
        break;
      case 'end':
        this.#endWriting();
        break;
      case 'reset':
        this.#abandon(new DialError(resetCode(request.reset?.code ?? ''), 'reset by the caller'));
        this.#call.end();
        break;
      default:
        throw invalidArgument([
          {
            field: 'request',
            description: `is ${request.request ?? 'empty'}; must be data, credit_bytes, end or reset`,
          },
        ]);
    }
  }

  #open(request: DataRequestOpen): void {
    const validator = new Validator();
    validator.host('open.host', request.host);
    validator.port('open.port', request.port);
    validator.integer('open.initial_credit_bytes', request.initialCreditBytes, 0, MAX_CREDIT_BYTES);
    const options: DialOptions = validator.streamOptions('open.options', request.options);
    validator.check();
    clearTimeout(this.#openTimer);
    const { worker, pump } = pumpFor(this.#host, request.options?.pathId ?? 0);
    this.#worker = worker;
    this.#sendCreditBytes = request.initialCreditBytes === 0 ? DEFAULT_CREDIT_BYTES : request.initialCreditBytes;
    const stream = pump.openStream({ target: { kind: 'tcp', host: request.host, port: request.port }, options });
    this.#stream = stream;
    stream.listed.then(
      (streamId) => {
        const expectedAddedLatencyMs = stream.addedLatencyMs;
        this.#send({ opened: { streamId, initialCreditBytes: DEFAULT_CREDIT_BYTES, expectedAddedLatencyMs } });
        this.#opened = true;
        this.#giveCredit();
      },
      () => {}, // the stream's own failure is told below
    );
    stream.connected.then(
      ({ address, port, circuit, path }) =>
        this.#send({ connected: { address, port, pathId: globalId(this.#worker, circuit), nodeIds: [...path] } }),
      () => {}, // likewise
    );
    stream.on('readable', () => this.#pump());
    this.#call.on('drain', () => this.#pump());
    stream.on('end', () => this.#send({ end: {} }));
    stream.on('error', (error) => this.#fail(error));
    stream.on('close', () => this.#finish());
  }

  #write(data: Uint8Array): void {
    const sizeBytes = data.length;
    if (sizeBytes > MAX_DATA_BYTES) {
      throw invalidArgument([
        { field: 'data', description: `has ${sizeBytes} bytes; must have at most ${MAX_DATA_BYTES}` },
      ]);
    }
    if (sizeBytes > this.#receiveCreditBytes) {
      throw new ApiError(
        status.RESOURCE_EXHAUSTED,
        'FLOW_CONTROL',
        `${sizeBytes} bytes were sent with credit for ${this.#receiveCreditBytes}; wait for credit_bytes`,
      );
    }
    if (this.#ended)
      throw invalidArgument([{ field: 'request', description: 'is data after end; nothing may follow' }]);
    if (sizeBytes === 0) return;
    this.#receiveCreditBytes -= sizeBytes;
    this.#stream!.write(data, (error) => {
      if (error) return; // 'error' tells
      this.#receiveCreditBytes += sizeBytes;
      this.#owedCreditBytes += sizeBytes;
      this.#giveCredit();
    });
  }

  #giveCredit(): void {
    if (!this.#opened || this.#owedCreditBytes === 0) return;
    this.#send({ creditBytes: this.#owedCreditBytes });
    this.#owedCreditBytes = 0;
  }

  #addCredit(bytes: number): void {
    if (bytes > MAX_CREDIT_BYTES || this.#sendCreditBytes + bytes > MAX_CREDIT_BYTES) {
      throw invalidArgument([
        { field: 'credit_bytes', description: `adds up to more than ${MAX_CREDIT_BYTES}; grant what can be taken` },
      ]);
    }
    this.#sendCreditBytes += bytes;
    this.#pump();
  }

  /** Moves what has arrived to the caller, as far as credit and the call's own back-pressure allow. */
  #pump(): void {
    const stream = this.#stream!;
    while (!this.#over && this.#sendCreditBytes > 0 && !this.#call.writableNeedDrain) {
      const wantedBytes = Math.min(stream.readableLength, this.#sendCreditBytes, MAX_DATA_BYTES);
      const data = wantedBytes > 0 ? (stream.read(wantedBytes) as Buffer | null) : (stream.read() as Buffer | null);
      if (data === null) return;
      this.#sendCreditBytes -= data.length;
      this.#send({ data });
    }
  }

  #endWriting(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#stream === undefined) {
      this.#fail(invalidArgument([{ field: 'request', description: 'must be open in the first message' }]));
      return;
    }
    this.#stream.end();
  }

  #send(response: DataResponse): void {
    if (!this.#over) this.#call.write(response);
  }

  /** Both directions are done. */
  #finish(): void {
    if (!this.#leave()) return;
    this.#call.end();
  }

  #fail(error: unknown): void {
    if (!this.#leave()) return;
    this.#stream?.destroy();
    this.#call.emit('error', toStatus(error));
  }

  #abandon(error: DialError): void {
    if (!this.#leave()) return;
    this.#stream?.destroy(error);
  }

  /** False when it was over before. */
  #leave(): boolean {
    if (this.#over) return false;
    this.#over = true;
    clearTimeout(this.#openTimer);
    this.#onOver();
    return true;
  }
}

const resetCode = (code: string): DialErrorCode => {
  if (code === '') return DialErrorCode.cancelled;
  const known = Object.values(DialErrorCode).find((entry) => entry === code);
  if (known === undefined) {
    throw invalidArgument([
      {
        field: 'reset.code',
        description: `is "${code.slice(0, 50)}"; must be one of ${Object.values(DialErrorCode).join(', ')}`,
      },
    ]);
  }
  return known;
};
