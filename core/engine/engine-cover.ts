/**
 * Cover traffic of a node (docs/protocol.md §7): which links have cover, and what leaves when its time has come. When that
 * is, core/mix/cover.ts says.
 */
import { Drop } from '../drop-reason.ts';
import { LinkMessage } from '../link/contract.ts';
import { CoverBudget, type CoverOptions, constantRate, PoissonProcess } from '../mix/cover.ts';
import { Exponential } from '../mix/exponential.ts';
import type { TimeMs } from '../ports.ts';
import type { EngineContext } from './circuit.ts';
import type { ClientCircuit } from './client-circuit.ts';
import type { CoverStats } from './contract.ts';
import { FULL_QUEUE_CELLS, LinkCover } from './link-cover.ts';
import type { LinkSlot } from './link-slot.ts';
import type { Timed, TimerHeap } from './timer-heap.ts';

const DEFAULT_GRANT_PER_SECOND = 2000;
/** And one of them. Less than so much is not granted: every such link may hold a queue of cells. */
const MIN_GRANT_PER_SECOND = 5;
const MAX_GRANT_PER_SECOND = 500;
/** Rates on the wire are in thousandths of a cell a second. */
const RATE_UNITS = 1000;
const RATE_BYTES = 4;

/** The process of a client's drop cover. */
export class DropCover implements Timed {
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  readonly process: PoissonProcess;

  constructor(process: PoissonProcess) {
    this.process = process;
  }
}

export interface EngineCoverDependencies {
  readonly context: EngineContext;
  readonly clients: ReadonlyMap<number, ClientCircuit>;
}

export class EngineCover {
  readonly #context: EngineContext;
  readonly #clients: ReadonlyMap<number, ClientCircuit>;
  readonly #times: Exponential;
  #budget: CoverBudget | undefined = undefined;
  #drop: DropCover | undefined = undefined;
  #grantedPerSecond = 0;
  #overflowed = 0;

  constructor({ context, clients }: EngineCoverDependencies) {
    this.#context = context;
    this.#clients = clients;
    this.#times = new Exponential(context.random);
  }

  /** Links to and from nodes that say their name, and those that we opened, have cover; those of anonymous clients only at their wish. */
  linkUp(slot: LinkSlot, nowMs: TimeMs): void {
    const { cover: options } = this.#context.options;
    if (options === undefined) return;
    const { link } = slot;
    if (options.mode === 'constant') {
      if (!link.initiator) return;
      const perSecond = constantRate(options);
      this.#begin(slot, LinkCover.constant(slot, perSecond, this.#times, nowMs));
      link.send(LinkMessage.cover, encodeRate(perSecond));
    } else if (link.initiator || link.nodeId !== undefined) {
      this.#begin(slot, LinkCover.adaptive(slot, options, this.#times, nowMs));
    }
    this.#budget ??= new CoverBudget(budgetOf(options), nowMs);
    this.#setDropRate(options.dropCellsPerSecond, nowMs);
  }

