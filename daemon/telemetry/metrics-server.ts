/** `GET /metrics` (Prometheus text) and `GET /healthz`, on loopback. Values are the pumps' own; labels are closed sets. */
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { http } from '../io/http.ts';
import type { ListenAddress } from '../pump/contract.ts';
import type { MetricsHost } from './metrics-registry.ts';

export const startMetricsServer = async (
  listen: ListenAddress,
  host: MetricsHost,
): Promise<{ readonly address: ListenAddress; close(): Promise<void> }> => {
  // Loaded for the first who asks: it costs memory.
  let loading: Promise<Registry> | undefined;
  const load = async () => (await import('./metrics-registry.ts')).createRegistry(host);
  const server = http.createServer({ requestTimeout: 5000, headersTimeout: 5000 }, (request, response) => {
    if (request.method !== 'GET') {
      response.writeHead(405, { allow: 'GET' }).end();
      return;
    }
    if (request.url === '/healthz') {
      const state = host.state();
      response.writeHead(state === 'ready' ? 200 : 503, { 'content-type': 'text/plain' }).end(`${state}\n`);
      return;
    }
    if (request.url !== '/metrics') {
      response.writeHead(404).end('there are /metrics and /healthz\n');
      return;
    }
    loading ??= load();
    Promise.all([loading, host.measure()])
      .then(async ([registry]) => {
        const text = await registry.metrics();
        response.writeHead(200, { 'content-type': registry.contentType }).end(text);
      })
      .catch((error: Error) => response.writeHead(500, { 'content-type': 'text/plain' }).end(`${error.message}\n`));
  });
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const { address, port } = server.address() as AddressInfo;
  return {
    address: { host: address, port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};
