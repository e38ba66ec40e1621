/**
 * What a node remembers of one neighbour that mixes by batches: the cells it gave it, until the neighbour has proved that they
 * were in a batch, and those it got, until the neighbour has proved that they came out of one. What is never proved is
 * counted, by how it looks; only what was signed can be shown to others (core/mix/batch-evidence.ts).
 */

import { digestKey } from '../mix/batch-queue.ts';
import type { TimeMs } from '../ports.ts';
import type { OpenedBatch } from './batch-audit.ts';

/** A batch, its delay and its proofs take less; then a cell counts as lost, a receipt as broken. */
const SETTLE_MS = 60_000;
const MAX_CELLS = 4096;
const MAX_RECEIPTS = 64;

export interface LedgerCounts {
  /** Cells that we gave and got, and that the neighbour has proved. */
  proved: number;
  /** Given, and no receipt came: the link lost them, or the neighbour threw them away. */
  lost: number;
  /** A receipt came, and no proof: the neighbour does not keep its word, or its proof did not reach us. */
  withheld: number;
  /** Got, and no proof that they were in a batch: slipped in, or the proof did not reach us. */
  unproved: number;
  /** Proved to have come out for us, and never came. */
  missed: number;
  /** Of our own circuits: in the batch on one side, and not what they have to be on the other. */
  exchanged: number;
  /** Asked about at a last hop (batch-audit.ts), without an answer that helps. */
  unanswered: number;
}

export function zeroCounts(): LedgerCounts {
  return { proved: 0, lost: 0, withheld: 0, unproved: 0, missed: 0, exchanged: 0, unanswered: 0 };
}

/** The other side of an opened batch: whether a digest is among its leaves. */
export interface OtherSide {
  readonly batch: OpenedBatch;
  holds(digest: Uint8Array): boolean;
}

/** A cell of a circuit of ours that is on one side of a batch alone, by its digest on our link. */
export interface FoundExchange {
  readonly digest: Uint8Array;
  readonly batch: OpenedBatch;
}

interface Cell {
  readonly atMs: TimeMs;
  receipted: boolean;
  /** What the cell is on the other side of the neighbour; only the client of a circuit can know. */
  readonly beyond: Uint8Array | undefined;
}

/** `cell` as digestKey makes it. */
export type LedgerStep = (action: string, cell: string, batch?: number) => void;

export class BatchLedger {
  readonly counts = zeroCounts();
  readonly #given = new Map<string, Cell>();
  readonly #got = new Map<string, Pick<Cell, 'atMs' | 'beyond'>>();
  /** Proved before they came: cells and proofs travel apart. */
  readonly #ahead = new Map<string, { readonly atMs: TimeMs; readonly other: OtherSide | undefined }>();
  #follows = false;
  readonly #receipts = new Map<string, { readonly bytes: Uint8Array; readonly atMs: TimeMs }>();
  readonly #step: LedgerStep | undefined;

  constructor(step?: LedgerStep) {
    this.#step = step;
  }

