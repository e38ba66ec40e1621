/** How much a choice of path hides: Shannon entropy, in bits. */
import { compatible, compatibleEnds, linkable, type NodeSet } from './candidates.ts';
import { diversityRules, type PathPlan, planPath, type SelectConstraints } from './constraints.ts';
import { LATENCY_BINS } from './latency.ts';
import { listCandidates, meanLatencyDraws, weightsAt } from './select.ts';

/** −Σ p log2 p over `weights` as proportions; 0 for none or one. */
export function entropyBits(weights: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]!;
  if (!(sum > 0)) return 0;
  let bits = 0;
  for (let i = 0; i < weights.length; i++) {
    const p = weights[i]! / sum;
    if (p > 0) bits -= p * Math.log2(p);
  }
  return Math.max(0, bits);
}

export interface PathEntropy {
  /** Of each hop, first hop first, before any other is known. A first hop from an ordered guard list has 0. */
  readonly positionBits: readonly number[];
  /** Of the whole path, conflicts between hops left out of account. */
  readonly pathBits: number;
  /** What the path would have by weight alone. */
  readonly baselineBits: number;
  /** baselineBits − pathBits: what the strategy costs. Negative where it gives. */
  readonly costBits: number;
  /** No path is more than 2^this times as likely as by weight alone, whatever the latencies are. 0 but for `latency`. */
  readonly maxCostBits: number;
}

/** Entropy of a choice under these constraints. O(nodes). Throws PathError when a position has no candidates. */
export function pathEntropy(view: NodeSet, constraints: SelectConstraints): PathEntropy {
  const plan = planPath(view, constraints);
  const lists = listCandidates(plan);
  const weights = lists.map((candidates, i) => (isFixed(plan, i) ? [] : weightsAt(plan, i, candidates)));
  const drawn = weights.map(entropyBits);
  const drawnBits = sum(drawn);
  const { latency, strategy, latencyBias = 0.5 } = constraints;
  if (strategy === 'uniform') {
    const byWeight = planPath(view, { ...constraints, strategy: 'bandwidth' });
    const baseline = lists.map((candidates, i) =>
      isFixed(plan, i) ? 0 : entropyBits(weightsAt(byWeight, i, candidates)),
    );
    const baselineBits = sum(baseline);
    return {
      positionBits: drawn,
      pathBits: drawnBits,
      baselineBits,
      costBits: baselineBits - drawnBits,
      maxCostBits: 0,
    };
  }
  if (strategy !== 'latency' || latency === undefined) {
    return { positionBits: drawn, pathBits: drawnBits, baselineBits: drawnBits, costBits: 0, maxCostBits: 0 };
  }
  const bins = lists.map((candidates, i) => (i === 0 ? [] : candidates.map(({ id }) => latency.binOf(id))));
  const { positionBits, pathBits } = fastestOf(weights, bins, meanLatencyDraws(latencyBias));
  return {
    positionBits,
    pathBits,
    baselineBits: drawnBits,
    costBits: drawnBits - pathBits,
    maxCostBits: Math.log2(meanLatencyDraws(latencyBias)),
  };
}

/**
 * The fastest of `draws` paths (as a mean of the two whole numbers next to it), each hop drawn on its own by `weights`.
 * Exact: times are whole bins, so the distribution of a path's time is a convolution, and within one time all paths keep
 * their proportions. A first hop has no bins: it does not count.
 */
