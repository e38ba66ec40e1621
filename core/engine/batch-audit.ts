/**
 * Spot checks of class cmix (docs/protocol.md §7.1). The client of a circuit asks its last hop, inside the circuit, to open the
 * batches in which one of its cells was, at the last hop and at the one before, and its first hop that of the second. All of
 * them know already what they are asked for, nobody else learns anything, and mixes cannot know beforehand which
 * cell it will be. The first hop opens its own batches to the client as to every neighbour (engine-batches.ts).
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { compareBytes, joinBytes, readNumber, writeNumber } from '../directory/bytes.ts';
import { DIGEST_BYTES } from '../mix/accumulator.ts';
import { cellDigest, MAX_OPENING_BYTES } from '../mix/batch-records.ts';
import type { ShownCell } from '../mix/exchange-evidence.ts';
import { Exponential } from '../mix/exponential.ts';
import type { LayerWatch } from '../onion/client-onion.ts';
import type { Random, TimeMs } from '../ports.ts';
import { Cid } from './cid-table.ts';
import type { Travel } from './circuit.ts';

/** Cells of a circuit that the client may ask about. */
const CLIENT_CELLS = 64;
/** About, on one link. */
const CLIENT_CELL_BYTES = 1600;
/** By then a batch has been proved to its neighbours if all goes well; where cells take longer, so does that. */
const MIN_SETTLED_MS = 4000;
/** A cell has passed half a round trip's batches when the last hop takes it, and each of these has to be proved. */
const SETTLED_RTTS = 2;
/** The cells that are remembered are drawn from so much time, however many there are: what is settled must be among them. */
const TRAIL_SETTLED = 3;
/** Between two questions: so much time, and so many cells, lest answers and their acknowledgements call for questions without end. */
const GAP_MS = 5000;
const GAP_CELLS = 24;
const MAX_CREDIT = 4 * GAP_CELLS;
/** The last hop answers no more often. */
export const MIN_ANSWER_GAP_MS = 2000;
/** Then there will be no answer. */
const MIN_ANSWER_MS = 60_000;
const ANSWER_RTTS = 4;
/** So many answers in a row that do not help, or are missing, speak against who gives them. */
const MAX_USELESS = 6;

const QUESTION_BYTES = 1 + DIGEST_BYTES;
const ANSWER_HEAD_BYTES = QUESTION_BYTES + 1;

/** Whose batch an answer opens. The last hop speaks of the one before it and of itself, the first hop of the second. */
export const AuditHop = { before: 0, last: 1, second: 2 } as const;
export type AuditHop = (typeof AuditHop)[keyof typeof AuditHop];

/** When a batch that a cell was in has been proved to its neighbours. `rttMs`: of the circuit, measured or expected. */
export function settledMs(rttMs: number): number {
  return Math.max(MIN_SETTLED_MS, SETTLED_RTTS * rttMs);
}

/** `travel (1) ‖ digest (32)` of a cell between the last hop and the one before */
export interface Question {
  readonly travel: Travel;
  readonly digest: Uint8Array;
}

export function encodeQuestion({ travel, digest }: Question): Uint8Array {
  const bytes = new Uint8Array(QUESTION_BYTES);
  bytes[0] = travel;
  bytes.set(digest, 1);
  return bytes;
}

export function decodeQuestion(bytes: Uint8Array): Question | undefined {
  if (bytes.length !== QUESTION_BYTES || bytes[0]! > 1) return undefined;
  return { travel: bytes[0] as Travel, digest: bytes.slice(1) };
}

/** A batch as its mix has opened it. */
export interface OpenedBatch {
  readonly statement: Uint8Array;
  readonly opening: Uint8Array;
}

/** `question ‖ hop (1)`, and statement and opening if it is known. */
export function encodeAnswer(question: Question, hop: AuditHop, batch: OpenedBatch | undefined): Uint8Array {
  const head = joinBytes(encodeQuestion(question), Uint8Array.of(hop));
  return batch === undefined ? head : joinBytes(head, batch.statement, batch.opening);
}

export interface Answer extends Question {
  readonly hop: typeof AuditHop.before | typeof AuditHop.last;
  readonly batch: OpenedBatch | undefined;
}

export function decodeAnswer(bytes: Uint8Array, statementBytes: number): Answer | undefined {
  const question = decodeQuestion(bytes.subarray(0, QUESTION_BYTES));
  const hop = bytes[QUESTION_BYTES];
  if (question === undefined || hop === undefined || hop > 1) return undefined;
  const rest = bytes.subarray(ANSWER_HEAD_BYTES);
  if (rest.length > 0 && rest.length <= statementBytes) return undefined;
  const batch =
    rest.length === 0 ? undefined : { statement: rest.slice(0, statementBytes), opening: rest.slice(statementBytes) };
  return { ...question, hop: hop as Answer['hop'], batch };
}