  get memoryBytes(): number {
    let bytes = 150 * (this.#given.size + this.#got.size + this.#ahead.size);
    for (const receipt of this.#receipts.values()) bytes += receipt.bytes.length;
    return bytes;
  }

  gave(digest: Uint8Array, nowMs: TimeMs, beyond?: Uint8Array): void {
    if (beyond !== undefined) this.#follows = true;
    if (this.#given.size >= MAX_CELLS) return;
    const key = digestKey(digest);
    this.#given.set(key, { atMs: nowMs, receipted: false, beyond });
    this.#step?.('Give', key);
  }

  /** Found: it was proved to have come out of a batch into which it did not go. */
  got(digest: Uint8Array, nowMs: TimeMs, beyond?: Uint8Array): FoundExchange | undefined {
    if (beyond !== undefined) this.#follows = true;
    const key = digestKey(digest);
    this.#step?.('Take', key);
    const ahead = this.#ahead.get(key);
    if (ahead === undefined) {
      if (this.#got.size < MAX_CELLS) this.#got.set(key, { atMs: nowMs, beyond });
      return undefined;
    }
    this.#ahead.delete(key);
    return this.#prove(digest, beyond, ahead.other);
  }

  /** A receipt whose signatures hold. */
  receipt(bytes: Uint8Array, number: number, tag: Uint8Array, digests: readonly Uint8Array[], nowMs: TimeMs): void {
    if (this.#receipts.size >= MAX_RECEIPTS) this.#receipts.delete(this.#receipts.keys().next().value!);
    this.#receipts.set(receiptKey(number, tag), { bytes, atMs: nowMs });
    for (const digest of digests) {
      const cell = this.#given.get(digestKey(digest));
      if (cell === undefined) continue;
      cell.receipted = true;
      this.#step?.('TakeReceipt', digestKey(digest), number);
    }
  }

  receiptFor(number: number, tag: Uint8Array): Uint8Array | undefined {
    return this.#receipts.get(receiptKey(number, tag))?.bytes;
  }

  /** A proof that holds: these cells of ours were in the batch. Found: and one of them did not come out as what it has to be. */
  provedIn(
    number: number,
    tag: Uint8Array,
    digests: readonly Uint8Array[],
    other: OtherSide,
  ): FoundExchange | undefined {
    this.#receipts.delete(receiptKey(number, tag));
    let found: FoundExchange | undefined;
    for (const digest of digests) {
      const key = digestKey(digest);
      const cell = this.#given.get(key);
      if (cell === undefined) continue;
      this.#given.delete(key);
      this.#step?.('ProvedIn', key, number);
      found = this.#prove(digest, cell.beyond, other) ?? found;
    }
    return found;
  }

  /** A proof that holds: these cells came out of the batch, for us. Found: and one of them had not gone in. */
  provedOut(digests: readonly Uint8Array[], nowMs: TimeMs, other: OtherSide): FoundExchange | undefined {
    let found: FoundExchange | undefined;
    for (const digest of digests) {
      const key = digestKey(digest);
      this.#step?.('ProvedOut', key);
      const cell = this.#got.get(key);
      if (cell !== undefined) {
        this.#got.delete(key);
        found = this.#prove(digest, cell.beyond, other) ?? found;
      } else if (this.#ahead.size < MAX_CELLS) {
        // Nobody is to keep an opening for cells that nobody follows.
        this.#ahead.set(key, { atMs: nowMs, other: this.#follows ? other : undefined });
      }
    }
    return found;
  }

  #prove(digest: Uint8Array, beyond: Uint8Array | undefined, other: OtherSide | undefined): FoundExchange | undefined {
    if (beyond === undefined || other === undefined || other.holds(beyond)) {
      this.counts.proved++;
      return undefined;
    }
    this.counts.exchanged++;
    return { digest, batch: other.batch };
  }

  /** Once a second or so: counts what has waited too long. True when that speaks against the neighbour. */
  sweep(nowMs: TimeMs): boolean {
    const { counts } = this;
    const before = counts.withheld + counts.unproved;
    const end = nowMs - SETTLE_MS;
    for (const [key, { atMs, receipted }] of this.#given) {
      if (atMs > end) break;
      this.#given.delete(key);
      this.#step?.(receipted ? 'Withheld' : 'Lost', key);
      if (receipted) counts.withheld++;
      else counts.lost++;
    }
    for (const [key, { atMs }] of this.#got) {
      if (atMs > end) break;
      this.#got.delete(key);
      this.#step?.('Unproved', key);
      counts.unproved++;
    }
    for (const [key, { atMs }] of this.#ahead) {
      if (atMs > end) break;
      this.#ahead.delete(key);
      counts.missed++;
    }
    for (const [key, { atMs }] of this.#receipts) {
      if (atMs > end) break;
      this.#receipts.delete(key);
    }
    return counts.withheld + counts.unproved > before;
  }
}

function receiptKey(number: number, tag: Uint8Array): string {
  return `${number} ${tag.join()}`;
}
