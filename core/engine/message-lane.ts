/**
 * The message lane of a node (docs/protocol.md §9): Sphinx packets that come over links, wait, and go on or end here.
 * The way of a packet:
 *
 * 1. handle(): its link has opened the cell; within the limits of packets a second it loses a layer.
 * 2. It waits as long as its sender wants, as a finished datagram without mask (delay-queue.ts).
 * 3. release(): it goes to the link to the next hop, which is opened if need be, or to the host when it ends here.
 *
 * A node that may be flooded bounds four things: X25519s a second (per link and in all), packets that wait (each link a
 * quarter of the room that is left), packets that wait for a link to come up, and links.
 */
import { Drop } from '../drop-reason.ts';
import type { CellOwner } from '../mix/cell-owner.ts';
import { DelayQueue } from '../mix/delay-queue.ts';
import type { MixKeyRing } from '../onion/mix-key-ring.ts';
import type { TimeMs } from '../ports.ts';
import { CHECK_BYTES, DELTA_AT, PACKET_BYTES, REPLY_ID_BYTES } from '../sphinx/layout.ts';
import { Command, SphinxRelay } from '../sphinx/relay.ts';
import {
  CellBuffer,
  CellType,
  CT_OFFSET,
  DATAGRAM_BYTES,
  HEADER_OFFSET,
  PATH_OFFSET,
  TYPE_OFFSET,
} from '../wire/datagram.ts';
import type { EngineContext } from './circuit.ts';
import type { MessageLaneStats, MessagePacketEvent, NodeContact } from './contract.ts';
import type { LinkSlot } from './link-slot.ts';
import { TokenBucket } from './token-bucket.ts';

/** Packets a second that are looked at: an X25519 each, so a tenth of a core (ADR 20). */
const DEFAULT_MESSAGES_PER_SECOND = 1000;
/** Share of that which one link may have: of a node that says its name, and of an anonymous client. */
const NAMED_SHARE = 0.25;
const ANONYMOUS_SHARE = 0.05;
/** Packets that may wait for their time … */
const MAX_WAITING = 65_536;
/** … and how much of the memory they may take, at what a waiting one costs. */
const WAITING_SHARE = 0.125;
const WAITING_BYTES = 1440;
/** Packets that may wait for links to come up, all together. */
const MAX_HELD_IN_ALL = 4096;
/** One of them, with the object it is in. */
const HELD_BYTES = DATAGRAM_BYTES + 200;
/** Packets that one flush lets go: some milliseconds' worth. */
const RELEASES_PER_FLUSH = 1024;
/** A waiting datagram has its header free: there stands the next hop's NodeID, or the reply id. */
const WHERE_AT = HEADER_OFFSET;
const MESSAGE_AT = CT_OFFSET + DELTA_AT + CHECK_BYTES;
const REPLY_AT = CT_OFFSET + DELTA_AT;

/** What one link has brought. */
export class MessageSource implements CellOwner {
  readonly bucket: TokenBucket;
  readonly #lane: MessageLane;
  /** Packets of it that wait. */
  waiting = 0;

  constructor(lane: MessageLane, perSecond: number, nowMs: TimeMs) {
    this.#lane = lane;
    this.bucket = new TokenBucket(perSecond, nowMs);
  }

  release(bytes: Uint8Array, command: number, nowMs: TimeMs): void {
    this.waiting--;
    this.#lane.release(bytes, command as Command, nowMs);
  }
}

export interface MessageLaneDependencies {
  readonly context: EngineContext;
  readonly keys: MixKeyRing;
  /** An up or opening link to that node; undefined: none can be had. */
  linkTo(contact: NodeContact, nowMs: TimeMs): LinkSlot | undefined;
}

export class MessageLane {
  readonly #deps: MessageLaneDependencies;
  readonly #relay: SphinxRelay;
  readonly #delays: DelayQueue;
  readonly #scratch = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  readonly #where = this.#scratch.bytes.subarray(WHERE_AT, WHERE_AT + 32);
  #perSecond: number;
  readonly #bucket: TokenBucket;
  #held = 0;

  constructor(deps: MessageLaneDependencies) {
    const { suite, random, options } = deps.context;
    this.#deps = deps;
    this.#relay = new SphinxRelay(suite);
    const fits = Math.floor((WAITING_SHARE * options.memoryBytes) / WAITING_BYTES);
    this.#delays = new DelayQueue(random, Math.min(MAX_WAITING, fits), options.mixBatchMs ?? 0);
    this.#perSecond = options.messagesPerSecond ?? DEFAULT_MESSAGES_PER_SECOND;
    this.#bucket = new TokenBucket(this.#perSecond, 0);
  }

