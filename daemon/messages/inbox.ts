/**
 * Messages that have come and wait for the application, one file each by SealedFiles. A message is acknowledged to its sender
 * once it is on disk, and erased once the application has acknowledged it. Given to one reader at a time: what he does not
 * acknowledge, the next one gets.
 */
import { readdirSync } from 'node:fs';
import { KeyStoreError, KeyStoreErrorCode, type SealedFiles } from '../directory/sealed-files.ts';

const PREFIX = 'message-';
const NAME = /^message-[0-9a-f]{32}$/;
const MAX_MESSAGES = 4096;
/** Letters of the mailbox's name that the id of its message begins with. */
const TAG_LETTERS = 16;
/** A file's share beside the content. */
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
  readonly file: string;
  readonly sizeBytes: number;
}

export class Inbox {
  readonly #files: Pick<SealedFiles, 'read' | 'write' | 'remove' | 'folder'>;
  readonly #maxBytes: number;
  /** Oldest first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #last = 0;
  #reader: (() => void) | undefined;

  constructor(files: Pick<SealedFiles, 'read' | 'write' | 'remove' | 'folder'>, maxBytes: number) {
    this.#files = files;
    this.#maxBytes = maxBytes;
    const names = readdirSync(files.folder).filter((name) => NAME.test(name));
    // The names begin with a time and a count: as text they are in order.
    for (const file of names.toSorted()) {
      const message = this.#readFile(file);
      if (message === undefined) continue;
      this.#enter(message.id, { file, sizeBytes: HEADER_BYTES + message.content.length });
      this.#last = Math.max(this.#last, Number.parseInt(file.slice(PREFIX.length + 12, PREFIX.length + 32), 16));
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
    for (const [id, { file }] of this.#entries) {
      const mailbox = this.#readFile(file)?.mailbox;
      if (mailbox !== undefined) yield { mailbox, id: id.slice(TAG_LETTERS) };
    }
  }

  /** Writes it to disk. False: there is no room. */
  store(message: StoredMessage): boolean {
    const sizeBytes = HEADER_BYTES + message.content.length;
    if (this.#entries.size >= MAX_MESSAGES || this.#bytes + sizeBytes > this.#maxBytes) return false;
    if (this.#entries.has(message.id)) return true;
    const time = message.receivedUnixMs.toString(16).padStart(12, '0');
    const count = (++this.#last).toString(16).padStart(20, '0');
    const file = `${PREFIX}${time}${count}`;
    const header = Buffer.from(
      JSON.stringify({
        id: message.id,
        mailbox: message.mailbox,
        replyBlock: message.replyBlock,
        receivedUnixMs: message.receivedUnixMs,
      }),
    );
    const length = Buffer.alloc(4);
    length.writeUInt32BE(header.length);
    this.#files.write(file, Buffer.concat([length, header, message.content]));
    this.#enter(message.id, { file, sizeBytes });
    this.#reader?.();
    return true;
  }

  /** Ids of what waits, oldest first. */
  ids(): readonly string[] {
    return [...this.#entries.keys()];
  }

  read(id: string): StoredMessage | undefined {
    const entry = this.#entries.get(id);
    return entry && this.#readFile(entry.file);
  }

  /** The application has it: erased. False: there is none of that id. */
  acknowledge(id: string): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    this.#entries.delete(id);
    this.#bytes -= entry.sizeBytes;
    this.#files.remove(entry.file);
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

  #readFile(file: string): StoredMessage | undefined {
    const bytes = this.#files.read(file);
    if (bytes === undefined || bytes.length < 4) return undefined;
    const headerEnd = 4 + bytes.readUInt32BE(0);
    let header: Omit<StoredMessage, 'content'>;
    try {
      header = JSON.parse(bytes.toString('utf8', 4, headerEnd)) as Omit<StoredMessage, 'content'>;
    } catch {
      const path = `${this.#files.folder}/${file}`;
      throw new KeyStoreError(KeyStoreErrorCode.corrupt, `${path} is no message; move it away`);
    }
    const { id, mailbox, replyBlock, receivedUnixMs } = header;
    return { id, mailbox, replyBlock, receivedUnixMs, content: new Uint8Array(bytes.subarray(headerEnd)) };
  }
}
