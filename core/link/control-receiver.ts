/** The receiving half of a link's control channel: segments in any order become messages in order (§2.3). */
import { ACK_SPAN } from './control-sender.ts';

/** Longest message body accepted. */
export const MAX_MESSAGE_BYTES = 16384;
const headerBytes = 4;

export type SegmentOutcome = 'new' | 'duplicate' | 'outside' | 'tooLong';

/** Called with each complete message; false stops the delivery (the link closed meanwhile). */
export type MessageSink = (type: number, body: Uint8Array) => boolean;

export class ControlReceiver {
  readonly #sink: MessageSink;
  /** Segments that came early, by seq modulo the span. */
  readonly #early: (Uint8Array | undefined)[] = new Array(ACK_SPAN).fill(undefined);
  #earlyBytes = 0;
  /** Next segment expected: the cumulative ack. */
  #nextSeq = 0;
  readonly #header = new Uint8Array(headerBytes);
  #headerFilled = 0;
  #body: Uint8Array | undefined;
  #bodyFilled = 0;

  constructor(sink: MessageSink) {
    this.#sink = sink;
  }

  /** A message has begun whose end has not come. */
  get midMessage(): boolean {
    return this.#headerFilled > 0;
  }

  get hasGaps(): boolean {
    return this.#earlyBytes > 0;
  }

  get memoryBytes(): number {
    return this.#earlyBytes + (this.#body?.length ?? 0);
  }

  /** Writes which of the 64 segments behind the next expected one are here (§2.3, ack bitmap). */
  writeAck(fields: { cumulative: number; bitmapHigh: number; bitmapLow: number }): void {
    let high = 0;
    let low = 0;
    if (this.#earlyBytes > 0) {
      for (let bit = 0; bit < ACK_SPAN - 1; bit++) {
        if (this.#early[(this.#nextSeq + 1 + bit) % ACK_SPAN] === undefined) continue;
        if (bit < 32) high |= 1 << (31 - bit);
        else low |= 1 << (63 - bit);
      }
    }
    fields.cumulative = this.#nextSeq;
    fields.bitmapHigh = high >>> 0;
    fields.bitmapLow = low >>> 0;
  }

  /** Takes one segment (borrowed) and delivers what is complete. `tooLong` = the peer broke the message limit. */
  handleSegment(seq: number, data: Uint8Array): SegmentOutcome {
    if (seq < this.#nextSeq) return 'duplicate';
    if (seq >= this.#nextSeq + ACK_SPAN) return 'outside';
    if (seq > this.#nextSeq) {
      const slot = seq % ACK_SPAN;
      if (this.#early[slot] !== undefined) return 'duplicate';
      this.#early[slot] = data.slice();
      this.#earlyBytes += data.length;
      return 'new';
    }
    this.#nextSeq += 1;
    if (!this.#read(data)) return 'tooLong';
    for (;;) {
      const slot = this.#nextSeq % ACK_SPAN;
      const early = this.#early[slot];
      if (early === undefined) return 'new';
      this.#early[slot] = undefined;
      this.#earlyBytes -= early.length;
      this.#nextSeq += 1;
      if (!this.#read(early)) return 'tooLong';
    }
  }

  clear(): void {
    this.#early.fill(undefined);
    this.#earlyBytes = 0;
    this.#body = undefined;
  }

  /** Reads messages out of the stream's next bytes. */
  #read(data: Uint8Array): boolean {
    let offset = 0;
    while (offset < data.length) {
      if (this.#headerFilled < headerBytes) {
        this.#header[this.#headerFilled++] = data[offset++]!;
        if (this.#headerFilled < headerBytes) continue;
        const length = this.#length();
        if (length > MAX_MESSAGE_BYTES) return false;
        if (data.length - offset >= length) {
          const body = data.subarray(offset, offset + length);
          offset += length;
          if (!this.#deliver(body)) return true;
          continue;
        }
        this.#body = new Uint8Array(length);
        this.#bodyFilled = 0;
        continue;
      }
      const body = this.#body!;
      const take = Math.min(body.length - this.#bodyFilled, data.length - offset);
      body.set(data.subarray(offset, offset + take), this.#bodyFilled);
      this.#bodyFilled += take;
      offset += take;
      if (this.#bodyFilled === body.length && !this.#deliver(body)) return true;
    }
    return true;
  }

  #length(): number {
    return (this.#header[1]! << 16) | (this.#header[2]! << 8) | this.#header[3]!;
  }

  #deliver(body: Uint8Array): boolean {
    this.#headerFilled = 0;
    this.#body = undefined;
    return this.#sink(this.#header[0]!, body);
  }
}
