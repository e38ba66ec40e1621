import { Drop } from '../drop-reason.ts';

const PAGE_BITS = 4096;
const PAGE_WORDS = PAGE_BITS / 32;
/** Pages of the widest window: 2^20 indices. */
export const MAX_PAGES = 256;
/**
 * Words of a page that has seen nothing beyond its first 480 indices. So short an array needs no memory outside the heap;
 * a circuit that is idle after its set-up never has more.
 */
const SHORT_PAGE_WORDS = 15;
/** What an array costs beside its words. */
const ARRAY_BYTES = 200;

/** Marks a page all of whose indices have been seen: it needs no memory of its own. */
const FULL = new Uint32Array(0);

/**
 * Which cell indices of one circuit and direction have been seen (docs/protocol.md §3): up to 2^20 wide.
 *
 * Indices are grouped in pages of 4096 bits. A page without any seen index and one with all of them cost nothing, so
 * an idle window is a few numbers, a stream in order holds one page, and a jump of any length (a sender that skips to
 * its next generation) allocates one page and at most 2 KiB of table. The most a peer can make it hold is 256 pages
 * of 528 bytes. The last word of a page counts its bits.
 */
export class ReplayWindow {
  /** Ring of pages; the page with number p is at `p mod length`. `undefined` inside it: nothing seen. */
  #pages: (Uint32Array | undefined)[] | undefined;
  #topPage = -1;
  /** No page below this one is in the ring: each was complete, or fell out of the window. */
  #basePage = 0;
  #pageBytes = 0;
  readonly #maxPages: number;

  /** @param maxPages width in pages of 4096 indices, a power of two. */
  constructor(maxPages = MAX_PAGES) {
    this.#maxPages = maxPages;
  }

  /** `Drop.none` = new; `Drop.replayed` = seen before; `Drop.tooOld` = left of the window. Marks nothing. */
  check(index: number): Drop {
    const page = Math.floor(index / PAGE_BITS);
    if (page > this.#topPage) return Drop.none;
    if (page < this.#basePage) return page > this.#topPage - this.#maxPages ? Drop.replayed : Drop.tooOld;
    const pages = this.#pages!;
    const words = pages[page & (pages.length - 1)];
    if (words === undefined) return Drop.none;
    if (words === FULL) return Drop.replayed;
    const at = (index >>> 5) & (PAGE_WORDS - 1);
    if (at >= words.length - 1) return Drop.none;
    return (words[at]! & (1 << (index & 31))) === 0 ? Drop.none : Drop.replayed;
  }

  /** Remembers an index for which check() gave `Drop.none`; for any other it changes nothing. */
  mark(index: number): void {
    const page = Math.floor(index / PAGE_BITS);
    if (page < this.#basePage) return;
    if (page > this.#topPage) this.#advance(page);
    const pages = this.#pages!;
    const slot = page & (pages.length - 1);
    let words = pages[slot];
    if (words === FULL) return;
    const at = (index >>> 5) & (PAGE_WORDS - 1);
    if (words === undefined || at >= words.length - 1) {
      words = this.#longEnough(words, at);
      pages[slot] = words;
    }
    const bit = 1 << (index & 31);
    if ((words[at]! & bit) !== 0) return;
    words[at]! |= bit;
    const last = words.length - 1;
    words[last]!++;
    if (words[last] === PAGE_BITS) {
      pages[slot] = FULL;
      this.#pageBytes -= costOf(words);
    }
  }

  /** Memory held, for the accounts of a circuit. */
  get memoryBytes(): number {
    return 64 + this.#pageBytes + (this.#pages === undefined ? 0 : 16 + this.#pages.length * 8);
  }

  /** A page with a word `at`, and what `words` holds. */
  #longEnough(words: Uint32Array | undefined, at: number): Uint32Array {
    const longer = new Uint32Array((at < SHORT_PAGE_WORDS ? SHORT_PAGE_WORDS : PAGE_WORDS) + 1);
    this.#pageBytes += costOf(longer);
    if (words !== undefined) {
      const last = words.length - 1;
      longer.set(words);
      longer[last] = 0;
      longer[longer.length - 1] = words[last]!;
      this.#pageBytes -= costOf(words);
    }
    return longer;
  }

  #advance(page: number): void {
    const lowest = Math.max(this.#basePage, page - this.#maxPages + 1);
    const pages = this.#pages;
    if (pages !== undefined) {
      const mask = pages.length - 1;
      const end = Math.min(lowest, this.#topPage + 1);
      for (let old = this.#basePage; old < end; old++) this.#release(pages, old & mask);
    }
    this.#basePage = lowest;
    // Complete pages at the lower end say nothing that `#basePage` does not say.
    while (pages !== undefined && this.#basePage <= this.#topPage) {
      const slot = this.#basePage & (pages.length - 1);
      if (pages[slot] !== FULL) break;
      pages[slot] = undefined;
      this.#basePage++;
    }
    const previousTop = this.#topPage;
    this.#topPage = page;
    this.#fit(previousTop);
  }

  /** Makes the ring long enough for base…top; copies what it held. */
  #fit(previousTop: number): void {
    const span = this.#topPage - this.#basePage + 1;
    const pages = this.#pages;
    if (pages !== undefined && pages.length >= span) return;
    let length = 1;
    while (length < span) length *= 2;
    const grown = new Array<Uint32Array | undefined>(length).fill(undefined);
    if (pages !== undefined) {
      for (let page = this.#basePage; page <= previousTop; page++) {
        grown[page & (length - 1)] = pages[page & (pages.length - 1)];
      }
    }
    this.#pages = grown;
  }

  #release(pages: (Uint32Array | undefined)[], slot: number): void {
    const words = pages[slot];
    if (words !== undefined && words !== FULL) this.#pageBytes -= costOf(words);
    pages[slot] = undefined;
  }
}

function costOf(words: Uint32Array): number {
  return words.length * 4 + ARRAY_BYTES;
}
