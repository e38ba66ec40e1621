import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AckTracker } from './ack-tracker.ts';

/** One that has answered the first packets, which are acknowledged at once. */
function begun(): AckTracker {
  const acks = new AckTracker();
  for (let packet = 0; packet < 2; packet++) {
    acks.onPacket(packet, true, 0, 0);
    assert.ok(acks.due(0));
    acks.onAckSent();
  }
  return acks;
}

for (const { rttMs, delayMs } of [
  { rttMs: 0.4, delayMs: 1 },
  { rttMs: 12, delayMs: 3 },
  { rttMs: 300, delayMs: 5 },
]) {
  test(`an ACK alone goes out after ${delayMs} ms at a round trip of ${rttMs} ms`, () => {
    const acks = begun();
    acks.onPacket(2, true, 100, rttMs);
    acks.onPacket(3, true, 100.5, rttMs);
    assert.equal(acks.deadlineMs, 100 + delayMs);
    assert.ok(!acks.due(100 + delayMs - 0.01));
    assert.ok(acks.due(100 + delayMs));
  });
}

test('what asks for no ACK gets none, and the 32nd that does gets it at once', () => {
  const acks = begun();
  acks.onPacket(2, false, 100, 20);
  assert.equal(acks.deadlineMs, Number.POSITIVE_INFINITY);
  for (let packet = 3; packet < 34; packet++) acks.onPacket(packet, true, 100, 20);
  assert.ok(!acks.due(100));
  acks.onPacket(34, true, 100, 20);
  assert.ok(acks.due(100));
});
