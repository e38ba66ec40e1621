/**
 * The mailboxes that a node keeps for recipients that it does not know. A mailbox is opened by whoever proves to hold the
 * key that its id is a hash of; packets to it are pushed to the owner while he is there, and held, bounded in number, bytes
 * and time, while he is away. What finds no room is refused and counted: what waits already is never driven out by what
 * comes, and the sender will try again. All of it is in memory; a journal keeps it over a restart.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { nodeIdHex } from '../directory/descriptor.ts';
import type { TimeMs } from '../ports.ts';
import { MAILBOX_ID_BYTES, mailboxIdOf } from './address.ts';
import { decodeLanePayload, encodeKeysPart } from './lane.ts';
import { encodeRecord, type MailboxRecord, RefusedReason } from './mailbox-records.ts';
import { MailboxSession, type SessionLink } from './mailbox-session.ts';

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

export interface HeldPacket {
  readonly sequence: number;
  /** A record ready to be sent. */
  readonly record: Uint8Array;
  readonly atMs: TimeMs;
}

/** What of a mailbox outlives a restart. */
export interface KeptMailbox {
  readonly id: Uint8Array;
  /** Hex of the id. */
  readonly name: string;
  readonly bundle: Uint8Array | undefined;
  /** Not taken since the owner was told last. */
  readonly refused: number;
  /** When its owner was there last. */
  readonly seenMs: TimeMs;
}

/** Keeps mailboxes over a restart. What it is told may be written later; what was not yet is lost with a crash, no more. */
export interface MailboxJournal {
  /** The mailbox is new, or is not what it was. */
  keepMailbox(mailbox: KeptMailbox): void;
  keepPacket(mailbox: string, packet: HeldPacket): void;
  forgetPacket(mailbox: string, sequence: number): void;
  /** Its packets have been forgotten before. */
  forgetMailbox(mailbox: string): void;
}

const noJournal: MailboxJournal = {
  keepMailbox: () => {},
  keepPacket: () => {},
  forgetPacket: () => {},
  forgetMailbox: () => {},
};

export interface Mailbox extends KeptMailbox {
  readonly tag: string;
  bundle: Uint8Array | undefined;
  session: MailboxSession | undefined;
  readonly packets: HeldPacket[];
  /** Of `packets`, so many have been sent in the present session. */
  sent: number;
  lastSequence: number;
  refused: number;
  seenMs: TimeMs;
}

export class Mailboxes {
  #options: MailboxOptions;
  readonly #suite: CryptoSuite;
  readonly #journal: MailboxJournal;
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

  /** Without a journal a restart forgets everything. */
  constructor(options: MailboxOptions, suite: CryptoSuite, journal: MailboxJournal = noJournal) {
    this.#options = options;
    this.#suite = suite;
    this.#journal = journal;
  }

  /** A mailbox with its packets as the journal has kept them, oldest first (taken). False: it was held for too long, or there is no room. */
  restore(kept: KeptMailbox, packets: readonly HeldPacket[], nowMs: TimeMs): boolean {
    const { maxMailboxes, packetsPerMailbox, memoryBytes, holdSeconds } = this.#options;
    const { id, name, bundle, refused, seenMs } = kept;
    const tag = nodeIdHex(id.subarray(0, REPLY_TAG_BYTES));
    const beforeMs = nowMs - holdSeconds * 1000;
    if (id.length !== MAILBOX_ID_BYTES || this.#mailboxes.size >= maxMailboxes || this.#byTag.has(tag)) return false;
    if (seenMs < beforeMs) return false;
    const mailbox = { ...newMailbox(id, name, tag, seenMs), bundle, refused };
    for (const packet of packets) {
      const fits = mailbox.packets.length < packetsPerMailbox && this.#heldBytes + packet.record.length <= memoryBytes;
      if (!fits || packet.atMs < beforeMs || packet.sequence <= mailbox.lastSequence) {
        this.#journal.forgetPacket(name, packet.sequence);
        this.counters.expired++;
        continue;
      }
      mailbox.lastSequence = packet.sequence;
      mailbox.packets.push(packet);
      this.#heldBytes += packet.record.length;
    }
    this.#mailboxes.set(name, mailbox);
    this.#byTag.set(tag, mailbox);
    return true;
  }

  /** For mailboxes and packets to come; those that are held beyond a lower limit stay their time. */
  retune(options: MailboxOptions): void {
    this.#options = options;
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
      mailbox = newMailbox(id, name, tag, nowMs);
      this.#mailboxes.set(name, mailbox);
      this.#byTag.set(tag, mailbox);
    }
    mailbox.session?.end(RefusedReason.elsewhere, nowMs);
    mailbox.session = session;
    mailbox.sent = 0;
    mailbox.seenMs = nowMs;
    this.#journal.keepMailbox(mailbox);
    return mailbox;
  }

  /** Keys that the owner has proved, for whoever asks. Taken. */
  setBundle(mailbox: Mailbox, bundle: Uint8Array): void {
    mailbox.bundle = bundle;
    this.#journal.keepMailbox(mailbox);
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
    this.#journal.keepMailbox(mailbox);
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
    const held = { sequence: mailbox.lastSequence, record, atMs: nowMs };
    mailbox.packets.push(held);
    this.#journal.keepPacket(mailbox.name, held);
    this.#heldBytes += record.length;
    this.counters.accepted++;
    this.push(mailbox);
  }

  /** The first `count` packets. */
  #forget(mailbox: Mailbox, count: number): void {
    if (count === 0) return;
    for (const { sequence, record } of mailbox.packets.splice(0, count)) {
      this.#heldBytes -= record.length;
      this.#journal.forgetPacket(mailbox.name, sequence);
    }
    mailbox.sent = Math.max(0, mailbox.sent - count);
  }

  #remove(mailbox: Mailbox): void {
    this.counters.expired += mailbox.packets.length;
    this.#forget(mailbox, mailbox.packets.length);
    this.#mailboxes.delete(mailbox.name);
    this.#byTag.delete(mailbox.tag);
    this.#journal.forgetMailbox(mailbox.name);
  }
}

function newMailbox(id: Uint8Array, name: string, tag: string, seenMs: TimeMs): Mailbox {
  return {
    id,
    name,
    tag,
    bundle: undefined,
    session: undefined,
    packets: [],
    sent: 0,
    lastSequence: 0,
    refused: 0,
    seenMs,
  };
}
