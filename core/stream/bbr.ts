/**
 * BBR (draft-cardwell-iccrg-bbr-congestion-control-00, with the aggregation allowance of Linux): the window and the
 * pacing rate follow a model of the path, its bandwidth (windowed maximum of the delivery rate) and its round trip
 * time (windowed minimum). Random loss alone changes neither. Two things are added (docs/adr/0034-congestion-and-loss.md):
 * as much as the path loses by itself is sent on top, and packets that a full queue drops bound the window (after BBR
 * version 3, draft-ietf-ccwg-bbr).
 */
import type { AckSample, CongestionController } from './congestion.ts';

const INITIAL_WINDOW = 64;
const MIN_WINDOW = 4;
const HIGH_GAIN = 2.885;
const WINDOW_GAIN = 2;
const BANDWIDTH_ROUNDS = 10;
const MIN_RTT_AGE_MS = 10_000;
const PROBE_RTT_MS = 200;
const PACING_CYCLE = [1.25, 0.75, 1, 1, 1, 1, 1, 1] as const;
/** Below this round trip time, event loops and timers and not the path decide how long a packet takes. */
const LOCAL_RTT_MS = 5;
/** From this rate on (about 90 Mbit/s), pacing on a local path would only wait for timers that are too coarse. */
const LOCAL_RATE = 10;
/** What a local path may have in flight beyond the model: a few late wake-ups at full speed. */
const LOCAL_QUEUE_MS = 8;
/** Sanity floor while no loss is seen, as far as it is no more than so much queue. */
const LOSSLESS_WINDOW = 256;
const LOSSLESS_QUEUE_MS = 40;
/** Losing this share of a round in start-up means that a queue is full that can't be seen, whatever the rate still does. */
const STARTUP_LOSS = 0.5;
const STARTUP_LOSS_PACKETS = 16;
/** A whole round of start-up spent behind a queue, and no faster by so much than the round before: the pipe is full. */
const STARTUP_QUEUED_GROWTH = 1.5;
/**
 * Of the share that the path loses by itself, so much is made up for, up to so large a share. Not all of it: where a shallow
 * queue drops packets before it can be seen as a queue, each cycle then begins lower than the one before.
 */
const LOSS_MADE_UP = 0.65;
const MAX_LOSS_MADE_UP = 0.3;
/** Of a round, dropped by a queue: too much was under way; the window stays below by so much. */
const QUEUE_LOSS = 0.02;
const QUEUE_LOSS_PACKETS = 3;
const QUEUE_BACKOFF = 0.85;
const LOSS_MEMORY_MS = 10_000;

type Phase = 'startup' | 'drain' | 'probeBandwidth' | 'probeRtt';

export class Bbr implements CongestionController {
  windowPackets = INITIAL_WINDOW;
  pacingRate = Number.POSITIVE_INFINITY;
  #phase: Phase = 'startup';
  #round = 0;
  #roundEnd = 0;
  #pacingGain = HIGH_GAIN;
  #windowGain = HIGH_GAIN;
  #bandwidth = new WindowedMax();
  #minRttMs = Number.POSITIVE_INFINITY;
  #minRttAtMs = 0;
  #fullBandwidth = 0;
  #fullRounds = 0;
  #filled = false;
  #cycle = 2;
  #cycleAtMs = 0;
  #probeRttEndMs = -1;
  #probeRttRound = 0;
  #windowBeforeProbe = 0;
  #extraAcked = new WindowedMax();
  #epochAtMs = 0;
  #epochAcked = 0;
  #lastLossMs = Number.NEGATIVE_INFINITY;
  /** What more is sent than is to arrive, as a factor. */
  #lossGain = 1;
  /** What a queue has not been able to hold, and how fast it may grow again. */
  #ceiling = Number.POSITIVE_INFINITY;
  #ceilingStep = 1;
  readonly #roundTotals = { ackedPackets: 0, lostPackets: 0, queueLosses: 0, inFlight: 0, queued: true };

  get deliveryRate(): number {
    return this.#bandwidth.value;
  }

  get phase(): string {
    return this.#phase;
  }

