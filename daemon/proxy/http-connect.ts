import type { ProxyOptions, ProxyServer } from './proxy.ts';

export function startHttpConnect(options: ProxyOptions): Promise<ProxyServer> {
  return Promise.reject(new Error(`HTTP CONNECT on ${options.listen.host}: not built yet`));
}
