import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemRandom } from './system-random.ts';

test('fills all of what it is given, pooled or not, and never the same twice', () => {
  for (const length of [0, 1, 12, 63, 64, 65, 5000]) {
    const seen = new Set<string>();
    const ever = new Uint8Array(length);
    for (let i = 0; i < 200; i++) {
      const into = new Uint8Array(length);
      systemRandom.fill(into);
      for (let j = 0; j < length; j++) ever[j]! |= into[j]!;
      seen.add(Buffer.from(into).toString('hex'));
    }
    // After 200 draws each byte has had every bit set, but for odds of 8 · 5000 in 2^200.
    assert.ok(ever.every((byte) => byte === 0xff));
    if (length >= 12) assert.equal(seen.size, 200);
  }
});

test('fills a view and nothing beside it', () => {
  const memory = new Uint8Array(48);
  systemRandom.fill(memory.subarray(16, 32));
  assert.deepEqual([...memory.subarray(0, 16), ...memory.subarray(32)], new Array(32).fill(0));
});
