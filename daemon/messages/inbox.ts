/**
 * Messages that have come and wait for the application, an entry each in the store, `inbox:ID`. A message is acknowledged to its
 * sender once it is on disk, and erased once the application has acknowledged it. Given to one reader at a time: what he does
 * not acknowledge, the next one gets.
 */
import { packEntry, unpackEntry } from './messenger-journal.ts';
import type { SealedStore, StoredEntry } from './sealed-store.ts';

const PREFIX = 'inbox:';
const MAX_MESSAGES = 4096;
/** Letters of the mailbox's name that the id of its message begins with. */
const TAG_LETTERS = 16;
/** An entry's share beside the content. */
const HEADER_BYTES = 1 + 32 + 8;

/** Of a message that came to a mailbox: both may be of others' choice, so neither alone would do. */
export function storedId(mailbox: string, id: string): string {
  return mailbox.slice(0, TAG_LETTERS) + id;
}

export interface StoredMessage {
  /** Unique in this node, hex. */
  readonly id: string;
  /** Hex of the mailbox it came to; undefined: it is an anonymous reply. */
  readonly mailbox: string | undefined;
  /** The reply block that it came over, as CreateReplyBlock named it. */
  readonly replyBlock: string | undefined;
  readonly receivedUnixMs: number;
  readonly content: Uint8Array;
}

interface Entry {
  /** Hex of the mailbox; undefined: it is an anonymous reply. */
  readonly mailbox: string | undefined;
  readonly sizeBytes: number;
}

export class Inbox {
  readonly #store: SealedStore;
  /** Beyond it nothing is stored. */
  maxBytes: number;
  /** Oldest first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  /** Number of the newest message. */
  #last = 0;
  #reader: (() => void) | undefined;

  /** `entries`: all that is in the store, others' as well. */
  constructor(store: SealedStore, entries: readonly StoredEntry[], maxBytes: number) {
    this.#store = store;
    this.maxBytes = maxBytes;
    const kept = entries.flatMap(({ name, content }) => {
      if (!name.startsWith(PREFIX)) return [];
      const { header, bytes } = unpackEntry(content);
      const mailbox = header.mailbox === undefined ? undefined : String(header.mailbox);
      const entry = { mailbox, sizeBytes: HEADER_BYTES + bytes.length };
      return [{ id: name.slice(PREFIX.length), number: Number(header.number), entry }];
    });
    for (const { id, number, entry } of kept.sort((a, b) => a.number - b.number)) {
      this.#enter(id, entry);
      this.#last = Math.max(this.#last, number);
    }
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Of the messages that wait: from which mailbox, and which. */
  *known(): Generator<{ readonly mailbox: string; readonly id: string }> {
    for (const [id, { mailbox }] of this.#entries) {
      if (mailbox !== undefined) yield { mailbox, id: id.slice(TAG_LETTERS) };
    }
  }

  /** Writes it to disk. False: there is no room, or the disk refuses. */
  store(message: StoredMessage): boolean {
    const { id, mailbox, replyBlock, receivedUnixMs, content } = message;
    const sizeBytes = HEADER_BYTES + content.length;
    if (this.#entries.has(id)) return true;
    if (this.#entries.size >= MAX_MESSAGES || this.#bytes + sizeBytes > this.maxBytes) return false;
    const header = { mailbox, replyBlock, receivedUnixMs, number: ++this.#last };
    if (!this.#store.put(PREFIX + id, packEntry(header, content))) return false;
    if (!this.#store.commit()) {
      this.#store.remove(PREFIX + id);
      return false;
    }
    this.#enter(id, { mailbox, sizeBytes });
    this.#reader?.();
    return true;
  }

  /** Ids of what waits, oldest first. */
  ids(): readonly string[] {
    return [...this.#entries.keys()];
  }

  read(id: string): StoredMessage | undefined {
    const packed = this.#entries.has(id) ? this.#store.get(PREFIX + id) : undefined;
    if (packed === undefined) return undefined;
    const { header, bytes } = unpackEntry(packed);
    const { mailbox, replyBlock, receivedUnixMs } = header;
    return {
      id,
      mailbox: mailbox === undefined ? undefined : String(mailbox),
      replyBlock: replyBlock === undefined ? undefined : String(replyBlock),
      receivedUnixMs: Number(receivedUnixMs),
      content: bytes.slice(),
    };
  }

  /** The application has it: erased. False: there is none of that id. */
  acknowledge(id: string): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    this.#entries.delete(id);
    this.#bytes -= entry.sizeBytes;
    this.#store.remove(PREFIX + id);
    // There is room for another one with the reader.
    this.#reader?.();
    return true;
  }

  /** Calls when a message has come or was acknowledged; gives what ends that. Undefined: there is a reader already. */
  watch(onMessage: () => void): (() => void) | undefined {
    if (this.#reader !== undefined) return undefined;
    this.#reader = onMessage;
    return () => {
      if (this.#reader === onMessage) this.#reader = undefined;
    };
  }

  #enter(id: string, entry: Entry): void {
    this.#entries.set(id, entry);
    this.#bytes += entry.sizeBytes;
  }
}
