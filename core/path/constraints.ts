/** What a path must be like, and who may be in it. */
import { parseTarget, specialRange } from '../directory/address.ts';
import {
  type Candidate,
  type DiversityRules,
  type Network,
  type NodeSet,
  networkOf,
  type Origins,
} from './candidates.ts';
import type { PathFeedback } from './feedback.ts';
import type { LatencyBook } from './latency.ts';
import { PathError, PathErrorCode } from './path-error.ts';
import type { WeightedPool } from './weighted-pool.ts';

export const MIN_HOPS = 3;
export const MAX_HOPS = 7;

/**
 * How hops are weighed. `uniform`: all alike. `bandwidth`: by weight. `latency`: by weight, then the fastest of several
 * paths drawn so. `service`: by weight, the second hop from the second-layer guards.
 */
export const PathStrategy = {
  uniform: 'uniform',
  bandwidth: 'bandwidth',
  latency: 'latency',
  service: 'service',
} as const;
export type PathStrategy = (typeof PathStrategy)[keyof typeof PathStrategy];

/** `prefer`: kept while a path can be found that way. */
export type DiversityMode = 'off' | 'prefer' | 'require';

/** Who may be a hop at all: every list is a restriction, an empty or absent one is none. NodeIDs in hex. */
export interface NodeFilter {
  readonly excludeCountries?: readonly string[];
  /** Only nodes that are known to stand in these alone. */
  readonly includeCountries?: readonly string[];
  readonly excludeFamilies?: readonly string[];
  readonly includeFamilies?: readonly string[];
  readonly includeNodes?: readonly string[];
}

export interface SelectConstraints extends NodeFilter {
  /** 3 to 7. */
  readonly hops: number;
  /** The last hop must be an exit whose policy takes this; a name is judged by its port alone. */
  readonly needExit?: { readonly host?: string; readonly port: number };
  /** NodeIDs (hex) that must not be used: e.g. ourselves, or what just failed. */
  readonly exclude?: readonly string[];
  /** The whole path, first hop first, as NodeIDs (hex): nothing is drawn, everything else is still checked. */
  readonly requiredNodeIds?: readonly string[];
  /** NodeID (hex) that the path has to end at. */
  readonly lastHop?: string;
  /** Guards (hex NodeIDs), best first: the first that fits is the first hop. Undefined = any node. */
  readonly guards?: readonly string[];
  /** Ways that whoever sends over the path has to its first hop, bits of Reach. Undefined = any. */
  readonly reach?: number;
  /** The second hop is one of these (hex NodeIDs). Undefined = any node. */
  readonly secondHops?: readonly string[];
  /** Local networks: hops may share a /16 or /32. */
  readonly sameSubnetAllowed?: boolean;
  /** No two hops in one autonomous system. Default `off`. */
  readonly asDiversity?: DiversityMode;
  /** First and last hop in different countries. Default `off`. */
  readonly countryDiversity?: DiversityMode;
  /** Exits may be asked for loopback and private targets where their rules say so. Default: `sameSubnetAllowed`. */
  readonly privateTargetsAllowed?: boolean;
  /** Default `bandwidth`. */
  readonly strategy?: PathStrategy;
  /** Of strategy `latency`: 0 = as `bandwidth` … 1 = the fastest of 64. Default 0.5. */
  readonly latencyBias?: number;
  readonly origins?: Origins;
  readonly feedback?: PathFeedback;
  readonly latency?: LatencyBook;
}

/** Constraints applied to a network: one hop's candidates are the eligible members of its pool. */
export interface PathPlan {
  readonly network: Network;
  readonly constraints: SelectConstraints;
  readonly hops: number;
  /** Pool of the last hop. */
  readonly exits: WeightedPool<Candidate>;
  /** First and second hop in order of preference; undefined = drawn as the others are. */
  readonly guards: readonly Candidate[] | undefined;
  readonly secondHops: readonly Candidate[] | undefined;
  readonly lastHops: readonly Candidate[] | undefined;
  /** May this one be in the path at all, and as the last hop? */
  readonly eligible: (candidate: Candidate, last: boolean) => boolean;
  readonly excludedCount: number;
}

