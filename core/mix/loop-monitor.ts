/**
 * What loop cover says about the network: loops that do not come back, and loops that take far too long. A mix that drops
 * or holds back what others send (the first half of an n−1 attack) loses loops as well as real cells, since it can't tell
 * them apart. Pure policy; whoever sends the loops notes how each one went.
 */

export type LoopAlarm = 'loss' | 'delay';

export interface LoopVerdict {
  /** Changed with the last loop noted. */
  readonly changed: 'raised' | 'cleared' | undefined;
  readonly alarm: LoopAlarm | undefined;
}

export interface LoopStats {
  readonly sent: number;
  readonly lost: number;
  /** Of the last 64. */
  readonly lossRatio: number;
  readonly meanRttMs: number | undefined;
  readonly alarm: LoopAlarm | undefined;
}

/**
 * A loop that has not come back after so many times its mean, and half a second for the network itself, is lost. Sessions send a
 * lost PING again, soon: with more time, a mix that drops every other cell would lose hardly a loop.
 */
const LATE_FACTOR = 3;
const LATE_MS = 500;

/** From when on a loop of that mean time counts as lost. */
export function loopIsLateMs(meanMs: number): number {
  return LATE_FACTOR * meanMs + LATE_MS;
}

const WINDOW = 64;
/** Loops before anything is said. */
const MIN_LOOPS = 8;
/** Loss that is nobody's fault: what was seen in the long run, within these bounds. */
const MIN_LOSS = 0.02;
const MAX_LOSS = 0.15;
const LOSS_MEMORY = 1 / 256;
/** As unlikely as this, loss by chance is no explanation any more; and from here on it is one again. */
const RAISE_BELOW = 1e-4;
const CLEAR_ABOVE = 0.05;
/** Mean round trip over what the path promises, in the last few loops. */
const DELAY_LOOPS = 8;
const RAISE_DELAY = 4;
const CLEAR_DELAY = 2;

export class LoopMonitor {
  /** Round trip of each over its expected one; NaN = lost. Ring. */
  readonly #ratios = new Float64Array(WINDOW);
  readonly #rttsMs = new Float64Array(WINDOW);
  #count = 0;
  #lost = 0;
  #usualLoss = MIN_LOSS;
  #alarm: LoopAlarm | undefined;

  /** @param rttMs undefined: it did not come back in time. @param expectedMs what the path promises, on average. */
  note(rttMs: number | undefined, expectedMs: number): LoopVerdict {
    const at = this.#count++ % WINDOW;
    this.#ratios[at] = rttMs === undefined ? Number.NaN : rttMs / expectedMs;
    this.#rttsMs[at] = rttMs ?? Number.NaN;
    if (rttMs === undefined) this.#lost++;
    const before = this.#alarm;
    this.#judge();
    // While something is wrong, what is seen is not the usual.
    if (this.#alarm === undefined) {
      this.#usualLoss += ((rttMs === undefined ? 1 : 0) - this.#usualLoss) * LOSS_MEMORY;
    }
    const changed = this.#alarm === before ? undefined : this.#alarm === undefined ? 'cleared' : 'raised';
    return { changed, alarm: this.#alarm ?? before };
  }

  get stats(): LoopStats {
    const known = Math.min(this.#count, WINDOW);
    let lost = 0;
    let sum = 0;
    for (let i = 0; i < known; i++) {
      if (Number.isNaN(this.#rttsMs[i]!)) lost++;
      else sum += this.#rttsMs[i]!;
    }
    return {
      sent: this.#count,
      lost: this.#lost,
      lossRatio: known === 0 ? 0 : lost / known,
      meanRttMs: known === lost ? undefined : sum / (known - lost),
      alarm: this.#alarm,
    };
  }

  #judge(): void {
    const known = Math.min(this.#count, WINDOW);
    if (known < MIN_LOOPS) return;
    const usual = Math.min(MAX_LOSS, Math.max(MIN_LOSS, this.#usualLoss));
    // The last 8, 16, 32, 64: what began just now shows in the short ones, what is slight in the long ones.
    let least = 1;
    for (let size = MIN_LOOPS; size <= known; size *= 2) {
      let lost = 0;
      for (let back = 1; back <= size; back++) if (Number.isNaN(this.#recent(back))) lost++;
      least = Math.min(least, binomialTail(size, lost, usual));
    }
    let sum = 0;
    let arrived = 0;
    for (let back = 1; back <= DELAY_LOOPS; back++) {
      const ratio = this.#recent(back);
      if (Number.isNaN(ratio)) continue;
      sum += ratio;
      arrived++;
    }
    const slow = arrived < DELAY_LOOPS / 2 ? 0 : sum / arrived;
    if (this.#alarm === 'loss' ? least < CLEAR_ABOVE : least < RAISE_BELOW) this.#alarm = 'loss';
    else if (this.#alarm === 'delay' ? slow > CLEAR_DELAY : slow > RAISE_DELAY) this.#alarm = 'delay';
    else this.#alarm = undefined;
  }

  /** The loop so many before the next one. */
  #recent(back: number): number {
    return this.#ratios[(this.#count - back) % WINDOW]!;
  }
}

/** Probability of at least `least` hits in `count` tries of probability `p`. */
export function binomialTail(count: number, least: number, p: number): number {
  let term = (1 - p) ** count;
  let below = 0;
  for (let k = 0; k < least; k++) {
    below += term;
    term *= ((count - k) / (k + 1)) * (p / (1 - p));
  }
  return Math.max(0, 1 - below);
}
