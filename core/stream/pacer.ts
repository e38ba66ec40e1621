/** Token bucket for coarse timers: packets leave in bursts of up to a few milliseconds' worth. */

const MIN_BURST = 10;
/** A wake-up may come this late without costing throughput. */
const BURST_MS = 4;
/** Packets to wait for, at most, before the next burst: fewer wake-ups at the same rate. */
const MAX_QUANTUM = 64;

export class Pacer {
  #tokens = MIN_BURST;
  #atMs = 0;
  #rate = Number.POSITIVE_INFINITY;

  setRate(packetsPerMs: number, nowMs: number): void {
    if (packetsPerMs === this.#rate) return;
    this.#refill(nowMs);
    this.#rate = packetsPerMs;
  }

  ready(nowMs: number): boolean {
    if (this.#rate === Number.POSITIVE_INFINITY || this.#tokens >= 1) return true;
    this.#refill(nowMs);
    return this.#tokens >= 1;
  }

  onSend(): void {
    if (this.#rate !== Number.POSITIVE_INFINITY) this.#tokens--;
  }

  /** When the next burst is due. */
  nextMs(): number {
    if (this.#rate === Number.POSITIVE_INFINITY || this.#tokens >= 1) return this.#atMs;
    const quantum = Math.min(MAX_QUANTUM, Math.max(1, this.#rate));
    return this.#atMs + (quantum - this.#tokens) / this.#rate;
  }

  #refill(nowMs: number): void {
    const elapsed = nowMs - this.#atMs;
    this.#atMs = nowMs;
    if (this.#rate === Number.POSITIVE_INFINITY) {
      this.#tokens = MIN_BURST;
      return;
    }
    this.#tokens = Math.min(Math.max(MIN_BURST, this.#rate * BURST_MS), this.#tokens + elapsed * this.#rate);
  }
}