  /**
   * The options have changed, but not the mode, nor the rate of links in constant mode, which the other side was told. Links in adaptive mode
   * measure what they need anew, from the new base rate on.
   */
  retune(before: CoverOptions | undefined, slots: Iterable<LinkSlot>, nowMs: TimeMs): void {
    const { cover: options } = this.#context.options;
    if (options === undefined || before === undefined || this.#budget === undefined) return;
    if (budgetOf(options) !== budgetOf(before)) this.#budget = new CoverBudget(budgetOf(options), nowMs);
    this.#setDropRate(options.dropCellsPerSecond, nowMs);
    if (options.cellsPerSecond === before.cellsPerSecond && options.ratio === before.ratio) return;
    for (const slot of slots) {
      const { cover } = slot;
      if (cover === undefined || cover.queue !== undefined) continue;
      this.#context.timers.remove(cover);
      this.#begin(slot, LinkCover.adaptive(slot, options, this.#times, nowMs));
    }
  }

  #setDropRate(perSecond: number, nowMs: TimeMs): void {
    if (perSecond === 0 && this.#drop === undefined) return;
    this.#drop ??= new DropCover(new PoissonProcess(this.#times));
    if (this.#drop.process.perSecond === perSecond) return;
    this.#drop.process.setRate(perSecond, nowMs);
    if (perSecond === 0) this.#context.timers.remove(this.#drop);
    else this.#context.timers.set(this.#drop, this.#drop.process.nextMs);
  }

  linkClosed(slot: LinkSlot): void {
    const { cover } = slot;
    if (cover === undefined) return;
    this.#timersOf(cover).remove(cover);
    this.#overflowed += slot.overflowed;
    if (!slot.link.initiator && cover.queue !== undefined) this.#grantedPerSecond -= cover.perSecond;
    slot.cover = undefined;
  }

  /** COVER: a client asks for a constant rate on its way back, or a relay says what it will be. */
  handleMessage(slot: LinkSlot, body: Uint8Array, nowMs: TimeMs): Drop {
    const perSecond = decodeRate(body);
    if (perSecond === undefined) return Drop.badFrame;
    const { link } = slot;
    if (link.initiator) {
      slot.grantedPerSecond = perSecond;
      return Drop.none;
    }
    if (slot.constant || link.nodeId !== undefined || perSecond === 0) return Drop.notAllowed;
    const room = (this.#context.options.coverGrantPerSecond ?? DEFAULT_GRANT_PER_SECOND) - this.#grantedPerSecond;
    const fits = perSecond >= MIN_GRANT_PER_SECOND && perSecond <= Math.min(room, MAX_GRANT_PER_SECOND);
    const granted = fits ? perSecond : 0;
    link.send(LinkMessage.cover, encodeRate(granted));
    if (granted === 0) return Drop.limit;
    this.#grantedPerSecond += granted;
    this.#begin(slot, LinkCover.constant(slot, granted, this.#times, nowMs));
    return Drop.none;
  }

  /** What a link's cover has to send now. */
  send(cover: LinkCover, nowMs: TimeMs): void {
    const { slot } = cover;
    const { link } = slot;
    const { counters, timers } = this.#context;
    if (link.state !== 'up' && link.state !== 'draining') return;
    cover.begin(nowMs);
    while (cover.take(nowMs)) {
      if (cover.queue === undefined) {
        if (!this.#budget!.take(nowMs)) continue;
      } else if (this.#sendReal(cover, nowMs)) {
        continue;
      }
      link.sealCover(slot.peekOut());
      slot.commitControl();
      cover.sent++;
      counters.coverOut++;
    }
    this.#timersOf(cover).set(cover, cover.nextMs);
    if (slot.constant) timers.set(slot, Math.max(link.nextTimeoutMs(), cover.sentMs));
  }

  /** A client's cell to the last hop of one of its circuits, whichever. */
  drop(drop: DropCover, nowMs: TimeMs): void {
    const { counters, timers } = this.#context;
    drop.process.skipTo(nowMs - 50);
    while (drop.process.take(nowMs)) {
      if (this.#clients.size === 0 || !this.#budget!.take(nowMs)) continue;
      let at = Math.floor((1 - this.#times.uniform()) * this.#clients.size);
      for (const circuit of this.#clients.values()) {
        if (at-- > 0) continue;
        if (circuit.sendCover(nowMs)) counters.coverDropOut++;
        break;
      }
    }
    timers.set(drop, drop.process.nextMs);
  }

  stats(slots: Iterable<LinkSlot>): CoverStats {
    const stats = { links: 0, cellsPerSecond: 0, queued: 0, overflowed: this.#overflowed, granted: 0, served: 0 };
    for (const { cover, overflowed, grantedPerSecond, link } of slots) {
      if (cover === undefined) continue;
      stats.links++;
      stats.cellsPerSecond += cover.perSecond;
      stats.queued += cover.queue?.length ?? 0;
      stats.overflowed += overflowed;
      if (grantedPerSecond !== undefined && grantedPerSecond > 0) stats.granted++;
      if (cover.queue !== undefined && !link.initiator) stats.served++;
    }
    return stats;
  }

  #begin(slot: LinkSlot, cover: LinkCover): void {
    slot.cover = cover;
    this.#timersOf(cover).set(cover, cover.nextMs);
  }

  #timersOf(cover: LinkCover): Pick<TimerHeap<LinkCover>, 'set' | 'remove'> {
    const { timers, paced } = this.#context;
    return cover.queue === undefined ? timers : paced;
  }

  /** Control first, then cells in the order they came; false = there is nothing real to send. */
  #sendReal({ slot, queue }: LinkCover, nowMs: TimeMs): boolean {
    const { link } = slot;
    if (link.wantsSend(nowMs) && link.pollControl(slot.peekOut(), nowMs)) {
      slot.commitControl();
      this.#context.counters.controlOut++;
      return true;
    }
    if (!slot.sendQueued()) return false;
    if (queue!.length === FULL_QUEUE_CELLS - 1) {
      for (const circuit of slot.circuits) this.#context.markCircuit(circuit);
    }
    return true;
  }
}

/** In constant mode the budget bounds the rate, not the cells. */
function budgetOf(options: CoverOptions): number {
  return options.mode === 'constant' ? 0 : options.budgetBytesPerHour;
}

function encodeRate(perSecond: number): Uint8Array {
  const body = new Uint8Array(RATE_BYTES);
  new DataView(body.buffer).setUint32(0, Math.round(perSecond * RATE_UNITS));
  return body;
}

function decodeRate(body: Uint8Array): number | undefined {
  if (body.length !== RATE_BYTES) return undefined;
  return new DataView(body.buffer, body.byteOffset).getUint32(0) / RATE_UNITS;
}
