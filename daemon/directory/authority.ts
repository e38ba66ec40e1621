/**
 * A directory authority: takes in descriptors, looks whether their nodes can be reached, and agrees with the other
 * authorities on one view for each epoch (core/directory/voting.ts). What it signs is on disk before anyone sees it.
 *
 * Way of a node into a view: submit (form, signature, age) → admission puzzle → probe → vote → view. Nodes of a view are
 * measured (measurer.ts), for the votes to come.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CryptoSuite, SignKeyPair } from '@nyx/core/crypto/suite.ts';
import {
  admissionEpoch,
  admissionViewName,
  admissionViewOf,
  MAX_ADMISSION_VIEW_AGE,
  type MemoryHard,
  noView,
  puzzleOf,
  verifyAdmission,
} from '@nyx/core/directory/admission.ts';
import { fitsEpoch } from '@nyx/core/directory/consensus.ts';
import {
  decodeDescriptor,
  descriptorDigest,
  encodeDescriptor,
  type NodeDescriptor,
  nodeIdHex,
  toContact,
  verifyDescriptor,
  verifyDescriptorSignature,
} from '@nyx/core/directory/descriptor.ts';
import { DirectoryError } from '@nyx/core/directory/directory-error.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import { ViewParam, type ViewParams, viewParam } from '@nyx/core/directory/params.ts';
import {
  type AuthoritySet,
  decodeViewBundle,
  encodeViewBundle,
  epochAt,
  MAX_VIEW_NODES,
  type ViewBundle,
  type ViewReference,
  viewDigest,
} from '@nyx/core/directory/view.ts';
import type { VoteDraft } from '@nyx/core/directory/vote.ts';
import { Voting, type VotingHost, type VotingProblem } from '@nyx/core/directory/voting.ts';
import { encodeVotingMessage } from '@nyx/core/directory/voting-messages.ts';
import { type VotingSlot, votingSchedule } from '@nyx/core/directory/voting-schedule.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import { type AuthorityPeer, AuthorityPeers } from './authority-peers.ts';
import type { BandwidthMeter } from './bandwidth-meter.ts';
import { type EvidenceKind, forkEvidence } from './evidence.ts';
import { type MeasurableNode, Measurer } from './measurer.ts';
import { NodeHistory } from './node-history.ts';
import type { Prober } from './prober.ts';
import { KeyStoreError, KeyStoreErrorCode, writeAtomically, writeDurably } from './sealed-files.ts';

/** Descriptors whose puzzle waits to be checked. */
const MAX_PENDING = 512;
const MAX_LEARNED = 2 * MAX_VIEW_NODES;
/** Probes of a node are this part of an epoch apart; after one that failed, a quarter of that. */
const PROBES_PER_EPOCH = 4;
const MIN_PROBE_GAP_MS = 2000;
const MAX_PROBE_GAP_MS = 900_000;
/** After so many failures in a row a node is no longer voted for. */
const FAILURES = 2;
const PROBE_LOOK_MS = 500;

export interface AuthorityOptions {
  readonly authorities: AuthoritySet;
  readonly epochSeconds: number;
  readonly phaseMs?: number;
  /** The first view waits for so many nodes. */
  readonly minNodes: number;
  /** What this authority votes for. */
  readonly params: ViewParams;
  /** The other authorities. */
  readonly peers: readonly AuthorityPeer[];
  /** Where views, signatures and the nodes' history are kept. */
  readonly folder: string;
  /** Undefined: this authority does not measure. */
  readonly measure?: MeasureOptions;
}

export interface MeasureOptions {
  /** NodeID (hex) of this authority's own relay, where the circuits end that nodes are measured by. */
  readonly relay: string;
  /** Most bytes of one measurement, and of all of an epoch. */
  readonly bytesPerNode: number;
  readonly bytesPerEpoch: number;
}

export interface AuthorityDependencies {
  readonly suite: CryptoSuite;
  readonly key: SignKeyPair;
  readonly unixMs: () => number;
  readonly memoryHard: MemoryHard;
  readonly openProber: () => Prober;
  /** Needed where options.measure is given. */
  readonly openMeter?: () => BandwidthMeter;
  /** A view has a threshold of signatures and has begun. Called again when it has more signatures. */
  readonly onView: (bundle: ViewBundle) => void;
  /** The others have a view that this authority does not have. */
  readonly onBehind: () => void;
  readonly onEvidence: (kind: EvidenceKind, epoch: number, id: string, content: Uint8Array) => void;
  readonly onProblem: (message: string) => void;
}

