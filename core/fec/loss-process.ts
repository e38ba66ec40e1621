/**
 * What a path does to packets, as a chain with two states (Gilbert 1960): how often one is lost after one that arrived,
 * and how often one is lost after one that was lost. From packets in the order they were sent.
 */
import type { TimeMs } from '../ports.ts';

/** Older packets count half as much from here on, again and again. */
const MEMORY_PACKETS = 1024;
/** Fewer losses are no measurement. */
const MIN_LOSSES = 3;
const MIN_RATIO = 0.002;
/** Without a loss for so long the path is held to lose nothing. */
const FORGET_MS = 30_000;

export class LossProcess {
  /** Transitions: arrived → arrived, arrived → lost, lost → arrived, lost → lost. */
  #kept = 0;
  #began = 0;
  #ended = 0;
  #went = 0;
  #afterLoss = false;
  #lastLossMs: TimeMs = Number.NEGATIVE_INFINITY;

  onArrived(packets: number): void {
    if (packets <= 0) return;
    if (this.#afterLoss) this.#ended++;
    this.#kept += this.#afterLoss ? packets - 1 : packets;
    this.#afterLoss = false;
    this.#age();
  }

  onLost(nowMs: TimeMs): void {
    if (this.#afterLoss) this.#went++;
    else this.#began++;
    this.#afterLoss = true;
    this.#lastLossMs = nowMs;
    this.#age();
  }

  /** One that was held to be lost has arrived. */
  onSpurious(): void {
    if (this.#went > 0) this.#went = Math.max(0, this.#went - 1);
    else this.#began = Math.max(0, this.#began - 1);
  }

  /** Share of packets that is lost; 0 as long as nothing to speak of was. */
  ratio(nowMs: TimeMs): number {
    if (nowMs - this.#lastLossMs > FORGET_MS) return 0;
    const lost = this.#began + this.#went;
    const ratio = lost / Math.max(1, this.#kept + this.#ended + lost);
    return lost >= MIN_LOSSES && ratio >= MIN_RATIO ? ratio : 0;
  }

  /** Packets lost in a row, on average; 1 when losses don't know of each other. */
  get meanBurst(): number {
    return this.#began === 0 ? 1 : Math.max(1, (this.#began + this.#went) / this.#began);
  }

  #age(): void {
    if (this.#kept + this.#began + this.#ended + this.#went < 2 * MEMORY_PACKETS) return;
    this.#kept /= 2;
    this.#began /= 2;
    this.#ended /= 2;
    this.#went /= 2;
  }
}
