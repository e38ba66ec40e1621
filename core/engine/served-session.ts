/**
 * A session that this node serves, from its first circuit to its end: circuits come and go under it. Between two of them
 * it waits for its client for a while, with its streams open.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { TimeMs } from '../ports.ts';
import { SessionError } from '../stream/contract.ts';
import type { Session } from '../stream/session.ts';
import type { SessionPath } from '../stream/session-path.ts';
import { CircuitEnd, type EngineHost, type SessionOwner } from './contract.ts';
import { deriveTicket, provesTicket, type SessionTicket, wipeTicket } from './session-ticket.ts';
import type { Timed } from './timer-heap.ts';

/** A client finds another path and builds a circuit in far less, unless its network is gone. */
const WAIT_MS = 15_000;
/** Sessions that wait at once; the next one to lose its circuit ends instead. */
const MAX_WAITING = 1024;

export class ServedSession implements Timed {
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  readonly session: Session;
  /** Of the circuit it began on: how its owner knows it. */
  readonly circuit: number;
  owner: SessionOwner | undefined = undefined;
  readonly ticket: SessionTicket;
  readonly #registry: ServedSessions;
  #waiting = false;
  #ended = false;

  constructor(registry: ServedSessions, session: Session, circuit: number, ticket: SessionTicket) {
    this.#registry = registry;
    this.session = session;
    this.circuit = circuit;
    this.ticket = ticket;
  }

  /** One of its circuits is gone. With the last one it begins to wait, or ends. */
  circuitGone(reason: CircuitEnd, nowMs: TimeMs): void {
    const { session } = this;
    if (!session.closed && session.pathCount > 0) {
      this.#registry.step('LastHopNotices', this);
      return;
    }
    if (!session.closed && session.stats.streams > 0 && this.#registry.mayWait()) {
      this.#waiting = true;
      this.#registry.step('LastHopNotices', this);
      this.#registry.wait(this, nowMs + WAIT_MS);
      return;
    }
    this.end(reason);
  }

  adopt(path: SessionPath): void {
    if (this.#waiting) this.#registry.stopWaiting(this);
    this.#waiting = false;
    this.session.adopt(path);
    this.#registry.step('Attach', this);
  }

  /** Nobody came. */
  handleTimeout(): void {
    this.end(CircuitEnd.timeout);
  }

  end(reason: CircuitEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#waiting) this.#registry.stopWaiting(this);
    this.#waiting = false;
    if (!this.session.closed) this.session.abandon(SessionError.sessionLost, 'the circuit ended');
    this.#registry.forget(this, reason);
  }
}

export interface ServedSessionsDependencies {
  readonly suite: CryptoSuite;
  readonly host: EngineHost;
  readonly timers: { set(entry: ServedSession, dueMs: TimeMs): void; remove(entry: ServedSession): void };
  memoryTight(): boolean;
}

/** All that a node serves, by session id. */
export class ServedSessions {
  readonly #deps: ServedSessionsDependencies;
  readonly #byId = new Map<string, ServedSession>();
  /** Those without a circuit, and what each held when it was looked at last. */
  readonly #waiting = new Map<ServedSession, number>();
  #waitingBytes = 0;

  constructor(deps: ServedSessionsDependencies) {
    this.#deps = deps;
  }

  /** Begins one: `shared` is its first circuit's fresh secret (borrowed). */
  open(session: Session, circuit: number, shared: Uint8Array): ServedSession {
    const { suite, host } = this.#deps;
    const served = new ServedSession(this, session, circuit, deriveTicket(suite, shared));
    this.#byId.set(nameOf(served.ticket.id), served);
    this.step('Begin', served);
    served.owner = host.onIncomingSession(session, circuit);
    return served;
  }

  /** The session that a newcomer's ATTACH asks for, if its proof holds for the circuit with this `binding`. */
  claimed(id: Uint8Array, proof: Uint8Array, binding: Uint8Array): ServedSession | undefined {
    const served = this.#byId.get(nameOf(id));
    if (served === undefined || served.session.closed) return undefined;
    return provesTicket(this.#deps.suite, served.ticket, binding, proof) ? served : undefined;
  }

  step(action: string, { circuit, session }: ServedSession): void {
    this.#deps.host.onStep?.({ spec: 'Session', action, of: circuit, count: session.pathCount });
  }

  mayWait(): boolean {
    return this.#waiting.size < MAX_WAITING && !this.#deps.memoryTight();
  }

  wait(served: ServedSession, untilMs: TimeMs): void {
    this.#count(served, served.session.stats.bufferedBytes);
    this.#deps.timers.set(served, untilMs);
  }

  stopWaiting(served: ServedSession): void {
    this.#count(served, 0);
    this.#waiting.delete(served);
    this.#deps.timers.remove(served);
  }

  forget(served: ServedSession, reason: CircuitEnd): void {
    this.#byId.delete(nameOf(served.ticket.id));
    wipeTicket(this.#deps.suite, served.ticket);
    this.step('End', served);
    this.#deps.host.onIncomingSessionEnd(served.session, served.circuit, reason);
  }

  /** Those that wait go first when memory is short. Returns how many there were. */
  endWaiting(reason: CircuitEnd): number {
    const waiting = [...this.#waiting.keys()];
    for (const served of waiting) served.end(reason);
    return waiting.length;
  }

  /** What waits holds, bytes: at most a second old. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Looks at those that wait: targets may have sent more meanwhile. Call it every second or so. */
  recount(): void {
    for (const served of this.#waiting.keys()) this.#count(served, served.session.stats.bufferedBytes);
  }

  #count(served: ServedSession, bytes: number): void {
    this.#waitingBytes += bytes - (this.#waiting.get(served) ?? 0);
    this.#waiting.set(served, bytes);
  }
}

function nameOf(id: Uint8Array): string {
  return String.fromCharCode(...id);
}