  get stats(): MessageLaneStats {
    const { length, released, waitedMs } = this.#delays;
    return { waiting: length, held: this.#held, released, waitedMs };
  }

  get memoryBytes(): number {
    return this.#delays.memoryBytes + this.#held * HELD_BYTES;
  }

  /** A packet (1240 bytes, borrowed) has come over a link. */
  handle(slot: LinkSlot, packet: Uint8Array, nowMs: TimeMs): Drop {
    const { context, keys } = this.#deps;
    const { options, counters, host } = context;
    // Who opened a link sends packets over it; the other side opens a link of its own.
    if (!options.relay || slot.link.initiator) return Drop.notAllowed;
    slot.idleSinceMs = nowMs;
    slot.messages ??= this.#sourceOf(slot, nowMs);
    const source = slot.messages;
    if (!source.bucket.has(nowMs) || !this.#bucket.has(nowMs)) return Drop.messageRate;
    source.bucket.take();
    this.#bucket.take();
    if (!this.#delays.hasRoom(source.waiting)) return Drop.messageQueueFull;
    const relay = this.#relay;
    const drop = relay.process(keys.keys, packet);
    if (drop !== Drop.none) return drop;
    counters.messagesIn++;
    const { command } = relay;
    if (command === Command.drop) {
      counters.messageCoverIn++;
      return Drop.none;
    }
    if (command !== Command.forward && !host.takesMessages) return Drop.notAllowed;
    const { bytes, ct } = this.#scratch;
    this.#where.set(relay.nextNodeId);
    ct.set(relay.next);
    if (relay.delayMs === 0) {
      this.release(bytes, command, nowMs);
    } else {
      this.#delays.push(bytes, source, command, relay.delayMs, nowMs);
      source.waiting++;
    }
    return Drop.none;
  }

  /** Sends a packet of ours (1240 bytes, borrowed) to its first hop. */
  send(contact: NodeContact, packet: Uint8Array, nowMs: TimeMs): Drop {
    if (packet.length !== PACKET_BYTES) return Drop.badLength;
    this.#scratch.ct.set(packet);
    const drop = this.#toLink(contact, this.#scratch.bytes, nowMs);
    if (drop === Drop.none) this.#deps.context.counters.messagesOriginated++;
    return drop;
  }

  /** A packet's time has come. */
  release(bytes: Uint8Array, command: Command, nowMs: TimeMs): void {
    const { context } = this.#deps;
    const { counters, host } = context;
    if (command !== Command.forward) {
      counters.messagesDelivered++;
      host.onMessagePacket(eventOf(bytes, command));
      return;
    }
    const nodeId = bytes.subarray(WHERE_AT, WHERE_AT + 32);
    const contact = host.resolve(nodeId);
    const drop = contact === undefined ? Drop.noRoute : this.#toLink(contact, bytes, nowMs);
    if (drop === Drop.none) counters.messagesForward++;
    else counters.drops[drop]!++;
  }

  /** Lets go what is due. */
  releaseDue(nowMs: TimeMs): void {
    this.#delays.release(nowMs, RELEASES_PER_FLUSH);
  }

  nextMs(): TimeMs {
    return this.#delays.nextMs();
  }

  trim(): void {
    this.#delays.trim();
  }

  /** Sends what has waited for the link. */
  linkUp(slot: LinkSlot): void {
    const held = slot.heldMessages;
    if (held === undefined) return;
    slot.heldMessages = undefined;
    this.#held -= held.length;
    for (const bytes of held) this.#commit(slot, bytes);
  }

  linkClosed(slot: LinkSlot): void {
    const waiting = slot.heldMessages?.length ?? 0;
    this.#held -= waiting;
    slot.heldMessages = undefined;
    this.#deps.context.counters.drops[Drop.noRoute]! += waiting;
  }

  /** Another rate for all packets, and for those of each link. */
  setRate(perSecond: number, slots: Iterable<LinkSlot>): void {
    this.#perSecond = perSecond;
    this.#bucket.setRate(perSecond);
    for (const slot of slots) slot.messages?.bucket.setRate(this.#shareOf(slot));
  }

  #shareOf(slot: LinkSlot): number {
    const share = slot.link.nodeId === undefined ? ANONYMOUS_SHARE : NAMED_SHARE;
    return Math.max(1, share * this.#perSecond);
  }

  #sourceOf(slot: LinkSlot, nowMs: TimeMs): MessageSource {
    return new MessageSource(this, this.#shareOf(slot), nowMs);
  }

  #toLink(contact: NodeContact, bytes: Uint8Array, nowMs: TimeMs): Drop {
    const { context } = this.#deps;
    if (context.suite.equal(contact.nodeId, context.options.secrets.nodeId)) return Drop.noRoute;
    const slot = this.#deps.linkTo(contact, nowMs);
    if (slot === undefined || slot.link.state === 'closed') return Drop.noRoute;
    slot.idleSinceMs = nowMs;
    if (slot.link.state === 'up') {
      this.#commit(slot, bytes);
      return Drop.none;
    }
    if (this.#held >= MAX_HELD_IN_ALL || !slot.holdMessage(bytes)) return Drop.messageQueueFull;
    this.#held++;
    return Drop.none;
  }

  /** The cell is sealed and masked when it leaves: the link may have other keys by then. */
  #commit(slot: LinkSlot, bytes: Uint8Array): void {
    const next = slot.peek();
    next.bytes.set(bytes);
    next.bytes[TYPE_OFFSET] = CellType.message;
    next.bytes[PATH_OFFSET] = 0;
    slot.commitCell(next);
  }
}

function eventOf(bytes: Uint8Array, command: Command): MessagePacketEvent {
  if (command === Command.deliver) {
    return { kind: 'message', payload: bytes.subarray(MESSAGE_AT, CT_OFFSET + PACKET_BYTES) };
  }
  const replyId = bytes.subarray(WHERE_AT, WHERE_AT + REPLY_ID_BYTES);
  return { kind: 'reply', replyId, payload: bytes.subarray(REPLY_AT, CT_OFFSET + PACKET_BYTES) };
}
