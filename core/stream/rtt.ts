/**
 * Round trip time: smoothed value and variation as in RFC 9002 §5.3, in milliseconds. On a circuit of class mix every
 * packet has a round trip time of its own, and the newest one acknowledged is one that overtook others: there, mean and
 * standard deviation are taken over all packets.
 */

/** Assumed before the first sample (RFC 9002 §6.2.2). */
const INITIAL_RTT_MS = 333;
/** Packets over which mean and deviation are taken where all packets count, about. */
const MIXED_PACKETS = 128;

/** The shortest round trip of the last one to two such spans counts: the path may become another. */
const FLOOR_SPAN_MS = 10_000;
/** A round trip that is so much longer than the shortest has met a queue. */
const MIN_QUEUE_MS = 8;
const QUEUE_SHARE = 1 / 8;
const QUEUE_DEVIATIONS = 2;

export class RttEstimator {
  smoothedMs: number | undefined;
  variationMs: number;
  latestMs = 0;
  minMs: number | undefined;
  #initialMs: number;
  #samples = 0;
  #variance = 0;
  #floorMs = Number.POSITIVE_INFINITY;
  #pastFloorMs = Number.POSITIVE_INFINITY;
  #floorSinceMs = 0;
  #setupMs = Number.POSITIVE_INFINITY;

  /** @param addedMs what is known to come on top of the usual before anything is measured. */
  constructor(addedMs = 0) {
    this.#initialMs = INITIAL_RTT_MS + addedMs;
    this.variationMs = this.#initialMs / 2;
  }

  /**
   * Nothing has been measured yet, but a set-up, which takes several ways and public-key work besides, took this long: the
   * round trip takes no longer. What is lost of the first packets then waits for two of those and not for a second.
   */
  noteSetup(setupMs: number): void {
    this.#setupMs = Math.min(this.#setupMs, setupMs);
    if (this.smoothedMs !== undefined || setupMs >= this.#initialMs) return;
    this.#initialMs = setupMs;
    this.variationMs = setupMs / 4;
  }

  /** Class mix: one packet's time from sending to its ACK. `variationMs` is the standard deviation. */
  sampleMixed(rttMs: number): void {
    if (this.minMs === undefined || rttMs < this.minMs) this.minMs = rttMs;
    if (this.smoothedMs === undefined) {
      this.smoothedMs = rttMs;
      this.#variance = (rttMs / 2) ** 2;
    }
    const gain = 1 / Math.min(++this.#samples + 1, MIXED_PACKETS);
    const off = rttMs - this.smoothedMs;
    this.smoothedMs += gain * off;
    this.#variance += gain * (off * off - this.#variance);
    this.variationMs = Math.sqrt(this.#variance);
    this.latestMs = this.smoothedMs;
  }

  /** `rttMs` from sending to the ACK, of which the peer says it waited `ackDelayMs`. Returns the adjusted sample. */
  sample(rttMs: number, ackDelayMs: number, nowMs: number): number {
    const min = this.minMs === undefined || rttMs < this.minMs ? rttMs : this.minMs;
    this.minMs = min;
    // A peer can't make the path look shorter than the shortest sample.
    const adjusted = rttMs - ackDelayMs >= min ? rttMs - ackDelayMs : rttMs;
    this.latestMs = adjusted;
    this.#noteFloor(adjusted, nowMs);
    if (this.smoothedMs === undefined) {
      this.smoothedMs = adjusted;
      this.variationMs = adjusted / 2;
    } else {
      this.variationMs = 0.75 * this.variationMs + 0.25 * Math.abs(this.smoothedMs - adjusted);
      this.smoothedMs = 0.875 * this.smoothedMs + 0.125 * adjusted;
    }
    return adjusted;
  }

  /**
   * Packets wait in a queue now: they take longer than the shortest of late, by more than they vary. Never on a circuit of
   * class mix, where a queue does not show.
   */
  get queued(): boolean {
    const floorMs = Math.min(this.#floorMs, this.#pastFloorMs);
    const variationMs = Math.min(QUEUE_DEVIATIONS * this.variationMs, floorMs);
    return this.latestMs > floorMs + Math.max(MIN_QUEUE_MS, QUEUE_SHARE * floorMs, variationMs);
  }

  /** What it takes when nothing waits in a queue, as far as that is known: at most this. Infinity on a circuit of class mix. */
  get unqueuedMs(): number {
    return this.#samples > 0
      ? Number.POSITIVE_INFINITY
      : Math.min(this.#setupMs, this.minMs ?? Number.POSITIVE_INFINITY);
  }

  #noteFloor(rttMs: number, nowMs: number): void {
    if (nowMs - this.#floorSinceMs > FLOOR_SPAN_MS) {
      this.#pastFloorMs = this.#floorMs;
      this.#floorMs = rttMs;
      this.#floorSinceMs = nowMs;
    } else if (rttMs < this.#floorMs) {
      this.#floorMs = rttMs;
    }
  }

  get expectedMs(): number {
    return this.smoothedMs ?? this.#initialMs;
  }
}
