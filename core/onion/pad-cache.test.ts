import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { PadCache } from './pad-cache.ts';

const suite = createNobleSuite();

function keysOf(seed: string, generation = 0) {
  const prgKey = new Uint8Array(32);
  createSeededRandom(seed).fill(prgKey);
  return { generation, prgKey };
}

/** `pad(n)` as docs/protocol.md §3 has it, in one piece. */
function reference(prgKey: Uint8Array, count: number): Uint8Array {
  const out = new Uint8Array(16 * count);
  suite.chacha20Xor(out, out, new Uint8Array(12), 0, prgKey);
  return out;
}

test('pads are the PRG’s, in whatever order they are asked for', () => {
  const COUNT = 8192;
  const dice = createSeededRandom('pad order');
  const two = new Uint8Array(2);
  for (const spread of [0, 100, 1000, 8000]) {
    const [a, b] = [keysOf('a', 6), keysOf('b', 7)];
    const expected = new Map([a, b].map((keys) => [keys, reference(keys.prgKey, COUNT)]));
    const cache = new PadCache(suite);
    const out = new Uint8Array(20);
    for (let i = 0; i < COUNT; i += 3) {
      dice.fill(two);
      const late = spread === 0 ? 0 : ((two[0]! << 8) | two[1]!) % spread;
      const index = Math.max(0, i - late);
      const keys = (two[0]! & 15) === 0 ? b : a;
      cache.write(keys, index, out, 4);
      assert.deepEqual(
        out.subarray(4),
        expected.get(keys)!.subarray(16 * index, 16 * index + 16),
        `${spread}: ${index}`,
      );
    }
    assert.ok(cache.memoryBytes < (spread === 0 ? 3000 : 20_000));
    cache.forget(a);
    cache.write(a, 5, out, 0);
    assert.deepEqual(out.subarray(0, 16), expected.get(a)!.subarray(80, 96));
  }
});

test('what was made with forgotten keys is erased, and nothing else', () => {
  const wiped: Uint8Array[] = [];
  let made = 0;
  const watched: typeof suite = {
    ...suite,
    wipe: (...buffers) => {
      wiped.push(...buffers);
      suite.wipe(...buffers);
    },
    chacha20Xor: (...args) => {
      made++;
      suite.chacha20Xor(...args);
    },
  };
  const [old, next] = [keysOf('old', 6), keysOf('next', 7)];
  const cache = new PadCache(watched);
  const out = new Uint8Array(16);
  // The last segment of a generation and the first of the next one lie side by side.
  for (let index = 64; index < 80; index++) cache.write(old, index, out, 0);
  cache.write(next, 0, out, 0);
  wiped.length = 0;
  made = 0;
  cache.forget(old);
  assert.deepEqual(
    wiped.map(({ length }) => length),
    [1024],
  );
  cache.write(next, 1, out, 0);
  assert.equal(made, 0, 'the pads of the next keys are still there');
  cache.write(old, 64, out, 0);
  assert.equal(made, 1);
});

test('an idle circuit holds nothing, a busy one keeps what it has, and the pads stay the same', () => {
  const keys = keysOf('idle');
  const expected = reference(keys.prgKey, 4096);
  const cache = new PadCache(suite);
  const out = new Uint8Array(16);
  let index = 0;
  const write = (count: number) => {
    for (const end = index + count; index < end; index++) {
      cache.write(keys, index, out, 0);
      assert.deepEqual(out, expected.subarray(16 * index, 16 * index + 16), `${index}`);
    }
  };
  for (let second = 0; second < 20; second++) {
    write(8);
    assert.equal(cache.memoryBytes, 0);
    cache.rest();
  }
  for (let second = 0; second < 3; second++) {
    write(100);
    assert.ok(cache.memoryBytes > 2000);
    cache.rest();
    assert.ok(cache.memoryBytes > 2000, 'it is in use');
  }
  write(8);
  cache.rest();
  assert.equal(cache.memoryBytes, 0);
  write(100);
});
