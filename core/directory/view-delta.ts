/**
 * What changed between two views, for who has the first one. Both list nodes in ascending order, so a delta walks the
 * first and says what becomes of it; of a descriptor with new keys only what is new is sent.
 *
 *   delta = "NYXU" ‖ version (1) ‖ digest of the first view (32) ‖ signed body of the second (view.ts)
 *           ‖ changes (4) ‖ change*
 *   change = 0 ‖ count (4)                              as many entries stay as they are
 *          | 1 ‖ count (4)                              as many leave
 *          | 2 ‖ status (20)                            the next keeps its descriptor
 *          | 3 ‖ status (20) ‖ length (4) ‖ patch       the next has this descriptor
 *          | 4 ‖ status (20) ‖ length (4) ‖ descriptor  a node comes in before the next
 *   patch = (0 ‖ offset (2) ‖ length (2) | 1 ‖ length (2) ‖ bytes)*      copied from the old descriptor, or new
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { ByteReader, ByteWriter, compareBytes, magicOf, readNumber } from './bytes.ts';
import { MAX_DESCRIPTOR_BYTES } from './descriptor.ts';
import { DirectoryError, DirectoryErrorCode } from './directory-error.ts';
import { encodeNodeStatus, readNodeStatus } from './node-status.ts';
import {
  encodeSignedBody,
  MAX_BUNDLE_BYTES,
  MAX_VIEW_NODES,
  readSignedBody,
  type ViewBundle,
  type ViewEntry,
  viewDigest,
} from './view.ts';

const DELTA_VERSION = 1;
const magic = magicOf('NYXU');
const what = 'view delta';
const Change = { keep: 0, leave: 1, status: 2, patch: 3, enter: 4 } as const;
const MAX_CHANGES = 2 * MAX_VIEW_NODES;

/** Does what came begin as a delta does? Otherwise it may be a whole bundle. */
export function isDelta(bytes: Uint8Array): boolean {
  return compareBytes(bytes.subarray(0, magic.length), magic) === 0;
}

/** Digests of the view that a delta begins with and of the one it leads to. Throws DirectoryError MALFORMED. */
export function deltaEnds(
  bytes: Uint8Array,
  suite: CryptoSuite,
): { readonly from: Uint8Array; readonly to: Uint8Array } {
  const reader = new ByteReader(bytes, what);
  reader.expect(magic, DELTA_VERSION);
  const from = reader.take(32);
  return { from, to: viewDigest(readSignedBody(reader).body, suite) };
}

/** Which node an entry of a view is about: 32 bytes that order it. Needed because a bundle need not be decoded here. */
export type NodeIdOf = (entry: ViewEntry) => Uint8Array;

/** Steps of a millisecond at most; `idOf` gives the NodeIDs of the entries of both bundles. */
export function* encodeDeltaSteps(
  from: ViewBundle,
  to: ViewBundle,
  idOf: NodeIdOf,
  suite: CryptoSuite,
): Generator<void, Uint8Array> {
  const changes = new ChangeWriter();
  let at = 0;
  for (const entry of to.entries) {
    const id = idOf(entry);
    while (at < from.entries.length && compareBytes(idOf(from.entries[at]!), id) < 0) {
      changes.run(Change.leave);
      at++;
    }
    const old =
      at < from.entries.length && compareBytes(idOf(from.entries[at]!), id) === 0 ? from.entries[at] : undefined;
    if (old === undefined) changes.sized(Change.enter, entry, entry.descriptor);
    else {
      at++;
      if (compareBytes(old.descriptor, entry.descriptor) !== 0) {
        changes.sized(Change.patch, entry, makePatch(old.descriptor, entry.descriptor));
      } else if (compareBytes(encodeNodeStatus(old.status), encodeNodeStatus(entry.status)) !== 0) {
        changes.status(entry);
      } else changes.run(Change.keep);
    }
    yield;
  }
  for (; at < from.entries.length; at++) changes.run(Change.leave);
  const { count, bytes } = changes.finish();
  return new ByteWriter()
    .bytes(magic)
    .number(DELTA_VERSION, 1)
    .bytes(viewDigest(from.body, suite))
    .bytes(encodeSignedBody(to))
    .number(count, 4)
    .bytes(bytes)
    .finish();
}

/**
 * The second view, from the first and a delta. Nothing is verified: that is verifyViewBundle's. Throws DirectoryError
 * MALFORMED, TOO_LARGE, or INCOMPLETE when the delta is for another view. The result may hold views of `bytes`.
 */
