/**
 * The protecting side of one path: collects payloads that went out into blocks, and when a block closes makes as many
 * repair symbols as the path's losses ask for. Packets themselves are not changed but for a mark of one byte.
 * Order of calls: armed() → a payload of at most SYMBOL_BYTES goes out → onSource(); poll(), then writeRepair() while
 * `queued`.
 */
import type { TimeMs } from '../ports.ts';
import { type RepairHeader, setBit, writeRepair } from '../wire/fec-frames.ts';
import { type BlockCodec, MAX_REPAIRS, MAX_SOURCES, MAX_SPAN, SYMBOL_WORDS, Symbols } from './block-codec.ts';
import type { FecBudget } from './budget.ts';
import type { LossProcess } from './loss-process.ts';
import type { FecPolicy, FecTuning } from './policy.ts';
import { repairsFor } from './redundancy.ts';
import type { FecTally } from './stats.ts';

/** Repairs that wait to be sent; of more, the oldest would only come too late. */
const MAX_QUEUED = 2 * MAX_REPAIRS;
/** Losses in such runs need longer blocks. */
const LONG_BURST = 4;
/**
 * Small blocks reach back over packets of the blocks before, so that a burst that takes a packet with its repair symbols
 * is mended by those of the next.
 */
const SMALL_BLOCK = 8;
/** How far back: where no retransmission has been started, or nobody would yet have noticed. */
const MIN_REACH_MS = 50;
/** So many repairs a message of a few packets may get, whatever the ratio: a burst takes all of it at once. */
const MESSAGE = 5;
/**
 * Where losses come in such runs, a message of a few packets goes as a whole, and with it what is sent right behind it: one
 * symbol leaves at once, for a single loss, and as many as there are packets, and two to spare, when the burst is over. Of
 * a packet on its own one: those that follow reach back to it.
 */
const BURST = 2;
/** With fewer losses than this most that is hit is hit at its edge, and sooner is better. */
const SPREAD_RATIO = 0.02;
const EARLY = 1;
const SPARE = 2;
/** When that is: a quarter of the round trip later, within bounds. Long before a retransmission where the round trip is long. */
const LATE_RTTS = 1 / 4;
const MIN_LATE_MS = 20;
const MAX_LATE_MS = 30;
const MIN_SYMBOLS = 16;
/** Without anything to protect for so long, the memory goes. */
const IDLE_MS = 5000;

/** The session's part, the same for all its paths; it may change. */
export interface FecWish {
  readonly policy: FecPolicy;
  /** Codes that both sides have. */
  readonly codecs: readonly BlockCodec[];
}

interface MadeBlock {
  readonly header: RepairHeader;
  readonly symbols: Symbols;
  readonly count: number;
  readonly expiresMs: TimeMs;
  next: number;
  /** Symbols from `late` on wait until `lateMs`. */
  late: number;
  readonly lateMs: TimeMs;
}

export class FecSender {
  readonly loss: LossProcess;
  readonly #wish: FecWish;
  readonly #budget: FecBudget;
  readonly #tally: FecTally;
  readonly #tuning: FecTuning;
  readonly #path: number;
  /** Sources by age: some of blocks that are closed, then those of the open one. */
  #sources: Symbols | undefined;
  readonly #numbers: number[] = [];
  readonly #sentMs: TimeMs[] = [];
  /** Of those, how many are the open block's. */
  #count = 0;
  #dueMs: TimeMs = Number.POSITIVE_INFINITY;
  #usedMs: TimeMs = 0;
  #queue: MadeBlock[] = [];
  /** Of them, the one whose turn it is. */
  #ready = 0;
  /** What the present loss asks for, by the block's size; 0 = not computed yet. */
  readonly #needed = new Uint8Array(MAX_SOURCES + 1);
  #neededRatio = 0;
  #neededBurst = 0;

  /** `path` is what repair symbols call this path; `loss` is how it loses packets. */
  constructor(wish: FecWish, budget: FecBudget, tuning: FecTuning, path: number, tally: FecTally, loss: LossProcess) {
    this.loss = loss;
    this.#tally = tally;
    this.#wish = wish;
    this.#budget = budget;
    this.#tuning = tuning;
    this.#path = path;
  }

  /** Packets of this path are to be protected, as far as somebody waits for them. */
  armed(nowMs: TimeMs): boolean {
    const { policy, codecs } = this.#wish;
    if (policy === 'off' || codecs.length === 0) return false;
    return policy !== 'adaptive' || this.loss.ratio(nowMs) > 0;
  }

  /** Repair symbols can say on any path which one they are about. */
  get named(): boolean {
    return this.#path !== 0;
  }

