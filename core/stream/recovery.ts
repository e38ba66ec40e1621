/**
 * What happened to the packets sent: acknowledgement, loss by time (RACK, RFC 8985, with a reorder window that learns
 * from spurious retransmissions), tail probes (PTO, RFC 9002 §6.2), and the samples for congestion control.
 * All packets are of one size; everything counts packets.
 */

import { LossProcess } from '../fec/loss-process.ts';
import { Frame, type FrameDecoder } from '../wire/frames.ts';
import { INTERRUPTION_US } from './ack-tracker.ts';
import type { AckSample, CongestionController } from './congestion.ts';
import { RttEstimator } from './rtt.ts';
import { SentPackets } from './sent-packets.ts';

/** Owner of the frames: told per frame of a packet, in the order sent. */
export interface FrameOwner {
  onFrameAcked(kind: number, fin: boolean, length: number, id: number, offset: number): void;
  onFrameLost(kind: number, fin: boolean, length: number, id: number, offset: number): void;
}

export const AckResult = { ok: 0, neverSent: 1 } as const;
export type AckResult = (typeof AckResult)[keyof typeof AckResult];

/** Timers are not finer, and a busy event loop reorders as much. */
const GRANULARITY_MS = 2;
const MIN_PROBE_MS = 20;
const QUIET_MS = 250;
const MAX_PROBE_MS = 3000;
const MAX_PEER_ACK_DELAY_MS = 25;
const PROBE_PACKETS = 2;
/**
 * Class mix: a packet is lost when it takes so many standard deviations longer than the mean. Of sums of ten exponential
 * times, 3 in 10 000 do.
 */
const MIXED_DEVIATIONS = 4.5;
const PERSISTENT_TIMEOUTS = 3;
/** Time-outs in a row that are no accident. */
const SILENT_TIMEOUTS = 2;
/** Time without a spurious retransmission after which the reorder window shrinks. */
const REORDER_DECAY_MS = 5000;
/** A timer that comes this late was not the only thing that had to wait. */
export const STALL_MS = 5;

