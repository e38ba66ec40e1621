/**
 * SOCKS5 proxy (RFC 1928, RFC 1929, Tor's RESOLVE extensions). Names are never resolved here: they travel to the exit.
 *
 * Way of a connection: greeting → method → [username/password → status] → request → dial → reply → bytes both ways.
 *
 * - CONNECT, UDP ASSOCIATE, RESOLVE (0xF0) and RESOLVE_PTR (0xF1) are served; BIND is answered with 0x07.
 * - Username and password are not checked against anything: they isolate streams and set dial options, see
 *   credentials.ts. An option list that is wrong is answered with status 0x01.
 * - A dial that fails is answered by `replyOf` below.
 */
import { createServer, type Socket } from 'node:net';
import { DialError, type DialErrorCode, type DialOptions } from '../pump/contract.ts';
import { anonymousOptions, credentialOptions } from './credentials.ts';
import { defaultHandshakeTimeoutMs, type Log, type ProxyOptions, type ProxyServer } from './proxy.ts';
import { endWith, runProxy } from './proxy-server.ts';
import {
  encodeAuthStatus,
  encodeMethod,
  encodeReply,
  type Parsed,
  parseCredentials,
  parseGreeting,
  parseRequest,
  Socks5Method,
  Socks5Reply,
  type Socks5Request,
} from './socks5-codec.ts';
import { associateUdp } from './socks5-udp.ts';
import { asDialError, dialFor, splice } from './splice.ts';

/** The one table of what a failed dial means in SOCKS5. */
const replies: Readonly<Record<DialErrorCode, Socks5Reply>> = {
  NO_PATH: Socks5Reply.generalFailure,
  PATH_FAILED: Socks5Reply.generalFailure,
  TIMEOUT: Socks5Reply.ttlExpired,
  CONNECTION_REFUSED: Socks5Reply.connectionRefused,
  HOST_UNREACHABLE: Socks5Reply.hostUnreachable,
  NETWORK_UNREACHABLE: Socks5Reply.networkUnreachable,
  RESOLVE_FAILED: Socks5Reply.hostUnreachable,
  EXIT_POLICY: Socks5Reply.notAllowed,
  LIMIT: Socks5Reply.generalFailure,
  RESET: Socks5Reply.generalFailure,
  SESSION_LOST: Socks5Reply.generalFailure,
  CANCELLED: Socks5Reply.generalFailure,
  BAD_REQUEST: Socks5Reply.generalFailure,
  SHUTDOWN: Socks5Reply.generalFailure,
  INTERNAL: Socks5Reply.generalFailure,
};

export function replyOf(code: DialErrorCode): Socks5Reply {
  return replies[code];
}

const httpAnswer = [
  'HTTP/1.1 400 Bad Request',
  'Content-Type: text/plain; charset=utf-8',
  'Connection: close',
  '',
  'This port speaks SOCKS5, not HTTP. Set it as a SOCKS5 proxy (with remote DNS), e.g. socks5h:// in curl.',
  '',
].join('\r\n');

/** SOCKS4's "request rejected", so that its clients say so instead of hanging. */
const socks4Rejection = Uint8Array.of(0x00, 0x5b, 0, 0, 0, 0, 0, 0);

/** Starts the proxy. Rejects when the address is taken or not allowed. */
export async function startSocks5(options: ProxyOptions): Promise<ProxyServer> {
  const stopping = new AbortController();
  const listener = `socks5 ${options.listen.host}:${options.listen.port}`;
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    new Handshake(socket, listener, options, stopping.signal);
  });
  return await runProxy('socks5', server, options, stopping);
}

type Phase = 'greeting' | 'credentials' | 'request' | 'served';

/** One client from its first byte to its request. */
class Handshake {
  readonly #socket: Socket;
  readonly #listener: string;
  readonly #options: ProxyOptions;
  readonly #log: Log;
  readonly #stopping: AbortSignal;
  readonly #deadline: NodeJS.Timeout;
  #phase: Phase = 'greeting';
  #dial: DialOptions;
  /** An unfinished message: shorter than maxMessageBytes, or there would be a value or an error. */
  #pending: Buffer = Buffer.alloc(0);

