import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Parts } from './parts.ts';

test('a part that fails is told, and the others keep their figures', async () => {
  const told: string[] = [];
  const parts = new Parts('suite', undefined, (message) => told.push(message));
  assert.equal(await parts.run('one', async () => 1), 1);
  assert.equal(await parts.run('two', () => Promise.reject(new Error('no luck'))), undefined);
  assert.equal(await parts.run('three', async () => 3), 3);
  assert.deepEqual(parts.failed, { two: 'no luck' });
  assert.deepEqual(told, ['suite: one', 'suite: two', 'suite: two failed: no luck', 'suite: three']);
});

test('after an interruption nothing more is begun', async () => {
  const abort = new AbortController();
  const parts = new Parts('suite', abort.signal);
  abort.abort(new Error('interrupted'));
  let begun = false;
  assert.equal(
    await parts.run('one', async () => {
      begun = true;
    }),
    undefined,
  );
  assert.equal(begun, false);
  assert.deepEqual(parts.failed, { one: 'interrupted' });
});
