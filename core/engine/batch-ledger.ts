/**
 * What a node remembers of one neighbour that mixes by batches: the cells it gave it, until the neighbour has proved that they
 * were in a batch, and those it got, until the neighbour has proved that they came out of one. What is never proved is
 * counted, by how it looks; only what was signed can be shown to others (core/mix/batch-evidence.ts).
 */

import { digestKey } from '../mix/batch-queue.ts';
import type { TimeMs } from '../ports.ts';

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
}

export function zeroCounts(): LedgerCounts {
  return { proved: 0, lost: 0, withheld: 0, unproved: 0 };
}

interface Cell {
  readonly atMs: TimeMs;
  receipted: boolean;
}

/** `cell` as digestKey makes it. */
export type LedgerStep = (action: string, cell: string, batch?: number) => void;

export class BatchLedger {
  readonly counts = zeroCounts();
  readonly #given = new Map<string, Cell>();
  readonly #got = new Map<string, TimeMs>();
  /** Proved before they came: cells and proofs travel apart. */
  readonly #ahead = new Map<string, TimeMs>();
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

  gave(digest: Uint8Array, nowMs: TimeMs): void {
    if (this.#given.size >= MAX_CELLS) return;
    this.#given.set(digestKey(digest), { atMs: nowMs, receipted: false });
    this.#step?.('Give', digestKey(digest));
  }

  got(digest: Uint8Array, nowMs: TimeMs): void {
    const key = digestKey(digest);
    this.#step?.('Take', key);
    if (this.#ahead.delete(key)) this.counts.proved++;
    else if (this.#got.size < MAX_CELLS) this.#got.set(key, nowMs);
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

  /** A proof that holds: these cells of ours were in the batch. */
  provedIn(number: number, tag: Uint8Array, digests: readonly Uint8Array[]): void {
    this.#receipts.delete(receiptKey(number, tag));
    for (const digest of digests) {
      if (!this.#given.delete(digestKey(digest))) continue;
      this.counts.proved++;
      this.#step?.('ProvedIn', digestKey(digest), number);
    }
  }

  /** A proof that holds: these cells came out of the batch, for us. */
  provedOut(digests: readonly Uint8Array[], nowMs: TimeMs): void {
    for (const digest of digests) {
      const key = digestKey(digest);
      this.#step?.('ProvedOut', key);
      if (this.#got.delete(key)) this.counts.proved++;
      else if (this.#ahead.size < MAX_CELLS) this.#ahead.set(key, nowMs);
    }
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
    for (const [key, atMs] of this.#got) {
      if (atMs > end) break;
      this.#got.delete(key);
      this.#step?.('Unproved', key);
      counts.unproved++;
    }
    for (const [key, atMs] of this.#ahead) {
      if (atMs > end) break;
      this.#ahead.delete(key);
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
