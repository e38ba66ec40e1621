/**
 * The sending half of a link's control channel: a reliable ordered stream of messages cut into segments
 * (docs/protocol.md §2.3). Loss is found by time, as in RACK (RFC 8985), because datagrams reorder; round-trip
 * times and time-outs are kept as in RFC 6298.
 */

/** Data of one segment: what a control cell holds behind its 21 bytes of fields, rounded down. */
export const SEGMENT_BYTES = 1216;
/** An ack speaks of the next segment expected and the 64 behind it; nothing beyond those may be in flight. */
export const ACK_SPAN = 65;

const initialWindow = 32;
const minWindow = 4;
const initialRtoMs = 300;
const minRtoMs = 50;
const maxRtoMs = 2000;
/** Slack for timers and reordering when judging a segment lost. */
const reorderSlackMs = 2;
/** Of one segment in the loss ratio. */
const lossWeight = 0.01;
/** Segment buffers kept for reuse: one train's worth. A link that has once been busy must not hold 80 KiB for ever. */
const maxSpare = 9;
/** Messages up to this size may fill the queue to this multiple of what others may. */
const smallBodyBytes = 128;
const smallReserveFactor = 4;

/** One piece of the stream, in flight or waiting. */
export interface Segment {
  seq: number;
  readonly data: Uint8Array;
  length: number;
  sentMs: number;
  sends: number;
  lost: boolean;
}

export class ControlSender {
  /** In order of sequence; sent and not acknowledged. */
  readonly #inFlight: Segment[] = [];
  /** Not sent yet. */
  readonly #queue: Segment[] = [];
  readonly #spare: Uint8Array[] = [];
  readonly #maxQueuedBytes: number;
  #queuedBytes = 0;
  #nextSeq = 0;
  /** Everything below is acknowledged. */
  #cumulative = 0;
  #lostCount = 0;
  #window = initialWindow;
  #recoverySeq = 0;
  #backoff = 1;
  #srttMs: number | undefined;
  #rttVarMs = 0;
  #minRttMs = Number.POSITIVE_INFINITY;
  /** Send time and sequence of the segment sent last among those acknowledged (RACK.xmit_ts). */
  #rackMs = Number.NEGATIVE_INFINITY;
  #rackSeq = -1;
  #lossTimerMs = Number.POSITIVE_INFINITY;
  /** Since when something has been in flight without a break. */
  #busySinceMs = Number.POSITIVE_INFINITY;
  #lossRatio = 0;
  #sends = 0;

  constructor(maxQueuedBytes: number) {
    this.#maxQueuedBytes = maxQueuedBytes;
  }

  get rttMs(): number | undefined {
    return this.#srttMs;
  }

  /** Segments sent, those that were sent again included. */
  get sends(): number {
    return this.#sends;
  }

