/**
 * The directory actor: keeps the view fresh, publishes the own descriptor with its admission puzzle solved, and serves
 * the view where that is configured. loading → refreshing ⇄ waiting; a failed refresh is a shorter wait, never an end.
 */
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import {
  type AdmissionPuzzle,
  admissionEpoch,
  MAX_ADMISSION_VIEW_AGE,
  noView,
  puzzleOf,
  solveAdmission,
} from '@nyx/core/directory/admission.ts';
import {
  type DescriptorFields,
  encodeDescriptor,
  nodeIdHex,
  signDescriptor,
  toContact,
} from '@nyx/core/directory/descriptor.ts';
import type { FamilyProof } from '@nyx/core/directory/family.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import type { ViewParams } from '@nyx/core/directory/params.ts';
import type { VerifiedView, ViewBundle } from '@nyx/core/directory/view.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import { batchRulesOf } from '@nyx/core/mix/batch-records.ts';
import { fromPromise, setup } from 'xstate';
import { changedKeys } from '../config/difference.ts';
import { ReloadClass, reloadClasses } from '../config/reload-classes.ts';
import type { Authority } from '../directory/authority.ts';
import { authoritySetOf } from '../directory/authority-set.ts';
import { complianceOf } from '../directory/compliance.ts';
import { DAY_OF_DELTAS, DeltaStore } from '../directory/delta-store.ts';
import { DirectoryClient, type HeldView } from '../directory/directory-client.ts';
import type { DirectoryServerHost } from '../directory/directory-server.ts';
import { fetchParams } from '../directory/directory-source.ts';
import { type Evidence, type EvidenceKind, EvidenceStore } from '../directory/evidence.ts';
import { createMemoryHard } from '../directory/memory-hard.ts';
import { PublicationTimes } from '../directory/publication-times.ts';
import { proveFamilies } from '../directory/seed-file.ts';
import { actorChild } from '../supervision/actor-child.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import { ConfigProblem, type Reloadable } from './config-reloader.ts';
import { type NodeContext, unixSeconds } from './context.ts';
import type { EpochKeys } from './epoch-keys.ts';
import type { PumpPool } from './pump-pool.ts';

interface AdmissionSolution {
  readonly epoch: number;
  readonly puzzle: AdmissionPuzzle;
  /** Digest (hex) and epoch of the view that it is for; undefined: there was none. */
  readonly view: string | undefined;
  readonly viewEpoch: number | undefined;
  readonly bytes: Uint8Array;
}

/** While there is no view at all: the first waits. */
const FIRST_RETRY_MS = 100;

export class Directory {
  readonly #context: NodeContext;
  readonly #keys: EpochKeys;
  readonly #pool: PumpPool;
  readonly #authority: Authority | undefined;
  readonly client: DirectoryClient;
  #families: readonly FamilyProof[];
  readonly #evidence: EvidenceStore;
  readonly #deltas: DeltaStore | undefined;
  #published: Uint8Array | undefined;
  #times: PublicationTimes | undefined;
  #unpublished = false;
  /** Authorities that have the present descriptor. */
  #taken = 0;
  #solution: AdmissionSolution | undefined;
  /** What a source says it goes by, after an authority has refused what the view says. */
  #hintedParams: ViewParams | undefined;
  #failures = 0;
  #failingOf: VerifiedView | undefined;
  #failingFlags: ReadonlyMap<string, number> = new Map();
  readonly #onView: (view: HeldView) => void;
  /** Told of every new descriptor of this node; set when there is a control plane to carry it. */
  onDescriptor: ((nodeId: string, descriptor: Uint8Array, expiresAtUnixMs: number) => void) | undefined;

  /** Asks an authority over the control plane which parameters it goes by. */
  askPeers: ((signal: AbortSignal) => Promise<ViewParams | undefined>) | undefined;

  constructor(
    context: NodeContext,
    keys: EpochKeys,
    pool: PumpPool,
    authority: Authority | undefined,
    onView: (view: HeldView) => void,
  ) {
    this.#context = context;
    this.#keys = keys;
    this.#pool = pool;
    this.#authority = authority;
    this.#onView = onView;
    const { config } = context;
    this.#families = proveFamilies(config.familyKeyFiles, keys.store.identity.publicKey, context.suite);
    this.#evidence = new EvidenceStore(join(config.dataDir, 'evidence'));
    const servesHttp = config.directory.listen !== undefined;
    const serves = servesHttp || (config.p2p.enabled && config.p2p.listen.length > 0);
    // Peers are given the last step alone.
    const kept = servesHttp ? DAY_OF_DELTAS : 1;
    this.#deltas = serves ? new DeltaStore(join(config.dataDir, 'deltas'), kept) : undefined;
    this.client = new DirectoryClient(
      {
        authorities: authoritySetOf(config, authority?.key.publicKey),
        // A reload may change them.
        get sources() {
          return context.config.directory.sources;
        },
        viewFile: join(config.dataDir, 'view.bin'),
      },
      {
        suite: context.suite,
        unixSeconds: () => unixSeconds(context),
        deltas: this.#deltas,
        // The authorities have every view first: from them deltas get around.
        makesDeltas: servesHttp,
        onView: (view) => this.#accepted(view),
        onEvidence: (kind, epoch, id, content) => this.keepEvidence(kind, epoch, id, content),
        onProblem: (message) => this.problem(message),
      },
    );
  }

