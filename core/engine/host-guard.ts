/**
 * Stands between the engine and its host: what a callback throws does not tear the engine's work in the middle, but
 * comes out of the engine's call once that work is done.
 */
import { Drop } from '../drop-reason.ts';
import type { PeerAddress, UnixSeconds } from '../ports.ts';
import type { SessionApi } from '../stream/contract.ts';
import { SessionError } from '../stream/contract.ts';
import type {
  CircuitEnd,
  ClientCircuitEvent,
  CmixHost,
  EngineHost,
  LinkEvent,
  MessagePacketEvent,
  NodeContact,
  SessionOwner,
  Step,
  Via,
} from './contract.ts';

export class HostGuard implements EngineHost {
  readonly #host: EngineHost;
  #errors: unknown[] = [];

  readonly cmix: CmixHost | undefined;
  readonly onStep: ((step: Step) => void) | undefined;

  constructor(host: EngineHost) {
    this.#host = host;
    const { cmix } = host;
    const guard = (work: () => void) => {
      try {
        work();
      } catch (error) {
        this.failed(error);
      }
    };
    const { onStep } = host;
    this.onStep = onStep && ((step) => guard(() => onStep(step)));
    this.cmix = cmix && {
      statementBytes: cmix.statementBytes,
      rules: () => cmix.rules(),
      prove: (job) => guard(() => cmix.prove(job)),
      check: (id, job) => guard(() => cmix.check(id, job)),
      pledge: (id, fields) => guard(() => cmix.pledge(id, fields)),
      cheated: (cheat, evidence, found) => guard(() => cmix.cheated(cheat, evidence, found)),
      suspected: (nodeId, counts) => guard(() => cmix.suspected(nodeId, counts)),
      exchanged: (nodeId) => guard(() => cmix.exchanged(nodeId)),
    };
  }

  /** Keeps an error for rethrow(). */
  failed(error: unknown): void {
    this.#errors.push(error);
  }

  /** Throws what was kept: the error itself, or an AggregateError of several. */
  rethrow(): void {
    if (this.#errors.length === 0) return;
    const errors = this.#errors;
    this.#errors = [];
    throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'several callbacks of the host threw');
  }

  send(via: Via, to: PeerAddress, batch: Uint8Array, length: number, release: () => void): void {
    try {
      this.#host.send(via, to, batch, length, release);
    } catch (error) {
      this.failed(error);
    }
  }

  reaches(address: PeerAddress): boolean {
    try {
      return this.#host.reaches?.(address) ?? true;
    } catch (error) {
      this.failed(error);
      return true;
    }
  }

  resolve(nodeId: Uint8Array): NodeContact | undefined {
    try {
      return this.#host.resolve(nodeId);
    } catch (error) {
      this.failed(error);
      return undefined;
    }
  }

  onLink(event: LinkEvent): void {
    try {
      this.#host.onLink(event);
    } catch (error) {
      this.failed(error);
    }
  }

  onLinkIds(added: readonly number[], removed: readonly number[]): void {
    try {
      this.#host.onLinkIds?.(added, removed);
    } catch (error) {
      this.failed(error);
    }
  }

  onForeign(linkId: number, datagram: Uint8Array, via: Via, from: PeerAddress): Drop {
    try {
      return this.#host.onForeign?.(linkId, datagram, via, from) ?? Drop.unknownLink;
    } catch (error) {
      this.failed(error);
      return Drop.unknownLink;
    }
  }

  onCircuit(event: ClientCircuitEvent): void {
    try {
      this.#host.onCircuit(event);
    } catch (error) {
      this.failed(error);
    }
  }

  onIncomingSession(session: SessionApi, circuit: number): SessionOwner {
    try {
      return this.#host.onIncomingSession(session, circuit);
    } catch (error) {
      this.failed(error);
      session.close(SessionError.internal, 'the session can not be served');
      return { onClose() {} };
    }
  }

  onIncomingSessionEnd(session: SessionApi, circuit: number, reason: CircuitEnd): void {
    try {
      this.#host.onIncomingSessionEnd(session, circuit, reason);
    } catch (error) {
      this.failed(error);
    }
  }

  get takesMessages(): boolean {
    return this.#host.onMessagePacket !== undefined;
  }

  onMessagePacket(event: MessagePacketEvent): void {
    try {
      this.#host.onMessagePacket?.(event);
    } catch (error) {
      this.failed(error);
    }
  }

  onWake(): void {
    this.#host.onWake();
  }

  unixSeconds(): UnixSeconds {
    return this.#host.unixSeconds();
  }
}
