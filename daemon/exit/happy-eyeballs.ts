/**
 * Happy Eyeballs, RFC 8305 §4–5: addresses with their families interleaved are tried one after the other without
 * waiting for the one before to fail; the first connection that stands wins and the others are destroyed.
 */
import type { Socket } from 'node:net';
import { type ResolvedAddress, SessionError } from '@nyx/core/stream/contract.ts';
import { ExitError, sessionErrorOf } from './exit-error.ts';

/** RFC 8305 §5, "Connection Attempt Delay". */
export const attemptDelayMs = 250;
/** A name with more addresses than this gets no more attempts. */
const maxAttempts = 8;

/** What a failed dial is reported as when attempts failed differently: the one that says most about the target. */
const tellingOrder: readonly SessionError[] = [
  SessionError.connectRefused,
  SessionError.peerReset,
  SessionError.connectTimeout,
  SessionError.hostUnreachable,
  SessionError.exitPolicy,
  SessionError.networkUnreachable,
  SessionError.limit,
];

export interface ConnectOptions {
  /** Starts one connection. */
  readonly open: (address: ResolvedAddress) => Socket;
  /** For all attempts together. */
  readonly timeoutMs: number;
  readonly onConnected: (socket: Socket) => void;
  /** All attempts failed, or the time was up. */
  readonly onFailed: (error: ExitError) => void;
}

/** Interleaves the families, beginning with that of the first address, each in its given order. */
export function interleave(addresses: readonly ResolvedAddress[]): ResolvedAddress[] {
  const first = addresses.filter(({ family }) => family === addresses[0]!.family);
  const second = addresses.filter(({ family }) => family !== addresses[0]!.family);
  const order: ResolvedAddress[] = [];
  for (let i = 0; i < Math.max(first.length, second.length); i++) {
    if (first[i] !== undefined) order.push(first[i]!);
    if (second[i] !== undefined) order.push(second[i]!);
  }
  return order;
}

/** One dial. Exactly one of onConnected and onFailed is called, unless cancel() comes first; never from the constructor. */
export class ConnectRace {
  readonly #options: ConnectOptions;
  readonly #waiting: ResolvedAddress[];
  readonly #sockets = new Set<Socket>();
  readonly #errors: SessionError[] = [];
  readonly #deadline: NodeJS.Timeout;
  #nextAttempt: NodeJS.Timeout | undefined;
  #over = false;

  /** `addresses`: at least one. */
  constructor(addresses: readonly ResolvedAddress[], options: ConnectOptions) {
    this.#options = options;
    this.#waiting = interleave(addresses).slice(0, maxAttempts);
    this.#deadline = setTimeout(() => {
      this.#fail(new ExitError(SessionError.connectTimeout, 'no answer in time'));
    }, options.timeoutMs);
    this.#attempt();
  }

  cancel(): void {
    if (this.#over) return;
    this.#end(undefined);
  }

  #attempt(): void {
    clearTimeout(this.#nextAttempt);
    const address = this.#waiting.shift();
    if (address === undefined) return;
    const socket = this.#options.open(address);
    this.#sockets.add(socket);
    socket.once('connect', () => {
      if (this.#over) return;
      this.#end(socket);
      this.#options.onConnected(socket);
    });
    socket.on('error', (error) => {
      if (this.#over) return;
      this.#sockets.delete(socket);
      this.#errors.push(sessionErrorOf(error));
      if (this.#waiting.length > 0) this.#attempt();
      else if (this.#sockets.size === 0) this.#fail(new ExitError(mostTelling(this.#errors), error.message));
    });
    if (this.#waiting.length > 0) this.#nextAttempt = setTimeout(() => this.#attempt(), attemptDelayMs);
  }

  #fail(error: ExitError): void {
    if (this.#over) return;
    this.#end(undefined);
    this.#options.onFailed(error);
  }

  #end(winner: Socket | undefined): void {
    this.#over = true;
    clearTimeout(this.#deadline);
    clearTimeout(this.#nextAttempt);
    for (const socket of this.#sockets) if (socket !== winner) socket.destroy();
    this.#sockets.clear();
  }
}

function mostTelling(errors: readonly SessionError[]): SessionError {
  return tellingOrder.find((code) => errors.includes(code)) ?? errors[0] ?? SessionError.internal;
}
