import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_VARINT, VarintReader, varintSize, writeVarint, writeVarint2 } from './varint.ts';

function read(bytes: Uint8Array): { value: number; reader: VarintReader } {
  const reader = new VarintReader();
  reader.reset(bytes);
  return { value: reader.varint(), reader };
}

test('RFC 9000 §A.1 examples', () => {
  // The 8-byte example of the RFC, 151288809941952652, is above 2^53: its shape is tested below.
  const vectors: [string, number][] = [
    ['9d7f3e7d', 494_878_333],
    ['7bbd', 15_293],
    ['25', 37],
    ['4025', 37],
  ];
  for (const [hex, value] of vectors) {
    const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
    const { value: decoded, reader } = read(bytes);
    assert.equal(decoded, value);
    assert.equal(reader.at, bytes.length);
    assert.equal(reader.failed, false);
  }
  const { reader } = read(Uint8Array.from(Buffer.from('c2197c5eff14e88c', 'hex')));
  assert.equal(reader.failed, true, 'not exact as a number: refused');
  assert.equal(read(Uint8Array.from(Buffer.from('c01fffffffffffff', 'hex'))).value, MAX_VARINT);
});

test('what is written is read again, in the shortest form', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.nat(10), (value, at) => {
      const bytes = new Uint8Array(24);
      const end = writeVarint(bytes, at, value);
      assert.equal(end - at, varintSize(value));
      const { value: decoded, reader } = read(bytes.subarray(at, end));
      assert.equal(decoded, value);
      assert.equal(reader.failed, false);
      assert.equal(read(bytes.subarray(at, end - 1)).reader.failed, true, 'cut short');
    }),
  );
  for (const value of [0, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, 2 ** 32 - 1, 2 ** 32, 2 ** 48, MAX_VARINT]) {
    const bytes = new Uint8Array(8);
    assert.equal(read(bytes.subarray(0, writeVarint(bytes, 0, value))).value, value);
  }
  const two = new Uint8Array(2);
  writeVarint2(two, 0, 5);
  assert.equal(read(two).value, 5);
});

test('a reader stays failed', () => {
  const reader = new VarintReader();
  reader.reset(new Uint8Array([1, 2, 3]));
  assert.equal(reader.byte(), 1);
  assert.equal(reader.skip(3), 0);
  assert.equal(reader.failed, true);
  assert.equal(reader.varint(), 0);
  assert.equal(reader.failed, true);
});
