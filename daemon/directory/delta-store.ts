/** The ways from older views to newer ones, on disk: one file for each view that was followed by another. */
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from './sealed-files.ts';

/** A client that was away for a day of hourly epochs catches up by deltas. */
export const DAY_OF_DELTAS = 25;

export class DeltaStore {
  readonly #folder: string;
  readonly #max: number;
  /** Hex of the first view's digest, oldest first. */
  readonly #from: string[];
  /** Being made or written: who asks for one of these waits. */
  readonly #coming = new Map<string, Promise<void>>();

  /** Keeps the last `max`. */
  constructor(folder: string, max: number = DAY_OF_DELTAS) {
    this.#folder = folder;
    this.#max = max;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#from = readdirSync(folder)
      .flatMap((name) => /^([0-9a-f]{64})\.bin$/.exec(name)?.[1] ?? [])
      .map((from) => ({ from, mtimeMs: statSync(this.#file(from)).mtimeMs }))
      .sort((a, b) => a.mtimeMs - b.mtimeMs)
      .map(({ from }) => from);
  }

  /** Rejects when it could not be made or written. */
  async keep(from: string, delta: Uint8Array | Promise<Uint8Array>): Promise<void> {
    const work = this.#store(from, delta);
    // Who asks meanwhile then finds none; why is told to our caller.
    const settled = work.catch(() => {});
    this.#coming.set(from, settled);
    try {
      await work;
    } finally {
      if (this.#coming.get(from) === settled) this.#coming.delete(from);
    }
  }

  /** The delta that begins with that view (hex of its digest); one that is on its way is waited for. */
  async from(digest: string): Promise<Uint8Array | undefined> {
    await this.#coming.get(digest);
    return this.#from.includes(digest) ? await readFile(this.#file(digest)) : undefined;
  }

  async #store(from: string, delta: Uint8Array | Promise<Uint8Array>): Promise<void> {
    await writeDurably(this.#file(from), await delta);
    if (!this.#from.includes(from)) this.#from.push(from);
    while (this.#from.length > this.#max) rmSync(this.#file(this.#from.shift()!), { force: true });
  }

  #file(from: string): string {
    return join(this.#folder, `${from}.bin`);
  }
}
