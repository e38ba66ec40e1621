/**
 * A client's side of the message lane: everything that it sends leaves in the slots of one Poisson process, whatever it is:
 * fragments of messages and repetitions, requests for recipients' keys, statuses to senders, anonymous replies, cover. What
 * comes in has no part in when the next slot is (docs/adr/0028-messages.md).
 *
 * Pure: the host makes Sphinx packets of payloads and chooses their paths; time is an argument.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { joinBytes } from '../directory/bytes.ts';
import { nodeIdHex } from '../directory/descriptor.ts';
import { PoissonProcess } from '../mix/cover.ts';
import { Exponential } from '../mix/exponential.ts';
import type { LoopStats, LoopVerdict } from '../mix/loop-monitor.ts';
import type { Random, TimeMs, UnixSeconds } from '../ports.ts';
import type { ReplyKeys } from '../sphinx/reply-block.ts';
import type { MessageAddress } from './address.ts';
import {
  ANSWER_BYTES,
  type AnswerPart,
  answerKey,
  MAX_ANSWER_PACKETS,
  openAnswer,
  openStatus,
  sealAnswer,
} from './answer-seal.ts';
import { encodeContent, MAX_MESSAGE_BYTES } from './content.ts';
import type { SealKeys } from './key-bundle.ts';
import { KeyFetches } from './key-fetches.ts';
import {
  decodeKeysPart,
  encodeDeliver,
  encodeFetch,
  encodeForward,
  forwardFirstHop,
  MESSAGE_ID_BYTES,
  SEALED_PACKET_BYTES,
} from './lane.ts';
import { LaneLoops } from './lane-loops.ts';
import { MessageError, MessageErrorCode } from './message-error.ts';
import { type KeptEntry, type MessengerJournal, noJournal } from './messenger-journal.ts';
import { Outbox, type OutboxEvent, type OutboxOptions, type OutgoingPacket } from './outbox.ts';
import { encodeCover, encodeFragment } from './packet.ts';
import type { ReassemblyOptions } from './reassembly.ts';
import { type IncomingMessage, Receiver } from './receiver.ts';
import { type OpenedReply, type ReplyPurpose, ReplyRegistry } from './reply-registry.ts';
import { type ReplyToken, replyTokenName } from './reply-token.ts';
import { sealMessage, sealPacket } from './seal.ts';

export interface MessengerOptions {
  /** Sending slots a second, on average. */
  readonly packetsPerSecond: number;
  /**
   * What empty slots carry. `off`: nothing. `active`: cover, from a message's submission to its deadline whatever becomes of
   * it. `always`: cover.
   */
  readonly cover: 'off' | 'active' | 'always';
  /** How long a packet to ourselves takes on average: the delays of its hops and of our circuit to the mailbox. */
  readonly loopMs: number;
  readonly outbox: OutboxOptions;
  readonly reassembly: ReassemblyOptions;
  /** Reply blocks out at once, those of applications and the messenger's own. */
  readonly maxReplyBlocks: number;
}

export interface MessengerHost {
  /** Sends a payload (784 bytes) to a mailbox node. False: there is no way now. */
  sendPayload(nodeId: Uint8Array, payload: Uint8Array): boolean;
  /** NodeID of any mailbox node but `not`, drawn anew each time. Undefined: there is none. */
  anyMailboxNode(not: Uint8Array | undefined): Uint8Array | undefined;
  /** Cover that ends at this node. False: there is no way now. */
  sendDrop(nodeId: Uint8Array): boolean;
  /** Where replies to us go: a mailbox of ours that is open. Undefined: none is. */
  replyMailbox(): (MessageAddress & Pick<SealKeys, 'x25519'>) | undefined;
  /** A reply block that ends at this node, and that `usedBy` can send over. Undefined: there is no path now. */
  makeReplyBlock(
    nodeId: Uint8Array,
    replyId: Uint8Array,
    usedBy: Uint8Array | undefined,
  ): { readonly block: Uint8Array; readonly keys: ReplyKeys; readonly expires: UnixSeconds } | undefined;
  /** Keeps a message for the application, for good. False: there is no room. */
  store(message: IncomingMessage): boolean;
  /** An anonymous reply is complete. False: there is no room. */
  storeAnswer(token: string, content: Uint8Array): boolean;
  /** What becomes of messages that were sent. */
  onMessage(event: OutboxEvent): void;
  /** A loop of ours came back, or did not. */
  onLoop(verdict: LoopVerdict, stats: LoopStats): void;
  /** When anything was heard of the network last, as far as is known. */
  heardMs(): TimeMs;
  /** Without one a restart forgets everything. */
  readonly journal?: MessengerJournal;
  unixSeconds(): UnixSeconds;
}