  constructor(socket: Socket, listener: string, options: ProxyOptions, stopping: AbortSignal) {
    this.#socket = socket;
    this.#listener = listener;
    this.#options = options;
    this.#log = options.log;
    this.#stopping = stopping;
    this.#dial = anonymousOptions(listener, options.defaults ?? {});
    this.#deadline = setTimeout(() => {
      this.#log('debug', 'socks5: handshake timed out');
      socket.destroy();
    }, options.handshakeTimeoutMs ?? defaultHandshakeTimeoutMs);
    socket.on('data', this.#onData).on('end', this.#onEnd).on('error', this.#onError).on('close', this.#onClose);
  }

  readonly #onData = (chunk: Buffer): void => {
    let rest = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (this.#phase !== 'served') {
      const taken = this.#step(rest);
      if (taken === 0) break;
      rest = rest.subarray(taken);
    }
    if (this.#phase !== 'served') this.#pending = rest;
  };

  readonly #onEnd = (): void => {
    this.#socket.destroy();
  };

  readonly #onError = (error: Error): void => {
    this.#log('debug', 'socks5: client connection failed', { error: error.message });
  };

  readonly #onClose = (): void => {
    clearTimeout(this.#deadline);
  };

  /** Takes one message off the front; 0 = not complete yet, or over. */
  #step(bytes: Buffer): number {
    if (this.#phase === 'greeting') return this.#greeting(bytes);
    if (this.#phase === 'credentials') return this.#credentials(bytes);
    const request = parseRequest(bytes);
    if (request.kind === 'bad') this.#refuse(request.reason, encodeReply(request.reply));
    if (request.kind !== 'value') return 0;
    this.#handOver();
    this.#serve(request.value, Buffer.from(bytes.subarray(request.sizeBytes))).catch((error) => {
      this.#log('error', 'socks5: serving a request failed', { error: asDialError(error).message });
      this.#socket.destroy();
    });
    return request.sizeBytes;
  }

  #greeting(bytes: Buffer): number {
    const greeting = parseGreeting(bytes);
    if (greeting.kind === 'bad') {
      const first = bytes[0]!;
      if (first >= 0x41 && first <= 0x5a) this.#refuse('HTTP request', httpAnswer);
      else if (first === 0x04) this.#refuse('SOCKS4 request', socks4Rejection);
      else this.#refuse(greeting.reason, '');
    }
    if (greeting.kind !== 'value') return 0;
    const methods = greeting.value;
    if (methods.has(Socks5Method.userPassword)) {
      this.#phase = 'credentials';
      this.#socket.write(encodeMethod(Socks5Method.userPassword));
    } else if (methods.has(Socks5Method.none)) {
      this.#phase = 'request';
      this.#socket.write(encodeMethod(Socks5Method.none));
    } else {
      this.#refuse('no acceptable method', encodeMethod(Socks5Method.noneAcceptable));
      return 0;
    }
    return greeting.sizeBytes;
  }

  #credentials(bytes: Buffer): number {
    const parsed: Parsed<{ username: Uint8Array; password: Uint8Array }> = parseCredentials(bytes);
    if (parsed.kind === 'bad') this.#refuse(parsed.reason, encodeAuthStatus(false));
    if (parsed.kind !== 'value') return 0;
    const { username, password } = parsed.value;
    const result = credentialOptions(username, password, this.#listener, this.#options.defaults ?? {});
    username.fill(0);
    password.fill(0);
    if (!result.ok) {
      this.#log('info', `socks5: ${result.problem}`);
      this.#refuse('bad options', encodeAuthStatus(false));
      return 0;
    }
    this.#dial = result.options;
    this.#phase = 'request';
    this.#socket.write(encodeAuthStatus(true));
    return parsed.sizeBytes;
  }

  #refuse(reason: string, answer: Uint8Array | string): void {
    this.#log('debug', 'socks5: refused', { reason });
    this.#handOver();
    if (answer.length === 0) this.#socket.destroy();
    else endWith(this.#socket, answer);
  }

  /** The handshake stops listening; the socket is paused for whoever comes next. */
  #handOver(): void {
    this.#phase = 'served';
    this.#pending = Buffer.alloc(0);
    clearTimeout(this.#deadline);
    this.#socket.off('data', this.#onData).off('end', this.#onEnd);
    this.#socket.pause();
  }

  async #serve(request: Socks5Request, head: Buffer): Promise<void> {
    if (request.command === 'bind') return this.#refuse('BIND', encodeReply(Socks5Reply.commandNotSupported));
    try {
      if (request.command === 'connect') await this.#connect(request, head);
      else if (request.command === 'udp-associate') await this.#associate(request);
      else await this.#resolve(request);
    } catch (error) {
      const { code, message } = asDialError(error);
      this.#log(code === 'INTERNAL' ? 'warn' : 'debug', `socks5: ${request.command} failed`, { code, message });
      endWith(this.#socket, encodeReply(replyOf(code)));
    }
  }

  async #connect(request: Socks5Request, head: Buffer): Promise<void> {
    if (request.port === 0) throw new DialError('BAD_REQUEST', 'port 0');
    const { dialer } = this.#options;
    const target = await dialFor(this.#socket, dialer, request, this.#dial, head, this.#stopping);
    this.#socket.write(encodeReply(Socks5Reply.succeeded, target.address, target.port));
    splice(this.#socket, target, (error) => {
      if (error !== undefined) this.#log('debug', 'socks5: stream ended', { reason: error.message });
    });
  }

  async #associate(request: Socks5Request): Promise<void> {
    const relay = await associateUdp(this.#socket, request.port, this.#options.dialer, this.#dial, this.#log);
    this.#socket.write(encodeReply(Socks5Reply.succeeded, relay.host, relay.port));
  }

  async #resolve(request: Socks5Request): Promise<void> {
    const { host, literal } = request;
    const { dialer } = this.#options;
    let answer: string;
    if (request.command === 'resolve-ptr') {
      if (!literal) throw new DialError('BAD_REQUEST', 'RESOLVE_PTR of something that is not an address');
      const { name } = await dialer.resolve('address', host, this.#dial);
      if (name === undefined) throw new DialError('RESOLVE_FAILED', 'no name');
      answer = name;
    } else if (literal) answer = host;
    else {
      const { addresses } = await dialer.resolve('name', host, this.#dial);
      // The reply has room for one; older clients of this extension know only IPv4.
      const chosen = addresses.find(({ family }) => family === 4) ?? addresses[0];
      if (chosen === undefined) throw new DialError('RESOLVE_FAILED', 'no address');
      answer = chosen.address;
    }
    endWith(this.#socket, encodeReply(Socks5Reply.succeeded, answer, 0));
  }
}
