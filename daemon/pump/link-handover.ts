/**
 * Datagrams of links that another worker of this node holds (link-table.ts), handed to it in batches of one sender. What
 * is under way is bounded for each pair of workers, and counted beyond that: whoever copies a link's id can make a worker
 * copy and its neighbour refuse, no more. A datagram of no link costs a look at one bucket.
 */
import type { MessagePort } from 'node:worker_threads';
import { Drop } from '@nyx/core/drop-reason.ts';
import type { Via } from '@nyx/core/engine/contract.ts';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { LinkTable } from './link-table.ts';

/** Datagrams on their way to one neighbour: 2.5 MiB. */
export const MAX_UNDER_WAY = 40 * BATCH_DATAGRAMS;

/** What goes to the neighbour, or, as a number of datagrams taken, comes back. */
type Handed = { readonly bytes: Uint8Array<ArrayBuffer>; readonly via: Via; readonly from: PeerAddress } | number;

interface Neighbour {
  readonly port: MessagePort;
  underWay: number;
  batch: Uint8Array<ArrayBuffer> | undefined;
  length: number;
  via: Via;
  from: PeerAddress;
}

export class LinkHandover {
  readonly #table: LinkTable;
  readonly #take: (datagrams: Uint8Array, via: Via, from: PeerAddress) => void;
  readonly #neighbours = new Map<number, Neighbour>();
  /** Neighbours with a batch that has not left. */
  readonly #open = new Set<Neighbour>();
  /** While a neighbour's datagrams are taken: what is unknown then is nobody's. */
  #taking = false;
  /** Datagrams that other workers were given. */
  handedOver = 0;

  /** `take` gets what neighbours hand over, as if it had come from the socket `via`. */
  constructor(
    words: SharedArrayBuffer,
    worker: number,
    take: (datagrams: Uint8Array, via: Via, from: PeerAddress) => void,
  ) {
    this.#table = new LinkTable(words, worker);
    this.#take = take;
  }

  /** As EngineHost.onLinkIds. */
  linkIds(added: readonly number[], removed: readonly number[]): void {
    for (const id of removed) this.#table.remove(id);
    for (const id of added) this.#table.add(id);
  }

  /** The way to another worker; one that takes an earlier one's place has a new one. */
  connect(worker: number, port: MessagePort): void {
    const neighbour: Neighbour = { port, underWay: 0, batch: undefined, length: 0, via: 0 as Via, from: nobody };
    this.#neighbours.get(worker)?.port.close();
    this.#neighbours.set(worker, neighbour);
    port.on('message', (handed: Handed) => {
      if (typeof handed === 'number') neighbour.underWay -= handed;
      else this.#onDatagrams(handed, port);
    });
    port.on('close', () => {
      this.#open.delete(neighbour);
      if (this.#neighbours.get(worker) === neighbour) this.#neighbours.delete(worker);
    });
    // A thread that has nothing else to do ends.
    port.unref();
  }

  /** As EngineHost.onForeign: copies the datagram. It leaves with flush(). */
  onForeign(linkId: number, datagram: Uint8Array, via: Via, from: PeerAddress): Drop {
    const owner = this.#taking ? undefined : this.#table.ownerOf(linkId);
    const neighbour = owner === undefined ? undefined : this.#neighbours.get(owner);
    if (neighbour === undefined) return Drop.unknownLink;
    if (neighbour.underWay >= MAX_UNDER_WAY) return Drop.limit;
    if (neighbour.length > 0 && (neighbour.via !== via || neighbour.from !== from)) this.#send(neighbour);
    neighbour.batch ??= new Uint8Array(BATCH_DATAGRAMS * DATAGRAM_BYTES);
    neighbour.via = via;
    neighbour.from = from;
    neighbour.batch.set(datagram, neighbour.length);
    neighbour.length += DATAGRAM_BYTES;
    neighbour.underWay++;
    this.#open.add(neighbour);
    if (neighbour.length === neighbour.batch.length) this.#send(neighbour);
    return Drop.none;
  }

  /** What has been gathered leaves. Call it when a received buffer is through. */
  flush(): void {
    for (const neighbour of this.#open) this.#send(neighbour);
  }

  close(): void {
    for (const { port } of this.#neighbours.values()) port.close();
    this.#neighbours.clear();
    this.#open.clear();
  }

  #send(neighbour: Neighbour): void {
    const { batch, length, via, from } = neighbour;
    this.#open.delete(neighbour);
    if (batch === undefined || length === 0) return;
    this.handedOver += length / DATAGRAM_BYTES;
    neighbour.batch = undefined;
    neighbour.length = 0;
    neighbour.port.postMessage({ bytes: batch.subarray(0, length), via, from } satisfies Handed, [batch.buffer]);
  }

  #onDatagrams({ bytes, via, from }: Exclude<Handed, number>, port: MessagePort): void {
    const datagrams = bytes.length / DATAGRAM_BYTES;
    this.#taking = true;
    try {
      this.#take(bytes, via, from);
    } finally {
      this.#taking = false;
      port.postMessage(datagrams);
    }
  }
}

const nobody: PeerAddress = { address: '', port: 0 };
