/**
 * Bodies of the frames of error correction (docs/protocol.md §5.6). FEC_REPAIR: a repair symbol and which packets it
 * repairs. FEC_RECOVERED: packets that came back that way. Encoding and decoding allocate nothing.
 */
import { CodecId, MAX_REPAIRS, MAX_SOURCES, MAX_SPAN, SYMBOL_BYTES } from '../fec/block-codec.ts';
import { Frame, MAX_RECOVERED } from './frames.ts';
import { VarintReader, varintSize, writeVarint, writeVarint2 } from './varint.ts';

/** A FEC_RECOVERED with so many packets fits into this. */
export const RECOVERED_BYTES = 2 + 8 + MAX_RECOVERED * 2;
/** Of a packet number's successor within one FEC_RECOVERED: the gap's varint has two bytes. */
const MAX_GAP = 0x3fff;

/** A block: packets `first … first + span − 1` of a path, those whose bit is set. */
export interface RepairHeader {
  readonly path: number;
  readonly codec: CodecId;
  /** Packet number of the first source. */
  readonly first: number;
  readonly span: number;
  /** Bit i, from the highest of byte 0, stands for packet first + i; span bits, the first and the last set. */
  readonly bitmap: Uint8Array;
}

/** FEC_REPAIR with repair symbol `index`, which is `symbol`. Needs at most PAYLOAD_BYTES. */
export function writeRepair(
  out: Uint8Array,
  at: number,
  header: RepairHeader,
  index: number,
  symbol: Uint8Array,
): number {
  const bitmapBytes = (header.span + 7) >>> 3;
  const length = 4 + varintSize(header.first) + bitmapBytes + SYMBOL_BYTES;
  out[at] = Frame.fecRepair;
  let pos = writeVarint2(out, at + 1, length);
  out[pos] = header.path;
  out[pos + 1] = header.codec;
  out[pos + 2] = header.span;
  out[pos + 3] = index;
  pos = writeVarint(out, pos + 4, header.first);
  for (let i = 0; i < bitmapBytes; i++) out[pos + i] = header.bitmap[i]!;
  out.set(symbol, pos + bitmapBytes);
  return pos + bitmapBytes + SYMBOL_BYTES;
}

/** One FEC_REPAIR's body at a time; the object is reused. */
export class RepairDecoder implements RepairHeader {
  path = 0;
  codec: CodecId = CodecId.reedSolomon;
  span = 0;
  index = 0;
  first = 0;
  readonly bitmap = new Uint8Array(MAX_SPAN / 8);
  /** Packets of the block. */
  sources = 0;
  symbolStart = 0;
  readonly #reader = new VarintReader();

  /** False: it says nothing that makes sense. */
  decode(payload: Uint8Array, start: number, length: number): boolean {
    const reader = this.#reader;
    reader.reset(payload);
    reader.at = start;
    this.path = reader.byte();
    const codec = reader.byte();
    this.span = reader.byte();
    this.index = reader.byte();
    this.first = reader.varint();
    if (codec > CodecId.raptorQ || this.span < 1 || this.span > MAX_SPAN || this.index >= MAX_REPAIRS) return false;
    this.codec = codec as CodecId;
    const bitmapBytes = (this.span + 7) >>> 3;
    const bitmapStart = reader.skip(bitmapBytes);
    this.symbolStart = reader.skip(SYMBOL_BYTES);
    if (reader.failed || reader.at !== start + length) return false;
    this.sources = 0;
    for (let i = 0; i < bitmapBytes; i++) {
      const byte = payload[bitmapStart + i]!;
      this.bitmap[i] = byte;
      for (let rest = byte; rest !== 0; rest &= rest - 1) this.sources++;
    }
    const unused = bitmapBytes * 8 - this.span;
    if (!hasBit(this.bitmap, 0) || !hasBit(this.bitmap, this.span - 1)) return false;
    return (this.bitmap[bitmapBytes - 1]! & ((1 << unused) - 1)) === 0 && this.sources <= MAX_SOURCES;
  }
}

/** FEC_SOURCE: this payload is kept until its repair symbols have come; the sender calls the path `tag`. */
export function writeSourceMark(out: Uint8Array, at: number, tag: number): number {
  out[at] = Frame.fecSource;
  out[at + 1] = tag;
  return at + 2;
}

export function hasBit(bitmap: Uint8Array, index: number): boolean {
  return (bitmap[index >>> 3]! & (0x80 >>> (index & 7))) !== 0;
}

export function setBit(bitmap: Uint8Array, index: number): void {
  bitmap[index >>> 3]! |= 0x80 >>> (index & 7);
}

/** FEC_RECOVERED of the first packets of `numbers` (rising) that fit; removes them from there. */
export function writeRecovered(out: Uint8Array, at: number, numbers: number[]): number {
  let count = 1;
  while (count < numbers.length && count < MAX_RECOVERED && numbers[count]! - numbers[count - 1]! - 1 <= MAX_GAP) {
    count++;
  }
  out[at] = Frame.fecRecovered;
  out[at + 1] = count;
  let pos = writeVarint(out, at + 2, numbers[0]!);
  for (let i = 1; i < count; i++) pos = writeVarint(out, pos, numbers[i]! - numbers[i - 1]! - 1);
  numbers.splice(0, count);
  return pos;
}
