/**
 * The repairing side of one path: keeps the marked packets for a while and puts missing ones together when enough repair
 * symbols are there. Everything that comes from the peer is bounded here: sources kept, blocks open, symbols in them, time,
 * and what decoding may cost. What comes out is a payload like any other: the peer's word, authenticated as the frames
 * were that it was made from (docs/adr/0023-forward-error-correction.md).
 */
import type { TimeMs } from '../ports.ts';
import { hasBit, type RepairDecoder } from '../wire/fec-frames.ts';
import { type BlockCodec, MAX_REPAIRS, MAX_SPAN, SYMBOL_BYTES, Symbols } from './block-codec.ts';
import type { FecBudget } from './budget.ts';
import type { FecTally } from './stats.ts';

/** Marked packets kept; twice what a block may span, as its repair comes after it. */
const MAX_KEPT = 2 * MAX_SPAN;
const MIN_KEPT = 16;
/** Blocks that wait for more symbols, and symbols in them together. */
const MAX_OPEN_BLOCKS = 16;
const MAX_OPEN_SYMBOLS = 2 * MAX_REPAIRS;
/** What has not been put together by then was sent again long ago. */
const OPEN_MS = 2000;
const IDLE_MS = 5000;
/** From the newest packet of the path. Repair symbols come on other paths too, which may be quicker or slower. */
const MAX_DISTANCE = 8192;
const NONE = -1;
/** Where a code needs more than k symbols, a few more will do. */
const SPARE_SYMBOLS = 2;

export const RepairResult = { taken: 0, unneeded: 1, rejected: 2 } as const;
export type RepairResult = (typeof RepairResult)[keyof typeof RepairResult];

interface OpenBlock {
  readonly first: number;
  readonly span: number;
  readonly codec: BlockCodec;
  readonly bitmap: Uint8Array;
  readonly sources: number;
  readonly openedMs: TimeMs;
  symbols: Symbols;
  readonly ids: number[];
}

export interface RecoveredPacket {
  readonly packetNumber: number;
  /** SYMBOL_BYTES; the rest of the payload was zeros. */
  readonly payload: Uint8Array;
}

/** What has come on the path, kept or not. */
export interface ArrivedPackets {
  readonly largest: number;
  isDuplicate(packetNumber: number): boolean;
}

export class FecReceiver {
  readonly #codecs: readonly BlockCodec[];
  readonly #budget: FecBudget;
  readonly #tally: FecTally;
  readonly #arrived: ArrivedPackets;
  /** Packet `n` lies at n mod capacity. */
  #kept: Symbols | undefined;
  #numbers: Float64Array = new Float64Array(0);
  /** The newest packet that came and is not kept any more. */
  #forgotten = NONE;
  #blocks: OpenBlock[] = [];
  #usedMs: TimeMs = 0;

  constructor(codecs: readonly BlockCodec[], budget: FecBudget, arrived: ArrivedPackets, tally: FecTally) {
    this.#tally = tally;
    this.#codecs = codecs;
    this.#budget = budget;
    this.#arrived = arrived;
  }

  /** A marked packet (borrowed). What it completes goes into `recovered`. */
  onSource(packetNumber: number, payload: Uint8Array, nowMs: TimeMs, recovered: RecoveredPacket[]): void {
    this.#usedMs = nowMs;
    this.#keep(packetNumber, payload);
    for (let i = this.#blocks.length - 1; i >= 0; i--) {
      const block = this.#blocks[i]!;
      if (packetNumber >= block.first && packetNumber < block.first + block.span) this.#tryBlock(i, nowMs, recovered);
    }
  }

