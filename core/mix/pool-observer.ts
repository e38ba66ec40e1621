/**
 * Who watches all links of a mix: every arrival and every departure, but not which cell is which. For each cell that
 * leaves it holds what the observation says of where it came from, given that waiting times have no memory: each cell in
 * the mix is as likely to go next as any other (Theorem 1 of Loopix, USENIX Security 2017). For simulations and tests: they
 * know the truth, and so what the observer was surprised by.
 */
export class PoolObserver {
  /** Cells inside in the order they came: log2 of the weight that each had when it came, over all factors since. */
  readonly #weights = new Map<number, number>();
  #newest = -1;
  #factors = 0;
  #entropyBits = 0;
  /** Departures so far, and sums over them: entropy of the posterior, and −log2 of what it gave the true cell. */
  departures = 0;
  entropyBits = 0;
  surpriseBits = 0;
  /**
   * How often the cell that left was the one that had been there longest, and the one that came last; and how often it would
   * be if all inside were alike. The mean surprise does not depend on the law of the waiting times; these do.
   */
  oldestFirst = 0;
  newestFirst = 0;
  expectedFirst = 0;

  /** A cell came in; `id` is the truth, which the observer does not use. */
  arrive(id: number): void {
    const before = this.#weights.size;
    if (before === 0) {
      this.#factors = 0;
      this.#entropyBits = 0;
    } else {
      const old = before / (before + 1);
      this.#factors += Math.log2(old);
      this.#entropyBits = old * this.#entropyBits - old * Math.log2(old) + Math.log2(before + 1) / (before + 1);
    }
    this.#weights.set(id, -Math.log2(before + 1) - this.#factors);
    this.#newest = id;
  }

  /** Cell `id` left. `count`: it enters the sums (not while the mix fills up). */
  depart(id: number, count = true): void {
    const weight = this.#weights.get(id);
    if (weight === undefined) throw new Error(`cell ${id} is not inside`);
    if (count) {
      this.departures++;
      this.entropyBits += this.#entropyBits;
      this.surpriseBits -= weight + this.#factors;
      this.expectedFirst += 1 / this.#weights.size;
      if (this.#weights.keys().next().value === id) this.oldestFirst++;
      if (this.#newest === id) this.newestFirst++;
    }
    // The posterior stays: the observer does not know which one has left.
    this.#weights.delete(id);
  }
}