export function applyDelta(from: ViewBundle, bytes: Uint8Array, suite: CryptoSuite): ViewBundle {
  const reader = new ByteReader(bytes, what);
  if (bytes.length > MAX_BUNDLE_BYTES) throw reader.malformed(`has ${bytes.length} bytes`);
  reader.expect(magic, DELTA_VERSION);
  if (compareBytes(reader.view(32), viewDigest(from.body, suite)) !== 0) {
    throw new DirectoryError(DirectoryErrorCode.incomplete, `${what} begins with another view than the one at hand`);
  }
  const signed = readSignedBody(reader);
  const count = reader.length(MAX_CHANGES, 'number of changes');
  const entries: ViewEntry[] = [];
  let at = 0;
  let sizeBytes = 0;
  const next = (): ViewEntry => {
    const entry = from.entries[at++];
    if (entry === undefined) throw reader.malformed('changes more nodes than there are');
    return entry;
  };
  const push = (entry: ViewEntry) => {
    sizeBytes += entry.descriptor.length;
    if (entries.length >= MAX_VIEW_NODES || sizeBytes > MAX_BUNDLE_BYTES) throw reader.malformed('grows beyond a view');
    entries.push(entry);
  };
  for (let i = 0; i < count; i++) {
    const change = reader.number(1);
    switch (change) {
      case Change.keep:
        for (let left = reader.length(MAX_VIEW_NODES, 'run'); left > 0; left--) push(next());
        break;
      case Change.leave:
        for (let left = reader.length(MAX_VIEW_NODES, 'run'); left > 0; left--) next();
        break;
      case Change.status:
        push({ status: readNodeStatus(reader), descriptor: next().descriptor });
        break;
      case Change.patch: {
        const status = readNodeStatus(reader);
        const patch = reader.view(reader.length(2 * MAX_DESCRIPTOR_BYTES, 'patch'));
        push({ status, descriptor: applyPatch(next().descriptor, patch) });
        break;
      }
      case Change.enter: {
        const status = readNodeStatus(reader);
        push({ status, descriptor: reader.view(reader.length(MAX_DESCRIPTOR_BYTES, 'descriptor')) });
        break;
      }
      default:
        throw reader.malformed(`has a change of kind ${change}`);
    }
  }
  reader.end();
  if (at !== from.entries.length) throw reader.malformed('says nothing of some nodes');
  return { ...signed, entries };
}

/** Collects changes; runs of the same kind are counted, not repeated. */
class ChangeWriter {
  readonly #writer = new ByteWriter();
  #count = 0;
  #run: { readonly change: number; length: number } | undefined;

  run(change: number): void {
    if (this.#run?.change !== change) {
      this.#flush();
      this.#run = { change, length: 0 };
    }
    this.#run.length++;
  }

  status(entry: ViewEntry): void {
    this.#flush();
    this.#count++;
    this.#writer.number(Change.status, 1).bytes(encodeNodeStatus(entry.status));
  }

  sized(change: number, entry: ViewEntry, content: Uint8Array): void {
    this.#flush();
    this.#count++;
    this.#writer.number(change, 1).bytes(encodeNodeStatus(entry.status)).number(content.length, 4).bytes(content);
  }

  finish(): { readonly count: number; readonly bytes: Uint8Array } {
    this.#flush();
    return { count: this.#count, bytes: this.#writer.finish() };
  }

  #flush(): void {
    if (this.#run === undefined) return;
    this.#count++;
    this.#writer.number(this.#run.change, 1).number(this.#run.length, 4);
    this.#run = undefined;
  }
}

// --- patches ---

/** Old bytes are looked up by their first four, at every multiple of this. */
const STRIDE = 16;
/** Shorter matches cost more than they save. */
const MIN_MATCH = 12;
const MAX_PIECE = 0xffff;

/** What makes `to` of `from`; both at most 64 KiB. */
function makePatch(from: Uint8Array, to: Uint8Array): Uint8Array {
  const index = new Map<number, number>();
  for (let at = 0; at + 4 <= from.length; at += STRIDE) index.set(readNumber(from, at, 4), at);
  const writer = new ByteWriter();
  let literal = 0;
  const flush = (end: number) => {
    for (; literal < end; literal += MAX_PIECE) {
      const piece = to.subarray(literal, Math.min(end, literal + MAX_PIECE));
      writer.number(1, 1).number(piece.length, 2).bytes(piece);
    }
    literal = end;
  };
  for (let at = 0; at + 4 <= to.length; ) {
    const found = index.get(readNumber(to, at, 4));
    const match = found === undefined ? undefined : extend(from, to, found, at, literal);
    if (match === undefined || match.length < MIN_MATCH) {
      at++;
      continue;
    }
    flush(match.to);
    writer.number(0, 1).number(match.from, 2).number(match.length, 2);
    literal = match.to + match.length;
    at = literal;
  }
  flush(to.length);
  return writer.finish();
}

/** The longest run of equal bytes around a pair of positions, not before `floor` in `to`. */
function extend(from: Uint8Array, to: Uint8Array, fromAt: number, toAt: number, floor: number) {
  let back = 0;
  while (fromAt - back > 0 && toAt - back > floor && from[fromAt - back - 1] === to[toAt - back - 1]) back++;
  let ahead = 0;
  while (fromAt + ahead < from.length && toAt + ahead < to.length && from[fromAt + ahead] === to[toAt + ahead]) ahead++;
  return { from: fromAt - back, to: toAt - back, length: Math.min(MAX_PIECE, back + ahead) };
}

function applyPatch(from: Uint8Array, patch: Uint8Array): Uint8Array {
  const reader = new ByteReader(patch, 'descriptor patch');
  const parts: Uint8Array[] = [];
  let length = 0;
  while (reader.left > 0) {
    const kind = reader.number(1);
    if (kind > 1) throw reader.malformed(`has a piece of kind ${kind}`);
    const offset = kind === 0 ? reader.number(2) : 0;
    const size = reader.number(2);
    length += size;
    if (size === 0 || length > MAX_DESCRIPTOR_BYTES) throw reader.malformed('makes more than a descriptor');
    if (kind === 0 && offset + size > from.length) throw reader.malformed('copies what is not there');
    parts.push(kind === 0 ? from.subarray(offset, offset + size) : reader.view(size));
  }
  const made = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    made.set(part, at);
    at += part.length;
  }
  return made;
}
