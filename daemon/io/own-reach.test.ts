import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OwnReach } from './own-reach.ts';

const inside = ['127.0.0.1', '::1', 'fe80::1', '169.254.7.7'];

test('a machine reaches the families that its interfaces have, and itself', () => {
  let nowMs = 0;
  let addresses = [...inside, '192.0.2.7'];
  const reach = new OwnReach('auto', { nowMs: () => nowMs, addresses: () => addresses });
  assert.deepEqual(
    ['203.0.113.5', '127.0.0.1', '::1', '2001:db8::5'].map((address) => reach.reaches(address)),
    [true, true, true, false],
  );
  addresses = [...inside, '2001:db8::7'];
  nowMs = 999;
  assert.equal(reach.reaches('2001:db8::5'), false, 'interfaces are not asked for every packet');
  nowMs = 1000;
  assert.equal(reach.reaches('2001:db8::5'), true);
  assert.equal(reach.reaches('203.0.113.5'), false);
});

test('a machine that is offline may come up with either', () => {
  const reach = new OwnReach('auto', { nowMs: () => 0, addresses: () => inside });
  assert.ok(reach.reaches('203.0.113.5') && reach.reaches('2001:db8::5'));
});

test('what the configuration says goes before what interfaces have', () => {
  const reach = new OwnReach(['ipv4'], { nowMs: () => 0, addresses: () => ['2001:db8::7'] });
  assert.deepEqual(
    ['203.0.113.5', '127.0.0.1', '::1', '2001:db8::5'].map((address) => reach.reaches(address)),
    [true, true, false, false],
  );
});
