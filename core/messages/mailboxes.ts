/**
 * The mailboxes that a node keeps for recipients that it does not know. A mailbox is opened by whoever proves to hold the
 * key that its id is a hash of; packets to it are pushed to the owner while he is there, and held, bounded in number, bytes
 * and time, while he is away. What finds no room is refused and counted: what waits already is never driven out by what
 * comes, and the sender will try again. All of it is in memory: a node that restarts has forgotten it.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { nodeIdHex } from '../directory/descriptor.ts';
import type { Random, TimeMs, UnixSeconds } from '../ports.ts';
import { mailboxIdOf } from './address.ts';
import { openKeyBundle } from './key-bundle.ts';
import { decodeLanePayload, encodeKeysPart } from './lane.ts';
import { encodeRecord, type MailboxRecord, RefusedReason, verifyOpen } from './mailbox-records.ts';

export interface MailboxOptions {
  readonly maxMailboxes: number;
  /** Held in one mailbox. */
  readonly packetsPerMailbox: number;
  /** Held in all mailboxes together. */
  readonly memoryBytes: number;
  /** A packet is held for so long, and so is a mailbox that its owner does not open. */
  readonly holdSeconds: number;
}

/** Packets that an owner has been sent and has not taken yet. */
const WINDOW = 64;
const NONCE_BYTES = 32;
/** First bytes of the mailbox id that a reply id begins with. */
export const REPLY_TAG_BYTES = 8;

/** Why a packet was not taken. */
export const MailboxDrop = { malformed: 'malformed', unknown: 'unknown', full: 'full' } as const;
export type MailboxDrop = (typeof MailboxDrop)[keyof typeof MailboxDrop];

export interface MailboxCounters {
  accepted: number;
  delivered: number;
  /** Nobody came for them in time. */
  expired: number;
  fetches: number;
  /** Answers that clients had sent over reply blocks from here. */
  forwards: number;
  readonly dropped: Record<MailboxDrop, number>;
}

interface HeldPacket {
  readonly sequence: number;
  /** A record ready to be sent. */
  readonly record: Uint8Array;
  readonly atMs: TimeMs;
}

interface Mailbox {
  readonly id: Uint8Array;
  readonly name: string;
  readonly tag: string;
  bundle: Uint8Array | undefined;
  session: MailboxSession | undefined;
  readonly packets: HeldPacket[];
  /** Of `packets`, so many have been sent in the present session. */
  sent: number;
  lastSequence: number;
  /** Not taken since the owner was told last. */
  refused: number;
  seenMs: TimeMs;
}

export class Mailboxes {
  readonly #options: MailboxOptions;
  readonly #suite: CryptoSuite;
  readonly #mailboxes = new Map<string, Mailbox>();
  readonly #byTag = new Map<string, Mailbox>();
  readonly counters: MailboxCounters = {
    accepted: 0,
    delivered: 0,
    expired: 0,
    fetches: 0,
    forwards: 0,
    dropped: { malformed: 0, unknown: 0, full: 0 },
  };
  #heldBytes = 0;

  constructor(options: MailboxOptions, suite: CryptoSuite) {
    this.#options = options;
    this.#suite = suite;
  }

  get count(): number {
    return this.#mailboxes.size;
  }

