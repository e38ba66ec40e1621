/** A view prepared for choosing: what the rules of a path look at, computed once per view. */
import { parseAddress, subnetKey } from '../directory/address.ts';
import { familyKeysOf, type NodeDescriptor, nodeIdHex } from '../directory/descriptor.ts';
import { type ExitPolicy, parseExitPolicy } from '../directory/exit-policy.ts';
import { NodeFlag, type NodeStatus, reachOfNode } from '../directory/node-status.ts';
import { WeightedPool } from './weighted-pool.ts';

/** What of a view is needed here; VerifiedView has it. */
export interface NodeSet {
  readonly nodes: readonly NodeDescriptor[];
  /** What the authorities signed of `nodes[i]`. Absent: the descriptors' own claims count. */
  readonly statuses?: readonly Pick<NodeStatus, 'weight' | 'flags'>[];
}

/** Where an address is, from tables that the client brings along. */
export interface AddressOrigin {
  /** ISO 3166-1 alpha-2. */
  readonly country: string | undefined;
  readonly asn: number | undefined;
}

/** By literal address, as descriptors write it. */
export type Origins = ReadonlyMap<string, AddressOrigin>;

export interface Candidate {
  /** NodeID in lower-case hex. */
  readonly id: string;
  readonly descriptor: NodeDescriptor;
  /** Share of the choice, at least 1 so that no node is unreachable. */
  readonly weight: number;
  /** The authorities hold it fit to be a first hop; true for all where they say nothing of it. */
  readonly fitGuard: boolean;
  /** Keys of the families that it is proved to be in, hex. */
  readonly families: readonly string[];
  /** /16 (IPv4) and /32 (IPv6) networks of all its addresses. */
  readonly subnets: readonly string[];
  /** Ways to it, bits of Reach, and as far as anybody knows those from it: a link between two nodes needs one in common. */
  readonly reach: number;
  /** Countries of all its addresses; what the operator declares where no table knows one. */
  readonly countries: readonly string[];
  /** Autonomous systems of all its addresses, as far as known. */
  readonly asns: readonly number[];
  /** Undefined when the node is no exit. Special ranges are left to the rules. */
  readonly policy: ExitPolicy | undefined;
}

/** What two hops of a path may not have in common, besides being the same node or of one family. */
export interface DiversityRules {
  readonly sameSubnetAllowed: boolean;
  readonly sameAsAllowed: boolean;
  /** First and last hop. */
  readonly sameCountryAllowed: boolean;
}

/** Exit ports whose pools are kept per network. */
const maxPortPools = 64;

/** The nodes of one view with pools to draw from. Building one costs O(nodes); drawing from it does not. */
export class Network {
  readonly candidates: readonly Candidate[];
  readonly byId: ReadonlyMap<string, Candidate>;
  /** Those that relay. */
  readonly relays: WeightedPool<Candidate>;
  readonly exits: readonly Candidate[];
  readonly totalWeight: number;
  readonly #portPools = new Map<number, WeightedPool<Candidate>>();

  constructor(view: NodeSet, origins: Origins | undefined) {
    const { statuses } = view;
    const policies = new Map<string, ExitPolicy>();
    this.candidates = view.nodes.map((node, i) => toCandidate(node, statuses?.[i], origins, policies));
    this.byId = new Map(this.candidates.map((candidate) => [candidate.id, candidate]));
    this.relays = new WeightedPool(this.candidates.filter(({ descriptor }) => descriptor.roles.mix));
    this.exits = this.candidates.filter(({ policy }) => policy !== undefined);
    this.totalWeight = this.candidates.reduce((sum, { weight }) => sum + weight, 0);
  }

  /** Exits that take this port at some address. Kept for the ports that were asked for last. */
  exitsFor(port: number): WeightedPool<Candidate> {
    let pool = this.#portPools.get(port);
    if (pool === undefined) {
      if (this.#portPools.size >= maxPortPools) this.#portPools.delete(this.#portPools.keys().next().value!);
      const verdicts = new Map<ExitPolicy, boolean>();
      const taking = this.exits.filter(({ policy }) => {
        let verdict = verdicts.get(policy!);
        if (verdict === undefined) {
          verdict = policy!.mayAllowPort(port);
          verdicts.set(policy!, verdict);
        }
        return verdict;
      });
      pool = new WeightedPool(taking);
    } else {
      this.#portPools.delete(port);
    }
    this.#portPools.set(port, pool);
    return pool;
  }
}

const prepared = new WeakMap<NodeSet, { readonly origins: Origins | undefined; readonly network: Network }>();

/** The network of a view. Memoised for as long as the view lives and `origins` is the same. */
export function networkOf(view: NodeSet, origins?: Origins): Network {
  let entry = prepared.get(view);
  if (entry === undefined || entry.origins !== origins) {
    entry = { origins, network: new Network(view, origins) };
    prepared.set(view, entry);
  }
  return entry.network;
}

/** May both be in one path? */
export function compatible(a: Candidate, b: Candidate, rules: DiversityRules): boolean {
  if (a.id === b.id) return false;
  if (shareAny(a.families, b.families)) return false;
  if (!rules.sameSubnetAllowed && shareAny(a.subnets, b.subnets)) return false;
  return rules.sameAsAllowed || !shareAny(a.asns, b.asns);
}

/** Can one open a link to the other, being neighbours on a path? */
export function linkable(a: Candidate, b: Candidate): boolean {
  return (a.reach & b.reach) !== 0;
}

/** May these be the first and the last hop of one path? */
export function compatibleEnds(first: Candidate, last: Candidate, rules: DiversityRules): boolean {
  return rules.sameCountryAllowed || !shareAny(first.countries, last.countries);
}

function toCandidate(
  descriptor: NodeDescriptor,
  status: Pick<NodeStatus, 'weight' | 'flags'> | undefined,
  origins: Origins | undefined,
  policies: Map<string, ExitPolicy>,
): Candidate {
  const subnets = new Set<string>();
  const countries = new Set<string>();
  const asns = new Set<number>();
  for (const { address } of descriptor.addresses) {
    const parsed = parseAddress(address);
    if (parsed !== undefined) subnets.add(subnetKey(parsed));
    const origin = origins?.get(address);
    if (origin?.country !== undefined) countries.add(origin.country);
    if (origin?.asn !== undefined) asns.add(origin.asn);
  }
  if (countries.size === 0 && descriptor.region !== undefined) countries.add(descriptor.region);
  return {
    id: nodeIdHex(descriptor.nodeId),
    descriptor,
    weight: Math.max(1, status?.weight ?? descriptor.bandwidthBytesPerSecond),
    fitGuard: status === undefined || (status.flags & NodeFlag.guard) !== 0,
    families: familyKeysOf(descriptor),
    subnets: [...subnets],
    reach: reachOfNode(descriptor.addresses, status?.flags ?? 0),
    countries: [...countries],
    asns: [...asns],
    policy: descriptor.roles.exit ? policyOf(descriptor, policies) : undefined,
  };
}

/** Most exits of a network have one of a few policies: each is parsed once. */
function policyOf({ exitPolicy }: NodeDescriptor, policies: Map<string, ExitPolicy>): ExitPolicy {
  const key = exitPolicy.join('\n');
  let policy = policies.get(key);
  if (policy === undefined) {
    policy = parseExitPolicy(exitPolicy, { allowPrivate: true });
    policies.set(key, policy);
  }
  return policy;
}

function shareAny<T>(a: readonly T[], b: readonly T[]): boolean {
  for (const item of a) if (b.includes(item)) return true;
  return false;
}
