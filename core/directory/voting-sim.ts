/** Authorities that vote over a virtual network in virtual time, for tests: honest, dead, slow and hostile ones. */
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { SignKeyPair } from '../crypto/suite.ts';
import type { Random } from '../ports.ts';
import { descriptorDigest, encodeDescriptor, type NodeDescriptor, nodeIdHex } from './descriptor.ts';
import type { ViewParams } from './params.ts';
import { randomBytes, testSuite as suite } from './testing.ts';
import type { AuthoritySet, SignedBody, ViewBundle, ViewReference } from './view.ts';
import type { VoteDraft, VoteEntry } from './vote.ts';
import { Voting, type VotingProblem } from './voting.ts';
import { type VotingSchedule, type VotingSlot, votingSchedule } from './voting-schedule.ts';

export interface SimAuthorityOptions {
  /** Its clock is ahead of the true time by this. */
  readonly clockMs?: number;
  /** Extra delay of everything it sends. */
  readonly slowMs?: number;
  readonly dead?: boolean;
  readonly params?: ViewParams;
  /** Changes what it votes for. */
  readonly vote?: (draft: VoteDraft, slot: VotingSlot) => VoteDraft;
  /** Replaces what it sends to one other authority: any number of messages. */
  readonly send?: (message: Uint8Array, to: number, authority: SimAuthority) => readonly Uint8Array[];
  /** Votes that it gives out although it did not make them through the protocol. */
  readonly extraVotes?: ReadonlyMap<string, Uint8Array>;
  readonly refuseFetch?: boolean;
}

/** A whole set of authorities; `run` advances the time. */
export class SimAuthorities {
  readonly set: AuthoritySet;
  readonly schedule: VotingSchedule;
  readonly all: readonly SimAuthority[];
  readonly #random: Random;
  readonly #queue: { atMs: number; order: number; run: () => void }[] = [];
  #order = 0;
  nowMs: number;

