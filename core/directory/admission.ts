/**
 * What it costs to be in a view: a memory-hard puzzle for each epoch, bound to the node's identity, to the newest epoch
 * that its descriptor has mix keys for, and to a recent view, which nobody knows long before. The solution is a field of
 * the descriptor.
 *
 *   subject = identity (32) ‖ epoch (6) ‖ digest of the view (32; zeros before a network's first view)
 *   work(nonce) = argon2id(password = "nyx1 admission" ‖ 0x00 ‖ subject ‖ nonce (8),
 *                          salt = first 16 bytes of BLAKE3("nyx1 admission salt" ‖ 0x00 ‖ subject), 32 bytes)
 *   a nonce (8) solves the puzzle when work(nonce) begins with `puzzle-bits` zero bits
 *   solution (16) = nonce ‖ first 8 bytes of the view's digest, by which whoever checks it finds the view
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import type { Random } from '../ports.ts';
import { joinBytes, writeNumber } from './bytes.ts';
import { ADMISSION_BYTES, type NodeDescriptor, nodeIdHex } from './descriptor.ts';
import { ViewParam, type ViewParams, viewParam } from './params.ts';

/** Nobody works harder than this, whatever a view or an authority asks. */
export const maxPuzzle = { bits: 16, memoryKib: 262_144, passes: 8 } as const;

const NONCE_BYTES = 8;
/** What stands for the view before there is one. */
export const noView = new Uint8Array(32);
/** Views so much older than the epoch of a solution are too old for it. */
export const MAX_ADMISSION_VIEW_AGE = 3;

/** How a solution names its view: hex of the first 8 bytes of the view's digest. */
export function admissionViewName(digest: Uint8Array): string {
  return nodeIdHex(digest.subarray(0, ADMISSION_BYTES - NONCE_BYTES));
}

/** Which view a solution says it is for. */
export function admissionViewOf(admission: Uint8Array): string {
  return nodeIdHex(admission.subarray(NONCE_BYTES));
}

/** How hard the puzzle is. */
export interface AdmissionPuzzle {
  /** Tries are 2^bits on average; 0 = no puzzle. */
  readonly bits: number;
  readonly memoryKib: number;
  readonly passes: number;
}

/** argon2id with one lane (RFC 9106), 32 bytes out. */
export type MemoryHard = (
  password: Uint8Array,
  salt: Uint8Array,
  cost: { readonly memoryKib: number; readonly passes: number },
) => Promise<Uint8Array>;

/** The puzzle of a view's parameters, cut to what is bearable. */
export function puzzleOf(params: ViewParams): AdmissionPuzzle {
  const clamp = (value: number, min: number, max: number) => Math.min(max, Math.max(min, value));
  return {
    bits: clamp(viewParam(params, ViewParam.puzzleBits), 0, maxPuzzle.bits),
    memoryKib: clamp(viewParam(params, ViewParam.puzzleMemoryKib), 8, maxPuzzle.memoryKib),
    passes: clamp(viewParam(params, ViewParam.puzzlePasses), 1, maxPuzzle.passes),
  };
}

/** The epoch that a descriptor's puzzle is bound to: the newest it has mix keys for. */
export function admissionEpoch(descriptor: Pick<NodeDescriptor, 'mixKeys'>): number {
  return descriptor.mixKeys[descriptor.mixKeys.length - 1]!.epoch;
}

/**
 * One run of the memory-hard function at most, however hard the puzzle is. `viewDigest` is that of the view that the
 * solution names.
 */
export async function verifyAdmission(
  descriptor: Pick<NodeDescriptor, 'identity' | 'mixKeys' | 'admission'>,
  viewDigest: Uint8Array,
  puzzle: AdmissionPuzzle,
  suite: CryptoSuite,
  memoryHard: MemoryHard,
): Promise<boolean> {
  if (puzzle.bits === 0) return true;
  const { identity, admission } = descriptor;
  if (admission === undefined || admissionViewOf(admission) !== admissionViewName(viewDigest)) return false;
  const subject = subjectOf(identity, admissionEpoch(descriptor), viewDigest);
  return await solves(subject, admission.subarray(0, NONCE_BYTES), puzzle, suite, memoryHard);
}

/**
 * Tries nonces from a random one on until one solves the puzzle. Resolves with the solution, 16 bytes. Rejects with the
 * signal's reason when aborted.
 */
export async function solveAdmission(
  identity: Uint8Array,
  epoch: number,
  viewDigest: Uint8Array,
  puzzle: AdmissionPuzzle,
  dependencies: { readonly suite: CryptoSuite; readonly random: Random; readonly memoryHard: MemoryHard },
  signal?: { throwIfAborted(): void },
): Promise<Uint8Array> {
  const subject = subjectOf(identity, epoch, viewDigest);
  const nonce = new Uint8Array(NONCE_BYTES);
  dependencies.random.fill(nonce);
  while (!(await solves(subject, nonce, puzzle, dependencies.suite, dependencies.memoryHard))) {
    signal?.throwIfAborted();
    for (let i = nonce.length - 1; i >= 0; i--) {
      nonce[i]! += 1;
      if (nonce[i] !== 0) break;
    }
  }
  return joinBytes(nonce, viewDigest.subarray(0, ADMISSION_BYTES - NONCE_BYTES));
}

async function solves(
  subject: Uint8Array,
  nonce: Uint8Array,
  puzzle: AdmissionPuzzle,
  suite: CryptoSuite,
  memoryHard: MemoryHard,
): Promise<boolean> {
  const separator = Uint8Array.of(0);
  const salt = suite.blake3(nyxLabel('admission salt'), separator, subject).subarray(0, 16);
  const password = joinBytes(nyxLabel('admission'), separator, subject, nonce);
  return zeroBits(await memoryHard(password, salt, puzzle)) >= puzzle.bits;
}

function subjectOf(identity: Uint8Array, epoch: number, viewDigest: Uint8Array): Uint8Array {
  const epochBytes = new Uint8Array(6);
  writeNumber(epochBytes, 0, epoch, 6);
  return joinBytes(identity, epochBytes, viewDigest);
}

function zeroBits(bytes: Uint8Array): number {
  let bits = 0;
  for (const byte of bytes) {
    if (byte !== 0) return bits + Math.clz32(byte) - 24;
    bits += 8;
  }
  return bits;
}
