import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROTECTED_BYTES } from '@nyx/core/stream/session-fec.ts';
import { timedDatagramHeaderSize } from '@nyx/core/wire/frames.ts';
import fc from 'fast-check';
import { decodeUdpFrame, encodeUdpFrame, MAX_UDP_BYTES, udpAddressBytes } from './udp-frame.ts';

const payload = Uint8Array.of(1, 2, 3);

test('an IPv4 frame has the documented bytes', () => {
  const frame = encodeUdpFrame('192.0.2.7', 53, payload);
  assert.deepEqual([...frame], [4, 4, 192, 0, 2, 7, 0, 53, 1, 2, 3]);
});

test('IPv6 and names come back as they were', () => {
  for (const host of ['2001:db8::1', '::1', 'example.com', 'ex-ämple.test']) {
    const decoded = decodeUdpFrame(encodeUdpFrame(host, 65535, payload));
    assert.equal(decoded?.host, host);
    assert.equal(decoded?.port, 65535);
    assert.deepEqual([...(decoded?.data ?? [])], [1, 2, 3]);
  }
});

test('an empty datagram is a datagram', () => {
  assert.equal(decodeUdpFrame(encodeUdpFrame('a', 0, new Uint8Array(0)))?.data.length, 0);
});

test('what cannot be encoded is refused', () => {
  assert.throws(() => encodeUdpFrame('', 1, payload), RangeError);
  assert.throws(() => encodeUdpFrame('x'.repeat(256), 1, payload), RangeError);
  assert.throws(() => encodeUdpFrame('fe80::1%eth0', 1, payload), RangeError);
  assert.throws(() => encodeUdpFrame('a', 65536, payload), RangeError);
  assert.throws(() => encodeUdpFrame('a', 1.5, payload), RangeError);
});

test('hostile frames are undefined, never a throw', () => {
  const bad = [
    [],
    [4],
    [4, 4, 1, 2, 3, 4, 0], // port cut off
    [4, 5, 1, 2, 3, 4, 5, 0, 1], // wrong length for IPv4
    [6, 4, 1, 2, 3, 4, 0, 1],
    [3, 0, 0, 1], // empty name
    [3, 2, 0xff, 0xfe, 0, 1], // not UTF-8
    [3, 3, 97, 0, 98, 0, 1], // NUL in a name
    [3, 9, ...new TextEncoder().encode('127.0.0.1'), 0, 1], // literal dressed up as a name
    [9, 1, 97, 0, 1],
  ];
  for (const bytes of bad) assert.equal(decodeUdpFrame(Uint8Array.from(bytes)), undefined, bytes.join(' '));
});

test('random bytes decode to something that encodes to the same bytes, or to nothing', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const frame = decodeUdpFrame(bytes);
      if (frame === undefined) return;
      assert.deepEqual([...encodeUdpFrame(frame.host, frame.port, frame.data)], [...bytes]);
    }),
    { numRuns: 2000 },
  );
});

test('frames of random targets round-trip', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain()),
      fc.integer({ min: 0, max: 65535 }),
      fc.uint8Array({ maxLength: 200 }),
      (host, port, data) => {
        const frame = encodeUdpFrame(host, port, data);
        const decoded = decodeUdpFrame(frame);
        assert.ok(decoded);
        assert.deepEqual(encodeUdpFrame(decoded.host, decoded.port, decoded.data), frame);
      },
    ),
    { numRuns: 500 },
  );
});

test('MAX_UDP_BYTES of address and data fit into a protected packet, whatever the session’s age and the deadline', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain(), fc.string({ minLength: 1, maxLength: 63, unit: 'grapheme' })),
      fc.nat({ max: 2 ** 30 - 1 }),
      fc.nat({ max: 2 ** 40 }),
      fc.integer({ min: 1, max: 60_000 }),
      (host, flowId, sentMs, lifetimeMs) => {
        const addressBytes = udpAddressBytes(host);
        if (addressBytes === undefined) return;
        const frame = encodeUdpFrame(host, 1, new Uint8Array(MAX_UDP_BYTES - addressBytes));
        assert.ok(timedDatagramHeaderSize(flowId, sentMs, lifetimeMs) + frame.length <= PROTECTED_BYTES);
      },
    ),
  );
  assert.equal(MAX_UDP_BYTES, 1087, 'as the docs say');
});
