/**
 * SOCKS5 UDP ASSOCIATE (RFC 1928 §7): a UDP socket for one client, which lives as long as the TCP connection that
 * asked for it. Fragments are dropped, as the RFC allows. Only the client's own address is listened to, and of it only
 * the first port seen (or the port announced in the request).
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { isIPv6, type Socket } from 'node:net';
import type { Dialer, DialOptions, ListenAddress, NyxDatagrams } from '../pump/contract.ts';
import type { Log } from './proxy.ts';
import { encodeDatagram, parseDatagram } from './socks5-codec.ts';

/** Unsent bytes towards a client that does not read; more is dropped, as UDP does. */
const maxSendQueueBytes = 1024 * 1024;

/** Resolves with where the client's datagrams are expected. Ends with `control`. `announcedPort` 0 = not said. */
export async function associateUdp(
  control: Socket,
  announcedPort: number,
  dialer: Dialer,
  options: DialOptions,
  log: Log,
): Promise<ListenAddress> {
  const client = plainAddress(control.remoteAddress ?? '');
  const local = plainAddress(control.localAddress ?? '');
  const datagrams = await dialer.datagrams(options);
  const relay = new UdpRelay(control, client, announcedPort, datagrams, log);
  return await relay.listen(local);
}

class UdpRelay {
  readonly #control: Socket;
  readonly #client: string;
  readonly #datagrams: NyxDatagrams;
  readonly #log: Log;
  #port: number;
  #socket: UdpSocket | undefined;
  #closed = false;
  #dropped = 0;

  constructor(control: Socket, client: string, announcedPort: number, datagrams: NyxDatagrams, log: Log) {
    this.#control = control;
    this.#client = client;
    this.#port = announcedPort;
    this.#datagrams = datagrams;
    this.#log = log;
    datagrams.onMessage = (host, port, data) => this.#toClient(host, port, data);
    datagrams.onClose = (error) => {
      if (error !== undefined) log('debug', 'socks5: association ended', { code: error.code, message: error.message });
      this.#close();
    };
    control.on('close', () => this.#close()).on('end', () => this.#close());
    control.resume();
  }

  listen(local: string): Promise<ListenAddress> {
    return new Promise((resolve, reject) => {
      if (this.#control.destroyed || this.#control.readableEnded) {
        this.#close();
        reject(new Error('the client went away'));
        return;
      }
      const socket = createSocket({ type: isIPv6(local) ? 'udp6' : 'udp4', lookup: literalOnly });
      this.#socket = socket;
      socket.on('error', (error) => {
        this.#log('warn', 'socks5: UDP socket failed', { error: error.message });
        this.#close();
        reject(error);
      });
      socket.on('message', (message, from) => this.#fromClient(message, from));
      socket.bind({ address: local, port: 0 }, () => resolve({ host: local, port: socket.address().port }));
    });
  }

  #fromClient(message: Buffer, from: RemoteInfo): void {
    const datagram = from.address === this.#client ? parseDatagram(message) : undefined;
    if (datagram === undefined || datagram.fragment !== 0 || datagram.port === 0) {
      this.#dropped += 1;
      return;
    }
    if (this.#port === 0) this.#port = from.port;
    if (from.port !== this.#port || !this.#datagrams.send(datagram.host, datagram.port, datagram.data)) {
      this.#dropped += 1;
    }
  }

  #toClient(host: string, port: number, data: Uint8Array): void {
    const socket = this.#socket;
    if (socket === undefined || this.#port === 0 || socket.getSendQueueSize() > maxSendQueueBytes) {
      this.#dropped += 1;
      return;
    }
    socket.send(encodeDatagram(host, port, data), this.#port, this.#client, this.#onSent);
  }

  readonly #onSent = (error: Error | null): void => {
    if (error !== null) this.#dropped += 1;
  };

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#datagrams.close();
    this.#socket?.close();
    this.#socket = undefined;
    this.#control.destroy();
    if (this.#dropped > 0) this.#log('debug', 'socks5: association dropped datagrams', { dropped: this.#dropped });
  }
}

/** Without the IPv6 form that a dual-stack listener gives IPv4 clients. */
function plainAddress(address: string): string {
  return address.startsWith('::ffff:') ? address.slice(7) : address;
}

/** Only ever asked for the client's literal address. */
function literalOnly(
  address: string,
  _options: unknown,
  done: (error: null, address: string, family: number) => void,
): void {
  done(null, address, isIPv6(address) ? 6 : 4);
}