/** Checks the request. Throws PathError BAD_REQUEST. No work per node unless a pool is made for the first time. */
export function planPath(view: NodeSet, constraints: SelectConstraints): PathPlan {
  const { hops, needExit } = constraints;
  if (!Number.isInteger(hops) || hops < MIN_HOPS || hops > MAX_HOPS) {
    throw new PathError(
      PathErrorCode.badRequest,
      `a path of ${hops} hops was asked for; ${MIN_HOPS} to ${MAX_HOPS} are possible`,
    );
  }
  const network = networkOf(view, constraints.origins);
  const excluded = new Set(constraints.exclude?.map((id) => id.toLowerCase()));
  const passes = filterOf(constraints);
  const takes = needExit === undefined ? undefined : targetCheck(constraints);
  const eligible = (candidate: Candidate, last: boolean): boolean =>
    !excluded.has(candidate.id) &&
    (passes === undefined || passes(candidate)) &&
    (!last || takes?.(candidate) !== false);
  const named = (ids: readonly string[] | undefined) =>
    ids?.flatMap((id) => {
      const candidate = network.byId.get(id.toLowerCase());
      return candidate?.descriptor.roles.mix && eligible(candidate, false) ? [candidate] : [];
    });
  const lastHops = (id: string) => {
    const candidate = network.byId.get(id.toLowerCase());
    return candidate !== undefined && eligible(candidate, true) ? [candidate] : [];
  };
  return {
    network,
    constraints,
    hops,
    exits: needExit === undefined ? network.relays : network.exitsFor(needExit.port),
    guards: named(constraints.guards),
    secondHops: named(constraints.secondHops),
    lastHops: constraints.lastHop === undefined ? undefined : lastHops(constraints.lastHop),
    eligible,
    excludedCount: excluded.size,
  };
}

/** May this exit carry traffic to the target of `constraints`? A name is judged by its port. */
export function takesTarget(candidate: Candidate, constraints: SelectConstraints): boolean {
  return targetCheck(constraints)(candidate);
}

function targetCheck(constraints: SelectConstraints): (candidate: Candidate) => boolean {
  const { host, port } = constraints.needExit!;
  if (host === undefined || parseTarget(host) === undefined) return ({ policy }) => policy?.mayAllowPort(port) ?? false;
  if (refusedRange(constraints) !== undefined) return () => false;
  return ({ policy }) => policy?.allows(host, port) ?? false;
}

/** The name of the special range that the target is in, when such targets are not allowed. */
export function refusedRange(constraints: SelectConstraints): string | undefined {
  const host = constraints.needExit?.host;
  const target = host === undefined ? undefined : parseTarget(host);
  const allowed = constraints.privateTargetsAllowed ?? constraints.sameSubnetAllowed ?? false;
  return target === undefined || allowed ? undefined : specialRange(target);
}

export function targetText(constraints: SelectConstraints): string {
  const { host, port } = constraints.needExit!;
  return host === undefined ? `port ${port}` : `${host.slice(0, 255)}:${port}`;
}

/** The combinations of diversity rules to try, strictest first: what is preferred is given up last, the country before the AS. */
export function diversityRules(constraints: SelectConstraints): readonly DiversityRules[] {
  const { asDiversity = 'off', countryDiversity = 'off' } = constraints;
  const sameSubnetAllowed = constraints.sameSubnetAllowed ?? false;
  const rules: DiversityRules[] = [
    { sameSubnetAllowed, sameAsAllowed: asDiversity === 'off', sameCountryAllowed: countryDiversity === 'off' },
  ];
  if (countryDiversity === 'prefer') rules.push({ ...rules.at(-1)!, sameCountryAllowed: true });
  if (asDiversity === 'prefer') rules.push({ ...rules.at(-1)!, sameAsAllowed: true });
  return rules;
}

function filterOf(filter: NodeFilter): ((candidate: Candidate) => boolean) | undefined {
  const checks: ((candidate: Candidate) => boolean)[] = [];
  const set = (list: readonly string[] | undefined) => (list?.length ? new Set(list) : undefined);
  const notIn = set(filter.excludeCountries);
  if (notIn !== undefined) checks.push(({ countries }) => !countries.some((country) => notIn.has(country)));
  const onlyIn = set(filter.includeCountries);
  if (onlyIn !== undefined) {
    checks.push(({ countries }) => countries.length > 0 && countries.every((country) => onlyIn.has(country)));
  }
  const notOf = set(filter.excludeFamilies);
  if (notOf !== undefined) checks.push((candidate) => !familiesOf(candidate).some((name) => notOf.has(name)));
  const onlyOf = set(filter.includeFamilies);
  // Nobody is let in for what he calls himself.
  if (onlyOf !== undefined) checks.push(({ families }) => families.some((key) => onlyOf.has(key)));
  const only = set(filter.includeNodes?.map((id) => id.toLowerCase()));
  if (only !== undefined) checks.push(({ id }) => only.has(id));
  return checks.length === 0 ? undefined : (candidate) => checks.every((check) => check(candidate));
}

/** What a user may mean to keep out: proved families by their keys, others by what they call themselves. */
function familiesOf({ families, descriptor }: Candidate): readonly string[] {
  return [...families, ...descriptor.family];
}
