/** One call of StreamService.Datagrams, from open to its end: a UDP association of an application. */
import { type ServerDuplexStream, status } from '@grpc/grpc-js';
import type { Datagram, DatagramsRequest, DatagramsRequestOpen, DatagramsResponse } from '@nyx/proto/types.ts';
import { globalId } from '../actors/pump-pool.ts';
import type { RemoteDatagrams } from '../pump/remote-datagrams.ts';
import { MAX_UDP_BYTES } from '../pump/udp-frame.ts';
import { ApiError, invalidArgument, toStatus } from './errors.ts';
import type { ApiHost } from './host.ts';
import { pumpFor } from './pump-for.ts';
import { Validator } from './validate.ts';

/** From the call's start to its first message. */
export const OPEN_TIMEOUT_MS = 10_000;

export class DatagramsCall {
  readonly #host: ApiHost;
  readonly #call: ServerDuplexStream<DatagramsRequest, DatagramsResponse>;
  readonly #onOver: () => void;
  readonly #openTimer: NodeJS.Timeout;
  #datagrams: RemoteDatagrams | undefined;
  #opened = false;
  #counting = false;
  #over = false;

  /** `onOver` is called once. */
  constructor(host: ApiHost, call: ServerDuplexStream<DatagramsRequest, DatagramsResponse>, onOver: () => void) {
    this.#host = host;
    this.#call = call;
    this.#onOver = onOver;
    this.#openTimer = setTimeout(
      () => this.#fail(new ApiError(status.DEADLINE_EXCEEDED, 'TIMEOUT', `no open within ${OPEN_TIMEOUT_MS} ms`)),
      OPEN_TIMEOUT_MS,
    );
    call.on('data', (request: DatagramsRequest) => {
      try {
        this.#onRequest(request);
      } catch (error) {
        this.#fail(error);
      }
    });
    call.on('end', () => this.#finish());
    call.on('cancelled', () => this.#leave());
    call.on('error', () => this.#leave());
  }

  #onRequest(request: DatagramsRequest): void {
    if (this.#over) return;
    if (this.#datagrams === undefined) {
      if (request.request !== 'open' || request.open == null) {
        throw invalidArgument([{ field: 'request', description: 'must be open in the first message' }]);
      }
      this.#open(request.open);
    } else if (request.request === 'datagram' && request.datagram != null) this.#send(request.datagram);
    else if (request.request === 'count') this.#count();
    else {
      const description = `is ${request.request ?? 'empty'}; must be datagram or count`;
      throw invalidArgument([{ field: 'request', description }]);
    }
  }

  #open(request: DatagramsRequestOpen): void {
    const validator = new Validator();
    const options = validator.streamOptions('open.options', request.options);
    validator.deadlineMs('open.deadline_ms', request.deadlineMs);
    validator.check();
    clearTimeout(this.#openTimer);
    const { worker, pump } = pumpFor(this.#host, request.options?.pathId ?? 0);
    const { deadlineMs } = request;
    const datagrams = pump.openDatagrams(deadlineMs === 0 ? options : { ...options, deadlineMs });
    this.#datagrams = datagrams;
    datagrams.opened.then(
      ({ address, port, circuit, path, addedLatencyMs }) => {
        if (this.#over) return;
        this.#opened = true;
        this.#call.write({
          opened: {
            address,
            port,
            pathId: globalId(worker, circuit),
            nodeIds: [...path],
            expectedAddedLatencyMs: addedLatencyMs,
            maxBytes: MAX_UDP_BYTES,
          },
        });
        this.#pump();
      },
      () => {}, // onClose tells
    );
    datagrams.onReadable = () => this.#pump();
    datagrams.onClose = (error) => this.#fail(error);
    this.#call.on('drain', () => this.#pump());
  }

  #send(datagram: Datagram): void {
    const validator = new Validator();
    validator.datagram('datagram', datagram);
    validator.check();
    const { host, port, data, deadlineMs } = datagram;
    this.#datagrams!.send(host, port, data, deadlineMs);
  }

  /** Who asks again before the answer gets that answer for both. */
  #count(): void {
    if (this.#counting) return;
    this.#counting = true;
    this.#datagrams!.counts().then(
      (counts) => {
        this.#counting = false;
        if (!this.#over) this.#call.write({ counts });
      },
      () => {}, // onClose tells
    );
  }

  /** Moves what has arrived to the caller, as far as the call's own back-pressure allows. */
  #pump(): void {
    while (this.#opened && !this.#over && !this.#call.writableNeedDrain) {
      const datagram = this.#datagrams!.take();
      if (datagram === undefined) return;
      this.#call.write({ datagram });
    }
  }

  #finish(): void {
    if (this.#leave()) this.#call.end();
  }

  #fail(error: unknown): void {
    if (this.#leave()) this.#call.emit('error', toStatus(error));
  }

  /** False when it was over before. */
  #leave(): boolean {
    if (this.#over) return false;
    this.#over = true;
    clearTimeout(this.#openTimer);
    this.#datagrams?.close();
    this.#onOver();
    return true;
  }
}
