/**
 * The node's hold on the directory: takes views from sources and peers, verifies them in slices, keeps the last good one
 * on disk, refuses what rolls back, and keeps the proof when authorities have signed two. Makes the deltas that others
 * may ask for.
 *
 * Way of a view: fetch (a chain of deltas from what is held, else a bundle) → verify → disk → onView.
 */
import { existsSync, readFileSync } from 'node:fs';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { decodeDescriptor, nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import { DirectoryError, DirectoryErrorCode } from '@nyx/core/directory/directory-error.ts';
import {
  type AuthoritySet,
  decodeViewBundle,
  encodeViewBundle,
  type SignedBody,
  type VerifiedView,
  type ViewBundle,
  validSigners,
  viewDigest,
} from '@nyx/core/directory/view.ts';
import { applyDelta, deltaEnds, encodeDeltaSteps, isDelta } from '@nyx/core/directory/view-delta.ts';
import type { DeltaStore } from './delta-store.ts';
import { fetchView, postDescriptor } from './directory-source.ts';
import { type EvidenceKind, forkEvidence } from './evidence.ts';
import { writeDurably } from './sealed-files.ts';
import { runInSlices } from './slices.ts';
import { verifyView } from './verify-view.ts';

/** Views that are walked through to get from an old one to the newest. */
const MAX_DELTAS_IN_ROW = 48;

export interface DirectoryClientOptions {
  readonly authorities: AuthoritySet;
  readonly sources: readonly string[];
  /** Where the last good view is kept. */
  readonly viewFile: string;
}

export interface HeldView {
  readonly verified: VerifiedView;
  readonly bundle: ViewBundle;
  readonly bytes: Uint8Array;
  readonly digest: string;
  /** Signatures of known authorities. */
  readonly signatures: number;
  /** Which authorities signed: lower-case hex of their keys. */
  readonly signers: readonly string[];
}

export interface DirectoryClientDependencies {
  readonly suite: CryptoSuite;
  readonly unixSeconds: () => number;
  /** Undefined: this node serves no deltas. */
  readonly deltas: DeltaStore | undefined;
  /** Makes the deltas that did not come. */
  readonly makesDeltas: boolean;
  readonly onView: (view: HeldView) => void;
  readonly onEvidence: (kind: EvidenceKind, epoch: number, id: string, content: Uint8Array) => void;
  readonly onProblem: (message: string) => void;
}

export class DirectoryClient {
  readonly options: DirectoryClientOptions;
  readonly #dependencies: DirectoryClientDependencies;
  #held: HeldView | undefined;
  /** The last good view when it has ended: still what later ones are measured by, and what deltas begin with. */
  #last: (SignedBody & { readonly bundle: ViewBundle }) | undefined;
  /** Views that came and were refused, by DirectoryErrorCode; and those that were taken. */
  readonly refused = new Map<DirectoryErrorCode, number>();
  accepted = 0;
  /** Steps from one view to the next that led to views that were taken; and times that steps led nowhere. */
  deltasAccepted = 0;
  deltasRefused = 0;
  /** One view at a time is verified. */
  #work: Promise<unknown> = Promise.resolve();

  constructor(options: DirectoryClientOptions, dependencies: DirectoryClientDependencies) {
    this.options = options;
    this.#dependencies = dependencies;
  }

  get held(): HeldView | undefined {
    return this.#held;
  }

  /** Takes up what is on disk. A damaged file is reported, not fatal; one that has ended is remembered. */
  async load(): Promise<void> {
    const { viewFile } = this.options;
    if (!existsSync(viewFile)) return;
    try {
      const bytes = readFileSync(viewFile);
      const bundle = decodeViewBundle(bytes);
      const signers = validSigners(bundle, this.options.authorities, this.#dependencies.suite);
      if (signers.size < this.options.authorities.threshold) throw new Error('too few signatures of these authorities');
      this.#last = { view: bundle.view, body: bundle.body, signatures: bundle.signatures, bundle };
      await this.#enqueue(() => this.#accept(bytes, false));
    } catch (error) {
      this.#dependencies.onProblem(`the stored view cannot be used: ${(error as Error).message}`);
    }
  }

  /** The delta from the view with that digest to the one that is held, if it is here. */
  async deltaFrom(from: Uint8Array): Promise<Uint8Array | undefined> {
    const { deltas, suite } = this.#dependencies;
    const bytes = await deltas?.from(nodeIdHex(from));
    const held = this.#held;
    if (bytes === undefined || held === undefined) return undefined;
    return suite.equal(deltaEnds(bytes, suite).to, held.verified.digest) ? bytes : undefined;
  }

  /** Takes a bundle of the own authority. Rejects with DirectoryError. */
  async take(bundle: ViewBundle): Promise<void> {
    await this.offer(encodeViewBundle(bundle));
  }

  /** Takes a bundle, or a delta from the view that is held, that came some other way. False: it is the one that is held already. Rejects with DirectoryError. */
  async offer(bytes: Uint8Array): Promise<boolean> {
    const isStep = isDelta(bytes);
    try {
      const isNew = await this.#enqueue(() => (isStep ? this.#acceptDelta(bytes) : this.#accept(bytes, true)));
      if (isNew) this.accepted++;
      if (isNew && isStep) this.deltasAccepted++;
      return isNew;
    } catch (error) {
      if (isStep) this.deltasRefused++;
      if (error instanceof DirectoryError) this.refused.set(error.code, (this.refused.get(error.code) ?? 0) + 1);
      throw error;
    }
  }

  /** Asks the sources in turn until one gives a newer view that verifies. True: there is a new one. */
  async refresh(signal: AbortSignal): Promise<boolean> {
    for (const source of this.options.sources) {
      try {
        if (await this.#refreshFrom(source, signal)) return true;
      } catch (error) {
        if (signal.aborted) throw error;
        this.#dependencies.onProblem((error as Error).message);
      }
    }
    return false;
  }

  /** Hands the descriptor to every authority among the sources: how many took it, and how many did not. */
  async publish(
    descriptor: Uint8Array,
    signal: AbortSignal,
  ): Promise<{ readonly taken: number; readonly failed: number }> {
    let failed = 0;
    const answers = await Promise.all(
      this.options.sources.map(async (source) => {
        try {
          return await postDescriptor(source, descriptor, signal);
        } catch (error) {
          if (signal.aborted) throw error;
          failed++;
          this.#dependencies.onProblem((error as Error).message);
          return false;
        }
      }),
    );
    return { taken: answers.filter(Boolean).length, failed };
  }

  async #refreshFrom(source: string, signal: AbortSignal): Promise<boolean> {
    const base = this.#last?.bundle;
    if (base !== undefined) {
      const way = { steps: 0 };
      try {
        const reached = await this.#follow(source, base, way, signal);
        if (reached === base) return false;
        const isNew = await this.offer(encodeViewBundle(reached));
        if (isNew) this.deltasAccepted += way.steps;
        return isNew;
      } catch (error) {
        if (way.steps > 0 && error instanceof DirectoryError) this.deltasRefused++;
        // Whatever is wrong with the deltas of this source, its bundle may be good; a fork is one either way.
        if (signal.aborted || (error instanceof DirectoryError && error.code === DirectoryErrorCode.fork)) throw error;
        this.#dependencies.onProblem(`${source}: ${(error as Error).message}`);
      }
    }
    const bytes = await fetchView(source, undefined, signal);
    if (bytes === undefined) return false;
    return await this.offer(bytes);
  }

  /** From one view to the next for as long as the source has deltas, counted in `way`, or to the bundle it gives instead. */
  async #follow(source: string, from: ViewBundle, way: { steps: number }, signal: AbortSignal): Promise<ViewBundle> {
    const { suite } = this.#dependencies;
    let reached = from;
    for (let i = 0; i < MAX_DELTAS_IN_ROW; i++) {
      const bytes = await fetchView(source, nodeIdHex(viewDigest(reached.body, suite)), signal);
      if (bytes === undefined) return reached;
      if (!isDelta(bytes)) return decodeViewBundle(bytes);
      way.steps++;
      reached = applyDelta(reached, bytes, suite);
    }
    return reached;
  }

  #enqueue<T>(task: () => Promise<T>): Promise<T> {
    const run = this.#work.then(task);
    // Its failure is its caller's.
    this.#work = run.catch(() => {});
    return run;
  }

  async #acceptDelta(delta: Uint8Array): Promise<boolean> {
    const { suite } = this.#dependencies;
    const last = this.#last;
    if (last === undefined) {
      throw new DirectoryError(
        DirectoryErrorCode.incomplete,
        'a view delta came, but no view is held that it could begin with',
      );
    }
    // Another source was quicker.
    if (this.#held !== undefined && suite.equal(deltaEnds(delta, suite).to, this.#held.verified.digest)) return false;
    const bytes = encodeViewBundle(applyDelta(last.bundle, delta, suite));
    return await this.#accept(bytes, true, delta);
  }

  /** False: it is the one that is held already. `delta`: what led there from the last one. */
  async #accept(bytes: Uint8Array, store: boolean, delta?: Uint8Array): Promise<boolean> {
    const { authorities, viewFile } = this.options;
    const { suite, unixSeconds, onView } = this.#dependencies;
    const bundle = decodeViewBundle(bytes);
    const digest = viewDigest(bundle.body, suite);
    const last = this.#last;
    const held = this.#held;
    if (held !== undefined && suite.equal(held.verified.digest, digest)) {
      await this.#addSignatures(held, bundle, store);
      return false;
    }
    const previous =
      held?.verified ??
      (last === undefined ? undefined : { epoch: last.view.epoch, digest: viewDigest(last.body, suite) });
    let verified: VerifiedView;
    try {
      const options = { authorities, suite, now: unixSeconds(), ...(previous === undefined ? {} : { previous }) };
      verified = await verifyView(bundle, options);
    } catch (error) {
      if (error instanceof DirectoryError && error.code === DirectoryErrorCode.fork && last !== undefined) {
        // The view's signatures were checked before it was compared: both are real.
        const content = forkEvidence([last, bundle]);
        this.#dependencies.onEvidence('fork', bundle.view.epoch, nodeIdHex(suite.blake3(content)), content);
      }
      throw error;
    }
    if (store) await writeDurably(viewFile, bytes);
    const signers = [...validSigners(bundle, authorities, suite)];
    // Begun first: who sees the new view and asks for the step to it gets it, if only after a moment.
    const kept = store && last !== undefined ? this.#keepDelta(last.bundle, bundle, delta) : undefined;
    this.#held = { verified, bundle, bytes, digest: nodeIdHex(digest), signatures: signers.length, signers };
    this.#last = { view: bundle.view, body: bundle.body, signatures: bundle.signatures, bundle };
    onView(this.#held);
    await kept;
    return true;
  }

  /** More authorities have signed what is held. */
  async #addSignatures(held: HeldView, other: ViewBundle, store: boolean): Promise<void> {
    const signers = [...validSigners(other, this.options.authorities, this.#dependencies.suite)];
    if (signers.length <= held.signatures) return;
    const bundle = { ...held.bundle, signatures: other.signatures };
    const bytes = encodeViewBundle(bundle);
    this.#held = { ...held, bundle, bytes, signatures: signers.length, signers };
    if (store) await writeDurably(this.options.viewFile, bytes);
  }

  /** A delta that came is kept as it is; making one costs a second for 10 000 nodes, and is for those that serve many. */
  async #keepDelta(from: ViewBundle, to: ViewBundle, came: Uint8Array | undefined): Promise<void> {
    const { deltas, makesDeltas, suite, onProblem } = this.#dependencies;
    if (deltas === undefined || from.view.epoch >= to.view.epoch) return;
    const fromDigest = nodeIdHex(viewDigest(from.body, suite));
    try {
      if (came !== undefined) {
        await deltas.keep(fromDigest, came);
        return;
      }
      if (!makesDeltas) return;
      const ids = new Map<Uint8Array, Uint8Array>();
      const idOf = ({ descriptor }: ViewBundle['entries'][number]): Uint8Array => {
        let id = ids.get(descriptor);
        if (id === undefined) {
          id = decodeDescriptor(descriptor, suite).nodeId;
          ids.set(descriptor, id);
        }
        return id;
      };
      await deltas.keep(fromDigest, runInSlices(encodeDeltaSteps(from, to, idOf, suite)));
    } catch (error) {
      onProblem(`the delta to epoch ${to.view.epoch} could not be kept: ${(error as Error).message}`);
    }
  }
}
