/**
 * The main thread's end of an API association (the worker's is datagram-bridge.ts). Nothing holds anybody up: what
 * finds no room is dropped and counted, towards the network the newest, towards the reader the oldest.
 */
import {
  DATAGRAM_CREDIT,
  DATAGRAM_CREDIT_STEP,
  type DatagramCounts,
  DialError,
  DialErrorCode,
  type DialOptions,
  type FromPump,
  type ToPump,
} from './contract.ts';

/** Datagrams that wait for a reader. */
const MAX_WAITING = 256;

export interface RemoteOpened {
  /** The exit's side of it. */
  readonly address: string;
  readonly port: number;
  readonly circuit: number;
  readonly path: readonly string[];
  /** What the class adds to the latency one way, on average. */
  readonly addedLatencyMs: number;
}

export interface ReceivedDatagram {
  /** Who sent it. */
  readonly host: string;
  readonly port: number;
  readonly data: Uint8Array;
}

type DatagramsMessage = Extract<FromPump, { readonly association: number }>;

export class RemoteDatagrams {
  readonly id: number;
  /** Settles when the exit has its socket; rejects with DialError. */
  readonly opened: Promise<RemoteOpened>;
  /** A datagram can be taken. */
  onReadable: (() => void) | undefined = undefined;
  /** It is over, and not by close(). */
  onClose: ((error: DialError) => void) | undefined = undefined;
  readonly #send: (message: ToPump) => void;
  readonly #onOver: (datagrams: RemoteDatagrams) => void;
  readonly #opened = Promise.withResolvers<RemoteOpened>();
  #isOpen = false;
  #over = false;
  #sendCredit = DATAGRAM_CREDIT;
  #owedCredit = 0;
  readonly #waiting: ReceivedDatagram[] = [];
  #taken = 0;
  #droppedSending = 0;
  #droppedReceiving = 0;
  #counting: PromiseWithResolvers<DatagramCounts> | undefined;

  constructor(
    id: number,
    options: DialOptions,
    send: (message: ToPump) => void,
    onOver: (datagrams: RemoteDatagrams) => void,
  ) {
    this.id = id;
    this.#send = send;
    this.#onOver = onOver;
    this.opened = this.#opened.promise;
    // Whoever only watches onClose hears of a failure there.
    this.opened.catch(() => {});
    send({ type: 'datagrams-open', association: id, options });
  }

  /** Copies `data`. Dropped and counted before `opened`, after the end, and when too many are under way. */
  send(host: string, port: number, data: Uint8Array, deadlineMs: number | undefined): void {
    if (!this.#isOpen || this.#over || this.#sendCredit === 0) {
      this.#droppedSending++;
      return;
    }
    this.#sendCredit--;
    // A copy: cloning a view of Node's pooled memory would copy the pool and show it to the other side.
    this.#send({ type: 'datagram', association: this.id, host, port, data: new Uint8Array(data), deadlineMs });
  }

  /** The oldest one that waits. */
  take(): ReceivedDatagram | undefined {
    const datagram = this.#waiting.shift();
    if (datagram !== undefined) this.#taken++;
    return datagram;
  }

  /** After all that was sent before has been taken or dropped. Who asks meanwhile gets the same answer. Rejects with DialError. */
  counts(): Promise<DatagramCounts> {
    if (this.#counting === undefined) {
      this.#counting = Promise.withResolvers();
      if (this.#over) this.#counting.reject(new DialError(DialErrorCode.cancelled, 'the association is over'));
      else this.#send({ type: 'datagrams-count', association: this.id });
    }
    return this.#counting.promise;
  }

  /** A message of the worker's about this association. */
  handle(message: DatagramsMessage): void {
    if (this.#over) return;
    switch (message.type) {
      case 'datagrams-opened': {
        const { address, port, circuit, path, addedLatencyMs } = message;
        this.#isOpen = true;
        this.#opened.resolve({ address, port, circuit, path, addedLatencyMs });
        break;
      }
      case 'datagram':
        this.#receive(message);
        break;
      case 'datagrams-credit':
        this.#sendCredit += message.datagrams;
        break;
      case 'datagrams-counts':
        this.#counting?.resolve({
          ...message.counts,
          droppedSending: message.counts.droppedSending + this.#droppedSending,
          received: this.#taken,
          droppedReceiving: message.counts.droppedReceiving + this.#droppedReceiving,
        });
        this.#counting = undefined;
        break;
      default:
        this.#end(
          message.code === undefined
            ? new DialError(DialErrorCode.reset, 'the exit ended the association')
            : new DialError(message.code, message.message),
        );
    }
  }

  /** The worker is gone. */
  lost(message: string): void {
    this.#end(new DialError(DialErrorCode.sessionLost, message));
  }

  close(): void {
    if (this.#over) return;
    this.#send({ type: 'datagrams-close', association: this.id });
    this.onClose = undefined;
    this.#end(new DialError(DialErrorCode.cancelled, 'closed'));
  }

  #receive({ host, port, data }: Extract<DatagramsMessage, { readonly type: 'datagram' }>): void {
    if (++this.#owedCredit >= DATAGRAM_CREDIT_STEP) {
      this.#send({ type: 'datagrams-credit', association: this.id, datagrams: this.#owedCredit });
      this.#owedCredit = 0;
    }
    if (this.#waiting.length >= MAX_WAITING) {
      this.#waiting.shift();
      this.#droppedReceiving++;
    }
    this.#waiting.push({ host, port, data });
    this.onReadable?.();
  }

  #end(error: DialError): void {
    if (this.#over) return;
    this.#over = true;
    this.#waiting.length = 0;
    this.#opened.reject(error);
    this.#counting?.reject(error);
    this.#onOver(this);
    this.onClose?.(error);
  }
}
