/** Test support: nodes that have nothing but links, on a wire with virtual time, loss, reordering and damage. */

import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import { type NodeContact, Via } from '../engine/contract.ts';
import type { PeerAddress, Random } from '../ports.ts';
import { CellBuffer, DATAGRAM_BYTES, readLinkId } from '../wire/datagram.ts';
import type { LinkEnd, LinkHandshakeOptions, LinkHost } from './contract.ts';
import { LinkHandshakes } from './handshake.ts';
import type { Link } from './link.ts';

export interface WireOptions {
  readonly seed: number;
  readonly delayMs?: number;
  /** Extra delay, uniform: datagrams overtake each other. */
  readonly jitterMs?: number;
  readonly loss?: number;
  readonly duplicates?: number;
  readonly corruption?: number;
}

/** A datagram as an observer sees it. */
export interface Sighting {
  readonly from: string;
  readonly to: string;
  readonly datagram: Uint8Array;
}

interface Flight {
  readonly dueMs: number;
  readonly order: number;
  readonly from: PeerAddress;
  readonly to: string;
  readonly datagram: Uint8Array;
}

export class VirtualWire {
  nowMs = 1000;
  loss: number;
  duplicates: number;
  corruption: number;
  /** Called for each datagram sent; false swallows it. */
  observe: ((sighting: Sighting) => boolean) | undefined;
  readonly nodes = new Map<string, VirtualNode>();
  readonly #options: WireOptions;
  readonly #random: () => number;
  #flights: Flight[] = [];
  #order = 0;

  constructor(options: WireOptions) {
    this.#options = options;
    this.#random = uniform(createSeededRandom(`wire ${options.seed}`));
    this.loss = options.loss ?? 0;
    this.duplicates = options.duplicates ?? 0;
    this.corruption = options.corruption ?? 0;
  }

