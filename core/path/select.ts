/**
 * Choosing the hops of a circuit.
 *
 * The exit is chosen first (few qualify), then the guard, then the middles, each with probability in proportion to its
 * weight among the nodes that go with all hops chosen before: no node, family, /16 (IPv4) or /32 (IPv6) twice, and what
 * the diversity rules say; and neighbours have a family of addresses in common. Drawing is by rejection from tables made once per view, so it costs nothing per node; where
 * few fit, the fitting ones are listed and drawn from, which gives the same distribution. When a choice leaves nobody for
 * a later position an exhaustive search takes choices back, so a path is found if the limit on steps allows and one
 * exists.
 *
 * Strategy `latency` draws several whole paths like that and keeps the fastest. A path's probability thereby grows at
 * most by their number, whatever the client believes about latencies: that bounds what the knob costs, and what somebody
 * who manipulates latencies can gain.
 */
import { REACH_ALL } from '../directory/address.ts';
import type { NodeDescriptor } from '../directory/descriptor.ts';
import type { Random } from '../ports.ts';
import {
  type Candidate,
  compatible,
  compatibleEnds,
  type DiversityRules,
  linkable,
  type NodeSet,
} from './candidates.ts';
import {
  diversityRules,
  type PathPlan,
  planPath,
  refusedRange,
  type SelectConstraints,
  takesTarget,
  targetText,
} from './constraints.ts';
import { PathError, PathErrorCode } from './path-error.ts';
import { chooseIndex, uniform } from './weighted-choice.ts';
import type { WeightedPool } from './weighted-pool.ts';

/** Draws before giving up: far more than any network with a few conflicts needs. */
const maxSteps = 2000;
/** Draws by rejection before the fitting ones are listed. */
const maxRejections = 48;
/** Sets of disjoint paths that are begun before the largest one is taken. */
const maxDisjointTries = 12;
/** Of strategy `latency` at bias 1: the fastest of so many paths. Costs at most log2 of it, in bits. */
export const MAX_LATENCY_DRAWS = 64;

export interface ChosenPath {
  /** First hop first. */
  readonly hops: readonly Candidate[];
  /** Preferences that had to be given up: `as`, `country`. */
  readonly relaxed: readonly string[];
}

/** As choosePath; the descriptors alone. */
export function selectPath(view: NodeSet, constraints: SelectConstraints, random: Random): NodeDescriptor[] {
  return choosePath(view, constraints, random).hops.map((candidate) => candidate.descriptor);
}

/**
 * Chooses a path. Throws PathError; the message says how many candidates each position had and which constraint left
 * none.
 */
export function choosePath(view: NodeSet, constraints: SelectConstraints, random: Random): ChosenPath {
  const plan = planPath(view, constraints);
  const rules = diversityRules(constraints);
  if (constraints.requiredNodeIds !== undefined) return chooseRequired(plan, rules, random);
  const [strictest] = rules as [DiversityRules];
  let best = drawPath(plan, strictest, random);
  if (best === undefined) return chooseExhaustively(plan, rules, random);
  const { latency } = constraints;
  if (constraints.strategy === 'latency' && latency !== undefined) {
    let bestBins = binsOf(best, latency);
    for (let left = latencyDraws(constraints, random) - 1; left > 0; left--) {
      const path = drawPath(plan, strictest, random);
      if (path === undefined) continue;
      const bins = binsOf(path, latency);
      if (bins < bestBins) {
        best = path;
        bestBins = bins;
      }
    }
  }
  return { hops: best, relaxed: [] };
}

/**
 * Up to `count` paths that have no node in common, first hops included. The first is chosen as any path is, each next one
 * among what is left. Throws PathError when there is not even one; fewer than `count` are returned when no more exist.
 */
export function chooseDisjointPaths(
  view: NodeSet,
  constraints: SelectConstraints,
  count: number,
  random: Random,
): ChosenPath[] {
  let best: ChosenPath[] = [];
  // In a small network the first path may take all exits: then another first one may leave some.
  for (let tries = 0; tries < maxDisjointTries && best.length < count; tries++) {
    const paths = [choosePath(view, constraints, random)];
    while (paths.length < count) {
      const next = chooseBeside(view, constraints, paths, random);
      if (next === undefined) break;
      paths.push(next);
    }
    if (paths.length > best.length) best = paths;
  }
  return best;
}

