/** Plaintext of a control cell (docs/protocol.md §2.3): 21 bytes of fields, then one segment's data, then zeros. */
import { CT_BYTES } from '../wire/datagram.ts';
import { SEGMENT_BYTES } from './control-sender.ts';

/** `cover`: the cell says nothing and asks for nothing. `challenge`, `response`: a token of 8 bytes is where data would be (§2.5). */
export const ControlFlag = { segment: 1, ping: 2, ack: 4, cover: 8, challenge: 16, response: 32 } as const;

export const SEQ_OFFSET = 1;
export const LENGTH_OFFSET = 5;
export const CUMULATIVE_OFFSET = 7;
export const BITMAP_OFFSET = 11;
export const ACK_DELAY_OFFSET = 19;
export const DATA_OFFSET = 21;
/** Units of the ack delay field in one millisecond. */
export const ACK_DELAY_UNITS_PER_MS = 10;

/** The fields of one control cell, reused from cell to cell. */
export class ControlFields {
  flags = 0;
  seq = 0;
  length = 0;
  cumulative = 0;
  bitmapHigh = 0;
  bitmapLow = 0;
  ackDelayMs = 0;

  /** Reads opened plaintext (1240 bytes). False when a field is impossible. */
  read(plaintext: Uint8Array): boolean {
    this.flags = plaintext[0]!;
    this.seq = readUint32(plaintext, SEQ_OFFSET);
    this.length = (plaintext[LENGTH_OFFSET]! << 8) | plaintext[LENGTH_OFFSET + 1]!;
    this.cumulative = readUint32(plaintext, CUMULATIVE_OFFSET);
    this.bitmapHigh = readUint32(plaintext, BITMAP_OFFSET);
    this.bitmapLow = readUint32(plaintext, BITMAP_OFFSET + 4);
    this.ackDelayMs = ((plaintext[ACK_DELAY_OFFSET]! << 8) | plaintext[ACK_DELAY_OFFSET + 1]!) / ACK_DELAY_UNITS_PER_MS;
    if ((this.flags & ControlFlag.segment) !== 0) return this.length > 0 && this.length <= SEGMENT_BYTES;
    return this.length === 0;
  }

  /** Writes all 1240 bytes of a plaintext; `data` is the segment's buffer if there is one. */
  write(plaintext: Uint8Array, data: Uint8Array | undefined): void {
    plaintext[0] = this.flags;
    writeUint32(plaintext, SEQ_OFFSET, this.seq);
    plaintext[LENGTH_OFFSET] = this.length >>> 8;
    plaintext[LENGTH_OFFSET + 1] = this.length;
    writeUint32(plaintext, CUMULATIVE_OFFSET, this.cumulative);
    writeUint32(plaintext, BITMAP_OFFSET, this.bitmapHigh);
    writeUint32(plaintext, BITMAP_OFFSET + 4, this.bitmapLow);
    const delay = Math.min(0xffff, Math.round(this.ackDelayMs * ACK_DELAY_UNITS_PER_MS));
    plaintext[ACK_DELAY_OFFSET] = delay >>> 8;
    plaintext[ACK_DELAY_OFFSET + 1] = delay;
    if (data !== undefined)
      plaintext.set(this.length === data.length ? data : data.subarray(0, this.length), DATA_OFFSET);
    plaintext.fill(0, DATA_OFFSET + this.length, CT_BYTES);
  }
}

function readUint32(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!) >>> 0;
}

function writeUint32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}
