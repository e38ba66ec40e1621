import assert from 'node:assert/strict';
import { argon2Sync } from 'node:crypto';
import { test } from 'node:test';
import { createMemoryHard } from './memory-hard.ts';

test('is argon2id of RFC 9106 with one lane, whichever library computes it; runs wait for each other', async () => {
  const memoryHard = createMemoryHard();
  const salt = new Uint8Array(16).fill(2);
  const cases = [
    { password: new Uint8Array(70).fill(1), cost: { memoryKib: 8, passes: 1 } },
    { password: new Uint8Array(3).fill(9), cost: { memoryKib: 1024, passes: 2 } },
  ];
  const found = await Promise.all(cases.map(({ password, cost }) => memoryHard(password, salt, cost)));
  for (const [i, { password, cost }] of cases.entries()) {
    assert.deepEqual(
      found[i],
      new Uint8Array(
        argon2Sync('argon2id', {
          message: password,
          nonce: salt,
          parallelism: 1,
          tagLength: 32,
          memory: cost.memoryKib,
          passes: cost.passes,
        }),
      ),
    );
  }
});