function fastestOf(weights: readonly (readonly number[])[], bins: readonly (readonly number[])[], draws: number) {
  const positions = weights.length;
  const shares = weights.map((list) => {
    const total = sum(list);
    return list.map((weight) => weight / total);
  });
  const histograms = shares.map((list, i) => histogramOf(list, i === 0 ? list.map(() => 0) : bins[i]!));
  const total = histograms.reduce(convolve);
  const factor = fastestFactors(total, draws);
  let pathBits = 0;
  for (let t = 0; t < total.length; t++) {
    if (total[t]! > 0 && factor[t]! > 0) pathBits -= total[t]! * factor[t]! * Math.log2(factor[t]!);
  }
  const positionBits = shares.map((list, i) => {
    if (list.length === 0) return 0;
    const others = histograms.filter((_, j) => j !== i).reduce(convolve);
    // By the time of this hop: how much likelier it becomes, over all times that the other hops may have.
    const gain = Float64Array.from({ length: LATENCY_BINS }, (_, bin) =>
      others.reduce((mean, share, rest) => mean + share * (factor[bin + rest] ?? 0), 0),
    );
    const chosen = list.map((share, k) => share * gain[i === 0 ? 0 : bins[i]![k]!]!);
    chosen.forEach((share, k) => {
      if (share > 0) pathBits -= share * Math.log2(list[k]!);
    });
    return entropyBits(chosen);
  });
  return { positionBits: positionBits.slice(0, positions), pathBits: Math.max(0, pathBits) };
}

/** By time: how much likelier a path of it is as the fastest of several than as the only one. */
function fastestFactors(total: Float64Array, draws: number): Float64Array {
  const whole = Math.floor(draws);
  const more = draws - whole;
  const factors = new Float64Array(total.length);
  // Mass of what is slower.
  let slower = 1;
  for (let t = 0; t < total.length; t++) {
    const here = total[t]!;
    const from = slower;
    slower = Math.max(0, slower - here);
    if (here <= 0) continue;
    const best = (count: number) => (from ** count - slower ** count) / here;
    factors[t] = (1 - more) * best(whole) + (more > 0 ? more * best(whole + 1) : 0);
  }
  return factors;
}

function histogramOf(shares: readonly number[], bins: readonly number[]): Float64Array {
  const histogram = new Float64Array(LATENCY_BINS);
  // A hop that is not drawn has time 0 for certain.
  if (shares.length === 0) histogram[0] = 1;
  for (let i = 0; i < shares.length; i++) histogram[bins[i]!] = histogram[bins[i]!]! + shares[i]!;
  return histogram;
}

function convolve(a: Float64Array, b: Float64Array): Float64Array {
  const result = new Float64Array(a.length + b.length - 1);
  for (let i = 0; i < a.length; i++) {
    if (a[i] === 0) continue;
    for (let j = 0; j < b.length; j++) result[i + j] = result[i + j]! + a[i]! * b[j]!;
  }
  return result;
}

/**
 * Entropy of each position given all other hops of `path` (NodeIDs, hex): what a set of colluding other hops lacks, by
 * weight alone. Throws PathError as choosePath does, or RangeError when `path` has another number of hops.
 */
export function conditionalEntropyBits(
  view: NodeSet,
  constraints: SelectConstraints,
  path: readonly string[],
): number[] {
  const plan = planPath(view, constraints);
  if (path.length !== plan.hops) {
    throw new RangeError(`path has ${path.length} hops; the constraints say ${plan.hops}`);
  }
  const [rules] = diversityRules(constraints);
  const hops = path.map((id) => plan.network.byId.get(id.toLowerCase()));
  const last = plan.hops - 1;
  return listCandidates(plan).map((candidates, i) => {
    if (isFixed(plan, i)) return 0;
    const fitting = candidates.filter((candidate) =>
      hops.every((other, j) => {
        if (j === i || other === undefined) return true;
        const ends = (i === 0 && j === last) || (i === last && j === 0);
        if (Math.abs(i - j) === 1 && !linkable(candidate, other)) return false;
        return compatible(candidate, other, rules!) && (!ends || compatibleEnds(candidate, other, rules!));
      }),
    );
    return entropyBits(weightsAt(plan, i, fitting));
  });
}

/** The client keeps its first hops: it does not choose. */
const isFixed = (plan: PathPlan, position: number): boolean => position === 0 && plan.guards !== undefined;

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
