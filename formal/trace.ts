/** Follows what was seen of running code through a table of what the specification allows. */
import { readFileSync } from 'node:fs';
import { type Table, tableFile } from './tables.ts';

export class Deviation extends Error {}

export const readTable = (name: string): Table => JSON.parse(readFileSync(tableFile(name), 'utf8')) as Table;

export class Follower {
  readonly #table: Table;
  readonly seen: string[] = [];
  #state = 0;

  constructor(table: Table) {
    this.#table = table;
    this.seen.push(table.states[0]!.seen);
  }

  /** What can be seen now; the same as before is no step. Throws Deviation when the module has no such step. */
  see(now: string): void {
    if (now === this.seen.at(-1)) return;
    const { next } = this.#table.states[this.#state]!;
    const state = next[now];
    if (state === undefined) {
      const allowed = Object.keys(next).map((seen) => `"${seen}"`);
      throw new Deviation(
        `${this.#table.module} has no step to "${now}" after ${this.seen.map((seen) => `"${seen}"`).join(', ')}; it allows ${allowed.join(' or ') || 'none'}`,
      );
    }
    this.#state = state;
    this.seen.push(now);
  }
}
