/**
 * Whether the peer really is where its datagrams now seem to come from (docs/protocol.md §2.5). Whoever copies a
 * datagram can send it from anywhere, so a link moves only when the peer has repeated there what was sent there; until
 * then all else goes to the old address, and to the new one no more than three times what came from it.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { Via } from '../engine/contract.ts';
import type { PeerAddress, Random, TimeMs } from '../ports.ts';
import { DATAGRAM_BYTES } from '../wire/datagram.ts';

export const TOKEN_BYTES = 8;
/** Sent to an address that is not validated, as a multiple of what came from there (RFC 9000 §8.2). */
const AMPLIFICATION = 3;
const VALIDATION_MS = 3000;
const MIN_GAP_MS = 50;
/**
 * One address is looked into for at least so long before the next one, unless the next one comes under a link id that was kept for a
 * move: who knows that it moves may have been seen moving a little before.
 */
const LEAST_MS = 100;

interface Candidate {
  readonly address: PeerAddress;
  readonly via: Via;
  readonly token: Uint8Array;
  /** The peer itself uses a new link id: so do we. */
  readonly fresh: boolean;
  readonly sinceMs: TimeMs;
  /** Before that no other address takes its place. */
  untilMs: TimeMs;
  receivedBytes: number;
  sentBytes: number;
  dueMs: TimeMs;
}

export function sameAddress(a: PeerAddress, b: PeerAddress): boolean {
  return a === b || (a.port === b.port && a.address === b.address);
}

export class AddressValidation {
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  #candidate: Candidate | undefined;

  constructor(suite: CryptoSuite, random: Random) {
    this.#suite = suite;
    this.#random = random;
  }

  /** An authentic datagram that is no repetition came from `from`, which is not where the link leads. */
  note(from: PeerAddress, via: Via, fresh: boolean, nowMs: TimeMs): void {
    const present = this.#candidate;
    if (present !== undefined && sameAddress(present.address, from) && present.fresh === fresh) {
      present.receivedBytes += DATAGRAM_BYTES;
      return;
    }
    const knows = fresh && present?.fresh === false;
    if (present !== undefined && !knows && nowMs < present.untilMs) return;
    const token = new Uint8Array(TOKEN_BYTES);
    this.#random.fill(token);
    this.#candidate = {
      address: { address: from.address, port: from.port },
      via,
      token,
      fresh,
      sinceMs: nowMs,
      untilMs: nowMs + LEAST_MS,
      receivedBytes: DATAGRAM_BYTES,
      sentBytes: 0,
      dueMs: nowMs,
    };
  }

  /** The challenge to send now, and where to; undefined = none. `gapMs`: when the next one may follow. */
  poll(nowMs: TimeMs, gapMs: number): Candidate | undefined {
    const candidate = this.#candidate;
    if (candidate === undefined || nowMs < candidate.dueMs || !mayGet(candidate)) return undefined;
    if (nowMs >= candidate.sinceMs + VALIDATION_MS) return undefined;
    candidate.sentBytes += DATAGRAM_BYTES;
    candidate.dueMs = nowMs + Math.max(MIN_GAP_MS, gapMs);
    return candidate;
  }

  /** The peer has repeated a token, from `from`. Gives where it is, once that is proved. */
  answered(token: Uint8Array, from: PeerAddress): Candidate | undefined {
    const candidate = this.#candidate;
    if (candidate === undefined || !this.#suite.equal(token, candidate.token)) return undefined;
    if (!sameAddress(candidate.address, from)) {
      // It was asked there and has moved on meanwhile: that proves nothing, but where it is now need not wait.
      candidate.untilMs = Number.NEGATIVE_INFINITY;
      return undefined;
    }
    this.#candidate = undefined;
    return candidate;
  }

  /** It is where it was: nothing is open any more. */
  clear(): void {
    this.#candidate = undefined;
  }

  /** When poll has something, or the candidate is to be forgotten by expire. */
  nextTimeoutMs(): TimeMs {
    const candidate = this.#candidate;
    if (candidate === undefined) return Number.POSITIVE_INFINITY;
    const endMs = candidate.sinceMs + VALIDATION_MS;
    return mayGet(candidate) ? Math.min(candidate.dueMs, endMs) : endMs;
  }

  expire(nowMs: TimeMs): void {
    if (this.#candidate !== undefined && nowMs >= this.#candidate.sinceMs + VALIDATION_MS) this.#candidate = undefined;
  }
}

function mayGet({ sentBytes, receivedBytes }: Candidate): boolean {
  return sentBytes + DATAGRAM_BYTES <= AMPLIFICATION * receivedBytes;
}
