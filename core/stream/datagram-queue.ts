/**
 * Datagrams of a session that wait for a packet. Flows take turns, one datagram each, so that nobody waits for another's
 * flood. The bound is on all together, but a flow may hold no more than three times what is free (dynamic thresholds,
 * Choudhury and Hahne 1998): a flood leaves room for whoever comes later, and one alone gets three quarters.
 */
import type { TimeMs } from '../ports.ts';
import { LinkedList, ListNode } from './linked-list.ts';

const MAX_DATAGRAM_QUEUE = 128;
/** Of what is free, one flow may hold so much. */
const FREE_TIMES = 3;
/** Takes as many bytes as any time will. */
export const MAX_SENT_MS = 2 ** 40;

export interface QueuedDatagram {
  readonly flowId: number;
  readonly data: Uint8Array;
  /** 0 = it may become as old as it likes. */
  readonly lifetimeMs: number;
  /** When the session first had the time to look at it, by its own clock and by sessionMs. */
  expiresMs: TimeMs;
  sentMs: number;
}

class Flow {
  readonly id: number;
  readonly datagrams: QueuedDatagram[] = [];
  /** Its place among those whose turn comes. */
  readonly node: ListNode<Flow> = new ListNode<Flow>(this);

  constructor(id: number) {
    this.id = id;
  }
}

export class DatagramQueue {
  /** Those with datagrams. */
  readonly #flows = new Map<number, Flow>();
  readonly #turns = new LinkedList<Flow>();
  readonly #onExpired: (flowId: number) => void;
  /** Queued outside of the session's own time. */
  readonly #unseen: QueuedDatagram[] = [];
  #count = 0;
  /** Of them: those that can become too old. */
  #mortal = 0;

  constructor(onExpired: (flowId: number) => void) {
    this.#onExpired = onExpired;
  }

  /** Whose turn it is. It may be too old: call expire() first. */
  get next(): QueuedDatagram | undefined {
    return this.#turns.head?.item.datagrams[0];
  }

  get bytes(): number {
    let bytes = 0;
    for (const { datagrams } of this.#flows.values()) for (const { data } of datagrams) bytes += data.length;
    return bytes;
  }

  hasRoom(flowId: number): boolean {
    const held = this.#flows.get(flowId)?.datagrams.length ?? 0;
    const free = MAX_DATAGRAM_QUEUE - this.#count;
    return free > 0 && held < FREE_TIMES * free;
  }

  /** Copies `data`. */
  add(flowId: number, data: Uint8Array, lifetimeMs: number): void {
    const datagram = {
      flowId,
      data: new Uint8Array(data),
      lifetimeMs,
      expiresMs: Number.POSITIVE_INFINITY,
      sentMs: MAX_SENT_MS,
    };
    let flow = this.#flows.get(flowId);
    if (flow === undefined) {
      flow = new Flow(flowId);
      this.#flows.set(flowId, flow);
      this.#turns.add(flow.node);
    }
    flow.datagrams.push(datagram);
    this.#unseen.push(datagram);
    this.#count++;
    if (lifetimeMs > 0) this.#mortal++;
  }

  /** Removes what is too old from the front of every flow. */
  expire(nowMs: TimeMs, sessionMs: number): void {
    for (const datagram of this.#unseen) {
      datagram.sentMs = sessionMs;
      if (datagram.lifetimeMs > 0) datagram.expiresMs = nowMs + datagram.lifetimeMs;
    }
    this.#unseen.length = 0;
    if (this.#mortal === 0) return;
    for (const flow of this.#flows.values()) {
      while (flow.datagrams.length > 0 && flow.datagrams[0]!.expiresMs < nowMs) {
        this.#shift(flow);
        this.#onExpired(flow.id);
      }
    }
  }

  /** The next one has been written: another flow's turn. */
  taken(): void {
    const flow = this.#turns.head?.item;
    if (flow === undefined) return;
    this.#shift(flow);
    if (flow.datagrams.length > 0) this.#turns.rotate();
  }

  clear(): void {
    for (const { node } of this.#flows.values()) this.#turns.remove(node);
    this.#flows.clear();
    this.#unseen.length = 0;
    this.#count = 0;
    this.#mortal = 0;
  }

  #shift(flow: Flow): void {
    const { lifetimeMs } = flow.datagrams.shift()!;
    this.#count--;
    if (lifetimeMs > 0) this.#mortal--;
    if (flow.datagrams.length > 0) return;
    this.#turns.remove(flow.node);
    this.#flows.delete(flow.id);
  }
}
