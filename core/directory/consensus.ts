/**
 * From votes to the view: a function of its input alone, so that all who have the same votes sign the same view.
 *
 * 1. A node is in when a majority of the votes list it (they list what they could reach).
 * 2. Its descriptor is the newest that any of these votes has: by `published`, then by digest. One that is not valid for
 *    the epoch (ended, or no mix key of the epoch) does not count.
 * 3. Flags by majority of the votes that list it; bandwidth their low median; first epoch their high median. Whatever
 *    fewer than half of them say can so move no value beyond what the others say.
 * 4. Parameters: those that a majority of all votes name, low median.
 * 5. Nodes beyond what a subnet or a family may have are left out, the youngest first.
 * 6. Weight = bandwidth, in a node's first epochs only a part of it.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { UnixSeconds } from '../ports.ts';
import { parseAddress, subnetKey } from './address.ts';
import { compareBytes, writeNumber } from './bytes.ts';
import { familyKeysOf, type NodeDescriptor, nodeIdHex } from './descriptor.ts';
import { NodeFlag, type NodeStatus, type ViewNode } from './node-status.ts';
import { ViewParam, type ViewParams, viewParam } from './params.ts';
import { buildView, type ViewBundle } from './view.ts';
import type { FindDescriptor, Vote, VoteEntry } from './vote.ts';

export interface ConsensusOptions {
  readonly epoch: number;
  readonly epochSeconds: number;
  readonly validAfter: UnixSeconds;
  readonly find: FindDescriptor;
}

/** The unsigned view. `votes` are of different voters, in any order. Throws DirectoryError as buildView does. */
export function computeConsensus(votes: readonly Vote[], options: ConsensusOptions, suite: CryptoSuite): ViewBundle {
  const { epoch, epochSeconds, validAfter } = options;
  const params = agreeOnParams(votes);
  const agreed = agreeOnNodes(votes, params, options);
  const nodes = limitCrowds(agreed, params, epoch, suite);
  return buildView(
    nodes,
    {
      epochSeconds,
      validAfter,
      freshUntil: (epoch + 1) * epochSeconds,
      // Relays take the keys of the epoch before, so a client that missed one view still gets through.
      validUntil: (epoch + 2) * epochSeconds,
      params,
    },
    suite,
  );
}

/** A node's share of the choice. */
export function weightOf(bandwidthBytesPerSecond: number, ageEpochs: number, rampEpochs: number): number {
  const part = rampEpochs <= 1 ? 1 : Math.min(1, (ageEpochs + 1) / rampEpochs);
  return Math.max(1, Math.floor(bandwidthBytesPerSecond * part));
}

/** May a descriptor be in the view of that epoch? */
export function fitsEpoch(descriptor: NodeDescriptor, epoch: number, validAfter: UnixSeconds): boolean {
  return descriptor.expires > validAfter && descriptor.mixKeys.some((keys) => keys.epoch === epoch);
}

/**
 * Leaves out the nodes that a subnet (/16 or /32, of any of a node's addresses) or a proved family has too many of. Who was
 * seen first stays; among equals the order is that of a hash, so that it can't be had for the asking.
 */
export function limitCrowds(
  nodes: readonly ViewNode[],
  params: ViewParams,
  epoch: number,
  suite: CryptoSuite,
): readonly ViewNode[] {
  const maxPerSubnet = viewParam(params, ViewParam.maxPerSubnet);
  const maxPerFamily = viewParam(params, ViewParam.maxPerFamily);
  if (maxPerSubnet <= 0 && maxPerFamily <= 0) return nodes;
  const epochBytes = new Uint8Array(6);
  writeNumber(epochBytes, 0, epoch, 6);
  const ordered = nodes
    .map((node) => ({ node, lot: suite.blake3(epochBytes, node.descriptor.nodeId) }))
    .sort((a, b) => a.node.status.firstEpoch - b.node.status.firstEpoch || compareBytes(a.lot, b.lot));
  const subnets = new Map<string, number>();
  const families = new Map<string, number>();
  return ordered.flatMap(({ node }) => {
    const { descriptor } = node;
    const nets = maxPerSubnet > 0 ? subnetsOf(descriptor) : [];
    const groups = maxPerFamily > 0 ? familyKeysOf(descriptor) : [];
    if (nets.some((net) => (subnets.get(net) ?? 0) >= maxPerSubnet)) return [];
    if (groups.some((group) => (families.get(group) ?? 0) >= maxPerFamily)) return [];
    for (const net of nets) subnets.set(net, (subnets.get(net) ?? 0) + 1);
    for (const group of groups) families.set(group, (families.get(group) ?? 0) + 1);
    return [node];
  });
}

