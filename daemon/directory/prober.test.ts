import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import { Prober } from './prober.ts';
import { AnsweringNode, suite } from './testing.ts';

let node: AnsweringNode;
let other: AnsweringNode;
let prober: Prober;

before(async () => {
  node = await AnsweringNode.start('probed');
  other = await AnsweringNode.start('other');
  prober = new Prober({ suite, random: createSeededRandom('prober'), unixMs: Date.now, reaches: () => true });
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
  for (const result of [nobody, impostor, half]) {
    assert.deepEqual(result, { reachable: false, rttMs: undefined, fails: NodeFlag.ipv4Fails });
  }
});

test('one family of two silent: reachable by the other, and it is said which fails', async () => {
  const [v4] = node.contact.addresses;
  // The same node at IPv6.
  const six = await AnsweringNode.start('probed', '::1');
  const [v6] = six.contact.addresses;
  const silent4 = { address: '127.0.0.1', port: 9 };
  const silent6 = { address: '::1', port: 9 };
  const [both, only6, only4, none] = await Promise.all(
    [
      [v4!, v6!],
      [silent4, v6!],
      [v4!, silent6],
      [silent6, silent4],
    ].map((addresses) => prober.probe({ ...node.contact, addresses })),
  );
  const found = [both!, only6!, only4!, none!].map(({ reachable, fails }) => [reachable, fails]);
  assert.deepEqual(found, [
    [true, 0],
    [true, NodeFlag.ipv4Fails],
    [true, NodeFlag.ipv6Fails],
    [false, NodeFlag.ipv4Fails | NodeFlag.ipv6Fails],
  ]);
  six.close();
});

test('a family that this machine does not have says nothing of a node', async () => {
  const away = new Prober({
    suite,
    random: createSeededRandom('away'),
    unixMs: Date.now,
    reaches: (address) => !address.includes(':'),
  });
  const [v4] = node.contact.addresses;
  const silent6 = { address: '::1', port: 9 };
  const dual = await away.probe({ ...node.contact, addresses: [silent6, v4!] });
  assert.deepEqual([dual.reachable, dual.fails], [true, 0]);
  assert.deepEqual(await away.probe({ ...node.contact, addresses: [silent6] }), {
    reachable: false,
    rttMs: undefined,
    fails: 0,
  });
  away.close();
});
