/**
 * What one authority wants in the view of an epoch. It travels without a signature of its own: voters sign its digest
 * (voting-messages.ts), and whoever fetches a vote checks that digest.
 *
 *   vote = "NYXB" ‖ version (1) ‖ epoch (6) ‖ round (4) ‖ voter (32) ‖ params length (4) ‖ params (CBOR)
 *          ‖ entries (4) ‖ (NodeID (32) ‖ descriptor digest (32) ‖ flags (2) ‖ bandwidth (6) ‖ first epoch (6))*
 *   entries ascend by NodeID, each node once           digest = BLAKE3("nyx1 directory vote body" ‖ 0x00 ‖ vote)
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import { type CryptoSuite, ED25519_PUBLIC_KEY_BYTES } from '../crypto/suite.ts';
import { ByteReader, ByteWriter, compareBytes, magicOf, writeNumber } from './bytes.ts';
import { NODE_ID_BYTES, type NodeDescriptor } from './descriptor.ts';
import { ALL_NODE_FLAGS } from './node-status.ts';
import { decodeParams, encodeParams, type ViewParams } from './params.ts';
import { MAX_VIEW_NODES } from './view.ts';

const VOTE_VERSION = 1;
const DIGEST_BYTES = 32;
const entryBytes = NODE_ID_BYTES + DIGEST_BYTES + 14;
const maxParamsBytes = 8192;
export const MAX_VOTE_BYTES = 64 + maxParamsBytes + MAX_VIEW_NODES * entryBytes;
export const MAX_ROUND = 0xffff_ffff;

const magic = magicOf('NYXB');
const what = 'directory vote';

/** A node that the voter could reach. */
export interface VoteEntry {
  readonly nodeId: Uint8Array;
  /** descriptorDigest of the newest descriptor that the voter has. */
  readonly digest: Uint8Array;
  /** Bits of NodeFlag. */
  readonly flags: number;
  readonly bandwidthBytesPerSecond: number;
  /** At most the vote's epoch. */
  readonly firstEpoch: number;
}

export interface VoteDraft {
  readonly params: ViewParams;
  /** In any order. */
  readonly entries: readonly VoteEntry[];
}

export interface Vote extends VoteDraft {
  readonly epoch: number;
  /** Attempts at an epoch's view are numbered from 0. */
  readonly round: number;
  /** Ed25519 public key. */
  readonly voter: Uint8Array;
}

/** Sorts the entries. */
export function encodeVote(vote: Vote): Uint8Array {
  const params = encodeParams(vote.params);
  const sorted = [...vote.entries].sort((a, b) => compareBytes(a.nodeId, b.nodeId));
  const packed = new Uint8Array(sorted.length * entryBytes);
  sorted.forEach((entry, i) => {
    const at = i * entryBytes;
    packed.set(entry.nodeId, at);
    packed.set(entry.digest, at + 32);
    writeNumber(packed, at + 64, entry.flags, 2);
    writeNumber(packed, at + 66, entry.bandwidthBytesPerSecond, 6);
    writeNumber(packed, at + 72, entry.firstEpoch, 6);
  });
  return new ByteWriter()
    .bytes(magic)
    .number(VOTE_VERSION, 1)
    .number(vote.epoch, 6)
    .number(vote.round, 4)
    .bytes(vote.voter)
    .number(params.length, 4)
    .bytes(params)
    .number(sorted.length, 4)
    .bytes(packed)
    .finish();
}

/** Throws DirectoryError TOO_LARGE, MALFORMED, UNSUPPORTED_VERSION or BAD_FIELD. The entries are views of `bytes`. */
export function decodeVote(bytes: Uint8Array): Vote {
  const reader = new ByteReader(bytes, what);
  if (bytes.length > MAX_VOTE_BYTES) throw reader.malformed(`has ${bytes.length} bytes`);
  reader.expect(magic, VOTE_VERSION);
  const epoch = reader.number(6);
  const round = reader.number(4);
  const voter = reader.take(ED25519_PUBLIC_KEY_BYTES);
  const params = decodeParams(reader.view(reader.length(maxParamsBytes, 'parameters')), what);
  const count = reader.length(MAX_VIEW_NODES, 'number of nodes');
  const entries: VoteEntry[] = [];
  let last: Uint8Array | undefined;
  for (let i = 0; i < count; i++) {
    const nodeId = reader.view(NODE_ID_BYTES);
    if (last !== undefined && compareBytes(last, nodeId) >= 0) throw reader.malformed('lists nodes out of order');
    last = nodeId;
    const digest = reader.view(DIGEST_BYTES);
    const flags = reader.number(2);
    if ((flags & ~ALL_NODE_FLAGS) !== 0) throw reader.malformed(`has unknown flags ${flags}`);
    const bandwidthBytesPerSecond = reader.number(6);
    const firstEpoch = reader.number(6);
    if (firstEpoch > epoch) throw reader.malformed('knows a node from the future');
    entries.push({ nodeId, digest, flags, bandwidthBytesPerSecond, firstEpoch });
  }
  reader.end();
  return { epoch, round, voter, params, entries };
}

/** 32 bytes. */
export function voteDigest(bytes: Uint8Array, suite: CryptoSuite): Uint8Array {
  return suite.blake3(nyxLabel('directory vote body'), Uint8Array.of(0), bytes);
}

/** Finds a descriptor by the hex of its digest; only ones whose signature is good are given. */
export type FindDescriptor = (digest: string) => NodeDescriptor | undefined;
