/** core/wire: varints and frames, decoded without a session. */
import { MAX_SOURCES, SYMBOL_BYTES } from '@nyx/core/fec/block-codec.ts';
import { RepairDecoder, writeRecovered, writeRepair, writeSourceMark } from '@nyx/core/wire/fec-frames.ts';
import {
  Frame,
  FrameDecoder,
  writeAck,
  writeAttach,
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
  writeTimedDatagramHeader,
  writeValueFrame,
} from '@nyx/core/wire/frames.ts';
import { MAX_VARINT, VarintReader, varintSize, writeVarint } from '@nyx/core/wire/varint.ts';
import { check, type FuzzTarget } from '../fuzzer.ts';

export const varint: FuzzTarget = {
  name: 'varint',
  dictionary: [],
  maxBytes: 64,
  seeds: () =>
    [0, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, MAX_VARINT].map((value) => {
      const bytes = new Uint8Array(varintSize(value));
      writeVarint(bytes, 0, value);
      return bytes;
    }),
  run(input) {
    const reader = new VarintReader();
    reader.reset(input);
    while (reader.at < input.length) {
      const from = reader.at;
      const value = reader.varint();
      if (reader.failed) {
        check(value === 0 && reader.at === input.length, 'a failed read gives 0 and goes to the end');
        return;
      }
      check(Number.isSafeInteger(value) && value >= 0, `value ${value} is a safe integer`);
      check(reader.at - from >= varintSize(value) && reader.at <= input.length, 'reads what belongs to it');
      const again = new Uint8Array(8);
      const end = writeVarint(again, 0, value);
      check(end === varintSize(value), 'writes its shortest form');
      const second = new VarintReader();
      second.reset(again.subarray(0, end));
      check(second.varint() === value && !second.failed, 'reads what it wrote');
    }
  },
};

/** One payload of each frame, and one of several. */
export function framePayloads(): Uint8Array[] {
  const payload = (write: (out: Uint8Array) => number): Uint8Array => {
    const out = new Uint8Array(1144);
    return out.slice(0, write(out));
  };
  const ranges = { count: 3, startAt: (i: number) => i * 10, endAt: (i: number) => i * 10 + 4 };
  const entries = [
    { family: 4, value: '192.0.2.1', ttlSeconds: 60 },
    { family: 0, value: 'a.example', ttlSeconds: 0 },
  ];
  const text = new TextEncoder().encode('over');
  /** CAPS ["fec-rs1", "timed-datagrams1"]. */
  const capabilities = '\x01\x00\x1a\x82gfec-rs1ptimed-datagrams1';
  const repair = { path: 1, codec: 0 as const, first: 4, span: 9, bitmap: Uint8Array.of(0xb0, 0x80) };
  const withData = (out: Uint8Array, at: number, data: string): number => {
    out.set(Buffer.from(data, 'latin1'), at);
    return at + data.length;
  };
  return [
    payload((out) => withData(out, writeStreamHeader(out, 0, 0, 0, 5, true), 'hello')),
    payload((out) =>
      withData(out, writeStreamHeader(out, writeConnect(out, 0, 0, 0, 80, 'a.example'), 0, 0, 3, false), 'GET'),
    ),
    payload((out) => writeAck(out, 0, 200, 25, ranges)),
    payload((out) => writeValueFrame(out, writeValueFrame(out, 0, Frame.maxData, 2 ** 20), Frame.maxStreams, 300)),
    payload((out) => writePairFrame(out, writePairFrame(out, 0, Frame.maxStreamData, 0, 2 ** 20), Frame.stop, 0, 0x20)),
    payload((out) => writePairFrame(out, writeValueFrame(out, 0, Frame.dataBlocked, 9), Frame.streamDataBlocked, 0, 5)),
    payload((out) => writeReset(out, 0, 0, 0x29, 5)),
    payload((out) => withData(out, writeDatagramHeader(out, 0, 1, 4), 'ping')),
    payload((out) => writeConnected(out, 0, 0, 4, '192.0.2.1', 4000)),
    payload((out) => writeResolve(out, 0, 1, 0, 'a.example')),
    payload((out) => writeResolved(out, 0, 1, 0, entries)),
    payload((out) => writeSettings(out, 0, [1, 256, 2, 2 ** 24, 3, 60_000, 4, 2 ** 22])),
    payload((out) => writeOpaqueFrame(out, writeOpaqueFrame(out, 0, Frame.ping, 1, 2), Frame.pathChallenge, 3, 4)),
    payload((out) => writeClose(out, 0, 1, text)),
    payload((out) => withData(out, writeCryptoHeader(out, 0, 0, 4), '\x01\x00\x01\x80')),
    payload((out) => withData(out, writeTimedDatagramHeader(out, 0, 1, 200, 50, 5), 'timed')),
    payload((out) => withData(out, writeCryptoHeader(out, 0, 0, capabilities.length), capabilities)),
    payload((out) => writeAttach(out, writeOpaqueFrame(out, 0, Frame.pathChallenge, 5, 6), new Uint8Array(32).fill(7))),
    payload((out) => writeOpaqueFrame(out, 0, Frame.pathResponse, 1, 2)),
    payload((out) => writeSettings(out, 0, [5, 52, 6, 3])),
    payload((out) => writeSourceMark(out, withData(out, writeStreamHeader(out, 0, 0, 0, 2, false), 'ab'), 1)),
    payload((out) => writeRecovered(out, 0, [0, 1, 5, 60])),
    payload((out) => writeRepair(out, 0, repair, 3, new Uint8Array(SYMBOL_BYTES).fill(9))),
    Uint8Array.of(Frame.localizedString, 2, 0x65, 0x6e, 2, 0x68, 0x69),
    Uint8Array.of(Frame.pluginFirst, 17, ...Buffer.from('a36269640165666c61677301646461746140', 'hex').subarray(0, 17)),
  ];
}

