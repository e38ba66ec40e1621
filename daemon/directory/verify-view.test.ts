import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { proveFamily } from '@nyx/core/directory/family.ts';
import { makeDescriptor, makeViewNode, testNow } from '@nyx/core/directory/testing.ts';
import { buildView, decodeViewBundle, encodeViewBundle, signView } from '@nyx/core/directory/view.ts';
import { SignatureChecker } from './signature-checker.ts';
import { suite } from './testing.ts';
import { verifyView } from './verify-view.ts';

const random = createSeededRandom('many');
const voter = suite.ed25519(new Uint8Array(32).fill(1));
const authorities = { threshold: 1, keys: [voter.publicKey] };
const dates = { validAfter: testNow, freshUntil: testNow + 3600, validUntil: testNow + 7200 };
const family = suite.ed25519(new Uint8Array(32).fill(2));
const seedOf = (i: number) => new Uint8Array(32).fill(3).map((byte, at) => (at < 2 ? (i >> (8 * at)) & 255 : byte));
const nodes = Array.from({ length: 1600 }, (_, i) => {
  const identity = suite.ed25519(seedOf(i));
  const families = i % 50 === 0 ? { families: [proveFamily(family, identity.publicKey)] } : {};
  return makeDescriptor(random, { linkKem: new Uint8Array(1184), ...families }, identity);
});

const bundleOf = (descriptors: typeof nodes) =>
  decodeViewBundle(encodeViewBundle(signView(buildView(descriptors.map(makeViewNode), dates, suite), voter)));

test('a large view is verified with a thread for its signatures', async () => {
  const view = await verifyView(bundleOf(nodes), { authorities, suite, now: testNow + 1 });
  assert.equal(view.nodes.length, nodes.length);
});

test('a signature that does not hold is found there, wherever it is; one of a family too', async () => {
  for (const index of [0, 777, 1599]) {
    const bad = nodes.map((node, i) =>
      i === index ? { ...node, signature: node.signature.map((byte) => byte ^ 1) } : node,
    );
    await assert.rejects(verifyView(bundleOf(bad), { authorities, suite, now: testNow + 1 }), {
      name: 'DirectoryError',
      code: 'BAD_SIGNATURE',
    });
  }
  const liar = makeDescriptor(random, { families: [{ key: family.publicKey, certificate: new Uint8Array(64) }] });
  await assert.rejects(verifyView(bundleOf([...nodes, liar]), { authorities, suite, now: testNow + 1 }), {
    code: 'BAD_SIGNATURE',
    message: /has not certified/,
  });
});

test('when the thread is gone, what it left is checked here', async () => {
  const checker = new SignatureChecker(suite);
  await checker.close();
  for (const node of nodes.slice(0, 200)) checker.add(node);
  await checker.finish();
  const [first] = nodes;
  checker.add({ ...first!, signature: new Uint8Array(64) });
  await assert.rejects(checker.finish(), { code: 'BAD_SIGNATURE' });
});
