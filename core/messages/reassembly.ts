/** Puts messages together again from fragments that come in any order, more than once, or not at all. Bounded. */
import type { TimeMs } from '../ports.ts';
import type { Fragment } from './packet.ts';

export interface ReassemblyOptions {
  readonly maxMessages: number;
  readonly maxBytes: number;
  /** A message of which nothing has come for so long is given up. */
  readonly maxAgeMs: number;
}

/** A fragment's share beside its data, for the account. */
const OVERHEAD_BYTES = 64;

interface Partial {
  readonly count: number;
  readonly parts: (Uint8Array | undefined)[];
  received: number;
  bytes: number;
  touchedMs: TimeMs;
}

export class Reassembly {
  readonly #options: ReassemblyOptions;
  /** The one that was touched last comes last. */
  readonly #partials = new Map<string, Partial>();
  #bytes = 0;
  /** Messages given up because there was no room, or nothing came any more. */
  givenUp = 0;

  constructor(options: ReassemblyOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#partials.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  has(name: string, index: number): boolean {
    return this.#partials.get(name)?.parts[index] !== undefined;
  }

  /** Takes a fragment's data for good. Gives the whole when it was the last one, and forgets it. */
  add(name: string, { index, count, data }: Fragment, nowMs: TimeMs): Uint8Array | undefined {
    let partial = this.#partials.get(name);
    // Whoever knows the message id is its sender: another count is his own mistake.
    if (partial !== undefined && partial.count !== count) return undefined;
    if (index >= count || partial?.parts[index] !== undefined) return undefined;
    if (partial === undefined) {
      partial = { count, parts: new Array(count).fill(undefined), received: 0, bytes: 0, touchedMs: nowMs };
    } else {
      this.#partials.delete(name);
    }
    this.#partials.set(name, partial);
    partial.parts[index] = data;
    partial.received++;
    partial.touchedMs = nowMs;
    partial.bytes += data.length + OVERHEAD_BYTES;
    this.#bytes += data.length + OVERHEAD_BYTES;
    if (partial.received === count) {
      this.forget(name);
      return join(partial.parts as Uint8Array[]);
    }
    const { maxMessages, maxBytes } = this.#options;
    while (this.#partials.size > maxMessages || this.#bytes > maxBytes) this.#giveUpOldest();
    return undefined;
  }

  forget(name: string): void {
    const partial = this.#partials.get(name);
    if (partial === undefined) return;
    this.#partials.delete(name);
    this.#bytes -= partial.bytes;
  }

  /** Gives up what nothing has come of for too long. */
  expire(nowMs: TimeMs): void {
    for (const { touchedMs } of this.#partials.values()) {
      if (nowMs - touchedMs <= this.#options.maxAgeMs) return;
      this.#giveUpOldest();
    }
  }

  #giveUpOldest(): void {
    const oldest = this.#partials.keys().next().value;
    if (oldest === undefined) return;
    this.givenUp++;
    this.forget(oldest);
  }
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
