import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeUdpFrame } from './udp-frame.ts';
import { decodeUdpReport, encodeUdpReport } from './udp-report.ts';

test('a report has the documented bytes and is no datagram', () => {
  const report = { arrived: 2 ** 40, expired: 2, dropped: 3, answersDropped: 4 };
  const bytes = encodeUdpReport(report);
  assert.equal(Buffer.from(bytes).toString('hex'), '00010000000000000000000002000000000003000000000004');
  assert.deepEqual(decodeUdpReport(bytes), report);
  assert.equal(decodeUdpFrame(bytes), undefined);
});

test('what is too short, too long, of another kind or contradicts itself is none', () => {
  const bytes = encodeUdpReport({ arrived: 1, expired: 1, dropped: 0, answersDropped: 9 });
  assert.ok(decodeUdpReport(bytes));
  for (const bad of [bytes.subarray(1), Buffer.concat([bytes, bytes]), Buffer.from(bytes).fill(4, 0, 1)]) {
    assert.equal(decodeUdpReport(bad), undefined);
  }
  assert.equal(decodeUdpReport(encodeUdpReport({ arrived: 1, expired: 1, dropped: 1, answersDropped: 0 })), undefined);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 24, maxLength: 26 }), (random) => {
      const report = decodeUdpReport(random);
      if (report !== undefined) assert.deepEqual([...encodeUdpReport(report)], [...random]);
    }),
  );
});
