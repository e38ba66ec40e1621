/**
 * Frames inside a payload (docs/protocol.md §5). Decoding fills the fields of one reused FrameDecoder, encoding
 * writes at a position and returns the next; neither allocates, and hostile bytes give `failed`, never a throw.
 */
import { MAX_VARINT, VarintReader, varintSize, writeVarint, writeVarint2 } from './varint.ts';

export const Frame = {
  padding: 0x00,
  stream: 0x01,
  ack: 0x02,
  maxData: 0x03,
  maxStreamData: 0x04,
  reset: 0x05,
  stop: 0x06,
  datagram: 0x07,
  connect: 0x08,
  connected: 0x09,
  resolve: 0x0a,
  resolved: 0x0b,
  maxStreams: 0x0c,
  dataBlocked: 0x0d,
  streamDataBlocked: 0x0e,
  timedDatagram: 0x0f,
  crypto: 0x10,
  localizedString: 0x20,
  settings: 0x30,
  ping: 0x31,
  pong: 0x32,
  pathChallenge: 0x33,
  pathResponse: 0x34,
  attach: 0x35,
  fecRepair: 0x36,
  fecRecovered: 0x37,
  fecSource: 0x38,
  close: 0x3f,
  pluginFirst: 0x50,
  pluginLast: 0x5f,
} as const;

export const Setting = {
  maxStreams: 0x0001,
  maxData: 0x0002,
  idleTimeoutMs: 0x0003,
  maxStreamData: 0x0004,
  fec: 0x0005,
  scheduler: 0x0006,
} as const;

const STREAM_FIN = 0x01;
const MAX_SETTINGS = 32;
const MAX_NAME_BYTES = 255;
/** Entries one RESOLVED may carry. */
export const MAX_RESOLVED = 32;
/** Packets that one FEC_RECOVERED names at most. */
export const MAX_RECOVERED = 32;
/** (gap, range) pairs that fit a payload, and the first range. */
const MAX_ACK_RANGES = 600;

/** Shared by all decoders, so that an idle session does not hold 10 KiB: read them before anything else is decoded. */
const rangeLow = new Float64Array(MAX_ACK_RANGES);
const rangeHigh = new Float64Array(MAX_ACK_RANGES);
const settingId = new Float64Array(MAX_SETTINGS);
const settingValue = new Float64Array(MAX_SETTINGS);

export interface ResolvedEntry {
  /** 4 or 6; 0 = the value is a name. */
  readonly family: number;
  readonly value: string;
  readonly ttlSeconds: number;
}

/** Reads the frames of one payload in order. `while (decoder.next()) …`, then look at `failed`. */
export class FrameDecoder {
  type = 0;
  /** Stream id, flow id or request id. */
  id = 0;
  /** Offset (STREAM, CRYPTO), limit (MAX_…, …_BLOCKED), final size (RESET), delay µs (ACK), port (CONNECT, CONNECTED). */
  value = 0;
  /** Code (RESET, STOP, CLOSE), kind (CONNECT, RESOLVE), family (CONNECTED), status (RESOLVED). */
  code = 0;
  fin = false;
  /** Where the frame's bytes lie in the payload: data, text, opaque value. */
  dataStart = 0;
  dataLength = 0;
  /** ACK: inclusive ranges, highest first: from `rangeLow[i]` to `rangeHigh[i]`. */
  rangeCount = 0;
  readonly rangeLow = rangeLow;
  readonly rangeHigh = rangeHigh;
  /** SETTINGS: `settingCount` pairs. RESOLVED: number of entries. */
  count = 0;
  readonly settingId = settingId;
  readonly settingValue = settingValue;
  readonly #reader = new VarintReader();

  get failed(): boolean {
    return this.#reader.failed;
  }

  /** Where the next frame begins. */
  get at(): number {
    return this.#reader.at;
  }

  /** Borrows `payload` until the last next(). */
  reset(payload: Uint8Array): void {
    this.#reader.reset(payload);
  }

