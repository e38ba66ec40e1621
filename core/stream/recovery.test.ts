import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import { Frame, FrameDecoder, writeAck } from '../wire/frames.ts';
import { INTERRUPTION_US } from './ack-tracker.ts';
import { Bbr } from './bbr.ts';
import { RangeSet } from './ranges.ts';
import { AckResult, Recovery } from './recovery.ts';

/** Sends packets [from, to) at `nowMs`. */
function send(recovery: Recovery, from: number, to: number, nowMs: number): void {
  for (let number = from; number < to; number++) {
    recovery.sent.addFrame(Frame.ping, false, 0, number, 0);
    recovery.onSent(number, true, nowMs);
  }
}

/** The peer says that it has these packets. */
function acknowledge(
  recovery: Recovery,
  ranges: readonly (readonly [number, number])[],
  nowMs: number,
  delayUs = 0,
): void {
  const set = new RangeSet(64);
  for (const [from, to] of ranges) set.insert(from, to);
  const payload = new Uint8Array(PAYLOAD_BYTES);
  writeAck(payload, 0, PAYLOAD_BYTES, delayUs, set);
  const decoder = new FrameDecoder();
  decoder.reset(payload);
  assert.ok(decoder.next());
  assert.equal(recovery.onAck(decoder, nowMs), AckResult.ok);
}

function rig(): Recovery {
  const recovery = new Recovery({ onFrameAcked() {}, onFrameLost() {} }, new Bbr());
  send(recovery, 0, 100, 0);
  acknowledge(recovery, [[0, 100]], 20);
  return recovery;
}

test('losses on the way are how the path loses packets', () => {
  const recovery = rig();
  send(recovery, 100, 120, 30);
  send(recovery, 120, 130, 40);
  acknowledge(
    recovery,
    [
      [0, 100],
      [110, 130],
    ],
    60,
  );
  acknowledge(
    recovery,
    [
      [0, 100],
      [110, 130],
    ],
    200,
  );
  recovery.handleTimeout(recovery.nextTimeoutMs());
  assert.ok(recovery.loss.ratio(200) > 0.05, `${recovery.loss.ratio(200)}`);
});

test('what was given up in a silence is not, whatever comes after it', () => {
  const recovery = rig();
  send(recovery, 100, 120, 30);
  recovery.giveUp();
  assert.equal(recovery.packetsLost, 20);
  // Asked for when the path is looked after, not only when something comes.
  recovery.nextTimeoutMs();
  send(recovery, 120, 130, 300);
  acknowledge(
    recovery,
    [
      [0, 100],
      [120, 130],
    ],
    320,
  );
  acknowledge(
    recovery,
    [
      [0, 100],
      [120, 130],
    ],
    400,
  );
  assert.equal(recovery.loss.ratio(400), 0);
});

test('who was cut off and says so gets all that is missing at once, but not again and again', () => {
  const recovery = rig();
  send(recovery, 100, 120, 30);
  // A long delay alone is no news: the other end had nothing to acknowledge.
  acknowledge(recovery, [[0, 105]], 55, INTERRUPTION_US - 1);
  assert.deepEqual([recovery.inFlight, recovery.packetsLost], [15, 0]);
  acknowledge(recovery, [[0, 106]], 56, INTERRUPTION_US);
  assert.deepEqual([recovery.inFlight, recovery.packetsLost], [0, 14]);
  send(recovery, 120, 140, 60);
  acknowledge(recovery, [[0, 106]], 62, INTERRUPTION_US);
  assert.deepEqual([recovery.inFlight, recovery.packetsLost], [20, 14]);
  acknowledge(recovery, [[0, 106]], 80, INTERRUPTION_US);
  assert.equal(recovery.inFlight, 0);
});