  onAck(sample: AckSample): void {
    if (sample.lostPackets > 0) this.#lastLossMs = sample.nowMs;
    const newRound = this.#updateRound(sample);
    this.#updateBandwidth(sample);
    this.#updateAggregation(sample, newRound);
    this.#lossGain = 1 / (1 - Math.min(MAX_LOSS_MADE_UP, LOSS_MADE_UP * sample.lossRatio));
    this.#addToRound(sample);
    if (!this.#filled) this.#checkOverflow();
    if (newRound) {
      if (!this.#filled) this.#checkFull(sample);
      if (this.#filled) this.#updateCeiling();
      this.#beginRound();
    }
    this.#advance(sample);
    this.#updateMinRtt(sample);
    this.#setPacing(sample);
    this.#setWindow(sample);
  }

  onPersistentTimeout(): void {
    this.windowPackets = Math.max(MIN_WINDOW, Math.min(this.windowPackets, INITIAL_WINDOW));
  }

  #updateRound(sample: AckSample): boolean {
    if (sample.priorDelivered < this.#roundEnd) return false;
    this.#roundEnd = sample.delivered;
    this.#round++;
    return true;
  }

  #addToRound(sample: AckSample): void {
    const totals = this.#roundTotals;
    totals.ackedPackets += sample.ackedPackets;
    totals.lostPackets += sample.lostPackets;
    if (sample.queued) totals.queueLosses += sample.lostPackets;
    totals.inFlight = Math.max(totals.inFlight, sample.priorInFlight);
    totals.queued &&= sample.queued;
  }

  #beginRound(): void {
    const totals = this.#roundTotals;
    totals.ackedPackets = 0;
    totals.lostPackets = 0;
    totals.queueLosses = 0;
    totals.inFlight = 0;
    totals.queued = true;
  }

  /** Down when a queue has dropped packets; up again, faster with each round without that, as long as it is what limits. */
  #updateCeiling(): void {
    const { ackedPackets, lostPackets, queueLosses, inFlight } = this.#roundTotals;
    if (queueLosses >= QUEUE_LOSS_PACKETS && queueLosses > QUEUE_LOSS * (ackedPackets + lostPackets)) {
      const most = Math.min(this.#ceiling, inFlight);
      this.#ceiling = Math.max(MIN_WINDOW, this.#bdp(1), QUEUE_BACKOFF * most);
      this.#ceilingStep = 1;
    } else if (inFlight >= this.#ceiling - this.#ceilingStep) {
      this.#ceiling += this.#ceilingStep;
      this.#ceilingStep *= 2;
    }
  }

  #updateBandwidth(sample: AckSample): void {
    // A sample over less than a round trip comes from ACKs that arrived in one bunch.
    if (sample.intervalMs <= 0 || sample.intervalMs < this.#minRttMs) return;
    const rate = (sample.delivered - sample.priorDelivered) / sample.intervalMs;
    if (rate >= this.#bandwidth.value || !sample.appLimited) {
      this.#bandwidth.update(rate, this.#round, BANDWIDTH_ROUNDS);
    }
  }

  /** How far ACKs run ahead of the estimated bandwidth: what has to be in flight besides the model's window. */
  #updateAggregation(sample: AckSample, newRound: boolean): void {
    const expected = this.#bandwidth.value * (sample.nowMs - this.#epochAtMs);
    if (this.#epochAcked <= expected) {
      this.#epochAtMs = sample.nowMs;
      this.#epochAcked = sample.ackedPackets;
    } else {
      this.#epochAcked += sample.ackedPackets;
    }
    const extra = Math.min(
      this.#epochAcked - this.#bandwidth.value * (sample.nowMs - this.#epochAtMs),
      this.windowPackets,
      Math.max(64, this.#bandwidth.value * 100),
    );
    if (newRound || extra > this.#extraAcked.value) this.#extraAcked.update(extra, this.#round, BANDWIDTH_ROUNDS);
  }

  /** What is dropped in start-up is dropped at nearly three times the rate: not a moment longer than can be seen. */
  #checkOverflow(): void {
    const { ackedPackets, lostPackets, queueLosses } = this.#roundTotals;
    const packets = ackedPackets + lostPackets;
    this.#filled =
      (queueLosses >= STARTUP_LOSS_PACKETS && queueLosses > QUEUE_LOSS * packets) ||
      (lostPackets >= STARTUP_LOSS_PACKETS && lostPackets > STARTUP_LOSS * packets && packets >= INITIAL_WINDOW);
  }

  #checkFull(sample: AckSample): void {
    if (sample.appLimited) return;
    if (this.#roundTotals.queued && this.#bandwidth.value < this.#fullBandwidth * STARTUP_QUEUED_GROWTH) {
      this.#filled = true;
      return;
    }
    if (this.#bandwidth.value >= this.#fullBandwidth * 1.25) {
      this.#fullBandwidth = this.#bandwidth.value;
      this.#fullRounds = 0;
    } else if (++this.#fullRounds >= 3) {
      this.#filled = true;
    }
  }

