import type { CryptoSuite } from '../crypto/suite.ts';
import type { Random, TimeMs } from '../ports.ts';
import { PUZZLE_SOLUTION_BYTES } from './hop-route.ts';
import { TagMemory } from './tag-memory.ts';

export const PUZZLE_CHALLENGE_BYTES = 16;
/** Highest difficulty that is asked for or solved: some 2^24 hashes. */
export const MAX_PUZZLE_BITS = 24;

/** What a node under load asks of a client before it does public-key work. */
export interface Puzzle {
  /** 16 bytes. */
  readonly challenge: Uint8Array;
  /** Leading zero bits; 0…24. */
  readonly difficulty: number;
}

const LABEL = new TextEncoder().encode('nyx1 puzzle');
const CHALLENGE_LIFE_MS = 60_000;
const MIN_PUZZLE_BITS = 8;
/** The load may have grown since the puzzle was handed out. */
const SLACK_BITS = 2;
const MAX_SOLVED = 2 ** 18;

/** `SHA-256("nyx1 puzzle" ‖ challenge ‖ epk ‖ solution)` has `difficulty` leading zero bits (docs/protocol.md §4). */
export function verifyPuzzle(suite: CryptoSuite, puzzle: Puzzle, epk: Uint8Array, solution: Uint8Array): boolean {
  return leadingZeroBits(suite.sha256(LABEL, puzzle.challenge, epk, solution)) >= puzzle.difficulty;
}

/**
 * The 8-byte solution, counted up from 0: about 2^difficulty hashes. Throws RangeError for a difficulty above 24, which
 * no node may ask for.
 */
export function solvePuzzle(suite: CryptoSuite, puzzle: Puzzle, epk: Uint8Array): Uint8Array {
  if (!(puzzle.difficulty >= 0 && puzzle.difficulty <= MAX_PUZZLE_BITS)) {
    throw new RangeError(`puzzle difficulty ${puzzle.difficulty}: must be 0…${MAX_PUZZLE_BITS}`);
  }
  const solution = new Uint8Array(PUZZLE_SOLUTION_BYTES);
  const view = new DataView(solution.buffer);
  for (let tries = 0; !verifyPuzzle(suite, puzzle, epk, solution); tries++) view.setUint32(4, tries);
  return solution;
}

/**
 * A node's puzzles: one challenge a minute, the one before stays good; each solution is taken once. The cost rises by a
 * bit whenever the queue doubles.
 */
export class PuzzleIssuer {
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  #challenge = new Uint8Array(PUZZLE_CHALLENGE_BYTES);
  #previous: Uint8Array | undefined;
  #issuedAtMs = Number.NEGATIVE_INFINITY;
  readonly #solved = new TagMemory(MAX_SOLVED);
  readonly #solvedBefore = new TagMemory(MAX_SOLVED);
  #solvedNow: TagMemory = this.#solved;
  #solvedPrevious: TagMemory = this.#solvedBefore;

  constructor(suite: CryptoSuite, random: Random) {
    this.#suite = suite;
    this.#random = random;
  }

  /** The puzzle to ask for when `queueLength` set-ups wait. Difficulty 0 when none does. */
  current(queueLength: number, nowMs: TimeMs): Puzzle {
    this.#rotate(nowMs);
    const bits = queueLength <= 0 ? 0 : MIN_PUZZLE_BITS + Math.floor(Math.log2(queueLength));
    return { challenge: this.#challenge, difficulty: Math.min(MAX_PUZZLE_BITS, bits) };
  }

  /** Whether `solution` pays for the train that begins with `epk` at (nearly) this difficulty. A second time it does not. */
  verify(epk: Uint8Array, solution: Uint8Array, difficulty: number, nowMs: TimeMs): boolean {
    this.#rotate(nowMs);
    const bits = difficulty <= 0 ? 0 : Math.max(1, difficulty - SLACK_BITS);
    return (
      this.#take(this.#challenge, this.#solvedNow, epk, solution, bits) ||
      (this.#previous !== undefined && this.#take(this.#previous, this.#solvedPrevious, epk, solution, bits))
    );
  }

  #take(challenge: Uint8Array, solved: TagMemory, epk: Uint8Array, solution: Uint8Array, bits: number): boolean {
    const hash = this.#suite.sha256(LABEL, challenge, epk, solution);
    // The leading bytes of a solution's hash are zeros: its end is what tells it from others.
    return leadingZeroBits(hash) >= bits && solved.add(hash.subarray(24));
  }

  #rotate(nowMs: TimeMs): void {
    const age = nowMs - this.#issuedAtMs;
    if (age < CHALLENGE_LIFE_MS) return;
    const memory = this.#solvedPrevious;
    memory.clear();
    if (age < 2 * CHALLENGE_LIFE_MS) {
      this.#previous = this.#challenge;
      this.#solvedPrevious = this.#solvedNow;
    } else {
      this.#previous = undefined;
      this.#solvedNow.clear();
      this.#solvedPrevious = this.#solvedNow;
    }
    this.#solvedNow = memory;
    this.#challenge = new Uint8Array(PUZZLE_CHALLENGE_BYTES);
    this.#random.fill(this.#challenge);
    this.#issuedAtMs = nowMs;
  }
}

function leadingZeroBits(hash: Uint8Array): number {
  let bits = 0;
  for (const byte of hash) {
    if (byte !== 0) return bits + Math.clz32(byte) - 24;
    bits += 8;
  }
  return bits;
}
