/** The life of a proxy's listening socket and of its clients' connections, the same for both proxies. */
import type { AddressInfo, Server, Socket } from 'node:net';
import type { ListenAddress } from '../pump/contract.ts';
import { checkListenAddress, defaultMaxConnections, type ProxyOptions, type ProxyServer } from './proxy.ts';

/** How long a client that was given a final answer has to take it and leave. */
const lingerMs = 2_000;

/**
 * Listens with `server`, which the caller has given its listeners. close() aborts `stopping` and destroys every
 * connection.
 */
export async function runProxy(
  name: string,
  server: Server,
  options: ProxyOptions,
  stopping: AbortController,
): Promise<ProxyServer> {
  checkListenAddress(options.listen, options.allowNonLoopback ?? false);
  const sockets = new Set<Socket>();
  server.maxConnections = options.maxConnections ?? defaultMaxConnections;
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('drop', () => options.log('warn', `${name}: connection limit reached`, { limit: server.maxConnections }));
  const address = await listenOn(server, options.listen, options.reusePort ?? false);
  server.on('error', (error) => options.log('error', `${name}: listening socket failed`, { error: error.message }));
  return {
    address,
    get connections() {
      return sockets.size;
    },
    close() {
      stopping.abort();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      return closed;
    },
  };
}

/** Sends a last answer and closes, even when the client neither reads nor leaves. What it still sends is discarded. */
export function endWith(socket: Socket, answer: Uint8Array | string): void {
  if (socket.destroyed) return;
  socket.on('error', () => socket.destroy());
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once('close', () => clearTimeout(timer));
  socket.end(answer);
  socket.resume();
}

function listenOn(server: Server, listen: ListenAddress, reusePort: boolean): Promise<ListenAddress> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: listen.host, port: listen.port, reusePort }, () => {
      server.off('error', reject);
      const bound = server.address() as AddressInfo;
      resolve({ host: bound.address, port: bound.port });
    });
  });
}
