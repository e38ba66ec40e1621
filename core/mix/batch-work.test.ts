import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { CheatKind, cheatName, encodeEvidence, MIN_SQUARINGS_PER_MS, verifyEvidence } from './batch-evidence.ts';
import { Side } from './batch-records.ts';
import { smallRecords, TEST_RULES, Told, testDigest, testJob, testMix } from './batch-testing.ts';
import { type BatchJob, judge, proveBatch } from './batch-work.ts';
import { evaluate, prove, runTurns } from './vdf.ts';

const suite = createNobleSuite();
const records = smallRecords(suite);
const mix = testMix(suite, 'm');
/** A byte within the first digest of a receipt. */
const CERTIFICATE_DIGEST = 144 + 8 + 8 + 2 + 5;
const none = { receipt: undefined, heard: undefined, opening: undefined };

function run(job: BatchJob) {
  const told = new Told();
  runTurns(proveBatch(records, suite, mix.signer, 0, job, told.tell, () => 0));
  return { told, receipts: told.messages('receipts'), proofs: told.messages('proofs'), opening: told.opening };
}

const honestJob = testJob(suite, 0, [3, 1, 2]);
const honest = run(honestJob);
const judgeProof = (bytes: Uint8Array, receipt?: Uint8Array, heard?: Uint8Array, opening?: Uint8Array) =>
  judge(records, { kind: 'proof', nodeId: mix.nodeId, bytes, receipt, heard, opening });

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
      const proof = judgeProof(honest.proofs[i]!, bytes, undefined, honest.opening);
      assert.equal(proof.kind === 'proof' && proof.opened, true);
      const shut = judgeProof(honest.proofs[i]!, bytes);
      assert.equal(shut.kind === 'proof' && shut.opened, false);
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
    const parts = [
      statement,
      honest.opening,
      other.opening,
      ...honest.receipts,
      ...honest.proofs,
      ...other.proofs,
      ...other.receipts,
    ];
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 7 }),
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
    const { statement } = records.readProof(honest.proofs[0]!)!;
    const { certificate, key } = mix.signer;
    const signed = (squarings: number) => {
      const fields = { ...statement, squarings };
      const evaluation = runTurns(evaluate(records.group, records.delayInput(certificate, fields), squarings));
      const proof = runTurns(prove(suite, records.group, evaluation));
      return records.encodeStatement(certificate, key, fields, evaluation.output, proof);
    };
    const least = MIN_SQUARINGS_PER_MS * TEST_RULES.delayMs;
    assertShown(judge(records, { kind: 'statement', bytes: signed(least - 1), heard: undefined }), CheatKind.delay);
    const enough = judge(records, { kind: 'statement', bytes: signed(least), heard: undefined });
    assert.equal(enough.kind, 'nothing');
  });

  test('signed a batch of more cells than its own rules allow', () => {
    const large = run(testJob(suite, 4, [TEST_RULES.cells + 1]));
    assertShown(judgeProof(large.proofs[0]!), CheatKind.size);
    assert.equal(judgeProof(run(testJob(suite, 4, [TEST_RULES.cells])).proofs[0]!).kind, 'proof');
  });

  /** The honest batch, under a statement that stands for another opening, and its first proof. */
  function openedAs(opening: Uint8Array): { readonly statement: Uint8Array; readonly proof: Uint8Array } {
    const { certificate, key } = mix.signer;
    const { statement, side, tag, digests, witness, quotient } = records.readProof(honest.proofs[0]!)!;
    const fields = { ...statement, opening: records.openingHash(opening) };
    const evaluation = runTurns(evaluate(records.group, records.delayInput(certificate, fields), fields.squarings));
    const delayProof = runTurns(prove(suite, records.group, evaluation));
    const bytes = records.encodeStatement(certificate, key, fields, evaluation.output, delayProof);
    return { statement: bytes, proof: records.encodeProof(bytes, key, side, tag, digests, witness, quotient) };
  }
  const digestsOf = (side: 'inputs' | 'outputs') => honestJob[side].flatMap(({ digests }) => digests);
  const keyOf = mix.signer.key.publicKey;
  const { salt } = honestJob;

  test('opened the batch without a cell that it had proved, with too few, twice the same or of another batch', () => {
    const [, ...inputs] = digestsOf('inputs');
    const outputs = digestsOf('outputs');
    const other = testDigest(suite, 'another');
    const doubled = [inputs[0]!, inputs[0]!, ...inputs.slice(1)];
    for (const opening of [
      records.encodeOpening(keyOf, 0, salt, [...inputs, other], outputs),
      records.encodeOpening(keyOf, 0, salt, inputs, outputs.slice(1)),
      records.encodeOpening(keyOf, 0, salt, doubled, outputs),
      records.encodeOpening(keyOf, 1, salt, digestsOf('inputs'), outputs),
      Uint8Array.of(1, 2, 3),
    ]) {
      const { proof } = openedAs(opening);
      assertShown(judgeProof(proof, undefined, undefined, opening), CheatKind.opening);
      // What it did not sign is not held against it: it is no opening at all.
      const verdict = judgeProof(honest.proofs[0]!, undefined, undefined, opening);
      assert.equal(verdict.kind === 'proof' && verdict.opened, false);
    }
  });

  const auditOf = (nodeId: Uint8Array, statement: Uint8Array, opening: Uint8Array, input: string, output: string) => {
    const cells = [{ input: testDigest(suite, input), output: testDigest(suite, output) }];
    return judge(records, { kind: 'audit', nodeId, statement, opening, cells });
  };
  const foundBy = (...args: Parameters<typeof auditOf>) => {
    const verdict = auditOf(...args);
    return verdict.kind === 'audit' ? verdict.found : verdict.kind;
  };

  test('let another cell out: whoever knows what a cell becomes sees it in the opened batch', () => {
    const { nodeId } = mix;
    const { bytes } = records.readProof(honest.proofs[0]!)!.statement;
    const { opening } = honest;
    assert.equal(foundBy(nodeId, bytes, opening, 'in 0 0 1', 'out 0 2 0'), 'held');
    assert.equal(foundBy(nodeId, bytes, opening, 'in 0 0 1', 'out 0 2 9'), 'exchanged');
    assert.equal(foundBy(nodeId, bytes, opening, 'in 0 0 9', 'out 0 2 0'), 'exchanged');
    // The sides are not one.
    assert.equal(foundBy(nodeId, bytes, opening, 'out 0 2 0', 'in 0 0 1'), 'elsewhere');
    assert.equal(foundBy(nodeId, bytes, opening, 'in 1 0 0', 'out 1 0 0'), 'elsewhere');
    // Somebody else's word, or what the mix did not sign, says nothing of it.
    assert.equal(foundBy(testMix(suite, 'other').nodeId, bytes, opening, 'in 0 0 1', 'out 0 2 9'), 'refused');
    const changed = records.encodeOpening(keyOf, 0, salt, digestsOf('inputs'), digestsOf('inputs'));
    assert.equal(foundBy(nodeId, bytes, changed, 'in 0 0 1', 'out 0 2 0'), 'refused');
    const lazy = records.encodeStatement(mix.signer.certificate, mix.signer.key, records.readStatement(bytes)!, 4n, 9n);
    assertShown(auditOf(nodeId, lazy, opening, 'in 0 0 1', 'out 0 2 0'), CheatKind.delay);
    const few = records.encodeOpening(keyOf, 0, salt, digestsOf('inputs').slice(1), digestsOf('outputs').slice(1));
    assertShown(auditOf(nodeId, openedAs(few).statement, few, 'in 0 0 1', 'out 0 2 0'), CheatKind.opening);
  });

  test('shows nobody whose cells are where: leaves of one batch are not those of another, nor of the other side', () => {
    const digests = digestsOf('inputs');
    const leaves = (number: number, side: 'in' | 'out') => {
      const bytes = records.encodeOpening(keyOf, number, salt, digests, digests);
      const all = Buffer.from(bytes.subarray(58)).toString('hex').match(/.{32}/g)!;
      return side === 'in' ? all.slice(0, digests.length) : all.slice(digests.length);
    };
    const all = [...leaves(0, 'in'), ...leaves(0, 'out'), ...leaves(1, 'in'), ...leaves(1, 'out')];
    assert.equal(new Set(all).size, 4 * digests.length);
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
