/**
 * The packets of the message lane that a node has seen under an epoch's mix keys, common to all its workers and kept on
 * disk, as set-ups are (setup-memory.ts). There are more of them, so here the shared memory itself is the table that is
 * looked into: no worker has a copy, and nothing is ever moved.
 *
 * Tables of 2^12, 2^13, … 2^23 entries follow each other; an entry is a tag's first 8 bytes as two words, neither of which
 * is 0. One table is filled to three quarters by linear probing, then the next one begins. A tag is looked for in all
 * that have begun, taken into the newest with a compare-and-swap of its first word, and looked for once more everywhere
 * else: of two workers that are given the same packet at a time, at least one sees the other's tag, whatever table either
 * took for the newest. A second word that is not there yet counts as the right one: in doubt a packet was here before.
 *
 * Where a tag belongs is a hash under a random salt: a sender, who can try for tags as he likes, must not be able to make
 * long rows of taken entries.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { Drop } from '@nyx/core/drop-reason.ts';
import type { SetupMemory } from '@nyx/core/engine/contract.ts';

/** Bytes of a tag that are kept. */
export const MESSAGE_TAG_BYTES = 8;
const FIRST_BITS = 12;
const LAST_BITS = 23;
const TABLES = LAST_BITS - FIRST_BITS + 1;
const FILL = 0.75;
// Words before the tables: how many tags there are, and the salt.
const COUNT = 0;
const SALT = 1;
const TABLES_AT = 4;
const ENTRIES = 2 ** (LAST_BITS + 1) - 2 ** FIRST_BITS;

/** Packets that are taken under one epoch's key: 1664 a second for as long as it usually lives. */
export const MAX_LOGGED_MESSAGES = FILL * ENTRIES;

/** One epoch's memory; crosses threads. */
export interface MessageLog {
  /** 128 MiB of addresses, of which memory is taken as far as tables have begun. */
  readonly words: SharedArrayBuffer;
  readonly file: string;
}

/** An empty memory. */
export function createMessageWords(): SharedArrayBuffer {
  const words = new SharedArrayBuffer(4 * TABLES_AT + ENTRIES * MESSAGE_TAG_BYTES);
  randomFillSync(new Uint8Array(words, 4 * SALT, 8));
  return words;
}

/** One worker's view of the tables. */
export class MessageTable {
  readonly #words: Int32Array;
  /** Odd multipliers for a tag's halves. */
  readonly #saltA: number;
  readonly #saltB: number;

  constructor(words: SharedArrayBuffer) {
    this.#words = new Int32Array(words);
    this.#saltA = this.#words[SALT]! | 1;
    this.#saltB = this.#words[SALT + 1]! | 1;
  }

  get size(): number {
    return Atomics.load(this.#words, COUNT);
  }

  /** Bytes of the tables that have begun. */
  get memoryBytes(): number {
    const begun = Math.min(TABLES, this.#newest() + 1);
    return (2 ** begun - 1) * 2 ** FIRST_BITS * MESSAGE_TAG_BYTES;
  }

  /** `a` and `b`: a tag's halves, 32 bits each. */
  note(a: number, b: number): Drop {
    const first = a | 0 || 1;
    const second = b | 0 || 1;
    const hash = this.#hash(first, second);
    const newest = this.#newest();
    if (this.#has(first, second, hash, newest, TABLES)) return Drop.setupReplayed;
    if (newest === TABLES) return Drop.limit;
    if (!this.#claim(first, second, hash, newest)) return Drop.setupReplayed;
    Atomics.add(this.#words, COUNT, 1);
    return this.#has(first, second, hash, this.#newest(), newest) ? Drop.setupReplayed : Drop.none;
  }

  /** A tag that was noted before the restart; nobody else is at work yet. */
  restore(a: number, b: number): void {
    const first = a | 0 || 1;
    const second = b | 0 || 1;
    const newest = this.#newest();
    if (newest === TABLES) return;
    if (this.#claim(first, second, this.#hash(first, second), newest)) Atomics.add(this.#words, COUNT, 1);
  }

  /** Multiply-shift (Dietzfelbinger et al. 1997): a table takes the upper bits. */
  #hash(first: number, second: number): number {
    return (Math.imul(first, this.#saltA) + Math.imul(second, this.#saltB)) >>> 0;
  }

  /** The table that is being filled; all are full: their number. */
  #newest(): number {
    // Tables 0…t together have (2^(t+1) − 1) · 2^12 entries.
    const filled = this.size / (FILL * 2 ** FIRST_BITS) + 1;
    let table = 0;
    while (table < TABLES && filled >= 2 ** (table + 1)) table++;
    return table;
  }

  /** Whether any table up to the one behind `newest` has the tag, but one (TABLES: none). */
  #has(first: number, second: number, hash: number, newest: number, except: number): boolean {
    const words = this.#words;
    const end = Math.min(TABLES, newest + 2);
    for (let table = 0; table < end; table++) {
      if (table === except) continue;
      const bits = FIRST_BITS + table;
      const start = startOf(table);
      for (let at = hash >>> (32 - bits); ; at = (at + 1) & (2 ** bits - 1)) {
        const there = Atomics.load(words, start + 2 * at);
        if (there === 0) break;
        if (there === first && this.#isSecond(start + 2 * at + 1, second)) return true;
      }
    }
    return false;
  }

  /** False: somebody else has just put it there. */
  #claim(first: number, second: number, hash: number, table: number): boolean {
    const words = this.#words;
    const bits = FIRST_BITS + table;
    const start = startOf(table);
    for (let at = hash >>> (32 - bits); ; at = (at + 1) & (2 ** bits - 1)) {
      const there = Atomics.compareExchange(words, start + 2 * at, 0, first);
      if (there === 0) {
        Atomics.store(words, start + 2 * at + 1, second);
        return true;
      }
      if (there === first && this.#isSecond(start + 2 * at + 1, second)) return false;
    }
  }

  #isSecond(at: number, second: number): boolean {
    const there = Atomics.load(this.#words, at);
    return there === second || there === 0;
  }
}

function startOf(table: number): number {
  return TABLES_AT + 2 * (2 ** (FIRST_BITS + table) - 2 ** FIRST_BITS);
}

/** One worker's memory of the packets of one epoch. */
export class SharedMessageMemory implements SetupMemory {
  readonly #table: MessageTable;
  readonly #file: number;
  readonly #bytes = new Uint8Array(MESSAGE_TAG_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #onError: (error: unknown) => void;
  #closed = false;

  /** Throws what keeps the file from being opened. `onError` hears what keeps a packet from being written down. */
  constructor(log: MessageLog, onError: (error: unknown) => void) {
    this.#table = new MessageTable(log.words);
    this.#file = openSync(log.file, 'a', 0o600);
    this.#onError = onError;
  }

  note(tag: Uint8Array): Drop {
    if (this.#closed) return Drop.staleEpoch;
    for (let i = 0; i < MESSAGE_TAG_BYTES; i++) this.#bytes[i] = tag[i]!;
    const drop = this.#table.note(this.#view.getInt32(0), this.#view.getInt32(4));
    if (drop !== Drop.none) return drop;
    try {
      writeSync(this.#file, this.#bytes);
    } catch (error) {
      // Not written down, it could be played again after a restart: better lost.
      this.#onError(error);
      return Drop.limit;
    }
    return Drop.none;
  }

  clear(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#file);
  }

  /** Of all workers together. */
  get memoryBytes(): number {
    return this.#table.memoryBytes;
  }
}
