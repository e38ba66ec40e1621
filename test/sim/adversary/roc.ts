/** What scores are worth: true- and false-positive rates of a threshold, and how often the best score is the right one. */

export interface Quality {
  /** Share of true pairs above the threshold at which so many false pairs are: rates 10⁻⁴, 10⁻³, 10⁻², 10⁻¹. */
  readonly truePositiveAt: Readonly<Record<(typeof falseRates)[number], number>>;
  /** Probability that a true pair scores higher than a false one; 0.5 = no better than a coin. */
  readonly area: number;
  /** Share of targets whose true flow has the highest score of all; ties are shared. */
  readonly firstGuess: number;
  /** False-positive and true-positive rate from one threshold to the next. */
  readonly curve: readonly (readonly [number, number])[];
}

export const falseRates = ['1e-4', '1e-3', '1e-2', '1e-1'] as const;
const CURVE_POINTS = 40;
/** False pairs that are looked at one by one for the curve; beyond that every k-th. */
const MAX_SORTED = 400_000;

/**
 * @param scores of `targets` rows by `all` columns, of which the first `users` count; row i belongs to column i.
 */
export function quality(scores: Float32Array, targets: number, all: number, users: number): Quality {
  const positives = new Float32Array(targets);
  let firstGuess = 0;
  const falsePairs = targets * (users - 1);
  const every = Math.max(1, Math.ceil(falsePairs / MAX_SORTED));
  const negatives = new Float32Array(Math.ceil(falsePairs / every));
  let seen = 0;
  for (let row = 0; row < targets; row++) {
    const own = scores[row * all + row]!;
    positives[row] = own;
    let higher = 0;
    let equal = 1;
    for (let column = 0; column < users; column++) {
      if (column === row) continue;
      const value = scores[row * all + column]!;
      if (value > own) higher++;
      else if (value === own) equal++;
      if (seen++ % every === 0) negatives[Math.floor((seen - 1) / every)] = value;
    }
    if (higher === 0) firstGuess += 1 / equal / targets;
  }
  positives.sort();
  negatives.sort();
  /** Share of `sorted` above a threshold, those equal to it by half. */
  const above = (sorted: Float32Array, threshold: number) =>
    1 - (bound(sorted, threshold, false) + bound(sorted, threshold, true)) / 2 / sorted.length;
  const atRate = (rate: number) => {
    // With fewer pairs than one over the rate, above all of them.
    const index = Math.min(negatives.length - 1, Math.floor((1 - rate) * negatives.length));
    const threshold = negatives[index]!;
    return 1 - bound(positives, threshold, true) / targets;
  };
  let area = 0;
  for (const value of positives) area += (1 - above(negatives, value)) / targets;
  const curve: [number, number][] = [];
  const least = 1 / negatives.length;
  for (let i = 0; i <= CURVE_POINTS; i++) {
    const rate = least ** (1 - i / CURVE_POINTS);
    curve.push([rate, i === CURVE_POINTS ? 1 : atRate(rate)]);
  }
  const truePositiveAt = { '1e-4': atRate(1e-4), '1e-3': atRate(1e-3), '1e-2': atRate(1e-2), '1e-1': atRate(1e-1) };
  return { truePositiveAt, area, firstGuess, curve };
}

/**
 * For an observer who knows that one of the flows is the client's: how far a score is above the best of the others of its
 * row. So scores of rows of different lengths can be held against one threshold.
 */
export function margins(scores: Float32Array, targets: number, all: number, users: number): Float32Array {
  const out = new Float32Array(scores.length);
  for (let row = 0; row < targets; row++) {
    let best = Number.NEGATIVE_INFINITY;
    let second = Number.NEGATIVE_INFINITY;
    for (let i = row * all; i < row * all + users; i++) {
      const value = scores[i]!;
      if (value > best) {
        second = best;
        best = value;
      } else if (value > second) second = value;
    }
    for (let i = row * all; i < row * all + users; i++) {
      out[i] = scores[i]! === best ? best - second : scores[i]! - best;
    }
  }
  return out;
}

/** Mean of −log2 of the probability that log-likelihoods (nats) give the true flow, all being equally likely before. */
export function surpriseBits(scores: Float32Array, targets: number, all: number, users: number): number {
  let bits = 0;
  for (let row = 0; row < targets; row++) {
    const from = row * all;
    let best = Number.NEGATIVE_INFINITY;
    for (let i = from; i < from + users; i++) best = Math.max(best, scores[i]!);
    let sum = 0;
    for (let i = from; i < from + users; i++) sum += Math.exp(scores[i]! - best);
    bits += (Math.log(sum) - (scores[from + row]! - best)) / Math.LN2 / targets;
  }
  return bits;
}

/** Values below the threshold, or up to and with it. */
function bound(sorted: Float32Array, threshold: number, withEqual: boolean): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (withEqual ? sorted[middle]! <= threshold : sorted[middle]! < threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}