export class Recovery {
  readonly rtt: RttEstimator;
  readonly sent = new SentPackets();
  readonly congestion: CongestionController;
  inFlight = 0;
  packetsSent = 0;
  packetsLost = 0;
  spurious = 0;
  /** Other paths can carry what is under way: silence is believed sooner, since being wrong costs a repetition and no wait. */
  backedUp = false;
  /** Probes that may leave whatever the window says. */
  probes = 0;
  /** Something was acknowledged after giveUp(). */
  heardSinceGivenUp = true;
  /** How packets are lost, as far as it is not a full queue that drops them. */
  readonly loss = new LossProcess();
  /** Repair symbols are on their way this long after their packets: so much longer is waited before frames go again. */
  repairMs = 0;
  readonly #owner: FrameOwner;
  readonly #mixed: boolean;
  #largestAcked = -1;
  /** seq behind the largest acknowledged packet: what lies below may be lost. */
  #ackedEnd = 0;
  /** Below it every packet is acknowledged or declared lost. */
  #lossHead = 0;
  /** Below it all was given up once: what comes of that after all was not overtaken by anything. */
  #givenUpEnd = 0;
  #reorderMs = 0;
  #reorderAtMs = 0;
  #probeCount = 0;
  /** It was silent, and has said nothing of our packets since. */
  #wasSilent = false;
  /** Before this nobody is believed again that the way was interrupted. */
  #nextInterruptionMs = Number.NEGATIVE_INFINITY;
  /** Data was coming and comes no more, and the other end has been asked whether it lives, and has not said so yet. */
  quiet = false;
  #graceForMs = Number.NEGATIVE_INFINITY;
  #graceUntilMs = 0;
  #lastElicitingMs = 0;
  #delivered = 0;
  #deliveredMs = 0;
  #firstSentMs = 0;
  #appLimitedUntil = 0;
  #nowMs = 0;
  /** Losses that the congestion controller has not been told of. */
  #untoldLosses = 0;
  readonly #sample: AckSample = {
    nowMs: 0,
    ackedPackets: 0,
    lostPackets: 0,
    queued: false,
    lossRatio: 0,
    priorInFlight: 0,
    inFlight: 0,
    delivered: 0,
    priorDelivered: 0,
    intervalMs: 0,
    rttMs: -1,
    smoothedRttMs: 0,
    appLimited: false,
  };

  /** @param mixRttMs as in SessionOptions; 0 = packets mostly arrive in order. */
  constructor(owner: FrameOwner, congestion: CongestionController, mixRttMs = 0) {
    this.#mixed = mixRttMs > 0;
    this.rtt = new RttEstimator(mixRttMs);
    this.#owner = owner;
    this.congestion = congestion;
  }

  /** Probe time-outs since anything new was acknowledged. */
  get silentProbes(): number {
    return this.#probeCount;
  }

  get #isSilent(): boolean {
    return this.#wasSilent || this.#probeCount >= SILENT_TIMEOUTS;
  }

  get windowOpen(): boolean {
    return this.inFlight < this.congestion.windowPackets && !this.sent.full;
  }

  /** The frames added to `sent` went out as `packetNumber`. */
  onSent(packetNumber: number, eliciting: boolean, nowMs: number): void {
    this.packetsSent++;
    if (eliciting) {
      if (this.inFlight === 0) {
        this.#firstSentMs = nowMs;
        this.#deliveredMs = nowMs;
      }
      this.inFlight++;
      this.#lastElicitingMs = nowMs;
      if (this.probes > 0) this.probes--;
    }
    this.sent.push(
      packetNumber,
      nowMs,
      eliciting,
      this.#appLimitedUntil > 0,
      this.#delivered,
      this.#deliveredMs,
      this.#firstSentMs,
    );
    this.#evict(nowMs);
  }

  /** The window is open but there is nothing to send: rate samples until then understate the path. */
  onAppLimited(): void {
    this.#appLimitedUntil = Math.max(1, this.#delivered + this.inFlight);
  }

  onAck(ack: FrameDecoder, nowMs: number): AckResult {
    const { sent } = this;
    this.#nowMs = nowMs;
    const largest = ack.rangeHigh[0]!;
    if (largest > sent.largestNumber) return AckResult.neverSent;
    const sample = this.#sample;
    const ackDelayMs = ack.value / 1000;
    // The other end, too, has heard nothing for a while.
    const interrupted = ackDelayMs > Math.max(MAX_PEER_ACK_DELAY_MS, this.probeTimeoutMs());
    const silent = this.#isSilent;
    sample.ackedPackets = 0;
    sample.lostPackets = this.#untoldLosses;
    sample.priorInFlight = this.inFlight;
    sample.rttMs = -1;
    sample.intervalMs = 0;
    const headNumber = sent.head < sent.tail ? sent.numberAt(sent.head) : Number.POSITIVE_INFINITY;
    let newest = -1;
    /** Class mix: the newest that did not overtake most others. */
    let typical = -1;
    // Rising order: a stream's acknowledged bytes then join up as they come.
    for (let i = ack.rangeCount - 1; i >= 0; i--) {
      const high = ack.rangeHigh[i]!;
      if (high < headNumber) continue;
      const low = Math.max(ack.rangeLow[i]!, headNumber);
      const first = sent.lowerBound(low);
      const last = sent.lowerBound(high);
      // Every number of the range must be one we used: what was never sent can't have arrived.
      if (last - first !== high - low || sent.numberAt(last) !== high) return AckResult.neverSent;
      for (let seq = sent.nextUnsettled(first); seq <= last; seq = sent.nextUnsettled(seq + 1)) {
        if (!this.#settle(seq, nowMs)) continue;
        newest = seq;
        if (this.#mixed && nowMs - sent.sentMsAt(seq) >= this.rtt.expectedMs) typical = seq;
      }
    }
    if (newest >= 0) {
      this.heardSinceGivenUp = true;
      if (newest + 1 > this.#ackedEnd) this.#ackedEnd = newest + 1;
      this.#probeCount = 0;
      this.#wasSilent = false;
      this.quiet = false;
      this.probes = 0;
      if (this.#mixed) this.#takeMixedSample(typical, nowMs);
      else this.#takeSample(newest, interrupted ? -1 : largest, ackDelayMs, nowMs);
    }
    if (largest > this.#largestAcked) this.#largestAcked = largest;
    this.#detectLoss(nowMs);
    if (newest >= 0) this.#report(nowMs);
    // It says what it has got, and that no more is to come.
    if (interrupted && (silent || this.#isTold(ack.value, nowMs))) this.giveUp();
    this.#evict(nowMs);
    return AckResult.ok;
  }

  /** The other end's link has moved. Not without end: each time may cost a window that is sent again. */
  #isTold(delayUs: number, nowMs: number): boolean {
    if (delayUs < INTERRUPTION_US || nowMs < this.#nextInterruptionMs) return false;
    this.#nextInterruptionMs = nowMs + MIN_PROBE_MS;
    return true;
  }

  /** Absolute; Infinity = nothing to wait for. */
  nextTimeoutMs(): number {
    const dueMs = this.#dueMs();
    return dueMs === this.#graceForMs ? this.#graceUntilMs : dueMs;
  }

  #dueMs(): number {
    const lossMs = this.#lossDeadlineMs();
    if (lossMs !== Number.POSITIVE_INFINITY) return lossMs;
    if (this.inFlight === 0) return Number.POSITIVE_INFINITY;
    return this.#lastElicitingMs + this.#probeDelayMs();
  }

  /**
   * True when there is something new to send. A host that was stalled may have the answers in its sockets: what is
   * overdue by much waits until it has had the chance to read them.
   */
  handleTimeout(nowMs: number): boolean {
    this.#nowMs = nowMs;
    if (nowMs < this.nextTimeoutMs()) return false;
    const dueMs = this.#dueMs();
    if (nowMs > dueMs + STALL_MS && dueMs !== this.#graceForMs) {
      this.#graceForMs = dueMs;
      this.#graceUntilMs = nowMs + 1;
      return false;
    }
    if (this.#lossDeadlineMs() === Number.POSITIVE_INFINITY) {
      this.#probe(nowMs);
      return true;
    }
    this.#sample.lostPackets = 0;
    this.#detectLoss(nowMs);
    this.#untoldLosses += this.#sample.lostPackets;
    return this.#sample.lostPackets > 0;
  }

  /**
   * FEC_RECOVERED: the peer has put the packet together. It was lost all the same, for congestion control and for the
   * measurement of losses; but its frames have arrived. False: it was never sent.
   */
  onRecovered(packetNumber: number): boolean {
    const { sent } = this;
    if (packetNumber > sent.largestNumber) return false;
    const seq = sent.lowerBound(packetNumber);
    if (seq >= sent.tail || sent.numberAt(seq) !== packetNumber || sent.isSettled(seq)) return true;
    if (sent.isInFlight(seq)) {
      sent.markLost(seq);
      this.inFlight--;
      this.packetsLost++;
      this.#untoldLosses++;
    }
    const end = sent.frameEnd(seq);
    for (let frame = sent.frameStart(seq); frame < end; frame++) {
      const kind = sent.frameKind(frame);
      // Frames that mean the path were not taken in: an ACK that comes late would spoil round trip times, and a challenge
      // or its answer proves nothing on a detour.
      if (kind === Frame.attach || kind === Frame.pathChallenge || kind === Frame.pathResponse)
        this.#tellLost(frame, kind);
      else if (kind !== Frame.ack) this.#tellAcked(frame, kind);
    }
    return true;
  }

  /** All that is under way counts as lost: its frames go out again, on another path. */
  giveUp(): void {
    const { sent } = this;
    this.heardSinceGivenUp = false;
    // What was lost in silence says nothing of how the path loses packets when it works.
    this.#givenUpEnd = sent.tail;
    this.#lossHead = sent.tail;
    for (let seq = sent.nextUnsettled(sent.head); seq < sent.tail; seq = sent.nextUnsettled(seq + 1)) {
      if (!sent.isInFlight(seq)) continue;
      sent.markLost(seq);
      this.inFlight--;
      this.packetsLost++;
      this.#requeue(seq);
    }
  }

  /**
   * The other end can be reached again, or is heard again, after a silence that may have swallowed all that was under way:
   * it is asked at once, and not when the back-off would have it.
   */
  probeNow(nowMs: number): void {
    this.#nowMs = nowMs;
    this.#wasSilent = this.#isSilent;
    this.#probeCount = 0;
    if (this.inFlight > 0) this.#probe(nowMs);
  }

  /** Time in which an answer should have come. */
  probeTimeoutMs(): number {
    const { rtt } = this;
    return Math.max(
      MIN_PROBE_MS,
      rtt.expectedMs + Math.max((this.backedUp ? 2 : 4) * rtt.variationMs, GRANULARITY_MS) + 2 * GRANULARITY_MS,
    );
  }

  /**
   * Where data was coming, nothing for this long is a reason to ask, and no answer for this long is one to ask again. A round trip that was
   * long because of a queue says nothing here: the queue would still be delivering.
   */
  quietMs(): number {
    return QUIET_MS + 2 * this.rtt.unqueuedMs;
  }

  /** Returns true when the packet was in flight or counted as lost (a delivery), false for one that carried only an ACK. */
  #settle(seq: number, nowMs: number): boolean {
    const { sent } = this;
    const wasInFlight = sent.isInFlight(seq);
    const wasLost = sent.isLost(seq);
    sent.settle(seq);
    if (!sent.isEliciting(seq)) return false;
    if (this.#mixed) this.rtt.sampleMixed(nowMs - sent.sentMsAt(seq));
    if (wasInFlight) this.inFlight--;
    else if (wasLost) this.#onSpurious(seq, nowMs);
    this.#delivered++;
    this.#sample.ackedPackets++;
    const end = sent.frameEnd(seq);
    for (let frame = sent.frameStart(seq); frame < end; frame++) this.#tellAcked(frame, sent.frameKind(frame));
    return true;
  }

  #tellAcked(frame: number, kind: number): void {
    const { sent } = this;
    this.#owner.onFrameAcked(
      kind,
      sent.frameFlag(frame),
      sent.frameLength(frame),
      sent.frameId(frame),
      sent.frameOffset(frame),
    );
  }

  /** A packet declared lost was only late: from now on wait for as long as this one took. */
  #onSpurious(seq: number, nowMs: number): void {
    this.spurious++;
    if (seq < this.#givenUpEnd) return;
    this.loss.onSpurious();
    const late = nowMs - this.sent.sentMsAt(seq) - Math.max(this.rtt.expectedMs, this.rtt.latestMs);
    const limit = 2 * this.rtt.expectedMs + 10 * GRANULARITY_MS;
    this.#reorderMs = Math.max(this.#reorderMs, Math.min(late * 1.25, limit));
    this.#reorderAtMs = nowMs;
  }

  #takeSample(newest: number, largest: number, ackDelayMs: number, nowMs: number): void {
    const { sent } = this;
    const sample = this.#sample;
    this.#deliveredMs = nowMs;
    const sentMs = sent.sentMsAt(newest);
    if (sent.numberAt(newest) === largest) {
      sample.rttMs = this.rtt.sample(nowMs - sentMs, Math.min(ackDelayMs, MAX_PEER_ACK_DELAY_MS), nowMs);
    }
    this.#takeRate(newest, nowMs);
  }

  /**
   * Class mix: the mean round trip stands for the path's, of which the smallest one would be the luckiest packet's; and the
   * rate is measured over at least as long, as ACKs come in bunches here.
   */
  #takeMixedSample(typical: number, nowMs: number): void {
    this.#sample.rttMs = this.rtt.expectedMs;
    this.#sample.priorDelivered = -1;
    if (typical >= 0) this.#takeRate(typical, nowMs);
    this.#deliveredMs = nowMs;
  }

  #takeRate(newest: number, nowMs: number): void {
    const { sent } = this;
    const sample = this.#sample;
    const sentMs = sent.sentMsAt(newest);
    const sendMs = sentMs - sent.firstSentMsAt(newest);
    const ackMs = nowMs - sent.deliveredMsAt(newest);
    this.#firstSentMs = sentMs;
    sample.priorDelivered = sent.deliveredAt(newest);
    sample.intervalMs = Math.max(sendMs, ackMs);
    sample.appLimited = sent.isAppLimited(newest);
    if (this.#appLimitedUntil > 0 && this.#delivered > this.#appLimitedUntil) this.#appLimitedUntil = 0;
  }

  #report(nowMs: number): void {
    const sample = this.#sample;
    sample.nowMs = nowMs;
    sample.inFlight = this.inFlight;
    sample.delivered = this.#delivered;
    sample.smoothedRttMs = this.rtt.expectedMs;
    sample.queued = this.rtt.queued;
    sample.lossRatio = this.loss.ratio(nowMs);
    this.#untoldLosses = 0;
    this.congestion.onAck(sample);
  }

  /** How long after sending a packet is lost, once a later one was acknowledged. */
  #lossDelayMs(): number {
    const { rtt } = this;
    const repairMs = this.repairMs;
    const base = Math.max(rtt.expectedMs, rtt.latestMs);
    if (this.#mixed)
      return base + Math.max(MIXED_DEVIATIONS * rtt.variationMs, GRANULARITY_MS, this.#reorderMs, repairMs);
    return base + Math.max(base / 8, 3 * Math.min(rtt.variationMs, base), GRANULARITY_MS, this.#reorderMs, repairMs);
  }

  #advanceLossHead(): void {
    const { sent } = this;
    const { queued } = this.rtt;
    let seq = Math.max(this.#lossHead, sent.head);
    while (seq < this.#ackedEnd) {
      const next = Math.min(sent.nextUnsettled(seq), this.#ackedEnd);
      if (!queued) this.loss.onArrived(next - seq);
      seq = next;
      if (seq >= this.#ackedEnd || sent.isInFlight(seq)) break;
      // What a full queue dropped says nothing of the path, and repair symbols would only fill the queue more.
      if (!queued && sent.isLost(seq)) this.loss.onLost(this.#nowMs);
      seq++;
    }
    // What was given up lies behind it even before anything later is acknowledged.
    this.#lossHead = Math.max(this.#lossHead, Math.min(seq, this.#ackedEnd));
  }

  #lossDeadlineMs(): number {
    this.#advanceLossHead();
    if (this.#lossHead >= this.#ackedEnd) return Number.POSITIVE_INFINITY;
    return this.sent.sentMsAt(this.#lossHead) + this.#lossDelayMs();
  }

  #detectLoss(nowMs: number): void {
    if (this.#reorderMs > 0 && nowMs > this.#reorderAtMs + REORDER_DECAY_MS) {
      this.#reorderMs = this.#reorderMs < 0.5 ? 0 : this.#reorderMs * 0.75;
      this.#reorderAtMs = nowMs;
    }
    // The very sum that lossDeadlineMs gives: rounded another way, a packet could be due and yet not lost, for ever.
    const delayMs = this.#lossDelayMs();
    for (;;) {
      this.#advanceLossHead();
      const seq = this.#lossHead;
      if (seq >= this.#ackedEnd || this.sent.sentMsAt(seq) + delayMs > nowMs) return;
      this.sent.markLost(seq);
      this.inFlight--;
      this.packetsLost++;
      this.#sample.lostPackets++;
      this.#requeue(seq);
    }
  }

  #requeue(seq: number): void {
    const { sent } = this;
    const end = sent.frameEnd(seq);
    for (let frame = sent.frameStart(seq); frame < end; frame++) this.#tellLost(frame, sent.frameKind(frame));
  }

  #tellLost(frame: number, kind: number): void {
    const { sent } = this;
    this.#owner.onFrameLost(
      kind,
      sent.frameFlag(frame),
      sent.frameLength(frame),
      sent.frameId(frame),
      sent.frameOffset(frame),
    );
  }

  #probeDelayMs(): number {
    const firstMs = this.quiet ? Math.min(this.probeTimeoutMs(), this.quietMs()) : this.probeTimeoutMs();
    return Math.max(firstMs, Math.min(MAX_PROBE_MS, firstMs * 2 ** Math.min(this.#probeCount, 10)));
  }

  /** Nothing was heard of the newest packets: the oldest ones go again, beyond the window. */
  #probe(nowMs: number): void {
    const { sent } = this;
    this.#probeCount++;
    this.#lastElicitingMs = nowMs;
    this.probes = PROBE_PACKETS;
    if (this.#probeCount === PERSISTENT_TIMEOUTS) this.congestion.onPersistentTimeout();
    let left = PROBE_PACKETS;
    for (let seq = sent.nextUnsettled(sent.head); seq < sent.tail && left > 0; seq = sent.nextUnsettled(seq + 1)) {
      // A repair symbol is not repeated: as a probe it would bring nothing.
      if (!sent.isInFlight(seq) || sent.frameKind(sent.frameStart(seq)) === Frame.fecRepair) continue;
      this.#requeue(seq);
      left--;
    }
  }

  /** Forgets what is settled, and lost packets once their ACK can't be on its way any more. */
  #evict(nowMs: number): void {
    const { sent } = this;
    while (sent.head < sent.tail) {
      const seq = sent.head;
      if (sent.isInFlight(seq)) return;
      if (sent.isLost(seq) && !sent.isSettled(seq) && !sent.full) {
        // Much of what a silence has cut off may have arrived: its ACK is still to come, and saves sending it again.
        if (!this.heardSinceGivenUp) return;
        if (nowMs < sent.sentMsAt(seq) + 3 * this.#lossDelayMs() + 100) return;
      }
      sent.dropHead();
    }
  }
}
