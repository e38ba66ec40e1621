import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from './seeded-random.ts';

function bytes(seed: number | string, ...lengths: number[]): number[] {
  const random = createSeededRandom(seed);
  return lengths.flatMap((length) => {
    const into = new Uint8Array(length);
    random.fill(into);
    return [...into];
  });
}

test('one seed, one stream, however it is cut up and over the end of the pool', () => {
  const whole = bytes('a', 10_000);
  assert.deepEqual(bytes('a', 1, 0, 4094, 1, 1, 4096, 1807), whole);
  assert.deepEqual(bytes(12, 100), bytes('12', 100));
});

test('other seeds give other streams', () => {
  const streams = [bytes(0, 32), bytes(1, 32), bytes('', 32), bytes('a', 32), bytes(-1, 32)].map(String);
  assert.equal(new Set(streams).size, streams.length);
});

test('the stream does not repeat from pool to pool', () => {
  const whole = bytes(1, 8192);
  assert.notDeepEqual(whole.slice(0, 4096), whole.slice(4096));
});

test('the stream is the same today as when it was written down', () => {
  assert.equal(Buffer.from(bytes(1, 16)).toString('hex'), '1f70605414637a610641b04eec1270f4');
});
