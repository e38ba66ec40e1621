/**
 * Mailboxes on disk. An entry for each mailbox, `mailbox:ID`: seen (8) ‖ refused (4) ‖ key bundle or nothing; and one for each
 * packet, `packet:ID:SEQUENCE`: came (8) ‖ record. Times in Unix milliseconds. What comes and is taken within a moment never
 * gets there.
 */
import { readNumber, writeNumber } from '@nyx/core/directory/bytes.ts';
import type { HeldPacket, KeptMailbox, Mailboxes, MailboxJournal } from '@nyx/core/messages/mailboxes.ts';
import type { NodeContext } from '../actors/context.ts';
import type { SealedStore } from './sealed-store.ts';

const TIME_BYTES = 8;
const SEEN_BYTES = TIME_BYTES + 4;
const MAILBOX = /^mailbox:([0-9a-f]{64})$/;
const PACKET = /^packet:([0-9a-f]{64}):(\d{1,15})$/;

export class StoredMailboxes implements MailboxJournal {
  readonly #store: SealedStore;
  readonly #context: Pick<NodeContext, 'timers' | 'unixMs'>;

  constructor(store: SealedStore, context: Pick<NodeContext, 'timers' | 'unixMs'>) {
    this.#store = store;
    this.#context = context;
  }

  keepMailbox({ name, bundle, refused, seenMs }: KeptMailbox): void {
    const content = new Uint8Array(SEEN_BYTES + (bundle?.length ?? 0));
    writeNumber(content, 0, this.#unixOf(seenMs), TIME_BYTES);
    writeNumber(content, TIME_BYTES, Math.min(refused, 2 ** 32 - 1), 4);
    if (bundle !== undefined) content.set(bundle, SEEN_BYTES);
    this.#store.put(`mailbox:${name}`, content);
  }

  keepPacket(mailbox: string, { sequence, record, atMs }: HeldPacket): void {
    const content = new Uint8Array(TIME_BYTES + record.length);
    writeNumber(content, 0, this.#unixOf(atMs), TIME_BYTES);
    content.set(record, TIME_BYTES);
    this.#store.put(`packet:${mailbox}:${sequence}`, content);
  }

  forgetPacket(mailbox: string, sequence: number): void {
    this.#store.remove(`packet:${mailbox}:${sequence}`);
  }

  forgetMailbox(mailbox: string): void {
    this.#store.remove(`mailbox:${mailbox}`);
  }

  /** Puts what is on disk into the mailboxes, as far as there is room and time for it. The rest is erased. */
  restore(mailboxes: Mailboxes): void {
    const kept = new Map<string, KeptMailbox>();
    const packets = new Map<string, HeldPacket[]>();
    for (const { name, content } of this.#store.load()) {
      const id = MAILBOX.exec(name)?.[1];
      const [, owner, sequence] = PACKET.exec(name) ?? [];
      if (id !== undefined && content.length >= SEEN_BYTES) {
        kept.set(id, {
          id: Uint8Array.fromHex(id),
          name: id,
          bundle: content.length > SEEN_BYTES ? content.slice(SEEN_BYTES) : undefined,
          refused: readNumber(content, TIME_BYTES, 4),
          seenMs: this.#timeOf(readNumber(content, 0, TIME_BYTES)),
        });
      } else if (owner !== undefined && content.length > TIME_BYTES) {
        const atMs = this.#timeOf(readNumber(content, 0, TIME_BYTES));
        const packet = { sequence: Number(sequence), record: content.slice(TIME_BYTES), atMs };
        const others = packets.get(owner);
        if (others === undefined) packets.set(owner, [packet]);
        else others.push(packet);
      } else {
        this.#store.remove(name);
      }
    }
    const nowMs = this.#context.timers.nowMs();
    for (const [name, mailbox] of kept) {
      const held = (packets.get(name) ?? []).sort((a, b) => a.sequence - b.sequence);
      if (!mailboxes.restore(mailbox, held, nowMs)) continue;
      kept.delete(name);
      packets.delete(name);
    }
    for (const name of kept.keys()) this.forgetMailbox(name);
    for (const [name, held] of packets) for (const { sequence } of held) this.forgetPacket(name, sequence);
  }

  #unixOf(timeMs: number): number {
    const { timers, unixMs } = this.#context;
    return Math.max(0, Math.round(unixMs() - (timers.nowMs() - timeMs)));
  }

  /** A clock that was put back makes nothing younger than now. */
  #timeOf(unixMs: number): number {
    const { timers, unixMs: now } = this.#context;
    return timers.nowMs() - Math.max(0, now() - unixMs);
  }
}
