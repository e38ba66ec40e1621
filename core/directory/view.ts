/**
 * The epoch view: the one set of nodes that every client of an epoch chooses from. A digest (epoch, dates, Merkle
 * root, number of nodes, parameters) is signed by a threshold of directory keys; a bundle is the digest, its
 * signatures and all descriptors.
 *
 *   bundle = "NYXV" ‖ version (1) ‖ body length (4) ‖ body ‖ signatures (1) ‖ (key (32) ‖ signature (64))*
 *            ‖ entries (4) ‖ (status (20) ‖ length (4) ‖ descriptor)*         entries ascend by NodeID
 *   body = deterministic CBOR map      signature = Ed25519(key, "nyx1 directory view" ‖ 0x00 ‖ body)
 *   leaf of the Merkle tree = BLAKE3("nyx1 directory leaf" ‖ 0x00 ‖ status ‖ descriptor digest)
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import {
  type CryptoSuite,
  ED25519_PUBLIC_KEY_BYTES,
  ED25519_SIGNATURE_BYTES,
  type SignKeyPair,
} from '../crypto/suite.ts';
import type { UnixSeconds } from '../ports.ts';
import { ByteReader, compareBytes, joinBytes, magicOf, writeNumber } from './bytes.ts';
import {
  decodeDescriptor,
  descriptorDigest,
  encodeDescriptor,
  MAX_DESCRIPTOR_BYTES,
  type NodeDescriptor,
  nodeIdHex,
  verifyDescriptorSignature,
} from './descriptor.ts';
import { DirectoryError, DirectoryErrorCode } from './directory-error.ts';
import { merkleLeaf, merkleRoot, merkleRootSteps } from './merkle.ts';
import { encodeNodeStatus, NODE_STATUS_BYTES, type NodeStatus, readNodeStatus, type ViewNode } from './node-status.ts';
import { readParams, type ViewParams } from './params.ts';
import { decodeCbor, encodeCbor, FieldReader, showValue } from './strict-cbor.ts';

export const VIEW_VERSION = 2;
export const DEFAULT_EPOCH_SECONDS = 3600;
export const MAX_BUNDLE_BYTES = 64 * 1024 * 1024;
export const MAX_VIEW_NODES = 20_000;
export const MAX_VIEW_SIGNATURES = 64;
/** A view is signed for at most this long. */
export const MAX_VIEW_LIFETIME_SECONDS = 7 * 86_400;

const maxBodyBytes = 16 * 1024;
const magic = magicOf('NYXV');
const what = 'directory view';

/** Who signs views: at least `threshold` different ones of `keys` (Ed25519 public keys). */
export interface AuthoritySet {
  readonly threshold: number;
  readonly keys: readonly Uint8Array[];
}

/** The digest that is signed. */
export interface DirectoryView {
  readonly version: typeof VIEW_VERSION;
  /** floor(validAfter / epochSeconds). */
  readonly epoch: number;
  readonly epochSeconds: number;
  readonly validAfter: UnixSeconds;
  /** When a client should look for the next view. */
  readonly freshUntil: UnixSeconds;
  /** From when on this view must not be used. */
  readonly validUntil: UnixSeconds;
  /** 32 bytes. */
  readonly root: Uint8Array;
  /** Number of nodes. */
  readonly count: number;
  /** Parameters of the network: integers by name. */
  readonly params: ViewParams;
}

export interface ViewSignature {
  readonly key: Uint8Array;
  readonly signature: Uint8Array;
}

export interface ViewBundle {
  readonly view: DirectoryView;
  /** The signed CBOR body of `view`. */
  readonly body: Uint8Array;
  readonly signatures: readonly ViewSignature[];
  /** Ascending by NodeID. */
  readonly entries: readonly ViewEntry[];
}

/** A node as it travels in a bundle. */
export interface ViewEntry {
  readonly status: NodeStatus;
  /** Encoded. */
  readonly descriptor: Uint8Array;
}

/** What to remember of the last accepted view, so that rollbacks and forks show. Small enough to persist. */
export interface ViewReference {
  readonly epoch: number;
  /** BLAKE3 of the signed body, 32 bytes. */
  readonly digest: Uint8Array;
}

