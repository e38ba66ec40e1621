/** The node's logs of set-ups and messages seen, by epoch: made and read from disk here, written by the workers (pump/setup-memory.ts, pump/message-memory.ts). */
import { closeSync, ftruncateSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_SETUPS_PER_EPOCH } from '@nyx/core/onion/mix-key-ring.ts';
import { createMessageWords, MESSAGE_TAG_BYTES, type MessageLog, MessageTable } from '../pump/message-memory.ts';
import { LOGGED_TAG_BYTES, type SetupLog } from '../pump/setup-memory.ts';

const FILE_NAME = /^(?:setups|messages)-(\d+)\.log$/;

export class SetupLogs {
  readonly #folder: string;
  readonly #logs = new Map<number, SetupLog>();

  /** `folder` is the node's private data folder; made if it is not there. */
  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** The logs of these epochs, with what they held before a restart. Those of earlier epochs are deleted. */
  forEpochs(epochs: readonly number[]): SetupLog[] {
    this.#deleteBefore(Math.min(...epochs));
    return epochs.map((epoch) => this.#logs.get(epoch) ?? this.#open(epoch));
  }

  #open(epoch: number): SetupLog {
    const file = join(this.#folder, `setups-${epoch}.log`);
    const tags = readTags(file, LOGGED_TAG_BYTES);
    // Memory of it is taken up only as far as it is used.
    const words = new SharedArrayBuffer(MAX_SETUPS_PER_EPOCH * LOGGED_TAG_BYTES);
    const log = new BigInt64Array(words);
    const count = Math.min(log.length, tags.byteLength / LOGGED_TAG_BYTES);
    for (let i = 0; i < count; i++) log[i] = tags.getBigInt64(i * LOGGED_TAG_BYTES);
    const whole = { epoch, words, file, messages: this.#openMessages(epoch) };
    this.#logs.set(epoch, whole);
    return whole;
  }

  #openMessages(epoch: number): MessageLog {
    const file = join(this.#folder, `messages-${epoch}.log`);
    const tags = readTags(file, MESSAGE_TAG_BYTES);
    const words = createMessageWords();
    const table = new MessageTable(words);
    for (let at = 0; at < tags.byteLength; at += MESSAGE_TAG_BYTES) {
      table.restore(tags.getInt32(at), tags.getInt32(at + 4));
    }
    return { words, file };
  }

  #deleteBefore(oldest: number): void {
    for (const epoch of this.#logs.keys()) if (epoch < oldest) this.#logs.delete(epoch);
    for (const name of readdirSync(this.#folder)) {
      const epoch = FILE_NAME.exec(name)?.[1];
      if (epoch !== undefined && Number(epoch) < oldest) rmSync(join(this.#folder, name), { force: true });
    }
  }
}

/** What is in a log, which is made if it is not there. A crash may have cut the last tag short: what follows it has to be whole. */
function readTags(file: string, tagBytes: number): DataView {
  const handle = openSync(file, 'a+', 0o600);
  try {
    const bytes = readFileSync(handle);
    const whole = bytes.length - (bytes.length % tagBytes);
    if (whole !== bytes.length) ftruncateSync(handle, whole);
    return new DataView(bytes.buffer, bytes.byteOffset, whole);
  } finally {
    closeSync(handle);
  }
}
