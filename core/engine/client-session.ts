/**
 * A session of our own and what it takes to bring it onto another circuit: with the first circuit's fresh exchange comes
 * a ticket, and from then on the loss of the last circuit is not yet the end.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { TimeMs } from '../ports.ts';
import { SessionError, type SessionOptions } from '../stream/contract.ts';
import { Session } from '../stream/session.ts';
import type { PathHost } from '../stream/session-path.ts';
import type { SessionOwner } from './contract.ts';
import { deriveTicket, type SessionTicket, wipeTicket } from './session-ticket.ts';

export class ClientSession {
  readonly session: Session;
  readonly #suite: CryptoSuite;
  #ticket: SessionTicket | undefined = undefined;

  /** `firstCircuit` gets what concerns the session's first path, `step` (if any) what the specification names. */
  constructor(
    suite: CryptoSuite,
    options: Partial<SessionOptions>,
    owner: SessionOwner,
    firstCircuit: PathHost,
    step: ((action: string) => void) | undefined,
    nowMs: TimeMs,
  ) {
    this.#suite = suite;
    this.session = new Session(
      { ...options, role: 'client' },
      {
        onCryptoMessage: (type, body) => firstCircuit.onCryptoMessage(type, body),
        onWantSend: () => firstCircuit.onWantSend(),
        onReady: owner.onReady?.bind(owner),
        onStream: owner.onStream?.bind(owner),
        onResolve: owner.onResolve?.bind(owner),
        onDatagram: owner.onDatagram?.bind(owner),
        onDatagramExpired: owner.onDatagramExpired?.bind(owner),
        onStalled: () => {
          if (this.#ticket !== undefined) owner.onStalled?.();
        },
        onDetached: () => {
          if (this.#ticket !== undefined && owner.onDetached !== undefined) owner.onDetached();
          else this.session.abandon(SessionError.sessionLost, 'the circuit ended');
        },
        onClose: (code, reason, remote) => {
          if (this.#ticket !== undefined) wipeTicket(suite, this.#ticket);
          this.#ticket = undefined;
          step?.(code === SessionError.noError ? 'Done' : 'GiveUp');
          owner.onClose(code, reason, remote);
        },
      },
      nowMs,
    );
  }

  /** Undefined until the first circuit is ready, and after the session's end. */
  get ticket(): SessionTicket | undefined {
    return this.#ticket;
  }

  /** The first circuit's fresh secret (borrowed). */
  onFirstKeys(shared: Uint8Array): void {
    if (!this.session.closed) this.#ticket ??= deriveTicket(this.#suite, shared);
  }
}
