/** The two suites against each other, and what the interface promises of both. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { suites } from './suites.ts';

const [native, noble] = suites as [CryptoSuite, CryptoSuite];
const seed = 'suites';
const random = createSeededRandom(seed);
const bytes = (length: number): Uint8Array => {
  const made = new Uint8Array(length);
  random.fill(made);
  return made;
};
const pairs: [CryptoSuite, CryptoSuite][] = [
  [native, noble],
  [noble, native],
];
const empty = new Uint8Array(0);

describe(`suites against each other, seed "${seed}"`, () => {
  test('what one seals the other opens, in place and at odd offsets', () => {
    for (const [a, b] of pairs) {
      for (const length of [0, 1, 15, 16, 63, 64, 65, 1240]) {
        for (const adLength of [0, 2, 17]) {
          const memory = bytes(length + 7);
          const cell = memory.subarray(3, 3 + length);
          const plaintext = cell.slice();
          const [tag, ad, nonce, key] = [new Uint8Array(16), bytes(adLength), bytes(12), bytes(32)];
          a.aeadSeal(cell, tag, cell, ad, nonce, key);
          const sealed = cell.slice();
          assert.ok(b.aeadOpen(cell, tag, cell, ad, nonce, key));
          assert.deepEqual(cell, plaintext);
          tag[length % 16]! ^= 1;
          assert.equal(b.aeadOpen(new Uint8Array(length), tag, sealed, ad, nonce, key), false);
        }
      }
    }
  });

  test('any one bit changed in ciphertext, tag, ad, nonce or key is refused', () => {
    for (const suite of suites) {
      const parts = [bytes(40), new Uint8Array(16), bytes(2), bytes(12), bytes(32)] as const;
      const [cell, tag, ad, nonce, key] = parts;
      suite.aeadSeal(cell, tag, cell, ad, nonce, key);
      for (const part of parts) {
        for (let bit = 0; bit < part.length * 8; bit++) {
          part[bit >> 3]! ^= 1 << (bit & 7);
          assert.equal(suite.aeadOpen(new Uint8Array(40), tag, cell, ad, nonce, key), false);
          part[bit >> 3]! ^= 1 << (bit & 7);
        }
      }
      assert.ok(suite.aeadOpen(cell, tag, cell, ad, nonce, key));
    }
  });

  test('opened with a pad, the end is what zeros behind the ciphertext become, whatever is there in memory', () => {
    for (const suite of suites) {
      for (const length of [0, 1, 48, 49, 64, 1023, 1024, 1025, 1240, 1279, 1520, 1521, 2048]) {
        for (const adLength of [0, 2, 16, 17]) {
          const memory = bytes(length + 64);
          const sealed = memory.subarray(7, 7 + length);
          const [plaintext, tag, ad] = [bytes(length), new Uint8Array(16), bytes(adLength)];
          const [nonce, key] = [bytes(12), bytes(32)];
          noble.aeadSeal(sealed, tag, plaintext, ad, nonce, key);
          const expected = new Uint8Array(length + 16);
          expected.set(sealed);
          noble.chacha20Xor(expected, expected, nonce, 1, key);
          const around = new Uint8Array(length + 48).fill(0xa5);
          const out = around.subarray(16, 32 + length);
          const before = memory.slice();
          for (let round = 0; round < 2; round++) {
            assert.ok(suite.aeadOpenPadded(out, tag, sealed, ad, nonce, key));
            assert.deepEqual(out, expected, `${suite.name}, ${length} bytes, ${adLength} of associated data`);
            memory.fill(1, 7 + length);
            before.fill(1, 7 + length);
          }
          assert.deepEqual(memory, before);
          assert.ok([...around.subarray(0, 16), ...around.subarray(32 + length)].every((byte) => byte === 0xa5));
          tag[length % 16]! ^= 0x20;
          assert.equal(suite.aeadOpenPadded(out, tag, sealed, ad, nonce, key), false);
          assert.throws(() => suite.aeadOpenPadded(out.subarray(1), tag, sealed, ad, nonce, key), RangeError);
        }
      }
    }
  });

  test('the same keystream, up to the very last block', () => {
    for (const length of [0, 1, 20, 64, 96, 130, 1240]) {
      const lastStart = 2 ** 32 - Math.ceil(length / 64);
      for (const counter of [0, 1, 131071, 0x8000_0000, lastStart - 1, Math.min(lastStart, 0xffff_ffff)]) {
        const [input, nonce, key] = [bytes(length), bytes(12), bytes(32)];
        const [a, b] = [new Uint8Array(length), input.slice()];
        native.chacha20Xor(a, input, nonce, counter, key);
        noble.chacha20Xor(b, b, nonce, counter, key);
        assert.deepEqual(a, b, `length ${length}, counter ${counter}`);
      }
    }
  });

  test('a keystream that runs over the end of its counter throws instead of ending the process', () => {
    for (const suite of suites) {
      const [two, nonce, key] = [new Uint8Array(65), bytes(12), bytes(32)];
      for (const counter of [0xffff_ffff, 2 ** 32, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        assert.throws(() => suite.chacha20Xor(two, two, nonce, counter, key), RangeError, `counter ${counter}`);
      }
    }
  });

  test('every wrong length throws before memory is touched', () => {
    for (const suite of suites) {
      const good = [32, 16, 32, 4, 12, 32] as const;
      for (let i = 0; i < good.length; i++) {
        if (i === 3) continue; // additional data may have any length
        for (const wrong of [0, good[i]! - 1, good[i]! + 1]) {
          const [out, tag, input, ad, nonce, key] = good.map((length, j) => bytes(i === j ? wrong : length));
          assert.throws(() => suite.aeadSeal(out!, tag!, input!, ad!, nonce!, key!), RangeError);
          assert.throws(() => suite.aeadOpen(out!, tag!, input!, ad!, nonce!, key!), RangeError);
        }
      }
      for (const [out, input, nonce, key] of [
        [10, 11, 12, 32],
        [11, 10, 12, 32],
        [10, 10, 11, 32],
        [10, 10, 12, 31],
      ] as const) {
        assert.throws(() => suite.chacha20Xor(bytes(out), bytes(input), bytes(nonce), 0, bytes(key)), RangeError);
      }
      assert.throws(() => suite.mac16(bytes(31)), RangeError);
      assert.throws(() => suite.blake2b(bytes(15), bytes(32), empty), RangeError);
      assert.throws(() => suite.blake2b(bytes(65), bytes(32), empty), RangeError);
      assert.throws(() => suite.blake2b(bytes(32), bytes(31), empty), RangeError);
      assert.throws(() => suite.x25519Multiply(bytes(31), bytes(32), bytes(32)), RangeError);
      assert.throws(() => suite.x25519Multiply(bytes(32), bytes(33), bytes(32)), RangeError);
      assert.throws(() => suite.x25519Multiply(bytes(32), bytes(32), bytes(31)), RangeError);
      assert.throws(() => suite.x25519(bytes(31)), RangeError);
      assert.throws(() => suite.x25519(bytes(32)).agree(bytes(33)), RangeError);
      assert.throws(() => suite.ed25519(bytes(33)), RangeError);
      assert.throws(() => suite.mlkem768Encapsulate(bytes(1184), bytes(31)), RangeError);
      assert.equal(suite.ed25519Verify(bytes(31), empty, bytes(64)), false);
      assert.equal(suite.ed25519Verify(bytes(32), empty, bytes(63)), false);
    }
  });

  test('hashes, MACs and derivations agree, however the input is cut up', () => {
    for (let i = 0; i < 50; i++) {
      const [key, a, b] = [bytes(32), bytes(i * 7), bytes(i % 3)];
      const whole = new Uint8Array([...a, ...b]);
      for (const [x, y] of pairs) {
        assert.deepEqual(x.sha256(a, b), y.sha256(whole));
        assert.deepEqual(x.blake3(a, b), y.blake3(whole));
        assert.deepEqual(x.mac16(key, a, empty, b), y.mac16(key, whole));
      }
      assert.deepEqual(native.hkdf(a, b, key, 1 + i), noble.hkdf(a, b, key, 1 + i));
      const [one, other] = [new Uint8Array(16 + (i % 49)), new Uint8Array(16 + (i % 49))];
      native.blake2b(one, key, a);
      noble.blake2b(other, key, a);
      assert.deepEqual(one, other);
      if (one.length === 16) assert.deepEqual(one, native.mac16(key, a));
      assert.equal(native.mac16(key, a).length, 16);
    }
  });

  test('X25519: the same keys and secrets; low-order peers give nothing', () => {
    for (let i = 0; i < 10; i++) {
      const [a, b] = [bytes(32), bytes(32)];
      assert.deepEqual(native.x25519(a).publicKey, noble.x25519(a).publicKey);
      assert.deepEqual(
        native.x25519(a).agree(noble.x25519(b).publicKey),
        noble.x25519(b).agree(native.x25519(a).publicKey),
      );
    }
    const one = new Uint8Array(32);
    one[0] = 1;
    for (const suite of suites) {
      assert.equal(suite.x25519(bytes(32)).agree(new Uint8Array(32)), undefined);
      assert.equal(suite.x25519(bytes(32)).agree(one), undefined);
      assert.equal(suite.x25519Multiply(new Uint8Array(32), bytes(32), new Uint8Array(32)), false);
      assert.equal(suite.x25519Multiply(new Uint8Array(32), bytes(32), one), false);
      // In place, and as agree() does it.
      const [scalar, point] = [bytes(32), suite.x25519(bytes(32)).publicKey.slice()];
      const shared = suite.x25519(scalar).agree(point);
      assert.equal(suite.x25519Multiply(point, scalar, point), true);
      assert.deepEqual(point, shared);
    }
  });

  test('ML-KEM-768: one encapsulates, the other decapsulates; a changed ciphertext gives the same other secret', () => {
    for (const [a, b] of pairs) {
      const keySeed = bytes(64);
      const [mine, theirs] = [a.mlkem768(keySeed), b.mlkem768(keySeed)];
      assert.deepEqual(mine.publicKey, theirs.publicKey);
      const { ciphertext, sharedSecret } = a.mlkem768Encapsulate(theirs.publicKey, bytes(32))!;
      assert.deepEqual(theirs.decapsulate(ciphertext), sharedSecret);
      assert.equal(ciphertext.length, 1088);
      ciphertext[500]! ^= 4;
      const rejected = theirs.decapsulate(ciphertext);
      assert.notDeepEqual(rejected, sharedSecret);
      assert.deepEqual(mine.decapsulate(ciphertext), rejected);
      const overflow = theirs.publicKey.slice();
      overflow.fill(0xff, 0, 3);
      assert.equal(a.mlkem768Encapsulate(overflow, bytes(32)), undefined);
    }
  });

  test('Ed25519: the same signatures, each verified by the other', () => {
    for (const [a, b] of pairs) {
      const [keySeed, message] = [bytes(32), bytes(100)];
      const signature = a.ed25519(keySeed).sign(message);
      assert.deepEqual(signature, b.ed25519(keySeed).sign(message));
      assert.ok(b.ed25519Verify(a.ed25519(keySeed).publicKey, message, signature));
      message[0]! ^= 1;
      assert.equal(b.ed25519Verify(a.ed25519(keySeed).publicKey, message, signature), false);
      // 32 bytes 0x02 00 … are no point of the curve: y = 2 has no x.
      const noPoint = new Uint8Array(32);
      noPoint[0] = 2;
      assert.equal(b.ed25519Verify(noPoint, message, signature), false);
    }
  });

  test('results are plain arrays with memory of their own', () => {
    for (const suite of suites) {
      const kem = suite.mlkem768(bytes(64));
      const made = suite.mlkem768Encapsulate(kem.publicKey, bytes(32))!;
      const dh = suite.x25519(bytes(32));
      const results = [
        suite.sha256(),
        suite.hkdf(bytes(5), empty, empty, 20),
        suite.blake3(),
        suite.mac16(bytes(32)),
        kem.publicKey,
        kem.decapsulate(made.ciphertext),
        made.ciphertext,
        made.sharedSecret,
        dh.publicKey,
        dh.agree(suite.x25519(bytes(32)).publicKey)!,
        suite.ed25519(bytes(32)).publicKey,
        suite.ed25519(bytes(32)).sign(empty),
      ];
      for (const [i, result] of results.entries()) {
        assert.equal(Object.getPrototypeOf(result), Uint8Array.prototype, `${suite.name} ${i}`);
        assert.equal(result.buffer.byteLength, result.length, `${suite.name} ${i}`);
      }
    }
  });

  test('nothing of the caller is retained: its secret can be erased and the pair still works', () => {
    for (const suite of suites) {
      const [dhSecret, kemSeed, signSeed] = [bytes(32), bytes(64), bytes(32)];
      const [dh, kem, sign] = [suite.x25519(dhSecret), suite.mlkem768(kemSeed), suite.ed25519(signSeed)];
      const peer = suite.x25519(bytes(32));
      const before = dh.agree(peer.publicKey);
      suite.wipe(dhSecret, kemSeed, signSeed);
      assert.deepEqual([...dhSecret, ...kemSeed, ...signSeed], new Array(128).fill(0));
      assert.deepEqual(dh.agree(peer.publicKey), before);
      const { ciphertext, sharedSecret } = suite.mlkem768Encapsulate(kem.publicKey, bytes(32))!;
      assert.deepEqual(kem.decapsulate(ciphertext), sharedSecret);
      assert.ok(suite.ed25519Verify(sign.publicKey, empty, sign.sign(empty)));
    }
  });

  test('a wiped pair does not work any more', () => {
    for (const suite of suites) {
      const [dh, kem, sign] = [suite.x25519(bytes(32)), suite.mlkem768(bytes(64)), suite.ed25519(bytes(32))];
      const peer = suite.x25519(bytes(32)).publicKey;
      const { ciphertext } = suite.mlkem768Encapsulate(kem.publicKey, bytes(32))!;
      for (const pair of [dh, kem, sign]) pair.wipe();
      assert.throws(() => dh.agree(peer), /wiped/);
      assert.throws(() => kem.decapsulate(ciphertext), /wiped/);
      assert.throws(() => sign.sign(empty), /wiped/);
    }
  });

  test('equal compares content and length', () => {
    for (const suite of suites) {
      const a = bytes(16);
      assert.ok(suite.equal(a, a.slice()));
      assert.ok(suite.equal(empty, empty));
      assert.equal(suite.equal(a, a.subarray(1)), false);
      for (let i = 0; i < 16; i++) {
        const b = a.slice();
        b[i]! ^= 0x80;
        assert.equal(suite.equal(a, b), false);
      }
    }
  });
});
