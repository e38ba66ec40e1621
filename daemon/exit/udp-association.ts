/**
 * One UDP association: a stream of kind `udp` and one socket per address family. Datagrams travel beside the stream,
 * in DATAGRAM frames whose flow id is the stream's; the stream itself carries no bytes, only the association's life.
 *
 * Only targets that the association has sent to can answer, address and port (RFC 4787 §5, address and
 * port-dependent filtering), and each target is checked against the policy.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { parseTarget } from '@nyx/core/directory/address.ts';
import type { ExitPolicy } from '@nyx/core/directory/exit-policy.ts';
import { type SessionApi, SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import { decodeUdpFrame, encodeUdpFrame } from '../pump/udp-frame.ts';
import { encodeUdpReport } from '../pump/udp-report.ts';
import { sessionErrorOf } from './exit-error.ts';
import type { Resolver } from './resolver.ts';

export const udpIdleTimeoutMs = 60_000;
/** A target that was not sent to for this long may not answer any more, and makes room for another. */
const targetLifetimeMs = 60_000;
const maxTargets = 64;
const maxQueuedBytes = 256 * 1024;
/** A report follows the first news after so long, and comes twice, as the last one may be lost. */
export const udpReportMs = 500;
const REPORTS = 2;
/** Datagrams that wait for their names. */
const maxUnresolved = 32;

export interface UdpAssociationOptions {
  readonly policy: ExitPolicy;
  readonly resolver: Resolver;
  /** Ends after this long without a datagram either way. */
  readonly idleTimeoutMs: number;
  readonly nowMs: () => number;
  readonly onSocket: (socket: Socket) => void;
  /** A datagram was not delivered. */
  readonly onDropped: () => void;
  readonly onDone: (code: number) => void;
}

export class UdpAssociation {
  readonly #session: SessionApi;
  readonly #stream: SessionStream;
  readonly #options: UdpAssociationOptions;
  #socket4: Socket | undefined;
  #socket6: Socket | undefined;
  /** When a target (`address port`) was last sent to, oldest first. */
  readonly #targets = new Map<string, number>();
  #queuedBytes = 0;
  #unresolved = 0;
  #lastUsedMs: number;
  #idleTimer: NodeJS.Timeout | undefined;
  #lifetimeMs = 0;
  #closed = false;
  #arrived = 0;
  #expired = 0;
  #dropped = 0;
  #answersDropped = 0;
  #reportsDue = 0;
  #reportTimer: NodeJS.Timeout | undefined;

  constructor(session: SessionApi, stream: SessionStream, options: UdpAssociationOptions) {
    this.#session = session;
    this.#stream = stream;
    this.#options = options;
    this.#lastUsedMs = options.nowMs();
    stream.onReadable = () => this.#onReadable();
    stream.onClose = (code) => this.#close(code);
  }

