/**
 * How a client proves on a new circuit that a session is its own (docs/protocol.md §5.5). The ticket follows, at both
 * ends, from the first circuit's fresh exchange; it never travels. The proof is bound to the new circuit's set-up: seen
 * by anybody but the last hop, or shown on another circuit, it proves nothing.
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { ATTACH_BYTES, SESSION_ID_BYTES } from '../wire/frames.ts';

const KEY_BYTES = 32;
const NO_SALT = new Uint8Array(0);

export interface SessionTicket {
  /** 16 bytes. */
  readonly id: Uint8Array;
  /** 32 bytes. */
  readonly key: Uint8Array;
}

/** From what the first circuit's fresh exchange gave (DH ‖ KEM secret, 64 bytes, borrowed). */
export function deriveTicket(suite: CryptoSuite, shared: Uint8Array): SessionTicket {
  const okm = suite.hkdf(shared, NO_SALT, nyxLabel('session ticket'), SESSION_ID_BYTES + KEY_BYTES);
  const ticket = { id: okm.slice(0, SESSION_ID_BYTES), key: okm.slice(SESSION_ID_BYTES) };
  suite.wipe(okm);
  return ticket;
}

/** Body of ATTACH: session id ‖ proof. `binding` is the new circuit's (HopSecrets.binding of its last hop). */
export function attachBody(suite: CryptoSuite, ticket: SessionTicket, binding: Uint8Array): Uint8Array {
  const body = new Uint8Array(ATTACH_BYTES);
  body.set(ticket.id);
  body.set(proofOf(suite, ticket, binding), SESSION_ID_BYTES);
  return body;
}

export function provesTicket(
  suite: CryptoSuite,
  ticket: SessionTicket,
  binding: Uint8Array,
  proof: Uint8Array,
): boolean {
  return suite.equal(proof, proofOf(suite, ticket, binding));
}

export function wipeTicket(suite: CryptoSuite, ticket: SessionTicket): void {
  suite.wipe(ticket.id, ticket.key);
}

function proofOf(suite: CryptoSuite, ticket: SessionTicket, binding: Uint8Array): Uint8Array {
  return suite.mac16(ticket.key, nyxLabel('attach'), ticket.id, binding);
}
