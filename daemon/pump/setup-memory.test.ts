import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import { buildTrain, MixKeyRing, processTrain } from '@nyx/core/onion/setup-train.ts';
import { createNode, suite, trainOptions } from '@nyx/core/onion/test-circuit.ts';
import { SetupLogs } from '../actors/setup-logs.ts';
import { type SetupLog, SharedSetupMemory } from './setup-memory.ts';

const failed = (error: unknown) => assert.fail(String(error));

function folderOf(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-setups-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

function tagOf(number: number): Uint8Array {
  const tag = new Uint8Array(16);
  createSeededRandom(number).fill(tag);
  return tag;
}

test('a train that one worker has opened is refused by the other, and by all after a restart', (context) => {
  const folder = folderOf(context);
  const random = createSeededRandom('setups');
  const node = createNode(random);
  const [train, second] = [0, 1].map(() => buildTrain(suite, random, [node.contact], trainOptions).train);
  const nodeId = node.ring.nodeId;
  const worker = (log: SetupLog) => new MixKeyRing(suite, nodeId, [node.mix], () => new SharedSetupMemory(log, failed));
  const { epoch } = node.mix;
  const [log] = new SetupLogs(folder).forEpochs([epoch]);
  const [a, b] = [worker(log!), worker(log!)];
  assert.equal(processTrain(suite, a, train!.slice()).drop, Drop.none);
  assert.equal(processTrain(suite, b, train!.slice()).drop, Drop.setupReplayed);
  assert.equal(processTrain(suite, b, second!.slice()).drop, Drop.none);
  assert.equal(processTrain(suite, a, second!.slice()).drop, Drop.setupReplayed);
  a.wipe();
  b.wipe();
  const [again] = new SetupLogs(folder).forEpochs([epoch]);
  const restarted = worker(again!);
  for (const old of [train!, second!]) {
    assert.equal(processTrain(suite, restarted, old.slice()).drop, Drop.setupReplayed);
  }
  restarted.wipe();
});

test('of threads that are given the same tags at a time, one takes each', async (context) => {
  const [log] = new SetupLogs(folderOf(context)).forEpochs([1]);
  const tags = 500;
  const code = `
    import { parentPort, workerData } from 'node:worker_threads';
    import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
    import { SharedSetupMemory } from '${new URL('./setup-memory.ts', import.meta.url)}';
    const memory = new SharedSetupMemory(workerData.log, (error) => { throw error; });
    const gate = new Int32Array(workerData.gate);
    Atomics.add(gate, 0, 1);
    while (Atomics.load(gate, 0) < 2) {}
    const outcomes = [];
    for (let i = 0; i < ${tags}; i++) {
      const tag = new Uint8Array(16);
      createSeededRandom(i).fill(tag);
      outcomes.push(memory.note(tag));
    }
    parentPort.postMessage(outcomes);`;
  const gate = new SharedArrayBuffer(4);
  const url = new URL(
    `data:text/javascript,${encodeURIComponent(code.replaceAll('@nyx/core/', new URL('../../core/', import.meta.url).href))}`,
  );
  const outcomes = await Promise.all(
    [0, 1].map(
      () =>
        new Promise<Drop[]>((resolve, reject) => {
          const worker = new Worker(url, { workerData: { log, gate } });
          worker.on('message', resolve);
          worker.on('error', reject);
        }),
    ),
  );
  for (let i = 0; i < tags; i++) {
    const pair = outcomes.map((list) => list[i]!).sort();
    assert.deepEqual(pair, [Drop.none, Drop.setupReplayed].sort(), `tag ${i}`);
  }
  assert.equal(statSync(log!.file).size, tags * 8, 'each is written down once');
});

test('a tag that a crash cut short is dropped, what came before it is not', (context) => {
  const folder = folderOf(context);
  const [log] = new SetupLogs(folder).forEpochs([4]);
  const memory = new SharedSetupMemory(log!, failed);
  for (let i = 0; i < 3; i++) assert.equal(memory.note(tagOf(i)), Drop.none);
  memory.clear();
  appendFileSync(log!.file, Uint8Array.of(1, 2, 3));
  const [again] = new SetupLogs(folder).forEpochs([4]);
  const after = new SharedSetupMemory(again!, failed);
  for (let i = 0; i < 3; i++) assert.equal(after.note(tagOf(i)), Drop.setupReplayed);
  assert.equal(after.note(tagOf(3)), Drop.none);
  assert.equal(statSync(again!.file).size, 4 * 8);
  after.clear();
  assert.equal(after.note(tagOf(4)), Drop.staleEpoch, 'with the keys goes the memory');
});

test('logs of epochs that are over are deleted; a full one takes no more', (context) => {
  const folder = folderOf(context);
  const logs = new SetupLogs(folder);
  logs.forEpochs([1, 2]);
  assert.deepEqual(readdirSync(folder).sort(), ['messages-1.log', 'messages-2.log', 'setups-1.log', 'setups-2.log']);
  const [first] = logs.forEpochs([2, 3]);
  assert.deepEqual(readdirSync(folder).sort(), ['messages-2.log', 'messages-3.log', 'setups-2.log', 'setups-3.log']);
  assert.equal(logs.forEpochs([2, 3])[0], first, 'one log for all workers');
  const small = { ...first!, words: new SharedArrayBuffer(2 * 8) };
  const memory = new SharedSetupMemory(small, failed);
  assert.equal(memory.note(tagOf(1)), Drop.none);
  assert.equal(memory.note(new Uint8Array(16)), Drop.none, 'zeros are a tag too');
  assert.equal(memory.note(tagOf(2)), Drop.limit);
  assert.equal(memory.note(tagOf(1)), Drop.setupReplayed);
  memory.clear();
});