/** A view that passed verifyViewBundle. */
export interface VerifiedView extends ViewReference {
  readonly view: DirectoryView;
  /** Ascending by NodeID. */
  readonly nodes: readonly NodeDescriptor[];
  /** `statuses[i]` is what the authorities say of `nodes[i]`. */
  readonly statuses: readonly NodeStatus[];
  /** By NodeID in lower-case hex. */
  readonly byId: ReadonlyMap<string, NodeDescriptor>;
  /** By hex of the descriptor's digest: a next view need not verify the same bytes again. */
  readonly byDigest: ReadonlyMap<string, NodeDescriptor>;
}

export interface BuildViewOptions {
  readonly epochSeconds?: number;
  readonly validAfter: UnixSeconds;
  readonly freshUntil: UnixSeconds;
  readonly validUntil: UnixSeconds;
  readonly params?: ViewParams;
}

export interface VerifyViewOptions {
  readonly authorities: AuthoritySet;
  readonly suite: CryptoSuite;
  readonly now: UnixSeconds;
  /** The last view that was accepted, or what was persisted of it. */
  readonly previous?: ViewReference | VerifiedView;
  /** How far `now` may be behind `validAfter`. */
  readonly clockSkewSeconds?: number;
  /**
   * Takes the check of descriptors' own signatures over: verifyDescriptorSignature has to pass for each that is given here
   * before the view is used. Default: they are checked at once.
   */
  readonly signatures?: (descriptor: NodeDescriptor) => void;
}

/** The number of the epoch that `now` is in. */
export function epochAt(now: UnixSeconds, epochSeconds: number = DEFAULT_EPOCH_SECONDS): number {
  return Math.floor(now / epochSeconds);
}

/**
 * Makes the unsigned bundle of an epoch. Descriptors may come in any order; their signatures are the caller's to have
 * checked. Throws DirectoryError: INCOMPLETE (a node twice), EXPIRED (a descriptor that ends before the view starts),
 * BAD_FIELD (dates or parameters), TOO_LARGE.
 */
export function buildView(nodes: readonly ViewNode[], options: BuildViewOptions, suite: CryptoSuite): ViewBundle {
  if (nodes.length > MAX_VIEW_NODES) throw tooLarge(`${nodes.length} nodes`, `${MAX_VIEW_NODES}`);
  const sorted = [...nodes].sort((a, b) => compareBytes(a.descriptor.nodeId, b.descriptor.nodeId));
  assertNodes(
    sorted.map(({ descriptor }) => descriptor),
    options.validAfter,
  );
  const entries = sorted.map(({ descriptor, status }) => ({ status, descriptor: encodeDescriptor(descriptor) }));
  const epochSeconds = options.epochSeconds ?? DEFAULT_EPOCH_SECONDS;
  const body = encodeCbor({
    version: VIEW_VERSION,
    epoch: epochAt(options.validAfter, epochSeconds),
    epochSeconds,
    validAfter: options.validAfter,
    freshUntil: options.freshUntil,
    validUntil: options.validUntil,
    root: merkleRoot(
      entries.map((entry) => leafOf(entry.status, descriptorDigest(entry.descriptor, suite), suite)),
      suite,
    ),
    count: entries.length,
    params: { ...options.params },
  });
  return { view: decodeBody(body), body, signatures: [], entries };
}

/** Adds a directory key's signature (replacing one by the same key). Returns a new bundle. */
export function signView(bundle: ViewBundle, key: SignKeyPair): ViewBundle {
  const others = bundle.signatures.filter((entry) => compareBytes(entry.key, key.publicKey) !== 0);
  const signature = key.sign(signedMessage(bundle.body));
  return { ...bundle, signatures: [...others, { key: new Uint8Array(key.publicKey), signature }] };
}