/** What a client asks its first hop: `cid (12) ‖ travel (1) ‖ digest (32)` of a cell between first and second hop. */
const ASK_BYTES = 45;

export interface Ask {
  /** The circuit's, forward, on the client's link. */
  readonly cid: Cid;
  readonly travel: Travel;
  readonly digest: Uint8Array;
}

export function encodeAsk({ cid, travel, digest }: Ask): Uint8Array {
  const bytes = new Uint8Array(ASK_BYTES);
  cid.write(bytes, 0);
  bytes[12] = travel;
  bytes.set(digest, 13);
  return bytes;
}

export function decodeAsk(bytes: Uint8Array): Ask | undefined {
  if (bytes.length !== ASK_BYTES || bytes[12]! > 1) return undefined;
  return { cid: Cid.read(bytes, 0), travel: bytes[12] as Travel, digest: bytes.subarray(13) };
}

/**
 * `digest (32) ‖ statement ‖ length of the opening (2) ‖ opening ‖ zeros`: as long as the longest, lest its length tell who watches
 * the link which batch it was, and so which hop comes second. No batch: all zeros behind the digest.
 */
export function encodeNext(digest: Uint8Array, batch: OpenedBatch | undefined, statementBytes: number): Uint8Array {
  const bytes = new Uint8Array(digest.length + statementBytes + 2 + MAX_OPENING_BYTES);
  bytes.set(digest, 0);
  if (batch === undefined) return bytes;
  bytes.set(batch.statement, digest.length);
  writeNumber(bytes, digest.length + statementBytes, batch.opening.length, 2);
  bytes.set(batch.opening, digest.length + statementBytes + 2);
  return bytes;
}

export function decodeNext(
  bytes: Uint8Array,
  statementBytes: number,
): { readonly digest: Uint8Array; readonly batch: OpenedBatch | undefined } | undefined {
  const at = DIGEST_BYTES + statementBytes;
  if (bytes.length !== at + 2 + MAX_OPENING_BYTES) return undefined;
  const length = readNumber(bytes, at, 2);
  if (length > MAX_OPENING_BYTES) return undefined;
  const digest = bytes.subarray(0, DIGEST_BYTES);
  if (length === 0) return { digest, batch: undefined };
  return { digest, batch: { statement: bytes.slice(DIGEST_BYTES, at), opening: bytes.slice(at + 2, at + 2 + length) } };
}

/** The cell at hand on all links of a circuit, 0 = the client's. */
export class CellLayers implements LayerWatch {
  readonly #suite: Pick<CryptoSuite, 'sha256'>;
  readonly #tags: readonly Uint8Array[];
  digests: Uint8Array[] = [];
  shown: ShownCell[] = [];

  /** @param tags of the circuit on these links. */
  constructor(suite: Pick<CryptoSuite, 'sha256'>, tags: readonly Uint8Array[]) {
    this.#suite = suite;
    this.#tags = tags;
  }

  /** Ahead of each cell: what there is of the last one may be kept by somebody. */
  begin(): this {
    this.digests = [];
    this.shown = [];
    return this;
  }

  layer(layer: number, cell: Uint8Array, travel: Travel, counter: number, type: number, pathId: number): void {
    this.digests[layer] = cellDigest(this.#suite, this.#tags[layer]!, travel, counter, type, pathId, cell);
    this.shown[layer] = { travel, counter, type, pathId, cell: cell.slice() };
  }
}

export interface TrailCell {
  readonly travel: Travel;
  readonly index: number;
  readonly atMs: TimeMs;
  /** By link, 0 = the client's: its name there, and what others can be shown of it. */
  readonly digests: readonly Uint8Array[];
  readonly shown: readonly ShownCell[];
}

/**
 * What a client remembers of a circuit's cells: some of those of the last seconds, drawn so that however fast they come there are
 * some that are old enough to be asked about.
 */
export class AuditTrail {
  readonly cells: TrailCell[] = [];
  readonly #dice: Exponential;
  #next = 0;
  #consideredMs: TimeMs = Number.NEGATIVE_INFINITY;
  /** Of all that ever were. */
  count = 0;

  constructor(random: Random) {
    this.#dice = new Exponential(random);
  }

