/** Which of the peer's packets have arrived, and when to say so. An ACK costs a whole cell over all hops. */
import { RangeSet } from './ranges.ts';

const MAX_RANGES = 512;
/** Packets that one ACK answers in bulk. */
const ACK_EVERY = 32;
const MAX_DELAY_MS = 5;
/** Where round trips are shorter, an answer that can carry the ACK is still given time to come. */
const MIN_DELAY_MS = 1;
/** The peer has no round trip time yet: the first packets are acknowledged at once. */
const IMMEDIATE_PACKETS = 2;
const PRUNE_DELAY_MS = 100;
/**
 * An ACK delay of this and more says that what it leaves out of all that was sent is lost: the way was interrupted
 * (docs/protocol.md §5.5). Real delays are told as less.
 */
export const INTERRUPTION_US = 2 ** 26;

export class AckTracker {
  readonly ranges = new RangeSet(MAX_RANGES);
  /** Packets that ask for an ACK and have none yet. */
  pending = 0;
  /** Send one now, whatever else. */
  now = false;
  /** The next ACK says that the way was interrupted, and now works again. */
  interrupted = false;
  #deadlineMs = Number.POSITIVE_INFINITY;
  #eliciting = 0;
  #largest = -1;
  #largestAtMs = 0;
  #pruneBelow = 0;
  #pruneAtMs = 0;

  /** Seen before, or forgotten long ago and then harmless. */
  isDuplicate(packetNumber: number): boolean {
    return packetNumber <= this.#largest && this.ranges.has(packetNumber);
  }

  onPacket(packetNumber: number, eliciting: boolean, nowMs: number, rttMs: number): void {
    this.ranges.insert(packetNumber, packetNumber + 1);
    if (packetNumber > this.#largest) {
      this.#largest = packetNumber;
      this.#largestAtMs = nowMs;
    }
    if (!eliciting) return;
    this.#eliciting++;
    this.pending++;
    if (this.pending >= ACK_EVERY || this.#eliciting <= IMMEDIATE_PACKETS) this.now = true;
    else if (this.pending === 1) this.#deadlineMs = nowMs + Math.max(MIN_DELAY_MS, Math.min(MAX_DELAY_MS, rttMs / 4));
  }

  due(nowMs: number): boolean {
    return (this.now && this.ranges.count > 0) || nowMs >= this.#deadlineMs;
  }

  get deadlineMs(): number {
    return this.now && this.ranges.count > 0 ? Number.NEGATIVE_INFINITY : this.#deadlineMs;
  }

  delayUs(nowMs: number): number {
    if (this.interrupted) return INTERRUPTION_US;
    return Math.min(INTERRUPTION_US - 1, Math.max(0, Math.round((nowMs - this.#largestAtMs) * 1000)));
  }

  get largest(): number {
    return this.#largest;
  }

  onAckSent(): void {
    this.pending = 0;
    this.now = false;
    this.interrupted = false;
    this.#deadlineMs = Number.POSITIVE_INFINITY;
  }

  /**
   * The peer has our ACK up to `largest`: no need to repeat what lies below (RFC 9000 §13.2.4). Stragglers below it may
   * have arrived after that ACK was written, so ranges are forgotten some round trips later.
   */
  onAckAcked(largest: number, nowMs: number, rttMs: number): void {
    if (nowMs < this.#pruneAtMs) return;
    this.ranges.removeBelow(this.#pruneBelow);
    this.#pruneBelow = largest;
    this.#pruneAtMs = nowMs + PRUNE_DELAY_MS + 2 * rttMs;
  }
}
