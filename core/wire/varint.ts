/**
 * Variable-length integers of QUIC (RFC 9000 §16): 1, 2, 4 or 8 bytes, the two top bits of the first say which.
 * Values are JavaScript numbers, so the limit is 2^53 − 1; larger ones on the wire are malformed here.
 */

export const MAX_VARINT = Number.MAX_SAFE_INTEGER;

/** Bytes that writeVarint will use for `value` (an integer from 0 to MAX_VARINT). */
export function varintSize(value: number): 1 | 2 | 4 | 8 {
  return value < 0x40 ? 1 : value < 0x4000 ? 2 : value < 0x4000_0000 ? 4 : 8;
}

/** Writes `value` in its shortest form at `at`; returns the position behind it. The caller has made sure of the room. */
export function writeVarint(out: Uint8Array, at: number, value: number): number {
  if (value < 0x40) {
    out[at] = value;
    return at + 1;
  }
  if (value < 0x4000) return writeVarint2(out, at, value);
  if (value < 0x4000_0000) {
    out[at] = 0x80 | (value >>> 24);
    out[at + 1] = value >>> 16;
    out[at + 2] = value >>> 8;
    out[at + 3] = value;
    return at + 4;
  }
  const high = Math.floor(value / 0x1_0000_0000);
  const low = value >>> 0;
  out[at] = 0xc0 | (high >>> 24);
  out[at + 1] = high >>> 16;
  out[at + 2] = high >>> 8;
  out[at + 3] = high;
  out[at + 4] = low >>> 24;
  out[at + 5] = low >>> 16;
  out[at + 6] = low >>> 8;
  out[at + 7] = low;
  return at + 8;
}

/** Two-byte form of a value below 2^14, for fields that are filled in later. */
export function writeVarint2(out: Uint8Array, at: number, value: number): number {
  out[at] = 0x40 | (value >>> 8);
  out[at + 1] = value;
  return at + 2;
}

/** A reading position in a borrowed buffer. After a bad read `failed` stays true and reads give 0. */
export class VarintReader {
  bytes: Uint8Array = EMPTY;
  at = 0;
  failed = false;

  reset(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.at = 0;
    this.failed = false;
  }

  varint(): number {
    const { bytes, at } = this;
    const left = bytes.length - at;
    if (left < 1) return this.fail();
    const first = bytes[at]!;
    if (first < 0x40) {
      this.at = at + 1;
      return first;
    }
    if (first < 0x80) {
      if (left < 2) return this.fail();
      this.at = at + 2;
      return ((first & 0x3f) << 8) | bytes[at + 1]!;
    }
    if (left < 4) return this.fail();
    const top = ((first & 0x3f) << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
    if (first < 0xc0) {
      this.at = at + 4;
      return top;
    }
    if (left < 8 || top > 0x1f_ffff) return this.fail();
    this.at = at + 8;
    const low = ((bytes[at + 4]! << 24) | (bytes[at + 5]! << 16) | (bytes[at + 6]! << 8) | bytes[at + 7]!) >>> 0;
    return top * 0x1_0000_0000 + low;
  }

  byte(): number {
    if (this.at >= this.bytes.length) return this.fail();
    return this.bytes[this.at++]!;
  }

  /** Skips `length` bytes and returns where they start. */
  skip(length: number): number {
    if (length > this.bytes.length - this.at) return this.fail();
    const start = this.at;
    this.at += length;
    return start;
  }

  fail(): 0 {
    this.failed = true;
    this.at = this.bytes.length;
    return 0;
  }
}

const EMPTY = new Uint8Array(0);