function chooseBeside(
  view: NodeSet,
  constraints: SelectConstraints,
  paths: readonly ChosenPath[],
  random: Random,
): ChosenPath | undefined {
  const used = paths.flatMap(({ hops }) => hops.map(({ id }) => id));
  try {
    return choosePath(view, { ...constraints, exclude: [...(constraints.exclude ?? []), ...used] }, random);
  } catch (error) {
    if (error instanceof PathError) return undefined;
    throw error;
  }
}

/** Mean number of paths that strategy `latency` chooses from: 64^bias. */
export function meanLatencyDraws(bias: number): number {
  return MAX_LATENCY_DRAWS ** Math.min(1, Math.max(0, bias));
}

/** One of the two whole numbers next to the mean, so that on average it is the mean. */
function latencyDraws({ latencyBias = 0.5 }: SelectConstraints, random: Random): number {
  const mean = meanLatencyDraws(latencyBias);
  const whole = Math.floor(mean);
  return mean > whole && uniform(random) < mean - whole ? whole + 1 : whole;
}

/** Time of all hops behind the first, which the client keeps anyway. */
function binsOf(path: readonly Candidate[], latency: { binOf(id: string): number }): number {
  let bins = 0;
  for (let i = 1; i < path.length; i++) bins += latency.binOf(path[i]!.id);
  return bins;
}

/** One draw; undefined when a choice left nobody for a later position. */
function drawPath(plan: PathPlan, rules: DiversityRules, random: Random): Candidate[] | undefined {
  const { hops } = plan;
  const path = new Array<Candidate | undefined>(hops).fill(undefined);
  for (let step = 0; step < hops; step++) {
    const position = positionAt(step, hops);
    const preferred = preferredAt(plan, position);
    const chosen =
      preferred === undefined
        ? drawHop(plan, rules, path, position, random)
        : position === 0
          ? preferred.find((candidate) => fits(plan, rules, path, position, candidate))
          : drawListed(plan, rules, path, position, preferred, random);
    if (chosen === undefined) return undefined;
    path[position] = chosen;
  }
  return path as Candidate[];
}

/** Positions in the order they are decided: exit, guard, then the middles. */
const positionAt = (step: number, hops: number): number => (step === 0 ? hops - 1 : step - 1);

const poolAt = (plan: PathPlan, position: number): WeightedPool<Candidate> =>
  position === plan.hops - 1 ? plan.exits : plan.network.relays;

const preferredAt = (plan: PathPlan, position: number): readonly Candidate[] | undefined =>
  position === plan.hops - 1
    ? plan.lastHops
    : position === 0
      ? plan.guards
      : position === 1
        ? plan.secondHops
        : undefined;

function drawHop(
  plan: PathPlan,
  rules: DiversityRules,
  path: readonly (Candidate | undefined)[],
  position: number,
  random: Random,
): Candidate | undefined {
  const pool = poolAt(plan, position);
  const { strategy, feedback } = plan.constraints;
  const factors = feedback?.factorsFor(pool, plan.network);
  for (let tries = 0; tries < maxRejections; tries++) {
    const candidate = strategy === 'uniform' ? pool.drawEvenly(random) : pool.draw(random);
    if (candidate === undefined) return undefined;
    if (!fits(plan, rules, path, position, candidate)) continue;
    const factor = factors?.get(candidate.id);
    if (factor === undefined || uniform(random) < factor) return candidate;
  }
  return drawListed(plan, rules, path, position, pool.members, random);
}

function drawListed(
  plan: PathPlan,
  rules: DiversityRules,
  path: readonly (Candidate | undefined)[],
  position: number,
  from: readonly Candidate[],
  random: Random,
): Candidate | undefined {
  const fitting = from.filter((candidate) => fits(plan, rules, path, position, candidate));
  return fitting[chooseIndex(weightsAt(plan, position, fitting), random)];
}

