/**
 * The epoch view: the one set of nodes that every client of an epoch chooses from. A digest (epoch, dates, Merkle
 * root, number of nodes, parameters) is signed by a threshold of directory keys; a bundle is the digest, its
 * signatures and all descriptors.
 *
 *   bundle = "NYXV" ‖ version (1) ‖ body length (4) ‖ body ‖ signatures (1) ‖ (key (32) ‖ signature (64))*
 *            ‖ descriptors (4) ‖ (length (4) ‖ descriptor)*         descriptors ascend by NodeID
 *   body = deterministic CBOR map      signature = Ed25519(key, "nyx1 directory view" ‖ 0x00 ‖ body)
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import {
  type CryptoSuite,
  ED25519_PUBLIC_KEY_BYTES,
  ED25519_SIGNATURE_BYTES,
  type SignKeyPair,
} from '../crypto/suite.ts';
import type { UnixSeconds } from '../ports.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  MAX_DESCRIPTOR_BYTES,
  type NodeDescriptor,
  nodeIdHex,
  verifyDescriptorSignature,
} from './descriptor.ts';
import { DirectoryError, DirectoryErrorCode } from './directory-error.ts';
import { merkleLeaf, merkleRoot } from './merkle.ts';
import { decodeCbor, encodeCbor, FieldReader, showValue } from './strict-cbor.ts';

export const VIEW_VERSION = 1;
export const DEFAULT_EPOCH_SECONDS = 3600;
export const MAX_BUNDLE_BYTES = 64 * 1024 * 1024;
export const MAX_VIEW_NODES = 20_000;
export const MAX_VIEW_SIGNATURES = 64;
export const MAX_VIEW_PARAMS = 64;
/** A view is signed for at most this long. */
export const MAX_VIEW_LIFETIME_SECONDS = 7 * 86_400;

const maxBodyBytes = 16 * 1024;
const magic = Uint8Array.of(0x4e, 0x59, 0x58, 0x56);
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
  readonly params: Readonly<Record<string, number>>;
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
  /** Encoded descriptors, ascending by NodeID. */
  readonly descriptors: readonly Uint8Array[];
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
  /** By NodeID in lower-case hex. */
  readonly byId: ReadonlyMap<string, NodeDescriptor>;
  /** Descriptors by hex of their Merkle leaf: a next view need not verify the same bytes again. */
  readonly byLeaf: ReadonlyMap<string, NodeDescriptor>;
}

export interface BuildViewOptions {
  readonly epochSeconds?: number;
  readonly validAfter: UnixSeconds;
  readonly freshUntil: UnixSeconds;
  readonly validUntil: UnixSeconds;
  readonly params?: Readonly<Record<string, number>>;
}

