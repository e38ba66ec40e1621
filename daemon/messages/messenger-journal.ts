/**
 * The messenger's journal on disk, an entry for each of its own, `KIND:NAME`: header length (4) ‖ header, JSON ‖ bytes. Times in
 * Unix milliseconds.
 */
import { readNumber, writeNumber } from '@nyx/core/directory/bytes.ts';
import { MessageState } from '@nyx/core/messages/answer-seal.ts';
import type { KeptEntry, KeptKind, MessengerJournal } from '@nyx/core/messages/messenger-journal.ts';
import type { NodeContext } from '../actors/context.ts';
import type { SealedStore, StoredEntry } from './sealed-store.ts';

const LENGTH_BYTES = 4;

export type Header = Readonly<Record<string, string | number | boolean | undefined>>;

export function packEntry(header: Header, bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(JSON.stringify(header));
  const packed = new Uint8Array(LENGTH_BYTES + text.length + bytes.length);
  writeNumber(packed, 0, text.length, LENGTH_BYTES);
  packed.set(text, LENGTH_BYTES);
  packed.set(bytes, LENGTH_BYTES + text.length);
  return packed;
}

/** Throws when it is none. Views. */
export function unpackEntry(packed: Uint8Array): { readonly header: Header; readonly bytes: Uint8Array } {
  const end = LENGTH_BYTES + readNumber(packed, 0, LENGTH_BYTES);
  const header = JSON.parse(Buffer.from(packed.subarray(LENGTH_BYTES, end)).toString()) as Header;
  return { header, bytes: packed.subarray(end) };
}

export class StoredMessenger implements MessengerJournal {
  readonly #store: SealedStore;
  readonly #context: Pick<NodeContext, 'timers' | 'unixMs'>;

  constructor(store: SealedStore, context: Pick<NodeContext, 'timers' | 'unixMs'>) {
    this.#store = store;
    this.#context = context;
  }

  keep(entry: KeptEntry): void {
    const [header, bytes] = this.#split(entry);
    this.#store.put(`${entry.kind}:${entry.name}`, packEntry(header, bytes));
  }

  forget(kind: KeptKind, name: string): void {
    this.#store.remove(`${kind}:${name}`);
  }

  /** What was kept, messages that came oldest first. Entries of other kinds are left out. */
  read(entries: readonly StoredEntry[]): KeptEntry[] {
    const kept: { readonly entry: KeptEntry; readonly atMs: number }[] = [];
    for (const { name, content } of entries) {
      const at = name.indexOf(':');
      const kind = name.slice(0, at);
      if (!isKind(kind)) continue;
      const { header, bytes } = unpackEntry(content);
      kept.push({ entry: this.#join(kind, name.slice(at + 1), header, bytes), atMs: Number(header.atUnixMs ?? 0) });
    }
    return kept.sort((a, b) => a.atMs - b.atMs).map(({ entry }) => entry);
  }

  #split(entry: KeptEntry): [Header, Uint8Array] {
    const none = new Uint8Array(0);
    const atUnixMs = this.#context.unixMs();
    switch (entry.kind) {
      case 'waiting':
      case 'outgoing': {
        const to = {
          atUnixMs,
          nodeId: hex(entry.nodeId),
          mailboxId: hex(entry.mailboxId),
          deadlineUnixMs: Math.round(atUnixMs + entry.deadlineMs - this.#context.timers.nowMs()),
        };
        if (entry.kind === 'waiting') return [to, entry.content];
        return [{ ...to, x25519: hex(entry.x25519) }, entry.blob];
      }
      case 'sent':
        return [{ atUnixMs }, none];
      case 'answer':
        return [{ atUnixMs, last: entry.last }, entry.payload];
      case 'used':
        return [{ atUnixMs, expires: entry.expires }, none];
      case 'finished':
        return [{ atUnixMs, state: entry.state }, none];
    }
  }

  #join(kind: KeptKind, name: string, header: Header, bytes: Uint8Array): KeptEntry {
    switch (kind) {
      case 'waiting':
      case 'outgoing': {
        const { timers, unixMs } = this.#context;
        const to = {
          name,
          nodeId: Uint8Array.fromHex(String(header.nodeId)),
          mailboxId: Uint8Array.fromHex(String(header.mailboxId)),
          deadlineMs: timers.nowMs() + Number(header.deadlineUnixMs) - unixMs(),
        };
        if (kind === 'waiting') return { kind, ...to, content: bytes.slice() };
        return { kind, ...to, x25519: Uint8Array.fromHex(String(header.x25519)), blob: bytes.slice() };
      }
      case 'sent':
        return { kind, name };
      case 'answer':
        return { kind, name, payload: bytes.slice(), last: header.last === true };
      case 'used':
        return { kind, name, expires: Number(header.expires) };
      case 'finished':
        return {
          kind,
          name,
          state: header.state === MessageState.stored ? MessageState.stored : MessageState.notOpened,
        };
    }
  }
}

const kinds: readonly string[] = ['waiting', 'outgoing', 'sent', 'answer', 'used', 'finished'] satisfies KeptKind[];

function isKind(text: string): text is KeptKind {
  return kinds.includes(text);
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
