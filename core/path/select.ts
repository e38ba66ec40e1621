/**
 * Choosing the hops of a circuit.
 *
 * The exit is chosen first (few qualify), then the guard, then the middles, each with probability in proportion to
 * bandwidth among the nodes that go with all hops chosen before: no node, family, /16 (IPv4) or /32 (IPv6) twice. When
 * a choice leaves nobody for a later position it is taken back and the next one drawn, so a path is found if the
 * limit on steps allows and one exists.
 */
import { parseTarget, specialRange } from '../directory/address.ts';
import type { NodeDescriptor } from '../directory/descriptor.ts';
import type { Random } from '../ports.ts';
import { type Candidate, candidatesOf, compatible, type NodeSet } from './candidates.ts';
import { PathError, PathErrorCode } from './path-error.ts';
import { chooseIndex } from './weighted-choice.ts';

export const MIN_HOPS = 3;
export const MAX_HOPS = 7;

/** Draws before giving up: far more than any network with a few conflicts needs. */
const maxSteps = 2000;

export interface SelectConstraints {
  /** 3 to 7. */
  readonly hops: number;
  /** The last hop must be an exit whose policy takes this; a name is judged by its port alone. */
  readonly needExit?: { readonly host?: string; readonly port: number };
  /** NodeIDs (hex) that must not be used: e.g. ourselves, or what just failed. */
  readonly exclude?: readonly string[];
  /** The whole path, first hop first, as NodeIDs (hex): nothing is drawn, everything else is still checked. */
  readonly requiredNodeIds?: readonly string[];
  /** Guards (hex NodeIDs), best first: the first that fits is the first hop. Undefined = any node. */
  readonly guards?: readonly string[];
  /** Local networks: hops may share a /16 or /32. */
  readonly sameSubnetAllowed?: boolean;
  /** Exits may be asked for loopback and private targets where their rules say so. Default: `sameSubnetAllowed`. */
  readonly privateTargetsAllowed?: boolean;
}

/**
 * Chooses a path, first hop first. Throws PathError; the message says how many candidates each position had and which
 * constraint left none.
 */
export function selectPath(view: NodeSet, constraints: SelectConstraints, random: Random): NodeDescriptor[] {
  const plan = planPath(view, constraints);
  const search = new Search(plan, random);
  const path = search.run();
  if (path === undefined) throw search.failure();
  return path.map((candidate) => candidate.descriptor);
}

/** The candidates of each position before any is chosen. */
export interface PathPlan {
  /** `positions[i]` are the candidates of hop i. */
  readonly positions: readonly (readonly Candidate[])[];
  /** Hop 0's candidates are in order of preference, not to be drawn. */
  readonly orderedGuards: boolean;
  readonly sameSubnetAllowed: boolean;
}

/** Checks the request and lists the candidates by position. Throws PathError when a position has none. */
export function planPath(view: NodeSet, constraints: SelectConstraints): PathPlan {
  const { hops, requiredNodeIds } = constraints;
  if (!Number.isInteger(hops) || hops < MIN_HOPS || hops > MAX_HOPS) {
    throw new PathError(
      PathErrorCode.badRequest,
      `a path of ${hops} hops was asked for; ${MIN_HOPS} to ${MAX_HOPS} are possible`,
    );
  }
  const all = candidatesOf(view);
  const sameSubnetAllowed = constraints.sameSubnetAllowed ?? false;
  if (requiredNodeIds !== undefined) {
    return { positions: planRequired(all, constraints, requiredNodeIds), orderedGuards: false, sameSubnetAllowed };
  }
  const excluded = new Set(constraints.exclude?.map((id) => id.toLowerCase()));
  const free = all.filter((candidate) => !excluded.has(candidate.id));
  const mixes = free.filter((candidate) => candidate.descriptor.roles.mix);
  const exits = planExits(free, mixes, constraints);
  const guards = planGuards(mixes, constraints.guards);
  // The last hop may be an exit that does not mix, hence the count over both.
  const usable = new Set([...mixes, ...exits]).size;
  if (usable < hops) {
    throw new PathError(
      PathErrorCode.tooFewNodes,
      `${hops} different hops are needed; the view has ${all.length} nodes, of which ${usable} can be used (${excluded.size} are excluded)`,
    );
  }
  const positions = [guards, ...Array.from({ length: hops - 2 }, () => mixes), exits];
  return { positions, orderedGuards: constraints.guards !== undefined, sameSubnetAllowed };
}

function planRequired(
  all: readonly Candidate[],
  constraints: SelectConstraints,
  required: readonly string[],
): readonly (readonly Candidate[])[] {
  if (required.length !== constraints.hops) {
    throw new PathError(
      PathErrorCode.badRequest,
      `${required.length} nodes were named for a path of ${constraints.hops} hops; name all or none`,
    );
  }
  const byId = new Map(all.map((candidate) => [candidate.id, candidate]));
  const excluded = new Set(constraints.exclude?.map((id) => id.toLowerCase()));
  return required.map((given, i) => {
    const id = given.toLowerCase();
    const candidate = byId.get(id);
    if (candidate === undefined) {
      throw new PathError(PathErrorCode.unknownNode, `node ${given.slice(0, 64)} (hop ${i + 1}) is not in the view`);
    }
    if (excluded.has(id)) throw new PathError(PathErrorCode.badRequest, `node ${id} (hop ${i + 1}) is excluded`);
    const last = i === required.length - 1;
    if (last && constraints.needExit !== undefined) {
      if (!takesTarget(candidate, constraints)) {
        throw new PathError(PathErrorCode.noExit, `node ${id} is no exit for ${targetText(constraints)}`);
      }
    } else if (!candidate.descriptor.roles.mix) {
      throw new PathError(PathErrorCode.conflict, `node ${id} (hop ${i + 1}) does not relay`);
    }
    return [candidate];
  });
}