  /** A repair symbol (borrowed, as decoded from `payload`). What it completes goes into `recovered`. */
  onRepair(frame: RepairDecoder, payload: Uint8Array, nowMs: TimeMs, recovered: RecoveredPacket[]): RepairResult {
    this.#tally.add('repairsReceived');
    this.#usedMs = nowMs;
    this.#forgetOld(nowMs);
    const codec = this.#codecs.find((candidate) => candidate.id === frame.codec);
    const far = Math.abs(frame.first - Math.max(0, this.#arrived.largest)) > MAX_DISTANCE;
    if (codec === undefined || far) return this.#reject();
    if (this.#isPast(frame.first)) {
      this.#tally.add('repairsWasted');
      return RepairResult.unneeded;
    }
    let at = this.#blocks.findIndex((block) => block.first === frame.first && block.span === frame.span);
    if (at < 0) {
      if (this.#missing(frame.first, frame.span, frame.bitmap).length === 0) {
        this.#tally.add('repairsUnneeded');
        return RepairResult.unneeded;
      }
      at = this.#open(frame, codec, nowMs);
    }
    const block = this.#blocks[at]!;
    if (!isOf(block, frame) || block.ids.includes(frame.index) || block.ids.length >= block.sources + SPARE_SYMBOLS) {
      return this.#reject();
    }
    if (this.#openSymbols() >= MAX_OPEN_SYMBOLS) this.#giveUp(at === 0 && this.#blocks.length > 1 ? 1 : 0);
    at = this.#blocks.indexOf(block);
    if (at < 0) return this.#reject();
    if (block.ids.length === block.symbols.count) block.symbols = grown(block.symbols, block.sources + SPARE_SYMBOLS);
    block.symbols.set(block.ids.length, payload.subarray(frame.symbolStart, frame.symbolStart + SYMBOL_BYTES));
    block.ids.push(frame.index);
    this.#tryBlock(at, nowMs, recovered);
    return RepairResult.taken;
  }

  get nextTimeoutMs(): TimeMs {
    return this.#kept === undefined && this.#blocks.length === 0 ? Number.POSITIVE_INFINITY : this.#usedMs + IDLE_MS;
  }

  /** Gives the memory back when nothing has come for a while. */
  poll(nowMs: TimeMs): void {
    if (nowMs < this.nextTimeoutMs) return;
    while (this.#blocks.length > 0) this.#giveUp(0);
    this.#kept = undefined;
    this.#numbers = new Float64Array(0);
    this.#forgotten = NONE;
  }

  get memoryBytes(): number {
    let bytes = (this.#kept?.bytes.length ?? 0) + this.#numbers.byteLength;
    for (const block of this.#blocks) bytes += block.symbols.bytes.length;
    return bytes;
  }

  #reject(): RepairResult {
    this.#tally.add('repairsRejected');
    return RepairResult.rejected;
  }

  // ---- Sources

  #keep(packetNumber: number, payload: Uint8Array): void {
    if (this.#kept === undefined) this.#resize(MIN_KEPT);
    // A block's packets must not push each other out.
    while (this.#kept!.count < MAX_KEPT) {
      const present = this.#numbers[packetNumber % this.#kept!.count]!;
      if (present === NONE || present === packetNumber) break;
      this.#resize(this.#kept!.count * 2);
    }
    const slot = packetNumber % this.#kept!.count;
    // A straggler does not push out what came after it.
    const present = this.#numbers[slot]!;
    if (present !== packetNumber) this.#forgotten = Math.max(this.#forgotten, Math.min(present, packetNumber));
    if (present > packetNumber) return;
    this.#kept!.set(slot, payload);
    this.#numbers[slot] = packetNumber;
  }

  #resize(count: number): void {
    const kept = new Symbols(count);
    const numbers = new Float64Array(count).fill(NONE);
    for (let slot = 0; slot < this.#numbers.length; slot++) {
      const number = this.#numbers[slot]!;
      if (number === NONE) continue;
      kept.set(number % count, this.#kept!.at(slot));
      numbers[number % count] = number;
    }
    this.#kept = kept;
    this.#numbers = numbers;
  }

  /** Sources of a block that begins there may have come and been forgotten: what is missing can't be told any more. */
  #isPast(first: number): boolean {
    return first <= this.#forgotten;
  }

  #isKept(packetNumber: number): boolean {
    return this.#kept !== undefined && this.#numbers[packetNumber % this.#kept.count] === packetNumber;
  }

  // ---- Blocks

  /** Positions among the block's sources of those that are not here. */
  #missing(first: number, span: number, bitmap: Uint8Array): number[] {
    const missing: number[] = [];
    let position = 0;
    for (let i = 0; i < span; i++) {
      if (!hasBit(bitmap, i)) continue;
      if (!this.#isKept(first + i)) missing.push(position);
      position++;
    }
    return missing;
  }

  #open(frame: RepairDecoder, codec: BlockCodec, nowMs: TimeMs): number {
    if (this.#blocks.length >= MAX_OPEN_BLOCKS) this.#giveUp(0);
    this.#blocks.push({
      first: frame.first,
      span: frame.span,
      codec,
      bitmap: frame.bitmap.slice(),
      sources: frame.sources,
      openedMs: nowMs,
      symbols: new Symbols(Math.min(2, frame.sources)),
      ids: [],
    });
    return this.#blocks.length - 1;
  }

  #openSymbols(): number {
    let symbols = 0;
    for (const block of this.#blocks) symbols += block.ids.length;
    return symbols;
  }

  #forgetOld(nowMs: TimeMs): void {
    while (this.#blocks.length > 0 && this.#blocks[0]!.openedMs + OPEN_MS < nowMs) this.#giveUp(0);
  }

  #giveUp(index: number): void {
    const [block] = this.#blocks.splice(index, 1);
    this.#tally.add('repairsWasted', block!.ids.length);
  }

