/** The link messages that set circuits up and take them down (docs/protocol.md §2.3). */
import type { Link } from '../link/link.ts';
import { TRAIN_BYTES } from '../onion/setup-train.ts';
import { CID_BYTES } from '../wire/datagram.ts';
import { Cid } from './cid-table.ts';
import { CircuitEnd } from './contract.ts';

export const LinkMessage = { setup: 1, destroy: 2, setupRefused: 3 } as const;

const SOLUTION_BYTES = 8;
const CHALLENGE_BYTES = 16;
const NODE_ID_BYTES = 32;
const SETUP_BYTES = 2 * CID_BYTES + SOLUTION_BYTES + TRAIN_BYTES;
const DESTROY_BYTES = CID_BYTES + 2;
const REFUSED_BYTES = CID_BYTES + 1 + NODE_ID_BYTES + 1 + CHALLENGE_BYTES;
const LAST_REASON = Math.max(...Object.values(CircuitEnd));

export interface SetupMessage {
  readonly forwardCid: Cid;
  readonly backwardCid: Cid;
  /** Borrowed views of the message. */
  readonly puzzleSolution: Uint8Array;
  readonly train: Uint8Array;
}

/** False when the link's control channel is full. */
export function sendSetup(link: Link, forward: Cid, backward: Cid, solution: Uint8Array, train: Uint8Array): boolean {
  const body = new Uint8Array(SETUP_BYTES);
  forward.write(body, 0);
  backward.write(body, CID_BYTES);
  body.set(solution, 2 * CID_BYTES);
  body.set(train, 2 * CID_BYTES + SOLUTION_BYTES);
  return link.send(LinkMessage.setup, body);
}

export function decodeSetup(body: Uint8Array): SetupMessage | undefined {
  if (body.length !== SETUP_BYTES) return undefined;
  return {
    forwardCid: Cid.read(body, 0),
    backwardCid: Cid.read(body, CID_BYTES),
    puzzleSolution: body.subarray(2 * CID_BYTES, 2 * CID_BYTES + SOLUTION_BYTES),
    train: body.subarray(2 * CID_BYTES + SOLUTION_BYTES),
  };
}

/** @param direction 0 travels forward (towards the exit), 1 backward (towards the client). */
export function sendDestroy(link: Link, cid: Cid, direction: 0 | 1, reason: CircuitEnd): void {
  const body = new Uint8Array(DESTROY_BYTES);
  cid.write(body, 0);
  body[CID_BYTES] = direction;
  body[CID_BYTES + 1] = reason;
  // A full control channel means a peer that does not read; it finds out by the circuit's expiry.
  link.send(LinkMessage.destroy, body);
}

export function decodeDestroy(body: Uint8Array): { cid: Cid; direction: 0 | 1; reason: CircuitEnd } | undefined {
  if (body.length !== DESTROY_BYTES || body[CID_BYTES]! > 1) return undefined;
  return { cid: Cid.read(body, 0), direction: body[CID_BYTES] as 0 | 1, reason: knownReason(body[CID_BYTES + 1]!) };
}

export function sendRefused(
  link: Link,
  backwardCid: Cid,
  reason: CircuitEnd,
  refuser: Uint8Array,
  difficulty: number,
  challenge: Uint8Array | undefined,
): void {
  const body = new Uint8Array(REFUSED_BYTES);
  backwardCid.write(body, 0);
  body[CID_BYTES] = reason;
  body.set(refuser, CID_BYTES + 1);
  body[CID_BYTES + 1 + NODE_ID_BYTES] = difficulty;
  if (challenge !== undefined) body.set(challenge, CID_BYTES + 2 + NODE_ID_BYTES);
  link.send(LinkMessage.setupRefused, body);
}

export interface RefusedMessage {
  readonly backwardCid: Cid;
  readonly reason: CircuitEnd;
  readonly refuser: Uint8Array;
  readonly difficulty: number;
  readonly challenge: Uint8Array;
}

export function decodeRefused(body: Uint8Array): RefusedMessage | undefined {
  if (body.length !== REFUSED_BYTES) return undefined;
  return {
    backwardCid: Cid.read(body, 0),
    reason: knownReason(body[CID_BYTES]!),
    refuser: body.slice(CID_BYTES + 1, CID_BYTES + 1 + NODE_ID_BYTES),
    difficulty: body[CID_BYTES + 1 + NODE_ID_BYTES]!,
    challenge: body.slice(CID_BYTES + 2 + NODE_ID_BYTES),
  };
}

function knownReason(value: number): CircuitEnd {
  return value <= LAST_REASON ? (value as CircuitEnd) : CircuitEnd.protocol;
}
