/**
 * Messages on their way: which packet the next sending slot carries. Pure; the slots are the messenger's, and nothing here
 * changes when they are.
 *
 * All fragments of a message are sent once, then the recipient is asked what has arrived (with the last fragment where a
 * reply block fits beside it, else in a packet of its own). His answer says which fragments to send again; without one he
 * is asked again after a time that grows. At the deadline it is over.
 */
import type { TimeMs } from '../ports.ts';
import { MessageState, type MessageStatus } from './answer-seal.ts';
import { MessageError, MessageErrorCode } from './message-error.ts';
import { FRAGMENT_BESIDE_REPLY_BYTES, FRAGMENT_BYTES } from './packet.ts';

export interface OutboxOptions {
  /** Messages on their way at once. */
  readonly maxMessages: number;
  readonly maxBytes: number;
  /** From asking to asking again, the first time. */
  readonly askAgainMs: number;
}

const MAX_ASK_AGAIN_MS = 60_000;
const ASK_AGAIN_GROWTH = 1.5;

export interface OutgoingMessage {
  /** Hex of the message id. */
  readonly name: string;
  /** Sealed. */
  readonly blob: Uint8Array;
  readonly deadlineMs: TimeMs;
  /** Before a restart all of it left once: the recipient is asked first what he has. */
  readonly sentBefore?: boolean;
}

/** What a slot can carry. `asks`: with a reply block. */
export interface OutgoingPacket {
  readonly name: string;
  readonly index: number;
  readonly count: number;
  /** Empty where it only asks. */
  readonly data: Uint8Array;
  readonly asks: boolean;
}

export type OutboxEvent =
  /** Every fragment has left once. */
  | { readonly kind: 'sent'; readonly name: string }
  | { readonly kind: 'acknowledged'; readonly name: string }
  | { readonly kind: 'failed'; readonly name: string; readonly error: MessageError };

