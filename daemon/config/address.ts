/** `host:port` with a literal IPv4 or bracketed IPv6 address (or `localhost`), as configuration and displays write it. */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import type { ListenAddress } from '../pump/contract.ts';

/** Undefined when `text` is not an address; port 0 = any free port. */
export const parseAddress = (text: string): ListenAddress | undefined => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const port = Number(match[3]);
  const host = match[1] ?? (match[2] === 'localhost' ? '127.0.0.1' : match[2]!);
  if (port > 65_535) return undefined;
  if (match[1] !== undefined ? !isIPv6(host) : !isIPv4(host)) return undefined;
  return { host, port };
};

/** `127.0.0.1:80`, `[::1]:80`; an absent address is the empty string. */
export const formatAddress = (address: { readonly host: string; readonly port: number } | undefined): string => {
  if (address === undefined) return '';
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
};

export const isLoopback = (host: string): boolean => host === '::1' || (isIPv4(host) && host.startsWith('127.'));

/** 0.0.0.0 and ::, which can be listened on but not announced. */
export const isWildcard = (host: string): boolean => isIP(host) !== 0 && (host === '0.0.0.0' || /^[0:]+$/.test(host));