  /** What authorities did that they must not do; the files hold the proof. */
  get evidence(): readonly Evidence[] {
    return this.#evidence.all;
  }

  /** Of this node's authority; undefined: it is none. */
  get voting(): Pick<Authority, 'size' | 'reachable' | 'measured' | 'counters'> | undefined {
    return this.#authority;
  }

  keepEvidence(kind: EvidenceKind, epoch: number, id: string, content: Uint8Array): void {
    const kept = this.#evidence.keep(kind, epoch, id, content, this.#context.unixMs());
    if (kept === undefined) return;
    this.#context.log('error', `directory alarm: ${kind}`, { epoch, evidence: kept.file });
    this.#context.events.publish('directory', kind, epoch, { epoch, evidence: kept.file });
  }

  /** A view that the own authority has decided on with the others. */
  takeDecided(bundle: ViewBundle): void {
    this.client.take(bundle).catch((error: Error) => this.problem(`the decided view: ${error.message}`));
  }

  get threshold(): number {
    return this.client.options.authorities.threshold;
  }

  /** Keys of all trusted authorities, lower-case hex. */
  get authorities(): readonly string[] {
    return this.client.options.authorities.keys.map(nodeIdHex);
  }

  get view(): HeldView | undefined {
    return this.client.held;
  }

