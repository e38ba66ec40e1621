/** Peers for tests: real libp2p nodes on loopback, with keys, a folder of their own and a view that they hold. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { identify } from '@libp2p/identify';
import type { Libp2p } from '@libp2p/interface';
import { kadDHT, type SingleKadDHT } from '@libp2p/kad-dht';
import { noise } from '@libp2p/noise';
import { type Ping, ping } from '@libp2p/ping';
import { tcp } from '@libp2p/tcp';
import { yamux } from '@libp2p/yamux';
import type { SignKeyPair } from '@nyx/core/crypto/suite.ts';
import {
  type DescriptorFields,
  decodeDescriptor,
  encodeDescriptor,
  nodeIdHex,
  nodeIdOf,
  signDescriptor,
} from '@nyx/core/directory/descriptor.ts';
import { makeViewNode } from '@nyx/core/directory/testing.ts';
import {
  buildView,
  decodeViewBundle,
  encodeViewBundle,
  signView,
  type VerifiedView,
  verifyViewBundle,
} from '@nyx/core/directory/view.ts';
import { applyDelta, isDelta } from '@nyx/core/directory/view-delta.ts';
import { createLibp2p } from 'libp2p';
import { createNativeSuite } from '../io/native-suite.ts';
import { systemRandom } from '../io/system-random.ts';
import { type MutableCounters, type P2pOptions, type P2pPorts, P2pProtocol, zeroCounters } from './contract.ts';
import { P2pNode } from './node.ts';

export const suite = createNativeSuite();
export const unixSeconds = (): number => Math.floor(Date.now() / 1000);
export const EPOCH_SECONDS = 3600;

export const makeKey = (): SignKeyPair => suite.ed25519(randomBytes(32));

/** Encoded descriptor of the node with this identity, valid now unless `change` says otherwise. */
export const makeDescriptor = (
  identity: SignKeyPair,
  change: Partial<DescriptorFields> = {},
): { readonly nodeId: string; readonly bytes: Uint8Array } => {
  const published = change.published ?? unixSeconds();
  const fields: DescriptorFields = {
    identity: identity.publicKey,
    linkX25519: randomBytes(32),
    linkKem: randomBytes(1184),
    mixKeys: [{ epoch: Math.floor(published / EPOCH_SECONDS), x25519: randomBytes(32), kem: randomBytes(1184) }],
    addresses: [{ address: '192.0.2.1', port: 9001 }],
    roles: { mix: true, exit: false },
    exitPolicy: [],
    family: [],
    compliance: 'core',
    bandwidthBytesPerSecond: 1_000_000,
    published,
    expires: published + 2 * EPOCH_SECONDS,
    ...change,
  };
  return {
    nodeId: nodeIdHex(nodeIdOf(identity.publicKey, suite)),
    bytes: encodeDescriptor(signDescriptor(fields, identity, suite)),
  };
};

/** The signed view of these descriptors. */
export const makeView = (
  authority: SignKeyPair,
  descriptors: readonly Uint8Array[],
  now: number = unixSeconds(),
): Uint8Array => {
  const options = {
    epochSeconds: EPOCH_SECONDS,
    validAfter: now,
    freshUntil: now + 1,
    validUntil: now + 2 * EPOCH_SECONDS,
  };
  const decoded = descriptors.map((bytes) => makeViewNode(decodeDescriptor(bytes, suite)));
  return encodeViewBundle(signView(buildView(decoded, options, suite), authority));
};

export type HostileServices = { readonly dht: SingleKadDHT; readonly ping: Ping };

/** A libp2p node with our DHT protocol and no rules. */
export const startHostile = async (): Promise<Libp2p<HostileServices>> => {
  const node = await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      dht: kadDHT({
        protocol: P2pProtocol.kad,
        clientMode: false,
        allowQueryWithZeroPeers: true,
        validators: { nyx: () => {}, foo: () => {}, pk: () => {} },
        selectors: { nyx: () => 0, foo: () => 0, pk: () => 0 },
        peerInfoMapper: (peer) => peer,
      }),
    },
  });
  return node as unknown as Libp2p<HostileServices>;
};

