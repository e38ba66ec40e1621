import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CheatKind, encodeEvidence } from '@nyx/core/mix/batch-evidence.ts';
import { BatchRecords, certifyBatchKey } from '@nyx/core/mix/batch-records.ts';
import { RSA_2048, RsaGroup } from '@nyx/core/mix/rsa-group.ts';
import { createNativePowMod } from '../io/modular-power.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { CheatStore } from './cheat-store.ts';

const suite = createNativeSuite();
const folder = mkdtempSync(join(tmpdir(), 'nyx-cheats-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Real evidence: a statement whose delay was never computed. */
function evidence(number: number): { nodeId: string; bytes: Uint8Array } {
  const records = new BatchRecords(suite, new RsaGroup(RSA_2048, createNativePowMod()));
  const identity = suite.ed25519(new Uint8Array(32).fill(9));
  const key = suite.ed25519(new Uint8Array(32).fill(8));
  const certificate = certifyBatchKey(identity, key.publicKey, 0, 4_000_000_000);
  const rules = { cells: 100, delayMs: 100 };
  const opening = new Uint8Array(32);
  const fields = { number, closedAt: 1, cells: 1, rules, squarings: 20_000, inputs: 4n, outputs: 9n, opening };
  const statement = records.encodeStatement(certificate, key, fields, 16n, 25n);
  const nodeId = Buffer.from(suite.blake3(identity.publicKey)).toString('hex');
  return { nodeId, bytes: encodeEvidence(CheatKind.delay, statement) };
}

test('evidence is kept once, a few pieces of one node, and counts after a restart only if it holds', () => {
  const store = new CheatStore(folder, suite);
  const { nodeId, bytes } = evidence(1);
  const kept = store.keep({ nodeId, kind: 'delay', batch: 1 }, bytes, 1000);
  assert.equal(kept?.nodeId, nodeId);
  assert.equal(store.keep({ nodeId, kind: 'delay', batch: 1 }, bytes, 1000), undefined);
  for (let batch = 2; batch < 9; batch++) store.keep({ nodeId, kind: 'delay', batch }, evidence(batch).bytes, 1000);
  assert.equal(store.all.length, 4);
  assert.deepEqual(store.nodeIds, [nodeId]);
  const [first] = readdirSync(folder).sort();
  // Somebody writes into the folder what proves nothing, and the true one under another node's name.
  writeFileSync(join(folder, `${'ab'.repeat(32)}-delay-1-0123456789abcdef.cheat`), bytes);
  const changed = bytes.slice();
  changed[200]! ^= 1;
  writeFileSync(join(folder, first!), changed);
  const again = new CheatStore(folder, suite);
  assert.equal(again.all.length, 3);
  assert.deepEqual(again.nodeIds, [nodeId]);
  assert.ok(again.all.every(({ batch, kind }) => batch > 1 && kind === 'delay'));
});
