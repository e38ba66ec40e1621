/**
 * Messages coming in: packets are opened with the mailbox's keys, put together, opened as a whole, and stored once; a
 * sender that asks is owed a status, which a later sending slot carries.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { nodeIdHex } from '../directory/descriptor.ts';
import type { TimeMs } from '../ports.ts';
import { answerKey, MessageState, sealStatus } from './answer-seal.ts';
import { decodeContent } from './content.ts';
import { encodeForward } from './lane.ts';
import { type MessengerJournal, noJournal } from './messenger-journal.ts';
import { coverId, decodeFragment, type Fragment } from './packet.ts';
import { Reassembly, type ReassemblyOptions } from './reassembly.ts';
import { openMessage, openPacket, type SealSecrets } from './seal.ts';

/** Message ids that are remembered, so that no message is stored twice. */
const MAX_FINISHED = 8192;
/** Statuses that are owed at once; a sender that gets none asks again. */
const MAX_OWED = 256;

export interface IncomingMessage {
  /** Hex of the mailbox's id. */
  readonly mailbox: string;
  /** Hex. */
  readonly id: string;
  readonly content: Uint8Array;
}

export interface ReceiverCounters {
  packets: number;
  cover: number;
  /** Packets that no key of the mailbox opens, or that say nothing known. */
  notOurs: number;
  /** Packets of messages that were there already, or that came twice. */
  repeated: number;
  stored: number;
  notOpened: number;
  noRoom: number;
}

export class Receiver {
  readonly #suite: CryptoSuite;
  readonly #store: (message: IncomingMessage) => boolean;
  readonly #journal: MessengerJournal;
  readonly #reassembly: Reassembly;
  /** Newest first, by mailbox. */
  readonly #secrets = new Map<string, readonly SealSecrets[]>();
  /** What became of messages, oldest first. */
  readonly #finished = new Map<string, MessageState>();
  /** The newest reply block of each message whose sender asks. */
  readonly #owed = new Map<string, { readonly messageId: Uint8Array; readonly block: Uint8Array }>();
  /** Cover has come; hex of its id. */
  onCover: (id: string, nowMs: TimeMs) => void = () => {};
  readonly counters: ReceiverCounters = {
    packets: 0,
    cover: 0,
    notOurs: 0,
    repeated: 0,
    stored: 0,
    notOpened: 0,
    noRoom: 0,
  };

  /** `store` keeps a message for the application, for good; false: there is no room. */
  constructor(
    suite: CryptoSuite,
    reassembly: ReassemblyOptions,
    store: (message: IncomingMessage) => boolean,
    journal: MessengerJournal = noJournal,
  ) {
    this.#suite = suite;
    this.#journal = journal;
    this.#reassembly = new Reassembly(reassembly);
    this.#store = store;
  }

  /** Statuses that senders wait for. */
  get owed(): number {
    return this.#owed.size;
  }

  get heldBytes(): number {
    return this.#reassembly.bytes;
  }

  get givenUp(): number {
    return this.#reassembly.givenUp;
  }

  /** The keys that a mailbox's packets may be sealed to, newest first; none: it is no more. */
  setSecrets(mailbox: string, secrets: readonly SealSecrets[]): void {
    if (secrets.length === 0) this.#secrets.delete(mailbox);
    else this.#secrets.set(mailbox, secrets);
  }

  /** This message (mailbox ‖ `:` ‖ id) was here before the restart: what comes of it is a repetition. Oldest first. */
  restore(name: string, state: MessageState): void {
    this.#finished.delete(name);
    this.#finished.set(name, state);
    this.#limit();
  }

  /** A sealed packet from a mailbox. Borrows. */
  handlePacket(mailbox: string, packet: Uint8Array, nowMs: TimeMs): void {
    this.counters.packets++;
    const inner = this.#open(mailbox, packet);
    const fragment = inner && decodeFragment(inner);
    if (inner === undefined || fragment === undefined) {
      this.counters.notOurs++;
    } else if (fragment === 'cover') {
      this.counters.cover++;
      this.onCover(nodeIdHex(coverId(inner)), nowMs);
    } else {
      this.#handleFragment(mailbox, fragment, nowMs);
    }
  }

  /** The oldest status that is owed, as a payload for any mailbox node; undefined: none is. */
  takeStatus(): Uint8Array | undefined {
    for (const [name, { messageId, block }] of this.#owed) {
      this.#owed.delete(name);
      const state = this.#finished.get(name) ?? MessageState.incomplete;
      // It is told once; then the message may come anew.
      if (state === MessageState.noRoom) this.#finished.delete(name);
      const key = answerKey(this.#suite, 'message status', messageId, block);
      const status = { state, has: (index: number) => this.#reassembly.has(name, index) };
      return encodeForward(block, sealStatus(this.#suite, key, status));
    }
    return undefined;
  }

  expire(nowMs: TimeMs): void {
    this.#reassembly.expire(nowMs);
  }

  #open(mailbox: string, packet: Uint8Array): Uint8Array | undefined {
    for (const secrets of this.#secrets.get(mailbox) ?? []) {
      const inner = openPacket(this.#suite, secrets, packet);
      if (inner !== undefined) return inner;
    }
    return undefined;
  }

  #handleFragment(mailbox: string, fragment: Fragment, nowMs: TimeMs): void {
    const { messageId, index, count, replyBlock } = fragment;
    const id = nodeIdHex(messageId);
    const name = `${mailbox}:${id}`;
    if (this.#finished.has(name) || this.#reassembly.has(name, index)) {
      this.counters.repeated++;
    } else if (index < count) {
      const blob = this.#reassembly.add(name, fragment, nowMs);
      if (blob !== undefined) this.#complete(mailbox, id, messageId, blob);
    }
    if (replyBlock === undefined) return;
    this.#owed.delete(name);
    if (this.#owed.size < MAX_OWED) this.#owed.set(name, { messageId, block: replyBlock });
  }

  #complete(mailbox: string, id: string, messageId: Uint8Array, blob: Uint8Array): void {
    const name = `${mailbox}:${id}`;
    const content = this.#openBlob(mailbox, messageId, blob);
    if (content === undefined) {
      this.counters.notOpened++;
      this.#finish(name, MessageState.notOpened);
    } else if (this.#store({ mailbox, id, content })) {
      this.counters.stored++;
      this.#finish(name, MessageState.stored);
    } else {
      this.counters.noRoom++;
      this.#finish(name, MessageState.noRoom);
    }
  }

  #openBlob(mailbox: string, messageId: Uint8Array, blob: Uint8Array): Uint8Array | undefined {
    for (const secrets of this.#secrets.get(mailbox) ?? []) {
      const plaintext = openMessage(this.#suite, secrets, messageId, blob);
      if (plaintext !== undefined) return decodeContent(plaintext);
    }
    return undefined;
  }

  #finish(name: string, state: MessageState): void {
    this.#finished.set(name, state);
    // For want of room it will come again.
    if (state !== MessageState.noRoom) this.#journal.keep({ kind: 'finished', name, state });
    this.#limit();
  }

  #limit(): void {
    if (this.#finished.size <= MAX_FINISHED) return;
    const oldest = this.#finished.keys().next().value!;
    this.#finished.delete(oldest);
    this.#journal.forget('finished', oldest);
  }
}