  constructor(
    seed: string,
    options: {
      readonly threshold: number;
      readonly epochSeconds: number;
      readonly phaseMs: number;
      readonly startMs: number;
      readonly authorities: readonly SimAuthorityOptions[];
    },
  ) {
    this.#random = createSeededRandom(seed);
    const keys = options.authorities.map(() => suite.ed25519(randomBytes(this.#random, 32)));
    this.set = { threshold: options.threshold, keys: keys.map((key) => key.publicKey) };
    this.schedule = votingSchedule(this.set, options.epochSeconds, options.phaseMs);
    this.nowMs = options.startMs;
    this.all = options.authorities.map((each, index) => new SimAuthority(this, index, keys[index]!, each));
  }

  get honest(): readonly SimAuthority[] {
    return this.all.filter((authority) => authority.honest);
  }

  /** Gives a descriptor to authorities (all, if not said which). */
  publish(descriptor: NodeDescriptor, to: readonly number[] = this.all.map((_, i) => i)): void {
    for (const index of to) this.all[index]!.add(descriptor);
  }

  run(untilMs: number): void {
    for (const authority of this.all) authority.start();
    for (;;) {
      this.#queue.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
      const event = this.#queue[0];
      if (event === undefined || event.atMs > untilMs) break;
      this.#queue.shift();
      this.nowMs = Math.max(this.nowMs, event.atMs);
      event.run();
    }
    this.nowMs = untilMs;
  }

  at(atMs: number, run: () => void): void {
    this.#queue.push({ atMs, order: this.#order++, run });
  }

  /** One way, 5 to 60 ms. */
  latencyMs(): number {
    return 5 + (55 * randomBytes(this.#random, 1)[0]!) / 255;
  }
}

export class SimAuthority {
  readonly index: number;
  readonly key: SignKeyPair;
  readonly id: string;
  readonly options: SimAuthorityOptions;
  readonly decided = new Map<number, ViewBundle>();
  readonly elsewhere: SignedBody[] = [];
  readonly problems: VotingProblem[] = [];
  readonly signed: ViewReference[] = [];
  readonly entries = new Map<string, VoteEntry>();
  readonly #descriptors = new Map<string, NodeDescriptor>();
  readonly #net: SimAuthorities;
  #voting: Voting | undefined;
  #timer = 0;

  constructor(net: SimAuthorities, index: number, key: SignKeyPair, options: SimAuthorityOptions) {
    this.#net = net;
    this.index = index;
    this.key = key;
    this.id = nodeIdHex(key.publicKey);
    this.options = options;
  }

  get honest(): boolean {
    const { dead, vote, send, refuseFetch, slowMs } = this.options;
    return !dead && vote === undefined && send === undefined && !refuseFetch && (slowMs ?? 0) === 0;
  }

  get voting(): Voting {
    return this.#voting!;
  }

  get clockMs(): number {
    return this.#net.nowMs + (this.options.clockMs ?? 0);
  }

  add(descriptor: NodeDescriptor, change: Partial<VoteEntry> = {}): void {
    const digest = descriptorDigest(encodeDescriptor(descriptor), suite);
    this.#descriptors.set(nodeIdHex(digest), descriptor);
    const { nodeId, bandwidthBytesPerSecond } = descriptor;
    this.entries.set(nodeIdHex(nodeId), {
      nodeId,
      digest,
      flags: 0,
      bandwidthBytesPerSecond,
      firstEpoch: 0,
      ...change,
    });
  }

  /** Makes it say something of a node that it knows. */
  say(descriptor: NodeDescriptor, change: Partial<VoteEntry>): void {
    const id = nodeIdHex(descriptor.nodeId);
    this.entries.set(id, { ...this.entries.get(id)!, ...change });
  }

  start(): void {
    if (this.options.dead || this.#voting !== undefined) return;
    this.restart();
  }

  /** As after a crash: it knows what it has on disk. */
  restart(): void {
    const signed = this.signed.at(-1);
    const settledEpoch = Math.max(-1, ...this.decided.keys());
    const net = this.#net;
    this.#voting = new Voting(
      { authorities: net.set, schedule: net.schedule, settledEpoch, ...(signed === undefined ? {} : { signed }) },
      this.key,
      suite,
      {
        propose: (slot) => {
          const draft: VoteDraft = { params: this.options.params ?? {}, entries: [...this.entries.values()] };
          if (draft.entries.length === 0) return undefined;
          return this.options.vote?.(draft, slot) ?? draft;
        },
        find: (digest) => this.#descriptors.get(digest),
        broadcast: (message) => {
          for (const other of net.all) if (other !== this) this.sendTo(other, message);
        },
        fetchVote: (from, digest) =>
          this.#fetch(from, (peer) => {
            const bytes = peer.giveVote(digest);
            if (bytes !== undefined) this.voting.handleVote(bytes, this.clockMs);
          }),
        fetchDescriptors: (from, digests) =>
          this.#fetch(from, (peer) => {
            for (const digest of digests) {
              const descriptor = peer.giveDescriptor(digest);
              if (descriptor !== undefined) this.#descriptors.set(digest, descriptor);
            }
            this.voting.descriptorsArrived(this.clockMs);
          }),
        signing: (view) => this.signed.push(view),
        decided: (bundle) => this.decided.set(bundle.view.epoch, bundle),
        decidedElsewhere: (body) => this.elsewhere.push(body),
        onProblem: (problem) => this.problems.push(problem),
      },
    );
    this.#poll(++this.#timer);
  }

  sendTo(other: SimAuthority, message: Uint8Array): void {
    const messages = this.options.send?.(message, other.index, this) ?? [message];
    for (const bytes of messages) this.deliver(other, bytes);
  }

  /** Past `options.send`. */
  deliver(other: SimAuthority, bytes: Uint8Array, laterMs = 0): void {
    const atMs = this.#net.nowMs + laterMs + this.#net.latencyMs() + (this.options.slowMs ?? 0);
    this.#net.at(atMs, () => other.receive(bytes));
  }

  receive(bytes: Uint8Array): void {
    if (this.#voting === undefined) return;
    this.#voting.handleMessage(bytes, this.clockMs);
    this.#poll(++this.#timer);
  }

  giveVote(digest: string): Uint8Array | undefined {
    if (this.options.refuseFetch) return undefined;
    return this.options.extraVotes?.get(digest) ?? this.#voting?.vote(digest);
  }

  giveDescriptor(digest: string): NodeDescriptor | undefined {
    return this.options.refuseFetch ? undefined : this.#descriptors.get(digest);
  }

  #fetch(from: string, answer: (peer: SimAuthority) => void): void {
    const peer = this.#net.all.find(({ id }) => id === from);
    if (peer === undefined || peer.options.dead) return;
    const atMs = this.#net.nowMs + 2 * this.#net.latencyMs() + (peer.options.slowMs ?? 0);
    this.#net.at(atMs, () => answer(peer));
  }

  #poll(timer: number): void {
    if (timer !== this.#timer || this.#voting === undefined) return;
    this.#voting.poll(this.clockMs);
    const sleepMs = Math.max(1, this.#voting.nextTimeoutMs(this.clockMs) - this.clockMs);
    this.#net.at(this.#net.nowMs + sleepMs, () => this.#poll(timer));
  }
}