  #advance(sample: AckSample): void {
    if (this.#phase === 'startup' && this.#filled) {
      this.#phase = 'drain';
      this.#pacingGain = 1 / HIGH_GAIN;
      this.#windowGain = HIGH_GAIN;
    }
    // Nothing drains by pacing where nothing is paced.
    if (this.#phase === 'drain' && (this.#local || sample.inFlight <= this.#bdp(1))) {
      this.#enterProbeBandwidth(sample.nowMs);
    }
    if (this.#phase !== 'probeBandwidth') return;
    const elapsed = sample.nowMs - this.#cycleAtMs > this.#minRttMs;
    const gain = PACING_CYCLE[this.#cycle]!;
    const next =
      gain === 1
        ? elapsed
        : gain > 1
          ? elapsed && this.#hasProbed(sample, gain)
          : elapsed || sample.inFlight <= this.#bdp(1);
    if (!next) return;
    this.#cycle = (this.#cycle + 1) % PACING_CYCLE.length;
    this.#cycleAtMs = sample.nowMs;
    this.#pacingGain = PACING_CYCLE[this.#cycle]!;
  }

  #hasProbed(sample: AckSample, gain: number): boolean {
    const { priorInFlight } = sample;
    return (sample.queued && sample.lostPackets > 0) || priorInFlight >= Math.min(this.#bdp(gain), this.windowPackets);
  }

  #enterProbeBandwidth(nowMs: number): void {
    this.#phase = 'probeBandwidth';
    this.#windowGain = WINDOW_GAIN;
    // Sessions that started together do not all probe together.
    this.#cycle = 2 + (this.#round % 6);
    this.#cycleAtMs = nowMs;
    this.#pacingGain = 1;
  }

