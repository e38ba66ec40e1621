/**
 * Evidence that a mix took a cell into a batch and did not give out what the cell had to become (docs/protocol.md §7.1): the
 * circuit's client shows the cell and, unless the circuit ends at the mix, the key of one layer for one generation, which the mix
 * has pledged itself. Digests name circuit, way and place of a cell, so an honest mix has done with it what the pledge
 * says, and both sides of its batch show that: docs/adr/0037-exchanges-that-can-be-shown.md.
 */
import { AEAD_KEY_BYTES } from '../crypto/suite.ts';
import { compareBytes, joinBytes, writeNumber } from '../directory/bytes.ts';
import {
  addCounter,
  cellAd,
  cellIndex,
  cellNonce,
  Direction,
  generationOf,
  setCellContext,
} from '../onion/direction-keys.ts';
import { CELL_BYTES, CT_BYTES, readCounter, TAG_BYTES } from '../wire/datagram.ts';
import {
  type BatchRecords,
  beginDigest,
  cellDigest,
  endDigest,
  isOpened,
  readOpening,
  Side,
  type Statement,
} from './batch-records.ts';
import { arePledged, LAYER_KEYS_BYTES, type Pledge, readPledge } from './circuit-pledge.ts';
import { headsOfOutput } from './same-output.ts';

/** `travel (1) ‖ counter (6) ‖ type (1) ‖ path id (1)` */
const HEAD_BYTES = 9;
const KEYS_BYTES = AEAD_KEY_BYTES + LAYER_KEYS_BYTES;
/** One cell alone becomes the output. */
const none = () => [];

/** A cell on the link over which it comes to a mix. */
export interface ShownCell {
  readonly travel: Direction;
  readonly counter: number;
  readonly type: number;
  readonly pathId: number;
  /** 1256 bytes; backward only the first 1240 count. */
  readonly cell: Uint8Array;
}

/** Key of the layer and the list in which the pledge names it; undefined where the circuit ends. */
export interface ShownKeys {
  readonly aeadKey: Uint8Array;
  readonly layerKeys: Uint8Array;
}

export function encodeShown(
  { travel, counter, type, pathId, cell }: ShownCell,
  keys: ShownKeys | undefined,
): Uint8Array {
  const head = new Uint8Array(HEAD_BYTES);
  head[0] = travel;
  writeNumber(head, 1, counter, 6);
  head[7] = type;
  head[8] = pathId;
  const known = cell.subarray(0, cellBytesOf(travel));
  return keys === undefined ? joinBytes(head, known) : joinBytes(head, known, keys.aeadKey, keys.layerKeys);
}

function cellBytesOf(travel: Direction): number {
  return travel === Direction.forward ? CELL_BYTES : CT_BYTES;
}

/** Digests of a cell on both sides of a mix. */
interface Sides {
  readonly input: Uint8Array;
  readonly output: Uint8Array;
  /** Inputs of all cells that become this output, as far as it is not this one alone; undefined: they are too many to tell. */
  readonly others: () => readonly Uint8Array[] | undefined;
}

/** Whether the mix has signed a batch that it cannot have made of this cell. */
export function isExchange(
  records: BatchRecords,
  statement: Statement,
  openingBytes: Uint8Array,
  pledgeBytes: Uint8Array,
  shown: Uint8Array,
): boolean {
  const { suite } = records;
  if (compareBytes(records.openingHash(openingBytes), statement.opening) !== 0) return false;
  const opening = readOpening(openingBytes);
  const { key } = statement.certificate;
  if (opening === undefined || opening.number !== statement.number || opening.cells !== statement.cells) return false;
  const pledge = readPledge(suite, pledgeBytes);
  // One worker of the node, in one life: only there a tag is one circuit.
  if (pledge === undefined || compareBytes(pledge.certificate.key, key) !== 0) return false;
  if (
    compareBytes(opening.key, key) !== 0 ||
    compareBytes(pledge.certificate.nodeId, statement.certificate.nodeId) !== 0
  )
    return false;
  const sides = sidesOf(suite, pledge, shown);
  if (sides === undefined) return false;
  const took = isOpened(suite, opening, Side.in, sides.input);
  const gave = isOpened(suite, opening, Side.out, sides.output);
  if (took === gave) return false;
  // What it gave must have come of something that it took.
  return took || (sides.others()?.every((other) => !isOpened(suite, opening, Side.in, other)) ?? false);
}

/** What the pledge says that becomes of the cell; undefined: it is none of the circuit's, or the key is not the one pledged. */
function sidesOf(suite: BatchRecords['suite'], pledge: Pledge, shown: Uint8Array): Sides | undefined {
  const travel = shown[0];
  if (travel !== Direction.forward && travel !== Direction.backward) return undefined;
  const end = HEAD_BYTES + cellBytesOf(travel);
  const { inward, outward, starts, offsets } = pledge;
  if (shown.length !== end + (outward === undefined ? 0 : KEYS_BYTES)) return undefined;
  const counter = readCounter(shown, 1);
  const type = shown[7]!;
  const pathId = shown[8]!;
  const cell = shown.subarray(HEAD_BYTES, end);
  const digest = (tag: Uint8Array, at: number, bytes: Uint8Array) =>
    cellDigest(suite, tag, travel, at, type, pathId, bytes);
  if (outward === undefined) {
    const near = digest(inward, counter, cell);
    return travel === Direction.forward
      ? { input: near, output: endDigest(suite, near), others: none }
      : { input: beginDigest(suite, near), output: near, others: none };
  }
  const aeadKey = shown.subarray(end, end + AEAD_KEY_BYTES);
  const index = cellIndex(counter, starts[travel]);
  const list = shown.subarray(end + AEAD_KEY_BYTES);
  if (!arePledged(suite, pledge, list, travel, generationOf(index), aeadKey)) return undefined;
  const counterOut = addCounter(counter, offsets[travel]);
  setCellContext(index, type, pathId);
  const out = new Uint8Array(CELL_BYTES);
  if (travel === Direction.backward) {
    suite.aeadSeal(out.subarray(TAG_BYTES), out.subarray(0, TAG_BYTES), cell, cellAd, cellNonce, aeadKey);
    const [ad, nonce] = [cellAd.slice(), cellNonce.slice()];
    const others = () =>
      headsOfOutput(suite, cell, out, ad, nonce, aeadKey)?.map((head) => digest(outward, counter, head));
    return { input: digest(outward, counter, cell), output: digest(inward, counterOut, out), others };
  }
  const isOpen = suite.aeadOpenPadded(
    out,
    cell.subarray(0, TAG_BYTES),
    cell.subarray(TAG_BYTES),
    cellAd,
    cellNonce,
    aeadKey,
  );
  if (!isOpen) return undefined;
  return { input: digest(inward, counter, cell), output: digest(outward, counterOut, out), others: none };
}
