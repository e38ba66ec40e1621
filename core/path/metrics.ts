/** How much a choice of path hides: Shannon entropy, in bits. */
import { type Candidate, compatible, type NodeSet } from './candidates.ts';
import { planPath, type SelectConstraints } from './select.ts';

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

/**
 * Entropy of each position, first hop first, as selectPath would draw it for these constraints before any other hop is
 * known: what an observer who knows the view and the constraints lacks about that hop. A first hop that comes from an
 * ordered guard list has 0: the client does not choose.
 */
export function positionEntropyBits(view: NodeSet, constraints: SelectConstraints): number[] {
  const plan = planPath(view, constraints);
  return plan.positions.map((candidates, i) => (i === 0 && plan.orderedGuards ? 0 : entropyOf(candidates)));
}

/**
 * Entropy of each position given all other hops of `path` (NodeIDs, hex): what a set of colluding other hops lacks.
 * Throws PathError as selectPath does, or RangeError when `path` has another number of hops.
 */
export function conditionalEntropyBits(
  view: NodeSet,
  constraints: SelectConstraints,
  path: readonly string[],
): number[] {
  const plan = planPath(view, constraints);
  if (path.length !== plan.positions.length) {
    throw new RangeError(`path has ${path.length} hops; the constraints say ${plan.positions.length}`);
  }
  const byId = new Map(plan.positions.flat().map((candidate) => [candidate.id, candidate]));
  const hops = path.map((id) => byId.get(id.toLowerCase()));
  return plan.positions.map((candidates, i) => {
    if (i === 0 && plan.orderedGuards) return 0;
    const others = hops.filter((hop, j) => j !== i && hop !== undefined) as Candidate[];
    return entropyOf(
      candidates.filter((candidate) => others.every((other) => compatible(candidate, other, plan.sameSubnetAllowed))),
    );
  });
}

function entropyOf(candidates: readonly Candidate[]): number {
  return entropyBits(candidates.map((candidate) => candidate.weight));
}
