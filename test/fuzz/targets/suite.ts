/** The native suite, but with encapsulation that takes its coins: a run is the same each time and still quick. */
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';

const noble = createNobleSuite();

export const suite: CryptoSuite = {
  ...createNativeSuite(),
  mlkem768Encapsulate: (publicKey, coins) => noble.mlkem768Encapsulate(publicKey, coins),
};

/** `length` bytes that depend on `label` alone. */
export function fixedBytes(label: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  createSeededRandom(`fuzz ${label}`).fill(bytes);
  return bytes;
}
