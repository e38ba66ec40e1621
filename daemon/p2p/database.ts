/**
 * What the control plane keeps on disk: peers that it knew, and records of the DHT. Both are bounded. It is a cache: a
 * file that cannot be read is made anew.
 */
import { chmodSync, rmSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';

export interface StoredRow {
  readonly key: string;
  readonly value: Uint8Array;
}

const SCHEMA = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  PRAGMA cache_size = -1024;
  CREATE TABLE IF NOT EXISTS peers (key TEXT PRIMARY KEY, value BLOB NOT NULL, updated INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS peers_updated ON peers (updated);
  CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires INTEGER NOT NULL, distance INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS records_expires ON records (expires);
  CREATE INDEX IF NOT EXISTS records_distance ON records (distance);
`;

export class P2pDatabase {
  readonly #database: DatabaseSync;

  /** `onDamage` is told why an old file was thrown away. Throws when no new one can be made. */
  constructor(file: string, onDamage: (problem: string) => void) {
    this.#database = openOrReplace(file, onDamage);
    chmodSync(file, 0o600);
  }

  prepare(sql: string): StatementSync {
    return this.#database.prepare(sql);
  }

  close(): void {
    this.#database.close();
  }
}

const openOrReplace = (file: string, onDamage: (problem: string) => void): DatabaseSync => {
  try {
    return open(file);
  } catch (error) {
    onDamage((error as Error).message);
    for (const path of [file, `${file}-wal`, `${file}-shm`]) rmSync(path, { force: true });
    return open(file);
  }
};

const open = (file: string): DatabaseSync => {
  const database = new DatabaseSync(file);
  try {
    database.exec(SCHEMA);
    // Reads every page once, so that damage shows here and not later.
    const row = database.prepare('PRAGMA quick_check(1)').get() as { quick_check: string };
    if (row.quick_check !== 'ok') throw new Error(row.quick_check);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
};
