/**
 * One direction of a host's access line: what happens to a packet that enters it, on virtual time. In this order: a queue
 * in front of a serialiser of some rate (tail drop), loss, delay with jitter, reordering, duplication.
 */

export interface Impairment {
  /** One way. */
  readonly delayMs?: number;
  /** Comes on top: up to so much, changing slowly (`JITTER_STEP_MS`), so that it does not reorder by itself. */
  readonly jitterMs?: number;
  /** Share of packets that get lost, 0…1. */
  readonly lossShare?: number;
  /**
   * Above 1, losses come in bursts (Gilbert–Elliott; the good state loses nothing): the bad state lasts so many packets on
   * average.
   */
  readonly lossBurstPackets?: number;
  /** The same by time: for so long on average nothing gets through, however much or little is sent. Not with lossBurstPackets. */
  readonly lossBurstMs?: number;
  /** Of Gilbert–Elliott: share lost in the bad state, more than `lossShare`. */
  readonly badStateLossShare?: number;
  /** Share of packets that come `reorderMs` late, so that later ones overtake them. */
  readonly reorderShare?: number;
  readonly reorderMs?: number;
  /** Share of packets that come twice. */
  readonly duplicateShare?: number;
  /** Bits per second / 1e6; without it the line takes no time to send. */
  readonly rateMbit?: number;
  /** Bytes that may wait for the line, with a rate. */
  readonly queueBytes?: number;
}

export interface LineCounts {
  packets: number;
  bytes: number;
  lost: number;
  queueDrops: number;
  reordered: number;
  duplicated: number;
}

/** How often jitter draws anew; in between it slides. */
export const JITTER_STEP_MS = 20;
const DEFAULT_QUEUE_BYTES = 256 * 1024;
const DEFAULT_REORDER_MS = 10;

type Settings = Required<Impairment>;

export class ImpairedLine {
  readonly counts: LineCounts = { packets: 0, bytes: 0, lost: 0, queueDrops: 0, reordered: 0, duplicated: 0 };
  /** When the packet of the last `admit` comes out, and its copy. */
  readonly exitMs = new Float64Array(2);
  readonly #random: () => number;
  #is: Settings;
  #bad = false;
  /** With lossBurstMs: when that changes. */
  #turnsMs = Number.NEGATIVE_INFINITY;
  #busyUntilMs = 0;
  #lastExitMs = 0;
  #jitterAtMs = Number.NEGATIVE_INFINITY;
  #jitterFrom = 0;
  #jitterTo = 0;

  /** Throws RangeError for shares and sizes that can't be. */
  constructor(impairment: Impairment, random: () => number) {
    this.#random = random;
    this.#is = settingsOf(impairment);
  }

  /** What is under way goes on as it was. */
  change(impairment: Impairment): void {
    this.#is = settingsOf(impairment);
    this.#bad = false;
    this.#turnsMs = Number.NEGATIVE_INFINITY;
  }

