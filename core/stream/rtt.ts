/** Round trip time: smoothed value and variation as in RFC 9002 §5.3, in milliseconds. */

/** Assumed before the first sample (RFC 9002 §6.2.2). */
const INITIAL_RTT_MS = 333;

export class RttEstimator {
  smoothedMs: number | undefined;
  variationMs = INITIAL_RTT_MS / 2;
  latestMs = 0;
  minMs: number | undefined;

  /** `rttMs` from sending to the ACK, of which the peer says it waited `ackDelayMs`. Returns the adjusted sample. */
  sample(rttMs: number, ackDelayMs: number): number {
    const min = this.minMs === undefined || rttMs < this.minMs ? rttMs : this.minMs;
    this.minMs = min;
    // A peer can't make the path look shorter than the shortest sample.
    const adjusted = rttMs - ackDelayMs >= min ? rttMs - ackDelayMs : rttMs;
    this.latestMs = adjusted;
    if (this.smoothedMs === undefined) {
      this.smoothedMs = adjusted;
      this.variationMs = adjusted / 2;
    } else {
      this.variationMs = 0.75 * this.variationMs + 0.25 * Math.abs(this.smoothedMs - adjusted);
      this.smoothedMs = 0.875 * this.smoothedMs + 0.125 * adjusted;
    }
    return adjusted;
  }

  get expectedMs(): number {
    return this.smoothedMs ?? INITIAL_RTT_MS;
  }
}