  send(from: PeerAddress, to: string, bytes: Uint8Array): void {
    const datagram = bytes.slice();
    if (this.observe?.({ from: from.address, to, datagram }) === false) return;
    const copies = this.#random() < this.duplicates ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      if (this.#random() < this.loss) continue;
      const sent = datagram.slice();
      if (this.#random() < this.corruption) {
        const at = Math.floor(this.#random() * DATAGRAM_BYTES);
        sent[at] = sent[at]! ^ (1 << Math.floor(this.#random() * 8));
      }
      const delayMs = (this.#options.delayMs ?? 5) + this.#random() * (this.#options.jitterMs ?? 0);
      this.#flights.push({ dueMs: this.nowMs + delayMs, order: this.#order++, from, to, datagram: sent });
    }
  }

  /** Runs until `done` or until `forMs` have passed; returns whether `done` came true. */
  run(forMs: number, done: () => boolean = () => false): boolean {
    const endMs = this.nowMs + forMs;
    for (const node of this.nodes.values()) node.flush(this.nowMs);
    let idleRounds = 0;
    while (!done()) {
      let nextMs = Number.POSITIVE_INFINITY;
      for (const flight of this.#flights) nextMs = Math.min(nextMs, flight.dueMs);
      for (const node of this.nodes.values()) nextMs = Math.min(nextMs, Math.max(this.nowMs, node.nextTimeoutMs()));
      if (nextMs > endMs) {
        this.nowMs = endMs;
        return done();
      }
      idleRounds = nextMs > this.nowMs ? 0 : idleRounds + 1;
      if (idleRounds > 1000) throw new Error(`time stands still at ${nextMs} ms: a timer that is due is not handled`);
      this.nowMs = nextMs;
      const due = this.#flights.filter((flight) => flight.dueMs <= nextMs);
      this.#flights = this.#flights.filter((flight) => flight.dueMs > nextMs);
      due.sort((a, b) => a.dueMs - b.dueMs || a.order - b.order);
      for (const flight of due) this.nodes.get(flight.to)?.handle(flight.datagram, flight.from, this.nowMs);
      for (const node of this.nodes.values()) node.flush(this.nowMs);
    }
    return true;
  }
}

export interface Received {
  readonly link: Link;
  readonly type: number;
  readonly body: Uint8Array;
}

/** A node that does with links what an engine does. */
export class VirtualNode implements LinkHost {
  /** Datagrams leave from here; it is found under all that it ever had. */
  address: PeerAddress;
  readonly contact: NodeContact;
  readonly handshakes: LinkHandshakes;
  readonly links = new Map<number, Link>();
  readonly up: Link[] = [];
  readonly closed: { link: Link; reason: LinkEnd }[] = [];
  readonly received: Received[] = [];
  /** Data cells that came, unmasked. */
  readonly dataCells: Uint8Array[] = [];
  readonly drops = new Map<Drop, number>();
  /** Where links were moved to. */
  readonly moved: PeerAddress[] = [];
  rekeys = 0;
  onReceived: ((received: Received) => void) | undefined;
  readonly #wire: VirtualWire;
  readonly #random: Random;
  readonly #scratch = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);

  constructor(
    wire: VirtualWire,
    suite: CryptoSuite,
    name: string,
    options: Partial<LinkHandshakeOptions> = {},
    random: Random = createSeededRandom(`node ${name}`),
  ) {
    this.#wire = wire;
    this.#random = random;
    this.address = { address: name, port: 9 };
    const bytes = (length: number) => {
      const into = new Uint8Array(length);
      random.fill(into);
      return into;
    };
    const identity = { nodeId: bytes(32), linkX25519Secret: bytes(32), linkKemSeed: bytes(64) };
    this.contact = {
      nodeId: identity.nodeId,
      addresses: [this.address],
      linkX25519: suite.x25519(identity.linkX25519Secret).publicKey,
      linkKem: suite.mlkem768(identity.linkKemSeed).publicKey,
      mixKeys: [],
    };
    this.handshakes = new LinkHandshakes(
      {
        identity,
        named: true,
        accept: true,
        unixMs: () => 1_700_000_000_000 + wire.nowMs,
        resolve: (nodeId) => [...wire.nodes.values()].find((node) => equal(node.contact.nodeId, nodeId))?.contact,
        ...options,
      },
      { suite, random, host: this },
    );
    wire.nodes.set(name, this);
  }

  /** Another network: another address from now on; what goes to the old one is lost. */
  move(name: string): void {
    this.#wire.nodes.delete(this.address.address);
    this.#wire.nodes.set(name, this);
    this.address = { address: name, port: 9 };
  }

  connect(peer: VirtualNode): Link {
    return this.handshakes.connect(peer.contact, this.#wire.nowMs);
  }

  handle(datagram: Uint8Array, from: PeerAddress, nowMs: number): Drop {
    const drop = this.#handle(datagram, from, nowMs);
    this.drops.set(drop, (this.drops.get(drop) ?? 0) + 1);
    return drop;
  }

  flush(nowMs: number): void {
    this.handshakes.poll(nowMs, this.#emit);
    for (const link of new Set(this.links.values())) {
      link.handleTimeout(nowMs);
      while (link.pollControl(this.#scratch, nowMs)) this.#emit(link.via, link.address, this.#scratch.bytes);
      const challenged = link.pollChallenge(this.#scratch, nowMs);
      if (challenged !== undefined) this.#emit(challenged.via, challenged.address, this.#scratch.bytes);
    }
  }

  nextTimeoutMs(): number {
    let timeoutMs = this.handshakes.nextTimeoutMs();
    for (const link of this.links.values()) timeoutMs = Math.min(timeoutMs, link.nextTimeoutMs());
    return timeoutMs;
  }

  /** Sends a data cell with `mark` in its header's CID, body random. */
  sendData(link: Link, mark: number): void {
    const cell = this.#scratch;
    this.#random.fill(cell.bytes);
    cell.header.fill(mark);
    cell.header[18] = 0;
    link.finish(cell);
    link.noteSent(DATAGRAM_BYTES);
    this.#emit(link.via, link.address, cell.bytes);
  }

  onMessage(link: Link, type: number, body: Uint8Array): void {
    const received = { link, type, body: body.slice() };
    this.received.push(received);
    this.onReceived?.(received);
  }

  onUp(link: Link): void {
    this.up.push(link);
  }

  onRekeyed(): void {
    this.rekeys += 1;
  }

  onMoved(link: Link): void {
    this.moved.push(link.address);
  }

  onIdsChanged(link: Link, added: readonly number[], removed: readonly number[]): void {
    for (const id of added) {
      if (this.links.has(id)) throw new Error(`id ${id} is in use`);
      this.links.set(id, link);
    }
    for (const id of removed) if (!this.links.delete(id)) throw new Error(`id ${id} was unknown`);
  }

  onClosed(link: Link, reason: LinkEnd): void {
    this.closed.push({ link, reason });
  }

  newLinkId(): number {
    const bytes = new Uint8Array(4);
    for (;;) {
      this.#random.fill(bytes);
      const id = readLinkId(bytes);
      if (id !== 0 && !this.links.has(id)) return id;
    }
  }

  readonly #emit = (_via: Via, to: PeerAddress, datagram: Uint8Array): void => {
    this.#wire.send(this.address, to.address, datagram);
  };

  #handle(datagram: Uint8Array, from: PeerAddress, nowMs: number): Drop {
    const id = readLinkId(datagram);
    if (id === 0) return this.handshakes.handleDatagram(datagram, from, Via.listen, nowMs, this.#emit);
    const link = this.links.get(id);
    if (link === undefined) return Drop.unknownLink;
    if (link.state === 'handshaking') return link.handleHandshake(datagram, nowMs, from);
    const cell = this.#scratch;
    cell.bytes.set(datagram);
    link.unmask(id, cell);
    if (link.isControl(cell, id)) return link.handleControl(id, cell, nowMs, from, Via.listen);
    link.noteReceived(DATAGRAM_BYTES);
    this.dataCells.push(cell.bytes.slice());
    return Drop.none;
  }
}

/** Numbers in 0…1 from random bytes. */
export function uniform(random: Random): () => number {
  const word = new Uint32Array(1);
  const bytes = new Uint8Array(word.buffer);
  return () => {
    random.fill(bytes);
    return word[0]! / 2 ** 32;
  };
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
