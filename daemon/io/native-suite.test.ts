/** What concerns the native suite alone; vectors and the comparison with the portable one are in test/vectors. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { createNativeSuite } from './native-suite.ts';

const suite = createNativeSuite();
const bytes = (length: number) => new Uint8Array(randomBytes(length));

describe('native suite', () => {
  test('writes nothing outside its outputs', () => {
    const memory = new Uint8Array(64 + 1240 + 16 + 64).fill(0xa5);
    const out = memory.subarray(64, 64 + 1240);
    const tag = memory.subarray(64 + 1240, 64 + 1240 + 16);
    const [input, ad, nonce, key] = [bytes(1240), bytes(2), bytes(12), bytes(32)];
    suite.aeadSeal(out, tag, input, ad, nonce, key);
    assert.ok(suite.aeadOpen(out, tag, out, ad, nonce, key));
    suite.chacha20Xor(out, out, nonce, 0, key);
    assert.ok(memory.subarray(0, 64).every((byte) => byte === 0xa5));
    assert.ok(memory.subarray(64 + 1240 + 16).every((byte) => byte === 0xa5));
  });

  test('takes Buffers and plain arrays alike', () => {
    const [input, nonce, key] = [bytes(100), bytes(12), bytes(32)];
    const plain = new Uint8Array(100);
    const buffer = Buffer.alloc(100);
    suite.chacha20Xor(plain, input, nonce, 7, key);
    suite.chacha20Xor(buffer, Buffer.from(input), Buffer.from(nonce), 7, Buffer.from(key));
    assert.deepEqual([...buffer], [...plain]);
  });

  test('an array whose memory was given away throws instead of reading it', () => {
    const [nonce, key] = [bytes(12), bytes(32)];
    const given = bytes(40);
    structuredClone(given, { transfer: [given.buffer] });
    assert.throws(() => suite.chacha20Xor(given, bytes(40), nonce, 0, key), RangeError);
    assert.throws(() => suite.aeadSeal(given, bytes(16), bytes(40), bytes(0), nonce, key), RangeError);
    structuredClone(key, { transfer: [key.buffer] });
    assert.throws(() => suite.aeadOpen(bytes(40), bytes(16), bytes(40), bytes(0), nonce, key), RangeError);
  });

  test('opening and sealing a cell allocates nothing', () => {
    const [cell, tag, ad, nonce, key] = [bytes(1240), bytes(16), bytes(2), bytes(12), bytes(32)];
    const step = () => {
      suite.aeadSeal(cell, tag, cell, ad, nonce, key);
      suite.aeadOpen(cell, tag, cell, ad, nonce, key);
      suite.chacha20Xor(tag, tag, nonce, 3, key);
    };
    for (let i = 0; i < 20_000; i++) step();
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < 20_000; i++) step();
    const perStep = (process.memoryUsage().heapUsed - before) / 20_000;
    assert.ok(perStep < 100, `${perStep} bytes of heap per cell`);
  });
});
