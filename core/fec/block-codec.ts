/**
 * What an erasure code has to offer (docs/protocol.md §5.6). A block is k source symbols; the code is systematic, so
 * encoding adds repair symbols and leaves the sources as they are. All symbols have SYMBOL_BYTES.
 */

/** A source symbol is so much of a packet's payload; the rest of it holds the frame that carries a repair symbol. */
export const SYMBOL_BYTES = 1112;
export const SYMBOL_WORDS = SYMBOL_BYTES / 4;

/** Source symbols of one block, and how many consecutive packet numbers they may come from. */
export const MAX_SOURCES = 64;
export const MAX_SPAN = 128;
/** Repair symbols of one block. */
export const MAX_REPAIRS = 64;

/** On the wire: which code made a repair symbol. */
export const CodecId = { reedSolomon: 0, raptorQ: 1 } as const;
export type CodecId = (typeof CodecId)[keyof typeof CodecId];

/** Symbols side by side, the same memory as bytes and as words. */
export class Symbols {
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
  readonly count: number;

  constructor(count: number) {
    this.count = count;
    this.words = new Uint32Array(count * SYMBOL_WORDS);
    this.bytes = new Uint8Array(this.words.buffer);
  }

  at(index: number): Uint8Array {
    return this.bytes.subarray(index * SYMBOL_BYTES, (index + 1) * SYMBOL_BYTES);
  }

  /** Copies up to SYMBOL_BYTES of `from`. */
  set(index: number, from: Uint8Array): void {
    this.bytes.set(from.length > SYMBOL_BYTES ? from.subarray(0, SYMBOL_BYTES) : from, index * SYMBOL_BYTES);
  }
}

export interface BlockCodec {
  readonly id: CodecId;
  /** As in the CAPS message. */
  readonly capability: string;
  /**
   * Writes repair symbols 0 … repairs − 1 of the first `k` symbols of `sources` (1…MAX_SOURCES) into `into`. False: this
   * code can't (nothing was written that counts).
   */
  encode(sources: Symbols, k: number, repairs: number, into: Symbols): boolean;
  /**
   * Restores the missing ones of the `k` symbols of `sources` in place: `missing` are their positions, rising;
   * `repairs` holds `repairIds.length` repair symbols with these different numbers. False: these are not enough, and the
   * missing symbols hold nothing. Where symbols don't belong together the result is any bytes: the caller vouches for them.
   */
  decode(
    sources: Symbols,
    k: number,
    missing: readonly number[],
    repairs: Symbols,
    repairIds: readonly number[],
  ): boolean;
  /** What encoding or decoding costs, in µs of a core, about: measured by bench/fec.ts. `repairs`: made, or used. */
  costUs(k: number, repairs: number): number;
}
