import type { CryptoSuite } from '../crypto/suite.ts';
import { TAG_BYTES } from '../wire/datagram.ts';

const PADS_BITS = 6;
const PADS_PER_REFILL = 1 << PADS_BITS;
const SEGMENT_BYTES = PADS_PER_REFILL * TAG_BYTES;
const BLOCK_BYTES = 64;
const BLOCKS_PER_REFILL = SEGMENT_BYTES / BLOCK_BYTES;
/** Pads that are made one by one before there is a refill: the few cells of an idle circuit are not worth its memory. */
const FIRST_PADS = 8;
/** Cells in order touch one segment at a time, and now and then the one before. */
const FEW_SEGMENTS = 2;
/** Cells that mixes have put out of order: within a thousand of each other they still share their refills. */
const MANY_SEGMENTS = 16;

const zeroNonce = new Uint8Array(12);
const zeros = new Uint8Array(SEGMENT_BYTES);
// Scratch: one thread runs one packet at a time.
const block = new Uint8Array(BLOCK_BYTES);

/** As many as an index of 32 bits can count: more than any generation has. */
const SEGMENTS_PER_GENERATION = 2 ** (32 - PADS_BITS);
const NO_SEGMENT = -1;
const NO_BYTES = new Uint8Array(0);
const NO_SEGMENTS = new Float64Array(0);

/** What pads are made with: one generation's PRG key. */
export interface PadKeys {
  /** Of the circuit's keys in this direction no two have the same. */
  readonly generation: number;
  readonly prgKey: Uint8Array;
}

/**
 * Pads of one direction of a circuit (docs/protocol.md §3), made 64 at a time. A circuit that is idle holds none, one whose
 * cells come in order holds two refills; one whose cells come far out of order gets sixteen, and whatever is older still is made on its own.
 */
export class PadCache {
  readonly #suite: CryptoSuite;
  // What is read for each cell lies in these two, whatever the number of refills: with many circuits none of it is in the nearest cache.
  #bytes = NO_BYTES;
  /** Number of the segment at each place, over all generations. */
  #segments = NO_SEGMENTS;
  /** Places of segments in `#bytes`, for refills. */
  #views: Uint8Array[] = [];
  /** Since the last rest. */
  #written = 0;

  constructor(suite: CryptoSuite) {
    this.#suite = suite;
  }

  /** The pad of the cell with this index within the keys' generation into the first 16 bytes of `out` from `offset` on. */
  write(keys: PadKeys, index: number, out: Uint8Array, offset: number): void {
    if (++this.#written <= FIRST_PADS && this.#segments.length === 0) {
      this.#writeOne(keys, index, out, offset);
      return;
    }
    const inGeneration = index >>> PADS_BITS;
    const segment = keys.generation * SEGMENTS_PER_GENERATION + inGeneration;
    let place = inGeneration & (this.#segments.length - 1);
    if (this.#segments[place] !== segment) {
      place = this.#refill(keys, inGeneration, segment);
      if (place < 0) {
        this.#writeOne(keys, index, out, offset);
        return;
      }
    }
    const bytes = this.#bytes;
    const from = place * SEGMENT_BYTES + (index & (PADS_PER_REFILL - 1)) * TAG_BYTES;
    for (let i = 0; i < TAG_BYTES; i++) out[offset + i] = bytes[from + i]!;
  }

  /** Erases what was made with these keys. */
  forget(keys: PadKeys): void {
    for (const [place, segment] of this.#segments.entries()) {
      if (segment >= 0 && Math.floor(segment / SEGMENTS_PER_GENERATION) === keys.generation) this.#erase(place);
    }
  }

  /** To be called every second or so: gives back the memory of a circuit that has hardly been used meanwhile. */
  rest(): void {
    const idle = this.#written <= FIRST_PADS;
    this.#written = 0;
    if (!idle || this.#segments.length === 0) return;
    this.wipe();
    this.#bytes = NO_BYTES;
    this.#segments = NO_SEGMENTS;
    this.#views = [];
  }

  /** Erases everything; may be used on. */
  wipe(): void {
    this.#suite.wipe(this.#bytes);
    this.#segments.fill(NO_SEGMENT);
  }

  get memoryBytes(): number {
    return this.#segments.length === 0 ? 0 : this.#segments.length * (SEGMENT_BYTES + 160) + 400;
  }

  /** The place that holds the segment now; −1 = it is too old to push a newer one out. */
  #refill(keys: PadKeys, inGeneration: number, segment: number): number {
    if (this.#segments.length === 0) this.#grow(FEW_SEGMENTS);
    let place = inGeneration & (this.#segments.length - 1);
    const held = this.#segments[place]!;
    if (held > segment && held < (keys.generation + 1) * SEGMENTS_PER_GENERATION) {
      if (this.#segments.length === MANY_SEGMENTS) return -1;
      this.#grow(MANY_SEGMENTS);
      place = inGeneration & (MANY_SEGMENTS - 1);
    }
    this.#suite.chacha20Xor(this.#views[place]!, zeros, zeroNonce, inGeneration * BLOCKS_PER_REFILL, keys.prgKey);
    this.#segments[place] = segment;
    return place;
  }

  #writeOne(keys: PadKeys, index: number, out: Uint8Array, offset: number): void {
    const at = index * TAG_BYTES;
    block.fill(0);
    this.#suite.chacha20Xor(block, block, zeroNonce, Math.floor(at / BLOCK_BYTES), keys.prgKey);
    for (let i = 0; i < TAG_BYTES; i++) out[offset + i] = block[(at % BLOCK_BYTES) + i]!;
  }

  #grow(segments: number): void {
    this.wipe();
    this.#bytes = new Uint8Array(segments * SEGMENT_BYTES);
    this.#segments = new Float64Array(segments).fill(NO_SEGMENT);
    this.#views = Array.from({ length: segments }, (_, place) =>
      this.#bytes.subarray(place * SEGMENT_BYTES, (place + 1) * SEGMENT_BYTES),
    );
  }

  #erase(place: number): void {
    this.#suite.wipe(this.#views[place]!);
    this.#segments[place] = NO_SEGMENT;
  }
}
