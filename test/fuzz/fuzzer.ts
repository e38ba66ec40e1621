/**
 * The mutation engine of the fuzz targets: seeded, so that one seed is one run, and with no clock in it.
 *
 * It is our own because the maintained coverage-guided fuzzer for Node (`@jazzer.js/core` 4.0) brings a native libFuzzer
 * that wants glibc 2.38 and otherwise a compiler at install time. What it would add, feedback, comes from V8's own
 * block coverage instead (coverage.ts): an input that reaches new blocks joins the pool that mutations start from.
 */

/** One decoder that takes bytes from outside, and what must hold for every input. */
export interface FuzzTarget {
  /** Kebab-case; also the name of its corpus folder. */
  readonly name: string;
  /** Tokens of the format, inserted and overwritten by mutations. */
  readonly dictionary: readonly (string | Uint8Array)[];
  /** Valid inputs, made with the real encoders. The same bytes in every run. */
  readonly seeds: () => Uint8Array[];
  /** Mutated inputs are no longer than this. Default 4096. */
  readonly maxBytes?: number;
  /** Executions of the bounded run in CI. Default 2000. */
  readonly executions?: number;
  /** Throws when an invariant does not hold; returns for every other input, decodable or not. Keeps no state. */
  readonly run: (input: Uint8Array) => void;
}

export const DEFAULT_MAX_BYTES = 4096;
export const DEFAULT_EXECUTIONS = 2000;

