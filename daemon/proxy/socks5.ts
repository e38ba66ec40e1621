import type { ProxyOptions, ProxyServer } from './proxy.ts';

export function startSocks5(options: ProxyOptions): Promise<ProxyServer> {
  return Promise.reject(new Error(`SOCKS5 on ${options.listen.host}: not built yet`));
}
