import type { CryptoSuite } from '../crypto/suite.ts';
import { CT_BYTES, PAYLOAD_BYTES } from '../wire/datagram.ts';
import { type CellKeys, cellNonce } from './direction-keys.ts';

/** `T(n)`: what a backward cell's innermost plaintext carries behind the payload. */
export const TAIL_STRING_BYTES = CT_BYTES - PAYLOAD_BYTES;

const zeros = new Uint8Array(TAIL_STRING_BYTES);

/** `T(n)` of the cell whose nonce is set (docs/protocol.md §3): 96 bytes of the last hop's backward PRG. */
export function writeTailString(suite: CryptoSuite, out: Uint8Array, keys: CellKeys): void {
  suite.chacha20Xor(out, zeros, cellNonce, 0, keys.prgKey);
}