  /** False at the end (PADDING or nothing left) and after an error. */
  next(): boolean {
    const reader = this.#reader;
    if (reader.at >= reader.bytes.length) return false;
    const type = reader.varint();
    this.type = type;
    this.dataStart = 0;
    this.dataLength = 0;
    switch (type) {
      case Frame.padding:
        return false;
      case Frame.stream:
        this.id = reader.varint();
        this.value = reader.varint();
        this.#flags(reader.varint());
        this.#data(reader.varint());
        break;
      case Frame.ack:
        this.#ack();
        break;
      case Frame.maxData:
      case Frame.maxStreams:
      case Frame.dataBlocked:
        this.value = reader.varint();
        break;
      case Frame.maxStreamData:
      case Frame.streamDataBlocked:
        this.id = reader.varint();
        this.value = reader.varint();
        break;
      case Frame.reset:
        this.id = reader.varint();
        this.code = reader.varint();
        this.value = reader.varint();
        break;
      case Frame.stop:
        this.id = reader.varint();
        this.code = reader.varint();
        break;
      case Frame.datagram:
        this.id = reader.varint();
        this.#data(reader.varint());
        break;
      case Frame.timedDatagram:
        this.id = reader.varint();
        this.value = reader.varint();
        this.code = reader.varint();
        this.#data(reader.varint());
        break;
      case Frame.connect:
        this.id = reader.varint();
        this.code = reader.varint();
        this.value = reader.varint();
        this.#text(reader.varint());
        if (this.code > 1 || this.value > 0xffff) reader.fail();
        break;
      case Frame.connected:
        this.id = reader.varint();
        this.code = reader.varint();
        this.#text(reader.varint());
        this.value = reader.varint();
        if ((this.code !== 4 && this.code !== 6) || this.value > 0xffff) reader.fail();
        break;
      case Frame.resolve:
        this.id = reader.varint();
        this.code = reader.varint();
        this.#text(reader.varint());
        if (this.code > 1) reader.fail();
        break;
      case Frame.resolved:
        this.#resolved();
        break;
      case Frame.crypto:
        this.value = reader.varint();
        this.#data(reader.varint());
        break;
      case Frame.localizedString:
        reader.skip(reader.varint());
        this.#data(reader.varint());
        break;
      case Frame.settings:
        this.#settings();
        break;
      case Frame.ping:
      case Frame.pong:
      case Frame.pathChallenge:
      case Frame.pathResponse:
        this.#data(8);
        break;
      case Frame.attach:
        this.#data(ATTACH_BYTES);
        break;
      case Frame.fecRepair:
        this.#data(reader.varint());
        break;
      case Frame.fecRecovered:
        this.#recovered();
        break;
      case Frame.fecSource:
        this.code = reader.byte();
        break;
      case Frame.close:
        this.code = reader.varint();
        this.#data(reader.varint());
        break;
      default:
        if (type < Frame.pluginFirst || type > Frame.pluginLast) reader.fail();
        else this.#data(reader.varint());
    }
    return !reader.failed;
  }

  /** The text of CONNECT, CONNECTED or RESOLVE; its bytes were checked to be printable ASCII. */
  text(): string {
    return asciiText(this.#reader.bytes, this.dataStart, this.dataLength);
  }

  /** The entries of a RESOLVED frame. */
  resolvedEntries(): ResolvedEntry[] {
    const entries: ResolvedEntry[] = [];
    const reader = new VarintReader();
    reader.reset(this.#reader.bytes.subarray(0, this.dataStart + this.dataLength));
    reader.at = this.dataStart;
    for (let i = 0; i < this.count; i++) {
      const family = reader.varint();
      const length = reader.varint();
      const start = reader.skip(length);
      entries.push({ family, value: asciiText(reader.bytes, start, length), ttlSeconds: reader.varint() });
    }
    return entries;
  }

  #flags(flags: number): void {
    this.fin = (flags & STREAM_FIN) !== 0;
    if (flags > STREAM_FIN) this.#reader.fail();
  }

  #data(length: number): void {
    this.dataStart = this.#reader.skip(length);
    this.dataLength = this.#reader.failed ? 0 : length;
  }

  #text(length: number): void {
    this.#data(length);
    const { bytes } = this.#reader;
    if (length < 1 || length > MAX_NAME_BYTES) this.#reader.fail();
    for (let i = this.dataStart; i < this.dataStart + this.dataLength; i++) {
      if (bytes[i]! < 0x21 || bytes[i]! > 0x7e) this.#reader.fail();
    }
  }

  /** Packet numbers, rising, each as a range of its own: `rangeLow[i]` for `rangeCount` of them. */
  #recovered(): void {
    const reader = this.#reader;
    const count = reader.varint();
    this.rangeCount = 0;
    if (count < 1 || count > MAX_RECOVERED) {
      reader.fail();
      return;
    }
    for (let i = 0, number = -1; i < count && !reader.failed; i++) {
      number += 1 + reader.varint();
      if (number > MAX_VARINT) reader.fail();
      rangeLow[i] = number;
      this.rangeCount = i + 1;
    }
  }

  /** RFC 9000 §19.3: ranges go down from the largest; a gap of g leaves g + 1 numbers out. */
  #ack(): void {
    const reader = this.#reader;
    let high = reader.varint();
    this.value = reader.varint();
    const pairs = reader.varint();
    const first = reader.varint();
    this.rangeCount = 0;
    if (reader.failed || pairs >= MAX_ACK_RANGES || first > high) {
      reader.fail();
      return;
    }
    let low = high - first;
    this.rangeHigh[0] = high;
    this.rangeLow[0] = low;
    for (let i = 1; i <= pairs; i++) {
      high = low - reader.varint() - 2;
      low = high - reader.varint();
      if (reader.failed || low < 0) {
        reader.fail();
        return;
      }
      this.rangeHigh[i] = high;
      this.rangeLow[i] = low;
    }
    this.rangeCount = pairs + 1;
  }

  #resolved(): void {
    const reader = this.#reader;
    this.id = reader.varint();
    this.code = reader.varint();
    const count = reader.varint();
    if (count > MAX_RESOLVED) reader.fail();
    const start = reader.at;
    for (let i = 0; i < count && !reader.failed; i++) {
      const family = reader.varint();
      if (family !== 0 && family !== 4 && family !== 6) reader.fail();
      this.#text(reader.varint());
      reader.varint();
    }
    this.count = reader.failed ? 0 : count;
    this.dataStart = start;
    this.dataLength = reader.failed ? 0 : reader.at - start;
  }

  #settings(): void {
    const reader = this.#reader;
    const count = reader.varint();
    if (count > MAX_SETTINGS) reader.fail();
    for (let i = 0; i < count && !reader.failed; i++) {
      this.settingId[i] = reader.varint();
      this.settingValue[i] = reader.varint();
    }
    this.count = reader.failed ? 0 : count;
  }
}

