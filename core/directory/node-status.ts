/**
 * What the authorities say of a node, beside what it says of itself: part of the view, under the same signatures.
 *
 *   status (20) = flags (2) ‖ bandwidth (6) ‖ weight (6) ‖ first epoch (6)
 */
import type { PeerAddress } from '../ports.ts';
import { REACH_IPV4, REACH_IPV6, reachOf } from './address.ts';
import { type ByteReader, writeNumber } from './bytes.ts';
import type { NodeDescriptor } from './descriptor.ts';

export const NODE_STATUS_BYTES = 20;

/** Bits of `NodeStatus.flags`; each is given by a majority of the votes that list the node. */
export const NodeFlag = {
  /** `bandwidthBytesPerSecond` was measured; without it, it is what the node says, cut to what the view allows. */
  measured: 1,
  /** Answered nearly every probe for long enough to be relied upon. */
  stable: 2,
  /** Stable, no newcomer any more, and not slow: fit to be a guard. */
  guard: 4,
  /** It announces IPv4 addresses, and not all of them lead to it. Authorities without IPv4 themselves say nothing of it. */
  ipv4Fails: 8,
  /** The same of IPv6. */
  ipv6Fails: 16,
} as const;
export type NodeFlag = (typeof NodeFlag)[keyof typeof NodeFlag];
export const ALL_NODE_FLAGS = 31;

export interface NodeStatus {
  /** Bits of NodeFlag. */
  readonly flags: number;
  /** Low median of the votes. */
  readonly bandwidthBytesPerSecond: number;
  /** The node's share of the choice: bandwidth, less for newcomers. At least 1. */
  readonly weight: number;
  /** The epoch in which the authorities first saw it. */
  readonly firstEpoch: number;
}

/** Ways to a node, as bits of Reach: by what it announces, less what the authorities found to lead nowhere. */
export function reachOfNode(addresses: readonly PeerAddress[], flags: number): number {
  let reach = 0;
  for (const { address } of addresses) reach |= reachOf(address);
  return reach & ~failingReach(flags);
}

/** Those of its addresses that lead to it, in its order. */
export function workingAddresses(addresses: readonly PeerAddress[], flags: number): readonly PeerAddress[] {
  const fails = failingReach(flags);
  return fails === 0 ? addresses : addresses.filter(({ address }) => (reachOf(address) & fails) === 0);
}

function failingReach(flags: number): number {
  return (flags & NodeFlag.ipv4Fails ? REACH_IPV4 : 0) | (flags & NodeFlag.ipv6Fails ? REACH_IPV6 : 0);
}

/** A node of a view. */
export interface ViewNode {
  readonly descriptor: NodeDescriptor;
  readonly status: NodeStatus;
}

export function encodeNodeStatus(status: NodeStatus): Uint8Array {
  const bytes = new Uint8Array(NODE_STATUS_BYTES);
  writeNumber(bytes, 0, status.flags, 2);
  writeNumber(bytes, 2, status.bandwidthBytesPerSecond, 6);
  writeNumber(bytes, 8, status.weight, 6);
  writeNumber(bytes, 14, status.firstEpoch, 6);
  return bytes;
}

/** Throws DirectoryError MALFORMED for unknown flags or no weight. */
export function readNodeStatus(reader: ByteReader): NodeStatus {
  const flags = reader.number(2);
  if ((flags & ~ALL_NODE_FLAGS) !== 0) throw reader.malformed(`has a node with unknown flags ${flags}`);
  const bandwidthBytesPerSecond = reader.number(6);
  const weight = reader.number(6);
  if (weight === 0) throw reader.malformed('has a node without weight');
  return { flags, bandwidthBytesPerSecond, weight, firstEpoch: reader.number(6) };
}
