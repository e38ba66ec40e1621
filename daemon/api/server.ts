/** The gRPC server: services, health, reflection; a Unix socket, or TCP with TLS and credentials. */
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { loadApi, serviceNames } from '@nyx/proto/load.ts';
import { formatAddress } from '../config/address.ts';
import { assertPrivate } from '../directory/sealed-files.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import { tokenInterceptor } from './auth.ts';
import type { ApiHost } from './host.ts';
import { keyService } from './key-service.ts';
import { nodeService } from './node-service.ts';
import { pathService } from './path-service.ts';
import { streamService } from './stream-service.ts';

const MAX_MESSAGE_BYTES = 1024 * 1024;
const MAX_CONCURRENT_STREAMS = 1024;

export interface ApiServer {
  /** `unix:/path` or `host:port`. */
  readonly address: string;
  close(): Promise<void>;
}

/** Rejects when the socket is in use by a daemon that is alive, or the address can't be had. */
export const startApiServer = async (host: ApiHost): Promise<ApiServer> => {
  const { api } = host.context.config;
  const token = api.tokenFile === undefined ? undefined : readToken(api.tokenFile);
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': MAX_CONCURRENT_STREAMS,
    'grpc.keepalive_time_ms': 60_000,
    'grpc.keepalive_timeout_ms': 20_000,
    ...(token === undefined ? {} : { interceptors: [tokenInterceptor(token)] }),
  });
  const definitions = loadApi();
  const add = (service: ServiceDefinition, implementation: unknown) =>
    server.addService(service, implementation as UntypedServiceImplementation);
  add(definitions.NodeService.service, nodeService(host));
  add(definitions.StreamService.service, streamService(host));
  add(definitions.PathService.service, pathService(host));
  add(definitions.KeyService.service, keyService(host));
  const { HealthImplementation } = await import('grpc-health-check');
  const health = new HealthImplementation({ '': 'SERVING' });
  for (const name of serviceNames) health.setStatus(name, 'SERVING');
  health.addToServer(server);
  const [{ ReflectionService }, { loadDefinition }] = await Promise.all([
    import('@grpc/reflection'),
    import('@nyx/proto/load.ts'),
  ]);
  new ReflectionService(loadDefinition(), { services: [...serviceNames] }).addToServer(server);

  const close = (): Promise<void> => {
    for (const name of ['', ...serviceNames]) health.setStatus(name, 'NOT_SERVING');
    return new Promise((resolve) => {
      const timer = setTimeout(() => server.forceShutdown(), 500);
      server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  };

  if (api.listen !== undefined) {
    const { tls } = api;
    const credentials = ServerCredentials.createSsl(
      tls?.clientCaFile === undefined ? null : readFileSync(tls.clientCaFile),
      [{ cert_chain: readFileSync(tls!.certFile), private_key: readFileSync(tls!.keyFile) }],
      tls?.clientCaFile !== undefined,
    );
    const port = await bind(server, formatAddress(api.listen), credentials);
    return { address: formatAddress({ host: api.listen.host, port }), close };
  }

  const path = api.socket!;
  await prepareSocket(path);
  await bind(server, `unix:${path}`, ServerCredentials.createInsecure());
  chmodSync(path, 0o600);
  return {
    address: `unix:${path}`,
    close: async () => {
      await close();
      rmSync(path, { force: true });
    },
  };
};

/** The API as a supervised child. */
export const apiChild = (host: ApiHost, onAddress: (address: string) => void): ChildSpec => ({
  id: 'api',
  restart: 'permanent',
  shutdownMs: 2000,
  inboxLimit: 1,
  start: async () => {
    const server = await startApiServer(host);
    onAddress(server.address);
    return { stop: () => server.close() };
  },
});

const bind = (server: Server, address: string, credentials: ServerCredentials): Promise<number> =>
  new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => (error ? reject(error) : resolve(port)));
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

const readToken = (path: string): string => {
  assertPrivate(path);
  const token = readFileSync(path, 'utf8').trim();
  if (token.length < 16) throw new Error(`${path} must hold a token of at least 16 characters`);
  return token;
};
