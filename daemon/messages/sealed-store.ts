/**
 * What the message lane keeps over a restart: named entries in one SQLite file. Names and contents are sealed under a key
 * that lies in the node's private files (and is encrypted there if there is a passphrase), so that the file tells nothing but
 * how many entries there are and how long. Each entry is sealed with a key of its own, drawn from fresh random bytes: no
 * nonce can come twice, whatever a crash undoes. The name is authenticated with the content; an old entry put back for a newer
 * one of the same name is not noticed.
 *
 * What is put and removed is written in one transaction a little later (COMMIT_MS), or at once by commit(); of what comes and
 * goes in between nothing is written at all. A file that can't be read is moved away and a new one begun.
 */
import { chmodSync, existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { EMPTY, nyxLabel, ZERO_NONCE } from '@nyx/core/crypto/key-schedule.ts';
import { AEAD_KEY_BYTES, AEAD_TAG_BYTES, type CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { joinBytes, readNumber, writeNumber } from '@nyx/core/directory/bytes.ts';
import type { Random } from '@nyx/core/ports.ts';
import { KeyStoreError, KeyStoreErrorCode, type SealedFiles } from '../directory/sealed-files.ts';

const KEY_FILE = 'messages-store.key';
const SALT_BYTES = 32;
const SEALED_BYTES = SALT_BYTES + AEAD_TAG_BYTES;
const NAME_LENGTH_BYTES = 2;
/** What was put or removed is in the file after this, if the disk takes it. */
const COMMIT_MS = 200;
/** A transaction is not made larger than this; and so much may wait for a disk that refuses to write. */
const MAX_PENDING = 1024;
const MAX_PENDING_BYTES = 16 * 1024 * 1024;

const schema = (durable: boolean) => `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = ${durable ? 'FULL' : 'NORMAL'};
  PRAGMA journal_size_limit = 1048576;
  PRAGMA secure_delete = ON;
  PRAGMA cache_size = -1024;
  CREATE TABLE IF NOT EXISTS entries (name BLOB PRIMARY KEY, sealed BLOB NOT NULL);
`;

export interface StoredEntry {
  readonly name: string;
  readonly content: Uint8Array;
}

export interface SealedStoreOptions {
  /** Of the file, without its ending. */
  readonly name: 'messages' | 'mailboxes';
  /** commit() returns when the disk has it; otherwise a loss of power (not a crash) may cost the last seconds. */
  readonly durable: boolean;
}

export interface SealedStoreDependencies {
  readonly files: Pick<SealedFiles, 'read' | 'write' | 'folder'>;
  readonly suite: CryptoSuite;
  readonly random: Random;
  /** Calls once after this time. */
  after(delayMs: number, callback: () => void): void;
  /** What was found damaged or could not be written; said once until it is over. */
  onProblem(problem: string): void;
}

export class SealedStore {
  readonly #deps: SealedStoreDependencies;
  readonly #key: Uint8Array;
  readonly #nameKey: Uint8Array;
  readonly #database: DatabaseSync;
  readonly #put: StatementSync;
  readonly #remove: StatementSync;
  /** By name: what is to be written; undefined: to be removed. */
  readonly #pending = new Map<string, Uint8Array | undefined>();
  #pendingBytes = 0;
  #armed = false;
  #failing = false;
  #removedSinceSweep = false;
  #closed = false;
  /** What is wrong with it; empty: nothing. */
  problem = '';

  /** Throws KeyStoreError: PERMISSIONS (its key's file is not private), IO (in use, or the disk fails). */
  constructor(options: SealedStoreOptions, deps: SealedStoreDependencies) {
    this.#deps = deps;
    const master = this.#readKey();
    this.#key = deps.suite.hkdf(master, EMPTY, nyxLabel(`${options.name} store`), AEAD_KEY_BYTES);
    this.#nameKey = deps.suite.hkdf(master, EMPTY, nyxLabel(`${options.name} store names`), AEAD_KEY_BYTES);
    deps.suite.wipe(master);
    this.#database = this.#open(join(deps.files.folder, `${options.name}.db`), schema(options.durable));
    this.#put = this.#database.prepare('INSERT OR REPLACE INTO entries (name, sealed) VALUES (?, ?)');
    this.#remove = this.#database.prepare('DELETE FROM entries WHERE name = ?');
  }

  /** All entries, in no order. What can't be opened is removed, and said. */
  load(): StoredEntry[] {
    const entries: StoredEntry[] = [];
    const damaged: Uint8Array[] = [];
    for (const row of this.#database.prepare('SELECT name, sealed FROM entries').iterate()) {
      const { name, sealed } = row as { name: Uint8Array; sealed: Uint8Array };
      const entry = this.#unseal(name, sealed);
      if (entry === undefined) damaged.push(name);
      else entries.push(entry);
    }
    if (damaged.length > 0) {
      this.#say(`${damaged.length} of ${damaged.length + entries.length} stored entries do not open; they are gone`);
      for (const name of damaged) this.#remove.run(name);
    }
    return entries;
  }

  get(name: string): Uint8Array | undefined {
    const key = this.#keyOf(name);
    const hex = key.toHex();
    let sealed = this.#pending.get(hex);
    if (sealed === undefined) {
      if (this.#closed || this.#pending.has(hex)) return undefined;
      const row = this.#database.prepare('SELECT sealed FROM entries WHERE name = ?').get(key);
      sealed = row?.sealed as Uint8Array | undefined;
    }
    return sealed && this.#unseal(key, sealed)?.content;
  }

  /** Borrows. False: the disk takes nothing and there is no more room to wait for it. */
  put(name: string, content: Uint8Array): boolean {
    if (this.#closed) return false;
    const key = this.#keyOf(name);
    if (this.#failing && this.#pendingBytes + content.length > MAX_PENDING_BYTES) return false;
    this.#change(key, this.#seal(key, name, content));
    return true;
  }

  remove(name: string): void {
    if (this.#closed) return;
    this.#change(this.#keyOf(name), undefined);
    this.#removedSinceSweep = true;
  }

  /** Writes what was put and removed. False: the disk refused; it is tried again. */
  commit(): boolean {
    if (this.#pending.size === 0) return true;
    if (this.#closed) return false;
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      for (const [hex, sealed] of this.#pending) {
        const key = Uint8Array.fromHex(hex);
        if (sealed === undefined) this.#remove.run(key);
        else this.#put.run(key, sealed);
      }
      this.#database.exec('COMMIT');
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      if (!this.#failing) this.#say(`what should be kept could not be written: ${(error as Error).message}`);
      this.#failing = true;
      this.#arm();
      return false;
    }
    this.#pending.clear();
    this.#pendingBytes = 0;
    if (this.#failing) this.problem = '';
    this.#failing = false;
    return true;
  }

  /** Overwrites what was removed where the log of the file still has it. Call it every minute or so. */
  sweep(): void {
    if (this.#closed || !this.commit() || !this.#removedSinceSweep) return;
    this.#removedSinceSweep = false;
    this.#database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  }

  /** Writes what waits and ends; what is put from now on is not kept. */
  close(): void {
    if (this.#closed) return;
    this.commit();
    this.#closed = true;
    this.#database.close();
    this.#deps.suite.wipe(this.#key, this.#nameKey);
  }

  #change(key: Uint8Array, sealed: Uint8Array | undefined): void {
    const hex = key.toHex();
    this.#pendingBytes += (sealed?.length ?? 0) - (this.#pending.get(hex)?.length ?? 0);
    this.#pending.set(hex, sealed);
    if (this.#pending.size >= MAX_PENDING && !this.#failing) this.commit();
    else this.#arm();
  }

  #arm(): void {
    if (this.#armed) return;
    this.#armed = true;
    this.#deps.after(COMMIT_MS, () => {
      this.#armed = false;
      if (!this.#closed) this.commit();
    });
  }

  #say(problem: string): void {
    this.problem = problem;
    this.#deps.onProblem(problem);
  }

  // --- sealing ---

  #readKey(): Uint8Array {
    const { files, random } = this.#deps;
    try {
      const held = files.read(KEY_FILE);
      if (held?.length === AEAD_KEY_BYTES) return held;
      if (held !== undefined) this.#say(`${files.folder}/${KEY_FILE} is no key; a new one is made`);
    } catch (error) {
      if (!(error instanceof KeyStoreError) || error.code !== KeyStoreErrorCode.corrupt) throw error;
      this.#say(`${error.message} (a new one is made)`);
    }
    const fresh = new Uint8Array(AEAD_KEY_BYTES);
    random.fill(fresh);
    files.write(KEY_FILE, fresh);
    return fresh;
  }

  /** What an entry is found by: says nothing of its name. */
  #keyOf(name: string): Uint8Array {
    return this.#deps.suite.mac16(this.#nameKey, Buffer.from(name));
  }

  /** salt (32) ‖ tag (16) ‖ ct of: length of the name (2) ‖ name ‖ content. */
  #seal(key: Uint8Array, name: string, content: Uint8Array): Uint8Array {
    const { suite, random } = this.#deps;
    const nameBytes = Buffer.from(name);
    const length = new Uint8Array(NAME_LENGTH_BYTES);
    writeNumber(length, 0, nameBytes.length, NAME_LENGTH_BYTES);
    const plaintext = joinBytes(length, nameBytes, content);
    const sealed = new Uint8Array(SEALED_BYTES + plaintext.length);
    random.fill(sealed.subarray(0, SALT_BYTES));
    const once = suite.hkdf(this.#key, sealed.subarray(0, SALT_BYTES), nyxLabel('stored entry'), AEAD_KEY_BYTES);
    const tag = sealed.subarray(SALT_BYTES, SEALED_BYTES);
    suite.aeadSeal(sealed.subarray(SEALED_BYTES), tag, plaintext, key, ZERO_NONCE, once);
    suite.wipe(once, plaintext);
    return sealed;
  }

  #unseal(key: Uint8Array, sealed: Uint8Array): StoredEntry | undefined {
    const { suite } = this.#deps;
    if (sealed.length < SEALED_BYTES + NAME_LENGTH_BYTES) return undefined;
    const once = suite.hkdf(this.#key, sealed.subarray(0, SALT_BYTES), nyxLabel('stored entry'), AEAD_KEY_BYTES);
    const plaintext = new Uint8Array(sealed.length - SEALED_BYTES);
    const tag = sealed.subarray(SALT_BYTES, SEALED_BYTES);
    const known = suite.aeadOpen(plaintext, tag, sealed.subarray(SEALED_BYTES), key, ZERO_NONCE, once);
    suite.wipe(once);
    if (!known) return undefined;
    const end = NAME_LENGTH_BYTES + readNumber(plaintext, 0, NAME_LENGTH_BYTES);
    return {
      name: Buffer.from(plaintext.subarray(NAME_LENGTH_BYTES, end)).toString(),
      content: plaintext.subarray(end),
    };
  }

  // --- the file ---

  #open(file: string, sql: string): DatabaseSync {
    try {
      return openDatabase(file, sql);
    } catch (error) {
      if (!isDamage(error)) {
        throw new KeyStoreError(KeyStoreErrorCode.io, `${file} can't be opened: ${(error as Error).message}`);
      }
      this.#say(
        `${file} can't be read (${(error as Error).message}); it is now ${file}.damaged, and a new one is begun`,
      );
      if (existsSync(file)) renameSync(file, `${file}.damaged`);
      for (const path of [`${file}-wal`, `${file}-shm`]) rmSync(path, { force: true });
      return openDatabase(file, sql);
    }
  }
}

/** As opposed to a file that is in use, or a disk that does not answer. SQLITE_CORRUPT, SQLITE_NOTADB. */
function isDamage(error: unknown): boolean {
  const code = (error as { errcode?: number }).errcode;
  return error instanceof DamageError || (code !== undefined && ((code & 0xff) === 11 || (code & 0xff) === 26));
}

class DamageError extends Error {}

function openDatabase(file: string, sql: string): DatabaseSync {
  // Loaded only where something is kept: it costs memory.
  const { DatabaseSync: Database } = process.getBuiltinModule('node:sqlite');
  const database = new Database(file);
  try {
    chmodSync(file, 0o600);
    database.exec(sql);
    // Reads every page once, so that damage shows here and not later.
    const row = database.prepare('PRAGMA quick_check(1)').get() as { quick_check: string };
    if (row.quick_check !== 'ok') throw new DamageError(row.quick_check);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}
