import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Prober } from './prober.ts';
import { AnsweringNode, suite } from './testing.ts';

let node: AnsweringNode;
let other: AnsweringNode;
let prober: Prober;

before(async () => {
  node = await AnsweringNode.start('probed');
  other = await AnsweringNode.start('other');
  prober = new Prober({ suite, random: createSeededRandom('prober'), unixMs: Date.now });
});

after(() => {
  prober.close();
  node.close();
  other.close();
});

test('a node that answers with its keys is reachable, each time it is asked', async () => {
  for (let i = 0; i < 3; i++) {
    const { reachable, rttMs } = await prober.probe(node.contact);
    assert.equal(reachable, true);
    assert.ok(rttMs !== undefined && rttMs > 0 && rttMs < 5000, `${rttMs}`);
  }
});

test('forty at once wait for their turn and are all answered', async () => {
  const found = await Promise.all(Array.from({ length: 40 }, () => prober.probe(node.contact)));
  assert.ok(found.every(({ reachable }) => reachable));
});

test('nobody there, other keys there, or one of two addresses silent: not reachable', async () => {
  const silent = { address: '127.0.0.1', port: 9 };
  const [nobody, impostor, half] = await Promise.all([
    prober.probe({ ...node.contact, addresses: [silent] }),
    prober.probe({ ...node.contact, addresses: other.contact.addresses }),
    prober.probe({ ...node.contact, addresses: [...node.contact.addresses, silent] }),
  ]);
  for (const result of [nobody, impostor, half]) assert.deepEqual(result, { reachable: false, rttMs: undefined });
});
