/**
 * Messages of this client: its addresses and their mailboxes, what it sends, what waits for the application. What is sent
 * when is the messenger's affair (core/messages/messenger.ts); here its payloads become Sphinx packets over paths of the
 * verified view, and leave through a pump.
 */

import { nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import { decodeAddress, encodeAddress } from '@nyx/core/messages/address.ts';
import { MessageState } from '@nyx/core/messages/answer-seal.ts';
import { MessageError, MessageErrorCode } from '@nyx/core/messages/message-error.ts';
import { Messenger } from '@nyx/core/messages/messenger.ts';
import type { OutboxEvent } from '@nyx/core/messages/outbox.ts';
import { decodeReplyToken, encodeReplyToken, REPLY_PREFIX, replyTokenName } from '@nyx/core/messages/reply-token.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import type { LoopStats, LoopVerdict } from '@nyx/core/mix/loop-monitor.ts';
import { chooseIndex } from '@nyx/core/path/weighted-choice.ts';
import { createDropPacket, createPacket, PACKET_BYTES, type SphinxHop } from '@nyx/core/sphinx/packet.ts';
import { createReplyBlock } from '@nyx/core/sphinx/reply-block.ts';
import type { Loops } from '@nyx/proto/types.ts';
import type { Reloadable } from '../actors/config-reloader.ts';
import { type NodeContext, unixSeconds } from '../actors/context.ts';
import type { Directory } from '../actors/directory.ts';
import type { PathBuilder } from '../actors/path-builder.ts';
import type { PumpPool } from '../actors/pump-pool.ts';
import type { SealedFiles } from '../directory/sealed-files.ts';
import { DialError, DialErrorCode, type PathConstraints } from '../pump/contract.ts';
import { lowPowerShare } from '../pump/cover-options.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import { AddressBook, MAX_ADDRESSES, OwnMailbox } from './address-book.ts';
import { Inbox, storedId } from './inbox.ts';
import { MailboxVisit, type VisitState } from './mailbox-visit.ts';
import { StoredMessenger } from './messenger-journal.ts';
import { openStore, tellDamage } from './open-store.ts';
import type { SealedStore } from './sealed-store.ts';

const RENEW_MS = 60_000;
/** A mailbox for replies that can't be opened so many times in a row is given up for one at another node. */
const MAX_REPLY_FAILURES = 3;
/** From asking for a mailbox to its being open. */
const OPEN_WAIT_MS = 30_000;
const OUTBOX = { maxMessages: 256, maxBytes: 8 * 1024 * 1024 };
/** From asking what has arrived to asking again, and in slots: with few of them, the answer waits for one as the question did. */
const ASK_AGAIN_MS = 4000;
const ASK_AGAIN_SLOTS = 10;
const REASSEMBLY = { maxMessages: 256, maxBytes: 8 * 1024 * 1024, maxAgeMs: 3_600_000 };
const MAX_REPLY_BLOCKS = 2048;

export interface MessagesParts {
  readonly nodeId: string;
  readonly files: SealedFiles;
  readonly directory: Pick<Directory, 'view' | 'contactOf'>;
  readonly paths: Pick<PathBuilder, 'select'>;
  readonly pool: Pick<PumpPool, 'choose' | 'first'>;
  /** When a datagram was seen to come in last. */
  readonly heardMs: () => number;
}

/** For the API and the metrics; what they mean is said in nyx.proto (OwnMessages). */
export interface MessageFigures {
  readonly addresses: number;
  readonly openMailboxes: number;
  readonly outgoing: number;
  readonly outgoingBytes: number;
  readonly waiting: number;
  readonly waitingBytes: number;
  readonly replyBlocks: number;
  readonly slots: number;
  readonly sentPackets: number;
  readonly coverPackets: number;
  readonly postponedPackets: number;
  readonly receivedPackets: number;
  readonly receivedMessages: number;
  readonly storeProblem: string;
  readonly loops: Loops;
}

/** An address of ours as the API shows it. */
export interface AddressInfo {
  readonly address: string;
  readonly label: string;
  readonly nodeId: string;
  readonly createdAt: number;
  readonly state: VisitState;
  readonly problem: string;
  /** Packets that its mailbox had no room for while we were away. */
  readonly refusedPackets: number;
}

/** A message on its way. */
export interface SentMessage {
  readonly id: string;
  /** Every packet of it has left once. Rejects with MessageError. */
  readonly sent: Promise<void>;
  /** The recipient has it; an anonymous reply: it has left, more can't be known. Rejects with MessageError. */
  readonly done: Promise<'acknowledged' | 'sent'>;
  progress(): { readonly sent: number; readonly total: number } | undefined;
  cancel(): void;
}

interface MailboxNode {
  readonly id: string;
  readonly nodeId: Uint8Array;
  readonly weight: number;
}

interface Pending {
  readonly isReply: boolean;
  readonly sent: PromiseWithResolvers<void>;
  readonly done: PromiseWithResolvers<'acknowledged' | 'sent'>;
}

export class Messages {
  readonly inbox: Inbox;
  readonly messenger: Messenger;
  readonly #context: NodeContext;
  readonly #parts: MessagesParts;
  /** Inbox and journal. */
  readonly #store: SealedStore;
  readonly #book: AddressBook;
  readonly #delays: Exponential;
  readonly #visits = new Map<string, MailboxVisit>();
  #replyVisit: MailboxVisit | undefined;
  readonly #opened = new Set<() => void>();
  readonly #pending = new Map<string, Pending>();
  #nodesOf: { readonly view: unknown; readonly nodes: readonly MailboxNode[] } | undefined;
  #running = false;
  #cancelPoll: () => void = () => {};
  #cancelRenew: () => void = () => {};
  /** Packets that the pump would not take. */
  unsent = 0;

  /** Throws KeyStoreError. */
  constructor(context: NodeContext, parts: MessagesParts) {
    this.#context = context;
    this.#parts = parts;
    const { config, suite, random } = context;
    this.#book = new AddressBook(parts.files, suite, random);
    this.#store = openStore({ name: 'messages', durable: true }, context, parts.files);
    const journal = new StoredMessenger(this.#store, context);
    const stored = this.#store.load();
    this.inbox = new Inbox(this.#store, stored, config.messages.inboxBytes);
    this.#delays = new Exponential(random);
    const packetsPerSecond = config.messages.packetsPerSecond * lowPowerShare(config.cover);
    const askAgainMs = Math.max(ASK_AGAIN_MS, (1000 * ASK_AGAIN_SLOTS) / packetsPerSecond);
    this.messenger = new Messenger(
      {
        packetsPerSecond,
        cover: config.messages.cover,
        // Out as a packet, back over the circuit to the mailbox.
        loopMs: 2 * config.messages.hops * config.mix.delayMs,
        outbox: { ...OUTBOX, askAgainMs },
        reassembly: REASSEMBLY,
        maxReplyBlocks: MAX_REPLY_BLOCKS,
      },
      {
        suite,
        random,
        host: {
          sendPayload: (nodeId, payload) => this.#sendPayload(nodeId, payload),
          anyMailboxNode: (not) => this.#anyMailboxNode(not),
          sendDrop: (nodeId) => this.#sendPayload(nodeId, undefined),
          replyMailbox: () => this.#replyMailbox(),
          makeReplyBlock: (nodeId, replyId, usedBy) => this.#makeReplyBlock(nodeId, replyId, usedBy),
          store: ({ mailbox, id, content }) => this.#receive(storedId(mailbox, id), mailbox, undefined, content),
          storeAnswer: (token, content) => this.#receive(token, undefined, token, content),
          onMessage: (event) => this.#onMessage(event),
          unixSeconds: () => context.unixMs() / 1000,
          onLoop: (verdict, stats) => this.#onLoop(verdict, stats),
          heardMs: parts.heardMs,
          journal,
        },
      },
    );
    this.messenger.restore(journal.read(stored), this.#nowMs);
    for (const { mailbox, id } of this.inbox.known()) {
      this.messenger.receiver.restore(`${mailbox}:${id}`, MessageState.stored);
    }
  }

  child(): ChildSpec {
    return {
      id: 'messages',
      restart: 'permanent',
      shutdownMs: 2000,
      inboxLimit: 1,
      start: () => {
        this.#start();
        return { stop: () => this.#stop() };
      },
    };
  }

  get figures(): MessageFigures {
    const { messenger, inbox } = this;
    const { counters, outgoing, receiver } = messenger;
    const visits = [...this.#visits.values(), ...(this.#replyVisit === undefined ? [] : [this.#replyVisit])];
    return {
      addresses: this.#book.size,
      openMailboxes: visits.filter(({ state }) => state === 'open').length,
      outgoing: outgoing.messages,
      outgoingBytes: outgoing.bytes,
      waiting: inbox.size,
      waitingBytes: inbox.bytes,
      replyBlocks: messenger.replyBlocks,
      slots: counters.slots,
      sentPackets: counters.realPackets,
      coverPackets: counters.coverPackets,
      postponedPackets: counters.postponed + this.unsent,
      receivedPackets: receiver.counters.packets,
      receivedMessages: receiver.counters.stored,
      storeProblem: this.#store.problem,
      loops: { ...messenger.loops.stats, alarm: messenger.loops.stats.alarm ?? '' },
    };
  }

  // --- what the API asks for ---

  addresses(): AddressInfo[] {
    return this.#book.list().map((mailbox) => this.#infoOf(mailbox));
  }

  /** The address of this mailbox (hex of its id); undefined: it is none of ours. */
  addressOf(mailbox: string): string | undefined {
    const own = this.#book.get(mailbox);
    return own && encodeAddress(own, this.#context.suite);
  }

  /** Makes an address at this mailbox node (hex), or one that is drawn, and waits a while for its mailbox to open. */
  async createAddress(label: string, nodeId: string | undefined): Promise<AddressInfo> {
    if (this.#book.size >= MAX_ADDRESSES) {
      throw new MessageError(MessageErrorCode.limit, `this node has ${MAX_ADDRESSES} addresses, the most it may have`);
    }
    const chosen = nodeId === undefined ? this.#anyMailboxNode(undefined) : this.#mailboxNode(nodeId);
    if (chosen === undefined) {
      const which = nodeId === undefined ? 'no node' : `node ${nodeId}, as the present view has it,`;
      throw new DialError(DialErrorCode.noPath, `${which} keeps mailboxes`);
    }
    const mailbox = this.#book.create(chosen, label, unixSeconds(this.#context));
    this.messenger.receiver.setSecrets(mailbox.name, mailbox.secrets);
    const visit = this.#visit(mailbox);
    this.#visits.set(mailbox.name, visit);
    await this.#untilOpen(() => visit.state === 'open');
    return this.#infoOf(mailbox);
  }

  /**
   * Its keys are erased at once. Resolves with whether its node has been told to erase the mailbox; with undefined when the
   * address is none of ours.
   */
  async deleteAddress(address: string): Promise<boolean | undefined> {
    const { mailboxId } = decodeAddress(address, this.#context.suite);
    const name = nodeIdHex(mailboxId);
    const visit = this.#visits.get(name);
    this.#visits.delete(name);
    this.messenger.receiver.setSecrets(name, []);
    if (!this.#book.remove(name)) return undefined;
    return (await visit?.stop(true)) ?? false;
  }

  /** Sends to an address, or over a reply block (then `timeoutMs` has no meaning). Throws MessageError. */
  send(to: string, content: Uint8Array, timeoutMs: number): SentMessage {
    const { suite } = this.#context;
    const nowMs = this.#nowMs;
    const isReply = to.trimStart().startsWith(REPLY_PREFIX);
    const pending = {
      isReply,
      sent: Promise.withResolvers<void>(),
      done: Promise.withResolvers<'acknowledged' | 'sent'>(),
    };
    // Who does not wait for either need not hear of a failure.
    pending.sent.promise.catch(() => {});
    pending.done.promise.catch(() => {});
    let id: string;
    if (isReply) {
      id = this.messenger.reply(decodeReplyToken(to, suite), content, nowMs);
    } else {
      const address = decodeAddress(to, suite);
      if (this.#mailboxNode(nodeIdHex(address.nodeId)) === undefined) {
        const why =
          'the present view of the network has no such mailbox node; it may be down, or a view may be missing';
        throw new MessageError(MessageErrorCode.unknownMailbox, why);
      }
      this.#needReplyMailbox();
      id = this.messenger.send(address, content, timeoutMs, nowMs);
    }
    // From here on a restart does not lose it.
    this.#store.commit();
    this.#pending.set(id, pending);
    this.#arm();
    return {
      id,
      sent: pending.sent.promise,
      done: pending.done.promise,
      progress: () => this.messenger.progress(id),
      cancel: () => void this.messenger.cancel(id),
    };
  }

  /** A token for one anonymous reply of up to so many packets. Waits for a mailbox. Rejects with MessageError or DialError. */
  async createReplyBlock(packets: number): Promise<{ text: string; id: string; expires: number }> {
    this.#needReplyMailbox();
    await this.#untilOpen(() => this.#replyMailbox() !== undefined);
    const token = this.messenger.createReplyToken(packets);
    if (token === undefined) {
      const problem = this.#replyVisit?.problem || 'there is no path now';
      throw new DialError(DialErrorCode.noPath, `no mailbox for replies: ${problem}`);
    }
    this.#arm();
    const { suite } = this.#context;
    return { text: encodeReplyToken(token, suite), id: replyTokenName(token, suite), expires: token.expires };
  }

  // --- its life ---

  #start(): void {
    this.#running = true;
    tellDamage(this.#store, this.#context);
    this.#renew();
    for (const mailbox of this.#book.list()) {
      this.messenger.receiver.setSecrets(mailbox.name, mailbox.secrets);
      this.#visits.set(mailbox.name, this.#visit(mailbox));
    }
    this.#arm();
  }

  readonly reloadable: Reloadable =
    ({ messages, mix, cover: { lowPower } }) =>
    () => {
      this.inbox.maxBytes = messages.inboxBytes;
      const packetsPerSecond = messages.packetsPerSecond * lowPowerShare({ lowPower });
      const loopMs = 2 * messages.hops * mix.delayMs;
      this.messenger.retune({ packetsPerSecond, cover: messages.cover, loopMs }, this.#nowMs);
      this.#arm();
    };

  #stop(): void {
    this.#running = false;
    this.#cancelPoll();
    this.#cancelRenew();
    this.messenger.stop();
    for (const visit of this.#visits.values()) void visit.stop(false);
    this.#visits.clear();
    this.#dropReplyMailbox();
    for (const wake of [...this.#opened]) wake();
    for (const { sent, done } of this.#pending.values()) {
      const error = new DialError(
        DialErrorCode.shutdown,
        'the daemon is shutting down; it goes on with the message when it is started again before the deadline',
      );
      sent.reject(error);
      done.reject(error);
    }
    this.#pending.clear();
    this.#book.wipe();
    this.#store.close();
  }

  get #nowMs(): number {
    return this.#context.timers.nowMs();
  }

  /** Sees to it that the messenger is asked in time. */
  #arm(): void {
    this.#cancelPoll();
    const dueMs = this.messenger.nextTimeoutMs();
    if (!this.#running || dueMs === Number.POSITIVE_INFINITY) return;
    this.#cancelPoll = this.#context.timers.after(Math.max(0, dueMs - this.#nowMs), () => {
      this.messenger.poll(this.#nowMs);
      this.#arm();
    });
  }

  #renew(): void {
    const now = unixSeconds(this.#context);
    for (const mailbox of this.#book.renew(now)) {
      this.messenger.receiver.setSecrets(mailbox.name, mailbox.secrets);
      this.#visits.get(mailbox.name)?.publish();
    }
    if (this.#replyVisit?.mailbox.renew(now)) {
      this.messenger.receiver.setSecrets(this.#replyVisit.mailbox.name, this.#replyVisit.mailbox.secrets);
      this.#replyVisit.publish();
    }
    this.#store.sweep();
    this.#cancelRenew = this.#context.timers.after(RENEW_MS, () => this.#renew());
  }

  // --- mailboxes ---

  #visit(mailbox: OwnMailbox): MailboxVisit {
    const { paths, pool } = this.#parts;
    return new MailboxVisit(mailbox, {
      context: this.#context,
      pool,
      paths,
      hops: this.#context.config.messages.hops,
      onPacket: (name, packet) => {
        this.messenger.handlePacket(name, packet, this.#nowMs);
        this.#arm();
      },
      onReply: (replyId, reply) => {
        this.messenger.handleReply(replyId, reply, this.#nowMs);
        this.#arm();
      },
      onChange: (visit, failures) => this.#onVisit(visit, failures),
    });
  }

  #onVisit(visit: MailboxVisit, failures: number): void {
    const { log, events } = this.#context;
    if (failures === 0) {
      events.publish('message', 'mailbox-open');
      for (const wake of [...this.#opened]) wake();
      return;
    }
    log('debug', 'a mailbox could not be reached', { problem: visit.problem, failures });
    events.publish('message', 'mailbox-lost', '', { reason: visit.problem });
    if (visit !== this.#replyVisit) return;
    // They may lie in the mailbox until it is open again: nobody has dropped them.
    this.messenger.loops.abandon();
    if (failures < MAX_REPLY_FAILURES) return;
    // Replies that are on their way to it are lost; those who wait for them ask again.
    this.#dropReplyMailbox();
    this.#needReplyMailbox();
  }

  #infoOf(mailbox: OwnMailbox): AddressInfo {
    const visit = this.#visits.get(mailbox.name);
    return {
      address: encodeAddress(mailbox, this.#context.suite),
      label: mailbox.label,
      nodeId: nodeIdHex(mailbox.nodeId),
      createdAt: mailbox.createdAt,
      state: visit?.state ?? 'waiting',
      problem: visit?.problem ?? '',
      refusedPackets: visit?.refused ?? 0,
    };
  }

  /** Replies come to a mailbox that no address names, with keys that are never written down. */
  #needReplyMailbox(): void {
    if (this.#replyVisit !== undefined || !this.#running) return;
    const nodeId = this.#anyMailboxNode(undefined);
    if (nodeId === undefined) return;
    const { suite, random } = this.#context;
    const now = unixSeconds(this.#context);
    const mailbox = new OwnMailbox(suite, random, { nodeId, label: '', createdAt: now });
    mailbox.renew(now);
    this.messenger.receiver.setSecrets(mailbox.name, mailbox.secrets);
    this.#replyVisit = this.#visit(mailbox);
  }

  #dropReplyMailbox(): void {
    const visit = this.#replyVisit;
    this.#replyVisit = undefined;
    if (visit === undefined) return;
    void visit.stop(true);
    this.messenger.receiver.setSecrets(visit.mailbox.name, []);
    visit.mailbox.wipe();
  }

  #replyMailbox() {
    const visit = this.#replyVisit;
    if (visit === undefined) {
      this.#needReplyMailbox();
      return undefined;
    }
    if (visit.state !== 'open') return undefined;
    const { nodeId, mailboxId, secrets } = visit.mailbox;
    return { nodeId, mailboxId, x25519: secrets[0]!.dh.publicKey };
  }

  #untilOpen(isOpen: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        if (!isOpen() && this.#running && this.#nowMs < deadlineMs) return;
        this.#opened.delete(done);
        cancel();
        resolve();
      };
      const deadlineMs = this.#nowMs + OPEN_WAIT_MS;
      const cancel = this.#context.timers.after(OPEN_WAIT_MS, done);
      this.#opened.add(done);
      done();
    });
  }

  // --- what the messenger asks for ---

  /** `payload` undefined: cover that ends there. */
  #sendPayload(nodeId: Uint8Array, payload: Uint8Array | undefined): boolean {
    const contacts = this.#route({ lastHop: nodeIdHex(nodeId) });
    const pump = this.#parts.pool.first();
    if (contacts === undefined || pump === undefined) return false;
    const { suite, random } = this.#context;
    const hops = this.#sphinxHops(contacts);
    const packet = new Uint8Array(PACKET_BYTES);
    if (payload === undefined) createDropPacket(suite, random, hops, packet);
    else createPacket(suite, random, hops, payload, packet);
    pump.sendPackets([{ firstHop: contacts[0]!, packet }]).then(
      ([drop]) => {
        if (drop !== 'none') this.unsent++;
      },
      () => {
        this.unsent++;
      },
    );
    return true;
  }

  /** Whoever sends over it must not learn our guards, and can not be its first hop himself. */
  #makeReplyBlock(nodeId: Uint8Array, replyId: Uint8Array, usedBy: Uint8Array | undefined) {
    const lastHop = nodeIdHex(nodeId);
    const user = usedBy === undefined ? lastHop : nodeIdHex(usedBy);
    const contacts = this.#route({ lastHop, withoutGuards: true, apartFrom: user === lastHop ? [] : [user] });
    if (contacts === undefined) return undefined;
    const { suite, random, config } = this.#context;
    const hops = this.#sphinxHops(contacts);
    const { block, keys } = createReplyBlock(suite, random, hops, replyId);
    // A node holds the keys of an epoch for one epoch more.
    const expires = (Math.min(...hops.map(({ epoch }) => epoch)) + 2) * config.epochSeconds;
    return { block, keys, expires };
  }

  #route(wishes: Partial<PathConstraints>): NodeContact[] | undefined {
    const { hops } = this.#context.config.messages;
    try {
      const contacts = this.#parts.paths.select({ hops, class: 'mix', needExit: undefined, ...wishes });
      return contacts.some(({ mixKeys }) => mixKeys.length === 0) ? undefined : contacts;
    } catch (error) {
      if (!(error instanceof DialError)) throw error;
      this.#context.log('debug', 'no path for a packet', { problem: error.message });
      return undefined;
    }
  }

  #sphinxHops(contacts: readonly NodeContact[]): SphinxHop[] {
    const { delayMs } = this.#context.config.mix;
    return contacts.map(({ nodeId, mixKeys }) => {
      const { epoch, x25519 } = mixKeys.at(-1)!;
      return { nodeId, epoch, mixX25519: x25519, delayMs: Math.round(this.#delays.sample(delayMs)) };
    });
  }

  #anyMailboxNode(not: Uint8Array | undefined): Uint8Array | undefined {
    const excluded = not && nodeIdHex(not);
    const nodes = this.#mailboxNodes().filter(({ id }) => id !== excluded);
    const weights = nodes.map(({ weight }) => weight);
    return nodes[chooseIndex(weights, this.#context.random)]?.nodeId;
  }

  /** All but ourselves; looked for once in a view. */
  #mailboxNodes(): readonly MailboxNode[] {
    const view = this.#parts.directory.view?.verified;
    if (view === undefined) return [];
    if (this.#nodesOf?.view !== view) {
      const nodes = view.nodes.flatMap(({ nodeId, roles }, i) => {
        const id = roles.mailbox ? nodeIdHex(nodeId) : this.#parts.nodeId;
        return id === this.#parts.nodeId ? [] : [{ id, nodeId, weight: Math.max(1, view.statuses[i]!.weight) }];
      });
      this.#nodesOf = { view, nodes };
    }
    return this.#nodesOf.nodes;
  }

  #mailboxNode(id: string): Uint8Array | undefined {
    const node = this.#parts.directory.view?.verified.byId.get(id);
    return node?.roles.mailbox && id !== this.#parts.nodeId ? node.nodeId : undefined;
  }

  #receive(id: string, mailbox: string | undefined, replyBlock: string | undefined, content: Uint8Array): boolean {
    const stored = this.inbox.store({ id, mailbox, replyBlock, receivedUnixMs: this.#context.unixMs(), content });
    this.#context.events.publish('message', stored ? 'received' : 'no-room', '', { bytes: content.length });
    return stored;
  }

  #onLoop({ changed, alarm }: LoopVerdict, { sent, lost, lossRatio, meanRttMs }: LoopStats): void {
    if (changed === undefined) return;
    const { log, events } = this.#context;
    const facts = { reason: alarm, lossRatio, meanRttMs, loops: sent, lost };
    if (changed === 'raised') log('warn', 'loops of the message lane are dropped or held back', facts);
    else log('info', 'loops of the message lane come back as they should again', facts);
    events.publish('cover', changed === 'raised' ? 'alarm' : 'all-clear', 'messages', facts);
  }

  #onMessage(event: OutboxEvent): void {
    const pending = this.#pending.get(event.name);
    this.#context.events.publish('message', event.kind, '', {
      ...(event.kind === 'failed' ? { reason: event.error.code } : {}),
    });
    // It may fail within send() itself, before anybody waits for it.
    if (pending === undefined) {
      if (event.kind !== 'sent') queueMicrotask(() => this.#settle(event));
      return;
    }
    this.#settle(event);
  }

  #settle(event: OutboxEvent): void {
    const pending = this.#pending.get(event.name);
    if (pending === undefined) return;
    if (event.kind === 'failed') {
      pending.sent.reject(event.error);
      pending.done.reject(event.error);
      this.#pending.delete(event.name);
      return;
    }
    pending.sent.resolve();
    if (event.kind === 'sent' && !pending.isReply) return;
    pending.done.resolve(event.kind);
    this.#pending.delete(event.name);
  }
}
