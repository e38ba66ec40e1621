/** libp2p's peer store on disk. At the limit, the peers that were heard of longest ago are forgotten. */
import { NotFoundError } from '@libp2p/interface';
import { BaseDatastore } from 'datastore-core';
import { Key, type KeyQuery, type Pair, type Query } from 'interface-datastore';
import type { P2pDatabase, StoredRow } from './database.ts';

/** A peer's addresses, protocols and key; larger than any honest one. */
const MAX_VALUE_BYTES = 32 * 1024;

export class PeerDatastore extends BaseDatastore {
  readonly #maxPeers: number;
  readonly #unixMs: () => number;
  readonly #statements;
  #count: number;

  constructor(database: P2pDatabase, maxPeers: number, unixMs: () => number) {
    super();
    this.#maxPeers = maxPeers;
    this.#unixMs = unixMs;
    this.#statements = {
      get: database.prepare('SELECT value FROM peers WHERE key = ?'),
      put: database.prepare(
        'INSERT INTO peers (key, value, updated) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated = excluded.updated',
      ),
      delete: database.prepare('DELETE FROM peers WHERE key = ?'),
      evict: database.prepare('DELETE FROM peers WHERE key IN (SELECT key FROM peers ORDER BY updated LIMIT ?)'),
      all: database.prepare('SELECT key, value FROM peers WHERE key >= ? AND key < ? ORDER BY updated DESC'),
      count: database.prepare('SELECT count(*) AS count FROM peers'),
    };
    this.#count = this.#counted();
  }

  get count(): number {
    return this.#count;
  }

  override put(key: Key, value: Uint8Array): Key {
    if (value.length > MAX_VALUE_BYTES) throw new RangeError(`a peer of ${value.length} bytes is not stored`);
    const isNew = !this.has(key);
    this.#statements.put.run(key.toString(), value, this.#unixMs());
    if (isNew) this.#count++;
    // A tenth at once, so that a flood of new peers does not evict at every step.
    if (this.#count > this.#maxPeers) {
      this.#statements.evict.run(this.#count - this.#maxPeers + Math.floor(this.#maxPeers / 10));
      this.#count = this.#counted();
    }
    return key;
  }

  override get(key: Key): Uint8Array {
    const row = this.#statements.get.get(key.toString()) as { value: Uint8Array } | undefined;
    if (row === undefined) throw new NotFoundError('no such peer');
    return row.value;
  }

  override has(key: Key): boolean {
    return this.#statements.get.get(key.toString()) !== undefined;
  }

  override delete(key: Key): void {
    this.#count -= Number(this.#statements.delete.run(key.toString()).changes);
  }

  override async *_all({ prefix }: Query): AsyncGenerator<Pair> {
    for (const { key, value } of this.#rows(prefix)) yield { key: new Key(key, false), value };
  }

  override async *_allKeys({ prefix }: KeyQuery): AsyncGenerator<Key> {
    for (const { key } of this.#rows(prefix)) yield new Key(key, false);
  }

  #rows(prefix: string | undefined): StoredRow[] {
    const from = prefix ?? '';
    return this.#statements.all.all(from, `${from}\u{10ffff}`) as unknown as StoredRow[];
  }

  #counted(): number {
    return (this.#statements.count.get() as { count: number }).count;
  }
}
