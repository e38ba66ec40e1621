/** A SOCKS5 client (RFC 1928, RFC 1929) for measuring: CONNECT with optional user name and password. */
import { connect, type Socket } from 'node:net';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface SocksAuth {
  readonly username: string;
  readonly password: string;
}

const replies: Readonly<Record<number, string>> = {
  1: 'general failure',
  2: 'not allowed by rule',
  3: 'network unreachable',
  4: 'host unreachable',
  5: 'connection refused',
  6: 'TTL expired',
  7: 'command not supported',
  8: 'address type not supported',
};

/** The SOCKS server refused; `reply` is its code (RFC 1928 §6). */
export class SocksError extends Error {
  readonly reply: number;
  constructor(reply: number) {
    super(`the SOCKS server answered: ${replies[reply] ?? `code ${reply}`} (${reply})`);
    this.name = 'SocksError';
    this.reply = reply;
  }
}

/** Connects to `target` through `proxy`. The socket is paused, with nothing of the stream's bytes lost. */
export async function socksConnect(
  proxy: HostPort,
  target: HostPort,
  options: { readonly auth?: SocksAuth; readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<Socket> {
  const socket = connect({ host: proxy.host, port: proxy.port, noDelay: true });
  const timeout = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal ? AbortSignal.any([timeout, options.signal]) : timeout;
  const abort = () => {
    const why = timeout.aborted ? `no SOCKS answer in ${options.timeoutMs} ms` : 'cancelled';
    socket.destroy(new Error(`${proxy.host}:${proxy.port}: ${why}`));
  };
  signal.addEventListener('abort', abort, { once: true });
  try {
    await handshake(socket, target, options.auth);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

async function handshake(socket: Socket, target: HostPort, auth: SocksAuth | undefined): Promise<void> {
  const read = reader(socket);
  socket.write(Uint8Array.of(5, 1, auth ? 2 : 0));
  const method = await read(2);
  if (method[0] !== 5 || method[1] !== (auth ? 2 : 0)) throw new Error('the SOCKS server takes no such authentication');
  if (auth) {
    const username = Buffer.from(auth.username);
    const password = Buffer.from(auth.password);
    if (username.length < 1 || username.length > 255 || password.length > 255) {
      throw new RangeError('a SOCKS user name has 1–255 bytes, a password at most 255');
    }
    socket.write(
      Buffer.concat([Uint8Array.of(1, username.length), username, Uint8Array.of(password.length), password]),
    );
    if ((await read(2))[1] !== 0) throw new Error('the SOCKS server refused the user name');
  }
  const host = Buffer.from(target.host);
  const request = Buffer.concat([
    Uint8Array.of(5, 1, 0, 3, host.length),
    host,
    Uint8Array.of(target.port >> 8, target.port & 255),
  ]);
  socket.write(request);
  const head = await read(4);
  if (head[1] !== 0) throw new SocksError(head[1]!);
  const addressBytes = head[3] === 1 ? 4 : head[3] === 4 ? 16 : (await read(1))[0]!;
  await read(addressBytes + 2);
}

/** Exact reads from a paused socket: what was not asked for stays in its buffer. */
function reader(socket: Socket): (sizeBytes: number) => Promise<Buffer> {
  return async (sizeBytes) => {
    for (;;) {
      const data = socket.read(sizeBytes) as Buffer | null;
      if (data !== null) return data;
      await new Promise<void>((resolve, reject) => {
        const done = (act: () => void) => {
          socket.off('readable', onReadable).off('error', onError).off('close', onClose);
          act();
        };
        const onReadable = () => done(resolve);
        const onError = (error: Error) => done(() => reject(error));
        const onClose = () => done(() => reject(new Error('the SOCKS server closed the connection')));
        socket.on('readable', onReadable).on('error', onError).on('close', onClose);
        if (socket.destroyed) onClose();
      });
    }
  };
}
