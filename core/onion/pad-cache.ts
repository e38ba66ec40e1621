import type { CryptoSuite } from '../crypto/suite.ts';
import { TAG_BYTES } from '../wire/datagram.ts';

const PADS_PER_REFILL = 64;
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

/** What pads are made with: one generation's PRG key. */
export interface PadKeys {
  readonly prgKey: Uint8Array;
}

/**
 * Pads of one direction of a circuit (docs/protocol.md §3), made 64 at a time. A circuit that is idle holds none, one whose
 * cells come in order holds two refills; one whose cells come far out of order gets sixteen, and whatever is older still is made on its own.
 */
export class PadCache {
  readonly #suite: CryptoSuite;
  #views: Uint8Array[] = [];
  #owners: (PadKeys | undefined)[] = [];
  #segments: number[] = [];
  /** Since the last rest. */
  #written = 0;

  constructor(suite: CryptoSuite) {
    this.#suite = suite;
  }

  /** The pad of the cell with this index within the keys' generation into the first 16 bytes of `out` from `offset` on. */
  write(keys: PadKeys, index: number, out: Uint8Array, offset: number): void {
    if (++this.#written <= FIRST_PADS && this.#views.length === 0) {
      this.#writeOne(keys, index, out, offset);
      return;
    }
    const segment = Math.floor(index / PADS_PER_REFILL);
    let slot = segment & (this.#views.length - 1);
    if (this.#segments[slot] !== segment || this.#owners[slot] !== keys) {
      slot = this.#refill(keys, segment);
      if (slot < 0) {
        this.#writeOne(keys, index, out, offset);
        return;
      }
    }
    const view = this.#views[slot]!;
    const from = (index % PADS_PER_REFILL) * TAG_BYTES;
    for (let i = 0; i < TAG_BYTES; i++) out[offset + i] = view[from + i]!;
  }

  /** Erases what was made with these keys. */
  forget(keys: PadKeys): void {
    for (let slot = 0; slot < this.#views.length; slot++) {
      if (this.#owners[slot] === keys) this.#erase(slot);
    }
  }

  /** To be called every second or so: gives back the memory of a circuit that has hardly been used meanwhile. */
  rest(): void {
    const idle = this.#written <= FIRST_PADS;
    this.#written = 0;
    if (!idle || this.#views.length === 0) return;
    this.wipe();
    this.#views = [];
    this.#owners = [];
    this.#segments = [];
  }

  /** Erases everything; may be used on. */
  wipe(): void {
    for (let slot = 0; slot < this.#views.length; slot++) this.#erase(slot);
  }

  get memoryBytes(): number {
    return this.#views.length * (SEGMENT_BYTES + 150);
  }

  /** The slot that holds the segment now; −1 = it is too old to push a newer one out. */
  #refill(keys: PadKeys, segment: number): number {
    if (this.#views.length === 0) this.#grow(FEW_SEGMENTS);
    let slot = segment & (this.#views.length - 1);
    if (this.#owners[slot] === keys && this.#segments[slot]! > segment) {
      if (this.#views.length === MANY_SEGMENTS) return -1;
      this.#grow(MANY_SEGMENTS);
      slot = segment & (this.#views.length - 1);
    }
    this.#suite.chacha20Xor(this.#views[slot]!, zeros, zeroNonce, segment * BLOCKS_PER_REFILL, keys.prgKey);
    this.#segments[slot] = segment;
    this.#owners[slot] = keys;
    return slot;
  }

  #writeOne(keys: PadKeys, index: number, out: Uint8Array, offset: number): void {
    const at = index * TAG_BYTES;
    block.fill(0);
    this.#suite.chacha20Xor(block, block, zeroNonce, Math.floor(at / BLOCK_BYTES), keys.prgKey);
    for (let i = 0; i < TAG_BYTES; i++) out[offset + i] = block[(at % BLOCK_BYTES) + i]!;
  }

  #grow(segments: number): void {
    this.wipe();
    const cache = new ArrayBuffer(segments * SEGMENT_BYTES);
    this.#views = Array.from({ length: segments }, (_, i) => new Uint8Array(cache, i * SEGMENT_BYTES, SEGMENT_BYTES));
    this.#owners = new Array<PadKeys | undefined>(segments).fill(undefined);
    this.#segments = new Array<number>(segments).fill(-1);
  }

  #erase(slot: number): void {
    this.#suite.wipe(this.#views[slot]!);
    this.#owners[slot] = undefined;
    this.#segments[slot] = -1;
  }
}
