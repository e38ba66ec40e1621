/** What the session needs of a congestion controller. All packets are of one size, so it counts packets. */

/** One ACK's effect. One object is reused for all of them: read it, don't keep it. */
export interface AckSample {
  nowMs: number;
  /** Packets newly acknowledged, and newly declared lost since the last sample. */
  ackedPackets: number;
  lostPackets: number;
  /** Packets wait in a queue now: it may be what loses them. */
  queued: boolean;
  /** Share of packets that the path loses by itself; 0 = nothing to speak of. */
  lossRatio: number;
  /** Packets in flight before and after. */
  priorInFlight: number;
  inFlight: number;
  /** Packets delivered in all, and when the newest acknowledged packet was sent. */
  delivered: number;
  priorDelivered: number;
  /** Time over which `delivered − priorDelivered` were delivered; 0 = no rate sample. */
  intervalMs: number;
  /** Round trip of the newest packet, peer's delay taken off; −1 = none. */
  rttMs: number;
  smoothedRttMs: number;
  /** The sender had nothing to send when that packet left. */
  appLimited: boolean;
}

export interface CongestionController {
  /** Packets that may be in flight. */
  readonly windowPackets: number;
  /** Packets per millisecond to send at; Infinity = as fast as the window allows. */
  readonly pacingRate: number;
  /** Estimated bandwidth, packets per millisecond; 0 = unknown. */
  readonly deliveryRate: number;
  onAck(sample: AckSample): void;
  /** Several probe time-outs in a row: the path may be gone. */
  onPersistentTimeout(): void;
}
