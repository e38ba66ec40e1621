/**
 * What a worker goes by of the configuration: replaced as a whole and in one turn, so that nothing ever runs by parts of two,
 * and never by an older one (formal/spec/Reload.tla).
 */
import type { PumpOptions, PumpTuning } from './contract.ts';

export const FIRST_GENERATION = 1;

/** What of a worker's options can change. */
export const tuningOf = ({ generation = FIRST_GENERATION, cmix, ...options }: PumpOptions): PumpTuning => {
  const { exit, limits, defaultHops, spareCircuits, mix, multipath, fec, cover } = options;
  return { generation, exit, limits, defaultHops, spareCircuits, mix, multipath, fec, cover, cmixHops: cmix.hops };
};

export class LiveTuning {
  #current: PumpTuning;
  readonly #parts: readonly ((tuning: PumpTuning) => void)[];

  /** `parts` take a tuning over at once and in full; what was begun under an earlier one goes on. */
  constructor(first: PumpTuning, parts: readonly ((tuning: PumpTuning) => void)[]) {
    this.#current = first;
    this.#parts = parts;
  }

  get current(): PumpTuning {
    return this.#current;
  }

  /** Returns the generation in force. What a part throws comes out of here: a worker that is between two configurations must end. */
  take(tuning: PumpTuning): number {
    if (tuning.generation > this.#current.generation) {
      this.#current = tuning;
      for (const part of this.#parts) part(tuning);
    }
    return this.#current.generation;
  }
}
