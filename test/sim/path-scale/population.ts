/**
 * Nodes that come and go in virtual time, with real identity keys, real signed descriptors and the real count of votes.
 * Link and mix keys are random bytes of the right size: nobody makes a circuit with them here.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { CryptoSuite, SignKeyPair } from '@nyx/core/crypto/suite.ts';
import { computeConsensus } from '@nyx/core/directory/consensus.ts';
import {
  descriptorDigest,
  encodeDescriptor,
  type NodeDescriptor,
  nodeIdHex,
  signDescriptor,
} from '@nyx/core/directory/descriptor.ts';
import { type FamilyProof, proveFamily } from '@nyx/core/directory/family.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import { signView, type ViewBundle } from '@nyx/core/directory/view.ts';
import { uniform } from '@nyx/core/path/weighted-choice.ts';
import type { Random } from '@nyx/core/ports.ts';

export const HOUR = 3600;

export interface PopulationOptions {
  readonly nodes: number;
  /** Mean share of the nodes that leave in an hour. */
  readonly churnPerHour: number;
  /** `even`: all nodes alike. `skewed`: 60% of them leave a tenth as often as the mean, the others make up for it. */
  readonly churnShape: 'even' | 'skewed';
  readonly authorities: number;
  readonly seed: string;
}

export interface SimNode {
  readonly id: string;
  readonly key: SignKeyPair;
  readonly linkX25519: Uint8Array;
  readonly linkKem: Uint8Array;
  readonly address: string;
  readonly families: readonly FamilyProof[];
  readonly exitPolicy: readonly string[] | undefined;
  readonly bandwidth: number;
  readonly leavesPerHour: number;
  /** Where it is, on a map of 1 × 1, and its own part of a round trip, ms. */
  readonly x: number;
  readonly y: number;
  readonly accessMs: number;
  readonly firstEpoch: number;
  upSince: number;
  /** Infinity: not known yet. */
  downAt: number;
  mixKeys: { epoch: number; x25519: Uint8Array; kem: Uint8Array }[];
}

const web = ['accept *:80', 'accept *:443', 'reject *:*'];
const open = ['reject *:25', 'accept *:*'];

export class Population {
  readonly suite: CryptoSuite;
  readonly random: Random;
  readonly options: PopulationOptions;
  readonly authorityKeys: readonly SignKeyPair[];
  /** Those that are up or will be listed as they come back. */
  #present: SimNode[] = [];
  readonly #byId = new Map<string, SimNode>();
  #absent: { node: SimNode; returnsAt: number }[] = [];
  readonly #familyKeys = new Map<number, SignKeyPair>();
  #made = 0;
  /** Bytes of the descriptor that a node publishes once an epoch. */
  descriptorBytes = 0;
  voteEntries = 0;