export const frameDictionary: readonly Uint8Array[] = [
  ...Object.values(Frame).map((type) => Uint8Array.of(type)),
  Uint8Array.of(0x40, 0x00),
  Uint8Array.of(0x80, 0, 0, 0),
  Uint8Array.of(0xc0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
];

export const frames: FuzzTarget = {
  name: 'frames',
  dictionary: frameDictionary,
  maxBytes: 1144,
  seeds: framePayloads,
  run(input) {
    const decoder = new FrameDecoder();
    const repair = new RepairDecoder();
    decoder.reset(input);
    let count = 0;
    while (decoder.next()) {
      count++;
      check(count <= input.length, 'each frame takes at least a byte');
      const { dataStart, dataLength, type } = decoder;
      check(dataStart >= 0 && dataLength >= 0 && dataStart + dataLength <= input.length, 'data lies in the payload');
      check(Number.isSafeInteger(decoder.id) && Number.isSafeInteger(decoder.value), 'numbers are safe integers');
      if (type === Frame.ack) {
        for (let i = 0; i < decoder.rangeCount; i++) {
          const low = decoder.rangeLow[i]!;
          check(low >= 0 && low <= decoder.rangeHigh[i]!, 'ranges go upwards');
          check(i === 0 || decoder.rangeHigh[i]! < decoder.rangeLow[i - 1]! - 1, 'ranges leave gaps');
        }
      } else if (type === Frame.resolved) {
        const entries = decoder.resolvedEntries();
        check(entries.length === decoder.count && entries.length <= 32, 'as many entries as it says');
        for (const entry of entries) check(/^[\x21-\x7e]{1,255}$/.test(entry.value), 'entries are printable');
      } else if (type === Frame.fecRecovered) {
        for (let i = 1; i < decoder.rangeCount; i++) {
          check(decoder.rangeLow[i]! > decoder.rangeLow[i - 1]!, 'recovered packets rise');
        }
      } else if (type === Frame.fecRepair) {
        if (!repair.decode(input, dataStart, dataLength)) continue;
        check(repair.sources >= 1 && repair.sources <= MAX_SOURCES, 'a block has 1…64 packets');
        check(repair.symbolStart + SYMBOL_BYTES === dataStart + dataLength, 'the symbol ends the frame');
      } else if (type === Frame.connect || type === Frame.connected || type === Frame.resolve) {
        check(/^[\x21-\x7e]{1,255}$/.test(decoder.text()), 'text is printable');
      }
    }
    check(!decoder.next() || !decoder.failed, 'a failed decoder stays at its end');
  },
};
