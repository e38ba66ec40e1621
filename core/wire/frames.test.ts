import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RangeSet } from '../stream/ranges.ts';
import { PAYLOAD_BYTES } from './datagram.ts';
import {
  ACK_FIXED_BYTES,
  Frame,
  FrameDecoder,
  isFrameText,
  readUint32,
  resolvedSize,
  Setting,
  streamHeaderSize,
  writeAck,
  writeClose,
  writeConnect,
  writeConnected,
  writeCryptoHeader,
  writeDatagramHeader,
  writeOpaqueFrame,
  writePairFrame,
  writeReset,
  writeResolve,
  writeResolved,
  writeSettings,
  writeStreamHeader,
  writeValueFrame,
} from './frames.ts';
import { writeVarint } from './varint.ts';

function decodeOne(bytes: Uint8Array, length: number): FrameDecoder {
  const decoder = new FrameDecoder();
  decoder.reset(bytes.subarray(0, length));
  assert.equal(decoder.next(), true);
  assert.equal(decoder.failed, false);
  return decoder;
}

/** Every frame that can be written, one after the other in one payload. */
function oneOfEach(out: Uint8Array): number {
  const ranges = new RangeSet(10);
  ranges.insert(5, 9);
  ranges.insert(20, 21);
  let pos = writeStreamHeader(out, 0, 7, 70_000, 3, true);
  out.set([1, 2, 3], pos);
  pos = writeAck(out, pos + 3, 100, 1234, ranges);
  pos = writeValueFrame(out, pos, Frame.maxData, 1_000_000);
  pos = writePairFrame(out, pos, Frame.maxStreamData, 7, 65_536);
  pos = writeReset(out, pos, 7, 0x21, 99);
  pos = writePairFrame(out, pos, Frame.stop, 7, 0x20);
  pos = writeDatagramHeader(out, pos, 4, 2) + 2;
  pos = writeConnect(out, pos, 9, 0, 443, 'example.org');
  pos = writeConnected(out, pos, 9, 6, '2001:db8::1', 5000);
  pos = writeResolve(out, pos, 3, 0, 'example.org');
  pos = writeResolved(out, pos, 3, 0, [{ family: 4, value: '192.0.2.1', ttlSeconds: 60 }]);
  pos = writeValueFrame(out, pos, Frame.maxStreams, 300);
  pos = writeCryptoHeader(out, pos, 10, 4) + 4;
  pos = writeSettings(out, pos, [Setting.maxStreams, 8, Setting.maxData, 9]);
  pos = writeOpaqueFrame(out, pos, Frame.ping, 1, 2);
  pos = writeOpaqueFrame(out, pos, Frame.pong, 1, 2);
  pos = writeOpaqueFrame(out, pos, Frame.pathChallenge, 1, 2);
  pos = writeClose(out, pos, 1, new TextEncoder().encode('why'));
  return pos;
}

test('frames come out as they went in', () => {
  const out = new Uint8Array(PAYLOAD_BYTES);
  let frame = decodeOne(out, writeStreamHeader(out, 0, 7, 70_000, 0, true));
  assert.deepEqual([frame.type, frame.id, frame.value, frame.dataLength, frame.fin], [1, 7, 70_000, 0, true]);
  assert.equal(writeStreamHeader(out, 0, 7, 70_000, 0, true), streamHeaderSize(7, 70_000));
  frame = decodeOne(out, writeReset(out, 0, 300, 0x21, 2 ** 40));
  assert.deepEqual([frame.id, frame.code, frame.value], [300, 0x21, 2 ** 40]);
  frame = decodeOne(out, writeConnect(out, 0, 9, 1, 443, 'example.org'));
  assert.deepEqual([frame.id, frame.code, frame.value, frame.text()], [9, 1, 443, 'example.org']);
  frame = decodeOne(out, writeConnected(out, 0, 9, 6, '2001:db8::1', 5000));
  assert.deepEqual([frame.id, frame.code, frame.value, frame.text()], [9, 6, 5000, '2001:db8::1']);
  frame = decodeOne(out, writeResolve(out, 0, 3, 1, '192.0.2.1'));
  assert.deepEqual([frame.id, frame.code, frame.text()], [3, 1, '192.0.2.1']);
  const entries = [
    { family: 4, value: '192.0.2.1', ttlSeconds: 60 },
    { family: 0, value: 'a.example', ttlSeconds: 0 },
  ];
  const length = writeResolved(out, 0, 3, 0, entries);
  assert.ok(length <= resolvedSize(entries));
  frame = decodeOne(out, length);
  assert.deepEqual(frame.resolvedEntries(), entries);
  frame = decodeOne(out, writeSettings(out, 0, [1, 8, 2, 100_000]));
  assert.deepEqual([frame.count, frame.settingId[1], frame.settingValue[1]], [2, 2, 100_000]);
  frame = decodeOne(out, writeOpaqueFrame(out, 0, Frame.pong, 0xdeadbeef, 7));
  assert.deepEqual([readUint32(out, frame.dataStart), readUint32(out, frame.dataStart + 4)], [0xdeadbeef, 7]);
  frame = decodeOne(out, writeClose(out, 0, 2, new TextEncoder().encode('why')));
  assert.deepEqual([frame.code, frame.dataLength], [2, 3]);
});