/** The bytes that travel. Throws DirectoryError TOO_LARGE. */
export function encodeViewBundle(bundle: ViewBundle): Uint8Array {
  const { body, signatures, entries } = bundle;
  if (signatures.length > MAX_VIEW_SIGNATURES) throw tooLarge(`${signatures.length} signatures`, '64');
  const head = joinBytes(magic, Uint8Array.of(VIEW_VERSION), encodeSignedBody(bundle));
  let length = head.length + 4;
  for (const { descriptor } of entries) length += NODE_STATUS_BYTES + 4 + descriptor.length;
  if (length > MAX_BUNDLE_BYTES) throw tooLarge(`${length} bytes`, `${MAX_BUNDLE_BYTES}`);
  if (body.length > maxBodyBytes) throw tooLarge(`a digest of ${body.length} bytes`, `${maxBodyBytes}`);
  const bytes = new Uint8Array(length);
  bytes.set(head);
  let at = head.length;
  writeNumber(bytes, at, entries.length, 4);
  at += 4;
  for (const { status, descriptor } of entries) {
    bytes.set(encodeNodeStatus(status), at);
    writeNumber(bytes, at + NODE_STATUS_BYTES, descriptor.length, 4);
    at += NODE_STATUS_BYTES + 4;
    bytes.set(descriptor, at);
    at += descriptor.length;
  }
  return bytes;
}

/**
 * Takes a bundle apart and checks its form, not what it says. Throws DirectoryError TOO_LARGE, MALFORMED,
 * UNSUPPORTED_VERSION or BAD_FIELD. The entries' descriptors are views of `bytes`, which must not change any more.
 */
export function decodeViewBundle(bytes: Uint8Array): ViewBundle {
  if (bytes.length > MAX_BUNDLE_BYTES) throw tooLarge(`${bytes.length} bytes`, `${MAX_BUNDLE_BYTES}`);
  const reader = new ByteReader(bytes, `${what} bundle`);
  reader.expect(magic, VIEW_VERSION);
  const signed = readSignedBody(reader);
  const count = reader.length(MAX_VIEW_NODES, 'number of nodes');
  const entries: ViewEntry[] = [];
  for (let i = 0; i < count; i++) {
    const status = readNodeStatus(reader);
    entries.push({ status, descriptor: reader.view(reader.length(MAX_DESCRIPTOR_BYTES, 'descriptor')) });
  }
  reader.end();
  return { ...signed, entries };
}

/** A view's digest and the signatures under it, without the nodes: enough to prove who signed what. */
export type SignedBody = Omit<ViewBundle, 'entries'>;

/** `body length (4) ‖ body ‖ signatures (1) ‖ (key (32) ‖ signature (64))*` */
export function encodeSignedBody({ body, signatures }: Pick<ViewBundle, 'body' | 'signatures'>): Uint8Array {
  const length = new Uint8Array(4);
  writeNumber(length, 0, body.length, 4);
  const pairs = signatures.flatMap(({ key, signature }) => [key, signature]);
  return joinBytes(length, body, Uint8Array.of(signatures.length), ...pairs);
}

/** Throws DirectoryError; the result holds copies. */
export function readSignedBody(reader: ByteReader): SignedBody {
  const body = reader.take(reader.length(maxBodyBytes, 'digest'));
  const view = decodeBody(body);
  const signatures: ViewSignature[] = [];
  const signatureCount = reader.number(1);
  if (signatureCount > MAX_VIEW_SIGNATURES) throw tooLarge(`${signatureCount} signatures`, `${MAX_VIEW_SIGNATURES}`);
  for (let i = 0; i < signatureCount; i++) {
    signatures.push({ key: reader.take(ED25519_PUBLIC_KEY_BYTES), signature: reader.take(ED25519_SIGNATURE_BYTES) });
  }
  return { view, body, signatures };
}

/** BLAKE3 of the signed body, 32 bytes: what a view is known by. */
export function viewDigest(body: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.blake3(body);
}

/**
 * Checks everything: dates, at least `threshold` signatures of different authorities, no rollback or fork against
 * `previous`, the Merkle root over all entries, their order, and each descriptor's own signature. Throws DirectoryError
 * with a code for each of these. Cheap checks and the threshold come before the per-node work.
 */
