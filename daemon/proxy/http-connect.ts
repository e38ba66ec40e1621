/**
 * HTTP CONNECT proxy (RFC 9110 §9.3.6, HTTP/1.1). Only tunnels: other methods are refused with a text that says so. The
 * credentials of Proxy-Authorization (Basic, RFC 7617) mean what SOCKS5's mean, see credentials.ts. A dial that fails is
 * answered with a status and its code in `x-nyx-error`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import ipaddr from 'ipaddr.js';
import { http } from '../io/http.ts';
import { DialError, type DialErrorCode, type DialOptions } from '../pump/contract.ts';
import { anonymousOptions, credentialOptions } from './credentials.ts';
import { defaultHandshakeTimeoutMs, type ProxyOptions, type ProxyServer } from './proxy.ts';
import { endWith, runProxy } from './proxy-server.ts';
import { asDialError, dialFor, splice } from './splice.ts';

const maxHeaderBytes = 16 * 1024;

/** The one table of what a failed dial means in HTTP. */
const statuses: Readonly<Record<DialErrorCode, number>> = {
  NO_PATH: 503,
  PATH_FAILED: 502,
  TIMEOUT: 504,
  CONNECTION_REFUSED: 502,
  HOST_UNREACHABLE: 502,
  NETWORK_UNREACHABLE: 502,
  RESOLVE_FAILED: 502,
  EXIT_POLICY: 403,
  LIMIT: 503,
  RESET: 502,
  SESSION_LOST: 502,
  CANCELLED: 502,
  BAD_REQUEST: 400,
  SHUTDOWN: 503,
  INTERNAL: 500,
};

export function statusOf(code: DialErrorCode): number {
  return statuses[code];
}

/** Starts the proxy. Rejects when the address is taken or not allowed. */
export async function startHttpConnect(options: ProxyOptions): Promise<ProxyServer> {
  const { log } = options;
  const stopping = new AbortController();
  const listener = `http-connect ${options.listen.host}:${options.listen.port}`;
  const timeoutMs = options.handshakeTimeoutMs ?? defaultHandshakeTimeoutMs;
  const server = http.createServer(
    {
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: timeoutMs,
      requestTimeout: timeoutMs,
      connectionsCheckingInterval: Math.max(10, timeoutMs / 4),
      noDelay: true,
    },
    refuseMethod,
  );
  server.on('connect', (request: IncomingMessage, stream, head: Buffer) => {
    const socket = stream as Socket;
    socket.on('error', (error) => log('debug', 'http-connect: client connection failed', { error: error.message }));
    tunnel(request, socket, head, listener, options, stopping.signal).catch((error) => {
      const { code, message } = asDialError(error);
      log(code === 'INTERNAL' ? 'warn' : 'debug', 'http-connect: CONNECT failed', { code, message });
      endWith(socket, answer(statusOf(code), message, code));
    });
  });
  server.on('clientError', (error: NodeJS.ErrnoException, stream) => {
    log('debug', 'http-connect: bad request', { error: error.code ?? error.message });
    const socket = stream as Socket;
    if (socket.writable && error.code !== 'ECONNRESET')
      endWith(socket, answer(statusOfParseError(error.code), 'bad request'));
    else socket.destroy();
  });
  return await runProxy('http-connect', server, options, stopping);
}

async function tunnel(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
  listener: string,
  options: ProxyOptions,
  stopping: AbortSignal,
): Promise<void> {
  const target = parseAuthority(request.url ?? '');
  if (target === undefined) throw new DialError('BAD_REQUEST', 'CONNECT needs host:port');
  const dial = dialOptions(request.headers['proxy-authorization'], listener, options);
  if (typeof dial === 'string') {
    options.log('info', `http-connect: ${dial}`);
    endWith(socket, answer(407, dial, 'BAD_REQUEST', 'Proxy-Authenticate: Basic realm="nyx"\r\n'));
    return;
  }
  const dialed = await dialFor(socket, options.dialer, target, dial, head, stopping);
  socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
  splice(socket, dialed, (error) => {
    if (error !== undefined) options.log('debug', 'http-connect: stream ended', { reason: error.message });
  });
}

/** `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`; undefined for anything else. RFC 9112 §3.2.3. */
export function parseAuthority(authority: string): { readonly host: string; readonly port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([\x21-\x7e]{1,255})):(\d{1,5})$/.exec(authority);
  if (match === null) return undefined;
  const [, v6, name, digits] = match;
  const port = Number(digits);
  if (port === 0 || port > 65_535) return undefined;
  if (v6 !== undefined) return ipaddr.IPv6.isValid(v6) ? { host: v6, port } : undefined;
  return /[[\]:@/?#\\]/.test(name!) ? undefined : { host: name!, port };
}

/** The dial's options, or what is wrong with the credentials. */
function dialOptions(header: string | undefined, listener: string, options: ProxyOptions): DialOptions | string {
  const defaults = options.defaults ?? {};
  if (header === undefined) return anonymousOptions(listener, defaults);
  const match = /^basic +([A-Za-z0-9+/]+=*) *$/i.exec(header);
  const decoded = match === null ? undefined : Buffer.from(match[1]!, 'base64');
  const colon = decoded?.indexOf(0x3a) ?? -1;
  if (decoded === undefined || colon < 0) return 'Proxy-Authorization must be Basic with user:password';
  const result = credentialOptions(decoded.subarray(0, colon), decoded.subarray(colon + 1), listener, defaults);
  decoded.fill(0);
  return result.ok ? result.options : result.problem;
}

function refuseMethod(request: IncomingMessage, response: ServerResponse): void {
  const url = request.url ?? '';
  const text = url.startsWith('/')
    ? 'This port is an HTTP proxy for CONNECT only, not a web server.\n'
    : 'This proxy only tunnels (CONNECT). Plain http:// requests through it are refused: use https, or SOCKS5.\n';
  response.writeHead(405, { 'content-type': 'text/plain; charset=utf-8', allow: 'CONNECT', connection: 'close' });
  response.end(text);
}

function statusOfParseError(code: string | undefined): number {
  if (code === 'HPE_HEADER_OVERFLOW') return 431;
  return code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
}

function answer(status: number, text: string, code?: DialErrorCode, header = ''): string {
  const body = `${text}\n`;
  return (
    `HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n` +
    (code === undefined ? '' : `x-nyx-error: ${code}\r\n`) +
    `${header}Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
    `Connection: close\r\n\r\n${body}`
  );
}
