/** core/mix/batch-records and batch-evidence: what mixes of class cmix sign, in a small group, before and behind the signatures. */
import { AuditHop, decodeAnswer, decodeQuestion, encodeAnswer } from '@nyx/core/engine/batch-audit.ts';
import { Travel } from '@nyx/core/engine/circuit.ts';
import { breaksOpening, CheatKind, encodeEvidence, verifyEvidence } from '@nyx/core/mix/batch-evidence.ts';
import {
  compareDigests,
  isOpened,
  MAX_BATCH_CELLS,
  MAX_OPENING_BYTES,
  readOpening,
  Side,
} from '@nyx/core/mix/batch-records.ts';
import { smallRecords, Told, testJob, testMix } from '@nyx/core/mix/batch-testing.ts';
import { judge, proveBatch } from '@nyx/core/mix/batch-work.ts';
import { runTurns } from '@nyx/core/mix/vdf.ts';
import { check, type FuzzTarget } from '../fuzzer.ts';
import { suite } from './suite.ts';

const records = smallRecords(suite);
const { nodeId, signer } = testMix(suite, 'fuzzed');
const { certificate, key } = signer;
const SIGNATURE_BYTES = 64;
const question = { travel: Travel.backward, digest: new Uint8Array(32).fill(77) };
const digest = new Uint8Array(32).fill(5);

const made = () => {
  const told = new Told();
  const job = testJob(suite, 7, [2, 1]);
  runTurns(proveBatch(records, suite, signer, 0, job, told.tell, () => 0));
  return { receipts: told.messages('receipts'), proofs: told.messages('proofs'), opening: told.opening };
};
const { receipts, proofs, opening } = made();
/** By side: what is in the batch. */
const members = [0, 1].map((side) =>
  proofs.flatMap((bytes) => {
    const proof = records.readProof(bytes)!;
    return proof.side === side ? proof.digests : [];
  }),
);
const statement = records.readProof(proofs[0]!)!.statement.bytes;

/** The input in the place of what the mix itself would have signed: behind the certificate, or behind the statement. */
const signedAs = (domain: string, before: Uint8Array, body: Uint8Array): Uint8Array => {
  const all = Buffer.concat([before, body]);
  return Buffer.concat([all, key.sign(Buffer.concat([Buffer.from(domain), all]))]);
};
const behind = (bytes: Uint8Array, before: number) => bytes.subarray(before, bytes.length - SIGNATURE_BYTES);

const checkList = (digests: readonly Uint8Array[]) => {
  check(digests.length >= 1 && digests.length <= MAX_BATCH_CELLS, 'a bounded list');
  check(
    digests.every((digest, i) => i === 0 || compareDigests(digests[i - 1]!, digest) < 0),
    'each digest once',
  );
};
const sameBytes = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

