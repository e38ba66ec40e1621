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

  async keep(from: string, delta: Uint8Array): Promise<void> {
    await writeDurably(this.#file(from), delta);
    if (!this.#from.includes(from)) this.#from.push(from);
    while (this.#from.length > this.#max) rmSync(this.#file(this.#from.shift()!), { force: true });
  }

  /** The delta that begins with that view (hex of its digest). */
  async from(digest: string): Promise<Uint8Array | undefined> {
    return this.#from.includes(digest) ? await readFile(this.#file(digest)) : undefined;
  }

  #file(from: string): string {
    return join(this.#folder, `${from}.bin`);
  }
}
