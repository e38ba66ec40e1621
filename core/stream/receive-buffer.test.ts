import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReceiveBuffer, Received } from './receive-buffer.ts';

const bytes = Uint8Array.from({ length: 3000 }, (_, i) => (i * 31 + (i >>> 8) * 17) & 0xff);
const put = (buffer: ReceiveBuffer, from: number, to: number, fin = false) =>
  assert.equal(buffer.receive(from, bytes, from, to - from, fin, 65_536), Received.ok);

function readAll(buffer: ReceiveBuffer): Uint8Array {
  const into = new Uint8Array(65_536);
  return into.slice(0, buffer.read(into));
}

test('a FIN without data that comes before a missing piece fills no hole', () => {
  const buffer = new ReceiveBuffer();
  put(buffer, 0, 1000);
  put(buffer, 2000, 3000);
  put(buffer, 3000, 3000, true);
  assert.equal(buffer.readableBytes, 1000);
  assert.equal(buffer.finalSize, 3000);
  assert.deepEqual(readAll(buffer), bytes.slice(0, 1000));
  assert.equal(buffer.ended, false);
  put(buffer, 1000, 2000);
  assert.deepEqual(readAll(buffer), bytes.slice(1000));
  assert.equal(buffer.ended, true);
});

test('a FIN without data that comes first of all leaves everything to come', () => {
  const buffer = new ReceiveBuffer();
  put(buffer, 3000, 3000, true);
  assert.equal(buffer.readableBytes, 0);
  put(buffer, 500, 3000);
  assert.equal(buffer.readableBytes, 0);
  put(buffer, 0, 700);
  assert.deepEqual(readAll(buffer), bytes);
  assert.equal(buffer.ended, true);
});

test('an empty stream ends with its FIN', () => {
  const buffer = new ReceiveBuffer();
  put(buffer, 0, 0, true);
  assert.equal(buffer.ended, true);
});
