/** A SOCKS5 client that says exactly what it asked and was answered: CONNECT, UDP ASSOCIATE, RESOLVE, RESOLVE_PTR. */
import { once } from 'node:events';
import { connect, isIPv4, type Socket } from 'node:net';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export const SocksCommand = { connect: 1, bind: 2, udpAssociate: 3, resolve: 0xf0, resolvePtr: 0xf1 } as const;
export type SocksCommand = (typeof SocksCommand)[keyof typeof SocksCommand];

export interface SocksAnswer {
  /** RFC 1928 §6; 0 = succeeded. */
  readonly reply: number;
  readonly bound: HostPort;
  /** Paused, nothing of the stream lost. */
  readonly socket: Socket;
}

/** Asks and gives the answer, whatever it is; rejects when there is none within `timeoutMs`. */
export async function socksRequest(
  proxy: HostPort,
  command: SocksCommand,
  target: HostPort,
  options: { readonly username?: string; readonly password?: string; readonly timeoutMs?: number } = {},
): Promise<SocksAnswer> {
  const timeoutMs = options.timeoutMs ?? 20_000;
  const socket = connect({ host: proxy.host, port: proxy.port, noDelay: true, allowHalfOpen: true });
  const timer = setTimeout(() => socket.destroy(new Error(`no SOCKS answer in ${timeoutMs} ms`)), timeoutMs);
  try {
    const withAuth = options.username !== undefined;
    socket.write(Uint8Array.of(5, 1, withAuth ? 2 : 0));
    const method = await read(socket, 2);
    if (method[1] !== (withAuth ? 2 : 0)) throw new Error(`the SOCKS server chose method ${method[1]}`);
    if (withAuth) {
      const username = Buffer.from(options.username!);
      const password = Buffer.from(options.password ?? 'x');
      socket.write(
        Buffer.concat([Uint8Array.of(1, username.length), username, Uint8Array.of(password.length), password]),
      );
      if ((await read(socket, 2))[1] !== 0) throw new Error('the SOCKS server refused the username');
    }
    socket.write(Buffer.concat([Uint8Array.of(5, command, 0), encodeAddress(target)]));
    const head = await read(socket, 4);
    const host = await readHost(socket, head[3]!);
    const port = (await read(socket, 2)).readUInt16BE();
    return { reply: head[1]!, bound: { host, port }, socket };
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** CONNECT; rejects with the reply's number unless it succeeded. */
export async function socksConnect(
  proxy: HostPort,
  target: HostPort,
  options: { readonly username?: string; readonly password?: string; readonly timeoutMs?: number } = {},
): Promise<Socket> {
  const { reply, socket } = await socksRequest(proxy, SocksCommand.connect, target, options);
  if (reply === 0) return socket;
  socket.destroy();
  throw new Error(`SOCKS reply ${reply}`);
}

/** `address type ‖ address ‖ port` as requests, replies and UDP headers have it. */
export function encodeAddress({ host, port }: HostPort): Buffer {
  const address = isIPv4(host)
    ? Buffer.from([1, ...host.split('.').map(Number)])
    : Buffer.concat([Uint8Array.of(3, Buffer.byteLength(host)), Buffer.from(host)]);
  return Buffer.concat([address, Uint8Array.of(port >> 8, port & 255)]);
}

async function readHost(socket: Socket, type: number): Promise<string> {
  if (type === 1) return [...(await read(socket, 4))].join('.');
  if (type === 4) return (await read(socket, 16)).toString('hex').replace(/(....)(?=.)/g, '$1:');
  return (await read(socket, (await read(socket, 1))[0]!)).toString('latin1');
}

async function read(socket: Socket, sizeBytes: number): Promise<Buffer> {
  for (;;) {
    const data = socket.read(sizeBytes) as Buffer | null;
    if (data !== null) return data;
    if (socket.readableEnded || socket.destroyed) throw socket.errored ?? new Error('the SOCKS server closed');
    const abort = new AbortController();
    const { signal } = abort;
    try {
      await Promise.race([
        once(socket, 'readable', { signal }),
        once(socket, 'end', { signal }),
        once(socket, 'close', { signal }),
      ]);
    } finally {
      abort.abort();
    }
  }
}
