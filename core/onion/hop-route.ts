import type { CircuitClass } from '../engine/contract.ts';
import type { UnixSeconds } from '../ports.ts';
import { readCounter, writeCounter } from '../wire/datagram.ts';

/** Bytes of a route in a set-up message (docs/protocol.md §4). */
export const ROUTE_BYTES = 128;
export const NODE_ID_BYTES = 32;
export const PUZZLE_SOLUTION_BYTES = 8;

/** What the client tells one hop. */
export interface HopRoute {
  /** NodeID of the next hop; undefined: you are last. */
  readonly nextNodeId: Uint8Array | undefined;
  readonly action: 'relay' | 'exit';
  readonly class: CircuitClass;
  /** Mean of the delay at this hop, class `mix`; 32 bits. */
  readonly delayMeanUs: number;
  /** Counter of the cell with index 0 when it arrives here from the client's side. */
  readonly forwardStart: number;
  /** What this hop adds to a forward counter. 0 at the last hop. */
  readonly forwardOffset: number;
  /** Counter of the backward cell with index 0 when it arrives here (last hop: when it leaves). */
  readonly backwardStart: number;
  readonly backwardOffset: number;
  /** Cells with an index of 2^k or more are refused; 0…48, 0 = as many as there are indices. */
  readonly maxCellsLog2: number;
  readonly expiry: UnixSeconds;
  /** Answer to the next hop's puzzle, 8 bytes; zeros where there is none. */
  readonly nextPuzzleSolution: Uint8Array;
}

/** The circuit's number of indices: 2^k, or 2^48 where the route sets no limit. */
export function maxCellsOf(route: HopRoute): number {
  return 2 ** (route.maxCellsLog2 === 0 ? 48 : route.maxCellsLog2);
}

const classes: readonly CircuitClass[] = ['fast', 'mix', 'cmix'];
const actions: readonly HopRoute['action'][] = ['relay', 'exit'];
const USED_BYTES = 79;

/** Writes `route` into the first 128 bytes of `into`. Throws RangeError for a field out of its range. */
export function encodeRoute(route: HopRoute, into: Uint8Array): void {
  const view = new DataView(into.buffer, into.byteOffset, ROUTE_BYTES);
  into.fill(0, 0, ROUTE_BYTES);
  if (route.nextNodeId !== undefined) into.set(route.nextNodeId, 0);
  if (route.delayMeanUs < 0 || route.delayMeanUs > 0xffff_ffff) {
    throw new RangeError(`mean delay of ${route.delayMeanUs} µs: must be 0…2^32−1`);
  }
  if (route.maxCellsLog2 < 0 || route.maxCellsLog2 > 48) throw new RangeError('max cells: must be 2^0…2^48');
  into[32] = actions.indexOf(route.action);
  into[33] = classes.indexOf(route.class);
  view.setUint32(34, Math.round(route.delayMeanUs));
  writeCounter(into, 38, route.forwardStart);
  writeCounter(into, 44, route.forwardOffset);
  writeCounter(into, 50, route.backwardStart);
  writeCounter(into, 56, route.backwardOffset);
  into[62] = route.maxCellsLog2;
  view.setBigUint64(63, BigInt(Math.floor(route.expiry)));
  into.set(route.nextPuzzleSolution, 71);
}

/** Undefined when a field has no meaning. Copies what it keeps. */
export function decodeRoute(bytes: Uint8Array): HopRoute | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, ROUTE_BYTES);
  const action = actions[bytes[32]!];
  const circuitClass = classes[bytes[33]!];
  const maxCellsLog2 = bytes[62]!;
  const expiry = Number(view.getBigUint64(63));
  let last = true;
  for (let i = 0; i < NODE_ID_BYTES; i++) if (bytes[i] !== 0) last = false;
  for (let i = USED_BYTES; i < ROUTE_BYTES; i++) if (bytes[i] !== 0) return undefined;
  if (action === undefined || circuitClass === undefined || maxCellsLog2 > 48) return undefined;
  if (expiry > Number.MAX_SAFE_INTEGER || last !== (action === 'exit')) return undefined;
  return {
    nextNodeId: last ? undefined : bytes.slice(0, NODE_ID_BYTES),
    action,
    class: circuitClass,
    delayMeanUs: view.getUint32(34),
    forwardStart: readCounter(bytes, 38),
    forwardOffset: readCounter(bytes, 44),
    backwardStart: readCounter(bytes, 50),
    backwardOffset: readCounter(bytes, 56),
    maxCellsLog2,
    expiry,
    nextPuzzleSolution: bytes.slice(71, USED_BYTES),
  };
}
