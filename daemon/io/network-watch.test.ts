import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NetworkWatch } from './network-watch.ts';

test('other addresses, and a route that is back, are changes; anything else is not', () => {
  let addresses = ['192.0.2.1', '2001:db8::1'];
  const errors = new Map<string, number>();
  const changes: string[] = [];
  const watch = new NetworkWatch({
    addresses: () => addresses,
    sendErrors: () => errors,
    onChange: (what) => void changes.push(what),
  });
  watch.poll();
  addresses = ['2001:db8::1', '192.0.2.1'];
  errors.set('ENOBUFS', 7);
  watch.poll();
  assert.deepEqual(changes, [], 'the order means nothing, nor does a full queue');
  addresses = ['198.51.100.9'];
  watch.poll();
  assert.deepEqual(changes, ['addresses']);
  errors.set('ENETUNREACH', 3);
  watch.poll();
  errors.set('ENETUNREACH', 9);
  watch.poll();
  assert.deepEqual(changes, ['addresses'], 'as long as there is no way out nobody could be told');
  watch.poll();
  watch.poll();
  assert.deepEqual(changes, ['addresses', 'route']);
});

test('by default it looks at the interfaces of this machine', () => {
  let changes = 0;
  const watch = new NetworkWatch({ sendErrors: () => new Map(), onChange: () => void changes++ });
  watch.poll();
  assert.equal(changes, 0);
});
