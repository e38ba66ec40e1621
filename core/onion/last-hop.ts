import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { TimeMs } from '../ports.ts';
import { type CellBuffer, PAYLOAD_BYTES } from '../wire/datagram.ts';
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
import { IndexSequence } from './index-sequence.ts';
import { TAIL_STRING_BYTES, writeTailString } from './tail-string.ts';

const tailScratch = new Uint8Array(TAIL_STRING_BYTES);

/** The last hop's part in one circuit: it opens the innermost layer and begins the backward cells (docs/protocol.md §3). */
export class LastHop {
  readonly #suite: CryptoSuite;
  readonly #route: HopRoute;
  readonly #maxCells: number;
  readonly #forward: DirectionKeys;
  readonly #backward: DirectionKeys;
  readonly #seen = new ReplayWindow();
  readonly #sent: IndexSequence;
  /** Mixed into the backward chain once a forward cell under the new chain is here. */
  #pendingBackward: Uint8Array | undefined;
  /** Index (packet number) of the cell that openForward last accepted. */
  lastIndex = -1;

  /** Takes `secrets`: they are erased here. */
  constructor(suite: CryptoSuite, secrets: HopSecrets, route: HopRoute) {
    this.#suite = suite;
    this.#route = route;
    this.#maxCells = maxCellsOf(route);
    this.#forward = new DirectionKeys(suite, secrets.forwardChain, Direction.forward);
    this.#backward = new DirectionKeys(suite, secrets.backwardChain, Direction.backward);
    this.#sent = new IndexSequence(this.#maxCells);
    wipeHopSecrets(suite, secrets);
  }

  /** Index (packet number) of the cell that came with this counter. */
  indexOf(counter: number): number {
    return cellIndex(counter, this.#route.forwardStart);
  }

  /** Opens `cell` in place: the payload is `cell.payload` afterwards, its index `lastIndex`. */
  openForward(counter: number, type: number, pathId: number, cell: CellBuffer, nowMs: TimeMs): Drop {
    const index = cellIndex(counter, this.#route.forwardStart);
    if (index >= this.#maxCells) return Drop.limit;
    const seen = this.#seen.check(index);
    if (seen !== Drop.none) return seen;
    setCellContext(index, type, pathId);
    const keys = this.#forward;
    const drop = keys.open(cell.ct, cell.tag, cell.ct, index, nowMs);
    if (drop !== Drop.none) return drop;
    this.#seen.mark(index);
    this.lastIndex = index;
    if (this.#pendingBackward !== undefined && !keys.hasPending) this.#switchBackward(this.#pendingBackward);
    return Drop.none;
  }

  /** The next index of a backward cell; -1 when the circuit's limit is reached. A gap (an index never sealed) is fine. */
  allocateIndex(): number {
    return this.#sent.allocate();
  }

  /** What allocateIndex() would give. */
  get nextIndex(): number {
    return this.#sent.next;
  }

  /** Counter for the header of the cell with this index. */
  counterFor(index: number): number {
    return addCounter(addCounter(index, this.#route.backwardStart), this.#route.backwardOffset);
  }

  /**
   * Seals `cell.payload` in place into `cell.cell`. `index` comes from allocateIndex() and is used once, in rising
   * order; anything else is a programming error and throws, for a nonce must not be used twice.
   */
  sealBackward(type: number, pathId: number, cell: CellBuffer, index: number): void {
    this.#sent.use(index);
    const keys = this.#backward.senderKeys(index);
    setCellContext(index, type, pathId);
    writeTailString(this.#suite, tailScratch, keys);
    cell.ct.set(tailScratch, PAYLOAD_BYTES);
    this.#suite.aeadSeal(cell.ct, cell.tag, cell.ct, cellAd, cellNonce, keys.aeadKey);
  }

  /**
   * A fresh exchange is done (docs/protocol.md §3.1): cells under the new forward chain are accepted from now on, and
   * the first of them switches the backward layer too. Copies `shared`.
   */
  installFresh(shared: Uint8Array): void {
    this.#forward.setPending(shared);
    if (this.#pendingBackward !== undefined) this.#suite.wipe(this.#pendingBackward);
    this.#pendingBackward = shared.slice();
  }

  /** Rekey by time: the next backward cell begins a new generation, unless this one has not been used yet. */
  skipToNextGeneration(): void {
    this.#sent.skipToNextGeneration();
  }

  /** Erases replaced keys whose 10 s are over. Call every second or so. */
  expireOld(nowMs: TimeMs): void {
    this.#forward.expireOld(nowMs);
  }

  /** Erases all keys; the object is unusable afterwards. */
  wipe(): void {
    this.#forward.wipe();
    this.#backward.wipe();
    if (this.#pendingBackward !== undefined) this.#suite.wipe(this.#pendingBackward);
    this.#pendingBackward = undefined;
  }

  get memoryBytes(): number {
    return 400 + this.#forward.memoryBytes + this.#backward.memoryBytes + this.#seen.memoryBytes;
  }

  #switchBackward(shared: Uint8Array): void {
    this.#backward.setPending(shared);
    this.#suite.wipe(shared);
    this.#pendingBackward = undefined;
  }
}