  get heldPackets(): number {
    let count = 0;
    for (const { packets } of this.#mailboxes.values()) count += packets.length;
    return count;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** A Sphinx payload that ended here. `reply` sends something over a reply block. Borrows. */
  handlePayload(payload: Uint8Array, nowMs: TimeMs, reply: (block: Uint8Array, payload: Uint8Array) => void): void {
    const decoded = decodeLanePayload(payload);
    if (decoded === undefined) {
      this.counters.dropped.malformed++;
      return;
    }
    if (decoded.kind === 'forward') {
      this.counters.forwards++;
      reply(decoded.replyBlock, decoded.answer);
      return;
    }
    const mailbox = this.#mailboxes.get(nodeIdHex(decoded.mailboxId));
    if (decoded.kind === 'fetch') {
      this.counters.fetches++;
      reply(decoded.replyBlock, encodeKeysPart(mailbox?.bundle, decoded.part));
      return;
    }
    const { packet } = decoded;
    if (mailbox === undefined) this.counters.dropped.unknown++;
    else this.#hold(mailbox, (sequence) => ({ type: 'packet', sequence, packet }), nowMs);
  }

  /** A reply whose block was made for a mailbox here. Borrows. */
  handleReply(replyId: Uint8Array, reply: Uint8Array, nowMs: TimeMs): void {
    const mailbox = this.#byTag.get(nodeIdHex(replyId.subarray(0, REPLY_TAG_BYTES)));
    if (mailbox === undefined) this.counters.dropped.unknown++;
    else this.#hold(mailbox, (sequence) => ({ type: 'reply', sequence, replyId, reply }), nowMs);
  }

  /** Somebody asks for the service on a circuit. Begins with a challenge. */
  connect(link: SessionLink): MailboxSession {
    return new MailboxSession(this, link);
  }

  /** Erases what has been held for too long. Call it every second or so. */
  expire(nowMs: TimeMs): void {
    const beforeMs = nowMs - this.#options.holdSeconds * 1000;
    for (const mailbox of this.#mailboxes.values()) {
      if (mailbox.session === undefined && mailbox.seenMs < beforeMs) {
        this.#remove(mailbox);
        continue;
      }
      const { packets } = mailbox;
      let old = 0;
      while (old < packets.length && packets[old]!.atMs < beforeMs) old++;
      this.counters.expired += old;
      this.#forget(mailbox, old);
    }
  }

  /** By the session whose owner has proved himself. */
  open(session: MailboxSession, ownerKey: Uint8Array, nowMs: TimeMs): Mailbox | undefined {
    const id = mailboxIdOf(ownerKey, this.#suite);
    const name = nodeIdHex(id);
    let mailbox = this.#mailboxes.get(name);
    if (mailbox === undefined) {
      const tag = nodeIdHex(id.subarray(0, REPLY_TAG_BYTES));
      if (this.#mailboxes.size >= this.#options.maxMailboxes || this.#byTag.has(tag)) return undefined;
      mailbox = {
        id,
        name,
        tag,
        bundle: undefined,
        session: undefined,
        packets: [],
        sent: 0,
        lastSequence: 0,
        refused: 0,
        seenMs: nowMs,
      };
      this.#mailboxes.set(name, mailbox);
      this.#byTag.set(tag, mailbox);
    }
    mailbox.session?.end(RefusedReason.elsewhere, nowMs);
    mailbox.session = session;
    mailbox.sent = 0;
    mailbox.seenMs = nowMs;
    return mailbox;
  }

  /** Sends as much as the window allows. */
  push(mailbox: Mailbox): void {
    const { session, packets } = mailbox;
    if (session === undefined) return;
    while (mailbox.sent < packets.length && mailbox.sent < WINDOW) session.send(packets[mailbox.sent++]!.record);
  }

  take(mailbox: Mailbox, sequence: number): void {
    let count = 0;
    while (count < mailbox.sent && mailbox.packets[count]!.sequence <= sequence) count++;
    this.counters.delivered += count;
    this.#forget(mailbox, count);
    this.push(mailbox);
  }

  leave(mailbox: Mailbox, session: MailboxSession, nowMs: TimeMs): void {
    if (mailbox.session !== session) return;
    mailbox.session = undefined;
    mailbox.sent = 0;
    mailbox.seenMs = nowMs;
  }

  remove(mailbox: Mailbox): void {
    this.#remove(mailbox);
  }

  get holdSeconds(): number {
    return this.#options.holdSeconds;
  }

  #hold(mailbox: Mailbox, make: (sequence: number) => MailboxRecord, nowMs: TimeMs): void {
    const { packetsPerMailbox, memoryBytes } = this.#options;
    const record = encodeRecord(make(mailbox.lastSequence + 1));
    if (mailbox.packets.length >= packetsPerMailbox || this.#heldBytes + record.length > memoryBytes) {
      mailbox.refused++;
      this.counters.dropped.full++;
      return;
    }
    mailbox.lastSequence++;
    mailbox.packets.push({ sequence: mailbox.lastSequence, record, atMs: nowMs });
    this.#heldBytes += record.length;
    this.counters.accepted++;
    this.push(mailbox);
  }

  /** The first `count` packets. */
  #forget(mailbox: Mailbox, count: number): void {
    if (count === 0) return;
    for (const { record } of mailbox.packets.splice(0, count)) this.#heldBytes -= record.length;
    mailbox.sent = Math.max(0, mailbox.sent - count);
  }

  #remove(mailbox: Mailbox): void {
    this.counters.expired += mailbox.packets.length;
    this.#forget(mailbox, mailbox.packets.length);
    this.#mailboxes.delete(mailbox.name);
    this.#byTag.delete(mailbox.tag);
  }
}

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
        if (known) mailbox.bundle = new Uint8Array(record.bundle);
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
