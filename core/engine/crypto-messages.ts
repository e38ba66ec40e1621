/** Key messages on a session's CRYPTO stream (docs/protocol.md §5): the engine's part of it. */
import { MLKEM768_PUBLIC_KEY_BYTES, X25519_BYTES } from '../crypto/suite.ts';
import type { ClientFresh } from '../onion/fresh-exchange.ts';
import { SessionError } from '../stream/contract.ts';
import type { SessionPath } from '../stream/session-path.ts';

export const CryptoMessage = { caps: 1, keys: 2, rekey: 3, rekeyKeys: 4, audit: 5, opened: 6 } as const;

const REKEY_BYTES = X25519_BYTES + MLKEM768_PUBLIC_KEY_BYTES;

/** REKEY: the client's fresh X25519 and ML-KEM public keys. */
export function encodeRekey(x25519: Uint8Array, kem: Uint8Array): Uint8Array {
  const body = new Uint8Array(REKEY_BYTES);
  body.set(x25519, 0);
  body.set(kem, X25519_BYTES);
  return body;
}

export function decodeRekey(body: Uint8Array): ClientFresh | undefined {
  if (body.length !== REKEY_BYTES) return undefined;
  return { x25519: body.slice(0, X25519_BYTES), kem: body.slice(X25519_BYTES) };
}

/**
 * Queues a key message. A peer that never acknowledges them must not fill our memory, nor make the session throw: false,
 * and the session is closed.
 */
export function sendKeyMessage(path: SessionPath, type: number, body: Uint8Array): boolean {
  try {
    path.sendCryptoMessage(type, body);
    return true;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    path.session.close(SessionError.protocolViolation, 'key messages are not acknowledged');
    return false;
  }
}
