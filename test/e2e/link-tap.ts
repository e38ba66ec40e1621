/**
 * A wire that a test can watch and cut: a UDP forwarder in front of a daemon's listening port. The daemon announces the
 * tap's address, so all that others send it, and all it answers, passes here, one real datagram at a time.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';

export interface TappedDatagram {
  readonly datagram: Buffer;
  /** Towards the daemon behind the tap, or back to whoever opened the link. */
  readonly inbound: boolean;
  /** Port of whoever opened the link. */
  readonly peerPort: number;
}

export class LinkTap {
  /** What others reach the daemon at. */
  readonly port: number;
  /** Called for every datagram; may change its bytes; false drops it. */
  onDatagram: (seen: TappedDatagram) => boolean = () => true;
  datagrams = 0;
  readonly #front: Socket;
  readonly #backs = new Map<number, Socket>();
  readonly #target: () => number;

  private constructor(front: Socket, target: () => number) {
    this.#front = front;
    this.port = front.address().port;
    this.#target = target;
    front.on('message', (datagram, { port }) => this.#inbound(datagram, port));
  }

  /** @param target the daemon's real port; asked for each datagram (0: dropped). */
  static async open(target: () => number): Promise<LinkTap> {
    const front = createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
    front.bind(0, '127.0.0.1');
    await once(front, 'listening');
    return new LinkTap(front, target);
  }

  #inbound(datagram: Buffer, peerPort: number): void {
    this.datagrams++;
    const port = this.#target();
    if (!this.onDatagram({ datagram, inbound: true, peerPort }) || port === 0) return;
    this.#back(peerPort).send(datagram, port, '127.0.0.1');
  }

  #back(peerPort: number): Socket {
    let back = this.#backs.get(peerPort);
    if (back === undefined) {
      back = createSocket({ type: 'udp4', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
      back.on('message', (datagram) => {
        this.datagrams++;
        if (this.onDatagram({ datagram, inbound: false, peerPort })) this.#front.send(datagram, peerPort, '127.0.0.1');
      });
      this.#backs.set(peerPort, back);
    }
    return back;
  }

  /** Sends to the daemon as `peerPort` would, past `onDatagram`: what was captured there, or made up. */
  inject(datagram: Uint8Array, peerPort: number): void {
    this.#back(peerPort).send(datagram, this.#target(), '127.0.0.1');
  }

  /** The NAT in front of `peerPort` gives it another port: what goes to the old one is lost. */
  rebind(peerPort: number): void {
    this.#backs.get(peerPort)?.close();
    this.#backs.delete(peerPort);
  }

  /** Ports from which links to this daemon were opened. */
  get peerPorts(): number[] {
    return [...this.#backs.keys()];
  }

  close(): void {
    this.#front.close();
    for (const back of this.#backs.values()) back.close();
  }
}
