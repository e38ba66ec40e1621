/** A small group for tests of class cmix, where a delay takes milliseconds; its order is no secret. */
import { createNobleSuite } from '../crypto/noble-suite.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { BatchRecords, certifyBatchKey, SALT_BYTES } from './batch-records.ts';
import type { BatchJob, BatchProgress, BatchShare, BatchSigner } from './batch-work.ts';
import { plainPowMod, RsaGroup } from './rsa-group.ts';

export const smallGroup = new RsaGroup((2n ** 89n - 1n) * (2n ** 107n - 1n), plainPowMod, 64);

export const TEST_UNIX = 1_800_000_000;

/** With the fewest squarings that neighbours take. */
export const TEST_RULES = { cells: 8, delayMs: 100 };

export interface TestMix {
  readonly nodeId: Uint8Array;
  readonly signer: BatchSigner;
}

export function smallRecords(suite: CryptoSuite = createNobleSuite()): BatchRecords {
  return new BatchRecords(suite, smallGroup);
}

/** A mix with keys out of its name. */
export function testMix(suite: CryptoSuite, name: string): TestMix {
  const text = new TextEncoder();
  const identity = suite.ed25519(suite.sha256(text.encode(`identity ${name}`)));
  const key = suite.ed25519(suite.sha256(text.encode(`batch key ${name}`)));
  const certificate = certifyBatchKey(identity, key.publicKey, TEST_UNIX - 10, TEST_UNIX + 100_000);
  return { nodeId: suite.blake3(identity.publicKey), signer: { certificate, key } };
}

export function testDigest(suite: CryptoSuite, name: string): Uint8Array {
  return suite.sha256(new TextEncoder().encode(name));
}

/** A batch with these cells, by neighbour: `in` and `out` of the same number. */
export function testJob(suite: CryptoSuite, batch: number, counts: readonly number[]): BatchJob {
  const shares = (side: string): BatchShare[] =>
    counts.map((count, neighbour) => ({
      neighbour,
      tag: Uint8Array.of(0, 0, 0, 0, 0, 0, batch & 255, neighbour + 1),
      digests: Array.from({ length: count }, (_, i) => testDigest(suite, `${side} ${batch} ${neighbour} ${i}`)),
    }));
  return {
    batch,
    salt: testDigest(suite, `salt ${batch}`).subarray(0, SALT_BYTES),
    closedAt: TEST_UNIX,
    rules: TEST_RULES,
    inputs: shares('in'),
    outputs: shares('out'),
  };
}

/** Collects what proveBatch tells, by kind. */
export class Told {
  readonly all: BatchProgress[] = [];
  readonly tell = (progress: BatchProgress): void => void this.all.push(progress);

  get opening(): Uint8Array {
    const [opening] = this.all.flatMap((one) => (one.kind === 'proofs' ? [one.opening] : []));
    return opening!;
  }

  messages(kind: 'receipts' | 'proofs'): readonly Uint8Array[] {
    return this.all.flatMap((one) => (one.kind === kind ? one.messages.map(({ bytes }) => bytes) : []));
  }
}
