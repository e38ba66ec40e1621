/** The gRPC server: services, health, reflection. Loaded by child.ts when it is needed. */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { Server, ServerCredentials, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { loadApi, loadDefinition, serviceNames } from '@nyx/proto/load.ts';
import { HealthImplementation } from 'grpc-health-check';
import { formatAddress } from '../config/address.ts';
import { assertPrivate } from '../directory/sealed-files.ts';
import { tokenInterceptor } from './auth.ts';
import type { ApiHost } from './host.ts';
import { keyService } from './key-service.ts';
import { messageService } from './message-service.ts';
import { nodeService } from './node-service.ts';
import { pathService } from './path-service.ts';
import { streamService } from './stream-service.ts';

const MAX_MESSAGE_BYTES = 1024 * 1024;
const MAX_CONCURRENT_STREAMS = 1024;

/** Serves the API on connections that somebody else accepts. */
export interface ApiConnections {
  /** Takes the socket; what has been read of it already may still be in its buffer. */
  serve(socket: Socket): void;
  /** Lets calls finish for half a second. */
  close(): Promise<void>;
}

/** For a socket whose permissions are the protection. */
export const serveConnections = (host: ApiHost): ApiConnections => {
  const { server, close } = makeServer(host);
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  return { serve: (socket) => injector.injectConnection(socket), close };
};

/** On TCP: with TLS, and a token or client certificates. Rejects when the address can't be had. */
export const startTcpServer = async (
  host: ApiHost,
): Promise<{
  /** host:port. */
  readonly address: string;
  close(): Promise<void>;
}> => {
  const { listen, tls } = host.context.config.api;
  const { server, close } = makeServer(host);
  const credentials = ServerCredentials.createSsl(
    tls?.clientCaFile === undefined ? null : readFileSync(tls.clientCaFile),
    [{ cert_chain: readFileSync(tls!.certFile), private_key: readFileSync(tls!.keyFile) }],
    tls?.clientCaFile !== undefined,
  );
  const port = await bind(server, formatAddress(listen), credentials);
  return { address: formatAddress({ host: listen!.host, port }), close };
};

const makeServer = (host: ApiHost) => {
  const { tokenFile } = host.context.config.api;
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': MAX_CONCURRENT_STREAMS,
    'grpc.keepalive_time_ms': 60_000,
    'grpc.keepalive_timeout_ms': 20_000,
    ...(tokenFile === undefined ? {} : { interceptors: [tokenInterceptor(readToken(tokenFile))] }),
  });
  const definitions = loadApi();
  const add = (service: ServiceDefinition, implementation: unknown) =>
    server.addService(service, implementation as UntypedServiceImplementation);
  add(definitions.NodeService.service, nodeService(host));
  add(definitions.StreamService.service, streamService(host));
  add(definitions.PathService.service, pathService(host));
  add(definitions.MessageService.service, messageService(host));
  add(definitions.KeyService.service, keyService(host));
  const health = new HealthImplementation({ '': 'SERVING' });
  for (const name of serviceNames) health.setStatus(name, 'SERVING');
  health.addToServer(server);
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
  return { server, close };
};

const bind = (server: Server, address: string, credentials: ServerCredentials): Promise<number> =>
  new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => (error ? reject(error) : resolve(port)));
  });

const readToken = (path: string): string => {
  assertPrivate(path);
  const token = readFileSync(path, 'utf8').trim();
  if (token.length < 16) throw new Error(`${path} must hold a token of at least 16 characters`);
  return token;
};