  /** What the mark of a protected packet says of its path. */
  get tag(): number {
    return this.#path;
  }

  /** Every packet is to be protected, whatever is lost. */
  get forced(): boolean {
    return typeof this.#wish.policy === 'object' && this.#wish.codecs.length > 0;
  }

  /** A packet went out whose frames lie in the first SYMBOL_BYTES of `payload` (borrowed). Numbers rise. */
  onSource(packetNumber: number, payload: Uint8Array, rttMs: number, nowMs: TimeMs): void {
    const numbers = this.#numbers;
    if (this.#count > 0 && packetNumber - numbers[numbers.length - this.#count]! >= MAX_SPAN) this.#close(nowMs, rttMs);
    this.#sources ??= new Symbols(MIN_SYMBOLS);
    if (numbers.length === this.#sources.count) this.#makeRoom();
    if (this.#count === 0) this.#dueMs = nowMs + this.blockMs(rttMs);
    this.#sources.set(numbers.length, payload);
    numbers.push(packetNumber);
    this.#sentMs.push(nowMs);
    this.#count++;
    this.#usedMs = nowMs;
    this.#tally.add('sourcesSent');
    if (this.#count >= this.#blockPackets) this.#close(nowMs, rttMs);
  }

  /** How long a packet may wait for its block to close. */
  blockMs(rttMs: number): number {
    const { rttShare, minBlockMs, maxBlockMs } = this.#tuning;
    return Math.min(maxBlockMs, Math.max(minBlockMs, rttMs * rttShare));
  }

  get nextTimeoutMs(): TimeMs {
    let dueMs = this.#count > 0 ? this.#dueMs : Number.POSITIVE_INFINITY;
    for (const block of this.#queue) if (block.next >= block.late) dueMs = Math.min(dueMs, block.lateMs);
    if (dueMs < Number.POSITIVE_INFINITY) return dueMs;
    return this.#sources === undefined ? Number.POSITIVE_INFINITY : this.#usedMs + IDLE_MS;
  }

  /** Closes the open block when its time has come, and lets late symbols go when theirs has. */
  poll(nowMs: TimeMs, rttMs: number): void {
    for (const block of this.#queue) if (block.lateMs <= nowMs) block.late = block.count;
    if (this.#count > 0) {
      if (nowMs >= this.#dueMs) this.#close(nowMs, rttMs);
    } else if (this.#sources !== undefined && nowMs >= this.#usedMs + IDLE_MS) {
      this.#sources = undefined;
      this.#numbers.length = 0;
      this.#sentMs.length = 0;
    }
  }

  /** Repair symbols that wait. */
  queued(nowMs: TimeMs): boolean {
    while (this.#queue.length > 0 && this.#queue[0]!.expiresMs < nowMs) this.#expire();
    for (let i = 0; i < this.#queue.length; i++) {
      const block = this.#queue[i]!;
      if (block.next < block.late || block.lateMs <= nowMs) {
        this.#ready = i;
        return true;
      }
    }
    return false;
  }

  /** The next FEC_REPAIR into an empty payload; the end of it. Only while `queued`. */
  writeRepair(out: Uint8Array): number {
    const block = this.#queue[this.#ready]!;
    const end = writeRepair(out, 0, block.header, block.next, block.symbols.at(block.next));
    this.#tally.add('repairsSent');
    if (++block.next === block.count) this.#queue.splice(this.#ready, 1);
    return end;
  }

  /** Repair symbols for each source that a full block would get now. */
  ratio(nowMs: TimeMs): number {
    if (!this.armed(nowMs)) return 0;
    return this.#repairs(this.#blockPackets, nowMs) / this.#blockPackets;
  }

  get memoryBytes(): number {
    let bytes = this.#sources?.bytes.length ?? 0;
    for (const block of this.#queue) bytes += block.symbols.bytes.length;
    return bytes;
  }

  get #blockPackets(): number {
    return this.loss.meanBurst >= LONG_BURST ? MAX_SOURCES : this.#tuning.blockPackets;
  }

  #spreads(nowMs: TimeMs): boolean {
    if (this.#wish.policy !== 'adaptive' || this.#count > SMALL_BLOCK) return false;
    return this.loss.meanBurst >= BURST && this.loss.ratio(nowMs) >= SPREAD_RATIO;
  }

  #close(nowMs: TimeMs, rttMs: number): void {
    const measured = this.armed(nowMs) ? this.#repairs(this.#count, nowMs) : 0;
    const spreads = measured > 0 && this.#spreads(nowMs);
    const repairs = spreads ? Math.max(measured, EARLY + this.#count + Math.min(this.#count, SPARE)) : measured;
    this.#reachBack(nowMs - Math.max(MIN_REACH_MS, rttMs));
    const k = this.#numbers.length;
    const sources = this.#sources!;
    const codec = repairs > 0 ? this.#cheapest(k, repairs) : undefined;
    this.#count = 0;
    this.#dueMs = Number.POSITIVE_INFINITY;
    if (codec === undefined) return;
    const header = this.#header(codec);
    if (!this.#budget.take(codec.costUs(k, repairs), nowMs)) {
      this.#tally.add('blocksSkipped');
      return;
    }
    const symbols = new Symbols(repairs);
    if (!codec.encode(sources, k, repairs, symbols)) {
      this.#tally.add('blocksSkipped');
      return;
    }
    // Later than a retransmission it helps nobody.
    const expiresMs = nowMs + Math.max(rttMs, this.#tuning.maxBlockMs);
    const lateMs = nowMs + Math.min(MAX_LATE_MS, Math.max(MIN_LATE_MS, rttMs * LATE_RTTS));
    const late = spreads ? EARLY : repairs;
    this.#queue.push({ header, symbols, count: repairs, next: 0, expiresMs, late, lateMs });
    for (let waiting = this.#waiting(); waiting > MAX_QUEUED; waiting = this.#waiting()) this.#expire();
  }

  /** Leaves what the block is to cover: of older sources no more than make a small block full. */
  #reachBack(sinceMs: TimeMs): void {
    const numbers = this.#numbers;
    const newest = numbers[numbers.length - 1]!;
    const old = numbers.length - this.#count;
    let drop = Math.min(old, Math.max(0, numbers.length - SMALL_BLOCK));
    while (drop < old && (newest - numbers[drop]! >= MAX_SPAN || this.#sentMs[drop]! < sinceMs)) drop++;
    this.#drop(drop);
  }

  #drop(packets: number): void {
    if (packets === 0) return;
    this.#sources!.words.copyWithin(0, packets * SYMBOL_WORDS, this.#numbers.length * SYMBOL_WORDS);
    this.#numbers.splice(0, packets);
    this.#sentMs.splice(0, packets);
  }

  #makeRoom(): void {
    const old = this.#numbers.length - this.#count;
    if (old > 0 && (old >= SMALL_BLOCK || this.#sources!.count >= MAX_SOURCES)) {
      this.#drop(Math.max(1, old - SMALL_BLOCK));
      return;
    }
    const larger = new Symbols(Math.min(MAX_SOURCES, this.#sources!.count * 2));
    larger.words.set(this.#sources!.words);
    this.#sources = larger;
  }

  #cheapest(k: number, repairs: number): BlockCodec | undefined {
    let codec: BlockCodec | undefined;
    for (const candidate of this.#wish.codecs) {
      if (codec === undefined || candidate.costUs(k, repairs) < codec.costUs(k, repairs)) codec = candidate;
    }
    return codec;
  }

  #header(codec: BlockCodec): RepairHeader {
    const numbers = this.#numbers;
    const first = numbers[0]!;
    const span = numbers[numbers.length - 1]! - first + 1;
    const bitmap = new Uint8Array((span + 7) >>> 3);
    for (const number of numbers) setBit(bitmap, number - first);
    return { path: this.#path, codec: codec.id, first, span, bitmap };
  }

  #repairs(k: number, nowMs: TimeMs): number {
    const { policy } = this.#wish;
    if (typeof policy === 'object') return Math.min(MAX_REPAIRS, Math.ceil(k * policy.ratio));
    const ratio = this.loss.ratio(nowMs);
    if (ratio === 0) return 0;
    const burst = this.loss.meanBurst;
    // Computing it anew for every packet's share of a per cent would cost more than it saves.
    if (Math.abs(ratio - this.#neededRatio) > ratio / 10 || Math.abs(burst - this.#neededBurst) > burst / 10) {
      this.#needed.fill(0);
      this.#neededRatio = ratio;
      this.#neededBurst = burst;
    }
    const most = Math.min(MAX_REPAIRS, Math.max(1 + Math.ceil(k * this.#tuning.maxRatio), Math.min(k + 1, MESSAGE)));
    this.#needed[k] ||= repairsFor(k, ratio, burst, this.#tuning.targetFailure, most);
    return this.#needed[k]!;
  }

  #waiting(): number {
    let symbols = 0;
    for (const block of this.#queue) symbols += block.count - block.next;
    return symbols;
  }

  #expire(): void {
    const block = this.#queue.shift()!;
    this.#tally.add('repairsExpired', block.count - block.next);
  }
}
