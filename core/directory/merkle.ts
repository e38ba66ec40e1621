/**
 * The Merkle tree over an epoch's descriptors, of the shape of RFC 6962 §2.1 (each left subtree is the largest full
 * one), hashed with BLAKE3; leaves, inner nodes and the empty tree are domain separated.
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';

export function merkleLeaf(bytes: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.blake3(nyxLabel('directory leaf'), separator, bytes);
}

/** Root (32 bytes) over leaf hashes in the given order. */
export function merkleRoot(leaves: readonly Uint8Array[], suite: CryptoSuite): Uint8Array {
  const steps = merkleRootSteps(leaves, suite);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** merkleRoot, one hash a step. */
export function* merkleRootSteps(leaves: readonly Uint8Array[], suite: CryptoSuite): Generator<void, Uint8Array> {
  if (leaves.length === 0) return suite.blake3(nyxLabel('directory empty'), separator);
  let level = leaves;
  while (level.length > 1) {
    const next: Uint8Array[] = [];
    for (let i = 0; i + 1 < level.length; i += 2) {
      next.push(suite.blake3(nyxLabel('directory node'), separator, level[i]!, level[i + 1]!));
      yield;
    }
    // An odd one moves up unhashed, which is what makes the shape that of RFC 6962.
    if (level.length % 2 === 1) next.push(level[level.length - 1]!);
    level = next;
  }
  return level[0]!;
}

const separator = Uint8Array.of(0);