function subnetsOf(descriptor: NodeDescriptor): readonly string[] {
  const nets = descriptor.addresses.flatMap(({ address }) => {
    const parsed = parseAddress(address);
    return parsed === undefined ? [] : [subnetKey(parsed)];
  });
  return [...new Set(nets)];
}

function agreeOnParams(votes: readonly Vote[]): ViewParams {
  const values = new Map<string, number[]>();
  for (const { params } of votes) {
    for (const [name, value] of Object.entries(params)) {
      const known = values.get(name);
      if (known === undefined) values.set(name, [value]);
      else known.push(value);
    }
  }
  const agreed: Record<string, number> = {};
  for (const [name, given] of values) if (isMajority(given.length, votes.length)) agreed[name] = lowMedian(given);
  return agreed;
}

function agreeOnNodes(votes: readonly Vote[], params: ViewParams, options: ConsensusOptions): ViewNode[] {
  const listed = new Map<string, VoteEntry[]>();
  for (const { entries } of votes) {
    for (const entry of entries) {
      const id = nodeIdHex(entry.nodeId);
      const known = listed.get(id);
      if (known === undefined) listed.set(id, [entry]);
      else known.push(entry);
    }
  }
  const nodes: ViewNode[] = [];
  for (const entries of listed.values()) {
    if (!isMajority(entries.length, votes.length)) continue;
    const descriptor = newest(entries, options);
    if (descriptor !== undefined) nodes.push({ descriptor, status: statusOf(entries, params, options.epoch) });
  }
  return nodes;
}

function newest(entries: readonly VoteEntry[], options: ConsensusOptions): NodeDescriptor | undefined {
  let best: { descriptor: NodeDescriptor; digest: Uint8Array } | undefined;
  for (const { digest } of entries) {
    const descriptor = options.find(nodeIdHex(digest));
    if (descriptor === undefined || !fitsEpoch(descriptor, options.epoch, options.validAfter)) continue;
    const later =
      best === undefined ||
      descriptor.published > best.descriptor.published ||
      (descriptor.published === best.descriptor.published && compareBytes(digest, best.digest) > 0);
    if (later) best = { descriptor, digest };
  }
  return best?.descriptor;
}

function statusOf(entries: readonly VoteEntry[], params: ViewParams, epoch: number): NodeStatus {
  let flags = 0;
  for (const flag of Object.values(NodeFlag)) {
    if (isMajority(entries.filter((entry) => (entry.flags & flag) !== 0).length, entries.length)) flags |= flag;
  }
  const voted = lowMedian(entries.map((entry) => entry.bandwidthBytesPerSecond));
  const believed = Math.max(0, viewParam(params, ViewParam.maxDeclaredBandwidth));
  const bandwidthBytesPerSecond = flags & NodeFlag.measured ? voted : Math.min(voted, believed);
  const firstEpoch = highMedian(entries.map((entry) => entry.firstEpoch));
  const weight = weightOf(bandwidthBytesPerSecond, epoch - firstEpoch, viewParam(params, ViewParam.rampEpochs));
  return { flags, bandwidthBytesPerSecond, weight, firstEpoch };
}

function isMajority(count: number, of: number): boolean {
  return 2 * count > of;
}

function lowMedian(values: readonly number[]): number {
  return sorted(values)[(values.length - 1) >> 1]!;
}

function highMedian(values: readonly number[]): number {
  return sorted(values)[values.length >> 1]!;
}

function sorted(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}
