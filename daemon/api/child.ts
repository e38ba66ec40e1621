/**
 * The API as a supervised child. gRPC, its schema and the services cost a node some 12 MB: on a Unix socket they are
 * loaded when somebody speaks to it for the first time, which on a relay may be never. A node with the role client, whose
 * applications will, and an API on TCP have them from the start.
 */
import { chmodSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { assertPrivate } from '../directory/sealed-files.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import type { ApiHost } from './host.ts';
import type { ApiConnections } from './server.ts';

interface ApiServer {
  /** `unix:/path` or `host:port`. */
  readonly address: string;
  close(): Promise<void>;
}

export const apiChild = (host: ApiHost, onAddress: (address: string) => void): ChildSpec => ({
  id: 'api',
  restart: 'permanent',
  shutdownMs: 2000,
  inboxLimit: 1,
  start: async ({ crash }) => {
    const { api, roles } = host.context.config;
    const load = async () => (await import('./server.ts')).serveConnections(host);
    const server =
      api.listen === undefined
        ? await startApiSocket(api.socket!, load, roles.includes('client') || api.tokenFile !== undefined, crash)
        : await (await import('./server.ts')).startTcpServer(host);
    onAddress(server.address);
    return { stop: () => server.close() };
  },
});

/**
 * Listens on a Unix socket that only the daemon's user may open, and calls `load` before the first connection is served
 * (at once if `eager`). Rejects when a daemon that is alive holds the socket, or it can't be had; `onError` when it can't be loaded.
 */
export const startApiSocket = async (
  path: string,
  load: () => Promise<ApiConnections>,
  eager: boolean,
  onError: (error: unknown) => void,
): Promise<ApiServer> => {
  await prepareSocket(path);
  let loading: Promise<ApiConnections> | undefined;
  const loaded = (): Promise<ApiConnections> => (loading ??= load());
  const waiting = new Set<Socket>();
  const served = new Set<Socket>();
  const server = createServer((socket) => {
    waiting.add(socket);
    const gone = () => {
      waiting.delete(socket);
      socket.destroy();
    };
    // Who opens a connection and says nothing (another daemon that looks whether this one lives) needs nothing.
    const onFirstBytes = () => {
      if (socket.readableLength === 0) {
        gone();
        return;
      }
      loaded().then((connections) => {
        if (!waiting.delete(socket)) return;
        socket.off('error', gone).off('close', gone);
        served.add(socket);
        socket.once('close', () => served.delete(socket));
        connections.serve(socket);
      }, onError);
    };
    socket.on('error', gone).on('close', gone).once('readable', onFirstBytes);
  });
  if (eager) await loaded();
  await listen(server, path);
  chmodSync(path, 0o600);
  return {
    address: `unix:${path}`,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of waiting) socket.destroy();
      waiting.clear();
      // If it could not be loaded, onError has been told so.
      const connections = await loading?.catch(() => undefined);
      await connections?.close();
      // gRPC ends its calls, but leaves alone a connection that it was given.
      for (const socket of served) socket.destroy();
      await closed;
      rmSync(path, { force: true });
    },
  };
};

const listen = (server: Server, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });

/** The socket's folder is private; a socket that nobody answers at is left over and goes away. */
const prepareSocket = async (path: string): Promise<void> => {
  const folder = dirname(path);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  assertPrivate(folder);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isSocket()) throw new Error(`${path} exists and is not a socket; remove it or set api.socket`);
  if (await answers(path)) throw new Error(`another daemon answers at ${path}; stop it or set another api.socket`);
  rmSync(path);
};

const answers = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path);
    const done = (alive: boolean) => {
      socket.destroy();
      resolve(alive);
    };
    socket.once('connect', () => done(true));
    // Nobody listens (ECONNREFUSED), or it is gone already.
    socket.once('error', () => done(false));
  });