  /** A packet comes at `nowMs`, which never goes back. Returns how many come out, 0…2; `exitMs` says when. */
  admit(nowMs: number, sizeBytes: number): number {
    const { counts } = this;
    const is = this.#is;
    counts.packets++;
    counts.bytes += sizeBytes;
    let atMs = nowMs;
    if (is.rateMbit < Number.POSITIVE_INFINITY) {
      const bytesPerMs = is.rateMbit * 125;
      const startMs = Math.max(nowMs, this.#busyUntilMs);
      if ((startMs - nowMs) * bytesPerMs + sizeBytes > is.queueBytes) {
        counts.queueDrops++;
        return 0;
      }
      atMs = startMs + sizeBytes / bytesPerMs;
      this.#busyUntilMs = atMs;
    }
    if (is.lossShare > 0 && (is.lossBurstMs > 0 ? this.#isInterrupted(atMs) : this.#isLost())) {
      counts.lost++;
      return 0;
    }
    atMs += is.delayMs;
    if (is.jitterMs > 0) atMs += is.jitterMs * this.#jitterShare(nowMs);
    if (is.reorderShare > 0 && this.#random() < is.reorderShare) {
      counts.reordered++;
      atMs += is.reorderMs;
    } else {
      // Nobody overtakes but those who are meant to.
      atMs = Math.max(atMs, this.#lastExitMs);
      this.#lastExitMs = atMs;
    }
    this.exitMs[0] = atMs;
    if (is.duplicateShare > 0 && this.#random() < is.duplicateShare) {
      counts.duplicated++;
      this.exitMs[1] = atMs;
      return 2;
    }
    return 1;
  }

  #isLost(): boolean {
    const { lossShare, lossBurstPackets, badStateLossShare } = this.#is;
    if (lossBurstPackets <= 1) return this.#random() < lossShare;
    const badShare = lossShare / badStateLossShare;
    const leave = 1 / lossBurstPackets;
    const enter = badShare === 1 ? 1 : (leave * badShare) / (1 - badShare);
    this.#bad = this.#bad ? this.#random() >= leave : this.#random() < enter;
    return this.#bad && this.#random() < badStateLossShare;
  }

  #isInterrupted(atMs: number): boolean {
    const { lossShare, lossBurstMs } = this.#is;
    if (this.#turnsMs === Number.NEGATIVE_INFINITY) this.#turnsMs = atMs;
    while (atMs >= this.#turnsMs) {
      this.#bad = !this.#bad;
      const meanMs = this.#bad ? lossBurstMs : (lossBurstMs * (1 - lossShare)) / lossShare;
      this.#turnsMs -= meanMs * Math.log(1 - this.#random());
    }
    return this.#bad;
  }

  /** 0…1, sliding from one drawn value to the next. */
  #jitterShare(nowMs: number): number {
    if (nowMs - this.#jitterAtMs >= JITTER_STEP_MS) {
      this.#jitterFrom = nowMs - this.#jitterAtMs >= 2 * JITTER_STEP_MS ? this.#random() : this.#jitterTo;
      this.#jitterTo = this.#random();
      this.#jitterAtMs = nowMs;
    }
    const part = (nowMs - this.#jitterAtMs) / JITTER_STEP_MS;
    return this.#jitterFrom + (this.#jitterTo - this.#jitterFrom) * part;
  }
}

function settingsOf(impairment: Impairment): Settings {
  const is: Settings = {
    delayMs: impairment.delayMs ?? 0,
    jitterMs: impairment.jitterMs ?? 0,
    lossShare: impairment.lossShare ?? 0,
    lossBurstPackets: impairment.lossBurstPackets ?? 1,
    lossBurstMs: impairment.lossBurstMs ?? 0,
    badStateLossShare: impairment.badStateLossShare ?? 1,
    reorderShare: impairment.reorderShare ?? 0,
    reorderMs: impairment.reorderMs ?? DEFAULT_REORDER_MS,
    duplicateShare: impairment.duplicateShare ?? 0,
    rateMbit: impairment.rateMbit ?? Number.POSITIVE_INFINITY,
    queueBytes: impairment.queueBytes ?? DEFAULT_QUEUE_BYTES,
  };
  for (const [name, value] of Object.entries(is)) {
    if (!(value >= 0)) throw new RangeError(`${name} must not be negative, got ${value}`);
    if (name.endsWith('Share') && value > 1) throw new RangeError(`${name} must be 0…1, got ${value}`);
    if (name.endsWith('Ms') && value > 60_000) throw new RangeError(`${name} must be at most 60 000, got ${value}`);
  }
  if (!(is.rateMbit > 0)) throw new RangeError('rateMbit must be more than 0');
  if (is.lossBurstMs > 0 && (is.lossBurstPackets > 1 || is.badStateLossShare < 1)) {
    throw new RangeError('bursts are by packets or by time, and by time nothing gets through in them');
  }
  if (is.lossBurstPackets > 1 && is.badStateLossShare <= is.lossShare && is.lossShare < 1) {
    throw new RangeError(
      `badStateLossShare must be more than lossShare (${is.lossShare}), got ${is.badStateLossShare}`,
    );
  }
  return is;
}
