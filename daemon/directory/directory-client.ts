/** The node's hold on the directory: keeps the last verified view, on disk too, and publishes the own descriptor. */
import { existsSync, readFileSync } from 'node:fs';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import {
  type AuthoritySet,
  decodeViewBundle,
  encodeViewBundle,
  type VerifiedView,
  type ViewBundle,
  verifyViewBundle,
} from '@nyx/core/directory/view.ts';
import { fetchView, postDescriptor } from './directory-source.ts';
import { writeAtomically } from './sealed-files.ts';

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
}

export interface DirectoryClientDependencies {
  readonly suite: CryptoSuite;
  readonly unixSeconds: () => number;
  readonly onView: (view: HeldView) => void;
  readonly onProblem: (message: string) => void;
}

export class DirectoryClient {
  readonly options: DirectoryClientOptions;
  readonly #dependencies: DirectoryClientDependencies;
  readonly #etags = new Map<string, string>();
  #held: HeldView | undefined;

  constructor(options: DirectoryClientOptions, dependencies: DirectoryClientDependencies) {
    this.options = options;
    this.#dependencies = dependencies;
  }

  get held(): HeldView | undefined {
    return this.#held;
  }

  /** Takes up what is on disk, if it still holds. A damaged or expired file is reported, not fatal. */
  load(): void {
    const { viewFile } = this.options;
    if (!existsSync(viewFile)) return;
    try {
      this.#accept(readFileSync(viewFile), false);
    } catch (error) {
      this.#dependencies.onProblem(`the stored view cannot be used: ${(error as Error).message}`);
    }
  }

  /** Takes a bundle of the own authority. Throws DirectoryError. */
  take(bundle: ViewBundle): void {
    this.#accept(encodeViewBundle(bundle), true);
  }

  /** Takes a bundle that came some other way. False: it is the one that is held already. Throws DirectoryError. */
  offer(bytes: Uint8Array): boolean {
    return this.#accept(bytes, true);
  }

  /** Asks the sources in turn until one gives a newer view that verifies. True: there is a new one. */
  async refresh(signal: AbortSignal): Promise<boolean> {
    for (const source of this.options.sources) {
      try {
        const fetched = await fetchView(source, this.#etags.get(source), signal);
        if (fetched === undefined) continue;
        const isNew = this.#accept(fetched.bytes, true);
        if (fetched.etag !== undefined) this.#etags.set(source, fetched.etag);
        if (isNew) return true;
      } catch (error) {
        if (signal.aborted) throw error;
        this.#dependencies.onProblem((error as Error).message);
      }
    }
    return false;
  }

  /** Hands the descriptor to every authority among the sources. Returns how many took it. */
  async publish(descriptor: Uint8Array, signal: AbortSignal): Promise<number> {
    let taken = 0;
    for (const source of this.options.sources) {
      try {
        if (await postDescriptor(source, descriptor, signal)) taken++;
      } catch (error) {
        if (signal.aborted) throw error;
        this.#dependencies.onProblem((error as Error).message);
      }
    }
    return taken;
  }

  /** False: it is the one that is held already. */
  #accept(bytes: Uint8Array, store: boolean): boolean {
    const { authorities, viewFile } = this.options;
    const { suite, unixSeconds, onView } = this.#dependencies;
    const bundle = decodeViewBundle(bytes);
    const previous = this.#held?.verified;
    const verified = verifyViewBundle(bundle, {
      authorities,
      suite,
      now: unixSeconds(),
      ...(previous === undefined ? {} : { previous }),
    });
    if (previous !== undefined && suite.equal(previous.digest, verified.digest)) return false;
    if (store) writeAtomically(viewFile, bytes);
    const known = new Set(authorities.keys.map(nodeIdHex));
    const signatures = new Set(bundle.signatures.map(({ key }) => nodeIdHex(key)).filter((key) => known.has(key))).size;
    this.#held = { verified, bundle, bytes, digest: nodeIdHex(verified.digest), signatures };
    onView(this.#held);
    return true;
  }
}
