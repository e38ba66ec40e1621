/** Cells that say which they are, and an owner that keeps what it gets back, for the tests of what cells wait in. */
import { DATAGRAM_BYTES } from '../wire/datagram.ts';
import type { MixOwner } from './poisson-mix.ts';

export class Collector implements MixOwner {
  mixPlace = -1;
  readonly out: { value: number; note: number; atMs: number }[] = [];

  release(bytes: Uint8Array, note: number, nowMs: number): void {
    const value = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
    const isWhole = bytes.length === DATAGRAM_BYTES && bytes.subarray(4).every((byte) => byte === (value & 0xff));
    if (!isWhole) throw new Error(`cell ${value} has changed`);
    this.out.push({ value, note, atMs: nowMs });
  }
}

/** What comes out of it is what numbered() made. */
export function numbered(value: number): Uint8Array {
  const bytes = new Uint8Array(DATAGRAM_BYTES).fill(value);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** An owner that gets no cell back. */
export function failing(): MixOwner {
  return {
    mixPlace: -1,
    release() {
      throw new Error('no');
    },
  };
}
