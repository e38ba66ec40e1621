/**
 * The DHT's records on disk. kad-dht checks a record before it stores it, but would let an older one replace a newer
 * one; that is refused here, as is what is no record. At the limit, what has expired goes first, then what is farthest
 * from this peer, so that a flood of keys elsewhere does not displace what others look for here.
 */
import { createHash } from 'node:crypto';
import { NotFoundError } from '@libp2p/interface';
import { Libp2pRecord } from '@libp2p/record';
import { BaseDatastore } from 'datastore-core';
import { Key, type KeyQuery, type Pair, type Query } from 'interface-datastore';
import { Refusal, RefusedError } from './contract.ts';
import type { P2pDatabase, StoredRow } from './database.ts';
import type { RecordRules } from './record-rules.ts';

export interface RecordDatastoreOptions {
  readonly maxRecords: number;
  /** Multihash of the own peer id. */
  readonly self: Uint8Array;
  readonly unixMs: () => number;
  /** Called before a RefusedError is thrown. */
  readonly onRefused: (reason: Refusal) => void;
}

const RECORD_PREFIX = '/dht/record/';

export class RecordDatastore extends BaseDatastore {
  readonly #rules: RecordRules;
  readonly #options: RecordDatastoreOptions;
  readonly #selfHash: Uint8Array;
  readonly #statements;
  #count: number;

  constructor(database: P2pDatabase, rules: RecordRules, options: RecordDatastoreOptions) {
    super();
    this.#rules = rules;
    this.#options = options;
    this.#selfHash = sha256(options.self);
    this.#statements = {
      get: database.prepare('SELECT value, expires FROM records WHERE key = ?'),
      put: database.prepare(
        'INSERT INTO records (key, value, expires, distance) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires',
      ),
      delete: database.prepare('DELETE FROM records WHERE key = ?'),
      expire: database.prepare('DELETE FROM records WHERE expires <= ?'),
      evict: database.prepare(
        'DELETE FROM records WHERE key IN (SELECT key FROM records ORDER BY distance DESC LIMIT ?)',
      ),
      all: database.prepare('SELECT key, value FROM records WHERE key >= ? AND key < ?'),
      count: database.prepare('SELECT count(*) AS count FROM records'),
    };
    this.#count = this.#counted();
  }

  get count(): number {
    return this.#count;
  }

  /** Throws RefusedError. */
  override put(key: Key, value: Uint8Array): Key {
    const name = key.toString();
    if (!name.startsWith(RECORD_PREFIX)) throw this.#refuse(new RefusedError(Refusal.provider, 'not a record'));
    const record = Libp2pRecord.deserialize(value);
    const held = this.#held(name);
    try {
      if (held !== undefined) this.#rules.assertNotOlder(record.key, held.value, record.value);
    } catch (error) {
      throw error instanceof RefusedError ? this.#refuse(error) : error;
    }
    const isNew = this.#statements.get.get(name) === undefined;
    this.#statements.put.run(name, value, this.#rules.expiryOf(record.key, record.value), this.#distance(record.key));
    if (isNew) this.#count++;
    const { maxRecords } = this.#options;
    if (this.#count > maxRecords) {
      this.dropExpired();
      if (this.#count > maxRecords) this.#statements.evict.run(this.#count - maxRecords);
      this.#count = this.#counted();
    }
    return key;
  }

  override get(key: Key): Uint8Array {
    const row = this.#row(key.toString());
    if (row === undefined) throw new NotFoundError('no such record');
    return row.value;
  }

  override has(key: Key): boolean {
    return this.#row(key.toString()) !== undefined;
  }

  override delete(key: Key): void {
    this.#count -= Number(this.#statements.delete.run(key.toString()).changes);
  }

  dropExpired(): void {
    this.#statements.expire.run(this.#nowSeconds());
    this.#count = this.#counted();
  }

  override async *_all({ prefix }: Query): AsyncGenerator<Pair> {
    for (const { key, value } of this.#rows(prefix)) yield { key: new Key(key, false), value };
  }

  override async *_allKeys({ prefix }: KeyQuery): AsyncGenerator<Key> {
    for (const { key } of this.#rows(prefix)) yield new Key(key, false);
  }

  #refuse(error: RefusedError): RefusedError {
    this.#options.onRefused(error.reason);
    return error;
  }

  #held(name: string): Libp2pRecord | undefined {
    const row = this.#row(name);
    return row === undefined ? undefined : Libp2pRecord.deserialize(row.value);
  }

  /** Not what has expired. */
  #row(name: string): { readonly value: Uint8Array; readonly expires: number } | undefined {
    const row = this.#statements.get.get(name) as { value: Uint8Array; expires: number } | undefined;
    return row === undefined || row.expires <= this.#nowSeconds() ? undefined : row;
  }

  #rows(prefix: string | undefined): StoredRow[] {
    const from = prefix ?? '';
    return this.#statements.all.all(from, `${from}\u{10ffff}`) as unknown as StoredRow[];
  }

  #nowSeconds(): number {
    return Math.floor(this.#options.unixMs() / 1000);
  }

  #counted(): number {
    return (this.#statements.count.get() as { count: number }).count;
  }

  /** The first 48 bits of the XOR distance; SQLite's integers are exact far beyond. */
  #distance(recordKey: Uint8Array): number {
    const hash = sha256(recordKey);
    let distance = 0;
    for (let i = 0; i < 6; i++) distance = distance * 256 + (hash[i]! ^ this.#selfHash[i]!);
    return distance;
  }
}

const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