/** Bytes of a STREAM frame before its data, when the length takes two bytes. */
export function streamHeaderSize(id: number, offset: number): number {
  return 4 + varintSize(id) + varintSize(offset);
}

/** STREAM header; `length` (below 2^14) bytes of data follow. */
export function writeStreamHeader(
  out: Uint8Array,
  at: number,
  id: number,
  offset: number,
  length: number,
  fin: boolean,
): number {
  out[at] = Frame.stream;
  let pos = writeVarint(out, at + 1, id);
  pos = writeVarint(out, pos, offset);
  out[pos] = fin ? STREAM_FIN : 0;
  return writeVarint2(out, pos + 1, length);
}

export function cryptoHeaderSize(offset: number): number {
  return 3 + varintSize(offset);
}

export function writeCryptoHeader(out: Uint8Array, at: number, offset: number, length: number): number {
  out[at] = Frame.crypto;
  return writeVarint2(out, writeVarint(out, at + 1, offset), length);
}

export function datagramHeaderSize(flowId: number): number {
  return 3 + varintSize(flowId);
}

/** TIMED_DATAGRAM: when it left, by the sender's clock of the session, and how old it may become, milliseconds. */
export function timedDatagramHeaderSize(flowId: number, sentMs: number, lifetimeMs: number): number {
  return 3 + varintSize(flowId) + varintSize(sentMs) + varintSize(lifetimeMs);
}

export function writeTimedDatagramHeader(
  out: Uint8Array,
  at: number,
  flowId: number,
  sentMs: number,
  lifetimeMs: number,
  length: number,
): number {
  const pos = writePairFrame(out, at, Frame.timedDatagram, flowId, sentMs);
  return writeVarint2(out, writeVarint(out, pos, lifetimeMs), length);
}

export function writeDatagramHeader(out: Uint8Array, at: number, flowId: number, length: number): number {
  out[at] = Frame.datagram;
  return writeVarint2(out, writeVarint(out, at + 1, flowId), length);
}

/** Bytes an ACK needs for everything but its (gap, range) pairs, at most. */
export const ACK_FIXED_BYTES = 1 + 8 + 8 + 2 + 8;

/** What an ACK reports: half-open ranges in rising order. */
export interface AckRanges {
  readonly count: number;
  startAt(index: number): number;
  endAt(index: number): number;
}

/** ACK of the newest ranges that fit into `roomBytes` (at least ACK_FIXED_BYTES). `ranges.count` > 0. */
export function writeAck(out: Uint8Array, at: number, roomBytes: number, delayUs: number, ranges: AckRanges): number {
  const end = at + roomBytes;
  let index = ranges.count - 1;
  let low = ranges.startAt(index);
  const largest = ranges.endAt(index) - 1;
  out[at] = Frame.ack;
  let pos = writeVarint(out, at + 1, largest);
  const countAt = writeVarint(out, pos, delayUs);
  pos = writeVarint(out, countAt + 2, largest - low);
  let pairs = 0;
  while (index > 0 && pairs < MAX_ACK_RANGES - 1) {
    index--;
    const start = ranges.startAt(index);
    const high = ranges.endAt(index) - 1;
    const gap = low - high - 2;
    if (pos + varintSize(gap) + varintSize(high - start) > end) break;
    pos = writeVarint(out, writeVarint(out, pos, gap), high - start);
    low = start;
    pairs++;
  }
  writeVarint2(out, countAt, pairs);
  return pos;
}

