/** What the two local proxies (SOCKS5, HTTP CONNECT) have in common: how they are started and what they offer. */
import { BlockList, isIP, isIPv4 } from 'node:net';
import type { Dialer, DialOptions, ListenAddress } from '../pump/contract.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type Log = (level: LogLevel, message: string, fields?: Record<string, unknown>) => void;

export interface ProxyOptions {
  /** Where to listen; port 0 = any. Loopback only, unless `allowNonLoopback`. */
  readonly listen: ListenAddress;
  readonly dialer: Dialer;
  readonly log: Log;
  /** SO_REUSEPORT: several workers share the port. Default false. */
  readonly reusePort?: boolean;
  /** Anyone who reaches a proxy can use it and be seen using it; so it stays on loopback unless told otherwise. */
  readonly allowNonLoopback?: boolean;
  /** Options of every dial that the client's credentials do not set. */
  readonly defaults?: DialOptions;
  /** Connections at once; more are closed as they come. Default 1024. */
  readonly maxConnections?: number;
  /** A request must be complete after this long. Default 10 000. */
  readonly handshakeTimeoutMs?: number;
}

export interface ProxyServer {
  /** Where it listens, with the port it got. */
  readonly address: ListenAddress;
  /** Client connections open now. */
  readonly connections: number;
  /** Stops listening and ends every connection. */
  close(): Promise<void>;
}

export const defaultMaxConnections = 1024;
export const defaultHandshakeTimeoutMs = 10_000;

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** True for `localhost` and literal loopback addresses; other names are not looked up and count as not loopback. */
export function isLoopbackHost(host: string): boolean {
  if (host === 'localhost') return true;
  return isIP(host) !== 0 && loopback.check(host, isIPv4(host) ? 'ipv4' : 'ipv6');
}

/** Throws when a proxy must not listen there. */
export function checkListenAddress(listen: ListenAddress, allowNonLoopback: boolean): void {
  if (!Number.isInteger(listen.port) || listen.port < 0 || listen.port > 65_535) {
    throw new RangeError(`proxy port must be 0…65535, got ${listen.port}`);
  }
  if (!allowNonLoopback && !isLoopbackHost(listen.host)) {
    throw new Error(
      `proxy would listen on ${listen.host}, which is not a loopback address; allow that explicitly or use 127.0.0.1 or ::1`,
    );
  }
}
