/** Why a path is as it is: for people who look at it. */
import { compatible, compatibleEnds, type NodeSet } from './candidates.ts';
import { diversityRules, planPath, type SelectConstraints, takesTarget, targetText } from './constraints.ts';
import { type PathEntropy, pathEntropy } from './metrics.ts';
import { type ChosenPath, listCandidates, weightsAt } from './select.ts';

export interface PathHop {
  readonly nodeId: string;
  /** Why it may be here, a sentence each. */
  readonly reasons: readonly string[];
  /** Candidates that this position had before any hop was chosen. */
  readonly candidates: number;
  /** Its share of them by the weights drawn with, 0…1. */
  readonly share: number;
  readonly countries: readonly string[];
  readonly asns: readonly number[];
}

export interface PathReport {
  readonly hops: readonly PathHop[];
  /** Preferences that were given up: `as`, `country`. */
  readonly relaxed: readonly string[];
  readonly strategy: string;
  readonly entropy: PathEntropy;
}

/** Explains a path that choosePath returned for these constraints. O(nodes). */
export function reportPath(view: NodeSet, constraints: SelectConstraints, { hops, relaxed }: ChosenPath): PathReport {
  const free = { ...constraints, requiredNodeIds: undefined };
  const plan = planPath(view, free);
  const named = constraints.requiredNodeIds !== undefined;
  const lists = named ? hops.map((hop) => [hop]) : listCandidates(plan);
  const [strictest] = diversityRules(constraints);
  const last = hops.length - 1;
  return {
    relaxed,
    strategy: named ? 'named' : (constraints.strategy ?? 'bandwidth'),
    entropy: named
      ? { positionBits: hops.map(() => 0), pathBits: 0, baselineBits: 0, costBits: 0, maxCostBits: 0 }
      : pathEntropy(view, free),
    hops: hops.map((hop, i) => {
      const list = lists[i]!;
      const weights = weightsAt(plan, i, list);
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const reasons: string[] = [];
      if (named) reasons.push('named in the request');
      else if (i === 0 && plan.guards !== undefined) {
        reasons.push(`guard: number ${plan.guards.indexOf(hop) + 1} of ${plan.guards.length} that can be used`);
      } else if (i === 1 && plan.secondHops !== undefined) {
        reasons.push(`second-layer guard: one of ${plan.secondHops.length}`);
      }
      if (i < last || constraints.needExit === undefined) reasons.push('relays');
      else if (takesTarget(hop, constraints)) reasons.push(`its exit policy takes ${targetText(constraints)}`);
      const others = hops.filter((other) => other !== hop);
      if (others.every((other) => compatible(hop, other, strictest!))) {
        reasons.push(`shares no ${sharedNames(constraints).join(', ')} with the other hops`);
      }
      if (
        (i === 0 || i === last) &&
        !strictest!.sameCountryAllowed &&
        compatibleEnds(hops[0]!, hops[last]!, strictest!)
      ) {
        reasons.push('first and last hop are not known to be in one country');
      }
      return {
        nodeId: hop.id,
        reasons,
        candidates: list.length,
        share: total > 0 ? (weights[list.indexOf(hop)] ?? 0) / total : 0,
        countries: hop.countries,
        asns: hop.asns,
      };
    }),
  };
}

function sharedNames({ sameSubnetAllowed, asDiversity = 'off' }: SelectConstraints): string[] {
  return ['family', ...(sameSubnetAllowed ? [] : ['network']), ...(asDiversity === 'off' ? [] : ['autonomous system'])];
}
