/**
 * The set-ups that a node has seen under an epoch's mix keys, common to all its workers and kept on disk: a train that is
 * played again finds the node's memory whatever worker its link ends in, and whatever crashed meanwhile.
 *
 * A log is an array of 64-bit words in shared memory: a word is a tag, or 0 = free. A worker takes the first free word
 * with a compare-and-swap and looks at all words before it on the way, so of two workers that are given the same train
 * at a time one sees the other's tag. There are no locks for a worker to die with. What is noted goes to the log's file
 * before the set-up is accepted; the file outlives the process (not the loss of power, which may cost the last seconds).
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { Drop } from '@nyx/core/drop-reason.ts';
import type { SetupMemory } from '@nyx/core/engine/contract.ts';
import { TagMemory } from '@nyx/core/onion/tag-memory.ts';
import type { MessageLog } from './message-memory.ts';

/** Bytes of a tag that are kept. */
export const LOGGED_TAG_BYTES = 8;

/** One epoch's log; crosses threads. */
export interface SetupLog {
  readonly epoch: number;
  /** Words of 64 bits, at most as many set-ups as an epoch may have. */
  readonly words: SharedArrayBuffer;
  readonly file: string;
  /** The same for packets of the message lane. */
  readonly messages: MessageLog;
}

/** One worker's view of a log. */
export class SharedSetupMemory implements SetupMemory {
  readonly #words: BigInt64Array;
  readonly #known: TagMemory;
  readonly #file: number;
  readonly #word = new DataView(new ArrayBuffer(LOGGED_TAG_BYTES));
  readonly #onError: (error: unknown) => void;
  /** Words below are in #known. */
  #read = 0;
  #closed = false;

  /** Throws what keeps the file from being opened. `onError` hears what keeps a set-up from being written down. */
  constructor(log: SetupLog, onError: (error: unknown) => void) {
    this.#words = new BigInt64Array(log.words);
    this.#known = new TagMemory(this.#words.length);
    this.#file = openSync(log.file, 'a', 0o600);
    this.#onError = onError;
  }

  note(tag: Uint8Array): Drop {
    if (this.#closed) return Drop.staleEpoch;
    const word = this.#wordOf(tag);
    const claimed = this.#claim(word);
    if (claimed !== Drop.none) return claimed;
    try {
      writeSync(this.#file, new Uint8Array(this.#word.buffer));
    } catch (error) {
      // Not written down, it could be played again after a restart: better no circuit.
      this.#onError(error);
      return Drop.limit;
    }
    return Drop.none;
  }

  clear(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#file);
    this.#known.clear();
  }

  get memoryBytes(): number {
    return this.#known.memoryBytes;
  }

  #claim(word: bigint): Drop {
    const words = this.#words;
    for (;;) {
      if (this.#read === words.length) return this.#knows(word) ? Drop.setupReplayed : Drop.limit;
      const there = Atomics.load(words, this.#read);
      if (there === 0n) {
        if (this.#knows(word)) return Drop.setupReplayed;
        if (Atomics.compareExchange(words, this.#read, 0n, word) === 0n) return Drop.none;
      } else {
        this.#read++;
        this.#learn(there);
      }
    }
  }

  #knows(word: bigint): boolean {
    return this.#known.has(bytesOf(word));
  }

  #learn(word: bigint): void {
    this.#known.add(bytesOf(word));
  }

  /** Its first 8 bytes; never 0, which marks a free word. */
  #wordOf(tag: Uint8Array): bigint {
    for (let i = 0; i < LOGGED_TAG_BYTES; i++) this.#word.setUint8(i, tag[i]!);
    if (this.#word.getBigInt64(0) === 0n) this.#word.setBigInt64(0, 1n);
    return this.#word.getBigInt64(0);
  }
}

function bytesOf(word: bigint): Uint8Array {
  const bytes = new Uint8Array(LOGGED_TAG_BYTES);
  new DataView(bytes.buffer).setBigInt64(0, word);
  return bytes;
}