interface Entry {
  readonly message: OutgoingMessage;
  readonly count: number;
  /** Fragments to send, in this order. */
  pending: number[];
  /** All fragments are out and the recipient has to be asked. */
  mustAsk: boolean;
  askAgainAtMs: TimeMs;
  askAgainMs: number;
  sentOnce: boolean;
  /** Packets of it that have left, repetitions among them. */
  packetsSent: number;
}

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #onEvent: (event: OutboxEvent) => void;
  /** The one whose turn is next comes first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(options: OutboxOptions, onEvent: (event: OutboxEvent) => void) {
    this.#options = options;
    this.#onEvent = onEvent;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Packets that left and that there are; undefined: it is over. */
  progress(name: string): { readonly sent: number; readonly total: number } | undefined {
    const entry = this.#entries.get(name);
    return entry && { sent: entry.packetsSent, total: entry.count };
  }

  /** Throws MessageError LIMIT. */
  submit(message: OutgoingMessage): void {
    const { maxMessages, maxBytes } = this.#options;
    if (this.#entries.size >= maxMessages || this.#bytes + message.blob.length > maxBytes) {
      throw new MessageError(
        MessageErrorCode.limit,
        `${this.#entries.size} messages of ${this.#bytes} bytes are on their way; at most ${maxMessages} of ${maxBytes} may be`,
      );
    }
    const count = Math.ceil(message.blob.length / FRAGMENT_BYTES);
    const sentOnce = message.sentBefore ?? false;
    this.#bytes += message.blob.length;
    this.#entries.set(message.name, {
      message,
      count,
      pending: sentOnce ? [] : Array.from({ length: count }, (_, i) => i),
      mustAsk: sentOnce,
      askAgainAtMs: Number.POSITIVE_INFINITY,
      askAgainMs: this.#options.askAgainMs,
      sentOnce,
      packetsSent: 0,
    });
  }

  /** The packet for the next slot; messages take turns. Undefined: nothing has to be sent. */
  next(nowMs: TimeMs): OutgoingPacket | undefined {
    for (const entry of this.#entries.values()) {
      const packet = packetOf(entry, nowMs);
      if (packet !== undefined) return packet;
    }
    return undefined;
  }

  /** The packet that next() gave has left. */
  sent(packet: OutgoingPacket, nowMs: TimeMs): void {
    const entry = this.#entries.get(packet.name);
    if (entry === undefined) return;
    entry.packetsSent++;
    if (packet.index < packet.count) entry.pending.shift();
    if (packet.asks) {
      entry.mustAsk = false;
      entry.askAgainAtMs = nowMs + entry.askAgainMs;
      entry.askAgainMs = Math.min(MAX_ASK_AGAIN_MS, entry.askAgainMs * ASK_AGAIN_GROWTH);
    } else if (entry.pending.length === 0) {
      entry.mustAsk = true;
    }
    this.#toTheEnd(entry);
    if (entry.pending.length === 0 && !entry.sentOnce) {
      entry.sentOnce = true;
      this.#onEvent({ kind: 'sent', name: packet.name });
    }
  }

  /** The packet could not be sent: others go first. */
  postponed(packet: OutgoingPacket): void {
    const entry = this.#entries.get(packet.name);
    if (entry !== undefined) this.#toTheEnd(entry);
  }

  /** The recipient's answer. One for a message that is over comes to nothing. */
  handleStatus(name: string, { state, has }: MessageStatus): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    if (state === MessageState.stored) {
      this.#finish(entry);
      this.#onEvent({ kind: 'acknowledged', name });
    } else if (state === MessageState.notOpened) {
      this.#fail(entry, MessageErrorCode.notOpened, 'none of the recipient’s keys opens it; its keys may have changed');
    } else {
      if (state === MessageState.noRoom) {
        // Everything again, but not before it is asked again.
        entry.pending = [];
        return;
      }
      const missing = [];
      for (let i = 0; i < entry.count; i++) if (!has(i)) missing.push(i);
      // What has not been sent at all yet is still to come.
      if (!entry.sentOnce) return;
      entry.pending = missing;
      entry.mustAsk = missing.length === 0;
      entry.askAgainMs = this.#options.askAgainMs;
      entry.askAgainAtMs = Number.POSITIVE_INFINITY;
    }
  }

  /** Ends it; false: it was over. */
  cancel(name: string): boolean {
    const entry = this.#entries.get(name);
    if (entry === undefined) return false;
    this.#fail(entry, MessageErrorCode.cancelled, 'it was given up');
    return true;
  }

  /** Fails what is beyond its deadline. Call it at every slot, and every second or so. */
  expire(nowMs: TimeMs): void {
    for (const entry of [...this.#entries.values()]) {
      if (nowMs < entry.message.deadlineMs) continue;
      const sent = `${entry.packetsSent} packets of it were sent`;
      this.#fail(
        entry,
        MessageErrorCode.notAcknowledged,
        `not acknowledged in time; ${sent}, it may have arrived or not`,
      );
    }
  }

  #fail(entry: Entry, code: MessageErrorCode, message: string): void {
    this.#finish(entry);
    this.#onEvent({ kind: 'failed', name: entry.message.name, error: new MessageError(code, message) });
  }

  #finish(entry: Entry): void {
    if (this.#entries.delete(entry.message.name)) this.#bytes -= entry.message.blob.length;
  }

  #toTheEnd(entry: Entry): void {
    const { name } = entry.message;
    if (!this.#entries.delete(name)) return;
    this.#entries.set(name, entry);
  }
}

function packetOf(entry: Entry, nowMs: TimeMs): OutgoingPacket | undefined {
  const { message, count, pending } = entry;
  const [index] = pending;
  const packet = { name: message.name, count };
  if (index !== undefined) {
    const data = message.blob.subarray(index * FRAGMENT_BYTES, (index + 1) * FRAGMENT_BYTES);
    const asks = pending.length === 1 && data.length <= FRAGMENT_BESIDE_REPLY_BYTES;
    return { ...packet, index, data, asks };
  }
  const due = entry.mustAsk || nowMs >= entry.askAgainAtMs;
  return due ? { ...packet, index: count, data: new Uint8Array(0), asks: true } : undefined;
}
