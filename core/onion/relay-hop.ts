import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { TimeMs } from '../ports.ts';
import type { CellBuffer } from '../wire/datagram.ts';
import { ReplayWindow } from '../wire/replay-window.ts';
import {
  addCounter,
  cellAd,
  cellIndex,
  cellNonce,
  Direction,
  DirectionKeys,
  setCellContext,
} from './direction-keys.ts';
import { type HopRoute, maxCellsOf } from './hop-route.ts';
import { type HopSecrets, wipeHopSecrets } from './hop-secrets.ts';

/** A relay's part in one circuit: one layer off on the way forward, one layer on on the way back (docs/protocol.md §3). */
export class RelayHop {
  readonly #suite: CryptoSuite;
  readonly #forwardStart: number;
  readonly #forwardOffset: number;
  readonly #backwardStart: number;
  readonly #backwardOffset: number;
  readonly #maxCells: number;
  readonly #forward: DirectionKeys;
  readonly #backward: DirectionKeys;
  readonly #forwardSeen = new ReplayWindow();
  readonly #backwardSeen = new ReplayWindow();

  /** Takes `secrets`: they are erased here. */
  constructor(suite: CryptoSuite, secrets: HopSecrets, route: HopRoute) {
    this.#suite = suite;
    this.#forwardStart = route.forwardStart;
    this.#forwardOffset = route.forwardOffset;
    this.#backwardStart = route.backwardStart;
    this.#backwardOffset = route.backwardOffset;
    this.#maxCells = maxCellsOf(route);
    this.#forward = new DirectionKeys(suite, secrets.forwardChain, Direction.forward);
    this.#backward = new DirectionKeys(suite, secrets.backwardChain, Direction.backward);
    wipeHopSecrets(suite, secrets);
  }

  /**
   * Opens one layer of `input.cell` into `output.cell` (another buffer), pad included. Borrows both. The headers stay
   * the caller's. On any Drop but none, `output` must not be sent.
   */
  openForward(
    counter: number,
    type: number,
    pathId: number,
    input: CellBuffer,
    output: CellBuffer,
    nowMs: TimeMs,
  ): Drop {
    const index = cellIndex(counter, this.#forwardStart);
    if (index >= this.#maxCells) return Drop.limit;
    const seen = this.#forwardSeen.check(index);
    if (seen !== Drop.none) return seen;
    setCellContext(index, type, pathId);
    const keys = this.#forward;
    const selected = keys.select(index, nowMs);
    if (selected !== Drop.none) return selected;
    // A relay's chain is never replaced, so a generation has one candidate.
    const cellKeys = keys.candidates[0]!;
    if (!this.#suite.aeadOpenPadded(output.cell, input.tag, input.ct, cellAd, cellNonce, cellKeys.aeadKey)) {
      return Drop.badTag;
    }
    keys.commit(cellKeys, nowMs);
    this.#forwardSeen.mark(index);
    return Drop.none;
  }

  /** Seals the first 1240 bytes of `input.cell` into `output.cell` (another buffer); the last 16 fall off. Borrows both. */
  sealBackward(
    counter: number,
    type: number,
    pathId: number,
    input: CellBuffer,
    output: CellBuffer,
    nowMs: TimeMs,
  ): Drop {
    const index = cellIndex(counter, this.#backwardStart);
    if (index >= this.#maxCells) return Drop.limit;
    const seen = this.#backwardSeen.check(index);
    if (seen !== Drop.none) return seen;
    const keys = this.#backward;
    const selected = keys.select(index, nowMs);
    if (selected !== Drop.none) return selected;
    const cellKeys = keys.candidates[0]!;
    // Nothing authenticates this cell to a relay (the client checks every layer). Marking it before it is sealed is
    // what keeps a nonce from being used twice.
    this.#backwardSeen.mark(index);
    keys.commit(cellKeys, nowMs);
    setCellContext(index, type, pathId);
    this.#suite.aeadSeal(output.ct, output.tag, input.cellHead, cellAd, cellNonce, cellKeys.aeadKey);
    return Drop.none;
  }

  /** Counter for the header of the cell sent on, from the counter it came with. */
  forwardCounterOut(counter: number): number {
    return addCounter(counter, this.#forwardOffset);
  }

  backwardCounterOut(counter: number): number {
    return addCounter(counter, this.#backwardOffset);
  }

  /** Erases replaced keys whose 10 s are over. Call every second or so. */
  expireOld(nowMs: TimeMs): void {
    this.#forward.expireOld(nowMs);
    this.#backward.expireOld(nowMs);
  }

  /** Erases all keys; the object is unusable afterwards. */
  wipe(): void {
    this.#forward.wipe();
    this.#backward.wipe();
  }

  get memoryBytes(): number {
    return (
      400 +
      this.#forward.memoryBytes +
      this.#backward.memoryBytes +
      this.#forwardSeen.memoryBytes +
      this.#backwardSeen.memoryBytes
    );
  }
}
