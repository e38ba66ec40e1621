/**
 * The reply blocks that are out: what opens each one's reply, and what it was made for. Each is good for one reply and for
 * as long as the hops hold the keys that it was made with; then its secret is wiped.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { nodeIdHex } from '../directory/descriptor.ts';
import type { Random, UnixSeconds } from '../ports.ts';
import { openReply, REPLY_ID_BYTES, type ReplyKeys } from '../sphinx/reply-block.ts';
import { REPLY_TAG_BYTES } from './mailboxes.ts';

/** What an answer belongs to. */
export type ReplyPurpose =
  | { readonly kind: 'status'; readonly message: string }
  | { readonly kind: 'keys'; readonly mailbox: string }
  | { readonly kind: 'answer'; readonly token: string };

export interface Outstanding {
  readonly keys: ReplyKeys;
  readonly purpose: ReplyPurpose;
  /** Of the answer that it carries; undefined: that is not sealed. */
  readonly answerKey: Uint8Array | undefined;
  readonly expires: UnixSeconds;
}

export interface OpenedReply {
  readonly purpose: ReplyPurpose;
  /** The caller wipes it. */
  readonly answerKey: Uint8Array | undefined;
  readonly payload: Uint8Array;
}

export class ReplyRegistry {
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  readonly #max: number;
  readonly #outstanding = new Map<string, Outstanding>();

  constructor(suite: CryptoSuite, random: Random, max: number) {
    this.#suite = suite;
    this.#random = random;
    this.#max = max;
  }

  get size(): number {
    return this.#outstanding.size;
  }

  /** Whether `count` more may be out. */
  hasRoomFor(count: number): boolean {
    return this.#outstanding.size + count <= this.#max;
  }

  /** An id for a block whose reply comes to this mailbox: its node finds the mailbox by the first bytes. */
  newId(mailboxId: Uint8Array): Uint8Array {
    const id = new Uint8Array(REPLY_ID_BYTES);
    this.#random.fill(id);
    id.set(mailboxId.subarray(0, REPLY_TAG_BYTES));
    return id;
  }

  add(replyId: Uint8Array, outstanding: Outstanding): void {
    this.#outstanding.set(nodeIdHex(replyId), outstanding);
  }

  /** Opens a reply and forgets its block. Undefined: no block of ours (any more), or changed on the way. Borrows. */
  open(replyId: Uint8Array, reply: Uint8Array): OpenedReply | undefined {
    const name = nodeIdHex(replyId);
    const outstanding = this.#outstanding.get(name);
    if (outstanding === undefined) return undefined;
    const payload = openReply(this.#suite, outstanding.keys, reply);
    if (payload === undefined) return undefined;
    this.#suite.wipe(outstanding.keys.bytes);
    this.#outstanding.delete(name);
    return { purpose: outstanding.purpose, answerKey: outstanding.answerKey, payload };
  }

  /** Wipes those whose time is over, and those that `isOver` says are of no more use. */
  expire(now: UnixSeconds, isOver: (purpose: ReplyPurpose) => boolean): void {
    for (const [name, outstanding] of this.#outstanding) {
      if (now >= outstanding.expires || isOver(outstanding.purpose)) this.#forget(name, outstanding);
    }
  }

  wipe(): void {
    for (const [name, outstanding] of this.#outstanding) this.#forget(name, outstanding);
  }

  #forget(name: string, { keys, answerKey }: Outstanding): void {
    this.#suite.wipe(keys.bytes);
    if (answerKey !== undefined) this.#suite.wipe(answerKey);
    this.#outstanding.delete(name);
  }
}