export class AuthorityError extends Error {
  readonly code: 'FULL' | 'STALE' | 'NOT_ADMITTED' | 'EARLY';
  constructor(code: AuthorityError['code'], message: string) {
    super(message);
    this.name = 'AuthorityError';
    this.code = code;
  }
}

/** Totals since the start. */
export interface AuthorityCounters {
  /** Rounds in which this authority voted, and views that a threshold signed. */
  votes: number;
  views: number;
  /** Rounds that brought none, for want of votes or of agreement. */
  roundsFailed: number;
  /** Votes of others that were refused; authorities caught with two. */
  badVotes: number;
  equivocations: number;
  /** Descriptors that were taken, and refused by the code of the error. */
  descriptorsTaken: number;
  readonly descriptorsRefused: Record<string, number>;
  /** Measurements of bandwidth, and the bytes they sent. */
  measurements: number;
  measuredBytes: number;
}

interface KnownNode {
  readonly descriptor: NodeDescriptor;
  readonly digest: Uint8Array;
  /** Of the descriptor before: others may be voting for that one still. */
  readonly previous: Uint8Array | undefined;
  /** Undefined = not asked yet. */
  reachable: boolean | undefined;
  failures: number;
  /** Families of addresses that do not lead to it: NodeFlag.ipv4Fails, .ipv6Fails. */
  fails: number;
  /** Probes in a row that each of them failed. */
  familyFailures: { readonly ipv4: number; readonly ipv6: number };
  probing: boolean;
  nextProbeMs: number;
}

export class Authority {
  readonly #options: AuthorityOptions;
  readonly #dependencies: AuthorityDependencies;
  readonly #history: NodeHistory;
  readonly #voting: Voting;
  readonly #peers: AuthorityPeers;
  readonly #nodes = new Map<string, KnownNode>();
  /** Descriptors of `#nodes`, the last two of each, by hex of their digest. */
  readonly #descriptors = new Map<string, NodeDescriptor>();
  /** Those that only other authorities voted for, until the next view. */
  readonly #learned = new Map<string, NodeDescriptor>();
  /** Solutions that hold: `identity epoch nonce` in hex. */
  readonly #admitted = new Map<string, number>();
  #pending = 0;
  #bundle: ViewBundle | undefined;
  /** Decided, but its epoch has not begun. */
  #upcoming: ViewBundle | undefined;
  #savedEpoch = -1;
  /** Nodes of the newest view, hex. */
  #inView: ReadonlySet<string> = new Set();
  /** Digests of the last views, by how solutions of admission puzzles name them. */
  readonly #admissionViews = new Map<string, { readonly epoch: number; readonly digest: Uint8Array }>();
  /** Epoch of the network's first view, when this authority saw it come. */
  #genesisEpoch: number | undefined;
  #measurer: Measurer | undefined;
  #meter: BandwidthMeter | undefined;
  readonly counters: AuthorityCounters = {
    votes: 0,
    views: 0,
    roundsFailed: 0,
    badVotes: 0,
    equivocations: 0,
    descriptorsTaken: 0,
    descriptorsRefused: {},
    measurements: 0,
    measuredBytes: 0,
  };
  #decidedEpoch = -1;
  #timers: NodeJS.Timeout[] = [];
  #running = false;
  #prober: Prober | undefined;
  #writing: Promise<void> = Promise.resolve();
  #onFailure: (error: unknown) => void = () => {};

