import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { KeySpares } from './key-spares.ts';

/** Counts the key pairs that are made. */
function counted() {
  const noble = createNobleSuite();
  const made = { pairs: 0, kems: 0 };
  const suite: CryptoSuite = {
    ...noble,
    x25519: (secret) => {
      made.pairs++;
      return noble.x25519(secret);
    },
    mlkem768: (seed) => {
      made.kems++;
      return noble.mlkem768(seed);
    },
  };
  return { made, spares: new KeySpares(suite, createSeededRandom('spares')) };
}

describe('key spares', () => {
  test('nothing is made before something is taken', () => {
    const { made, spares } = counted();
    assert.equal(spares.wanting, false);
    spares.refill(0);
    assert.deepEqual(made, { pairs: 0, kems: 0 });
  });

  test('what was taken is made again ahead, and no pair is given twice', () => {
    const { made, spares } = counted();
    const given = new Set<string>();
    const take = () => {
      const pairs = [spares.takePair(), spares.takePair(), spares.takePair(), spares.takeFresh().dh];
      for (const { publicKey } of pairs) given.add(Buffer.from(publicKey).toString('hex'));
    };
    take();
    assert.deepEqual(made, { pairs: 4, kems: 1 });
    assert.equal(spares.wanting, true);
    spares.refill(0);
    assert.equal(spares.wanting, false);
    assert.deepEqual(made, { pairs: 8, kems: 2 });
    take();
    assert.deepEqual(made, { pairs: 8, kems: 2 }, 'the second time everything was there');
    assert.equal(given.size, 8);
  });

  test('no more than a path needs are kept, however many were taken', () => {
    const { made, spares } = counted();
    for (let i = 0; i < 100; i++) spares.takePair();
    spares.refill(0);
    assert.equal(made.pairs, 107);
  });

  test('spares that nothing comes for are erased after a minute', () => {
    const { made, spares } = counted();
    spares.takePair();
    spares.takeFresh();
    spares.refill(1000);
    assert.deepEqual(made, { pairs: 4, kems: 2 });
    spares.expire(60_999);
    spares.takePair();
    assert.equal(made.pairs, 4);
    spares.refill(1000);
    spares.expire(61_000);
    spares.takePair();
    spares.takeFresh();
    assert.deepEqual(made, { pairs: 7, kems: 3 });
  });
});