  /** @param rttMs of the circuit. */
  note(travel: Travel, index: number, { digests, shown }: CellLayers, rttMs: number, nowMs: TimeMs): void {
    this.count++;
    // As many in that time as there is room for.
    const chance = (CLIENT_CELLS * (nowMs - this.#consideredMs)) / (TRAIL_SETTLED * settledMs(rttMs));
    this.#consideredMs = nowMs;
    if (this.cells.length === CLIENT_CELLS && this.#dice.uniform() > chance) return;
    this.cells[this.#next] = { travel, index, digests, shown, atMs: nowMs };
    this.#next = (this.#next + 1) % CLIENT_CELLS;
  }

  get memoryBytes(): number {
    const links = this.cells[0]?.digests.length ?? 0;
    return this.cells.length * links * CLIENT_CELL_BYTES;
  }
}

/**
 * When a client asks one of the two, and about which cell. First and last hop are asked about different cells at different times:
 * the same ones would show the two, if they work together, that both are on one circuit.
 */
export class Auditor {
  readonly #random: Random;
  readonly #dice: Exponential;
  readonly #trail: AuditTrail;
  readonly #hops: readonly AuditHop[];
  #paid = 0;
  #asked: TrailCell | undefined = undefined;
  #askedMs: TimeMs = Number.NEGATIVE_INFINITY;
  #nextMs: TimeMs = Number.NEGATIVE_INFINITY;
  /** Hops whose batch was opened in answer to the question at hand. */
  #answered = new Set<AuditHop>();
  #useless = 0;

  /** @param hops whose batches are opened in answer to a question. */
  constructor(random: Random, trail: AuditTrail, hops: readonly AuditHop[]) {
    this.#random = random;
    this.#dice = new Exponential(random);
    this.#trail = trail;
    this.#hops = hops;
  }

  /** A question, if it is time for one. @param rttMs of the circuit. */
  poll(rttMs: number, nowMs: TimeMs): TrailCell | undefined {
    const { cells, count } = this.#trail;
    if (this.#asked !== undefined || count - this.#paid < GAP_CELLS || nowMs < this.#nextMs) return undefined;
    const settled = cells.filter(({ atMs }) => nowMs - atMs >= settledMs(rttMs));
    if (settled.length === 0) return undefined;
    const dice = new Uint8Array(1);
    this.#random.fill(dice);
    // 256 is a multiple of CLIENT_CELLS; with fewer cells some come up a little more often, which helps nobody.
    this.#asked = settled[dice[0]! % settled.length]!;
    this.#askedMs = nowMs;
    this.#nextMs = nowMs + GAP_MS * (1 + this.#dice.uniform());
    this.#paid = Math.max(this.#paid, count - MAX_CREDIT) + GAP_CELLS;
    this.#answered = new Set();
    return this.#asked;
  }

  /** The question has gone without an answer for too long: hops that were not opened. Then it is over. */
  expire(rttMs: number, nowMs: TimeMs): readonly AuditHop[] {
    const answerMs = Math.max(MIN_ANSWER_MS, ANSWER_RTTS * rttMs);
    if (this.#asked === undefined || nowMs - this.#askedMs < answerMs) return [];
    this.#asked = undefined;
    return this.#hops.filter((hop) => !this.#answered.has(hop));
  }

  /** The cell that an answer of the last hop is about, and then all others that are remembered. Undefined: it was not asked for. */
  take({ travel, digest }: Question, hop: AuditHop): readonly TrailCell[] | undefined {
    const asked = this.#asked;
    if (asked === undefined || asked.travel !== travel) return undefined;
    if (compareBytes(asked.digests.at(-1)!, digest) !== 0) return undefined;
    return this.#take(asked, hop);
  }

  #take(asked: TrailCell, hop: AuditHop): readonly TrailCell[] | undefined {
    if (!this.#hops.includes(hop) || this.#answered.has(hop)) return undefined;
    this.#answered.add(hop);
    if (this.#answered.size === this.#hops.length) this.#asked = undefined;
    return [asked, ...this.#trail.cells];
  }

  /** The same for one of the first hop. */
  takeNext(digest: Uint8Array): readonly TrailCell[] | undefined {
    const asked = this.#asked;
    if (asked === undefined || compareBytes(asked.digests[1]!, digest) !== 0) return undefined;
    return this.#take(asked, AuditHop.second);
  }

  /** What came of an answer, or of its not coming. True: it is time to suspect who has to give it. */
  settle(useful: boolean): boolean {
    this.#useless = useful ? 0 : this.#useless + 1;
    return this.#useless > 0 && this.#useless % MAX_USELESS === 0;
  }
}
