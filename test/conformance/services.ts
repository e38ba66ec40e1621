/** What lies behind the target when it is an exit: a TCP and a UDP service on this machine that send back what they get. */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

export const SERVICE_HOST = '127.0.0.1';

export class Services {
  readonly #tcp: Server;
  readonly #udp: UdpSocket;
  readonly #connections = new Set<Socket>();

  private constructor(tcp: Server, udp: UdpSocket) {
    this.#tcp = tcp;
    this.#udp = udp;
    tcp.on('connection', (socket) => {
      this.#connections.add(socket);
      socket.on('data', (data) => socket.write(data));
      socket.on('end', () => socket.end());
      // Whoever is at the other end may go as he likes.
      socket.on('error', () => socket.destroy());
      socket.on('close', () => this.#connections.delete(socket));
    });
    udp.on('message', (data, { address, port }) => udp.send(data, port, address));
  }

  static async open(): Promise<Services> {
    const tcp = createServer({ allowHalfOpen: true });
    const udp = createSocket('udp4');
    await new Promise<void>((resolve) => tcp.listen(0, SERVICE_HOST, resolve));
    await new Promise<void>((resolve) => udp.bind(0, SERVICE_HOST, resolve));
    return new Services(tcp, udp);
  }

  get tcpPort(): number {
    return (this.#tcp.address() as AddressInfo).port;
  }

  get udpPort(): number {
    return this.#udp.address().port;
  }

  close(): void {
    for (const socket of this.#connections) socket.destroy();
    this.#tcp.close();
    this.#udp.close();
  }
}