function fits(
  plan: PathPlan,
  rules: DiversityRules,
  path: readonly (Candidate | undefined)[],
  position: number,
  candidate: Candidate,
): boolean {
  const last = path.length - 1;
  if (!plan.eligible(candidate, position === last)) return false;
  if (position === 0 && (candidate.reach & (plan.constraints.reach ?? REACH_ALL)) === 0) return false;
  for (let i = 0; i < path.length; i++) {
    const other = path[i];
    if (other === undefined || i === position) continue;
    if (!compatible(candidate, other, rules)) return false;
    if ((i === position - 1 || i === position + 1) && !linkable(candidate, other)) return false;
    const ends = (position === 0 && i === last) || (position === last && i === 0);
    if (ends && !compatibleEnds(candidate, other, rules)) return false;
  }
  return true;
}

/** The weights that `candidates` are drawn with at this position. */
export function weightsAt(plan: PathPlan, position: number, candidates: readonly Candidate[]): number[] {
  const { strategy, feedback } = plan.constraints;
  const factors = feedback?.factorsFor(poolAt(plan, position), plan.network);
  return candidates.map(({ id, weight }) => (strategy === 'uniform' ? 1 : weight) * (factors?.get(id) ?? 1));
}

/** The candidates of each position before any is chosen. O(nodes). Throws PathError when a position has none. */
export function listCandidates(plan: PathPlan): readonly (readonly Candidate[])[] {
  const { network, hops, constraints } = plan;
  const mixes = network.relays.members.filter((candidate) => plan.eligible(candidate, false));
  const exits = plan.lastHops ?? plan.exits.members.filter((candidate) => plan.eligible(candidate, true));
  if (constraints.needExit !== undefined && exits.length === 0) throw noExit(plan);
  if (plan.guards?.length === 0) {
    throw new PathError(
      PathErrorCode.noGuard,
      `none of the ${constraints.guards!.length} guards can be used: not in the view, excluded, or not relaying`,
    );
  }
  // The last hop may be an exit that does not mix, hence the count over both.
  const usable = new Set([...mixes, ...exits]).size;
  if (usable < hops) {
    throw new PathError(
      PathErrorCode.tooFewNodes,
      `${hops} different hops are needed; the view has ${network.candidates.length} nodes, of which ${usable} can be used (${plan.excludedCount} are excluded)`,
    );
  }
  return Array.from({ length: hops }, (_, position) =>
    position === hops - 1 ? exits : (preferredAt(plan, position) ?? mixes),
  );
}

function noExit(plan: PathPlan): PathError {
  const { network, constraints } = plan;
  const free = network.candidates.filter((candidate) => plan.eligible(candidate, false));
  const exits = free.filter(({ policy }) => policy !== undefined);
  const special = refusedRange(constraints);
  const reason = special === undefined ? 'none has a policy that accepts it' : `it is in a special range (${special})`;
  return new PathError(
    PathErrorCode.noExit,
    `no exit for ${targetText(constraints)}: of ${free.length} nodes ${exits.length} are exits, and ${reason}`,
  );
}

function chooseRequired(plan: PathPlan, rules: readonly DiversityRules[], random: Random): ChosenPath {
  const required = plan.constraints.requiredNodeIds!;
  if (required.length !== plan.hops) {
    throw new PathError(
      PathErrorCode.badRequest,
      `${required.length} nodes were named for a path of ${plan.hops} hops; name all or none`,
    );
  }
  const positions = required.map((given, i) => [requiredHop(plan, given, i)]);
  return searchAll(plan, positions, rules, random);
}

function requiredHop(plan: PathPlan, given: string, i: number): Candidate {
  const { network, constraints } = plan;
  const id = given.toLowerCase();
  const candidate = network.byId.get(id);
  if (candidate === undefined) {
    throw new PathError(PathErrorCode.unknownNode, `node ${given.slice(0, 64)} (hop ${i + 1}) is not in the view`);
  }
  if (!plan.eligible(candidate, false)) {
    throw new PathError(PathErrorCode.badRequest, `node ${id} (hop ${i + 1}) is excluded`);
  }
  const last = i === plan.hops - 1;
  if (last && constraints.needExit !== undefined) {
    if (!takesTarget(candidate, constraints)) {
      throw new PathError(PathErrorCode.noExit, `node ${id} is no exit for ${targetText(constraints)}`);
    }
  } else if (!candidate.descriptor.roles.mix) {
    throw new PathError(PathErrorCode.conflict, `node ${id} (hop ${i + 1}) does not relay`);
  }
  return candidate;
}