export interface VerifyViewOptions {
  readonly authorities: AuthoritySet;
  readonly suite: CryptoSuite;
  readonly now: UnixSeconds;
  /** The last view that was accepted, or what was persisted of it. */
  readonly previous?: ViewReference | VerifiedView;
  /** How far `now` may be behind `validAfter`. */
  readonly clockSkewSeconds?: number;
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
export function buildView(
  descriptors: readonly NodeDescriptor[],
  options: BuildViewOptions,
  suite: CryptoSuite,
): ViewBundle {
  if (descriptors.length > MAX_VIEW_NODES) throw tooLarge(`${descriptors.length} nodes`, `${MAX_VIEW_NODES}`);
  const sorted = [...descriptors].sort((a, b) => compareBytes(a.nodeId, b.nodeId));
  assertNodes(sorted, options.validAfter);
  const encoded = sorted.map(encodeDescriptor);
  const epochSeconds = options.epochSeconds ?? DEFAULT_EPOCH_SECONDS;
  const body = encodeCbor({
    version: VIEW_VERSION,
    epoch: epochAt(options.validAfter, epochSeconds),
    epochSeconds,
    validAfter: options.validAfter,
    freshUntil: options.freshUntil,
    validUntil: options.validUntil,
    root: merkleRoot(
      encoded.map((bytes) => merkleLeaf(bytes, suite)),
      suite,
    ),
    count: encoded.length,
    params: { ...options.params },
  });
  return { view: decodeBody(body), body, signatures: [], descriptors: encoded };
}

/** Adds a directory key's signature (replacing one by the same key). Returns a new bundle. */
export function signView(bundle: ViewBundle, key: SignKeyPair): ViewBundle {
  const others = bundle.signatures.filter((entry) => compareBytes(entry.key, key.publicKey) !== 0);
  const signature = key.sign(signedMessage(bundle.body));
  return { ...bundle, signatures: [...others, { key: new Uint8Array(key.publicKey), signature }] };
}

/** The bytes that travel. Throws DirectoryError TOO_LARGE. */
export function encodeViewBundle(bundle: ViewBundle): Uint8Array {
  const { body, signatures, descriptors } = bundle;
  const signatureBytes = ED25519_PUBLIC_KEY_BYTES + ED25519_SIGNATURE_BYTES;
  let length = magic.length + 1 + 4 + body.length + 1 + signatures.length * signatureBytes + 4;
  for (const descriptor of descriptors) length += 4 + descriptor.length;
  if (length > MAX_BUNDLE_BYTES) throw tooLarge(`${length} bytes`, `${MAX_BUNDLE_BYTES}`);
  if (signatures.length > MAX_VIEW_SIGNATURES) throw tooLarge(`${signatures.length} signatures`, '64');
  const bytes = new Uint8Array(length);
  const numbers = new DataView(bytes.buffer);
  let at = 0;
  const put = (part: Uint8Array) => {
    bytes.set(part, at);
    at += part.length;
  };
  const putLength = (value: number) => {
    numbers.setUint32(at, value);
    at += 4;
  };
  put(magic);
  bytes[at++] = VIEW_VERSION;
  putLength(body.length);
  put(body);
  bytes[at++] = signatures.length;
  for (const { key, signature } of signatures) {
    put(key);
    put(signature);
  }
  putLength(descriptors.length);
  for (const descriptor of descriptors) {
    putLength(descriptor.length);
    put(descriptor);
  }
  return bytes;
}

/**
 * Takes a bundle apart and checks its form, not what it says. Throws DirectoryError TOO_LARGE, MALFORMED,
 * UNSUPPORTED_VERSION or BAD_FIELD. The result holds copies.
 */
export function decodeViewBundle(bytes: Uint8Array): ViewBundle {
  if (bytes.length > MAX_BUNDLE_BYTES) throw tooLarge(`${bytes.length} bytes`, `${MAX_BUNDLE_BYTES}`);
  const reader = new BundleReader(bytes);
  if (compareBytes(reader.take(magic.length), magic) !== 0) throw malformed('does not begin with NYXV');
  const version = reader.byte();
  if (version !== VIEW_VERSION) throw unsupported(version);
  const body = reader.take(reader.length(maxBodyBytes, 'digest'));
  const view = decodeBody(body);
  const signatures: ViewSignature[] = [];
  const signatureCount = reader.byte();
  if (signatureCount > MAX_VIEW_SIGNATURES) throw tooLarge(`${signatureCount} signatures`, `${MAX_VIEW_SIGNATURES}`);
  for (let i = 0; i < signatureCount; i++) {
    signatures.push({ key: reader.take(ED25519_PUBLIC_KEY_BYTES), signature: reader.take(ED25519_SIGNATURE_BYTES) });
  }
  const count = reader.length(MAX_VIEW_NODES, 'number of descriptors');
  const descriptors: Uint8Array[] = [];
  for (let i = 0; i < count; i++) descriptors.push(reader.take(reader.length(MAX_DESCRIPTOR_BYTES, 'descriptor')));
  if (reader.left > 0) throw malformed(`has ${reader.left} bytes after its end`);
  return { view, body, signatures, descriptors };
}

/**
 * Checks everything: dates, at least `threshold` signatures of different authorities, no rollback or fork against
 * `previous`, the Merkle root over all descriptors, their order, and each one's own signature. Throws DirectoryError
 * with a code for each of these. Cheap checks and the threshold come before the per-node work.
 */
export function verifyViewBundle(bundle: ViewBundle, options: VerifyViewOptions): VerifiedView {
  const { suite, previous, now } = options;
  const { view, body, descriptors } = bundle;
  assertAuthorities(options.authorities);
  assertDates(view, now, options.clockSkewSeconds ?? 60);
  assertSignatures(bundle, options.authorities, suite);
  const digest = suite.blake3(body);
  if (previous !== undefined) assertSuccessor(view, digest, previous, suite);

  if (descriptors.length !== view.count) {
    throw new DirectoryError(
      DirectoryErrorCode.incomplete,
      `${what} has ${descriptors.length} descriptors; its digest says ${view.count}`,
    );
  }
  const leaves = descriptors.map((bytes) => merkleLeaf(bytes, suite));
  if (!suite.equal(merkleRoot(leaves, suite), view.root)) {
    throw new DirectoryError(DirectoryErrorCode.badRoot, `${what}: the descriptors do not hash to the signed root`);
  }
  const known = previous !== undefined && 'byLeaf' in previous ? previous.byLeaf : undefined;
  const byLeaf = new Map<string, NodeDescriptor>();
  const byId = new Map<string, NodeDescriptor>();
  const nodes = descriptors.map((bytes, i) => {
    const leaf = nodeIdHex(leaves[i]!);
    const descriptor = known?.get(leaf) ?? readDescriptor(bytes, suite);
    byLeaf.set(leaf, descriptor);
    byId.set(nodeIdHex(descriptor.nodeId), descriptor);
    return descriptor;
  });
  assertNodes(nodes, view.validAfter);
  return { epoch: view.epoch, digest, view, nodes, byId, byLeaf };
}

function readDescriptor(bytes: Uint8Array, suite: CryptoSuite): NodeDescriptor {
  const descriptor = decodeDescriptor(bytes, suite);
  verifyDescriptorSignature(descriptor, suite);
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

function assertSignatures(bundle: ViewBundle, authorities: AuthoritySet, suite: CryptoSuite): void {
  const message = signedMessage(bundle.body);
  const allowed = new Set(authorities.keys.map(nodeIdHex));
  const signed = new Set<string>();
  for (const { key, signature } of bundle.signatures) {
    const id = nodeIdHex(key);
    if (!allowed.has(id) || signed.has(id)) continue;
    if (suite.ed25519Verify(key, message, signature)) signed.add(id);
  }
  if (signed.size < authorities.threshold) {
    throw new DirectoryError(
      DirectoryErrorCode.tooFewSignatures,
      `${what} of epoch ${bundle.view.epoch} has ${signed.size} valid signatures of different authorities; ${authorities.threshold} are needed`,
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
    params: readParams(reader),
  };
}

function readParams(reader: FieldReader): Record<string, number> {
  const value = reader.get('params');
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw reader.bad('params', 'must be a map');
  }
  const names = Object.keys(value);
  if (names.length > MAX_VIEW_PARAMS) throw reader.bad('params', `must have at most ${MAX_VIEW_PARAMS} entries`);
  const params = new FieldReader(value, `${what} params`, names);
  const read: Record<string, number> = {};
  for (const name of names) {
    if (!/^[a-zA-Z][a-zA-Z0-9-]{0,39}$/.test(name)) throw reader.bad('params', 'has a name that is not of a-z 0-9 -');
    read[name] = params.integer(name, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  }
  return read;
}

/** Reads the parts of a bundle in order; nothing is taken before its length is known to be there. */
class BundleReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    // A Buffer's slice() would be a view of the caller's memory instead of a copy.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(length: number): Uint8Array {
    if (length > this.left) throw malformed(`ends ${length - this.left} bytes too early`);
    this.#at += length;
    return this.#bytes.slice(this.#at - length, this.#at);
  }

  byte(): number {
    return this.take(1)[0]!;
  }

  length(max: number, name: string): number {
    const value = new DataView(this.take(4).buffer).getUint32(0);
    if (value > max) throw tooLarge(`a ${name} of ${value}`, `${max}`);
    return value;
  }
}

function signedMessage(body: Uint8Array): Uint8Array {
  const label = nyxLabel('directory view');
  const message = new Uint8Array(label.length + 1 + body.length);
  message.set(label);
  message.set(body, label.length + 1);
  return message;
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!;
  }
  return a.length - b.length;
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(DirectoryErrorCode.malformed, `${what} bundle ${problem}`);
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
