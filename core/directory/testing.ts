/** Descriptors for tests: real keys and signatures of a seeded generator, fields as the caller wants them. */
import { createNobleSuite } from '../crypto/noble-suite.ts';
import type { SignKeyPair } from '../crypto/suite.ts';
import type { Random } from '../ports.ts';
import { type DescriptorFields, type NodeDescriptor, signDescriptor } from './descriptor.ts';
import type { ViewNode } from './node-status.ts';

export const testSuite = createNobleSuite();
export const testNow = 1_800_000_000;

export function randomBytes(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  random.fill(bytes);
  return bytes;
}

export function makeDescriptor(
  random: Random,
  change: Partial<DescriptorFields> = {},
  identity: SignKeyPair = testSuite.ed25519(randomBytes(random, 32)),
): NodeDescriptor {
  return signDescriptor(
    {
      identity: identity.publicKey,
      linkX25519: randomBytes(random, 32),
      linkKem: randomBytes(random, 1184),
      mixKeys: [{ epoch: 500_000, x25519: randomBytes(random, 32), kem: randomBytes(random, 1184) }],
      addresses: [{ address: '192.0.2.1', port: 9001 }],
      roles: { mix: true, exit: false },
      exitPolicy: [],
      family: [],
      compliance: 'core',
      bandwidthBytesPerSecond: 1_000_000,
      published: testNow,
      expires: testNow + 10_800,
      ...change,
    },
    identity,
    testSuite,
  );
}

/** A node of a view without history: what it says is believed. */
export function makeViewNode(descriptor: NodeDescriptor): ViewNode {
  const { bandwidthBytesPerSecond } = descriptor;
  const weight = Math.max(1, bandwidthBytesPerSecond);
  return { descriptor, status: { flags: 0, bandwidthBytesPerSecond, weight, firstEpoch: 0 } };
}