function chooseExhaustively(plan: PathPlan, rules: readonly DiversityRules[], random: Random): ChosenPath {
  return searchAll(plan, listCandidates(plan), rules, random);
}

/** Tries the rules from the strictest on. Throws the last one's failure. */
function searchAll(
  plan: PathPlan,
  positions: readonly (readonly Candidate[])[],
  rules: readonly DiversityRules[],
  random: Random,
): ChosenPath {
  let failure: PathError | undefined;
  for (const rule of rules) {
    const search = new Search(plan, positions, rule, random);
    const hops = search.run();
    if (hops !== undefined) return { hops, relaxed: relaxedBy(rule, rules[0]!) };
    failure = search.failure();
  }
  throw failure!;
}

function relaxedBy(rule: DiversityRules, strictest: DiversityRules): string[] {
  return [
    ...(rule.sameCountryAllowed && !strictest.sameCountryAllowed ? ['country'] : []),
    ...(rule.sameAsAllowed && !strictest.sameAsAllowed ? ['as'] : []),
  ];
}

/** Depth-first search in random order; state of one call. */
class Search {
  readonly #plan: PathPlan;
  readonly #positions: readonly (readonly Candidate[])[];
  readonly #rules: DiversityRules;
  readonly #random: Random;
  readonly #path: (Candidate | undefined)[];
  #steps = 0;
  /** The deepest step that was ever left without candidates, for the message. */
  #stuckStep = -1;

  constructor(plan: PathPlan, positions: readonly (readonly Candidate[])[], rules: DiversityRules, random: Random) {
    this.#plan = plan;
    this.#positions = positions;
    this.#rules = rules;
    this.#random = random;
    this.#path = new Array(plan.hops).fill(undefined);
  }

  run(): Candidate[] | undefined {
    return this.#decide(0) ? this.#path.map((candidate) => candidate!) : undefined;
  }

  failure(): PathError {
    const positions = this.#positions;
    const position = positionAt(Math.max(0, this.#stuckStep), positions.length);
    const counts = positions.map((candidates) => candidates.length).join(', ');
    const rule = [
      'node',
      'family',
      ...(this.#rules.sameAsAllowed ? [] : ['autonomous system']),
      ...(this.#rules.sameCountryAllowed ? [] : ['country (first and last hop)']),
      ...(this.#rules.sameSubnetAllowed ? [] : ['/16 (IPv4) or /32 (IPv6) network']),
    ].join(', ');
    const code =
      position === 0
        ? PathErrorCode.noGuard
        : position === positions.length - 1
          ? PathErrorCode.noExit
          : PathErrorCode.noMiddle;
    const gaveUp = this.#steps >= maxSteps ? ` (gave up after ${maxSteps} draws)` : '';
    return new PathError(
      positions.every((candidates) => candidates.length === 1) ? PathErrorCode.conflict : code,
      `no path of ${positions.length} hops${gaveUp}: the hops have ${counts} candidates, but hop ${position + 1} is left with none that shares no ${rule} with the others and reaches its neighbours by IPv4 or IPv6`,
    );
  }

  #decide(step: number): boolean {
    const { hops } = this.#plan;
    if (step === hops) return true;
    const position = positionAt(step, hops);
    const fitting = this.#positions[position]!.filter((candidate) =>
      fits(this.#plan, this.#rules, this.#path, position, candidate),
    );
    if (fitting.length === 0) this.#stuckStep = Math.max(this.#stuckStep, step);
    const inOrder = position === 0 && this.#plan.guards !== undefined;
    const weights = weightsAt(this.#plan, position, fitting);
    for (let left = fitting.length; left > 0 && this.#steps < maxSteps; left--) {
      this.#steps++;
      const index = inOrder ? fitting.length - left : chooseIndex(weights, this.#random);
      this.#path[position] = fitting[index]!;
      if (this.#decide(step + 1)) return true;
      this.#path[position] = undefined;
      weights[index] = 0;
    }
    return false;
  }
}