  /** Share of segments lost, smoothed over about the last 100. One that was only late, as its ACK shows, is none. */
  get lossRatio(): number {
    return this.#lossRatio;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** True when everything queued has arrived. */
  get idle(): boolean {
    return this.#inFlight.length === 0 && this.#queue.length === 0;
  }

  get busySinceMs(): number {
    return this.#busySinceMs;
  }

  /** When handleTimeout has something to do (absolute). */
  get nextTimeoutMs(): number {
    return this.#lossTimerMs;
  }

  /**
   * Appends a message; copies its parts. False when it would not fit the queue or the sequence numbers are used up.
   * `force` is for the link's own few messages, which must not fail because the owner's filled the queue.
   */
  push(type: number, parts: readonly Uint8Array[], force = false): boolean {
    let bodyBytes = 0;
    for (const part of parts) bodyBytes += part.length;
    // The words that end circuits get through although trains fill the queue, or ended circuits would live on.
    const maxBytes = bodyBytes <= smallBodyBytes ? smallReserveFactor * this.#maxQueuedBytes : this.#maxQueuedBytes;
    if (!force && this.#queuedBytes + bodyBytes + 4 > maxBytes) return false;
    if (this.#nextSeq > 0xffff_0000) return false;
    this.#append(Uint8Array.of(type, bodyBytes >>> 16, bodyBytes >>> 8, bodyBytes));
    for (const part of parts) this.#append(part);
    return true;
  }

  wantsSend(): boolean {
    return this.#lostCount > 0 || this.#maySendNew();
  }

  /** The segment to put into the next cell, marked as sent; borrowed until the next call. */
  next(nowMs: number): Segment | undefined {
    const segment = this.#lostCount > 0 ? this.#takeLost() : this.#takeNew(nowMs);
    if (segment === undefined) return undefined;
    segment.sentMs = nowMs;
    segment.sends += 1;
    this.#lossRatio *= 1 - lossWeight;
    this.#sends += 1;
    this.#armTimer(nowMs);
    return segment;
  }

  /**
   * An ack: all below `cumulative`, and `cumulative + 1 + i` for each bit i of the bitmap (bit 0 = highest bit of
   * `bitmapHigh`). False when it acknowledges what was never sent.
   */
  handleAck(cumulative: number, bitmapHigh: number, bitmapLow: number, ackDelayMs: number, nowMs: number): boolean {
    const sentEnd = this.#queue.length > 0 ? this.#queue[0]!.seq : this.#nextSeq;
    if (cumulative > sentEnd) return false;
    if (cumulative > this.#cumulative) this.#cumulative = cumulative;
    let newest: Segment | undefined;
    let kept = 0;
    const inFlight = this.#inFlight;
    for (let i = 0; i < inFlight.length; i++) {
      const segment = inFlight[i]!;
      if (!isAcked(segment.seq, cumulative, bitmapHigh, bitmapLow)) {
        inFlight[kept++] = segment;
        continue;
      }
      if (newest === undefined || segment.sentMs >= newest.sentMs) newest = segment;
      if (this.#wasOnlyLate(segment, nowMs)) this.#takeBackLosses(segment);
      this.#release(segment);
    }
    inFlight.length = kept;
    if (newest === undefined) return true;
    this.#handleNewest(newest, ackDelayMs, nowMs);
    this.#backoff = 1;
    this.#busySinceMs = kept > 0 ? nowMs : Number.POSITIVE_INFINITY;
    this.#detectLoss(nowMs);
    this.#armTimer(nowMs);
    return true;
  }

  /** A round trip measured otherwise (handshake, ping). */
  noteRtt(rttMs: number): void {
    if (rttMs < this.#minRttMs) this.#minRttMs = rttMs;
    if (this.#srttMs === undefined) {
      this.#srttMs = rttMs;
      this.#rttVarMs = rttMs / 2;
      return;
    }
    this.#rttVarMs += (Math.abs(this.#srttMs - rttMs) - this.#rttVarMs) / 4;
    this.#srttMs += (rttMs - this.#srttMs) / 8;
  }

  /** The peer is heard again after a silence: what it has not acknowledged goes again, whatever the back-off says. */
  retryNow(nowMs: number): void {
    if (this.#backoff === 1) return;
    this.#backoff = 1;
    for (const segment of this.#inFlight) if (!segment.lost) this.#markLost(segment);
    this.#armTimer(nowMs);
  }

  handleTimeout(nowMs: number): void {
    if (nowMs < this.#lossTimerMs) return;
    if (!this.#detectLoss(nowMs)) this.#handleRto(nowMs);
    this.#armTimer(nowMs);
  }

  /** Present retransmission time-out without back-off. */
  get rtoMs(): number {
    if (this.#srttMs === undefined) return initialRtoMs;
    return Math.min(maxRtoMs, Math.max(minRtoMs, this.#srttMs + 4 * this.#rttVarMs));
  }

  /** Drops everything, sent and unsent. */
  clear(): void {
    for (const segment of this.#inFlight) segment.data.fill(0);
    for (const segment of this.#queue) segment.data.fill(0);
    this.#inFlight.length = 0;
    this.#queue.length = 0;
    this.#spare.length = 0;
    this.#queuedBytes = 0;
    this.#lostCount = 0;
    this.#lossTimerMs = Number.POSITIVE_INFINITY;
    this.#busySinceMs = Number.POSITIVE_INFINITY;
  }

  #append(bytes: Uint8Array): void {
    let offset = 0;
    while (offset < bytes.length) {
      let tail = this.#queue.at(-1);
      if (tail === undefined || tail.length === SEGMENT_BYTES) {
        const data = this.#spare.pop() ?? new Uint8Array(SEGMENT_BYTES);
        tail = { seq: this.#nextSeq++, data, length: 0, sentMs: 0, sends: 0, lost: false };
        this.#queue.push(tail);
      }
      const take = Math.min(SEGMENT_BYTES - tail.length, bytes.length - offset);
      tail.data.set(bytes.subarray(offset, offset + take), tail.length);
      tail.length += take;
      offset += take;
    }
    this.#queuedBytes += bytes.length;
  }

  #maySendNew(): boolean {
    const first = this.#queue[0];
    return (
      first !== undefined &&
      first.seq < this.#cumulative + ACK_SPAN &&
      this.#inFlight.length - this.#lostCount < this.#window
    );
  }

  #takeNew(nowMs: number): Segment | undefined {
    if (!this.#maySendNew()) return undefined;
    const segment = this.#queue.shift()!;
    if (this.#inFlight.length === 0) this.#busySinceMs = nowMs;
    this.#inFlight.push(segment);
    return segment;
  }

  #takeLost(): Segment | undefined {
    for (const segment of this.#inFlight) {
      if (!segment.lost) continue;
      segment.lost = false;
      this.#lostCount -= 1;
      return segment;
    }
    return undefined;
  }

  #release(segment: Segment): void {
    if (segment.lost) this.#lostCount -= 1;
    this.#queuedBytes -= segment.length;
    if (this.#spare.length < maxSpare) this.#spare.push(segment.data);
    if (this.#window < ACK_SPAN) this.#window += this.#window < initialWindow ? 1 : 0.25;
  }

  #handleNewest(newest: Segment, ackDelayMs: number, nowMs: number): void {
    const rttMs = nowMs - newest.sentMs;
    if (newest.sends === 1) {
      // The peer's delay is believed only as far as it leaves a possible round trip.
      this.noteRtt(rttMs - ackDelayMs >= Math.min(this.#minRttMs, rttMs) ? rttMs - ackDelayMs : rttMs);
    } else if (rttMs < this.#minRttMs) {
      // The ack is for an earlier transmission: it says nothing about this one's send time.
      return;
    }
    if (newest.sentMs > this.#rackMs || (newest.sentMs === this.#rackMs && newest.seq > this.#rackSeq)) {
      this.#rackMs = newest.sentMs;
      this.#rackSeq = newest.seq;
    }
  }

  #reorderMs(): number {
    return (this.#srttMs ?? initialRtoMs) * 1.25 + reorderSlackMs;
  }

  /** Marks what was sent before something that has arrived, and long enough ago. */
  #detectLoss(nowMs: number): boolean {
    const waitMs = this.#reorderMs();
    let found = false;
    for (const segment of this.#inFlight) {
      if (segment.lost || !this.#isOvertaken(segment) || nowMs < segment.sentMs + waitMs) continue;
      this.#markLost(segment);
      found = true;
    }
    return found;
  }

  /** Given up, and acknowledged before it was sent again or sooner than an answer to that can be there. */
  #wasOnlyLate(segment: Segment, nowMs: number): boolean {
    return segment.lost || (segment.sends > 1 && nowMs - segment.sentMs < this.#fastestAnswerMs);
  }

  #takeBackLosses({ sends, lost }: Segment): void {
    this.#lossRatio = Math.max(0, this.#lossRatio - lossWeight * (lost ? sends : sends - 1));
  }

  get #fastestAnswerMs(): number {
    return this.#srttMs === undefined ? 0 : this.#minRttMs;
  }

  #isOvertaken(segment: Segment): boolean {
    return segment.sentMs < this.#rackMs || (segment.sentMs === this.#rackMs && segment.seq < this.#rackSeq);
  }

  #handleRto(nowMs: number): void {
    const rtoMs = this.#backedOffRtoMs();
    for (const segment of this.#inFlight) {
      if (!segment.lost && segment.sentMs + rtoMs <= nowMs) this.#markLost(segment);
    }
    this.#backoff *= 2;
  }

  #backedOffRtoMs(): number {
    return Math.min(maxRtoMs, this.rtoMs * this.#backoff);
  }

  #markLost(segment: Segment): void {
    segment.lost = true;
    this.#lostCount += 1;
    this.#lossRatio += lossWeight;
    // One reduction per window's worth of losses (RFC 6582's "recover").
    if (segment.seq < this.#recoverySeq) return;
    this.#recoverySeq = this.#inFlight.at(-1)!.seq + 1;
    this.#window = Math.max(minWindow, this.#window / 2);
  }

  #armTimer(nowMs: number): void {
    let timerMs = Number.POSITIVE_INFINITY;
    const waitMs = this.#reorderMs();
    const rtoMs = this.#backedOffRtoMs();
    for (const segment of this.#inFlight) {
      if (segment.lost) continue;
      const dueMs = segment.sentMs + (this.#isOvertaken(segment) ? waitMs : rtoMs);
      if (dueMs < timerMs) timerMs = dueMs;
    }
    this.#lossTimerMs = Math.max(timerMs, nowMs);
  }
}

function isAcked(seq: number, cumulative: number, bitmapHigh: number, bitmapLow: number): boolean {
  if (seq < cumulative) return true;
  const bit = seq - cumulative - 1;
  if (bit < 0 || bit > 63) return false;
  return bit < 32 ? ((bitmapHigh >>> (31 - bit)) & 1) === 1 : ((bitmapLow >>> (63 - bit)) & 1) === 1;
}
