/**
 * This node's own message addresses and their keys, on disk by SealedFiles. Each has an owner key, which its mailbox's id is
 * the hash of, and generations of sealing keys: the newest is published, the ones before stay until nothing sealed to them
 * can be on its way any more, and are then erased for good.
 */

import type { CryptoSuite, SignKeyPair } from '@nyx/core/crypto/suite.ts';
import { mailboxIdOf } from '@nyx/core/messages/address.ts';
import { signKeyBundle } from '@nyx/core/messages/key-bundle.ts';
import type { SealSecrets } from '@nyx/core/messages/seal.ts';
import type { Random, UnixSeconds } from '@nyx/core/ports.ts';
import { KeyStoreError, KeyStoreErrorCode, type SealedFiles } from '../directory/sealed-files.ts';

const FILE = 'messages.key';
const VERSION = 1;
export const MAX_ADDRESSES = 64;
const MAX_GENERATIONS = 4;
const MAX_LABEL = 64;
/** Keys are published for a week, and made anew when half of it is over. */
const LIFETIME_SECONDS = 7 * 86_400;
const RENEW_SECONDS = LIFETIME_SECONDS / 2;
/** What was sealed on the last day may lie in a mailbox for another two. */
const KEEP_SECONDS = 2 * 86_400;
/** Clocks differ. */
const EARLY_SECONDS = 300;

interface Generation {
  readonly x25519: Uint8Array;
  readonly kem: Uint8Array;
  readonly from: UnixSeconds;
  readonly until: UnixSeconds;
}

interface Secrets {
  readonly ownerSeed: Uint8Array;
  generations: Generation[];
}

/** One of our mailboxes. */
export class OwnMailbox {
  readonly owner: SignKeyPair;
  /** 32 bytes each. */
  readonly mailboxId: Uint8Array;
  readonly nodeId: Uint8Array;
  /** Hex of the id. */
  readonly name: string;
  readonly label: string;
  readonly createdAt: UnixSeconds;
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  readonly #secrets: Secrets;
  /** Newest first. */
  #pairs: SealSecrets[] = [];

  constructor(
    suite: CryptoSuite,
    random: Random,
    init: { nodeId: Uint8Array; label: string; createdAt: UnixSeconds; secrets?: Secrets },
  ) {
    this.#suite = suite;
    this.#random = random;
    this.nodeId = init.nodeId;
    this.label = init.label;
    this.createdAt = init.createdAt;
    this.#secrets = init.secrets ?? { ownerSeed: this.#fresh(32), generations: [] };
    this.owner = suite.ed25519(this.#secrets.ownerSeed);
    this.mailboxId = mailboxIdOf(this.owner.publicKey, suite);
    this.name = Buffer.from(this.mailboxId).toString('hex');
    this.#makePairs();
  }

  /** What packets may be sealed to, newest first. */
  get secrets(): readonly SealSecrets[] {
    return this.#pairs;
  }

  /** Makes and erases generations as is due. True: they have changed. */
  renew(now: UnixSeconds): boolean {
    const held = this.#secrets.generations;
    const kept = held.filter(({ until }) => now < until + KEEP_SECONDS);
    const [newest] = kept;
    if (newest === undefined || now >= newest.from + EARLY_SECONDS + RENEW_SECONDS) {
      const from = now - EARLY_SECONDS;
      kept.unshift({ x25519: this.#fresh(32), kem: this.#fresh(64), from, until: from + LIFETIME_SECONDS });
    }
    const next = kept.slice(0, MAX_GENERATIONS);
    if (next.length === held.length && next.every((generation, i) => generation === held[i])) return false;
    for (const gone of held) if (!next.includes(gone)) this.#suite.wipe(gone.x25519, gone.kem);
    this.#secrets.generations = next;
    this.#makePairs();
    return true;
  }

  /** The newest keys, signed, as they are published. */
  bundle(): Uint8Array {
    const [pair] = this.#pairs;
    const [{ from, until }] = this.#secrets.generations as [Generation];
    return signKeyBundle({ x25519: pair!.dh.publicKey, kem: pair!.kem.publicKey, from, until }, this.owner);
  }

  toJson(): Record<string, unknown> {
    const { ownerSeed, generations } = this.#secrets;
    return {
      nodeId: hex(this.nodeId),
      label: this.label,
      createdAt: this.createdAt,
      ownerSeed: hex(ownerSeed),
      generations: generations.map(({ x25519, kem, from, until }) => ({
        x25519: hex(x25519),
        kem: hex(kem),
        from,
        until,
      })),
    };
  }

  wipe(): void {
    this.owner.wipe();
    this.#suite.wipe(this.#secrets.ownerSeed);
    for (const { x25519, kem } of this.#secrets.generations) this.#suite.wipe(x25519, kem);
    this.#secrets.generations = [];
    this.#makePairs();
  }

  #makePairs(): void {
    for (const { dh, kem } of this.#pairs) {
      dh.wipe();
      kem.wipe();
    }
    this.#pairs = this.#secrets.generations.map(({ x25519, kem }) => ({
      mailboxId: this.mailboxId,
      dh: this.#suite.x25519(x25519),
      kem: this.#suite.mlkem768(kem),
    }));
  }

