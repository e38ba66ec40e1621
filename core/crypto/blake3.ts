/** BLAKE3 for both suites: neither libsodium nor OpenSSL has it, and it is used for NodeIDs and trees, not per packet. */
import { blake3 as nobleBlake3 } from '@noble/hashes/blake3.js';

/** BLAKE3 of the parts one after the other, 32 bytes. */
export function blake3(...parts: Uint8Array[]): Uint8Array {
  const hash = nobleBlake3.create();
  for (const part of parts) hash.update(part);
  return hash.digest();
}
