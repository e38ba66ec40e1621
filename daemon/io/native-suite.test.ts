/** What concerns the native suite alone; vectors and the comparison with the portable one are in test/vectors. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { createNativeSuite } from './native-suite.ts';
import { loadPacketCipher } from './openssl-packet.ts';

const suite = createNativeSuite();
const bytes = (length: number) => new Uint8Array(randomBytes(length));

describe('native suite', () => {
  test('a published key that is used again gives what it gave, also beside one with the same beginning', () => {
    const pair = suite.mlkem768(bytes(64));
    const twin = pair.publicKey.slice();
    // Another valid key: its last bytes are the seed of the matrix.
    twin.set(bytes(32), twin.length - 32);
    for (let round = 0; round < 3; round++) {
      const capsule = suite.mlkem768Encapsulate(pair.publicKey, bytes(32), true)!;
      assert.deepEqual(pair.decapsulate(capsule.ciphertext), capsule.sharedSecret);
      const other = suite.mlkem768Encapsulate(twin, bytes(32), true)!;
      assert.notDeepEqual(pair.decapsulate(other.ciphertext), other.sharedSecret);
    }
    const malformed = pair.publicKey.slice().fill(255, 24, 48);
    assert.equal(suite.mlkem768Encapsulate(malformed, bytes(32), true), undefined);
  });

  test('Linux has the direct way', () => {
    assert.equal(loadPacketCipher() !== null, process.platform === 'linux');
  });

  test('both ways of doing packets give the same, at every length about a block and a cell', () => {
    const sodium = createNativeSuite(null);
    const direct = createNativeSuite(loadPacketCipher(), 0);
    const short = [0, 1, 15, 16, 17, 63, 64, 65, 96, 127, 128];
    const long = [1023, 1024, 1025, 1239, 1240, 1241, 1280, 1535, 1536, 1537, 2047, 2048, 2049, 4096, 70_000];
    for (const length of [...short, ...long]) {
      for (const adLength of [0, 2, 16, 17]) {
        const [input, ad, nonce, key] = [bytes(length), bytes(adLength), bytes(12), bytes(32)];
        const made = [sodium, direct].map((one) => {
          const [out, tag, stream] = [new Uint8Array(length), new Uint8Array(16), new Uint8Array(length)];
          one.aeadSeal(out, tag, input, ad, nonce, key);
          one.chacha20Xor(stream, input, nonce, 2 ** 32 - 1100, key);
          return { out, tag, stream };
        });
        assert.deepEqual(made[0], made[1], `${length} bytes, ${adLength} of associated data`);
        const { out, tag } = made[0]!;
        const opened = out.slice();
        assert.ok(direct.aeadOpen(opened, tag, opened, ad, nonce, key));
        assert.deepEqual(opened, input);
        for (const bit of [0, 7, 64, 127]) {
          const wrong = tag.slice();
          wrong[bit >> 3]! ^= 1 << (bit & 7);
          assert.ok(!direct.aeadOpen(opened, wrong, out, ad, nonce, key));
        }
      }
    }
  });

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
