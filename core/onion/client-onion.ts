import { AEAD_NONCE_BYTES, type CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { TimeMs } from '../ports.ts';
import { CT_BYTES, type LayeredCell, MAX_HOPS, PAYLOAD_BYTES, TAG_BYTES } from '../wire/datagram.ts';
import { ReplayWindow } from '../wire/replay-window.ts';
import {
  addCounter,
  type CellKeys,
  cellAd,
  cellIndex,
  cellNonce,
  Direction,
  DirectionKeys,
  generationOf,
  setCellContext,
} from './direction-keys.ts';
import { type HopRoute, maxCellsOf } from './hop-route.ts';
import { type HopSecrets, wipeHopSecrets } from './hop-secrets.ts';
import { IndexSequence } from './index-sequence.ts';
import { TAIL_STRING_BYTES, writeTailString } from './tail-string.ts';

const GAP_POOL_BYTES = 2048;
const INFO_GAP = new TextEncoder().encode('nyx1 client gap');

// Scratch of the packet path, shared by all circuits of the thread.
const keystream = new Uint8Array(192);
const tailString = new Uint8Array(TAIL_STRING_BYTES);
const savedCell = new Uint8Array(CT_BYTES);
const zeros = new Uint8Array(GAP_POOL_BYTES);

/**
 * Sees the cell of every layer (1256 bytes, 0 = outermost), as it is between two hops, and its counter there; the cell is
 * overwritten right after.
 */
export interface LayerWatch {
  layer(layer: number, cell: Uint8Array, direction: Direction, counter: number, type: number, pathId: number): void;
}

/**
 * How the end of layer k's keystream is reached, the last `16·(k−1)` bytes of what covers the cell and the pad behind them: from
 * which block on, in whole blocks, and where in them.
 */
interface TailWindow {
  readonly bytes: number;
  readonly block: number;
  readonly out: Uint8Array;
  readonly zeros: Uint8Array;
  /** Where in `out` the tail begins. */
  readonly from: number;
}

/** By layer, 0 = outermost. The AEAD's data keystream begins at block 1 (RFC 8439 §2.8). */
const tailWindows: readonly TailWindow[] = Array.from({ length: MAX_HOPS }, (_, layer) => {
  const bytes = layer * TAG_BYTES;
  const start = CT_BYTES - bytes;
  const block = Math.floor(start / 64);
  const length = 64 * Math.ceil((CT_BYTES + TAG_BYTES) / 64 - block);
  return {
    bytes,
    block: 1 + block,
    out: keystream.subarray(0, length),
    zeros: zeros.subarray(0, length),
    from: start - block * 64,
  };
});

/** The client's end of a circuit's onion: seals and opens all layers (docs/protocol.md §3). */
export class ClientOnion {
  /** Number of hops. */
  readonly hops: number;
  readonly #suite: CryptoSuite;
  readonly #maxCells: number;
  /** Counters of the cell with index 0 on the links to the hops, first to last. */
  readonly #forwardStarts: readonly number[];
  readonly #backwardStarts: readonly number[];
  readonly #forward: readonly DirectionKeys[];
  readonly #backward: readonly DirectionKeys[];
  /** Keys of the cell at hand, by layer. */
  readonly #layers: CellKeys[];
  readonly #sent: IndexSequence;
  readonly #seen = new ReplayWindow();
  /** Covers the bytes between payload and fillers: they must tell the last hop nothing, not even their number. */
  readonly #gapKey: Uint8Array;
  readonly #gapNonce = new Uint8Array(AEAD_NONCE_BYTES);
  readonly #gapPool = new Uint8Array(GAP_POOL_BYTES);
  #gapUsed = GAP_POOL_BYTES;
  #gapRefills = 0;
  /** Index (packet number) of the cell that openBackward last accepted. */
  lastIndex = -1;

  /** By hop, first to last. Takes `secrets`: they are erased here. */
  constructor(suite: CryptoSuite, secrets: readonly HopSecrets[], routes: readonly HopRoute[]) {
    if (secrets.length < 1 || secrets.length > MAX_HOPS || routes.length !== secrets.length) {
      throw new RangeError(`an onion has 1 to ${MAX_HOPS} hops and a route for each, not ${secrets.length}`);
    }
    this.hops = secrets.length;
    this.#suite = suite;
    this.#maxCells = Math.min(...routes.map(maxCellsOf));
    this.#forwardStarts = routes.map(({ forwardStart }) => forwardStart);
    this.#backwardStarts = routes.map(({ backwardStart, backwardOffset }) => addCounter(backwardStart, backwardOffset));
    this.#forward = secrets.map((hop) => new DirectionKeys(suite, hop.forwardChain, Direction.forward));
    this.#backward = secrets.map((hop) => new DirectionKeys(suite, hop.backwardChain, Direction.backward));
    this.#layers = new Array<CellKeys>(this.hops);
    this.#sent = new IndexSequence(this.#maxCells);
    this.#gapKey = gapKey(suite, secrets);
    for (const hop of secrets) wipeHopSecrets(suite, hop);
  }

  /** The next index of a forward cell; -1 when the circuit's limit is reached. A gap (an index never sealed) is fine. */
  allocateIndex(): number {
    return this.#sent.allocate();
  }

  /** What allocateIndex() would give. */
  get nextIndex(): number {
    return this.#sent.next;
  }

  /** Counter for the header of the cell with this index, on the link to the first hop. */
  forwardCounter(index: number): number {
    return addCounter(index, this.#forwardStarts[0]!);
  }

  /**
   * Seals the payload at `scratch.layerPayloads[hops-1]` for every hop; the cell is `scratch.cell` afterwards. `index`
   * comes from allocateIndex() and is used once, in rising order; anything else throws, for a nonce must not be used
   * twice.
   */
  sealForward(index: number, type: number, pathId: number, scratch: LayeredCell, watch?: LayerWatch): void {
    this.#sent.use(index);
    const suite = this.#suite;
    const hops = this.hops;
    const layers = this.#layers;
    for (let k = 0; k < hops; k++) layers[k] = this.#forward[k]!.senderKeys(index);
    setCellContext(index, type, pathId);
    this.#writeEnd(scratch.cts[hops - 1]!);
    for (let k = hops - 1; k >= 0; k--) {
      const ct = scratch.cts[k]!;
      suite.aeadSeal(ct, scratch.tags[k]!, ct, cellAd, cellNonce, layers[k]!.aeadKey);
      watch?.layer(k, scratch.cells[k]!, Direction.forward, addCounter(index, this.#forwardStarts[k]!), type, pathId);
    }
  }

  /**
   * Opens all layers of `scratch.cell` in place: the payload is `scratch.layerPayloads[hops-1]` afterwards, its index
   * `lastIndex`. Any hop's tag that fails drops the cell.
   */
  openBackward(
    counter: number,
    type: number,
    pathId: number,
    scratch: LayeredCell,
    nowMs: TimeMs,
    watch?: LayerWatch,
  ): Drop {
    const index = cellIndex(counter, this.#backwardStarts[0]!);
    if (index >= this.#maxCells) return Drop.limit;
    const seen = this.#seen.check(index);
    if (seen !== Drop.none) return seen;
    const last = this.hops - 1;
    const layers = this.#layers;
    const lastKeys = this.#backward[last]!;
    for (let k = 0; k <= last; k++) {
      const selected = this.#backward[k]!.select(index, nowMs);
      if (selected !== Drop.none) return selected;
      layers[k] = this.#backward[k]!.candidates[0]!;
    }
    setCellContext(index, type, pathId);
    // The outermost layer came complete. What the others lost depends on the last hop's keys, of which there may be two.
    watch?.layer(0, scratch.cells[0]!, Direction.backward, counter, type, pathId);
    if (last > 0 && !this.#openLayer(scratch, 0)) return Drop.badTag;
    const count = lastKeys.candidateCount;
    const inner = scratch.cts[0]!;
    if (count > 1) savedCell.set(inner);
    for (let i = 0; i < count; i++) {
      if (i > 0) inner.set(savedCell);
      layers[last] = lastKeys.candidates[i]!;
      if (last === 0 ? this.#openLayer(scratch, 0) : this.#openInner(scratch, index, watch)) {
        for (let k = 0; k <= last; k++) this.#backward[k]!.commit(layers[k]!, nowMs);
        this.#seen.mark(index);
        this.lastIndex = index;
        return Drop.none;
      }
    }
    return Drop.badTag;
  }

  /**
   * A fresh exchange is done (docs/protocol.md §3.1): the next forward cell is sealed under the new chain for the last
   * hop, backward cells are accepted under it. Copies `shared`.
   */
  installFresh(shared: Uint8Array): void {
    this.#forward[this.hops - 1]!.setPending(shared);
    this.#backward[this.hops - 1]!.setPending(shared);
  }

  /** Rekey by time: the next forward cell begins a new generation, unless this one has not been used yet. */
  skipToNextGeneration(): void {
    this.#sent.skipToNextGeneration();
  }

  /** AEAD key of a hop's layer around the cell with this index, copied; undefined: it is erased. */
  layerKey(hop: number, direction: Direction, index: number): Uint8Array | undefined {
    return (direction === Direction.forward ? this.#forward : this.#backward)[hop]!.copyAeadKey(generationOf(index));
  }

  /** Erases replaced keys whose 10 s are over. Call every second or so. */
  expireOld(nowMs: TimeMs): void {
    for (const keys of this.#forward) keys.expireOld(nowMs);
    for (const keys of this.#backward) keys.expireOld(nowMs);
  }

  /** Erases all keys; the object is unusable afterwards. */
  wipe(): void {
    for (const keys of this.#forward) keys.wipe();
    for (const keys of this.#backward) keys.wipe();
    this.#suite.wipe(this.#gapKey, this.#gapPool);
    this.#gapUsed = GAP_POOL_BYTES;
  }

  get memoryBytes(): number {
    let sum = 800 + GAP_POOL_BYTES + this.#seen.memoryBytes;
    for (const keys of this.#forward) sum += keys.memoryBytes;
    for (const keys of this.#backward) sum += keys.memoryBytes;
    return sum;
  }

  /**
   * Writes the last 96 bytes of the innermost plaintext: cover, then the pads of the hops before the last as they have
   * to look there, so that each pad comes out of the next hop's keystream as that hop's tag expects it (the filler, made as
   * that of a Sphinx header).
   */
  #writeEnd(body: Uint8Array): void {
    const hops = this.hops;
    const start = CT_BYTES - (hops - 1) * TAG_BYTES;
    if (start > PAYLOAD_BYTES) this.#writeGap(body, start);
    // As every hop but the last one adds it: keystream over zeros behind the cell.
    for (let i = start; i < CT_BYTES; i++) body[i] = 0;
    for (let k = 0; k < hops; k++) this.#xorKeystreamTail(body, start, k, k < hops - 1);
  }

  #writeGap(body: Uint8Array, end: number): void {
    if (this.#gapUsed + TAIL_STRING_BYTES > GAP_POOL_BYTES) this.#refillGap();
    const pool = this.#gapPool;
    let from = this.#gapUsed;
    for (let i = PAYLOAD_BYTES; i < end; i++) {
      body[i] = pool[from]!;
      pool[from++] = 0;
    }
    this.#gapUsed = from;
  }

  #refillGap(): void {
    const view = this.#gapNonce;
    const refill = this.#gapRefills++;
    view[11] = refill;
    view[10] = refill >>> 8;
    view[9] = refill >>> 16;
    view[8] = refill >>> 24;
    view[7] = Math.floor(refill / 0x1_0000_0000);
    this.#suite.chacha20Xor(this.#gapPool, zeros, view, 0, this.#gapKey);
    this.#gapUsed = 0;
  }

  /** XORs `body[start…)` with the end of layer k's keystream (k from 0): as many bytes as hops before it appended, and with its own pad. */
  #xorKeystreamTail(body: Uint8Array, start: number, layer: number, padded: boolean): void {
    const window = tailWindows[layer]!;
    const { out, from } = window;
    const bytes = padded ? window.bytes + TAG_BYTES : window.bytes;
    if (bytes === 0) return;
    this.#suite.chacha20Xor(out, window.zeros, cellNonce, window.block, this.#layers[layer]!.aeadKey);
    for (let i = 0; i < bytes; i++) body[start + i]! ^= out[from + i]!;
  }

  #openLayer(scratch: LayeredCell, layer: number): boolean {
    const ct = scratch.cts[layer]!;
    return this.#suite.aeadOpen(ct, scratch.tags[layer]!, ct, cellAd, cellNonce, this.#layers[layer]!.aeadKey);
  }

  /** Restores what every hop but the first cut off, then opens layers 2…hops. */
  #openInner(scratch: LayeredCell, index: number, watch: LayerWatch | undefined): boolean {
    const last = this.hops - 1;
    const body = scratch.cts[last]!;
    const cut = last * TAG_BYTES;
    const start = CT_BYTES - cut;
    writeTailString(this.#suite, tailString, this.#layers[last]!);
    for (let i = 0; i < cut; i++) body[start + i] = tailString[TAIL_STRING_BYTES - cut + i]!;
    for (let k = last; k > 0; k--) this.#xorKeystreamTail(body, start, k, false);
    for (let k = 1; k <= last; k++) {
      const counter = addCounter(index, this.#backwardStarts[k]!);
      watch?.layer(k, scratch.cells[k]!, Direction.backward, counter, cellAd[0]!, cellAd[1]!);
      if (!this.#openLayer(scratch, k)) return false;
    }
    return true;
  }
}

/** Only the client has the secrets of all hops. */
function gapKey(suite: CryptoSuite, secrets: readonly HopSecrets[]): Uint8Array {
  const all = new Uint8Array(secrets.length * 32);
  for (let i = 0; i < secrets.length; i++) all.set(secrets[i]!.forwardChain, i * 32);
  const key = suite.hkdf(all, new Uint8Array(0), INFO_GAP, 32);
  suite.wipe(all);
  return key;
}
