/** Drawing from many with given weights in constant time: Walker's alias method, with Vose's way to build the table. */
import type { Random } from '../ports.ts';
import { uniform } from './weighted-choice.ts';

export class WeightedPool<T extends { readonly weight: number }> {
  readonly members: readonly T[];
  readonly totalWeight: number;
  // Both are made when first needed: many pools are only looked through.
  #set: ReadonlySet<T> | undefined;
  #table: { readonly keep: Float64Array; readonly alias: Uint32Array } | undefined;

  constructor(members: readonly T[]) {
    this.members = members;
    this.totalWeight = members.reduce((sum, { weight }) => sum + weight, 0);
  }

  get size(): number {
    return this.members.length;
  }

  has(member: T): boolean {
    this.#set ??= new Set(this.members);
    return this.#set.has(member);
  }

  /** One member, with probability in proportion to its weight; undefined when there is none. Takes 8 bytes of `random`. */
  draw(random: Random): T | undefined {
    const { length } = this.members;
    if (length === 0) return undefined;
    this.#table ??= buildTable(this.members, this.totalWeight);
    const position = uniform(random) * length;
    const column = Math.floor(position);
    return this.members[position - column < this.#table.keep[column]! ? column : this.#table.alias[column]!];
  }

  /** One member, all alike. */
  drawEvenly(random: Random): T | undefined {
    return this.members[Math.floor(uniform(random) * this.members.length)];
  }
}

/** Column i gives i with probability keep[i], else alias[i]. */
function buildTable(members: readonly { readonly weight: number }[], totalWeight: number) {
  const { length } = members;
  const keep = new Float64Array(length).fill(1);
  const alias = new Uint32Array(length);
  const scaled = Float64Array.from(members, ({ weight }) => (weight / totalWeight) * length);
  const small: number[] = [];
  const large: number[] = [];
  for (let i = 0; i < length; i++) (scaled[i]! < 1 ? small : large).push(i);
  while (small.length > 0 && large.length > 0) {
    const less = small.pop()!;
    const more = large.at(-1)!;
    keep[less] = scaled[less]!;
    alias[less] = more;
    scaled[more] = scaled[more]! - (1 - scaled[less]!);
    if (scaled[more]! < 1) {
      large.pop();
      small.push(more);
    }
  }
  // What is left has probability 1 but for rounding.
  return { keep, alias };
}