test('all frames in one payload, then padding', () => {
  const out = new Uint8Array(PAYLOAD_BYTES);
  oneOfEach(out);
  const decoder = new FrameDecoder();
  decoder.reset(out);
  const types: number[] = [];
  while (decoder.next()) types.push(decoder.type);
  assert.equal(decoder.failed, false);
  assert.deepEqual(types, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x10, 0x30, 0x31, 0x32, 0x33, 0x3f]);
});

test('ACK carries the newest ranges that fit', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(5000), { minLength: 1, maxLength: 300 }),
      fc.integer({ min: ACK_FIXED_BYTES, max: 400 }),
      (numbers, room) => {
        const ranges = new RangeSet(1000);
        for (const n of numbers) ranges.insert(n, n + 1);
        const out = new Uint8Array(500);
        const end = writeAck(out, 0, room, 77, ranges);
        assert.ok(end <= room);
        const frame = decodeOne(out, end);
        assert.equal(frame.value, 77);
        for (let i = 0; i < frame.rangeCount; i++) {
          const index = ranges.count - 1 - i;
          assert.equal(frame.rangeLow[i], ranges.startAt(index));
          assert.equal(frame.rangeHigh[i], ranges.endAt(index) - 1);
        }
        if (room > 27 + 4 * ranges.count) assert.equal(frame.rangeCount, ranges.count);
      },
    ),
  );
});

test('hostile bytes never throw, never loop, never point outside', () => {
  const seed = Number(process.env.NYX_FUZZ_SEED ?? 20_261_121);
  const valid = new Uint8Array(PAYLOAD_BYTES);
  const length = oneOfEach(valid);
  const decoder = new FrameDecoder();
  const check = (bytes: Uint8Array): void => {
    decoder.reset(bytes);
    let frames = 0;
    while (decoder.next()) {
      assert.ok(++frames <= bytes.length);
      assert.ok(decoder.dataStart + decoder.dataLength <= bytes.length);
      if (decoder.type === Frame.resolved) assert.ok(decoder.resolvedEntries().length <= 32);
      if (decoder.type === Frame.connect) assert.ok(isFrameText(decoder.text()));
      if (decoder.type === Frame.ack) {
        for (let i = 0; i < decoder.rangeCount; i++) {
          assert.ok(decoder.rangeLow[i]! >= 0 && decoder.rangeLow[i]! <= decoder.rangeHigh[i]!);
          if (i > 0) assert.ok(decoder.rangeHigh[i]! < decoder.rangeLow[i - 1]! - 1);
        }
      }
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: PAYLOAD_BYTES }), check), { seed, numRuns: 2000 });
  const types = [...Object.values(Frame), 0x0f, 0x40];
  fc.assert(
    fc.property(fc.constantFrom(...types), fc.uint8Array({ maxLength: 80 }), (type, rest) => {
      const bytes = new Uint8Array(2 + rest.length);
      const at = writeVarint(bytes, 0, type);
      bytes.set(rest, at);
      check(bytes.subarray(0, at + rest.length));
    }),
    { seed, numRuns: 4000 },
  );
  const flips = fc.array(fc.tuple(fc.nat(length), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(flips, fc.nat(length), (changes, cut) => {
      const bytes = valid.slice(0, cut);
      for (const [at, value] of changes) if (at < cut) bytes[at] = value;
      check(bytes);
    }),
    { seed, numRuns: 4000 },
  );
});

test('malformed frames fail', () => {
  const bad: number[][] = [
    [0x0f],
    [0x40, 0x41],
    [0x01, 0x00, 0x00, 0x02, 0x00],
    [0x01, 0x00, 0x00, 0x00, 0x05, 1, 2],
    [0x02, 0x03, 0x00, 0x00, 0x04],
    [0x02, 0x05, 0x00, 0x01, 0x00, 0x05, 0x00],
    [0x08, 0x00, 0x02, 0x00, 0x01, 0x61],
    [0x08, 0x00, 0x00, 0x00, 0x00],
    [0x08, 0x00, 0x00, 0x00, 0x01, 0x20],
    [0x09, 0x00, 0x05, 0x01, 0x61, 0x00],
    [0x31, 1, 2, 3],
  ];
  for (const bytes of bad) {
    const decoder = new FrameDecoder();
    decoder.reset(Uint8Array.from(bytes));
    while (decoder.next());
    assert.equal(decoder.failed, true, bytes.toString());
  }
});
