/**
 * A circuit at a relay: cells from the previous hop lose a layer and go on, cells from the next hop get one.
 * While the link to the next hop is still being opened, a few cells wait (0-RTT data right behind the train).
 */
import { Drop } from '../drop-reason.ts';
import type { PledgedCircuit } from '../mix/circuit-pledge.ts';
import { boundedDelayMs, type MixOwner } from '../mix/poisson-mix.ts';
import type { HopRoute } from '../onion/hop-route.ts';
import type { RelayHop } from '../onion/relay-hop.ts';
import type { TimeMs } from '../ports.ts';
import { CellBuffer, DATAGRAM_BYTES, type LayeredCell } from '../wire/datagram.ts';
import type { Cid } from './cid-table.ts';
import { CircuitEntry, type EngineCircuit, type EngineContext, Travel, writeHeader } from './circuit.ts';
import { HopPledge, sendPledges } from './circuit-pledges.ts';
import { CircuitEnd } from './contract.ts';
import type { LinkSlot } from './link-slot.ts';
import { sendDestroy, sendRefused, sendSetup } from './messages.ts';

/** Cells of one circuit that may wait for the link to the next hop: an initial window. */
const MAX_HELD_CELLS = 64;
/** And of all circuits together (10 MiB). */
const MAX_HELD_CELLS_IN_ALL = 8192;

/** A held cell with its views, about. */
const HELD_BYTES = DATAGRAM_BYTES + 1200;
/** The circuit without its keys: entries in tables, objects. */
const CIRCUIT_BYTES = 1000;
/**
 * A circuit on which nothing has come either way for this long is over: sessions speak four times a minute, so a word
 * of its end was lost.
 */
const IDLE_MS = 300_000;

export class RelayCircuit implements EngineCircuit, MixOwner {
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  dirty = false;
  mixPlace = -1;
  countedBytes = 0;
  countedMs: TimeMs = 0;
  readonly #context: EngineContext;
  readonly #hop: RelayHop;
  readonly #inLink: LinkSlot;
  readonly #outLink: LinkSlot;
  readonly #inForward: CircuitEntry;
  readonly #inBackwardCid: Cid;
  readonly #outForwardCid: Cid;
  readonly #outBackward: CircuitEntry;
  readonly #expiry: number;
  #held: CellBuffer[] | undefined = undefined;
  /** Class mix: how long a cell waits here on average; 0 = another class. */
  readonly #delayMs: number;
  /** Class cmix: what the circuit is called on the links to both sides, and what we sign of it. */
  readonly #tags: { readonly inward: Uint8Array; readonly outward: Uint8Array } | undefined;
  readonly #pledge: HopPledge | undefined;
  /** Class cmix: cells that wait for their batch. */
  #batched = 0;
  /** Nothing has come back yet: a failure is answered with SETUP_REFUSED, which says where it happened. */
  #answered = false;
  #ended = false;
  /** When the last cell came. */
  #usedMs: TimeMs;