  #tryBlock(index: number, nowMs: TimeMs, recovered: RecoveredPacket[]): void {
    const block = this.#blocks[index]!;
    const missing = this.#missing(block.first, block.span, block.bitmap);
    if (missing.length === 0) {
      this.#blocks.splice(index, 1);
      this.#tally.add('repairsUnneeded', block.ids.length);
      return;
    }
    if (this.#isPast(block.first)) {
      this.#giveUp(index);
      return;
    }
    if (missing.length > block.ids.length) return;
    if (!this.#budget.take(block.codec.costUs(block.sources, missing.length), nowMs)) {
      this.#tally.add('overBudget');
      return;
    }
    const sources = new Symbols(block.sources);
    const numbers: number[] = [];
    for (let i = 0; i < block.span; i++) {
      if (!hasBit(block.bitmap, i)) continue;
      const number = block.first + i;
      if (this.#isKept(number)) sources.set(numbers.length, this.#kept!.at(number % this.#kept!.count));
      numbers.push(number);
    }
    if (!block.codec.decode(sources, block.sources, missing, block.symbols, block.ids)) {
      this.#tally.add('decodeFailures');
      return;
    }
    this.#blocks.splice(index, 1);
    this.#tally.add('blocksDecoded');
    this.#tally.add('repairsUsed', missing.length);
    this.#tally.add('repairsUnneeded', block.ids.length - missing.length);
    for (const position of missing) {
      const packetNumber = numbers[position]!;
      const payload = sources.at(position);
      this.#keep(packetNumber, payload);
      // It may have come long ago and not be kept any more.
      if (this.#arrived.isDuplicate(packetNumber)) continue;
      this.#tally.add('packetsRecovered');
      recovered.push({ packetNumber, payload });
    }
  }
}

function isOf(block: OpenBlock, frame: RepairDecoder): boolean {
  if (block.span !== frame.span || block.codec.id !== frame.codec || block.sources !== frame.sources) return false;
  const bytes = (frame.span + 7) >>> 3;
  for (let i = 0; i < bytes; i++) if (block.bitmap[i] !== frame.bitmap[i]) return false;
  return true;
}

function grown(symbols: Symbols, most: number): Symbols {
  const larger = new Symbols(Math.min(most, symbols.count * 2));
  larger.words.set(symbols.words);
  return larger;
}