function planExits(
  free: readonly Candidate[],
  mixes: readonly Candidate[],
  constraints: SelectConstraints,
): readonly Candidate[] {
  if (constraints.needExit === undefined) return mixes;
  const exits = free.filter((candidate) => candidate.policy !== undefined);
  const taking = exits.filter((candidate) => takesTarget(candidate, constraints));
  if (taking.length === 0) {
    const special = refusedRange(constraints);
    const reason =
      special === undefined ? 'none has a policy that accepts it' : `it is in a special range (${special})`;
    throw new PathError(
      PathErrorCode.noExit,
      `no exit for ${targetText(constraints)}: of ${free.length} nodes ${exits.length} are exits, and ${reason}`,
    );
  }
  return taking;
}

function planGuards(mixes: readonly Candidate[], guards: readonly string[] | undefined): readonly Candidate[] {
  if (guards === undefined) return mixes;
  const byId = new Map(mixes.map((candidate) => [candidate.id, candidate]));
  const found = guards.map((id) => byId.get(id.toLowerCase())).filter((candidate) => candidate !== undefined);
  if (found.length === 0) {
    throw new PathError(
      PathErrorCode.noGuard,
      `none of the ${guards.length} guards can be used: not in the view, excluded, or not relaying`,
    );
  }
  return found;
}

function takesTarget(candidate: Candidate, constraints: SelectConstraints): boolean {
  const { policy } = candidate;
  const { host, port } = constraints.needExit!;
  if (policy === undefined) return false;
  if (host === undefined || parseTarget(host) === undefined) return policy.mayAllowPort(port);
  return refusedRange(constraints) === undefined && policy.allows(host, port);
}

/** The name of the special range that the target is in, when such targets are not allowed. */
function refusedRange(constraints: SelectConstraints): string | undefined {
  const host = constraints.needExit?.host;
  const target = host === undefined ? undefined : parseTarget(host);
  const allowed = constraints.privateTargetsAllowed ?? constraints.sameSubnetAllowed ?? false;
  return target === undefined || allowed ? undefined : specialRange(target);
}

function targetText(constraints: SelectConstraints): string {
  const { host, port } = constraints.needExit!;
  return host === undefined ? `port ${port}` : `${host.slice(0, 255)}:${port}`;
}

/** Depth-first search in random order; state of one selectPath call. */
class Search {
  readonly #plan: PathPlan;
  readonly #random: Random;
  /** Positions in the order they are decided: exit, guard, then the middles. */
  readonly #order: readonly number[];
  readonly #path: (Candidate | undefined)[];
  #steps = 0;
  /** The deepest position that was ever left without candidates, for the message. */
  #stuckDepth = -1;

  constructor(plan: PathPlan, random: Random) {
    const hops = plan.positions.length;
    this.#plan = plan;
    this.#random = random;
    this.#order = [hops - 1, 0, ...Array.from({ length: hops - 2 }, (_, i) => i + 1)];
    this.#path = new Array(hops).fill(undefined);
  }

  run(): Candidate[] | undefined {
    return this.#decide(0) ? this.#path.map((candidate) => candidate!) : undefined;
  }

  failure(): PathError {
    const { positions, sameSubnetAllowed } = this.#plan;
    const position = this.#order[Math.max(0, this.#stuckDepth)]!;
    const counts = positions.map((candidates) => candidates.length).join(', ');
    const rule = sameSubnetAllowed ? 'node or family' : 'node, family, /16 (IPv4) or /32 (IPv6) network';
    const code =
      position === 0
        ? PathErrorCode.noGuard
        : position === positions.length - 1
          ? PathErrorCode.noExit
          : PathErrorCode.noMiddle;
    const gaveUp = this.#steps >= maxSteps ? ` (gave up after ${maxSteps} draws)` : '';
    return new PathError(
      positions.every((candidates) => candidates.length === 1) ? PathErrorCode.conflict : code,
      `no path of ${positions.length} hops${gaveUp}: the hops have ${counts} candidates, but hop ${position + 1} is left with none that shares no ${rule} with the others`,
    );
  }

  #decide(depth: number): boolean {
    if (depth === this.#order.length) return true;
    const position = this.#order[depth]!;
    const chosen = this.#path.filter((candidate) => candidate !== undefined);
    const fitting = this.#plan.positions[position]!.filter((candidate) =>
      chosen.every((other) => compatible(candidate, other, this.#plan.sameSubnetAllowed)),
    );
    if (fitting.length === 0) this.#stuckDepth = Math.max(this.#stuckDepth, depth);
    const inOrder = position === 0 && this.#plan.orderedGuards;
    const weights = fitting.map((candidate) => candidate.weight);
    for (let left = fitting.length; left > 0 && this.#steps < maxSteps; left--) {
      this.#steps++;
      const index = inOrder ? fitting.length - left : chooseIndex(weights, this.#random);
      this.#path[position] = fitting[index]!;
      if (this.#decide(depth + 1)) return true;
      this.#path[position] = undefined;
      weights[index] = 0;
    }
    return false;
  }
}
