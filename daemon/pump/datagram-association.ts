/**
 * A UDP association through the network (docs/protocol.md §5, CONNECT kind 1): a stream of kind UDP whose id is the
 * flow id of the DATAGRAM frames, each of which names its target (udp-frame.ts).
 */
import { SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import { type DatagramCounts, DialError, DialErrorCode, type NyxDatagrams } from './contract.ts';
import { describeSessionError, dialCodeOf } from './dial-code.ts';
import type { CircuitUser, DatagramFlow, PooledCircuit } from './pooled-circuit.ts';
import { decodeUdpFrame, encodeUdpFrame } from './udp-frame.ts';
import { decodeUdpReport, type UdpReport } from './udp-report.ts';

/** What CONNECT names for an association: it has no target of its own. */
export const ASSOCIATION_TARGET = { kind: 'udp', host: '0.0.0.0', port: 0 } as const;

export class DatagramAssociation implements NyxDatagrams, CircuitUser, DatagramFlow {
  onMessage: ((host: string, port: number, data: Uint8Array) => void) | undefined = undefined;
  onClose: ((error: DialError | undefined) => void) | undefined = undefined;
  bytesSent = 0;
  bytesReceived = 0;
  readonly circuit: PooledCircuit;
  /** The exit's side of it: where targets see it come from. */
  address = '';
  port = 0;
  readonly #stream: SessionStream;
  /** 0 = none. */
  readonly #deadlineMs: number;
  readonly #onReleased: (association: DatagramAssociation) => void;
  #closed = false;
  #sent = 0;
  #expiredSending = 0;
  #droppedSending = 0;
  #received = 0;
  #expiredReceiving = 0;
  #atExit: UdpReport = { arrived: 0, expired: 0, dropped: 0, answersDropped: 0 };

  /** Takes over the stream. `onReleased` is called once, when it is over. */
  constructor(
    circuit: PooledCircuit,
    stream: SessionStream,
    deadlineMs: number,
    onReleased: (a: DatagramAssociation) => void,
  ) {
    this.#deadlineMs = deadlineMs;
    this.circuit = circuit;
    this.#stream = stream;
    this.#onReleased = onReleased;
    circuit.flows.set(stream.id, this);
    stream.onClose = (code) => {
      const message = `association ended: ${describeSessionError(code)}`;
      this.#end(code === SessionError.noError ? undefined : new DialError(dialCodeOf(code), message));
    };
  }

  /** `droppedReceiving` is its reader's matter. */
  get counts(): DatagramCounts {
    return {
      sent: this.#sent,
      expiredSending: this.#expiredSending,
      droppedSending: this.#droppedSending,
      received: this.#received,
      expiredReceiving: this.#expiredReceiving,
      droppedReceiving: 0,
      exitArrived: this.#atExit.arrived,
      exitExpired: this.#atExit.expired,
      exitDropped: this.#atExit.dropped,
      exitAnswersDropped: this.#atExit.answersDropped,
    };
  }

  send(host: string, port: number, data: Uint8Array, deadlineMs = this.#deadlineMs): boolean {
    if (this.#closed) return false;
    const frame = frameOf(host, port, data);
    if (frame === undefined || !this.circuit.session.sendDatagram(this.#stream.id, frame, deadlineMs)) {
      this.#droppedSending++;
      return false;
    }
    this.#sent++;
    this.bytesSent += data.length;
    return true;
  }

  onDatagram(bytes: Uint8Array): void {
    const frame = decodeUdpFrame(bytes);
    if (frame === undefined) {
      const report = decodeUdpReport(bytes);
      // Anything else: a broken exit; UDP may lose what it likes. Reports overtake each other.
      if (
        report !== undefined &&
        report.arrived + report.answersDropped >= this.#atExit.arrived + this.#atExit.answersDropped
      ) {
        this.#atExit = report;
      }
      return;
    }
    this.#received++;
    this.bytesReceived += frame.data.length;
    // The session lends the bytes for the call only.
    this.onMessage?.(frame.host, frame.port, frame.data.slice());
  }

  onExpired(own: boolean): void {
    if (own) this.#expiredSending++;
    else this.#expiredReceiving++;
  }

  /** `error`: why it is not the user who ends it. */
  close(error?: DialError): void {
    if (this.#closed) return;
    this.#stream.reset(error === undefined ? SessionError.cancelled : SessionError.shutdown);
    this.#end(error);
  }

  #end(error: DialError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.circuit.flows.delete(this.#stream.id);
    this.#onReleased(this);
    this.onClose?.(error);
  }
}

/** Undefined: a host or port that no frame can carry. */
function frameOf(host: string, port: number, data: Uint8Array): Uint8Array | undefined {
  try {
    return encodeUdpFrame(host, port, data);
  } catch {
    return undefined;
  }
}

/** Waits until the exit has its socket. Rejects with DialError. */
export function associate(
  circuit: PooledCircuit,
  timeoutMs: number,
  deadlineMs: number,
  onReleased: (association: DatagramAssociation) => void,
): Promise<DatagramAssociation> {
  return new Promise((resolve, reject) => {
    const stream = circuit.session.closed ? undefined : circuit.session.openStream(ASSOCIATION_TARGET);
    if (stream === undefined) {
      reject(new DialError(DialErrorCode.limit, 'the session takes no further streams'));
      return;
    }
    const association = new DatagramAssociation(circuit, stream, deadlineMs, onReleased);
    const timer = setTimeout(() => {
      association.onClose = undefined;
      association.close();
      reject(new DialError(DialErrorCode.timeout, `no association after ${timeoutMs} ms`));
    }, timeoutMs);
    association.onClose = (error) => {
      clearTimeout(timer);
      reject(error ?? new DialError(DialErrorCode.reset, 'the exit ended the association'));
    };
    stream.onConnected = (_family, address, port) => {
      clearTimeout(timer);
      association.address = address;
      association.port = port;
      association.onClose = undefined;
      resolve(association);
    };
  });
}
