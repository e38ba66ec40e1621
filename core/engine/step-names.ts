/** What steps call things (contract.ts, Step): the same at both ends, and nothing of any key. */
import { nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';

/** `binding`: the circuit's, which its client and its last hop have. */
export function circuitName(suite: CryptoSuite, binding: Uint8Array): string {
  return digestName(suite.sha256(nyxLabel('step'), binding));
}

/** The first 8 bytes in hex. */
export function digestName(digest: Uint8Array): string {
  let name = '';
  for (let i = 0; i < 8; i++) name += digest[i]!.toString(16).padStart(2, '0');
  return name;
}