  constructor(
    context: EngineContext,
    hop: RelayHop,
    route: HopRoute,
    inLink: LinkSlot,
    inForwardCid: Cid,
    inBackwardCid: Cid,
    outLink: LinkSlot,
    outForwardCid: Cid,
    outBackwardCid: Cid,
    pledged: PledgedCircuit | undefined,
    nowMs: TimeMs,
  ) {
    this.#usedMs = nowMs;
    this.#context = context;
    this.#hop = hop;
    this.#inLink = inLink;
    this.#outLink = outLink;
    this.#inForward = new CircuitEntry(inForwardCid, inLink, this, Travel.forward);
    this.#inBackwardCid = inBackwardCid;
    this.#outForwardCid = outForwardCid;
    this.#outBackward = new CircuitEntry(outBackwardCid, outLink, this, Travel.backward);
    this.#expiry = route.expiry;
    this.#delayMs = route.class === 'mix' ? boundedDelayMs(route.delayMeanUs) : 0;
    if (pledged === undefined) return;
    this.#tags = { inward: pledged.inward, outward: pledged.outward! };
    this.#pledge = new HopPledge(context.suite, pledged, (train) => {
      sendPledges(inLink.link, inBackwardCid, train);
      context.markLink(inLink);
    });
    context.batches.pledge(this.#pledge, pledged.fields);
  }

  get nextLink(): LinkSlot {
    return this.#outLink;
  }

  /** Enters the tables; false when a CID is taken on its link. */
  open(): boolean {
    const { cids } = this.#context;
    if (!cids.add(this.#inForward)) return false;
    if (!cids.add(this.#outBackward)) {
      cids.remove(this.#inForward);
      return false;
    }
    this.#inLink.circuits.add(this);
    this.#outLink.circuits.add(this);
    return true;
  }

  /**
   * Sends the rest of the train to the next hop, at once: data cells may be right behind it and must not overtake it.
   * False when the control channel is full.
   */
  passOn(puzzleSolution: Uint8Array, train: Uint8Array, nowMs: TimeMs): boolean {
    const out = this.#outLink;
    if (!sendSetup(out.link, this.#outForwardCid, this.#outBackward.cid, puzzleSolution, train)) return false;
    this.#context.sendControl(out, nowMs);
    return true;
  }

  takePledges(train: Uint8Array): Drop {
    return this.#pledge?.take(train) ?? Drop.notAllowed;
  }

  handleCell(
    entry: CircuitEntry,
    cell: LayeredCell,
    counter: number,
    type: number,
    pathId: number,
    nowMs: TimeMs,
  ): Drop {
    this.#usedMs = nowMs;
    if (this.#tags !== undefined) return this.#batch(this.#tags, entry.travel, cell, counter, type, pathId, nowMs);
    if (this.#delayMs > 0) return this.#delay(entry.travel, cell, counter, type, pathId, nowMs);
    return entry === this.#inForward
      ? this.#forward(cell, counter, type, pathId, nowMs)
      : this.#backward(cell, counter, type, pathId, nowMs);
  }

  #forward(cell: LayeredCell, counter: number, type: number, pathId: number, nowMs: TimeMs): Drop {
    const out = this.#outLink;
    // Behind those that wait already, which in turn wait for the train to be ahead of them.
    if (this.#held !== undefined || out.link.state !== 'up') return this.#hold(cell, counter, type, pathId, nowMs);
    const next = out.peek();
    const drop = this.#hop.openForward(counter, type, pathId, cell, next, nowMs);
    if (drop !== Drop.none) return drop;
    writeHeader(next, this.#outForwardCid, this.#hop.forwardCounterOut(counter), type, pathId);
    out.commitCell(next);
    this.#context.counters.cellsForward++;
    return Drop.none;
  }

  #backward(cell: LayeredCell, counter: number, type: number, pathId: number, nowMs: TimeMs): Drop {
    this.#answered = true;
    const out = this.#inLink;
    const next = out.peek();
    const drop = this.#hop.sealBackward(counter, type, pathId, cell, next, nowMs);
    if (drop !== Drop.none) return drop;
    writeHeader(next, this.#inBackwardCid, this.#hop.backwardCounterOut(counter), type, pathId);
    out.commitCell(next);
    this.#context.counters.cellsBackward++;
    return Drop.none;
  }

  /** Class mix: the cell is finished now, so that nothing but a datagram waits, and sent in release(). */
  #delay(travel: Travel, cell: LayeredCell, counter: number, type: number, pathId: number, nowMs: TimeMs): Drop {
    const { mix, mixScratch } = this.#context;
    if (!mix.hasRoom(this)) return Drop.mixQueueFull;
    const drop = this.#finish(travel, cell, counter, type, pathId, nowMs);
    if (drop !== Drop.none) return drop;
    const out = travel === Travel.forward ? this.#outLink : this.#inLink;
    mix.push(mixScratch.bytes, this, travel, out.outlet, this.#delayMs, nowMs);
    return Drop.none;
  }

  /** Class cmix: likewise, until its batch leaves. */
  #batch(
    { inward, outward }: { readonly inward: Uint8Array; readonly outward: Uint8Array },
    travel: Travel,
    cell: LayeredCell,
    counter: number,
    type: number,
    pathId: number,
    nowMs: TimeMs,
  ): Drop {
    const { batches, mixScratch } = this.#context;
    const forward = travel === Travel.forward;
    if (!batches.queue!.hasRoom(this.#batched)) return Drop.mixQueueFull;
    const inDigest = batches.digest(forward ? inward : outward, travel, counter, type, pathId, cell.cell);
    const drop = this.#finish(travel, cell, counter, type, pathId, nowMs);
    if (drop !== Drop.none) return drop;
    const counterOut = forward ? this.#hop.forwardCounterOut(counter) : this.#hop.backwardCounterOut(counter);
    const outTag = forward ? outward : inward;
    const outDigest = batches.digest(outTag, travel, counterOut, type, pathId, mixScratch.cell);
    const from = forward ? this.#inLink : this.#outLink;
    const to = forward ? this.#outLink : this.#inLink;
    const refused = batches.push(mixScratch.bytes, this, travel, from, inDigest, to, outDigest, nowMs);
    if (refused === Drop.none) this.#batched++;
    return refused;
  }

  /** The next hop's datagram, into the scratch cell. */
  #finish(travel: Travel, cell: LayeredCell, counter: number, type: number, pathId: number, nowMs: TimeMs): Drop {
    const { mixScratch } = this.#context;
    const hop = this.#hop;
    const forward = travel === Travel.forward;
    const drop = forward
      ? hop.openForward(counter, type, pathId, cell, mixScratch, nowMs)
      : hop.sealBackward(counter, type, pathId, cell, mixScratch, nowMs);
    if (drop !== Drop.none) return drop;
    if (forward) {
      writeHeader(mixScratch, this.#outForwardCid, hop.forwardCounterOut(counter), type, pathId);
    } else {
      this.#answered = true;
      writeHeader(mixScratch, this.#inBackwardCid, hop.backwardCounterOut(counter), type, pathId);
    }
    return Drop.none;
  }

  /** A cell of class mix or cmix has waited long enough. The mask is put on now: the link may have got other keys meanwhile. */
  release(bytes: Uint8Array, travel: number, _nowMs: TimeMs): void {
    if (this.#tags !== undefined) this.#batched--;
    const { counters } = this.#context;
    const forward = travel === Travel.forward;
    const out = forward ? this.#outLink : this.#inLink;
    if (this.#ended) {
      counters.drops[Drop.closed]!++;
      return;
    }
    if (forward && out.link.state !== 'up') {
      const drop = this.#keep(bytes);
      if (drop !== Drop.none) counters.drops[drop]!++;
      return;
    }
    const next = out.peek();
    next.bytes.set(bytes);
    out.commitCell(next);
    if (forward) counters.cellsForward++;
    else counters.cellsBackward++;
  }

  /** A finished cell that waits for the link. */
  #keep(bytes: Uint8Array): Drop {
    this.#held ??= [];
    const { held } = this.#context;
    this.#context.markCircuit(this);
    if (this.#held.length >= MAX_HELD_CELLS || held.cells >= MAX_HELD_CELLS_IN_ALL) return Drop.sendQueueFull;
    const copy = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
    copy.bytes.set(bytes);
    this.#held.push(copy);
    held.cells++;
    return Drop.none;
  }

  #hold(cell: LayeredCell, counter: number, type: number, pathId: number, nowMs: TimeMs): Drop {
    this.#held ??= [];
    const { held } = this.#context;
    this.#context.markCircuit(this);
    if (this.#held.length >= MAX_HELD_CELLS || held.cells >= MAX_HELD_CELLS_IN_ALL) return Drop.sendQueueFull;
    const copy = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
    const drop = this.#hop.openForward(counter, type, pathId, cell, copy, nowMs);
    if (drop !== Drop.none) return drop;
    writeHeader(copy, this.#outForwardCid, this.#hop.forwardCounterOut(counter), type, pathId);
    this.#held.push(copy);
    held.cells++;
    return Drop.none;
  }

  linkUp(slot: LinkSlot, _nowMs: TimeMs): void {
    if (slot === this.#outLink && this.#held !== undefined) this.#context.markCircuit(this);
  }

  /** Sends the cells that waited. Comes after the link's control channel in a flush, so behind the train. */
  service(_nowMs: TimeMs): boolean {
    const held = this.#held;
    if (held === undefined || this.#outLink.link.state !== 'up') return false;
    this.#dropHeld();
    for (const cell of held) {
      const next = this.#outLink.peek();
      next.bytes.set(cell.bytes);
      this.#outLink.commitCell(next);
      this.#context.counters.cellsForward++;
    }
    return false;
  }

  handleTimeout(_nowMs: TimeMs): void {}

  linkLost(slot: LinkSlot, nowMs: TimeMs): void {
    if (slot === this.#outLink && !this.#answered) {
      this.refuse(CircuitEnd.unreachable, this.#context.options.secrets.nodeId, 0, undefined);
    } else {
      this.end(CircuitEnd.linkLost, slot, nowMs);
    }
  }

  /** Passes a refusal of a later hop (or our own, about the next link) towards the client. */
  refuse(reason: CircuitEnd, refuser: Uint8Array, difficulty: number, challenge: Uint8Array | undefined): void {
    if (this.#ended) return;
    sendRefused(this.#inLink.link, this.#inBackwardCid, reason, refuser, difficulty, challenge);
    // The next hop refused or can't be reached: it holds nothing that would have to be taken down.
    this.#close();
  }

  end(reason: CircuitEnd, heardFrom: LinkSlot | undefined, _nowMs: TimeMs): void {
    if (this.#ended) return;
    if (heardFrom !== this.#inLink) sendDestroy(this.#inLink.link, this.#inBackwardCid, 1, reason);
    if (heardFrom !== this.#outLink) sendDestroy(this.#outLink.link, this.#outForwardCid, 0, reason);
    this.#close();
  }

  #close(): void {
    this.#ended = true;
    const { cids } = this.#context;
    cids.remove(this.#inForward);
    cids.remove(this.#outBackward);
    this.#inLink.circuits.delete(this);
    this.#outLink.circuits.delete(this);
    this.#dropHeld();
    this.#hop.wipe();
    this.#pledge?.wipe();
    this.#context.markLink(this.#inLink);
    this.#context.markLink(this.#outLink);
    this.#context.forget(this);
  }

  #dropHeld(): void {
    if (this.#held !== undefined) this.#context.held.cells -= this.#held.length;
    this.#held = undefined;
  }

  sweep(nowMs: TimeMs, unixSeconds: number): void {
    if (unixSeconds > this.#expiry) this.end(CircuitEnd.expired, undefined, nowMs);
    else if (nowMs - this.#usedMs > IDLE_MS) this.end(CircuitEnd.timeout, undefined, nowMs);
    else this.#hop.expireOld(nowMs);
  }

  get bufferedBytes(): number {
    return CIRCUIT_BYTES + this.#hop.memoryBytes + (this.#held === undefined ? 0 : this.#held.length * HELD_BYTES);
  }
}