/** How long after it owed a status a recipient goes on with cover in mode `active`. */
const ANSWER_ACTIVE_MS = 30_000;
const MAX_QUEUED_ANSWER_PACKETS = 256;
const MAX_USED_TOKENS = 4096;
const HOUSEKEEPING_MS = 1000;

/** Whom a message goes to. */
interface Recipient {
  readonly nodeId: Uint8Array;
  readonly keys: Pick<SealKeys, 'mailboxId' | 'x25519'>;
}

interface Waiting {
  readonly name: string;
  readonly content: Uint8Array;
  readonly deadlineMs: TimeMs;
}

/** A token of ours that is out. */
interface Token {
  readonly expires: UnixSeconds;
  readonly blocks: number;
  parts: (Uint8Array | undefined)[] | undefined;
}

interface QueuedAnswer {
  readonly name: string;
  readonly index: number;
  readonly payload: Uint8Array;
  readonly last: boolean;
}

export class Messenger {
  #options: MessengerOptions;
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  readonly #host: MessengerHost;
  readonly #journal: MessengerJournal;
  readonly #slots: PoissonProcess;
  readonly #outbox: Outbox;
  readonly receiver: Receiver;
  readonly loops: LaneLoops;
  readonly #replies: ReplyRegistry;
  readonly #fetches: KeyFetches;
  /** Messages whose recipient's keys are being fetched, by mailbox. */
  readonly #waiting = new Map<string, Waiting[]>();
  /** Messages in the outbox: whom they go to. */
  readonly #recipients = new Map<string, Recipient>();
  readonly #answers: QueuedAnswer[] = [];
  readonly #tokens = new Map<string, Token>();
  /** Tokens that were used here, until they expire. */
  readonly #used = new Map<string, UnixSeconds>();
  #activeUntilMs: TimeMs = Number.NEGATIVE_INFINITY;
  #turn = 0;
  #housekeepingMs: TimeMs = 0;
  #stopped = false;
  readonly counters = { slots: 0, realPackets: 0, coverPackets: 0, postponed: 0, repliesNotOurs: 0 };