/** Any frame that is an id and one varint: MAX_DATA, MAX_STREAMS, DATA_BLOCKED. */
export function writeValueFrame(out: Uint8Array, at: number, type: number, value: number): number {
  return writeVarint(out, writeVarint(out, at, type), value);
}

/** Any frame that is an id and two varints: MAX_STREAM_DATA, STOP, STREAM_DATA_BLOCKED. */
export function writePairFrame(out: Uint8Array, at: number, type: number, a: number, b: number): number {
  return writeVarint(out, writeVarint(out, writeVarint(out, at, type), a), b);
}

export function writeReset(out: Uint8Array, at: number, id: number, code: number, finalSize: number): number {
  return writeVarint(out, writePairFrame(out, at, Frame.reset, id, code), finalSize);
}

/** PING, PONG, PATH_CHALLENGE, PATH_RESPONSE: 8 opaque bytes as two 32-bit numbers. */
export const OPAQUE_FRAME_BYTES = 9;

export function writeOpaqueFrame(out: Uint8Array, at: number, type: number, high: number, low: number): number {
  out[at] = type;
  writeUint32(out, at + 1, high);
  writeUint32(out, at + 5, low);
  return at + 9;
}

export const SESSION_ID_BYTES = 16;
/** Session id ‖ proof (16). */
export const ATTACH_BYTES = 32;
export const ATTACH_FRAME_BYTES = 1 + ATTACH_BYTES;

/** `body` has ATTACH_BYTES. */
export function writeAttach(out: Uint8Array, at: number, body: Uint8Array): number {
  out[at] = Frame.attach;
  out.set(body, at + 1);
  return at + ATTACH_FRAME_BYTES;
}

/** Bytes of a CONNECT, at most. `hostLength` is that of the ASCII host. */
export function connectSize(hostLength: number): number {
  return 1 + 8 + 1 + 4 + 2 + hostLength;
}

export function writeConnect(
  out: Uint8Array,
  at: number,
  id: number,
  kind: number,
  port: number,
  host: string,
): number {
  let pos = writePairFrame(out, at, Frame.connect, id, kind);
  pos = writeVarint(out, pos, port);
  return writeText(out, pos, host);
}

export function writeConnected(
  out: Uint8Array,
  at: number,
  id: number,
  family: number,
  address: string,
  port: number,
): number {
  const pos = writePairFrame(out, at, Frame.connected, id, family);
  return writeVarint(out, writeText(out, pos, address), port);
}

export function writeResolve(out: Uint8Array, at: number, id: number, kind: number, value: string): number {
  return writeText(out, writePairFrame(out, at, Frame.resolve, id, kind), value);
}

/** Bytes of a RESOLVED with these entries, at most. */
export function resolvedSize(entries: readonly ResolvedEntry[]): number {
  let size = 1 + 8 + 2 + 1;
  for (const entry of entries) size += 1 + 2 + entry.value.length + 8;
  return size;
}

export function writeResolved(
  out: Uint8Array,
  at: number,
  id: number,
  status: number,
  entries: readonly ResolvedEntry[],
): number {
  let pos = writePairFrame(out, at, Frame.resolved, id, status);
  pos = writeVarint(out, pos, entries.length);
  for (const entry of entries) {
    pos = writeText(out, writeVarint(out, pos, entry.family), entry.value);
    pos = writeVarint(out, pos, entry.ttlSeconds);
  }
  return pos;
}

/** `pairs` = id, value, id, value … */
export function writeSettings(out: Uint8Array, at: number, pairs: readonly number[]): number {
  let pos = writePairFrame(out, at, Frame.settings, pairs.length / 2, pairs[0]!);
  for (let i = 1; i < pairs.length; i++) pos = writeVarint(out, pos, pairs[i]!);
  return pos;
}

export function writeClose(out: Uint8Array, at: number, code: number, reason: Uint8Array): number {
  const pos = writePairFrame(out, at, Frame.close, code, reason.length);
  out.set(reason, pos);
  return pos + reason.length;
}

/** True for text that the frames can carry: 1…255 printable ASCII characters. */
export function isFrameText(text: string): boolean {
  return text.length <= MAX_NAME_BYTES && /^[\x21-\x7e]+$/.test(text);
}

function writeText(out: Uint8Array, at: number, text: string): number {
  const start = writeVarint(out, at, text.length);
  for (let i = 0; i < text.length; i++) out[start + i] = text.charCodeAt(i);
  return start + text.length;
}

function asciiText(bytes: Uint8Array, start: number, length: number): string {
  let text = '';
  for (let i = start; i < start + length; i++) text += String.fromCharCode(bytes[i]!);
  return text;
}

export function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

function writeUint32(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 24;
  out[at + 1] = value >>> 16;
  out[at + 2] = value >>> 8;
  out[at + 3] = value;
}
