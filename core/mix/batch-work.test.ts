import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { CheatKind, cheatName, encodeEvidence, MIN_SQUARINGS, verifyEvidence } from './batch-evidence.ts';
import { Side } from './batch-records.ts';
import { smallRecords, Told, testDigest, testJob, testMix } from './batch-testing.ts';
import { type BatchJob, judge, proveBatch } from './batch-work.ts';
import { runTurns } from './vdf.ts';

const suite = createNobleSuite();
const records = smallRecords(suite);
const mix = testMix(suite, 'm');
/** A byte within the first digest of a receipt. */
const CERTIFICATE_DIGEST = 144 + 8 + 8 + 2 + 5;
const none = { receipt: undefined, heard: undefined };

function run(job: BatchJob, squarings = MIN_SQUARINGS, signer = mix.signer) {
  const told = new Told();
  runTurns(proveBatch(records, suite, signer, squarings, job, told.tell, () => 0));
  return { told, receipts: told.messages('receipts'), proofs: told.messages('proofs') };
}

const honestJob = testJob(suite, 0, [3, 1, 2]);
const honest = run(honestJob);
const judgeProof = (bytes: Uint8Array, receipt?: Uint8Array, heard?: Uint8Array) =>
  judge(records, { kind: 'proof', nodeId: mix.nodeId, bytes, receipt, heard });

/** The evidence proves to somebody who knows nothing else what the judge said. */
function assertShown(verdict: ReturnType<typeof judge>, kind: CheatKind): void {
  assert.equal(verdict.kind, 'cheat');
  if (verdict.kind !== 'cheat') return;
  assert.equal(cheatName(verdict.cheat.kind), cheatName(kind));
  assert.deepEqual(verdict.cheat.nodeId, mix.nodeId);
  const shown = verifyEvidence(smallRecords(), verdict.evidence);
  assert.equal(shown?.kind, kind);
  assert.deepEqual(shown?.nodeId, mix.nodeId);
  // Any bit of it changed, it shows nothing or the same.
  const at = Math.floor(verdict.evidence.length / 2);
  const changed = verdict.evidence.slice();
  changed[at]! ^= 1;
  assert.equal(verifyEvidence(records, changed), undefined);
}

describe('an honest batch', () => {
  test('is told in order: receipts before the delay, proofs after it', () => {
    assert.deepEqual(
      honest.told.all.map(({ kind }) => kind),
      ['receipts', 'delayed', 'proofs'],
    );
    assert.equal(honest.receipts.length, 3);
    assert.equal(honest.proofs.length, 6);
  });

  test('satisfies each neighbour', () => {
    for (const [i, bytes] of honest.receipts.entries()) {
      const verdict = judge(records, { kind: 'receipt', nodeId: mix.nodeId, bytes });
      assert.equal(verdict.kind, 'receipt');
      if (verdict.kind !== 'receipt') continue;
      assert.equal(verdict.receipt.digests.length, honestJob.inputs[i]!.digests.length);
      assert.equal(judgeProof(honest.proofs[i]!, bytes).kind, 'proof');
    }
    const first = records.readProof(honest.proofs[0]!)!;
    for (const bytes of honest.proofs.slice(3)) {
      const verdict = judgeProof(bytes, undefined, first.statement.bytes);
      assert.equal(verdict.kind, 'proof');
      if (verdict.kind === 'proof') assert.equal(verdict.statement.cells, 6);
    }
  });

  test('gives nobody evidence: no combination of what was signed shows a cheat', () => {
    const statement = records.readProof(honest.proofs[0]!)!.statement.bytes;
    const other = run(testJob(suite, 1, [2, 2]));
    const parts = [statement, ...honest.receipts, ...honest.proofs, ...other.proofs, ...other.receipts];
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 5 }),
        fc.array(fc.constantFrom(...parts), { minLength: 1, maxLength: 4 }),
        (kind, some) => {
          assert.equal(verifyEvidence(records, encodeEvidence(kind as CheatKind, ...some)), undefined);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('of one node is refused as that of another, and with any byte changed', () => {
    const nodeId = testMix(suite, 'other').nodeId;
    const bytes = honest.proofs[1]!;
    assert.equal(judge(records, { kind: 'proof', nodeId, bytes, ...none }).kind, 'refused');
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = bytes.slice();
        changed[at]! ^= change;
        assert.equal(judgeProof(changed).kind, 'refused');
        assert.equal(judgeProof(bytes.slice(0, at)).kind, 'refused');
      }),
      { numRuns: 60 },
    );
    const receipt = honest.receipts[0]!.slice();
    receipt[CERTIFICATE_DIGEST] = receipt[CERTIFICATE_DIGEST]! ^ 1;
    assert.equal(judge(records, { kind: 'receipt', nodeId: mix.nodeId, bytes: receipt }).kind, 'refused');
  });
});

describe('a cheating mix is shown to have', () => {
  test('skipped the delay', () => {
    // What it signs when it does not want to wait: any element in the place of the result.
    const { statement } = records.readProof(honest.proofs[0]!)!;
    const { certificate, key } = mix.signer;
    const bytes = records.encodeStatement(certificate, key, statement, statement.delayProof, statement.delayOutput);
    assertShown(judge(records, { kind: 'statement', bytes, heard: undefined }), CheatKind.delay);
    const proof = records.readProof(honest.proofs[0]!)!;
    const around = records.encodeProof(bytes, key, Side.in, proof.tag, proof.digests, proof.witness, proof.quotient);
    assertShown(judgeProof(around), CheatKind.delay);
  });

  test('computed less of it than has to be', () => {
    const { proofs } = run(testJob(suite, 2, [1]), MIN_SQUARINGS - 1);
    assertShown(judgeProof(proofs[0]!), CheatKind.delay);
  });

  test('said one thing to one and another to another', () => {
    const again = run(testJob(suite, 0, [3, 1, 1]));
    const heard = records.readProof(honest.proofs[0]!)!.statement.bytes;
    assertShown(judgeProof(again.proofs[0]!, undefined, heard), CheatKind.equivocation);
    const { statement } = records.readProof(again.proofs[0]!)!;
    assertShown(judge(records, { kind: 'statement', bytes: statement.bytes, heard }), CheatKind.equivocation);
  });

  test('dropped a cell after it gave a receipt', () => {
    const full = testJob(suite, 3, [3]);
    const { receipts } = run(full);
    const without = { ...full, inputs: [{ ...full.inputs[0]!, digests: full.inputs[0]!.digests.slice(1) }] };
    const { proofs } = run(without);
    assertShown(judgeProof(proofs[0]!, receipts[0]!), CheatKind.receipt);
    assert.equal(judgeProof(proofs[0]!).kind, 'proof', 'without the receipt it can not be known');
  });

  test('put its name to a cell that is not in the batch, dropped or exchanged', () => {
    const { statement, tag, digests, witness, quotient } = records.readProof(honest.proofs[0]!)!;
    const { key } = mix.signer;
    const exchanged = [...digests.slice(1), testDigest(suite, 'another')];
    const bytes = records.encodeProof(statement.bytes, key, Side.in, tag, exchanged, witness, quotient);
    assertShown(judgeProof(bytes), CheatKind.membership);
    // A cell that went in, claimed to have come out.
    const out = records.encodeProof(statement.bytes, key, Side.out, tag, digests, witness, quotient);
    assertShown(judgeProof(out), CheatKind.membership);
  });
});
