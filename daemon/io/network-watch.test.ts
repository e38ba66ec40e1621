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
  watch.poll(0);
  addresses = ['2001:db8::1', '192.0.2.1'];
  errors.set('ENOBUFS', 7);
  watch.poll(0);
  assert.deepEqual(changes, [], 'the order means nothing, nor does a full queue');
  addresses = ['198.51.100.9'];
  watch.poll(0);
  assert.deepEqual(changes, ['addresses']);
  errors.set('ENETUNREACH', 3);
  watch.poll(0);
  errors.set('ENETUNREACH', 9);
  watch.poll(0);
  assert.deepEqual(changes, ['addresses'], 'as long as there is no way out nobody could be told');
  assert.equal(watch.isAway, true);
  watch.poll(0);
  assert.equal(watch.isAway, false);
  watch.poll(0);
  assert.deepEqual(changes, ['addresses', 'route']);
});

test('without an address it is away, unless there has never been one', () => {
  let addresses: string[] = [];
  const watch = new NetworkWatch({ addresses: () => addresses, sendErrors: () => new Map(), onChange: () => {} });
  const away = (present: string[]) => {
    addresses = present;
    watch.poll(0);
    return watch.isAway;
  };
  assert.deepEqual([away([]), away(['192.0.2.1']), away([]), away(['192.0.2.1'])], [false, false, true, false]);
});

test('by default it looks at the interfaces of this machine', () => {
  let changes = 0;
  const watch = new NetworkWatch({ sendErrors: () => new Map(), onChange: () => void changes++ });
  watch.poll(0);
  assert.equal(changes, 0);
});

test('an address more is a change when nothing else comes, or at once when another goes: one change, not two', () => {
  let addresses: string[] = [];
  const changes: number[] = [];
  let nowMs = 0;
  const watch = new NetworkWatch({
    addresses: () => addresses,
    sendErrors: () => new Map(),
    onChange: () => void changes.push(nowMs),
  });
  const at = (timeMs: number, present: string[]) => {
    nowMs = timeMs;
    addresses = present;
    watch.poll(nowMs);
  };
  at(40, ['192.0.2.1']);
  assert.deepEqual(changes, [40], 'there was no network');
  at(80, ['192.0.2.1', '198.51.100.9']);
  at(120, ['198.51.100.9']);
  assert.deepEqual(changes, [40, 120]);
  at(500, ['198.51.100.9']);
  assert.deepEqual(changes, [40, 120]);
  at(540, ['198.51.100.9', '2001:db8::1']);
  at(580, ['198.51.100.9', '2001:db8::1', '2001:db8::2']);
  assert.deepEqual(changes, [40, 120]);
  at(840, addresses);
  at(1200, addresses);
  assert.deepEqual(changes, [40, 120, 840]);
});