export function verifyViewBundle(bundle: ViewBundle, options: VerifyViewOptions): VerifiedView {
  const steps = verifyViewSteps(bundle, options);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** verifyViewBundle in steps of at most a millisecond or so: whoever must not be blocked pauses between them. */
export function* verifyViewSteps(bundle: ViewBundle, options: VerifyViewOptions): Generator<void, VerifiedView> {
  const { suite, previous } = options;
  const { view, entries } = bundle;
  const digest = verifySignedBody(bundle, options);
  if (entries.length !== view.count) {
    throw new DirectoryError(
      DirectoryErrorCode.incomplete,
      `${what} has ${entries.length} nodes; its digest says ${view.count}`,
    );
  }
  const digests: string[] = [];
  const leaves: Uint8Array[] = [];
  for (const { status, descriptor } of entries) {
    const hash = descriptorDigest(descriptor, suite);
    digests.push(nodeIdHex(hash));
    leaves.push(leafOf(status, hash, suite));
    yield;
  }
  if (!suite.equal(yield* merkleRootSteps(leaves, suite), view.root)) {
    throw new DirectoryError(DirectoryErrorCode.badRoot, `${what}: the nodes do not hash to the signed root`);
  }
  const known = previous !== undefined && 'byDigest' in previous ? previous.byDigest : undefined;
  const byDigest = new Map<string, NodeDescriptor>();
  const byId = new Map<string, NodeDescriptor>();
  const nodes: NodeDescriptor[] = [];
  for (let i = 0; i < entries.length; i++) {
    const descriptor = known?.get(digests[i]!) ?? readDescriptor(entries[i]!.descriptor, options);
    byDigest.set(digests[i]!, descriptor);
    byId.set(nodeIdHex(descriptor.nodeId), descriptor);
    nodes.push(descriptor);
    yield;
  }
  assertNodes(nodes, view.validAfter);
  const statuses = entries.map(({ status }) => status);
  return { epoch: view.epoch, digest, view, nodes, statuses, byId, byDigest };
}

/**
 * The part of verifyViewBundle that needs no nodes: dates, threshold, rollback and fork. Returns the view's digest.
 */
export function verifySignedBody(signed: SignedBody, options: VerifyViewOptions): Uint8Array {
  const { suite, previous, now } = options;
  assertAuthorities(options.authorities);
  assertDates(signed.view, now, options.clockSkewSeconds ?? 60);
  assertSignatures(signed, options.authorities, suite);
  const digest = viewDigest(signed.body, suite);
  if (previous !== undefined) assertSuccessor(signed.view, digest, previous, suite);
  return digest;
}

/** Which of `authorities` signed, as lower-case hex of their keys; each counted once. */
export function validSigners(
  { body, signatures }: Pick<ViewBundle, 'body' | 'signatures'>,
  authorities: AuthoritySet,
  suite: CryptoSuite,
): ReadonlySet<string> {
  const message = signedMessage(body);
  const allowed = new Set(authorities.keys.map(nodeIdHex));
  const signed = new Set<string>();
  for (const { key, signature } of signatures) {
    const id = nodeIdHex(key);
    if (!allowed.has(id) || signed.has(id)) continue;
    if (suite.ed25519Verify(key, message, signature)) signed.add(id);
  }
  return signed;
}

function leafOf(status: NodeStatus, digest: Uint8Array, suite: CryptoSuite): Uint8Array {
  return merkleLeaf(joinBytes(encodeNodeStatus(status), digest), suite);
}

function readDescriptor(bytes: Uint8Array, { suite, signatures }: VerifyViewOptions): NodeDescriptor {
  const descriptor = decodeDescriptor(bytes, suite);
  if (signatures === undefined) verifyDescriptorSignature(descriptor, suite);
  else signatures(descriptor);
  return descriptor;
}

function assertAuthorities({ threshold, keys }: AuthoritySet): void {
  const distinct = new Set(keys.map(nodeIdHex)).size;
  if (!Number.isInteger(threshold) || threshold < 1 || threshold > distinct || distinct !== keys.length) {
    throw new DirectoryError(
      DirectoryErrorCode.badField,
      `authority set: threshold ${threshold} of ${distinct} different keys (${keys.length} given); it must be 1 to the number of keys, each given once`,
    );
  }
}

function assertDates(view: DirectoryView, now: UnixSeconds, clockSkewSeconds: number): void {
  if (now + clockSkewSeconds < view.validAfter) {
    throw new DirectoryError(
      DirectoryErrorCode.notYetValid,
      `${what} of epoch ${view.epoch} is valid after ${view.validAfter}; now is ${now}`,
    );
  }
  if (now >= view.validUntil) {
    throw new DirectoryError(
      DirectoryErrorCode.expired,
      `${what} of epoch ${view.epoch} was valid until ${view.validUntil}; now is ${now}`,
    );
  }
}

function assertSignatures(signed: SignedBody, authorities: AuthoritySet, suite: CryptoSuite): void {
  const signers = validSigners(signed, authorities, suite).size;
  if (signers < authorities.threshold) {
    throw new DirectoryError(
      DirectoryErrorCode.tooFewSignatures,
      `${what} of epoch ${signed.view.epoch} has ${signers} valid signatures of different authorities; ${authorities.threshold} are needed`,
    );
  }
}

function assertSuccessor(view: DirectoryView, digest: Uint8Array, previous: ViewReference, suite: CryptoSuite): void {
  if (view.epoch < previous.epoch) {
    throw new DirectoryError(
      DirectoryErrorCode.rollback,
      `${what} is of epoch ${view.epoch}; epoch ${previous.epoch} was accepted before`,
    );
  }
  if (view.epoch === previous.epoch && !suite.equal(digest, previous.digest)) {
    throw new DirectoryError(
      DirectoryErrorCode.fork,
      `${what} of epoch ${view.epoch} differs from the one accepted before: the authorities signed two`,
    );
  }
}

/** Strictly ascending by NodeID, hence each node once; and none that ended before the view began. */
function assertNodes(nodes: readonly NodeDescriptor[], validAfter: UnixSeconds): void {
  for (let i = 0; i < nodes.length; i++) {
    const node = nodes[i]!;
    if (i > 0 && compareBytes(nodes[i - 1]!.nodeId, node.nodeId) >= 0) {
      throw new DirectoryError(
        DirectoryErrorCode.incomplete,
        `${what}: node ${nodeIdHex(node.nodeId)} is listed twice or out of order`,
      );
    }
    if (node.expires <= validAfter) {
      throw new DirectoryError(
        DirectoryErrorCode.expired,
        `${what}: the descriptor of ${nodeIdHex(node.nodeId)} expired at ${node.expires}, before the view begins`,
      );
    }
  }
}

const bodyKeys = [
  'version',
  'epoch',
  'epochSeconds',
  'validAfter',
  'freshUntil',
  'validUntil',
  'root',
  'count',
  'params',
] as const;

function decodeBody(body: Uint8Array): DirectoryView {
  const value = decodeCbor(body, what);
  if (typeof value === 'object' && value !== null && 'version' in value && value.version !== VIEW_VERSION) {
    throw unsupported(value.version);
  }
  const reader = new FieldReader(value, what, bodyKeys);
  const version = reader.integer('version', VIEW_VERSION, VIEW_VERSION) as typeof VIEW_VERSION;
  const epochSeconds = reader.integer('epochSeconds', 1, 86_400);
  const validAfter = reader.integer('validAfter', 0, 2 ** 48);
  const epoch = reader.integer('epoch', 0, 2 ** 48);
  if (epoch !== epochAt(validAfter, epochSeconds)) {
    throw reader.bad('epoch', `must be ${epochAt(validAfter, epochSeconds)}, that of validAfter, is ${epoch}`);
  }
  const validUntil = reader.integer('validUntil', validAfter + 1, validAfter + MAX_VIEW_LIFETIME_SECONDS);
  return {
    version,
    epoch,
    epochSeconds,
    validAfter,
    freshUntil: reader.integer('freshUntil', validAfter + 1, validUntil),
    validUntil,
    root: reader.bytes('root', 32),
    count: reader.integer('count', 0, MAX_VIEW_NODES),
    params: readParams(reader.get('params'), what),
  };
}

function signedMessage(body: Uint8Array): Uint8Array {
  return joinBytes(nyxLabel('directory view'), Uint8Array.of(0), body);
}

function tooLarge(found: string, max: string): DirectoryError {
  return new DirectoryError(DirectoryErrorCode.tooLarge, `${what} has ${found}; at most ${max} are allowed`);
}

function unsupported(version: unknown): DirectoryError {
  return new DirectoryError(
    DirectoryErrorCode.unsupportedVersion,
    `${what} has version ${showValue(version)}; this node reads version ${VIEW_VERSION}`,
  );
}
