/**
 * A directory authority: takes in descriptors and signs one view per epoch. The view of an epoch never changes once it
 * is signed (clients treat two as a fork), so it is on disk before anyone sees it, and who comes later is in the next.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { CryptoSuite, SignKeyPair } from '@nyx/core/crypto/suite.ts';
import { decodeDescriptor, type NodeDescriptor, nodeIdHex, verifyDescriptor } from '@nyx/core/directory/descriptor.ts';
import {
  buildView,
  decodeViewBundle,
  encodeViewBundle,
  epochAt,
  MAX_VIEW_NODES,
  signView,
  type ViewBundle,
} from '@nyx/core/directory/view.ts';
import { assertPrivate, KeyStoreError, KeyStoreErrorCode, writeAtomically } from './sealed-files.ts';

export interface AuthorityOptions {
  readonly epochSeconds: number;
  /** The first view waits for so many nodes. */
  readonly minNodes: number;
  /** Where the signed view is kept. */
  readonly viewFile: string;
}

export class AuthorityError extends Error {
  readonly code: 'FULL' | 'STALE';
  constructor(code: 'FULL' | 'STALE', message: string) {
    super(message);
    this.name = 'AuthorityError';
    this.code = code;
  }
}

export class Authority {
  readonly #options: AuthorityOptions;
  readonly #key: SignKeyPair;
  readonly #suite: CryptoSuite;
  readonly #descriptors = new Map<string, NodeDescriptor>();
  #bundle: ViewBundle | undefined;

  /** Takes up the view that was signed last. Throws DirectoryError when its file is damaged. */
  constructor(options: AuthorityOptions, key: SignKeyPair, suite: CryptoSuite) {
    this.#options = options;
    this.#key = key;
    this.#suite = suite;
    if (!existsSync(options.viewFile)) return;
    this.#bundle = decodeViewBundle(readFileSync(options.viewFile));
    for (const entry of this.#bundle.entries) {
      const descriptor = decodeDescriptor(entry.descriptor, suite);
      this.#descriptors.set(nodeIdHex(descriptor.nodeId), descriptor);
    }
  }

  get publicKey(): Uint8Array {
    return this.#key.publicKey;
  }

  /** Nodes that have published. */
  get size(): number {
    return this.#descriptors.size;
  }

  /** The view that was signed last. */
  get bundle(): ViewBundle | undefined {
    return this.#bundle;
  }

  /** Takes in a descriptor. Throws DirectoryError for a bad one, AuthorityError for an older one or when full. */
  submit(bytes: Uint8Array, nowUnixSeconds: number): NodeDescriptor {
    const descriptor = decodeDescriptor(bytes, this.#suite);
    verifyDescriptor(descriptor, this.#suite, nowUnixSeconds);
    const id = nodeIdHex(descriptor.nodeId);
    const known = this.#descriptors.get(id);
    if (known !== undefined && known.published > descriptor.published) {
      throw new AuthorityError('STALE', `a descriptor of ${id} published at ${known.published} is here already`);
    }
    if (known === undefined && this.#descriptors.size >= MAX_VIEW_NODES) {
      this.#dropExpired(nowUnixSeconds);
      if (this.#descriptors.size >= MAX_VIEW_NODES)
        throw new AuthorityError('FULL', `${MAX_VIEW_NODES} nodes are known`);
    }
    this.#descriptors.set(id, descriptor);
    return descriptor;
  }

  /** Signs the present epoch's view if that is due. Returns it when it is new. */
  sign(nowUnixSeconds: number): ViewBundle | undefined {
    const { epochSeconds, minNodes, viewFile } = this.#options;
    const now = Math.floor(nowUnixSeconds);
    const epoch = epochAt(now, epochSeconds);
    if (this.#bundle !== undefined && this.#bundle.view.epoch >= epoch) return undefined;
    this.#dropExpired(now);
    const nodes = [...this.#descriptors.values()].filter((descriptor) =>
      descriptor.mixKeys.some((keys) => keys.epoch === epoch),
    );
    if (nodes.length < minNodes) return undefined;
    // The first view begins when it is made, later ones with their epoch.
    const validAfter = this.#bundle === undefined ? now : epoch * epochSeconds;
    const unsigned = buildView(
      nodes.map((descriptor) => {
        const { bandwidthBytesPerSecond } = descriptor;
        const weight = Math.max(1, bandwidthBytesPerSecond);
        return { descriptor, status: { flags: 0, bandwidthBytesPerSecond, weight, firstEpoch: epoch } };
      }),
      {
        epochSeconds,
        validAfter,
        freshUntil: (epoch + 1) * epochSeconds,
        // Relays take the keys of the epoch before, so a client that missed one view still gets through.
        validUntil: (epoch + 2) * epochSeconds,
      },
      this.#suite,
    );
    const bundle = signView(unsigned, this.#key);
    writeAtomically(viewFile, encodeViewBundle(bundle));
    this.#bundle = bundle;
    return bundle;
  }

  #dropExpired(nowUnixSeconds: number): void {
    for (const [id, descriptor] of this.#descriptors) {
      if (descriptor.expires <= nowUnixSeconds) this.#descriptors.delete(id);
    }
  }
}

/** The authority's key: 64 hex digits of an Ed25519 seed in a private file, made if there is none. Throws KeyStoreError. */
export const loadAuthorityKey = (path: string, suite: CryptoSuite): SignKeyPair => {
  if (!existsSync(path)) writeAtomically(path, Buffer.from(`${randomBytes(32).toString('hex')}\n`));
  assertPrivate(path);
  const text = readFileSync(path, 'utf8').trim();
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw new KeyStoreError(KeyStoreErrorCode.corrupt, `${path} must hold 64 hex digits (an Ed25519 seed)`);
  }
  const seed = Buffer.from(text, 'hex');
  const key = suite.ed25519(seed);
  suite.wipe(seed);
  return key;
};
