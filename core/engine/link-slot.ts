/**
 * A link as the engine holds it: the link machine, its outgoing batch, its place in the timer heap and the
 * circuits that run over it.
 */
import type { Link } from '../link/link.ts';
import { MixOutlet } from '../mix/mix-outlet.ts';
import type { TimeMs } from '../ports.ts';
import { BATCH_DATAGRAMS, CellBuffer, DATAGRAM_BYTES } from '../wire/datagram.ts';
import type { EngineCircuit } from './circuit.ts';
import type { LinkInfo } from './contract.ts';
import type { Egress } from './egress.ts';
import { FULL_QUEUE_CELLS, type LinkCover } from './link-cover.ts';
import type { MessageSource } from './message-lane.ts';
import type { Timed } from './timer-heap.ts';

/** Packets of the message lane that may wait for the link to come up. */
const MAX_HELD_MESSAGES = 64;

export class LinkSlot implements Timed {
  readonly handle: number;
  readonly link: Link;
  readonly #egress: Egress;
  /** Where cells of class mix gather that leave over it. */
  readonly outlet = new MixOutlet(BATCH_DATAGRAMS);
  readonly circuits = new Set<EngineCircuit>();
  dueMs: TimeMs = Number.POSITIVE_INFINITY;
  heapIndex = -1;
  /** In the engine's list of links whose control channel has to be polled. */
  dirty = false;
  bytesIn = 0;
  bytesOut = 0;
  upSinceMs: TimeMs | undefined = undefined;
  /** When its last circuit left; an initiated link without circuits is closed after a while. */
  idleSinceMs: TimeMs;

  /** Cells of a constant link that did not fit into its queue. */
  overflowed = 0;
  /** What the peer has agreed to send to us all the time, cells a second; undefined = nothing was asked or answered. */
  grantedPerSecond: number | undefined = undefined;
  /** What the link has brought in packets of the message lane; undefined = none yet. */
  messages: MessageSource | undefined = undefined;
  /** Packets of the message lane that wait for the link to come up. */
  heldMessages: Uint8Array[] | undefined = undefined;
  #cover: LinkCover | undefined = undefined;
  /** Where cells of a constant link are finished before they queue. */
  #stage: CellBuffer | undefined = undefined;
  readonly #open: LinkSlot[];
  #isOpen = false;

  /** @param open the engine's list of links with a batch under way; the slot enters itself. */
  constructor(handle: number, link: Link, egress: Egress, open: LinkSlot[], nowMs: TimeMs) {
    this.#open = open;
    this.handle = handle;
    this.link = link;
    this.#egress = egress;
    this.idleSinceMs = nowMs;
  }

  /** It is in the engine's list of links with a batch under way. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  get cover(): LinkCover | undefined {
    return this.#cover;
  }

  set cover(cover: LinkCover | undefined) {
    this.#cover = cover;
    this.#stage = cover?.queue === undefined ? undefined : new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  }

  /** Every cell leaves at the link's own time (constant mode). */
  get constant(): boolean {
    return this.#stage !== undefined;
  }

  /** A constant link has enough to send for a while. */
  get full(): boolean {
    return this.#stage !== undefined && this.#cover!.queue!.length >= FULL_QUEUE_CELLS;
  }

  /** Where the next circuit cell has to be written; nothing is sent unless commitCell follows. */
  peek(): CellBuffer {
    return this.#stage ?? this.peekOut();
  }

  /** Where the next outgoing datagram has to be written; nothing is sent unless commitControl follows. */
  peekOut(): CellBuffer {
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#open.push(this);
    }
    return this.#egress.peek();
  }

  /** Sends the circuit cell from peek(): header and body are complete, the link masks it. */
  commitCell(cell: CellBuffer): void {
    if (this.#stage !== undefined) {
      if (!this.#cover!.queue!.push(cell.bytes)) this.overflowed++;
      return;
    }
    this.link.finish(cell);
    this.link.noteSent(DATAGRAM_BYTES);
    this.commitControl();
  }

  /** Keeps a copy of a packet of the message lane until the link is up; false = no room. */
  holdMessage(bytes: Uint8Array): boolean {
    this.heldMessages ??= [];
    if (this.heldMessages.length >= MAX_HELD_MESSAGES) return false;
    this.heldMessages.push(bytes.slice());
    return true;
  }

  /** Constant mode: sends the oldest cell that waits; false = none does. */
  sendQueued(): boolean {
    const cell = this.peekOut();
    if (this.#cover?.queue?.shift(cell.bytes) !== true) return false;
    this.link.finish(cell);
    this.link.noteSent(DATAGRAM_BYTES);
    this.commitControl();
    return true;
  }

  /** Sends a datagram from peekOut() that the link itself has made. */
  commitControl(): void {
    this.bytesOut += DATAGRAM_BYTES;
    this.#egress.commit(this.link.via, this.link.address);
  }

  /** Hands the batch to the host. The engine takes the slot off its list. */
  flush(): void {
    this.#isOpen = false;
    this.#egress.flush(this.link.via, this.link.address);
  }

  info(): LinkInfo {
    const { link } = this;
    return {
      link: this.handle,
      nodeId: link.nodeId,
      initiator: link.initiator,
      address: link.address,
      rttMs: link.rttMs,
      bytesIn: this.bytesIn,
      bytesOut: this.bytesOut,
      upSinceMs: this.upSinceMs,
      lastHeardMs: link.lastHeardMs,
      lossRatio: link.controlSends === 0 ? undefined : link.lossRatio,
      state: stateOf(link),
    };
  }
}

function stateOf(link: Link): LinkInfo['state'] {
  if (link.state === 'up') return link.rekeying ? 'rekeying' : 'up';
  return link.state === 'handshaking' ? 'handshaking' : 'draining';
}
