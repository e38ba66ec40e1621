/** Views for path tests. Nothing here looks at keys or signatures, so descriptors are bare records. */
import type { NodeDescriptor } from '../directory/descriptor.ts';
import { nodeIdHex } from '../directory/descriptor.ts';

export interface TestNode {
  readonly bandwidth?: number;
  readonly address?: string;
  /** Behind `address`. */
  readonly otherAddress?: string;
  /** Names of proved families; their keys are testFamily(name). */
  readonly family?: readonly string[];
  readonly mix?: boolean;
  readonly exitPolicy?: readonly string[];
  readonly region?: string;
  /** Default 'full'. */
  readonly compliance?: NodeDescriptor['compliance'];
}

/** NodeID of the i-th node of a test view. */
export function testNodeId(i: number): Uint8Array {
  const id = new Uint8Array(32).fill(0xab);
  new DataView(id.buffer).setUint32(0, i);
  return id;
}

/** As filters name it. */
export const testFamily = (name: string): string => nodeIdHex(familyKey(name));

function familyKey(name: string): Uint8Array {
  const key = new Uint8Array(32);
  key.set(new TextEncoder().encode(name).subarray(0, 32));
  return key;
}

export const testId = (i: number): string => nodeIdHex(testNodeId(i));

/** Node i is at 20.i.0.1 (a /16 of its own) unless said otherwise; an exit when it has a policy. */
export function testView(nodes: readonly TestNode[], validAfter = 1_800_000_000) {
  return {
    view: { validAfter, validUntil: validAfter + 10_800 },
    nodes: nodes.map(
      (node, i): NodeDescriptor => ({
        nodeId: testNodeId(i),
        identity: new Uint8Array(32),
        linkX25519: new Uint8Array(32),
        linkKem: new Uint8Array(1184),
        mixKeys: [],
        addresses: [
          { address: node.address ?? `${20 + (i >> 8)}.${i & 255}.0.1`, port: 9001 },
          ...(node.otherAddress === undefined ? [] : [{ address: node.otherAddress, port: 9001 }]),
        ],
        roles: { mix: node.mix ?? true, exit: node.exitPolicy !== undefined },
        exitPolicy: node.exitPolicy ?? [],
        family: [],
        families: (node.family ?? []).map((name) => ({
          key: familyKey(name),
          certificate: new Uint8Array(64),
        })),
        ...(node.region === undefined ? {} : { region: node.region }),
        compliance: node.compliance ?? 'full',
        bandwidthBytesPerSecond: node.bandwidth ?? 1000,
        published: validAfter,
        expires: validAfter + 10_800,
        signature: new Uint8Array(64),
        body: new Uint8Array(0),
      }),
    ),
  };
}