  /** Takes up what is on disk. Throws DirectoryError or Error when a file is damaged, RangeError for bad options. */
  constructor(options: AuthorityOptions, dependencies: AuthorityDependencies) {
    this.#options = options;
    this.#dependencies = dependencies;
    const { suite, key } = dependencies;
    this.#history = new NodeHistory(this.#file('history.json'));
    this.#loadView();
    const signed = this.#loadSigned();
    const settledEpoch = this.#bundle?.view.epoch;
    this.#voting = new Voting(
      {
        authorities: options.authorities,
        schedule: votingSchedule(options.authorities, options.epochSeconds, options.phaseMs),
        ...(signed === undefined ? {} : { signed }),
        ...(settledEpoch === undefined ? {} : { settledEpoch }),
      },
      key,
      suite,
      this.#votingHost(),
    );
    this.#peers = new AuthorityPeers(options.peers, {
      onVote: (bytes) => this.#voting.handleVote(bytes, dependencies.unixMs()),
      onDescriptors: (descriptors) => this.#learn(descriptors),
      onProblem: dependencies.onProblem,
    });
  }

  get key(): SignKeyPair {
    return this.#dependencies.key;
  }

  /** Nodes that have published. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Nodes that answered their last probes. */
  get reachable(): number {
    let count = 0;
    for (const node of this.#nodes.values()) if (isReachable(node)) count++;
    return count;
  }

  /** The newest view that has begun. */
  get bundle(): ViewBundle | undefined {
    return this.#bundle;
  }

  /** What a node has to reckon with: those of the newest view, else those this authority wants. */
  get params(): ViewParams {
    return this.#bundle?.view.params ?? this.#options.params;
  }

  /** Votes and probes from now on. `onFailure`: it can't go on. */
  start(onFailure: (error: unknown) => void): void {
    this.#running = true;
    this.#onFailure = onFailure;
    this.#prober ??= this.#dependencies.openProber();
    this.#startMeasuring();
    this.#poll();
    this.#look();
  }

  /** Resolves when everything is on disk. */
  async stop(): Promise<void> {
    this.#running = false;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#prober?.close();
    this.#prober = undefined;
    this.#measurer?.stop();
    this.#meter?.close();
    await this.#writing;
  }

  /**
   * Takes in a descriptor. Throws DirectoryError for a bad one, AuthorityError for an older one, one from the future, or
   * when full; what it returns rejects with AuthorityError NOT_ADMITTED when the puzzle is not solved.
   */
  submit(bytes: Uint8Array): Promise<void> {
    try {
      return this.#submit(bytes).catch((error: unknown) => {
        this.#countRefusal(error);
        throw error;
      });
    } catch (error) {
      this.#countRefusal(error);
      throw error;
    }
  }

  #countRefusal(error: unknown): void {
    if (!(error instanceof DirectoryError || error instanceof AuthorityError)) return;
    const { descriptorsRefused } = this.counters;
    descriptorsRefused[error.code] = (descriptorsRefused[error.code] ?? 0) + 1;
  }

  #submit(bytes: Uint8Array): Promise<void> {
    const { suite, unixMs } = this.#dependencies;
    const nowUnixSeconds = Math.floor(unixMs() / 1000);
    const descriptor = decodeDescriptor(bytes, suite);
    const id = nodeIdHex(descriptor.nodeId);
    const known = this.#nodes.get(id);
    const digest = descriptorDigest(bytes, suite);
    if (known !== undefined && suite.equal(known.digest, digest)) return Promise.resolve();
    verifyDescriptor(descriptor, suite, nowUnixSeconds);
    if (known !== undefined && known.descriptor.published > descriptor.published) {
      throw new AuthorityError(
        'STALE',
        `a descriptor of ${id} published at ${known.descriptor.published} is here already`,
      );
    }
    const { epochSeconds } = this.#options;
    const latest = epochAt(nowUnixSeconds + Math.min(60, epochSeconds / 4), epochSeconds) + 1;
    if (admissionEpoch(descriptor) > latest) {
      throw new AuthorityError(
        'EARLY',
        `has mix keys of epoch ${admissionEpoch(descriptor)}; up to ${latest} are taken`,
      );
    }
    if (this.#pending >= MAX_PENDING) throw new AuthorityError('FULL', `${MAX_PENDING} descriptors wait already`);
    return this.#admit(descriptor, digest);
  }

  // --- for other authorities ---

  /** A message of another authority. Throws DirectoryError. */
  handleMessage(bytes: Uint8Array): void {
    this.#voting.handleMessage(bytes, this.#dependencies.unixMs());
    this.#poll();
  }

  vote(digest: string): Uint8Array | undefined {
    return this.#voting.vote(digest);
  }

  descriptor(digest: string): Uint8Array | undefined {
    const found = this.#find(digest);
    return found === undefined ? undefined : encodeDescriptor(found);
  }

  /** This node holds a view, its own or one it fetched: nothing more is to be decided for that epoch. */
  settled(bundle: ViewBundle): void {
    this.#voting.settle(bundle.view.epoch);
    if (this.#bundle !== undefined && this.#bundle.view.epoch >= bundle.view.epoch) return;
    this.#bundle = bundle;
    this.#remember(bundle);
  }

  // --- intake ---

  async #admit(descriptor: NodeDescriptor, digest: Uint8Array): Promise<void> {
    const { suite, memoryHard } = this.#dependencies;
    const epoch = admissionEpoch(descriptor);
    const { identity, admission } = descriptor;
    const solution = `${nodeIdHex(identity)} ${epoch} ${nodeIdHex(admission ?? new Uint8Array(0))}`;
    if (!this.#admitted.has(solution)) {
      const puzzle = puzzleOf(this.params);
      this.#pending++;
      try {
        const digest = puzzle.bits === 0 ? noView : this.#admissionView(epoch, admission);
        if (digest === undefined) {
          throw new AuthorityError(
            'NOT_ADMITTED',
            `the admission puzzle of epoch ${epoch} must be solved for a recent view`,
          );
        }
        if (!(await verifyAdmission(descriptor, digest, puzzle, suite, memoryHard))) {
          throw new AuthorityError(
            'NOT_ADMITTED',
            `the admission puzzle of epoch ${epoch} is not solved: ${puzzle.bits} bits, ${puzzle.memoryKib} KiB, ${puzzle.passes} passes`,
          );
        }
      } finally {
        this.#pending--;
      }
      this.#admitted.set(solution, epoch);
    }
    const id = nodeIdHex(descriptor.nodeId);
    const known = this.#nodes.get(id);
    if (known !== undefined && known.descriptor.published > descriptor.published) return;
    if (known === undefined && this.#nodes.size >= MAX_VIEW_NODES) {
      this.#dropExpired();
      if (this.#nodes.size >= MAX_VIEW_NODES) throw new AuthorityError('FULL', `${MAX_VIEW_NODES} nodes are known`);
    }
    this.#add(id, descriptor, digest);
    this.counters.descriptorsTaken++;
    this.#look();
  }

  /** Digest of the view that a solution names, if it is recent enough for the epoch; zeros where there was none yet. */
  #admissionView(epoch: number, admission: Uint8Array | undefined): Uint8Array | undefined {
    if (admission === undefined) return noView;
    const name = admissionViewOf(admission);
    if (name === admissionViewName(noView)) {
      // Who joined before the first view came is in it, and in the next.
      const isEarly = this.#admissionViews.size === 0 || epoch <= (this.#genesisEpoch ?? -1) + 1;
      return isEarly ? noView : undefined;
    }
    const known = this.#admissionViews.get(name);
    if (known === undefined) return undefined;
    const newest = [...this.#admissionViews.values()].at(-1);
    return known === newest || known.epoch >= epoch - MAX_ADMISSION_VIEW_AGE ? known.digest : undefined;
  }

  #add(id: string, descriptor: NodeDescriptor, digest: Uint8Array): void {
    const known = this.#nodes.get(id);
    const moved =
      known === undefined || JSON.stringify(known.descriptor.addresses) !== JSON.stringify(descriptor.addresses);
    this.#nodes.set(id, {
      descriptor,
      digest,
      previous: known?.digest,
      reachable: moved ? undefined : known.reachable,
      failures: moved ? 0 : known.failures,
      fails: moved ? 0 : known.fails,
      familyFailures: moved ? { ipv4: 0, ipv6: 0 } : known.familyFailures,
      probing: false,
      nextProbeMs: moved ? 0 : known.nextProbeMs,
    });
    if (known?.previous !== undefined) this.#descriptors.delete(nodeIdHex(known.previous));
    this.#descriptors.set(nodeIdHex(digest), descriptor);
  }

  #find(digest: string): NodeDescriptor | undefined {
    return this.#descriptors.get(digest) ?? this.#learned.get(digest);
  }

  /** Descriptors that another authority gave. Good ones are used in counting; admitted ones in the own votes as well. */
  async #learn(descriptors: readonly Uint8Array[]): Promise<void> {
    const { suite, unixMs, onProblem } = this.#dependencies;
    for (const [i, bytes] of descriptors.entries()) {
      try {
        const descriptor = decodeDescriptor(bytes, suite);
        verifyDescriptorSignature(descriptor, suite);
        if (this.#learned.size < MAX_LEARNED) {
          this.#learned.set(nodeIdHex(descriptorDigest(bytes, suite)), descriptor);
        }
        this.submit(bytes).catch((error: Error) => onProblem(`a descriptor of another authority: ${error.message}`));
      } catch (error) {
        if (!(error instanceof DirectoryError || error instanceof AuthorityError)) throw error;
        onProblem(`a descriptor of another authority: ${error.message}`);
      }
      if (i % 32 === 31) await new Promise<void>((resolve) => setImmediate(resolve));
    }
    this.#voting.descriptorsArrived(unixMs());
    this.#poll();
  }

  #dropExpired(): void {
    const { unixMs } = this.#dependencies;
    const nowUnixSeconds = unixMs() / 1000;
    for (const [id, { descriptor }] of this.#nodes) if (descriptor.expires <= nowUnixSeconds) this.#nodes.delete(id);
    for (const [digest, { expires }] of this.#descriptors) {
      if (expires <= nowUnixSeconds) this.#descriptors.delete(digest);
    }
    const epoch = epochAt(nowUnixSeconds, this.#options.epochSeconds);
    for (const [solution, of] of this.#admitted) if (of < epoch - 1) this.#admitted.delete(solution);
  }

  // --- probes ---

  /** Probes who is due, then again after a while. */
  #look(): void {
    if (!this.#running) return;
    const nowMs = this.#dependencies.unixMs();
    for (const [id, node] of this.#nodes) {
      if (node.probing || node.nextProbeMs > nowMs) continue;
      this.#probe(id, node).catch(this.#onFailure);
    }
    this.#after(1, PROBE_LOOK_MS, () => this.#look());
  }

  async #probe(id: string, node: KnownNode): Promise<void> {
    const { unixMs } = this.#dependencies;
    const { epochSeconds } = this.#options;
    const prober = this.#prober;
    if (prober === undefined) return;
    node.probing = true;
    const { reachable, fails } = await prober.probe(toContact(node.descriptor));
    node.probing = false;
    if (this.#prober !== prober) return;
    noteFamilies(node, fails);
    node.failures = reachable ? 0 : node.failures + 1;
    node.reachable = reachable || (node.reachable === true && node.failures < FAILURES);
    const gapMs = Math.min(MAX_PROBE_GAP_MS, Math.max(MIN_PROBE_GAP_MS, (epochSeconds * 1000) / PROBES_PER_EPOCH));
    // Spread, so that a network that was started at once is not asked at once for ever.
    const spread = 0.75 + randomBytes(1)[0]! / 512;
    node.nextProbeMs =
      unixMs() + (reachable && fails === node.fails ? gapMs * spread : Math.max(MIN_PROBE_GAP_MS, gapMs / 4));
    this.#history.probed(id, epochAt(unixMs() / 1000, epochSeconds), reachable);
    this.#poll();
  }

  // --- bandwidth ---

  #startMeasuring(): void {
    const { measure, epochSeconds } = this.#options;
    const { openMeter, unixMs, onProblem } = this.#dependencies;
    if (measure === undefined || openMeter === undefined) return;
    const meter = openMeter();
    const measurer = new Measurer(
      { ...measure, epochSeconds },
      {
        candidates: () => this.#measurable(measure.relay),
        last: () => {
          const own = this.#inView.has(measure.relay) ? this.#nodes.get(measure.relay) : undefined;
          return own && this.#presentContact(own);
        },
        measure: async (target, last, options) => {
          const result = await meter.measure(target, last, options);
          this.counters.measurements++;
          this.counters.measuredBytes += result.sentBytes;
          return result;
        },
        measured: (id, bytesPerSecond) =>
          this.#history.measured(id, epochAt(unixMs() / 1000, epochSeconds), bytesPerSecond, unixMs()),
        unixMs,
      },
    );
    this.#meter = meter;
    this.#measurer = measurer;
    measurer.run().catch((error: Error) => onProblem(`bandwidth is not measured any more: ${error.message}`));
  }

  *#measurable(own: string): Generator<MeasurableNode> {
    for (const id of this.#inView) {
      const node = this.#nodes.get(id);
      if (id === own || node === undefined || !isReachable(node)) continue;
      const contact = () => this.#presentContact(node);
      yield { id, contact, measuredMs: this.#history.measuredMs(id), speed: this.#history.speed(id) };
    }
  }

  /** With the mix key of the present epoch. */
  #presentContact({ descriptor, fails }: KnownNode): NodeContact {
    const epoch = epochAt(this.#dependencies.unixMs() / 1000, this.#options.epochSeconds);
    const mixKeys = descriptor.mixKeys.filter((keys) => keys.epoch <= epoch).slice(-1);
    return { ...toContact(descriptor, fails), mixKeys };
  }

  // --- voting ---

  #poll(): void {
    if (!this.#running) return;
    const { unixMs } = this.#dependencies;
    this.#voting.poll(unixMs());
    this.#begin();
    const nowMs = unixMs();
    let dueMs = this.#voting.nextTimeoutMs(nowMs);
    if (this.#upcoming !== undefined) dueMs = Math.min(dueMs, this.#upcoming.view.validAfter * 1000);
    this.#after(0, Math.min(30_000, Math.max(5, dueMs - nowMs)), () => this.#poll());
  }

  /** Gives out a decided view once its time has come. */
  #begin(): void {
    const upcoming = this.#upcoming;
    if (upcoming === undefined || upcoming.view.validAfter * 1000 > this.#dependencies.unixMs()) return;
    this.#upcoming = undefined;
    this.#bundle = upcoming;
    this.#remember(upcoming);
    this.#dropExpired();
    this.#learned.clear();
    this.#dependencies.onView(upcoming);
  }

  #votingHost(): VotingHost {
    const { onProblem, onBehind } = this.#dependencies;
    return {
      propose: (slot) => this.#propose(slot),
      find: (digest) => this.#find(digest),
      broadcast: (message) => this.#peers.broadcast(message),
      fetchVote: (from, digest) => this.#peers.fetchVote(from, digest),
      fetchDescriptors: (from, digests) => this.#peers.fetchDescriptors(from, digests),
      signing: ({ epoch, digest }) => {
        const content = JSON.stringify({ epoch, digest: nodeIdHex(digest) });
        writeAtomically(this.#file('signed.json'), Buffer.from(content));
      },
      decided: (bundle) => {
        if (bundle.view.epoch > this.#decidedEpoch) this.counters.views++;
        this.#decidedEpoch = Math.max(this.#decidedEpoch, bundle.view.epoch);
        this.#upcoming = bundle;
        // One after the other: the one with more signatures comes last.
        this.#writing = this.#writing
          .then(() => writeDurably(this.#file('view.bin'), encodeViewBundle(bundle)))
          .catch((error: Error) => onProblem(`the view could not be written: ${error.message}`));
      },
      decidedElsewhere: () => onBehind(),
      onProblem: (problem) => this.#problem(problem),
    };
  }

  #propose(slot: VotingSlot): VoteDraft | undefined {
    const { minNodes, params } = this.#options;
    const { epoch, validAfter } = slot;
    const ramp = viewParam(params, ViewParam.rampEpochs);
    const believed = viewParam(params, ViewParam.maxDeclaredBandwidth);
    const nodes = [...this.#nodes].filter(
      ([, node]) => isReachable(node) && fitsEpoch(node.descriptor, epoch, validAfter),
    );
    if (nodes.length < (this.#bundle === undefined ? minNodes : 1)) return undefined;
    // What was seen, never more than the node offers; until it was measured what it says, cut to what is believed.
    const bandwidths = nodes.map(([id, { descriptor }]) =>
      Math.min(descriptor.bandwidthBytesPerSecond, this.#history.speed(id) ?? believed),
    );
    const median = [...bandwidths].sort((a, b) => a - b)[bandwidths.length >> 1]!;
    const entries = nodes.map(([id, { descriptor, digest, fails }], i) => {
      const slow = bandwidths[i]! < median ? NodeFlag.guard : 0;
      const measured = this.#history.speed(id) === undefined ? 0 : NodeFlag.measured;
      return {
        nodeId: descriptor.nodeId,
        digest,
        flags: (this.#history.flags(id, epoch, ramp) & ~slow) | measured | fails,
        bandwidthBytesPerSecond: bandwidths[i]!,
        firstEpoch: this.#history.seen(id, epoch),
      };
    });
    this.counters.votes++;
    return { params, entries };
  }

  /** Nodes that were measured once at least. */
  get measured(): number {
    let count = 0;
    for (const id of this.#nodes.keys()) if (this.#history.speed(id) !== undefined) count++;
    return count;
  }

  #problem(problem: VotingProblem): void {
    const { onProblem, onEvidence, suite } = this.#dependencies;
    switch (problem.kind) {
      case 'equivocation': {
        this.counters.equivocations++;
        const [a, b] = problem.offers;
        const messages = [a, b].map(encodeVotingMessage);
        onEvidence('equivocation', a.epoch, nodeIdHex(suite.blake3(...messages)), Buffer.concat(messages));
        return;
      }
      case 'fork': {
        const content = forkEvidence(problem.views);
        onEvidence('fork', problem.epoch, nodeIdHex(suite.blake3(content)), content);
        return;
      }
      case 'bad-vote':
        this.counters.badVotes++;
        onProblem(`authority ${problem.voter} sent a bad vote: ${problem.reason}`);
        return;
      case 'too-few-votes':
        this.counters.roundsFailed++;
        onProblem(`epoch ${problem.epoch}: ${problem.votes} votes came in time; ${this.#threshold} are needed`);
        return;
      case 'no-agreement':
        this.counters.roundsFailed++;
        onProblem(`epoch ${problem.epoch}: ${problem.prepared} authorities agreed; ${this.#threshold} are needed`);
    }
  }

  get #threshold(): number {
    return this.#options.authorities.threshold;
  }

  // --- disk ---

  #remember(bundle: ViewBundle, isStored = false): void {
    const { epoch, epochSeconds } = bundle.view;
    if (epoch <= this.#savedEpoch) return;
    if (this.#savedEpoch < 0 && !isStored) this.#genesisEpoch = epoch;
    this.#savedEpoch = epoch;
    const digest = viewDigest(bundle.body, this.#dependencies.suite);
    this.#admissionViews.set(admissionViewName(digest), { epoch, digest });
    for (const [name, view] of this.#admissionViews) {
      if (view.epoch < epoch - MAX_ADMISSION_VIEW_AGE) this.#admissionViews.delete(name);
    }
    const inView = new Set<string>();
    for (const { status, descriptor } of bundle.entries) {
      const id = nodeIdHex(decodeDescriptor(descriptor, this.#dependencies.suite).nodeId);
      inView.add(id);
      this.#history.learn(id, status.firstEpoch);
      this.#history.seen(id, epoch);
    }
    this.#inView = inView;
    this.#history.save(epoch, epochSeconds);
  }

  #loadView(): void {
    const file = this.#file('view.bin');
    if (!existsSync(file)) return;
    const bundle = decodeViewBundle(readFileSync(file));
    const { suite, unixMs } = this.#dependencies;
    if (bundle.view.validAfter * 1000 > unixMs()) this.#upcoming = bundle;
    else this.#bundle = bundle;
    for (const entry of bundle.entries) {
      const descriptor = decodeDescriptor(entry.descriptor, suite);
      this.#add(nodeIdHex(descriptor.nodeId), descriptor, descriptorDigest(entry.descriptor, suite));
    }
    this.#remember(bundle, true);
  }

  #loadSigned(): ViewReference | undefined {
    const file = this.#file('signed.json');
    if (!existsSync(file)) return undefined;
    const { epoch, digest } = JSON.parse(readFileSync(file, 'utf8')) as { epoch?: unknown; digest?: unknown };
    if (!Number.isSafeInteger(epoch) || typeof digest !== 'string' || !/^[0-9a-f]{64}$/.test(digest)) {
      throw new KeyStoreError(
        KeyStoreErrorCode.corrupt,
        `${file} must hold the epoch and digest of the last signed view`,
      );
    }
    return { epoch: epoch as number, digest: new Uint8Array(Buffer.from(digest, 'hex')) };
  }

  #file(name: string): string {
    return join(this.#options.folder, `authority-${name}`);
  }

  #after(slot: 0 | 1, delayMs: number, run: () => void): void {
    clearTimeout(this.#timers[slot]);
    this.#timers[slot] = setTimeout(() => {
      try {
        run();
      } catch (error) {
        this.#onFailure(error);
      }
    }, delayMs);
  }
}

const isReachable = (node: KnownNode): boolean => node.reachable === true;

/** One silent probe does not end a family that has answered before. */
const noteFamilies = (node: KnownNode, fails: number): void => {
  const { ipv4, ipv6 } = node.familyFailures;
  const isFirst = node.reachable === undefined;
  node.familyFailures = {
    ipv4: fails & NodeFlag.ipv4Fails ? ipv4 + 1 : 0,
    ipv6: fails & NodeFlag.ipv6Fails ? ipv6 + 1 : 0,
  };
  const lasting =
    (node.familyFailures.ipv4 >= FAILURES ? NodeFlag.ipv4Fails : 0) |
    (node.familyFailures.ipv6 >= FAILURES ? NodeFlag.ipv6Fails : 0);
  node.fails = isFirst ? fails : (node.fails & fails) | lasting;
};
