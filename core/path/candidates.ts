/** A view prepared for choosing: what the rules of a path look at, computed once per view. */
import { parseAddress, subnetKey } from '../directory/address.ts';
import { type NodeDescriptor, nodeIdHex } from '../directory/descriptor.ts';
import { type ExitPolicy, parseExitPolicy } from '../directory/exit-policy.ts';

/** What of a view is needed here; VerifiedView has it. */
export interface NodeSet {
  readonly nodes: readonly NodeDescriptor[];
}

export interface Candidate {
  /** NodeID in lower-case hex. */
  readonly id: string;
  readonly descriptor: NodeDescriptor;
  /** Share of the choice: advertised bandwidth, at least 1 so that no node is unreachable. */
  readonly weight: number;
  /** /16 (IPv4) and /32 (IPv6) networks of all its addresses. */
  readonly subnets: readonly string[];
  /** Undefined when the node is no exit. Special ranges are left to the rules. */
  readonly policy: ExitPolicy | undefined;
}

const prepared = new WeakMap<NodeSet, readonly Candidate[]>();

/** Candidates of a view, in the view's order. Memoised for as long as the view lives. */
export function candidatesOf(view: NodeSet): readonly Candidate[] {
  let candidates = prepared.get(view);
  if (candidates === undefined) {
    candidates = view.nodes.map(toCandidate);
    prepared.set(view, candidates);
  }
  return candidates;
}

/** May both be in one path? */
export function compatible(a: Candidate, b: Candidate, sameSubnetAllowed: boolean): boolean {
  if (a.id === b.id) return false;
  if (shareAny(a.descriptor.family, b.descriptor.family)) return false;
  return sameSubnetAllowed || !shareAny(a.subnets, b.subnets);
}

function toCandidate(descriptor: NodeDescriptor): Candidate {
  const subnets = new Set<string>();
  for (const { address } of descriptor.addresses) {
    const parsed = parseAddress(address);
    if (parsed !== undefined) subnets.add(subnetKey(parsed));
  }
  return {
    id: nodeIdHex(descriptor.nodeId),
    descriptor,
    weight: Math.max(1, descriptor.bandwidthBytesPerSecond),
    subnets: [...subnets],
    policy: descriptor.roles.exit ? parseExitPolicy(descriptor.exitPolicy, { allowPrivate: true }) : undefined,
  };
}

function shareAny(a: readonly string[], b: readonly string[]): boolean {
  return a.some((item) => b.includes(item));
}
