/**
 * The exit: serves the sessions of the circuits that end here. Streams become TCP connections or UDP associations,
 * RESOLVE becomes lookups; everything is checked against the exit policy by address, after resolving.
 * Nothing of where streams go is logged.
 */
import type { Socket as UdpSocket } from 'node:dgram';
import type { Socket } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { type ExitPolicy, parseExitPolicy } from '@nyx/core/directory/exit-policy.ts';
import type { SessionOwner } from '@nyx/core/engine/contract.ts';
import { type SessionApi, SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import type { ExitOptions } from '../pump/contract.ts';
import { sessionErrorOf } from './exit-error.ts';
import { type NameService, Resolver } from './resolver.ts';
import { TcpStream } from './tcp-stream.ts';
import { Transfer } from './transfer.ts';
import { UdpAssociation, udpIdleTimeoutMs } from './udp-association.ts';

/** RESOLVE requests that one circuit may have waiting. */
const maxResolvesPerCircuit = 32;

export interface ExitDeps {
  readonly log: (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Record<string, unknown>) => void;
  /** Who is asked for names; default: the servers of the options, or the system. */
  readonly nameService?: NameService;
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number;
  /** As Transfer has it. */
  readonly atTurnEnd?: (task: () => void) => void;
}

/** Exit of one worker. Options are checked in the constructor: throws for a policy rule or resolver that is wrong. */
export class Exit {
  readonly #deps: ExitDeps;
  #rules: ExitRules;
  readonly #transfer: Transfer;
  readonly #sessions = new Map<number, ExitSession>();
  readonly #sockets = new Set<Socket | UdpSocket>();
  #streams = 0;
  #socketsOpened = 0;
  #datagramsDropped = 0;
  #closed = false;
  #onSocketsGone: (() => void) | undefined;

  constructor(options: ExitOptions, deps: ExitDeps) {
    this.#deps = deps;
    this.#transfer = new Transfer(deps.atTurnEnd);
    this.#rules = rulesOf(options, deps);
  }

  /** For what is opened from now on, on sessions that there are as well; streams that are open stay. Throws as the constructor, and then nothing has changed. */
  retune(options: ExitOptions): void {
    if (isDeepStrictEqual(options, this.#rules.options)) return;
    this.#rules = rulesOf(options, this.#deps);
  }

  /** Serves one incoming session, until it closes or sessionEnded(circuit). */
  serve(session: SessionApi, circuit: number): SessionOwner {
    const served = new ExitSession(session, {
      rules: () => this.#rules,
      transfer: this.#transfer,
      nowMs: this.#deps.nowMs ?? (() => performance.now()),
      onSocket: (socket) => this.#onSocket(socket),
      onStreams: (change) => {
        this.#streams += change;
      },
      onDropped: () => {
        this.#datagramsDropped += 1;
      },
      onEnd: (kind, code) => this.#deps.log('debug', 'exit stream ended', { circuit, kind, code }),
    });
    this.#sessions.set(circuit, served);
    if (this.#closed) session.close(SessionError.shutdown, 'shutting down');
    return {
      onStream: (stream) => served.open(stream),
      onResolve: (requestId, kind, value) => served.resolve(requestId, kind, value),
      onDatagram: (flowId, data, lifetimeMs) => served.handleDatagram(flowId, data, lifetimeMs),
      onDatagramExpired: (flowId, own) => {
        this.#datagramsDropped += 1;
        if (!own) served.datagramExpired(flowId);
      },
      onClose: () => this.sessionEnded(circuit),
    };
  }

  /** The circuit or its session is gone: everything of it is ended. Harmless when it already was. */
  sessionEnded(circuit: number): void {
    const served = this.#sessions.get(circuit);
    this.#sessions.delete(circuit);
    served?.end(SessionError.sessionLost);
  }

  /** Streams open now, associations among them. */
  get streams(): number {
    return this.#streams;
  }

  /** TCP connection attempts and UDP sockets, ever. */
  get socketsOpened(): number {
    return this.#socketsOpened;
  }

  /** Datagrams of associations that were not delivered, either way, ever. */
  get datagramsDropped(): number {
    return this.#datagramsDropped;
  }

  /** Ends all streams (their clients learn `shutdown`) and waits for their sockets. */
  close(): Promise<void> {
    this.#closed = true;
    for (const served of this.#sessions.values()) served.end(SessionError.shutdown);
    for (const socket of this.#sockets) if ('destroy' in socket) socket.destroy();
    if (this.#sockets.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onSocketsGone = resolve;
    });
  }

  #onSocket(socket: Socket | UdpSocket): void {
    this.#socketsOpened += 1;
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#onSocketsGone?.();
    });
  }
}

/** What an exit goes by. */
interface ExitRules {
  readonly options: ExitOptions;
  readonly policy: ExitPolicy;
  readonly resolver: Resolver;
}

const rulesOf = (options: ExitOptions, deps: ExitDeps): ExitRules => ({
  options,
  policy: parseExitPolicy(options.policy, { allowPrivate: options.allowPrivate }),
  resolver: new Resolver(
    { dnsServers: options.dnsServers, allowPrivate: options.allowPrivate, timeoutMs: options.connectTimeoutMs },
    deps.nameService,
    deps.nowMs,
  ),
});

interface ExitSessionOptions {
  /** They may have changed by the next stream. */
  readonly rules: () => ExitRules;
  readonly transfer: Transfer;
  readonly nowMs: () => number;
  readonly onSocket: (socket: Socket | UdpSocket) => void;
  readonly onStreams: (change: 1 | -1) => void;
  readonly onDropped: () => void;
  readonly onEnd: (kind: 'tcp' | 'udp', code: number) => void;
}

/** What one circuit has open. */
class ExitSession {
  readonly #session: SessionApi;
  readonly #shared: ExitSessionOptions;
  readonly #streams = new Set<TcpStream | UdpAssociation>();
  readonly #associations = new Map<number, UdpAssociation>();
  #resolving = 0;
  #ended = false;

  constructor(session: SessionApi, shared: ExitSessionOptions) {
    this.#session = session;
    this.#shared = shared;
  }

  open(stream: SessionStream): void {
    if (this.#ended) stream.reset(SessionError.shutdown);
    else if (this.#streams.size >= this.#shared.rules().options.maxStreamsPerCircuit) stream.reset(SessionError.limit);
    else if (stream.target.kind === 'udp') this.#openUdp(stream);
    else this.#openTcp(stream);
  }

  resolve(requestId: number, kind: 'name' | 'address', value: string): void {
    if (this.#ended || this.#resolving >= maxResolvesPerCircuit) {
      this.#session.resolved(requestId, SessionError.limit, []);
      return;
    }
    this.#resolving += 1;
    this.#answer(requestId, kind, value).catch((error) => {
      this.#resolving -= 1;
      if (!this.#ended) this.#session.resolved(requestId, sessionErrorOf(error), []);
    });
  }

  handleDatagram(flowId: number, data: Uint8Array, lifetimeMs = 0): void {
    const association = this.#associations.get(flowId);
    if (association === undefined) this.#shared.onDropped();
    else association.handle(data, lifetimeMs);
  }

  datagramExpired(flowId: number): void {
    this.#associations.get(flowId)?.expired();
  }

  end(code: number): void {
    this.#ended = true;
    for (const stream of [...this.#streams]) stream.sessionEnded(code);
  }

  async #answer(requestId: number, kind: 'name' | 'address', value: string): Promise<void> {
    const { resolver } = this.#shared.rules();
    const addresses = kind === 'name' ? await resolver.addresses(value) : [];
    const name = kind === 'address' ? await resolver.nameOf(value) : undefined;
    if (!this.#ended) this.#session.resolved(requestId, SessionError.noError, addresses, name);
    this.#resolving -= 1;
  }

  #openTcp(stream: SessionStream): void {
    const { transfer, onSocket, rules } = this.#shared;
    const { policy, resolver, options } = rules();
    const tcp: TcpStream = new TcpStream(stream, {
      policy,
      resolver,
      transfer,
      connectTimeoutMs: options.connectTimeoutMs,
      idleTimeoutMs: options.idleTimeoutMs,
      halfClosedTimeoutMs: options.halfClosedTimeoutMs,
      onSocket,
      onDone: (code) => this.#forget(tcp, 'tcp', code),
    });
    this.#remember(tcp);
    void tcp.start();
  }

  #openUdp(stream: SessionStream): void {
    const { nowMs, onSocket, onDropped, rules } = this.#shared;
    const { policy, resolver, options } = rules();
    const association: UdpAssociation = new UdpAssociation(this.#session, stream, {
      policy,
      resolver,
      idleTimeoutMs: Math.min(udpIdleTimeoutMs, options.idleTimeoutMs),
      nowMs,
      onSocket,
      onDropped,
      onDone: (code) => {
        this.#associations.delete(stream.id);
        this.#forget(association, 'udp', code);
      },
    });
    this.#remember(association);
    this.#associations.set(stream.id, association);
    association.start();
  }

  #remember(stream: TcpStream | UdpAssociation): void {
    this.#streams.add(stream);
    this.#shared.onStreams(1);
  }

  #forget(stream: TcpStream | UdpAssociation, kind: 'tcp' | 'udp', code: number): void {
    this.#streams.delete(stream);
    this.#shared.onStreams(-1);
    this.#shared.onEnd(kind, code);
  }
}
