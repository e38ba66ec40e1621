/** Streams that carry bytes whose every place is known: what is lost, repeated or misplaced shows. */
import assert from 'node:assert/strict';
import type { SessionStream } from '@nyx/core/stream/contract.ts';
import { fillPattern, firstMismatch } from './stream-sim.ts';

export const TARGET = { kind: 'tcp', host: 'example.org', port: 443 } as const;

/** Writes `length` patterned bytes into the stream as it takes them, then FIN. */
export function sendPattern(stream: SessionStream, salt: number, length: number): void {
  let written = 0;
  const chunk = new Uint8Array(16_384);
  const go = () => {
    while (written < length) {
      const piece = chunk.subarray(0, Math.min(chunk.length, length - written));
      fillPattern(piece, salt, written);
      const taken = stream.write(piece);
      written += taken;
      if (taken < piece.length) return;
    }
    stream.end();
  };
  stream.onWritable = go;
  go();
}

/** Reads the stream as data comes and checks every byte. */
export class PatternReader {
  bytes = 0;
  ended = false;
  code: number | undefined;
  /** Longest time without a byte since the first. */
  longestStallMs = 0;
  #lastMs = 0;
  readonly #into = new Uint8Array(65_536);

  constructor(stream: SessionStream, salt: number, nowMs: () => number) {
    const read = () => {
      for (;;) {
        const length = stream.read(this.#into);
        if (length === 0) break;
        assert.equal(firstMismatch(this.#into, length, salt, this.bytes), -1);
        if (this.bytes > 0) this.longestStallMs = Math.max(this.longestStallMs, nowMs() - this.#lastMs);
        this.#lastMs = nowMs();
        this.bytes += length;
      }
      if (stream.readEnded) this.ended = true;
    };
    stream.onReadable = read;
    // What came before anybody listened is not told again.
    read();
    stream.onClose = (code) => {
      this.code = code;
    };
  }
}