export interface TestPeer {
  readonly node: P2pNode;
  readonly identity: SignKeyPair | undefined;
  readonly nodeId: string;
  readonly counters: MutableCounters;
  /** The view that it has verified. */
  view(): VerifiedView | undefined;
  /** Gives it a view, as an authority that has just signed one. */
  hold(bytes: Uint8Array): void;
  stop(): Promise<void>;
}

export interface TestPeerOptions {
  readonly bootstrap?: readonly string[];
  readonly identity?: SignKeyPair;
  readonly authority?: SignKeyPair;
  readonly authorities: readonly SignKeyPair[];
  readonly options?: Partial<P2pOptions>;
  readonly ports?: Partial<P2pPorts>;
  /** Kept at stop(). */
  readonly folder?: string;
  /** By so many epochs it takes its view to be too old, so that it asks for another. */
  readonly epochAhead?: number;
  readonly delta?: (from: Uint8Array) => Uint8Array | undefined;
}

/** A peer that runs its own maintenance until it is stopped. */
export const startPeer = async (given: TestPeerOptions): Promise<TestPeer> => {
  const folder = given.folder ?? mkdtempSync(join(tmpdir(), 'nyx-p2p-'));
  const counters = zeroCounters();
  let held: { readonly verified: VerifiedView; readonly bytes: Uint8Array } | undefined;
  const accept = (came: Uint8Array): boolean => {
    const previous = held?.verified;
    const isStep = isDelta(came) && held !== undefined;
    const bytes = isStep ? encodeViewBundle(applyDelta(decodeViewBundle(held!.bytes), came, suite)) : came;
    const verified = verifyViewBundle(decodeViewBundle(bytes), {
      authorities: { threshold: 1, keys: given.authorities.map(({ publicKey }) => publicKey) },
      suite,
      now: unixSeconds(),
      ...(previous === undefined ? {} : { previous }),
    });
    if (previous !== undefined && suite.equal(previous.digest, verified.digest)) return false;
    held = { verified, bytes };
    return true;
  };
  const ports: P2pPorts = {
    suite,
    random: systemRandom,
    unixMs: Date.now,
    log: () => {},
    identity: given.identity,
    authority: given.authority,
    authorities: given.authorities.map(({ publicKey }) => publicKey),
    params: undefined,
    onRefusedParams: () => {},
    ...given.ports,
    view: {
      epoch: () => Math.floor(unixSeconds() / EPOCH_SECONDS) + (given.epochAhead ?? 0),
      held: () => (held === undefined ? undefined : { ...held.verified, bytes: held.bytes }),
      delta: async (from) => given.delta?.(from),
      offer: accept,
    },
  };
  const options: P2pOptions = {
    listen: ['/ip4/127.0.0.1/tcp/0'],
    announce: [],
    bootstrap: given.bootstrap ?? [],
    mdns: false,
    allowPrivate: true,
    limits: { maxConnections: 64, maxPerSubnet: 64, inboundPerSecond: 100, maxStoredPeers: 100, maxRecords: 100 },
    databaseFile: join(folder, 'p2p.sqlite'),
    keySeed: randomBytes(32),
    ...given.options,
  };
  const node = await P2pNode.start(options, ports, counters);
  const abort = new AbortController();
  const running = (async () => {
    while (!abort.signal.aborted) {
      await node.maintain(abort.signal);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, node.sleepMs);
        abort.signal.addEventListener('abort', () => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  })().catch((error: unknown) => {
    if (!abort.signal.aborted) throw error;
  });
  return {
    node,
    identity: given.identity,
    nodeId: given.identity === undefined ? '' : nodeIdHex(nodeIdOf(given.identity.publicKey, suite)),
    counters,
    view: () => held?.verified,
    hold: (bytes) => void accept(bytes),
    stop: async () => {
      abort.abort();
      await running;
      await node.stop();
      if (given.folder === undefined) rmSync(folder, { recursive: true, force: true });
    },
  };
};

/** Resolves when `condition` is true. Rejects with `what` after the time. */
export const until = async (what: string, condition: () => boolean, timeoutMs = 15_000): Promise<void> => {
  const startedMs = performance.now();
  while (!condition()) {
    if (performance.now() - startedMs > timeoutMs) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
