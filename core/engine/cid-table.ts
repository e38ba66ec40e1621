/**
 * Finds the circuit of a cell by its CID. A CID is 96 random bits and local to one link, so 32 of them make a
 * good hash (a small integer, the cheapest key there is) and the rest is compared.
 */
import { HEADER_OFFSET } from '../wire/datagram.ts';

/** A CID as three 32-bit integers: compared and written without touching a buffer. */
export class Cid {
  readonly a: number;
  readonly b: number;
  readonly c: number;

  constructor(a: number, b: number, c: number) {
    this.a = a;
    this.b = b;
    this.c = c;
  }

  /** Reads 12 bytes. */
  static read(bytes: Uint8Array, offset: number): Cid {
    return new Cid(readInt32(bytes, offset), readInt32(bytes, offset + 4), readInt32(bytes, offset + 8));
  }

  write(bytes: Uint8Array, offset: number): void {
    writeInt32(bytes, offset, this.a);
    writeInt32(bytes, offset + 4, this.b);
    writeInt32(bytes, offset + 8, this.c);
  }
}

/** Random CIDs don't come near this; chosen ones would make every look-up walk the whole chain. */
const MAX_CHAIN = 8;

export interface CidEntry<L> {
  readonly cid: Cid;
  readonly link: L;
  /** Next entry with the same hash. Owned by the table. */
  chain: CidEntry<L> | undefined;
}

export class CidTable<L, E extends CidEntry<L>> {
  readonly #byHash = new Map<number, E>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The entry for the CID in an unmasked datagram that came over `link`. */
  find(datagram: Uint8Array, link: L): E | undefined {
    let entry = this.#byHash.get(readInt32(datagram, HEADER_OFFSET));
    if (entry === undefined) return undefined;
    const b = readInt32(datagram, HEADER_OFFSET + 4);
    const c = readInt32(datagram, HEADER_OFFSET + 8);
    while (entry !== undefined) {
      if (entry.cid.b === b && entry.cid.c === c && entry.link === link) return entry;
      entry = entry.chain as E | undefined;
    }
    return undefined;
  }

  get(cid: Cid, link: L): E | undefined {
    let entry = this.#byHash.get(cid.a);
    while (entry !== undefined) {
      if (entry.cid.b === cid.b && entry.cid.c === cid.c && entry.link === link) return entry;
      entry = entry.chain as E | undefined;
    }
    return undefined;
  }

  /** False when the link has that CID already, or when somebody makes CIDs that share their hash on purpose. */
  add(entry: E): boolean {
    const first = this.#byHash.get(entry.cid.a);
    let length = 0;
    for (let other: CidEntry<L> | undefined = first; other !== undefined; other = other.chain) {
      if (other.cid.b === entry.cid.b && other.cid.c === entry.cid.c && other.link === entry.link) return false;
      if (++length === MAX_CHAIN) return false;
    }
    entry.chain = first;
    this.#byHash.set(entry.cid.a, entry);
    this.#size++;
    return true;
  }

  remove(entry: E): void {
    const first = this.#byHash.get(entry.cid.a);
    if (first === entry) {
      if (entry.chain === undefined) this.#byHash.delete(entry.cid.a);
      else this.#byHash.set(entry.cid.a, entry.chain as E);
    } else {
      let before: CidEntry<L> | undefined = first;
      while (before !== undefined && before.chain !== entry) before = before.chain;
      if (before === undefined) return;
      before.chain = entry.chain;
    }
    entry.chain = undefined;
    this.#size--;
  }
}

function readInt32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 24) | (bytes[offset + 1]! << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!;
}

function writeInt32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}
