import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EMPTY, MAX_INDEX, nyxLabel, writeIndexNonce, ZERO_NONCE } from './key-schedule.ts';

test('labels are "nyx1 " and the name, and are made once', () => {
  assert.equal(new TextDecoder().decode(nyxLabel('ratchet')), 'nyx1 ratchet');
  assert.equal(nyxLabel('ratchet'), nyxLabel('ratchet'));
  for (let i = 0; i < 1000; i++) {
    assert.equal(new TextDecoder().decode(nyxLabel(`made up ${i}`)), `nyx1 made up ${i}`);
  }
});

test('index nonces are 6 zeros and 48 bits, big-endian', () => {
  const nonce = new Uint8Array(12);
  const hex = (index: number) => {
    nonce.fill(0xee);
    writeIndexNonce(nonce, index);
    return Buffer.from(nonce).toString('hex');
  };
  assert.equal(hex(0), '000000000000000000000000');
  assert.equal(hex(1), '000000000000000000000001');
  assert.equal(hex(0xffff_ffff), '0000000000000000ffffffff');
  assert.equal(hex(2 ** 32), '000000000000000100000000');
  assert.equal(hex(0x1234_5678_9abc), '000000000000123456789abc');
  assert.equal(hex(0x8000_8000_0001), '000000000000800080000001');
  assert.equal(hex(MAX_INDEX), '000000000000ffffffffffff');
});

test('constants are empty and zero', () => {
  assert.equal(EMPTY.length, 0);
  assert.deepEqual(ZERO_NONCE, new Uint8Array(12));
});
