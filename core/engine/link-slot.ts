/**
 * A link as the engine holds it: the link machine, its outgoing batch, its place in the timer heap and the
 * circuits that run over it.
 */
import type { Link } from '../link/link.ts';
import type { TimeMs } from '../ports.ts';
import { type CellBuffer, DATAGRAM_BYTES } from '../wire/datagram.ts';
import type { EngineCircuit } from './circuit.ts';
import type { LinkInfo } from './contract.ts';
import type { Egress } from './egress.ts';
import type { Timed } from './timer-heap.ts';

export class LinkSlot implements Timed {
  readonly handle: number;
  readonly link: Link;
  readonly #egress: Egress;
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

  /** Where the next outgoing cell has to be written; nothing is sent unless a commit follows. */
  peek(): CellBuffer {
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#open.push(this);
    }
    return this.#egress.peek();
  }

  /** Sends the circuit cell from peek(): header and body are complete, the link masks it. */
  commitCell(cell: CellBuffer): void {
    this.link.finish(cell);
    this.link.noteSent(DATAGRAM_BYTES);
    this.commitControl();
  }

  /** Sends a datagram from peek() that the link itself has made. */
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
    };
  }
}
