/**
 * Which of a node's workers holds which link, in memory that all of them share: one writes its links' receive ids, the
 * others look them up when the kernel hands them a datagram that is not theirs. It does so when a client has moved (the
 * port is shared by a hash of addresses), and when a worker has crashed and the rest are counted anew.
 *
 * Open addressing within buckets, without locks for a worker to die with. A slot is claimed by its owner word, then gets
 * its id. A link that finds its bucket full is not in the table: it stays where it is and does not move between workers.
 */
const SLOTS = 2 ** 16;
const BUCKET = 8;

/** For all workers of one node. Zeros: nobody holds anything. */
export function createLinkTableWords(): SharedArrayBuffer {
  return new SharedArrayBuffer(2 * 4 * SLOTS);
}

export class LinkTable {
  readonly #ids: Int32Array;
  /** Worker + 1; 0 = free. */
  readonly #owners: Int32Array;
  readonly #worker: number;

  /** What an earlier worker of this number has left is gone with its links. */
  constructor(words: SharedArrayBuffer, worker: number) {
    this.#ids = new Int32Array(words, 0, SLOTS);
    this.#owners = new Int32Array(words, 4 * SLOTS, SLOTS);
    this.#worker = worker;
    for (let slot = 0; slot < SLOTS; slot++) if (Atomics.load(this.#owners, slot) === worker + 1) this.#free(slot);
  }

  /** This worker's from now on. False: no room. `id` as readLinkId() gives it, not 0. */
  add(id: number): boolean {
    const first = bucketOf(id);
    for (let slot = first; slot < first + BUCKET; slot++) {
      if (Atomics.compareExchange(this.#owners, slot, 0, this.#worker + 1) !== 0) continue;
      Atomics.store(this.#ids, slot, id);
      return true;
    }
    return false;
  }

  remove(id: number): void {
    const first = bucketOf(id);
    for (let slot = first; slot < first + BUCKET; slot++) {
      if (Atomics.load(this.#ids, slot) !== id || Atomics.load(this.#owners, slot) !== this.#worker + 1) continue;
      this.#free(slot);
      return;
    }
  }

  /** The other worker that holds it; undefined: none does. */
  ownerOf(id: number): number | undefined {
    const first = bucketOf(id);
    for (let slot = first; slot < first + BUCKET; slot++) {
      if (Atomics.load(this.#ids, slot) !== id) continue;
      const owner = Atomics.load(this.#owners, slot);
      if (owner !== 0 && owner !== this.#worker + 1) return owner - 1;
    }
    return undefined;
  }

  /** The id first: who reads in between finds nothing, not somebody else's. */
  #free(slot: number): void {
    Atomics.store(this.#ids, slot, 0);
    Atomics.store(this.#owners, slot, 0);
  }
}

/** Ids are random. */
function bucketOf(id: number): number {
  return (id & (SLOTS / BUCKET - 1)) * BUCKET;
}
