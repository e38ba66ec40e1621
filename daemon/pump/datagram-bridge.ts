/**
 * The worker's end of API associations: what the dialer opens here is remote-datagrams.ts on the main thread. Datagrams
 * cross the boundary under credit; one that has none is dropped and counted, in both directions.
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
import type { DatagramAssociation } from './datagram-association.ts';
import { MAX_UDP_BYTES } from './udp-frame.ts';

/** API associations of one worker at once. */
const MAX_BRIDGED_ASSOCIATIONS = 4096;

const NO_COUNTS: DatagramCounts = {
  sent: 0,
  expiredSending: 0,
  droppedSending: 0,
  received: 0,
  expiredReceiving: 0,
  droppedReceiving: 0,
  exitArrived: 0,
  exitExpired: 0,
  exitDropped: 0,
  exitAnswersDropped: 0,
};

type DatagramMessage = Extract<ToPump, { readonly association: number }>;

/** What the bridge needs of SessionDialer. */
export interface DatagramDialer {
  datagrams(options: DialOptions): Promise<DatagramAssociation>;
}

export class DatagramBridge {
  readonly #dialer: DatagramDialer;
  readonly #post: (message: FromPump) => void;
  readonly #associations = new Map<number, BridgedAssociation>();

  constructor(dialer: DatagramDialer, post: (message: FromPump) => void) {
    this.#dialer = dialer;
    this.#post = post;
  }

  /** Under way to the main thread, supposed as large as they can be. */
  get bufferedBytes(): number {
    let datagrams = 0;
    for (const association of this.#associations.values()) datagrams += association.underWay;
    return datagrams * MAX_UDP_BYTES;
  }

  /** Messages for an association that is already over are late, not wrong. */
  handle(message: DatagramMessage): void {
    const { association } = message;
    if (message.type === 'datagrams-open') {
      this.#open(association, message.options);
      return;
    }
    const bridged = this.#associations.get(association);
    if (bridged === undefined) return;
    if (message.type === 'datagram') bridged.send(message);
    else if (message.type === 'datagrams-credit') bridged.credit(message.datagrams);
    else if (message.type === 'datagrams-count') bridged.count();
    else bridged.close();
  }

  #open(association: number, options: DialOptions): void {
    const over = (error: Error | undefined) => {
      this.#associations.delete(association);
      const code = error instanceof DialError ? error.code : error && DialErrorCode.internal;
      this.#post({ type: 'datagrams-closed', association, code, message: error?.message ?? '' });
    };
    if (this.#associations.size >= MAX_BRIDGED_ASSOCIATIONS) {
      over(new DialError(DialErrorCode.limit, `${MAX_BRIDGED_ASSOCIATIONS} associations are open, which is the limit`));
      return;
    }
    const bridged = new BridgedAssociation(association, this.#post, over);
    this.#associations.set(association, bridged);
    this.#dialer.datagrams(options).then(
      (datagrams) => bridged.begin(datagrams),
      (error: Error) => bridged.end(error),
    );
  }
}

class BridgedAssociation {
  readonly #association: number;
  readonly #post: (message: FromPump) => void;
  readonly #over: (error: Error | undefined) => void;
  #datagrams: DatagramAssociation | undefined;
  #credit = DATAGRAM_CREDIT;
  #owedCredit = 0;
  /** For want of credit. */
  #droppedReceiving = 0;
  #closed = false;

  constructor(association: number, post: (message: FromPump) => void, over: (error: Error | undefined) => void) {
    this.#association = association;
    this.#post = post;
    this.#over = over;
  }

  get underWay(): number {
    return DATAGRAM_CREDIT - this.#credit;
  }

  begin(datagrams: DatagramAssociation): void {
    if (this.#closed) {
      datagrams.close();
      return;
    }
    this.#datagrams = datagrams;
    datagrams.onMessage = (host, port, data) => {
      if (this.#credit === 0) {
        this.#droppedReceiving++;
        return;
      }
      this.#credit--;
      this.#post({ type: 'datagram', association: this.#association, host, port, data });
    };
    datagrams.onClose = (error) => this.end(error);
    const { circuit, address, port } = datagrams;
    this.#post({
      type: 'datagrams-opened',
      association: this.#association,
      circuit: circuit.circuit,
      path: circuit.path,
      address,
      port,
      addedLatencyMs: circuit.addedLatencyMs,
    });
  }

  /** The main thread sends none before `datagrams-opened`. */
  send({ host, port, data, deadlineMs }: Extract<DatagramMessage, { readonly type: 'datagram' }>): void {
    this.#datagrams?.send(host, port, data, deadlineMs);
    if (++this.#owedCredit < DATAGRAM_CREDIT_STEP) return;
    this.#post({ type: 'datagrams-credit', association: this.#association, datagrams: this.#owedCredit });
    this.#owedCredit = 0;
  }

  credit(datagrams: number): void {
    this.#credit += datagrams;
  }

  count(): void {
    const counts = { ...(this.#datagrams?.counts ?? NO_COUNTS), droppedReceiving: this.#droppedReceiving };
    this.#post({ type: 'datagrams-counts', association: this.#association, counts });
  }

  close(): void {
    this.end(undefined);
  }

  end(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#datagrams?.close();
    this.#over(error);
  }
}