  #fresh(lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes);
    this.#random.fill(bytes);
    return bytes;
  }
}

export class AddressBook {
  readonly #files: Pick<SealedFiles, 'read' | 'write' | 'folder'>;
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  readonly #mailboxes = new Map<string, OwnMailbox>();

  /** Reads what is on disk. Throws KeyStoreError. */
  constructor(files: Pick<SealedFiles, 'read' | 'write' | 'folder'>, suite: CryptoSuite, random: Random) {
    this.#files = files;
    this.#suite = suite;
    this.#random = random;
    const bytes = files.read(FILE);
    if (bytes === undefined) return;
    try {
      for (const entry of parse(bytes)) {
        const mailbox = new OwnMailbox(suite, random, entry);
        this.#mailboxes.set(mailbox.name, mailbox);
      }
    } catch (error) {
      throw new KeyStoreError(
        KeyStoreErrorCode.corrupt,
        `${files.folder}/${FILE} can't be read (${(error as Error).message}); restore it from a backup`,
      );
    } finally {
      suite.wipe(bytes);
    }
  }

  get size(): number {
    return this.#mailboxes.size;
  }

  list(): readonly OwnMailbox[] {
    return [...this.#mailboxes.values()];
  }

  get(name: string): OwnMailbox | undefined {
    return this.#mailboxes.get(name);
  }

  create(nodeId: Uint8Array, label: string, now: UnixSeconds): OwnMailbox {
    const mailbox = new OwnMailbox(this.#suite, this.#random, { nodeId, label, createdAt: now });
    mailbox.renew(now);
    this.#mailboxes.set(mailbox.name, mailbox);
    this.#write();
    return mailbox;
  }

  /** False: there is none of that name. */
  remove(name: string): boolean {
    const mailbox = this.#mailboxes.get(name);
    if (mailbox === undefined) return false;
    this.#mailboxes.delete(name);
    this.#write();
    mailbox.wipe();
    return true;
  }

  /** Renews what is due; gives those whose keys have changed. */
  renew(now: UnixSeconds): readonly OwnMailbox[] {
    const changed = this.list().filter((mailbox) => mailbox.renew(now));
    if (changed.length > 0) this.#write();
    return changed;
  }

  wipe(): void {
    for (const mailbox of this.#mailboxes.values()) mailbox.wipe();
    this.#mailboxes.clear();
  }

  #write(): void {
    const mailboxes = this.list().map((mailbox) => mailbox.toJson());
    const bytes = Buffer.from(JSON.stringify({ version: VERSION, mailboxes }));
    this.#files.write(FILE, bytes);
    this.#suite.wipe(bytes);
  }
}

type Entry = ConstructorParameters<typeof OwnMailbox>[2];

function parse(bytes: Buffer): Entry[] {
  const value = JSON.parse(bytes.toString('utf8')) as { version?: unknown; mailboxes?: unknown };
  if (value.version !== VERSION || !Array.isArray(value.mailboxes)) throw new Error(`it is not of version ${VERSION}`);
  if (value.mailboxes.length > MAX_ADDRESSES) throw new Error(`it has ${value.mailboxes.length} addresses`);
  return value.mailboxes.map((entry: Record<string, unknown>) => {
    const { generations } = entry;
    if (!Array.isArray(generations) || generations.length > MAX_GENERATIONS) throw new Error('an address without keys');
    return {
      nodeId: fromHex(entry.nodeId, 32),
      label: typeof entry.label === 'string' ? entry.label.slice(0, MAX_LABEL) : '',
      createdAt: integer(entry.createdAt),
      secrets: {
        ownerSeed: fromHex(entry.ownerSeed, 32),
        generations: generations.map((generation: Record<string, unknown>) => ({
          x25519: fromHex(generation.x25519, 32),
          kem: fromHex(generation.kem, 64),
          from: integer(generation.from),
          until: integer(generation.until),
        })),
      },
    };
  });
}

function fromHex(value: unknown, lengthBytes: number): Uint8Array {
  if (typeof value !== 'string' || value.length !== 2 * lengthBytes)
    throw new Error(`a key has not ${lengthBytes} bytes`);
  return Uint8Array.fromHex(value);
}

function integer(value: unknown): number {
  if (!Number.isSafeInteger(value)) throw new Error('a time is no whole number');
  return value as number;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
