/** How many repair symbols a block needs on a path that loses packets as measured (loss-process.ts). */

/**
 * The smallest number of repairs, up to `most`, with which a block of `k` fails with at most probability `target`: more of
 * its k + r symbols lost than r are there. Losses follow Gilbert's chain with this ratio and mean burst, from its
 * stationary state; symbols travel one behind the other. Cost: (k + most) · most steps.
 */
export function repairsFor(k: number, lossRatio: number, meanBurst: number, target: number, most: number): number {
  if (lossRatio <= 0 || most <= 0) return 0;
  const chain = new LossChain(lossRatio, meanBurst, most + 1);
  for (let i = 0; i < k; i++) chain.step();
  for (let repairs = 1; repairs < most; repairs++) {
    chain.step();
    if (chain.moreThan(repairs) <= target) return repairs;
  }
  return most;
}

/** Probability that a block of `k` with `repairs` can't be decoded; exact for a code that needs any k symbols. */
export function failureProbability(k: number, repairs: number, lossRatio: number, meanBurst: number): number {
  const chain = new LossChain(lossRatio, meanBurst, repairs + 1);
  for (let i = 0; i < k + repairs; i++) chain.step();
  return chain.moreThan(repairs);
}

/** Distribution of the number of losses so far, together with the state of the last packet. */
class LossChain {
  readonly #begin: number;
  readonly #end: number;
  /** By number of losses, the last entry = that or more; when the last packet arrived, and when it was lost. */
  readonly #arrived: Float64Array;
  readonly #lost: Float64Array;
  readonly #limit: number;

  constructor(lossRatio: number, meanBurst: number, limit: number) {
    const ratio = Math.min(lossRatio, 0.9);
    // Losses that don't know of each other come in bursts of 1 / (1 − ratio) by chance.
    this.#end = Math.min(1 / Math.max(meanBurst, 1), 1 - ratio);
    this.#begin = Math.min(1, (this.#end * ratio) / (1 - ratio));
    this.#limit = limit;
    this.#arrived = new Float64Array(limit + 1);
    this.#lost = new Float64Array(limit + 1);
    this.#arrived[0] = 1 - ratio;
    this.#lost[0] = ratio;
  }

  /** One more packet. */
  step(): void {
    const { limit, arrived, lost } = { limit: this.#limit, arrived: this.#arrived, lost: this.#lost };
    for (let n = limit; n >= 0; n--) {
      const stays = arrived[n]! * (1 - this.#begin) + lost[n]! * this.#end;
      const before = n > 0 ? arrived[n - 1]! * this.#begin + lost[n - 1]! * (1 - this.#end) : 0;
      const saturated = n === limit ? arrived[n]! * this.#begin + lost[n]! * (1 - this.#end) : 0;
      arrived[n] = stays;
      lost[n] = before + saturated;
    }
  }

  moreThan(losses: number): number {
    let probability = 0;
    for (let n = losses + 1; n <= this.#limit; n++) probability += this.#arrived[n]! + this.#lost[n]!;
    return probability;
  }
}
