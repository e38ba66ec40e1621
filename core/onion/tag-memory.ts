import { Drop } from '../drop-reason.ts';

const WORDS_PER_TAG = 2;
const FIRST_CAPACITY = 64;

/**
 * A set of tags that are already uniformly distributed (outputs of a hash or KDF): 8 bytes of each are kept, so two
 * different ones are taken for the same with a chance of 2^-44 at a million. Open addressing, at most 3/4 full.
 */
export class TagMemory {
  readonly #maxTags: number;
  #slots = new Uint32Array(0);
  #capacity = 0;
  #size = 0;

  /** Holds at most `maxTags`, at most 22 bytes each. */
  constructor(maxTags: number) {
    this.#maxTags = maxTags;
  }

  get size(): number {
    return this.#size;
  }

  get full(): boolean {
    return this.#size >= this.#maxTags;
  }

  has(tag: Uint8Array): boolean {
    if (this.#size === 0) return false;
    return this.#slots[this.#find(first(tag), second(tag))] !== 0;
  }

  /** False when it is there already, or the memory is full. Keeps a copy of 8 of its bytes. */
  add(tag: Uint8Array): boolean {
    if (this.#size * 4 >= this.#capacity * 3) this.#grow();
    const a = first(tag);
    const b = second(tag);
    const at = this.#find(a, b);
    if (this.#slots[at] !== 0 || this.full) return false;
    this.#slots[at] = a;
    this.#slots[at + 1] = b;
    this.#size++;
    return true;
  }

  /** As a SetupMemory: `none` = new, and remembered from now on. */
  note(tag: Uint8Array): Drop {
    if (this.has(tag)) return Drop.setupReplayed;
    return this.add(tag) ? Drop.none : Drop.limit;
  }

  clear(): void {
    this.#slots.fill(0);
    this.#slots = new Uint32Array(0);
    this.#capacity = 0;
    this.#size = 0;
  }

  get memoryBytes(): number {
    return this.#slots.byteLength;
  }

  /** Word offset of this tag, or of the free slot where it belongs. */
  #find(a: number, b: number): number {
    const mask = this.#capacity - 1;
    let slot = a & mask;
    for (;;) {
      const at = slot * WORDS_PER_TAG;
      if (this.#slots[at] === 0 || (this.#slots[at] === a && this.#slots[at + 1] === b)) return at;
      slot = (slot + 1) & mask;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#capacity = Math.max(FIRST_CAPACITY, this.#capacity * 2);
    this.#slots = new Uint32Array(this.#capacity * WORDS_PER_TAG);
    for (let i = 0; i < old.length; i += WORDS_PER_TAG) {
      if (old[i] === 0) continue;
      const at = this.#find(old[i]!, old[i + 1]!);
      this.#slots[at] = old[i]!;
      this.#slots[at + 1] = old[i + 1]!;
    }
  }
}

/** Never 0: that marks a free slot. */
function first(tag: Uint8Array): number {
  return word(tag, 0) || 1;
}

function second(tag: Uint8Array): number {
  return word(tag, 4);
}

function word(tag: Uint8Array, at: number): number {
  return ((tag[at]! << 24) | (tag[at + 1]! << 16) | (tag[at + 2]! << 8) | tag[at + 3]!) >>> 0;
}