  start(): void {
    const socket = this.#open('udp4');
    this.#socket4 = socket;
    socket.bind(0, () => {
      if (this.#closed) return;
      const { address, port } = socket.address();
      this.#stream.connected(4, address, port);
    });
    this.#watchIdle(this.#options.idleTimeoutMs);
    this.#onReadable();
  }

  /** One frame of the client. Borrows. Answers live as long as the client lets its own datagrams live. */
  handle(frame: Uint8Array, lifetimeMs: number): void {
    this.#lifetimeMs = lifetimeMs;
    this.#arrived++;
    this.#news();
    const datagram = decodeUdpFrame(frame);
    if (this.#closed || datagram === undefined || !this.#options.policy.mayAllowPort(datagram.port)) {
      this.#drop();
      return;
    }
    this.#lastUsedMs = this.#options.nowMs();
    const { host, port } = datagram;
    const literal = parseTarget(host);
    const data = Buffer.from(datagram.data);
    if (literal !== undefined) this.#send(literal.toString(), port, data);
    else this.#sendToName(host, port, data);
  }

  /** One came that was too old; the exit has counted it. */
  expired(): void {
    this.#arrived++;
    this.#expired++;
    this.#news();
  }

  reset(code: number): void {
    if (this.#closed) return;
    this.#close(code);
    this.#stream.reset(code);
  }

  sessionEnded(code: number): void {
    this.reset(code);
  }

  #sendToName(name: string, port: number, data: Buffer): void {
    if (this.#unresolved >= maxUnresolved) {
      this.#drop();
      return;
    }
    this.#unresolved += 1;
    this.#options.resolver.addresses(name).then(
      (addresses) => {
        this.#unresolved -= 1;
        const allowed = addresses.filter(({ address }) => this.#options.policy.allows(address, port));
        // IPv4 first: without an answer to each datagram there is no telling whether IPv6 works.
        const chosen = allowed.find(({ family }) => family === 4) ?? allowed[0];
        if (chosen === undefined || this.#closed) this.#drop();
        else this.#send(chosen.address, port, data);
      },
      () => {
        this.#unresolved -= 1;
        this.#drop();
      },
    );
  }

  #send(address: string, port: number, data: Buffer): void {
    if (
      this.#closed ||
      this.#queuedBytes + data.length > maxQueuedBytes ||
      !this.#options.policy.allows(address, port) ||
      !this.#remember(`${address} ${port}`)
    ) {
      this.#drop();
      return;
    }
    this.#queuedBytes += data.length;
    this.#socketFor(address).send(data, port, address, (error) => {
      this.#queuedBytes -= data.length;
      if (error !== null) this.#drop();
    });
  }

  /** False when there are too many targets that are still in use. */
  #remember(target: string): boolean {
    const nowMs = this.#options.nowMs();
    if (!this.#targets.delete(target) && this.#targets.size >= maxTargets) {
      const [oldest, usedAtMs] = this.#targets.entries().next().value!;
      if (nowMs - usedAtMs < targetLifetimeMs) return false;
      this.#targets.delete(oldest);
    }
    this.#targets.set(target, nowMs);
    return true;
  }

  #socketFor(address: string): Socket {
    if (!isIPv6(address)) return this.#socket4!;
    this.#socket6 ??= this.#open('udp6');
    return this.#socket6;
  }

  #open(type: 'udp4' | 'udp6'): Socket {
    const socket = createSocket({ type, ipv6Only: type === 'udp6', lookup: literalOnly });
    socket.on('message', this.#onMessage);
    socket.on('error', (error) => this.reset(sessionErrorOf(error)));
    this.#options.onSocket(socket);
    return socket;
  }

  readonly #onMessage = (message: Buffer, from: RemoteInfo): void => {
    const usedAtMs = this.#targets.get(`${from.address} ${from.port}`);
    const nowMs = this.#options.nowMs();
    if (usedAtMs === undefined || nowMs - usedAtMs > targetLifetimeMs) {
      this.#options.onDropped();
      return;
    }
    this.#lastUsedMs = nowMs;
    const frame = encodeUdpFrame(from.address, from.port, message);
    if (this.#session.sendDatagram(this.#stream.id, frame, this.#lifetimeMs)) return;
    this.#options.onDropped();
    this.#answersDropped++;
    this.#news();
  };

  #drop(): void {
    this.#options.onDropped();
    this.#dropped++;
    this.#news();
  }

  #news(): void {
    this.#reportsDue = REPORTS;
    if (!this.#closed) this.#reportTimer ??= setTimeout(() => this.#report(), udpReportMs);
  }

  #report(): void {
    this.#reportTimer = undefined;
    this.#session.sendDatagram(
      this.#stream.id,
      encodeUdpReport({
        arrived: this.#arrived,
        expired: this.#expired,
        dropped: this.#dropped,
        answersDropped: this.#answersDropped,
      }),
    );
    if (--this.#reportsDue > 0) this.#reportTimer = setTimeout(() => this.#report(), udpReportMs);
  }

  /** The client ends the association by ending the stream; bytes have no business in it. */
  #onReadable(): void {
    if (this.#closed) return;
    if (this.#stream.readableBytes > 0) this.reset(SessionError.protocolViolation);
    else if (this.#stream.readEnded) {
      this.#close(SessionError.noError);
      this.#stream.end();
    }
  }

  #watchIdle(delayMs: number): void {
    this.#idleTimer = setTimeout(() => {
      const idleMs = this.#options.nowMs() - this.#lastUsedMs;
      if (idleMs >= this.#options.idleTimeoutMs) this.reset(SessionError.idleTimeout);
      else this.#watchIdle(this.#options.idleTimeoutMs - idleMs);
    }, Math.ceil(delayMs));
  }

  #close(code: number): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#idleTimer);
    clearTimeout(this.#reportTimer);
    this.#socket4?.close();
    this.#socket6?.close();
    this.#targets.clear();
    this.#options.onDone(code);
  }
}

/** Names never get this far. */
function literalOnly(
  address: string,
  _options: unknown,
  done: (error: null, address: string, family: number) => void,
): void {
  done(null, address, isIPv6(address) ? 6 : 4);
}