  constructor(
    options: MessengerOptions,
    deps: { readonly suite: CryptoSuite; readonly random: Random; readonly host: MessengerHost },
  ) {
    this.#options = options;
    this.#suite = deps.suite;
    this.#random = deps.random;
    this.#host = deps.host;
    this.#journal = deps.host.journal ?? noJournal;
    this.#slots = new PoissonProcess(new Exponential(deps.random));
    this.#outbox = new Outbox(options.outbox, (event) => this.#onOutbox(event));
    const store = (message: IncomingMessage) => deps.host.store(message);
    this.receiver = new Receiver(deps.suite, options.reassembly, store, this.#journal);
    const onVerdict = (verdict: LoopVerdict, stats: LoopStats) => deps.host.onLoop(verdict, stats);
    this.loops = new LaneLoops({ meanMs: () => this.#options.loopMs, onVerdict });
    this.receiver.onCover = (id, nowMs) => this.loops.back(id, nowMs);
    this.#replies = new ReplyRegistry(deps.suite, deps.random, options.maxReplyBlocks);
    this.#fetches = new KeyFetches(deps.suite, options.outbox.askAgainMs);
  }

  /** Another pace of the slots, another use of empty ones and other delays, from now on. */
  retune(options: Pick<MessengerOptions, 'packetsPerSecond' | 'cover' | 'loopMs'>, nowMs: TimeMs): void {
    this.#options = { ...this.#options, ...options };
    this.#setPace(nowMs);
  }

  /** Messages on their way, and their bytes. */
  get outgoing(): { readonly messages: number; readonly bytes: number } {
    let messages = this.#outbox.size;
    let { bytes } = this.#outbox;
    for (const waiting of this.#waiting.values()) {
      messages += waiting.length;
      for (const { content } of waiting) bytes += content.length;
    }
    return { messages, bytes };
  }

  get replyBlocks(): number {
    return this.#replies.size;
  }

  /** Packets of a message that have left and that there are; undefined: it has not begun, or is over. */
  progress(name: string): { readonly sent: number; readonly total: number } | undefined {
    return this.#outbox.progress(name);
  }

  /**
   * Goes on where the journal says that it was before a restart (entries taken, messages that came oldest first). Deadlines
   * that are over are told as such with the first slot.
   */
  restore(entries: readonly KeptEntry[], nowMs: TimeMs): void {
    const namesOf = (wanted: KeptEntry['kind']) =>
      new Set(entries.flatMap(({ kind, name }) => (kind === wanted ? [name] : [])));
    const [sent, sealed] = [namesOf('sent'), namesOf('outgoing')];
    for (const entry of entries) {
      if (entry.kind === 'waiting' && sealed.has(entry.name)) continue;
      if (entry.kind === 'finished') this.receiver.restore(entry.name, entry.state);
      else if (entry.kind === 'used') this.#used.set(entry.name, entry.expires);
      else if (entry.kind === 'waiting') this.#restoreWaiting(entry, nowMs);
      else if (entry.kind === 'outgoing') this.#restoreOutgoing(entry, sent.has(entry.name), nowMs);
      else if (entry.kind === 'answer' && this.#answers.length < MAX_QUEUED_ANSWER_PACKETS) {
        const [name, index] = entry.name.split(':') as [string, string];
        this.#answers.push({ name, index: Number(index), payload: entry.payload, last: entry.last });
      }
    }
    this.#setPace(nowMs);
  }

  #restoreWaiting(entry: KeptEntry & { kind: 'waiting' }, nowMs: TimeMs): void {
    const { name, nodeId, mailboxId, deadlineMs, content } = entry;
    this.#wait(nodeIdHex(mailboxId), { nodeId, mailboxId }, { name, content, deadlineMs });
    this.#beActive(deadlineMs, nowMs);
  }

  #restoreOutgoing(entry: KeptEntry & { kind: 'outgoing' }, sentBefore: boolean, nowMs: TimeMs): void {
    const { name, nodeId, mailboxId, x25519, deadlineMs, blob } = entry;
    try {
      this.#outbox.submit({ name, blob, deadlineMs, sentBefore });
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
      this.#failed(name, error);
      return;
    }
    this.#recipients.set(name, { nodeId, keys: { mailboxId, x25519 } });
    this.#beActive(deadlineMs, nowMs);
  }

  /**
   * Sends `content` (0…65 536 bytes; taken) to an address, and gives the message's name (hex of its id). What becomes of it
   * comes with host.onMessage. Throws MessageError MESSAGE_TOO_LARGE or LIMIT.
   */
  send(address: MessageAddress, content: Uint8Array, timeoutMs: number, nowMs: TimeMs): string {
    if (content.length > MAX_MESSAGE_BYTES) {
      throw new MessageError(
        MessageErrorCode.tooLarge,
        `a message of ${content.length} bytes; at most ${MAX_MESSAGE_BYTES} are possible`,
      );
    }
    const { maxMessages, maxBytes } = this.#options.outbox;
    const { messages, bytes } = this.outgoing;
    if (messages >= maxMessages || bytes + content.length > maxBytes) {
      throw new MessageError(
        MessageErrorCode.limit,
        `${messages} messages of ${bytes} bytes are on their way; at most ${maxMessages} of ${maxBytes} may be`,
      );
    }
    const name = nodeIdHex(this.#fresh(MESSAGE_ID_BYTES));
    const message = { name, content, deadlineMs: nowMs + timeoutMs };
    const mailbox = nodeIdHex(address.mailboxId);
    const known = this.#fetches.known(mailbox, this.#host.unixSeconds());
    if (known !== undefined) {
      this.#submit(message, address.nodeId, known);
    } else {
      this.#wait(mailbox, address, message);
      this.#journal.keep({ kind: 'waiting', ...address, ...message });
    }
    this.#beActive(message.deadlineMs, nowMs);
    return name;
  }

  /** Gives a message up: CANCELLED. False: it was over. */
  cancel(name: string): boolean {
    for (const [mailbox, waiting] of this.#waiting) {
      const index = waiting.findIndex((message) => message.name === name);
      if (index < 0) continue;
      waiting.splice(index, 1);
      if (waiting.length === 0) this.#stopWaiting(mailbox);
      this.#failed(name, new MessageError(MessageErrorCode.cancelled, 'it was given up'));
      return true;
    }
    return this.#outbox.cancel(name);
  }

  /**
   * A token that is good for one anonymous reply of up to `packets` · ANSWER_BYTES bytes. Throws MessageError LIMIT;
   * undefined: no path or mailbox for it now.
   */
  createReplyToken(packets: number): ReplyToken | undefined {
    if (!Number.isInteger(packets) || packets < 1 || packets > MAX_ANSWER_PACKETS) {
      throw new MessageError(MessageErrorCode.limit, `a reply block is for 1…${MAX_ANSWER_PACKETS} packets`);
    }
    // Half of the room is for what the messenger itself needs.
    if (!this.#replies.hasRoomFor(packets + Math.floor(this.#options.maxReplyBlocks / 2))) {
      throw new MessageError(
        MessageErrorCode.limit,
        `${this.#replies.size} reply blocks are out already; they expire by themselves`,
      );
    }
    const key = this.#fresh(32);
    const token = { key, expires: Number.POSITIVE_INFINITY, blocks: [] as Uint8Array[] };
    const purpose = { kind: 'answer', token: replyTokenName(token, this.#suite) } as const;
    for (let i = 0; i < packets; i++) {
      const made = this.#makeReplyBlock(purpose, key);
      if (made === undefined) {
        this.#replies.expire(0, (other) => other === purpose);
        return undefined;
      }
      token.blocks.push(made.block);
      token.expires = Math.min(token.expires, made.expires);
    }
    this.#tokens.set(purpose.token, { expires: token.expires, blocks: packets, parts: undefined });
    return token;
  }

  /**
   * Sends an anonymous reply (taken) over a token; `sent` is all that can be known of it. Throws MessageError
   * REPLY_BLOCK_EXPIRED, REPLY_BLOCK_USED, MESSAGE_TOO_LARGE or LIMIT.
   */
  reply(token: ReplyToken, content: Uint8Array, nowMs: TimeMs): string {
    const now = this.#host.unixSeconds();
    const tokenName = replyTokenName(token, this.#suite);
    if (now >= token.expires) {
      throw new MessageError(
        MessageErrorCode.replyBlockExpired,
        `the reply block expired ${Math.ceil(now - token.expires)} s ago: relays have erased the keys it was made with`,
      );
    }
    if (this.#used.has(tokenName)) {
      throw new MessageError(
        MessageErrorCode.replyBlockUsed,
        'the reply block was used before; each is good for one reply',
      );
    }
    const count = Math.max(1, Math.ceil(content.length / ANSWER_BYTES));
    if (count > token.blocks.length) {
      throw new MessageError(
        MessageErrorCode.tooLarge,
        `a reply of ${content.length} bytes; this block is for ${token.blocks.length * ANSWER_BYTES} at most`,
      );
    }
    if (this.#used.size >= MAX_USED_TOKENS || this.#answers.length + count > MAX_QUEUED_ANSWER_PACKETS) {
      throw new MessageError(MessageErrorCode.limit, 'too many anonymous replies at once; try again later');
    }
    this.#used.set(tokenName, token.expires);
    this.#journal.keep({ kind: 'used', name: tokenName, expires: token.expires });
    const name = nodeIdHex(this.#fresh(MESSAGE_ID_BYTES));
    for (let i = 0; i < count; i++) {
      const data = content.subarray(i * ANSWER_BYTES, (i + 1) * ANSWER_BYTES);
      const block = token.blocks[i]!;
      const key = answerKey(this.#suite, 'anonymous reply', token.key, block);
      const answer = sealAnswer(this.#suite, key, { index: i, count, data });
      const queued = { name, index: i, payload: encodeForward(block, answer), last: i === count - 1 };
      this.#answers.push(queued);
      this.#journal.keep({ kind: 'answer', ...queued, name: `${name}:${i}` });
    }
    this.#beActive(nowMs + ANSWER_ACTIVE_MS, nowMs);
    return name;
  }

  /** A sealed packet that came to a mailbox of ours. Borrows. */
  handlePacket(mailbox: string, packet: Uint8Array, nowMs: TimeMs): void {
    this.receiver.handlePacket(mailbox, packet, nowMs);
    if (this.receiver.owed > 0) this.#beActive(nowMs + ANSWER_ACTIVE_MS, nowMs);
  }

  /** A reply that came to our reply mailbox. Borrows. */
  handleReply(replyId: Uint8Array, reply: Uint8Array, nowMs: TimeMs): void {
    const opened = this.#replies.open(replyId, reply);
    if (opened === undefined || !this.#handleOpened(opened)) this.counters.repliesNotOurs++;
    if (opened?.answerKey !== undefined) this.#suite.wipe(opened.answerKey);
    this.#setPace(nowMs);
  }

  /** False: it says nothing that was asked for. */
  #handleOpened({ purpose, answerKey: key, payload }: OpenedReply): boolean {
    if (purpose.kind === 'keys') return this.#handleKeys(purpose.mailbox, payload);
    if (purpose.kind === 'status') {
      const status = openStatus(this.#suite, key!, payload);
      if (status !== undefined) this.#outbox.handleStatus(purpose.message, status);
      return status !== undefined;
    }
    const answer = openAnswer(this.#suite, key!, payload);
    if (answer !== undefined) this.#handleAnswer(purpose.token, answer);
    return answer !== undefined;
  }

  #handleKeys(mailbox: string, payload: Uint8Array): boolean {
    const decoded = decodeKeysPart(payload);
    if (decoded === undefined) return false;
    if (decoded === 'no-mailbox') {
      this.#noMailbox(mailbox, 'its node has no such mailbox, or no keys for it: the recipient has not been there');
      return true;
    }
    const keys = this.#fetches.handlePart(mailbox, decoded.part, decoded.data, this.#host.unixSeconds());
    if (keys !== undefined) this.#haveKeys(mailbox, keys);
    return true;
  }

  /** When poll must be called at the latest; Infinity: nothing is to be done. */
  nextTimeoutMs(): TimeMs {
    if (this.#stopped) return Number.POSITIVE_INFINITY;
    const busy =
      this.#slots.perSecond > 0 || this.#replies.size > 0 || this.receiver.heldBytes > 0 || this.loops.underWay > 0;
    return Math.min(this.#slots.nextMs, busy ? this.#housekeepingMs : Number.POSITIVE_INFINITY);
  }

  /** Does what is due: at most one slot. */
  poll(nowMs: TimeMs): void {
    if (this.#stopped) return;
    if (nowMs >= this.#housekeepingMs) this.#keepHouse(nowMs);
    if (this.#slots.take(nowMs)) {
      this.#outbox.expire(nowMs);
      this.#useSlot(nowMs);
      // Slots that a busy machine missed stay missed: no burst tells of it.
      this.#slots.skipTo(nowMs);
    }
    this.#setPace(nowMs);
  }

  /** Nothing is sent any more, and the secrets are wiped. */
  stop(): void {
    this.#stopped = true;
    this.#replies.wipe();
  }

  // --- slots ---

  #useSlot(nowMs: TimeMs): void {
    this.counters.slots++;
    // Each kind has its turn, so that none waits for another.
    for (let i = 0; i < 4; i++) {
      const turn = (this.#turn + i) % 4;
      if (!this.#sendKind(turn, nowMs)) continue;
      this.#turn = (turn + 1) % 4;
      this.counters.realPackets++;
      return;
    }
    if (this.#options.cover === 'off') return;
    if (this.#options.cover === 'active' && nowMs >= this.#activeUntilMs) return;
    if (this.#sendCover(nowMs)) this.counters.coverPackets++;
  }

  #sendKind(kind: number, nowMs: TimeMs): boolean {
    if (kind === 0) return this.#sendStatus();
    if (kind === 1) return this.#sendFetch(nowMs);
    if (kind === 2) return this.#sendAnswer();
    return this.#sendFragment(nowMs);
  }

  #sendStatus(): boolean {
    const payload = this.receiver.takeStatus();
    if (payload === undefined) return false;
    // Should it not leave, the sender asks again.
    return this.#forward(payload) || this.#postpone();
  }

  #sendFetch(nowMs: TimeMs): boolean {
    const fetch = this.#fetches.next(nowMs);
    if (fetch === undefined) return false;
    const { mailbox, address, part } = fetch;
    const reply = this.#makeReplyBlock({ kind: 'keys', mailbox }, undefined, address.nodeId);
    if (reply === undefined) return this.#postpone();
    if (!this.#host.sendPayload(address.nodeId, encodeFetch(address.mailboxId, part, reply.block)))
      return this.#postpone();
    this.#fetches.asked(mailbox, part, nowMs);
    return true;
  }

  #sendAnswer(): boolean {
    const answer = this.#answers.shift();
    if (answer === undefined) return false;
    if (!this.#forward(answer.payload)) {
      this.#answers.push(answer);
      return this.#postpone();
    }
    this.#journal.forget('answer', `${answer.name}:${answer.index}`);
    if (answer.last) this.#host.onMessage({ kind: 'sent', name: answer.name });
    return true;
  }

  /** Has any mailbox node send over the reply block; not the one that the block itself begins at. */
  #forward(payload: Uint8Array): boolean {
    const nodeId = this.#host.anyMailboxNode(forwardFirstHop(payload));
    return nodeId !== undefined && this.#host.sendPayload(nodeId, payload);
  }

  #sendFragment(nowMs: TimeMs): boolean {
    const packet = this.#outbox.next(nowMs);
    if (packet === undefined) return false;
    const recipient = this.#recipients.get(packet.name)!;
    const payload = this.#payloadOf(packet, recipient.keys);
    if (payload === undefined || !this.#host.sendPayload(recipient.nodeId, payload)) {
      this.#outbox.postponed(packet);
      return this.#postpone();
    }
    this.#outbox.sent(packet, nowMs);
    return true;
  }

  #payloadOf(packet: OutgoingPacket, keys: Recipient['keys']): Uint8Array | undefined {
    const { name, index, count, data, asks } = packet;
    let replyBlock: Uint8Array | undefined;
    if (asks) {
      replyBlock = this.#makeReplyBlock({ kind: 'status', message: name }, bytesOf(name))?.block;
      if (replyBlock === undefined) return undefined;
    }
    const inner = encodeFragment({ messageId: bytesOf(name), index, count, data, replyBlock });
    return this.#sealedDeliver(keys, inner);
  }

  #sealedDeliver(keys: Pick<SealKeys, 'mailboxId' | 'x25519'>, inner: Uint8Array): Uint8Array | undefined {
    const packet = new Uint8Array(SEALED_PACKET_BYTES);
    return sealPacket(this.#suite, this.#random, keys, inner, packet)
      ? encodeDeliver(keys.mailboxId, packet)
      : undefined;
  }

  /** Half of it comes back to us (loop cover), half ends somewhere (drop cover). */
  #sendCover(nowMs: TimeMs): boolean {
    const mailbox = this.#host.replyMailbox();
    if (mailbox === undefined || (this.#fresh(1)[0]! & 1) === 0) {
      const nodeId = this.#host.anyMailboxNode(undefined);
      return nodeId !== undefined && this.#host.sendDrop(nodeId);
    }
    const id = this.#fresh(MESSAGE_ID_BYTES);
    const payload = this.#sealedDeliver(mailbox, encodeCover(id));
    if (payload === undefined || !this.#host.sendPayload(mailbox.nodeId, payload)) return false;
    this.loops.sent(nodeIdHex(id), nowMs);
    return true;
  }

  #postpone(): false {
    this.counters.postponed++;
    return false;
  }

  // --- what becomes of messages ---

  #submit(message: Waiting, nodeId: Uint8Array, keys: SealKeys): void {
    const { name, content, deadlineMs } = message;
    const blob = sealMessage(this.#suite, this.#random, keys, bytesOf(name), encodeContent(content));
    if (blob === undefined) {
      this.#failed(name, new MessageError(MessageErrorCode.unknownMailbox, 'the recipient’s keys are of no use'));
      return;
    }
    this.#recipients.set(name, { nodeId, keys });
    const { mailboxId, x25519 } = keys;
    try {
      this.#outbox.submit({ name, blob, deadlineMs });
      this.#journal.keep({ kind: 'outgoing', name, nodeId, mailboxId, x25519, deadlineMs, blob });
      this.#journal.forget('waiting', name);
    } catch (error) {
      this.#recipients.delete(name);
      if (!(error instanceof MessageError)) throw error;
      this.#failed(name, error);
    }
  }

  /** Until the recipient's keys are here. */
  #wait(mailbox: string, address: MessageAddress, message: Waiting): void {
    this.#fetches.want(mailbox, address);
    const waiting = this.#waiting.get(mailbox);
    if (waiting === undefined) this.#waiting.set(mailbox, [message]);
    else waiting.push(message);
  }

  #haveKeys(mailbox: string, keys: SealKeys): void {
    const waiting = this.#waiting.get(mailbox);
    const address = this.#fetches.addressOf(mailbox);
    this.#waiting.delete(mailbox);
    if (waiting === undefined || address === undefined) return;
    for (const message of waiting) this.#submit(message, address.nodeId, keys);
  }

  #noMailbox(mailbox: string, why: string): void {
    const waiting = this.#waiting.get(mailbox) ?? [];
    this.#stopWaiting(mailbox);
    for (const { name } of waiting) this.#failed(name, new MessageError(MessageErrorCode.unknownMailbox, why));
  }

  #stopWaiting(mailbox: string): void {
    this.#waiting.delete(mailbox);
    this.#fetches.forget(mailbox);
  }

  #failed(name: string, error: MessageError): void {
    this.#forget(name);
    this.#host.onMessage({ kind: 'failed', name, error });
  }

  #forget(name: string): void {
    this.#journal.forget('waiting', name);
    this.#journal.forget('outgoing', name);
    this.#journal.forget('sent', name);
  }

  #onOutbox(event: OutboxEvent): void {
    if (event.kind === 'sent') {
      this.#journal.keep({ kind: 'sent', name: event.name });
    } else {
      this.#forget(event.name);
      const recipient = this.#recipients.get(event.name);
      this.#recipients.delete(event.name);
      // Keys that do not open are not used again.
      if (event.kind === 'failed' && event.error.code === MessageErrorCode.notOpened && recipient !== undefined) {
        this.#fetches.forget(nodeIdHex(recipient.keys.mailboxId));
      }
    }
    this.#host.onMessage(event);
  }

  #handleAnswer(name: string, { index, count, data }: AnswerPart): void {
    const token = this.#tokens.get(name);
    if (token === undefined || count > token.blocks) return;
    token.parts ??= new Array(count).fill(undefined);
    if (token.parts.length !== count || token.parts[index] !== undefined) return;
    token.parts[index] = data;
    if (token.parts.includes(undefined)) return;
    this.#tokens.delete(name);
    this.#host.storeAnswer(name, joinBytes(...(token.parts as Uint8Array[])));
  }

  // --- housekeeping ---

  /** `secret`: what the answer is sealed with (answer-seal.ts). */
  #makeReplyBlock(
    purpose: ReplyPurpose,
    secret: Uint8Array | undefined,
    usedBy?: Uint8Array,
  ): { readonly block: Uint8Array; readonly expires: UnixSeconds } | undefined {
    const mailbox = this.#host.replyMailbox();
    if (mailbox === undefined || !this.#replies.hasRoomFor(1)) return undefined;
    const replyId = this.#replies.newId(mailbox.mailboxId);
    const made = this.#host.makeReplyBlock(mailbox.nodeId, replyId, usedBy);
    if (made === undefined) return undefined;
    const { keys, block, expires } = made;
    const kind = purpose.kind === 'status' ? 'message status' : 'anonymous reply';
    const key = secret && answerKey(this.#suite, kind, secret, block);
    this.#replies.add(replyId, { keys, purpose, answerKey: key, expires });
    return made;
  }

  #keepHouse(nowMs: TimeMs): void {
    this.#housekeepingMs = nowMs + HOUSEKEEPING_MS;
    const now = this.#host.unixSeconds();
    this.#outbox.expire(nowMs);
    this.receiver.expire(nowMs);
    this.loops.expire(nowMs, this.#host.heardMs());
    for (const [mailbox, waiting] of this.#waiting) {
      const late = waiting.filter(({ deadlineMs }) => nowMs >= deadlineMs);
      if (late.length === 0) continue;
      const rest = waiting.filter(({ deadlineMs }) => nowMs < deadlineMs);
      if (rest.length === 0) this.#stopWaiting(mailbox);
      else this.#waiting.set(mailbox, rest);
      for (const { name } of late) {
        const why = 'the recipient’s keys did not come in time, so nothing was sent';
        this.#failed(name, new MessageError(MessageErrorCode.notAcknowledged, why));
      }
    }
    for (const [name, { expires }] of this.#tokens) if (now >= expires) this.#tokens.delete(name);
    for (const [name, expires] of this.#used) {
      if (now < expires) continue;
      this.#used.delete(name);
      this.#journal.forget('used', name);
    }
    this.#replies.expire(now, (purpose) => {
      if (purpose.kind === 'status') return !this.#recipients.has(purpose.message);
      if (purpose.kind === 'keys') return !this.#waiting.has(purpose.mailbox);
      return !this.#tokens.has(purpose.token);
    });
    this.#fetches.expire(now);
  }

  #beActive(untilMs: TimeMs, nowMs: TimeMs): void {
    this.#activeUntilMs = Math.max(this.#activeUntilMs, untilMs);
    this.#setPace(nowMs);
  }

  /** Times of a Poisson process have no memory: stopping it while there is nothing to send changes nothing about them. */
  #setPace(nowMs: TimeMs): void {
    const { cover, packetsPerSecond } = this.#options;
    const work = this.#outbox.size > 0 || this.#waiting.size > 0 || this.#answers.length > 0 || this.receiver.owed > 0;
    const covered = cover === 'always' || (cover === 'active' && nowMs < this.#activeUntilMs);
    this.#slots.setRate(!this.#stopped && (work || covered) ? packetsPerSecond : 0, nowMs);
  }

  #fresh(lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    this.#random.fill(bytes);
    return bytes;
  }
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.fromHex(hex);
}
