/** A small group for tests of class cmix, where a delay takes milliseconds; its order is no secret. */
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import type { HopRoute } from '../onion/hop-route.ts';
import type { HopSecrets } from '../onion/hop-secrets.ts';
import { BatchRecords, certifyBatchKey, SALT_BYTES } from './batch-records.ts';
import type { BatchJob, BatchProgress, BatchShare, BatchSigner } from './batch-work.ts';
import { completePledge, type PledgedCircuit, pledgedCircuit, signPledge } from './circuit-pledge.ts';
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

export function testBytes(name: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  createSeededRandom(name).fill(bytes);
  return bytes;
}

/** A circuit through a mix, or to it, that the mix has pledged. */
export interface TestCircuit {
  readonly secrets: HopSecrets;
  readonly route: HopRoute;
  readonly pledged: PledgedCircuit;
  readonly pledge: Uint8Array;
}

export function testCircuit(suite: CryptoSuite, by: TestMix, name: string, isLast: boolean): TestCircuit {
  const part = (what: string, length = 32) => testBytes(`${name} ${what}`, length);
  const secrets = {
    setupKey: part('setup'),
    fillerKey: part('filler'),
    forwardChain: part('forward'),
    backwardChain: part('backward'),
    setupTag: part('tag', 16),
    binding: part('binding'),
  };
  const route: HopRoute = {
    nextNodeId: isLast ? undefined : part('next'),
    action: isLast ? 'exit' : 'relay',
    class: 'cmix',
    delayMeanUs: 0,
    // It passes the end of the counters.
    forwardStart: 2 ** 48 - 3,
    forwardOffset: isLast ? 0 : 5,
    backwardStart: 77,
    backwardOffset: isLast ? 0 : 2 ** 47,
    maxCellsLog2: 0,
    expiry: TEST_UNIX,
    nextPuzzleSolution: new Uint8Array(8),
  };
  const pledged = pledgedCircuit(suite, secrets, route, part('inward'), isLast ? undefined : part('outward'));
  const slot = signPledge(by.signer.certificate, by.signer.key, pledged.fields);
  return { secrets, route, pledged, pledge: completePledge(suite, by.nodeId, pledged.fields, slot)! };
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
