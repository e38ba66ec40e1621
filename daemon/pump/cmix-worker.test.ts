import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { MIN_SQUARINGS_PER_MS } from '@nyx/core/mix/batch-evidence.ts';
import { BatchRecords, certifyBatchKey } from '@nyx/core/mix/batch-records.ts';
import { TEST_RULES, testJob } from '@nyx/core/mix/batch-testing.ts';
import type { BatchProgress, Verdict } from '@nyx/core/mix/batch-work.ts';
import { RsaGroup } from '@nyx/core/mix/rsa-group.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { CmixWorker, type CmixWorkerHost } from './cmix-worker.ts';

const suite = createNativeSuite();
const identity = suite.ed25519(new Uint8Array(32).fill(1));
const nodeId = suite.blake3(identity.publicKey);
const workers: CmixWorker[] = [];
after(() => Promise.all(workers.map((worker) => worker.stop())));

function makeWorker(seed: number | undefined, host: Partial<CmixWorkerHost>): CmixWorker {
  const unexpected = (error: Error) => assert.fail(error);
  const bytes = seed === undefined ? undefined : new Uint8Array(32).fill(seed);
  const signer = bytes && {
    seed: bytes,
    certificate: certifyBatchKey(identity, suite.ed25519(bytes).publicKey, 0, 4_000_000_000),
  };
  const ignore = () => {};
  const all = {
    progress: ignore,
    verdict: ignore,
    pledged: ignore,
    calibrated: ignore,
    cheated: ignore,
    suspected: ignore,
    exchanged: ignore,
  };
  const worker = new CmixWorker({ signer }, { ...all, failed: unexpected, ...host });
  workers.push(worker);
  return worker;
}

/** Everything that a batch gives, until its proofs. */
function prove(worker: (host: Partial<CmixWorkerHost>) => CmixWorker): Promise<BatchProgress[]> {
  return new Promise((resolve) => {
    const told: BatchProgress[] = [];
    const progress = (one: BatchProgress) => {
      told.push(one);
      if (one.kind === 'proofs') resolve(told);
    };
    worker({ progress }).prove(testJob(suite, 0, [2, 1]));
  });
}

test('a thread proves a batch in the real group, and another one finds the proofs good', async () => {
  let squarings = 0;
  const calibrated = (perMs: number) => {
    // Of the first time: what the batch itself teaches is for the next.
    squarings ||= Math.ceil(Math.max(MIN_SQUARINGS_PER_MS, perMs) * TEST_RULES.delayMs);
  };
  const told = await prove((host) => makeWorker(2, { ...host, calibrated }));
  assert.deepEqual(
    told.map(({ kind }) => kind),
    ['receipts', 'delayed', 'proofs'],
  );
  const proofs = told.flatMap((one) => (one.kind === 'proofs' ? one.messages.map(({ bytes }) => bytes) : []));
  assert.equal(proofs.length, 4);
  const records = new BatchRecords(suite, new RsaGroup());
  const read = records.readProof(proofs[0]!)!;
  assert.equal(read.statement.squarings, squarings);
  const checker = await new Promise<[number, Verdict][]>((resolve) => {
    const verdicts: [number, Verdict][] = [];
    const worker = makeWorker(undefined, {
      verdict: (id, verdict) => {
        verdicts.push([id, verdict]);
        if (verdicts.length === 5) resolve(verdicts);
      },
    });
    assert.equal(worker.statementBytes, records.statementBytes);
    const none = { receipt: undefined, heard: undefined, opening: undefined };
    for (const [id, bytes] of proofs.entries()) worker.check(id, { kind: 'proof', nodeId, bytes, ...none });
    const changed = proofs[0]!.slice();
    changed[300]! ^= 1;
    worker.check(4, { kind: 'proof', nodeId, bytes: changed, ...none });
  });
  assert.deepEqual(
    checker.map(([id, { kind }]) => `${id} ${kind}`),
    ['0 proof', '1 proof', '2 proof', '3 proof', '4 refused'],
  );
});

test('a thread that dies is told, so that its pump can be started again', async () => {
  const error = await new Promise<Error>((resolve) => {
    const worker = makeWorker(3, { failed: resolve });
    // Nothing of the kind: the thread throws.
    worker.check(1, { kind: 'evidence', bytes: undefined as unknown as Uint8Array });
  });
  assert.match(error.message, /undefined/);
});