  constructor(options: PopulationOptions, suite: CryptoSuite, startEpoch: number) {
    this.options = options;
    this.suite = suite;
    this.random = createSeededRandom(`population ${options.seed}`);
    this.authorityKeys = Array.from({ length: options.authorities }, () => suite.ed25519(this.#bytes(32)));
    for (let i = 0; i < options.nodes; i++) {
      // The network is a month old: most nodes have their full weight.
      this.#add(startEpoch - Math.floor(uniform(this.random) * 720), (startEpoch - 24) * HOUR);
    }
  }

  find(id: string): SimNode | undefined {
    return this.#byId.get(id);
  }

  get present(): readonly SimNode[] {
    return this.#present;
  }

  isUp(id: string, at: number): boolean {
    const node = this.#byId.get(id);
    return node !== undefined && node.upSince <= at && at < node.downAt;
  }

  /** The signed view of an epoch: what the authorities reached when it began. */
  view(epoch: number): ViewBundle {
    const start = epoch * HOUR;
    const descriptors = new Map<string, NodeDescriptor>();
    let bytes = 0;
    const entries = this.#present
      .filter((node) => this.isUp(node.id, start))
      .map((node) => {
        const descriptor = this.#describe(node, epoch);
        const encoded = encodeDescriptor(descriptor);
        bytes += encoded.length;
        const digest = descriptorDigest(encoded, this.suite);
        descriptors.set(nodeIdHex(digest), descriptor);
        const isStable = start - node.upSince >= 8 * HOUR;
        const isOld = epoch - node.firstEpoch >= 24;
        const flags =
          NodeFlag.measured |
          (isStable ? NodeFlag.stable : 0) |
          (isStable && isOld && node.bandwidth > 1e6 ? NodeFlag.guard : 0);
        return {
          nodeId: descriptor.nodeId,
          digest,
          flags,
          bandwidthBytesPerSecond: node.bandwidth,
          firstEpoch: node.firstEpoch,
        };
      });
    this.descriptorBytes = bytes / entries.length;
    this.voteEntries = entries.length;
    const votes = this.authorityKeys.map(({ publicKey }) => ({
      params: {},
      entries,
      epoch,
      round: 0,
      voter: publicKey,
    }));
    const find = (digest: string) => descriptors.get(digest);
    const bundle = computeConsensus(votes, { epoch, epochSeconds: HOUR, validAfter: start, find }, this.suite);
    return this.authorityKeys.reduce(signView, bundle);
  }

  /** Decides who leaves in this epoch, when, and who comes (back) by its end. */
  churn(epoch: number): void {
    const start = epoch * HOUR;
    for (const node of this.#present) {
      if (uniform(this.random) < node.leavesPerHour) node.downAt = start + uniform(this.random) * HOUR;
    }
  }

  /** Takes out who left, and fills up: half of them come back after some hours, the others are replaced. */
  settle(epoch: number): void {
    const end = (epoch + 1) * HOUR;
    const gone = this.#present.filter((node) => node.downAt < end);
    this.#present = this.#present.filter((node) => node.downAt >= end);
    for (const node of gone) {
      if (uniform(this.random) < 0.5) {
        this.#absent.push({ node, returnsAt: end + Math.ceil(-3 * Math.log(1 - uniform(this.random))) * HOUR });
      }
    }
    const back = this.#absent.filter(({ returnsAt }) => returnsAt <= end);
    this.#absent = this.#absent.filter(({ returnsAt }) => returnsAt > end);
    for (const { node } of back) {
      node.upSince = end;
      node.downAt = Number.POSITIVE_INFINITY;
      this.#present.push(node);
    }
    while (this.#present.length < this.options.nodes) this.#add(epoch + 1, end);
  }

  #add(firstEpoch: number, upSince: number): void {
    const { random } = this;
    const key = this.suite.ed25519(this.#bytes(32));
    const id = nodeIdHex(this.suite.blake3(key.publicKey));
    const number = this.#made++;
    const { churnPerHour, churnShape } = this.options;
    const steady = uniform(random) < 0.6;
    const leavesPerHour = churnShape === 'even' ? churnPerHour : steady ? churnPerHour / 10 : churnPerHour * 2.35;
    const exit = uniform(random) < 0.2;
    const node: SimNode = {
      id,
      key,
      linkX25519: this.#bytes(32),
      linkKem: this.#bytes(1184),
      // A /16 for every eight nodes or so.
      address: `${20 + (Math.floor(number / 8) % 200)}.${Math.floor(number / 1600) % 256}.${number % 8}.1`,
      families:
        uniform(random) < 0.15 ? [proveFamily(this.#family(Math.floor(uniform(random) * 40)), key.publicKey)] : [],
      exitPolicy: exit ? (uniform(random) < 0.7 ? web : open) : undefined,
      // Log-normal around 4 MB/s, as relays of volunteers are.
      bandwidth: Math.max(50_000, Math.round(4e6 * Math.exp(1.2 * normal(random)))),
      leavesPerHour,
      x: uniform(random),
      y: uniform(random),
      accessMs: 2 + 8 * Math.exp(0.8 * normal(random)),
      firstEpoch,
      upSince,
      downAt: Number.POSITIVE_INFINITY,
      mixKeys: [],
    };
    this.#present.push(node);
    this.#byId.set(id, node);
  }

  #family(number: number): SignKeyPair {
    let key = this.#familyKeys.get(number);
    if (key === undefined) {
      key = this.suite.ed25519(this.suite.sha256(new TextEncoder().encode(`family ${number} ${this.options.seed}`)));
      this.#familyKeys.set(number, key);
    }
    return key;
  }

  #describe(node: SimNode, epoch: number): NodeDescriptor {
    // As daemons do: keys of this epoch and the next, made once each.
    node.mixKeys = node.mixKeys.filter((keys) => keys.epoch >= epoch);
    for (const wanted of [epoch, epoch + 1]) {
      if (!node.mixKeys.some((keys) => keys.epoch === wanted)) {
        node.mixKeys.push({ epoch: wanted, x25519: this.#bytes(32), kem: this.#bytes(1184) });
      }
    }
    const published = epoch * HOUR - 300;
    return signDescriptor(
      {
        identity: node.key.publicKey,
        linkX25519: node.linkX25519,
        linkKem: node.linkKem,
        mixKeys: node.mixKeys,
        addresses: [{ address: node.address, port: 9001 }],
        roles: { mix: true, exit: node.exitPolicy !== undefined },
        exitPolicy: node.exitPolicy ?? [],
        family: [],
        ...(node.families.length === 0 ? {} : { families: node.families }),
        compliance: 'core',
        bandwidthBytesPerSecond: node.bandwidth,
        published,
        expires: published + 3 * HOUR,
      },
      node.key,
      this.suite,
    );
  }

  #bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.random.fill(bytes);
    return bytes;
  }
}

/** Box–Muller. */
export function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - uniform(random))) * Math.cos(2 * Math.PI * uniform(random));
}