  #updateMinRtt(sample: AckSample): void {
    const { nowMs } = sample;
    const expired = nowMs > this.#minRttAtMs + MIN_RTT_AGE_MS;
    if (sample.rttMs >= 0 && (sample.rttMs <= this.#minRttMs || expired)) {
      this.#minRttMs = sample.rttMs;
      this.#minRttAtMs = nowMs;
    }
    if (expired && this.#phase === 'probeBandwidth') {
      this.#phase = 'probeRtt';
      this.#pacingGain = 1;
      this.#windowBeforeProbe = this.windowPackets;
      this.#probeRttEndMs = -1;
    }
    if (this.#phase !== 'probeRtt') return;
    if (this.#probeRttEndMs < 0) {
      if (sample.inFlight > this.#probeRttWindow()) return;
      this.#probeRttEndMs = nowMs + Math.min(PROBE_RTT_MS, 10 * this.#minRttMs);
      this.#probeRttRound = this.#round + 1;
    } else if (nowMs >= this.#probeRttEndMs && this.#round >= this.#probeRttRound) {
      this.#minRttAtMs = nowMs;
      this.windowPackets = Math.max(this.windowPackets, this.#windowBeforeProbe);
      this.#enterProbeBandwidth(nowMs);
    }
  }

  #probeRttWindow(): number {
    return Math.max(MIN_WINDOW, 0.5 * this.#bandwidth.value * this.#minRttMs);
  }

  #setPacing(sample: AckSample): void {
    const bandwidth = this.#bandwidth.value;
    if (bandwidth === 0 || this.#local) {
      this.pacingRate = Number.POSITIVE_INFINITY;
      return;
    }
    // Until the pipe is full, what the application had to send says little about the path.
    const floor = this.#filled ? 0 : INITIAL_WINDOW / Math.max(sample.smoothedRttMs, 1);
    const rate = this.#pacingGain * Math.max(bandwidth, floor) * this.#lossGain;
    if (this.#filled || rate > this.pacingRate || this.pacingRate === Number.POSITIVE_INFINITY) this.pacingRate = rate;
  }

  #setWindow(sample: AckSample): void {
    if (this.#minRttMs === Number.POSITIVE_INFINITY) {
      // Not even a round trip time is known: there is no model yet.
      this.windowPackets += sample.ackedPackets;
      return;
    }
    const target = this.#target(sample);
    let window = this.windowPackets;
    if (this.#filled) window = Math.min(window + sample.ackedPackets, target);
    else if (window < target || sample.delivered < INITIAL_WINDOW) window += sample.ackedPackets;
    const lossless = sample.nowMs - this.#lastLossMs > LOSS_MEMORY_MS;
    window = Math.min(window, this.#ceiling);
    const wanted = lossless && (this.#filled || this.#local) ? this.#bandwidth.value * LOSSLESS_QUEUE_MS : 0;
    // Where timers are longer than the round trip, a handful of packets in flight would only wait for them.
    const least = this.#minRttMs < LOCAL_RTT_MS ? INITIAL_WINDOW : MIN_WINDOW;
    const floor = Math.max(least, Math.min(LOSSLESS_WINDOW, wanted));
    window = Math.max(window, floor);
    if (this.#phase === 'probeRtt') window = Math.min(window, this.#probeRttWindow());
    this.windowPackets = Math.floor(window);
  }

  #target(sample: AckSample): number {
    const bandwidth = this.#bandwidth.value;
    let model = bandwidth * this.#minRttMs * this.#windowGain * this.#lossGain + this.#extraAcked.value;
    if (this.#local) {
      // The time between wake-ups is part of the round trip here, though the smallest samples miss it.
      const roundMs = Math.min(WINDOW_GAIN * sample.smoothedRttMs, LOCAL_QUEUE_MS);
      model = Math.min(Math.max(model, bandwidth * roundMs), bandwidth * (LOCAL_QUEUE_MS + this.#minRttMs));
    }
    return Math.max(this.#filled ? MIN_WINDOW : INITIAL_WINDOW, model + 3);
  }

  get #local(): boolean {
    return this.#minRttMs < LOCAL_RTT_MS && this.#bandwidth.value >= LOCAL_RATE;
  }

  #bdp(gain: number): number {
    return this.#bandwidth.value * this.#minRttMs * gain * this.#lossGain + 3;
  }
}

/** Maximum over a window of rounds, by three samples (Kathleen Nichols' algorithm, as in Linux lib/win_minmax.c). */
class WindowedMax {
  #values = [0, 0, 0];
  #rounds = [0, 0, 0];

  get value(): number {
    return this.#values[0]!;
  }

  update(value: number, round: number, window: number): void {
    const v = this.#values;
    const r = this.#rounds;
    if (value >= v[0]! || round - r[2]! > window) {
      v[0] = v[1] = v[2] = value;
      r[0] = r[1] = r[2] = round;
      return;
    }
    if (value >= v[1]!) {
      v[1] = v[2] = value;
      r[1] = r[2] = round;
    } else if (value >= v[2]!) {
      v[2] = value;
      r[2] = round;
    }
    if (round - r[0]! > window) {
      v[0] = v[1]!;
      r[0] = r[1]!;
      v[1] = v[2]!;
      r[1] = r[2]!;
      v[2] = value;
      r[2] = round;
      if (round - r[0]! > window) {
        v[0] = v[1]!;
        r[0] = r[1]!;
        v[1] = v[2]!;
        r[1] = r[2]!;
      }
    } else if (r[1] === r[0] && round - r[0]! > window / 4) {
      v[1] = v[2] = value;
      r[1] = r[2] = round;
    } else if (r[2] === r[1] && round - r[1]! > window / 2) {
      v[2] = value;
      r[2] = round;
    }
  }
}