/** Small seeded generator (splitmix32). Only for mutations. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  uint32(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** 0…limit−1. */
  below(limit: number): number {
    return this.uint32() % limit;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** A seed for `name` in a run of seed `seed`, so that targets don't share their dice. */
export function seedFor(name: string, seed: number): number {
  let hash = seed | 0;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash;
}

const edgeBytes = [0x00, 0x01, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xfe, 0xff];
const edgeIntegers = [
  0n,
  1n,
  0x7fn,
  0xffn,
  0x3fffn,
  0x7fffn,
  0xffffn,
  0x3fff_ffffn,
  0x7fff_ffffn,
  0xffff_ffffn,
  0x1f_ffff_ffff_ffffn,
  0x20_0000_0000_0000n,
  0xffff_ffff_ffffn,
  0x3fff_ffff_ffff_ffffn,
  0x7fff_ffff_ffff_ffffn,
  0xffff_ffff_ffff_ffffn,
];

export class Mutator {
  readonly #dice: Dice;
  readonly #maxBytes: number;
  readonly #dictionary: readonly Uint8Array[];

  constructor(target: Pick<FuzzTarget, 'dictionary' | 'maxBytes'>, dice: Dice) {
    this.#dice = dice;
    this.#maxBytes = target.maxBytes ?? DEFAULT_MAX_BYTES;
    this.#dictionary = target.dictionary.map((token) => (typeof token === 'string' ? Buffer.from(token) : token));
  }

  /** A new input out of one or two of `pool`. */
  mutate(pool: readonly Uint8Array[]): Uint8Array {
    const dice = this.#dice;
    // Newer entries of the pool more often: they reached what the others did not.
    const newest = dice.below(3) === 0 ? Math.min(pool.length, 16) : pool.length;
    let bytes = Uint8Array.from(pool[pool.length - 1 - dice.below(newest)]!);
    const rounds = 1 + dice.below(2 ** dice.below(5));
    for (let i = 0; i < rounds; i++) bytes = this.#step(bytes, pool);
    return bytes.length > this.#maxBytes ? bytes.slice(0, this.#maxBytes) : bytes;
  }

  #step(bytes: Uint8Array<ArrayBuffer>, pool: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
    const dice = this.#dice;
    if (bytes.length === 0) return this.#insert(bytes, 0, this.#noise());
    const at = dice.below(bytes.length);
    switch (dice.below(14)) {
      case 0:
      case 1:
        bytes[at]! ^= 1 << dice.below(8);
        return bytes;
      case 2:
        bytes[at] = dice.below(256);
        return bytes;
      case 3:
        bytes[at] = dice.pick(edgeBytes);
        return bytes;
      case 4:
        bytes[at]! += dice.below(33) - 16;
        return bytes;
      case 5:
        return this.#insert(bytes, at, this.#noise());
      case 6:
        return concat(bytes.subarray(0, at), bytes.subarray(at + 1 + dice.below(Math.min(64, bytes.length - at))));
      case 7:
        return this.#splice(bytes, dice.pick(pool));
      case 8:
        return this.#integer(bytes, at);
      case 9:
        return bytes.slice(0, at);
      case 10:
        return this.#repeat(bytes, at);
      case 11:
        return this.#move(bytes, at);
      default:
        return this.#token(bytes, at);
    }
  }

  #noise(): Uint8Array {
    const noise = new Uint8Array(1 + this.#dice.below(1 << this.#dice.below(6)));
    for (let i = 0; i < noise.length; i++) noise[i] = this.#dice.uint32();
    return noise;
  }

  #insert(bytes: Uint8Array, at: number, part: Uint8Array): Uint8Array<ArrayBuffer> {
    return concat(bytes.subarray(0, at), part, bytes.subarray(at)).slice(0, this.#maxBytes);
  }

  /** The head of one and the tail of the other. */
  #splice(bytes: Uint8Array, other: Uint8Array): Uint8Array<ArrayBuffer> {
    const cut = this.#dice.below(bytes.length + 1);
    return concat(bytes.subarray(0, cut), other.subarray(this.#dice.below(other.length + 1))).slice(0, this.#maxBytes);
  }

  #integer(bytes: Uint8Array<ArrayBuffer>, at: number): Uint8Array<ArrayBuffer> {
    const size = 1 << this.#dice.below(4);
    const value = this.#dice.pick(edgeIntegers);
    for (let i = 0; i < size && at + i < bytes.length; i++)
      bytes[at + i] = Number((value >> BigInt(8 * (size - 1 - i))) & 0xffn);
    return bytes;
  }

  #repeat(bytes: Uint8Array, at: number): Uint8Array<ArrayBuffer> {
    const part = bytes.subarray(at, at + 1 + this.#dice.below(Math.min(64, bytes.length - at)));
    const times = 1 + this.#dice.below(1 << this.#dice.below(7));
    const room = Math.floor((this.#maxBytes - bytes.length) / part.length);
    return concat(
      bytes.subarray(0, at),
      ...new Array<Uint8Array>(Math.max(0, Math.min(times, room))).fill(part),
      bytes.subarray(at),
    );
  }

  #move(bytes: Uint8Array<ArrayBuffer>, at: number): Uint8Array<ArrayBuffer> {
    const from = this.#dice.below(bytes.length);
    bytes.copyWithin(at, from, from + 1 + this.#dice.below(64));
    return bytes;
  }

  #token(bytes: Uint8Array<ArrayBuffer>, at: number): Uint8Array<ArrayBuffer> {
    if (this.#dictionary.length === 0) return this.#integer(bytes, at);
    const token = this.#dice.pick(this.#dictionary);
    if (this.#dice.below(2) === 0) return this.#insert(bytes, at, token);
    bytes.set(token.subarray(0, bytes.length - at), at);
    return bytes;
  }
}

function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Reads a fuzz input as a list of choices; past its end everything is 0. For targets that take sequences. */
export class Tape {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  byte(): number {
    return this.#at < this.#bytes.length ? this.#bytes[this.#at++]! : 0;
  }

  uint16(): number {
    return (this.byte() << 8) | this.byte();
  }

  /** Up to `length` bytes, fewer at the end. A view. */
  take(length: number): Uint8Array {
    const part = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += part.length;
    return part;
  }
}

/** Throws the finding. `what` says which invariant is broken. */
export function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`invariant: ${what}`);
}

/** True when nobody has written to the prototypes that every object shares. */
export function prototypesClean(): boolean {
  return Object.keys(Object.prototype).length === 0 && Object.keys(Array.prototype).length === 0 && !('polluted' in {});
}
