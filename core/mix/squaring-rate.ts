/**
 * How many squarings a millisecond takes on this machine, for the length of delays of class cmix. It is measured at start, when a
 * machine may be busy with much else; a delay that then takes less time than it should says that more are needed.
 */

/** Less too short than this is chance. */
const TOLERANCE = 0.9;

export class SquaringRate {
  #perMs: number;

  /** @param perMs as measured at start. */
  constructor(perMs: number) {
    this.#perMs = perMs;
  }

  get perMs(): number {
    return this.#perMs;
  }

  /**
   * A delay that was to take `dueMs` has taken `tookMs`. True: the rate has risen. It never falls: a delay that a busy machine makes
   * longer hides as much, one that is too short does not.
   */
  note(squarings: number, dueMs: number, tookMs: number): boolean {
    if (!(tookMs > 0 && tookMs < TOLERANCE * dueMs)) return false;
    this.#perMs = Math.max(this.#perMs, squarings / tookMs);
    return true;
  }
}