/** The first byte says as what the rest is read. */
export const batchRecords: FuzzTarget = {
  name: 'batch-records',
  executions: 1500,
  seeds: () => [
    Buffer.concat([Uint8Array.of(0), behind(receipts[0]!, certificate.length)]),
    Buffer.concat([Uint8Array.of(1), behind(statement, certificate.length)]),
    Buffer.concat([Uint8Array.of(2), behind(proofs[0]!, statement.length)]),
    Buffer.concat([Uint8Array.of(2), behind(proofs.at(-1)!, statement.length)]),
    Buffer.concat([Uint8Array.of(3), receipts[1]!]),
    Buffer.concat([Uint8Array.of(3), proofs[1]!]),
    Buffer.concat([Uint8Array.of(4), encodeEvidence(CheatKind.equivocation, statement, statement)]),
    Buffer.concat([Uint8Array.of(4), encodeEvidence(CheatKind.receipt, receipts[0]!, proofs[0]!)]),
    Buffer.concat([Uint8Array.of(4), encodeEvidence(CheatKind.membership, proofs[0]!)]),
    Buffer.concat([Uint8Array.of(4), encodeEvidence(CheatKind.opening, proofs[0]!, opening)]),
    Buffer.concat([Uint8Array.of(4), encodeEvidence(CheatKind.size, statement)]),
    Buffer.concat([Uint8Array.of(5), opening]),
    Buffer.concat([Uint8Array.of(6), encodeAnswer(question, AuditHop.before, { statement, opening })]),
    Buffer.concat([Uint8Array.of(6), encodeAnswer(question, AuditHop.last, undefined)]),
    Buffer.concat([Uint8Array.of(7), encodeAnswer(question, AuditHop.last, undefined).subarray(0, 33)]),
  ],
  dictionary: ['NYXCHEAT1'],
  run(input) {
    const rest = input.subarray(1);
    switch (input[0]) {
      case 0: {
        const bytes = signedAs('nyx1 cmix receipt', certificate, rest);
        const receipt = records.readReceipt(bytes);
        if (receipt === undefined) return;
        checkList(receipt.digests);
        const again = records.encodeReceipt(certificate, key, receipt.number, receipt.tag, receipt.digests);
        check(sameBytes(again, bytes), 'encode(read(x)) is x');
        return;
      }
      case 1: {
        const bytes = signedAs('nyx1 cmix statement', certificate, rest);
        const read = records.readStatement(bytes);
        if (read === undefined) return;
        const again = records.encodeStatement(certificate, key, read, read.delayOutput, read.delayProof);
        check(sameBytes(again, bytes), 'encode(read(x)) is x');
        return;
      }
      case 2: {
        const bytes = signedAs('nyx1 cmix proof', statement, rest);
        const proof = records.readProof(bytes);
        if (proof === undefined) return;
        checkList(proof.digests);
        const { side, tag, digests, witness, quotient } = proof;
        const again = records.encodeProof(statement, key, side, tag, digests, witness, quotient);
        check(sameBytes(again, bytes), 'encode(read(x)) is x');
        const verdict = judge(records, {
          kind: 'proof',
          nodeId,
          bytes,
          receipt: receipts[0],
          heard: statement,
          opening,
        });
        if (verdict.kind !== 'proof') return;
        const inBatch = members[proof.side]!;
        check(
          digests.every((digest) => inBatch.some((one) => sameBytes(one, digest))),
          'only what is in the batch is proved',
        );
        return;
      }
      case 3:
        check(
          judge(records, { kind: 'receipt', nodeId, bytes: rest }).kind !== 'cheat',
          'a receipt alone shows nothing',
        );
        judge(records, { kind: 'proof', nodeId, bytes: rest, receipt: undefined, heard: undefined, opening });
        judge(records, { kind: 'statement', bytes: rest, heard: statement });
        return;
      case 5: {
        const read = readOpening(rest);
        if (read === undefined) return;
        check(
          read.cells >= 1 && read.cells <= MAX_BATCH_CELLS && rest.length <= MAX_OPENING_BYTES,
          'a bounded opening',
        );
        isOpened(suite, read, Side.in, members[0]![0]!);
        const inBatch = breaksOpening(records, records.readStatement(statement)!, undefined, rest);
        check(!inBatch, 'an honest mix is not accused of its opening');
        judge(records, { kind: 'audit', nodeId, statement, opening: rest, cells: [{ input: digest, output: digest }] });
        return;
      }
      case 6: {
        const answer = decodeAnswer(rest, statement.length);
        if (answer !== undefined) {
          check(sameBytes(encodeAnswer(answer, answer.hop, answer.batch), rest), 'encode(decode(x)) is x');
        }
        return;
      }
      case 7: {
        const asked = decodeQuestion(rest);
        if (asked !== undefined) check(asked.digest.length === 32 && rest.length === 33, 'a question');
        return;
      }
      default:
        check(verifyEvidence(records, rest) === undefined, 'an honest mix is not accused');
    }
  },
};
