/** The node's logs of set-ups seen, by epoch: made and read from disk here, written by the workers (pump/setup-memory.ts). */
import { closeSync, ftruncateSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_SETUPS_PER_EPOCH } from '@nyx/core/onion/mix-key-ring.ts';
import { LOGGED_TAG_BYTES, type SetupLog } from '../pump/setup-memory.ts';

const FILE_NAME = /^setups-(\d+)\.log$/;

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
    const handle = openSync(file, 'a+', 0o600);
    let words: SharedArrayBuffer;
    try {
      const bytes = readFileSync(handle);
      const whole = bytes.length - (bytes.length % LOGGED_TAG_BYTES);
      // A crash may have cut the last tag short; what follows it has to be whole.
      if (whole !== bytes.length) ftruncateSync(handle, whole);
      // Memory of it is taken up only as far as it is used.
      words = new SharedArrayBuffer(MAX_SETUPS_PER_EPOCH * LOGGED_TAG_BYTES);
      const log = new BigInt64Array(words);
      const count = Math.min(log.length, whole / LOGGED_TAG_BYTES);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let i = 0; i < count; i++) log[i] = view.getBigInt64(i * LOGGED_TAG_BYTES);
    } finally {
      closeSync(handle);
    }
    const log = { epoch, words, file };
    this.#logs.set(epoch, log);
    return log;
  }

  #deleteBefore(oldest: number): void {
    for (const epoch of this.#logs.keys()) if (epoch < oldest) this.#logs.delete(epoch);
    for (const name of readdirSync(this.#folder)) {
      const epoch = FILE_NAME.exec(name)?.[1];
      if (epoch !== undefined && Number(epoch) < oldest) rmSync(join(this.#folder, name), { force: true });
    }
  }
}
