/**
 * A window on a byte stream, held in pooled chunks: bytes are put at and copied from absolute offsets, and what lies
 * below the window's base is given back chunk by chunk. An empty window holds no memory.
 */

export const CHUNK_BYTES = 16_384;

/** Free chunks kept for reuse, 4 MiB at most; shared by all windows, so that idle streams hold none. */
const POOL_CHUNKS = 256;
const pool: Uint8Array[] = [];

export class ByteWindow {
  /** chunks[0] holds the bytes from #firstChunk · CHUNK_BYTES on; holes are chunks nothing was put into yet. */
  #chunks: (Uint8Array | undefined)[] = NO_CHUNKS;
  #firstChunk = 0;
  #held = 0;

  /** Memory held, in whole chunks. */
  get heldBytes(): number {
    return this.#held * CHUNK_BYTES;
  }

  /** Copies `source[from, from + length)` to `offset`. The offset is not below the last discardBelow(). */
  put(offset: number, source: Uint8Array, from: number, length: number): void {
    if (this.#held === 0) {
      this.#firstChunk = Math.floor(offset / CHUNK_BYTES);
      if (this.#chunks === NO_CHUNKS) this.#chunks = [];
    }
    let index = Math.floor(offset / CHUNK_BYTES) - this.#firstChunk;
    if (index < 0) index = this.#extendDown(-index);
    let within = offset % CHUNK_BYTES;
    let at = from;
    const end = from + length;
    while (at < end) {
      const piece = Math.min(end - at, CHUNK_BYTES - within);
      const chunk = this.#chunks[index] ?? this.#take(index);
      chunk.set(source.subarray(at, at + piece), within);
      at += piece;
      within = 0;
      index++;
    }
  }

  /** Copies `length` bytes from `offset` to `into[at…)`. All of them were put before. */
  copy(offset: number, into: Uint8Array, at: number, length: number): void {
    let index = Math.floor(offset / CHUNK_BYTES) - this.#firstChunk;
    let within = offset % CHUNK_BYTES;
    let pos = at;
    const end = at + length;
    while (pos < end) {
      const piece = Math.min(end - pos, CHUNK_BYTES - within);
      into.set(this.#chunks[index]!.subarray(within, within + piece), pos);
      pos += piece;
      within = 0;
      index++;
    }
  }

  /** Gives back the chunks that lie wholly below `offset`. */
  discardBelow(offset: number): void {
    let spare = Math.floor(offset / CHUNK_BYTES) - this.#firstChunk;
    while (spare > 0 && this.#chunks.length > 0) {
      this.#give(this.#chunks.shift());
      this.#firstChunk++;
      spare--;
    }
  }

  /** Gives everything back. */
  clear(): void {
    for (const chunk of this.#chunks) this.#give(chunk);
    this.#chunks = NO_CHUNKS;
  }

  #take(index: number): Uint8Array {
    while (this.#chunks.length < index) this.#chunks.push(undefined);
    const chunk = pool.pop() ?? new Uint8Array(CHUNK_BYTES);
    this.#chunks[index] = chunk;
    this.#held++;
    return chunk;
  }

  /** Bytes that arrive ahead may define the first chunk; earlier ones then come below it. */
  #extendDown(chunks: number): number {
    for (let i = 0; i < chunks; i++) this.#chunks.unshift(undefined);
    this.#firstChunk -= chunks;
    return 0;
  }

  #give(chunk: Uint8Array | undefined): void {
    if (chunk === undefined) return;
    this.#held--;
    if (pool.length < POOL_CHUNKS) pool.push(chunk);
  }
}

const NO_CHUNKS: (Uint8Array | undefined)[] = [];
