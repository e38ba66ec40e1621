import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Drop } from '@nyx/core/drop-reason.ts';
import { MixKeyRing } from '@nyx/core/onion/mix-key-ring.ts';
import { createNode, suite } from '@nyx/core/onion/test-circuit.ts';
import { createPacket, PACKET_BYTES } from '@nyx/core/sphinx/packet.ts';
import { SphinxRelay } from '@nyx/core/sphinx/relay.ts';
import { SetupLogs } from '../actors/setup-logs.ts';
import { createMessageWords, MessageTable, SharedMessageMemory } from './message-memory.ts';
import type { SetupLog } from './setup-memory.ts';

const failed = (error: unknown) => assert.fail(String(error));

function folderOf(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-messages-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

const seed = 'messages seen';
const random = createSeededRandom(seed);
const tags = (count: number): Int32Array => {
  const words = new Int32Array(2 * count);
  random.fill(new Uint8Array(words.buffer));
  return words;
};

test(`a packet that one worker has taken is refused by the other, and by all after a restart, seed "${seed}"`, (context) => {
  const folder = folderOf(context);
  const node = createNode(random);
  const { nodeId } = node.ring;
  const { epoch } = node.mix;
  const hops = [{ nodeId, mixX25519: node.contact.mixKeys[0]!.x25519, epoch, delayMs: 0 }];
  const packets = [0, 1].map(() => {
    const packet = new Uint8Array(PACKET_BYTES);
    createPacket(suite, random, hops, new Uint8Array(10), packet);
    return packet;
  });
  const relay = new SphinxRelay(suite);
  const worker = ({ messages }: SetupLog) =>
    new MixKeyRing(suite, nodeId, [node.mix], undefined, () => new SharedMessageMemory(messages, failed));
  const [log] = new SetupLogs(folder).forEpochs([epoch]);
  const [a, b] = [worker(log!), worker(log!)];
  assert.equal(relay.process(a.keys, packets[0]!), Drop.none);
  assert.equal(relay.process(b.keys, packets[0]!), Drop.messageReplayed);
  assert.equal(relay.process(b.keys, packets[1]!), Drop.none);
  assert.equal(relay.process(a.keys, packets[1]!), Drop.messageReplayed);
  a.wipe();
  b.wipe();
  // What a crash cut short is not taken for a tag.
  appendFileSync(log!.messages.file, new Uint8Array(3));
  const [again] = new SetupLogs(folder).forEpochs([epoch]);
  const restarted = worker(again!);
  for (const packet of packets) assert.equal(relay.process(restarted.keys, packet), Drop.messageReplayed);
  assert.equal(statSync(again!.messages.file).size, 16);
  restarted.wipe();
  assert.equal(new SharedMessageMemory(again!.messages, failed).note(new Uint8Array(16)), Drop.none);
  new SetupLogs(folder).forEpochs([epoch + 1]);
  assert.ok(
    readdirSync(folder).every((name) => name.includes(`-${epoch + 1}.`)),
    'the old logs are gone',
  );
});

test('erased keys take nothing any more, and what can not be written down is refused', (context) => {
  const [log] = new SetupLogs(folderOf(context)).forEpochs([1]);
  const memory = new SharedMessageMemory(log!.messages, failed);
  const tag = new Uint8Array(16).fill(5);
  memory.clear();
  assert.equal(memory.note(tag), Drop.staleEpoch);
  const errors: unknown[] = [];
  const full = new SharedMessageMemory({ ...log!.messages, file: '/dev/full' }, (error) => errors.push(error));
  assert.equal(full.note(tag), Drop.limit);
  assert.equal(errors.length, 1);
  full.clear();
});

test('tables grow without losing a tag; halves of zeros are tags as well', () => {
  const table = new MessageTable(createMessageWords());
  const count = 40_000;
  const words = tags(count);
  words.set([0, 0, 0, 7, 7, 0, -1, -1]);
  const before = table.memoryBytes;
  for (let i = 0; i < count; i++) assert.equal(table.note(words[2 * i]!, words[2 * i + 1]!), Drop.none, `tag ${i}`);
  assert.equal(table.size, count);
  const perTag = table.memoryBytes / count;
  assert.ok(table.memoryBytes > before && perTag > 10 && perTag < 22, `${perTag} bytes a tag`);
  for (let i = 0; i < count; i++) assert.equal(table.note(words[2 * i]!, words[2 * i + 1]!), Drop.setupReplayed);
  assert.equal(table.size, count);
});

test('a thread that still fills the table before sees what another has put into the next one meanwhile', (context) => {
  const words = createMessageWords();
  const [slow, quick] = [new MessageTable(words), new MessageTable(words)];
  const lastOfFirst = 0.75 * 2 ** 12 - 1;
  const known = tags(lastOfFirst + 1);
  for (let i = 0; i < lastOfFirst; i++) quick.note(known[2 * i]!, known[2 * i + 1]!);
  // Between its look at all tables and its claim the slow one is held up.
  const { compareExchange } = Atomics;
  let other: Drop | undefined;
  const held = ((...args: Parameters<typeof compareExchange>) => {
    Atomics.compareExchange = compareExchange;
    assert.equal(
      quick.note(known[2 * lastOfFirst]!, known[2 * lastOfFirst + 1]!),
      Drop.none,
      'the first table is full',
    );
    other = quick.note(77, 78);
    return compareExchange(...args);
  }) as typeof compareExchange;
  context.after(() => {
    Atomics.compareExchange = compareExchange;
  });
  Atomics.compareExchange = held;
  assert.equal(slow.note(77, 78), Drop.setupReplayed);
  assert.equal(other, Drop.none);
});

test('of threads that are given the same tags at a time, at most one takes each, over the ends of tables', async () => {
  const count = 20_000;
  const words = createMessageWords();
  const code = `
    import { parentPort, workerData } from 'node:worker_threads';
    import { MessageTable } from '${new URL('./message-memory.ts', import.meta.url)}';
    const { words, tags, gate } = workerData;
    const table = new MessageTable(words);
    const taken = new Uint8Array(tags.length / 2);
    const at = new Int32Array(gate);
    Atomics.add(at, 0, 1);
    while (Atomics.load(at, 0) < 2);
    for (let i = 0; i < taken.length; i++) taken[i] = table.note(tags[2 * i], tags[2 * i + 1]) === 0 ? 1 : 0;
    parentPort.postMessage(taken);
  `;
  const gate = new SharedArrayBuffer(4);
  const workerData = { words, tags: tags(count), gate };
  const workers = [0, 1].map(
    () => new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData }),
  );
  const results = await Promise.all(
    workers.map(
      (worker) =>
        new Promise<Uint8Array>((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
  let taken = 0;
  for (let i = 0; i < count; i++) {
    const times = results[0]![i]! + results[1]![i]!;
    assert.ok(times <= 1, `tag ${i} was taken twice`);
    taken += times;
  }
  // Both may refuse a tag that each saw with the other; that is rare.
  assert.ok(taken > 0.9 * count, `${taken} of ${count} were taken`);
});
