/** One visit of a mailbox's owner at its node: who he is, and what he says of keys and packets (docs/protocol.md §10.4). */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { Random, TimeMs, UnixSeconds } from '../ports.ts';
import { openKeyBundle } from './key-bundle.ts';
import { encodeRecord, type MailboxRecord, RefusedReason, verifyOpen } from './mailbox-records.ts';
import type { Mailbox, Mailboxes } from './mailboxes.ts';

const NONCE_BYTES = 32;

/** The stream that a session runs on. */
export interface SessionLink {
  /** NodeID of this node. */
  readonly nodeId: Uint8Array;
  readonly suite: CryptoSuite;
  readonly random: Random;
  send(record: Uint8Array): void;
  /** No more records; what was sent still arrives. */
  close(): void;
  unixSeconds(): UnixSeconds;
}

/** One owner's visit. */
export class MailboxSession {
  readonly #mailboxes: Mailboxes;
  readonly #link: SessionLink;
  readonly #nonce = new Uint8Array(NONCE_BYTES);
  #mailbox: Mailbox | undefined = undefined;
  #over = false;

  constructor(mailboxes: Mailboxes, link: SessionLink) {
    this.#mailboxes = mailboxes;
    this.#link = link;
    link.random.fill(this.#nonce);
    link.send(encodeRecord({ type: 'challenge', nonce: this.#nonce }));
  }

  /** Its owner has proved himself. */
  get isOpen(): boolean {
    return this.#mailbox !== undefined;
  }

  send(record: Uint8Array): void {
    if (!this.#over) this.#link.send(record);
  }

  /** Borrows. */
  handle(record: MailboxRecord, nowMs: TimeMs): void {
    if (this.#over) return;
    const mailbox = this.#mailbox;
    if (mailbox === undefined) {
      if (record.type === 'open') this.#open(record.ownerKey, record.signature, nowMs);
      else this.end(RefusedReason.record, nowMs);
      return;
    }
    switch (record.type) {
      case 'keys': {
        const { suite } = this.#link;
        const known = openKeyBundle(record.bundle, mailbox.id, this.#link.unixSeconds(), suite) !== undefined;
        if (known) this.#mailboxes.setBundle(mailbox, new Uint8Array(record.bundle));
        else this.end(RefusedReason.keys, nowMs);
        break;
      }
      case 'taken':
        this.#mailboxes.take(mailbox, record.sequence);
        break;
      case 'remove':
        this.#mailbox = undefined;
        this.#mailboxes.remove(mailbox);
        this.#over = true;
        this.#link.close();
        break;
      default:
        this.end(RefusedReason.record, nowMs);
    }
  }

  /** What came was no record. */
  handleJunk(nowMs: TimeMs): void {
    this.end(RefusedReason.record, nowMs);
  }

  /** The stream is gone. */
  gone(nowMs: TimeMs): void {
    this.#over = true;
    if (this.#mailbox !== undefined) this.#mailboxes.leave(this.#mailbox, this, nowMs);
    this.#mailbox = undefined;
  }

  end(reason: RefusedReason, nowMs: TimeMs): void {
    if (this.#over) return;
    this.#link.send(encodeRecord({ type: 'refused', reason }));
    this.#link.close();
    this.gone(nowMs);
  }

  #open(ownerKey: Uint8Array, signature: Uint8Array, nowMs: TimeMs): void {
    const { suite, nodeId } = this.#link;
    if (!verifyOpen(suite, ownerKey, nodeId, this.#nonce, signature)) {
      this.end(RefusedReason.proof, nowMs);
      return;
    }
    const mailbox = this.#mailboxes.open(this, ownerKey, nowMs);
    if (mailbox === undefined) {
      this.end(RefusedReason.room, nowMs);
      return;
    }
    this.#mailbox = mailbox;
    const { holdSeconds } = this.#mailboxes;
    const { packets, refused } = mailbox;
    mailbox.refused = 0;
    this.send(encodeRecord({ type: 'opened', waiting: packets.length, refused, holdSeconds }));
    this.#mailboxes.push(mailbox);
  }
}