  /** Flags of the nodes of which some addresses lead nowhere, by NodeID. */
  #failing(): ReadonlyMap<string, number> {
    const verified = this.view?.verified;
    if (verified !== undefined && this.#failingOf !== verified) {
      this.#failingOf = verified;
      this.#failingFlags = new Map(
        verified.statuses.flatMap(({ flags }, i) =>
          flags & (NodeFlag.ipv4Fails | NodeFlag.ipv6Fails) ? [[nodeIdHex(verified.nodes[i]!.nodeId), flags]] : [],
        ),
      );
    }
    return this.#failingFlags;
  }

  /** Node's contact with the mix key of the present epoch only: that is what a set-up must be sealed to. */
  contactOf(nodeId: string): NodeContact | undefined {
    const descriptor = this.view?.verified.byId.get(nodeId);
    if (descriptor === undefined) return undefined;
    const { epoch } = this.#keys;
    const mixKeys = descriptor.mixKeys.filter((keys) => keys.epoch <= epoch).slice(-1);
    return { ...toContact(descriptor, this.#failing().get(nodeId)), mixKeys };
  }

  /** Tells the pumps who is who. */
  pushView(): void {
    const { view } = this;
    if (view === undefined) return;
    const contacts = view.verified.nodes.flatMap(
      (node) => this.contactOf(Buffer.from(node.nodeId).toString('hex')) ?? [],
    );
    this.#pool.setView(contacts, batchRulesOf(view.verified.view.params));
  }

  /** The descriptor has to be made and published again (new keys, a new address). */
  changed(): void {
    this.#published = undefined;
    this.#unpublished = true;
    this.#taken = 0;
  }

  /** Another configuration: whether its family keys can be had, and what takes it into use. */
  readonly reloadable: Reloadable = (next, present) => {
    const { publicKey } = this.#keys.store.identity;
    let families = this.#families;
    try {
      if (!isDeepStrictEqual(next.familyKeyFiles, present.familyKeyFiles)) {
        families = proveFamilies(next.familyKeyFiles, publicKey, this.#context.suite);
      }
    } catch (error) {
      throw new ConfigProblem('familyKeyFiles', (error as Error).message);
    }
    const isSaidAnew = changedKeys(present, next).some((key) => reloadClasses[key] === ReloadClass.republished);
    return () => {
      this.#families = families;
      if (isSaidAnew && next.roles.some((role) => role !== 'client')) this.changed();
    };
  };

  async load(): Promise<void> {
    await this.client.load();
    if (this.#context.config.roles.some((role) => role !== 'client')) this.#unpublished = true;
  }

  /** One round: fetch what is newer, publish what is due. */
  async refresh(signal: AbortSignal): Promise<void> {
    if (!this.#isCurrent) await this.client.refresh(signal);
    await this.#publish(signal);
    if (this.#isCurrent && !this.#unpublished) this.#failures = 0;
    else this.#failures++;
  }

  /** Until the next round; spread, so that not all clients ask at once. */
  get sleepMs(): number {
    const { config } = this.#context;
    const refreshMs = config.directory.refreshSeconds * 1000;
    // What the authority decides comes by itself; this is for what the others decided without it.
    if (this.#authority !== undefined) return Math.min(refreshMs, this.view === undefined ? 500 : 2000);
    if (!this.#isCurrent || this.#unpublished) {
      return this.#jitter(Math.min(refreshMs, FIRST_RETRY_MS * 1.3 ** Math.min(this.#failures, 60)));
    }
    const epochMs = config.epochSeconds * 1000;
    const toBoundaryMs = epochMs - (this.#context.unixMs() % epochMs);
    return Math.min(refreshMs, toBoundaryMs + this.#jitter(Math.min(epochMs / 20, 30_000)));
  }

  /** A bundle that some peer gave. True: it verified and is newer than what was held. Rejects with DirectoryError. */
  offer(bytes: Uint8Array): Promise<boolean> {
    return this.client.offer(bytes);
  }

  serverHost(): DirectoryServerHost {
    return {
      view: () => this.view,
      delta: async (from) => await this.#deltas?.from(from),
      authority: this.#authority,
    };
  }

  get #isCurrent(): boolean {
    return this.view !== undefined && this.view.verified.epoch >= this.#keys.epoch;
  }

  #jitter(meanMs: number): number {
    const byte = new Uint8Array(1);
    this.#context.random.fill(byte);
    return meanMs * (0.75 + (0.5 * byte[0]!) / 255);
  }

  async #publish(signal: AbortSignal): Promise<void> {
    const relays = this.#context.config.roles.some((role) => role !== 'client');
    if (!relays || !this.#unpublished || this.#pool.addresses.listen === undefined) return;
    if (this.#published === undefined) {
      const descriptor = await this.#describe(signal);
      this.#published = descriptor.bytes;
      this.onDescriptor?.(nodeIdHex(descriptor.nodeId), descriptor.bytes, descriptor.expires * 1000);
    }
    const published = this.#published;
    const { sources } = this.client.options;
    let { taken, failed } = await this.client.publish(published, signal);
    try {
      if (this.#authority !== undefined) {
        await this.#authority.submit(published);
        taken++;
      }
    } catch (error) {
      failed++;
      this.problem((error as Error).message);
    }
    // New keys may have come in the meantime.
    if (published !== this.#published) return;
    // Without sources, the control plane goes on until the authorities have it.
    const byOthers = sources.length === 0 && this.onDescriptor !== undefined;
    this.#unpublished = failed > 0 || (taken === 0 && !byOthers);
    if (taken === 0 && failed > 0) await this.#askParams(signal);
    if (taken <= this.#taken) return;
    this.#taken = taken;
    this.#context.log('info', 'descriptor published', { authorities: taken });
    this.#context.events.publish('directory', 'published', '', { authorities: taken });
  }

  /** What the sources say of the admission puzzle: before the first one is solved, and when nobody took the descriptor. */
  async #askParams(signal: AbortSignal): Promise<void> {
    const before = puzzleOf(this.#params);
    for (const source of this.client.options.sources) {
      try {
        const params = await fetchParams(source, signal);
        if (params === undefined) continue;
        this.#hintedParams = params;
        break;
      } catch (error) {
        if (signal.aborted) throw error;
        this.problem((error as Error).message);
      }
    }
    if (!samePuzzle(before, puzzleOf(this.#params)) || this.#isForOldView) this.#published = undefined;
  }

  /** An authority has refused the descriptor and says what it goes by. True: there is something new to publish. */
  hintParams(params: ViewParams): boolean {
    if (samePuzzle(puzzleOf(this.#params), puzzleOf(params)) && !this.#isForOldView) return false;
    this.#hintedParams = params;
    this.changed();
    return true;
  }

  get #params(): ViewParams {
    return this.#hintedParams ?? this.#authority?.params ?? this.view?.verified.view.params ?? {};
  }

  /** A solution that was refused may have been for a view that the authority does not have (any more). */
  get #isForOldView(): boolean {
    const { view } = this;
    if (this.#solution === undefined || view === undefined || this.#solution.view === view.digest) return false;
    this.#solution = undefined;
    return true;
  }

  /** Solves the admission puzzle of `epoch`, once for each difficulty; for the view that is held, while it is not too old. */
  async #solve(epoch: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const puzzle = puzzleOf(this.#params);
    if (puzzle.bits === 0) return undefined;
    const known = this.#solution;
    const held = this.view;
    const isFresh =
      known?.viewEpoch === held?.verified.epoch || (known?.viewEpoch ?? -1) >= epoch - MAX_ADMISSION_VIEW_AGE;
    if (known !== undefined && known.epoch === epoch && isFresh && samePuzzle(known.puzzle, puzzle)) return known.bytes;
    const { suite, random } = this.#context;
    const { publicKey } = this.#keys.store.identity;
    const memoryHard = createMemoryHard();
    const digest = held?.verified.digest ?? noView;
    const bytes = await solveAdmission(publicKey, epoch, digest, puzzle, { suite, random, memoryHard }, signal);
    this.#solution = { epoch, puzzle, view: held?.digest, viewEpoch: held?.verified.epoch, bytes };
    return bytes;
  }

  async #describe(
    signal: AbortSignal,
  ): Promise<{ readonly nodeId: Uint8Array; readonly bytes: Uint8Array; readonly expires: number }> {
    const { config, suite } = this.#context;
    const { store } = this.#keys;
    const { listen } = this.#pool.addresses;
    const addresses = config.announce.length > 0 ? config.announce : listen!;
    const isExit = config.roles.includes('exit');
    const { epoch } = this.#keys;
    const mixKeys = store.mixPublicKeys().filter((keys) => keys.epoch >= epoch);
    // With nothing to go by, asking costs less than solving the wrong puzzle.
    if (this.#hintedParams === undefined && this.#authority === undefined && this.view === undefined) {
      this.#hintedParams = await this.askPeers?.(signal);
      if (this.#hintedParams === undefined) await this.#askParams(signal);
    }
    const admission = await this.#solve(admissionEpoch({ mixKeys }), signal);
    this.#times ??= new PublicationTimes(store.files);
    const published = this.#times.next(unixSeconds(this.#context));
    const fields: DescriptorFields = {
      identity: store.identity.publicKey,
      linkX25519: store.linkX25519,
      linkKem: store.linkKem,
      mixKeys,
      addresses: addresses.map(({ host, port }) => ({ address: host, port })),
      roles: {
        mix: config.roles.includes('mix'),
        exit: isExit,
        ...(config.roles.includes('mailbox') ? { mailbox: true } : {}),
      },
      exitPolicy: isExit ? config.exit.policy : [],
      family: config.family,
      ...(this.#families.length === 0 ? {} : { families: this.#families }),
      compliance: complianceOf(config),
      bandwidthBytesPerSecond: config.bandwidthBytesPerSecond,
      ...(config.contact === undefined ? {} : { contact: config.contact }),
      ...(config.region === undefined ? {} : { region: config.region }),
      ...(admission === undefined ? {} : { admission }),
      published,
      expires: published + Math.min(7 * 86_400, 3 * config.epochSeconds),
    };
    const descriptor = signDescriptor(fields, store.identity, suite);
    return { nodeId: descriptor.nodeId, bytes: encodeDescriptor(descriptor), expires: descriptor.expires };
  }

  #accepted(view: HeldView): void {
    const { epoch, nodes } = view.verified;
    if (view.verified.view.epochSeconds !== this.#context.config.epochSeconds) {
      this.problem(
        `the view's epochs last ${view.verified.view.epochSeconds} s, ours ${this.#context.config.epochSeconds} s; set epochSeconds to match`,
      );
    }
    this.#context.log('info', 'view verified', { epoch, nodes: nodes.length });
    this.#context.events.publish('directory', 'refreshed', epoch, { epoch, nodes: nodes.length, digest: view.digest });
    this.#hintedParams = undefined;
    this.#authority?.settled(view.bundle);
    this.pushView();
    this.#onView(view);
  }

  problem(message: string): void {
    this.#context.log(this.#failures % 20 === 0 ? 'warn' : 'debug', 'directory problem', { problem: message });
  }
}

const samePuzzle = (a: AdmissionPuzzle, b: AdmissionPuzzle): boolean =>
  a.bits === b.bits && a.memoryKib === b.memoryKib && a.passes === b.passes;

const machine = setup({
  types: {} as { context: { directory: Directory }; input: { directory: Directory }; events: { type: 'check' } },
  actors: {
    load: fromPromise<void, { directory: Directory }>(({ input }) => input.directory.load()),
    refresh: fromPromise<void, { directory: Directory }>(({ input, signal }) => input.directory.refresh(signal)),
  },
  delays: { untilDue: ({ context }) => context.directory.sleepMs },
}).createMachine({
  id: 'directory',
  context: ({ input }) => input,
  initial: 'loading',
  states: {
    loading: { invoke: { src: 'load', input: ({ context }) => context, onDone: 'refreshing' } },
    refreshing: { invoke: { src: 'refresh', input: ({ context }) => context, onDone: 'waiting' } },
    waiting: { after: { untilDue: 'refreshing' }, on: { check: 'refreshing' } },
  },
});

export const directoryChild = (context: NodeContext, directory: Directory): ChildSpec =>
  actorChild({ id: 'directory', machine, input: () => ({ directory }), timers: context.timers, inboxLimit: 8 });
