/**
 * What the three kinds of circuit ends have in common: a relay's (relay-circuit.ts), the last hop's
 * (last-hop-circuit.ts) and the client's (client-circuit.ts). A cell finds its circuit through a CidEntry.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import type { Drop } from '../drop-reason.ts';
import type { PoissonMix } from '../mix/poisson-mix.ts';
import type { KeySpares } from '../onion/key-spares.ts';
import type { Random, TimeMs } from '../ports.ts';
import {
  type CellBuffer,
  COUNTER_OFFSET,
  HEADER_OFFSET,
  type LayeredCell,
  PATH_OFFSET,
  TYPE_OFFSET,
  writeCounter,
} from '../wire/datagram.ts';
import { Cid, type CidEntry, type CidTable } from './cid-table.ts';
import type { CircuitEnd, EngineCounters, EngineOptions } from './contract.ts';
import type { EngineBatches } from './engine-batches.ts';
import type { DropCover } from './engine-cover.ts';
import type { HostGuard } from './host-guard.ts';
import type { LinkCover } from './link-cover.ts';
import type { LinkSlot } from './link-slot.ts';
import type { ServedSession, ServedSessions } from './served-session.ts';
import type { Timed, TimerHeap } from './timer-heap.ts';

export interface EngineCircuit extends Timed {
  /** A cell that arrived under `entry`, header unmasked. May write into `cell`. */
  handleCell(
    entry: CircuitEntry,
    cell: LayeredCell,
    counter: number,
    type: number,
    pathId: number,
    nowMs: TimeMs,
  ): Drop;
  /** Class cmix: what later hops have pledged. Keeps `train`. */
  takePledges?(train: Uint8Array): Drop;
  /** Sends what is due; true when there is more than one turn's worth. */
  service(nowMs: TimeMs): boolean;
  handleTimeout(nowMs: TimeMs): void;
  /** A link it waits for came up. */
  linkUp(slot: LinkSlot, nowMs: TimeMs): void;
  linkLost(slot: LinkSlot, nowMs: TimeMs): void;
  /** Ends it: tells the neighbours that have not said so themselves, frees and wipes everything. */
  end(reason: CircuitEnd, heardFrom: LinkSlot | undefined, nowMs: TimeMs): void;
  /** Once a second or so: expiry, old keys. */
  sweep(nowMs: TimeMs, unixSeconds: number): void;
  /** Towards the last hop; undefined at either end. */
  readonly nextLink?: LinkSlot;
  /** What it holds now, bytes; its keys included. */
  readonly bufferedBytes: number;
  /** What the engine has counted of that, and when. Owned by the engine. */
  countedBytes: number;
  countedMs: TimeMs;
  /** It is in the list of circuits to service at the next flush. Owned by the engine. */
  dirty: boolean;
}

/** Which way what comes under a CID travels: 0 towards the exit, 1 towards the client. As on the wire (DESTROY). */
export const Travel = { forward: 0, backward: 1 } as const;
export type Travel = (typeof Travel)[keyof typeof Travel];

export class CircuitEntry implements CidEntry<LinkSlot> {
  readonly cid: Cid;
  readonly link: LinkSlot;
  readonly circuit: EngineCircuit;
  readonly travel: Travel;
  chain: CidEntry<LinkSlot> | undefined = undefined;

  constructor(cid: Cid, link: LinkSlot, circuit: EngineCircuit, travel: Travel) {
    this.cid = cid;
    this.link = link;
    this.circuit = circuit;
    this.travel = travel;
  }
}

/** What circuits need of the engine around them. */
export interface EngineContext {
  readonly suite: CryptoSuite;
  readonly random: Random;
  /** Key pairs for set-ups, made ahead. */
  readonly spares: KeySpares;
  readonly host: HostGuard;
  readonly options: EngineOptions;
  readonly counters: EngineCounters;
  readonly cids: CidTable<LinkSlot, CircuitEntry>;
  readonly timers: TimerHeap<EngineCircuit | LinkSlot | LinkCover | DropCover | ServedSession | EngineBatches>;
  /** Of links in constant mode, whose cells leave by a timer of their own (contract.ts, nextPacedMs). */
  readonly paced: TimerHeap<LinkCover>;
  readonly served: ServedSessions;
  /** Scratch for outgoing cells of clients; valid within one call. */
  readonly sendScratch: LayeredCell;
  /** Cells that wait for links, at all relay circuits together. */
  readonly held: { cells: number };
  /** Cells of class mix that wait. */
  readonly mix: PoissonMix;
  /** Class cmix. */
  readonly batches: EngineBatches;
  /** Where a cell of class mix is finished before it waits; valid within one call. */
  readonly mixScratch: CellBuffer;
  markCircuit(circuit: EngineCircuit): void;
  /** Its control channel has something to send. */
  markLink(slot: LinkSlot): void;
  /** Puts what its control channel has to say into its batch now, ahead of cells that follow. */
  sendControl(slot: LinkSlot, nowMs: TimeMs): void;
  /** No room for another circuit. */
  memoryTight(): boolean;
  /** The circuit is gone from all tables; forget it. */
  forget(circuit: EngineCircuit): void;
}

export function randomCid(random: Random): Cid {
  const bytes = new Uint8Array(12);
  random.fill(bytes);
  return Cid.read(bytes, 0);
}

/** Writes the clear header of an outgoing circuit cell. The link masks it afterwards. */
export function writeHeader(cell: CellBuffer, cid: Cid, counter: number, type: number, pathId: number): void {
  const bytes = cell.bytes;
  cid.write(bytes, HEADER_OFFSET);
  writeCounter(bytes, COUNTER_OFFSET, counter);
  bytes[TYPE_OFFSET] = type;
  bytes[PATH_OFFSET] = pathId;
}

/** Cells that one circuit may send in one turn, so that one bulk stream does not hold up the others. */
export const CELLS_PER_TURN = 204;
