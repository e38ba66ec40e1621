/**
 * Whether nodes can be reached: a real link handshake with each address that a node announces, over UDP sockets of the
 * authority's own, as a client that does not say who it is. The answer proves that the node's link keys are there.
 * Addresses of a family that this machine does not have are not asked, and say nothing.
 */
import { createSocket, type Socket } from 'node:dgram';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import type { NodeContact, Via } from '@nyx/core/engine/contract.ts';
import { LinkClose, type LinkEnd, type LinkHost } from '@nyx/core/link/contract.ts';
import { LinkHandshakes } from '@nyx/core/link/handshake.ts';
import type { Link } from '@nyx/core/link/link.ts';
import type { PeerAddress, Random } from '@nyx/core/ports.ts';
import { CellBuffer, DATAGRAM_BYTES, readLinkId } from '@nyx/core/wire/datagram.ts';

/** Handshakes at once; more wait. */
const MAX_PROBES = 32;

/** What the kernel says when it has no way out for a family: nothing that the node could help. */
const noWay: ReadonlySet<string> = new Set(['ENETUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT', 'ENETDOWN']);

export interface ProbeResult {
  /** In one family at least, every address has answered. */
  readonly reachable: boolean;
  /** Of the slowest that answered. */
  readonly rttMs: number | undefined;
  /** Families of which an address has not answered: NodeFlag.ipv4Fails, .ipv6Fails. */
  readonly fails: number;
}

export interface ProberDependencies {
  readonly suite: CryptoSuite;
  readonly random: Random;
  readonly unixMs: () => number;
  /** Does this machine have the family of an address? */
  readonly reaches: (address: string) => boolean;
}

/** Round-trip time, undefined = silence, or that nobody could be asked. */
type Answer = number | undefined | 'not asked';

interface Attempt {
  readonly to: PeerAddress;
  readonly resolve: (answer: Answer) => void;
}

export class Prober implements LinkHost {
  readonly #random: Random;
  readonly #reaches: (address: string) => boolean;
  readonly #handshakes: LinkHandshakes;
  readonly #links = new Map<number, Link>();
  readonly #attempts = new Map<Link, Attempt>();
  readonly #cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
  readonly #sockets = new Map<4 | 6, Promise<Socket | undefined>>();
  readonly #open = new Map<4 | 6, Socket>();
  readonly #waiting: (() => void)[] = [];
  #active = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor({ suite, random, unixMs, reaches }: ProberDependencies) {
    this.#random = random;
    this.#reaches = reaches;
    const bytes = (length: number) => {
      const into = new Uint8Array(length);
      random.fill(into);
      return into;
    };
    const identity = { nodeId: bytes(32), linkX25519Secret: bytes(32), linkKemSeed: bytes(64) };
    this.#handshakes = new LinkHandshakes(
      { identity, named: false, accept: false, unixMs },
      { suite, random, host: this },
    );
    suite.wipe(identity.linkX25519Secret, identity.linkKemSeed);
  }

  /** Asks all addresses of a node that can be asked from here. */
  async probe(contact: NodeContact): Promise<ProbeResult> {
    await this.#turn();
    try {
      const answers = await Promise.all(contact.addresses.map((address) => this.#probeAddress(contact, address)));
      const rttsMs = answers.filter((answer) => typeof answer === 'number');
      let fails = 0;
      let works = 0;
      for (const [i, { address }] of contact.addresses.entries()) {
        const flag = address.includes(':') ? NodeFlag.ipv6Fails : NodeFlag.ipv4Fails;
        if (answers[i] === undefined) fails |= flag;
        else if (answers[i] !== 'not asked') works |= flag;
      }
      const reachable = (works & ~fails) !== 0;
      return { reachable, rttMs: reachable ? Math.max(...rttsMs) : undefined, fails };
    } finally {
      this.#active--;
      this.#waiting.shift()?.();
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const link of new Set(this.#links.values())) link.abort('requested');
    this.#handshakes.wipe();
    for (const socket of this.#open.values()) socket.close();
    this.#open.clear();
  }

  async #turn(): Promise<void> {
    if (this.#active >= MAX_PROBES) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#active++;
  }

  async #probeAddress(contact: NodeContact, address: PeerAddress): Promise<Answer> {
    const family = address.address.includes(':') ? 6 : 4;
    if (!this.#reaches(address.address) || (await this.#socket(family)) === undefined) return 'not asked';
    if (this.#closed) return undefined;
    return await new Promise((resolve) => {
      const link = this.#handshakes.connect({ ...contact, addresses: [address] }, performance.now());
      if (link.state === 'closed') {
        resolve(undefined);
        return;
      }
      this.#attempts.set(link, { to: address, resolve });
      this.#flush();
    });
  }

  /** Undefined when this machine can't have one. */
  #socket(family: 4 | 6): Promise<Socket | undefined> {
    let socket = this.#sockets.get(family);
    if (socket === undefined) {
      socket = new Promise((resolve) => {
        const made = createSocket({ type: family === 4 ? 'udp4' : 'udp6', ipv6Only: family === 6 });
        made.on('message', (datagram, { address, port }) => this.#receive(datagram, { address, port }));
        made.on('error', () => {
          this.#open.delete(family);
          resolve(undefined);
        });
        made.bind(0, () => {
          // Waiting for answers must not keep the process alive.
          made.unref();
          if (this.#closed) made.close();
          else this.#open.set(family, made);
          resolve(made);
        });
      });
      this.#sockets.set(family, socket);
    }
    return socket;
  }

  #receive(datagram: Uint8Array, _from: PeerAddress): void {
    if (datagram.length !== DATAGRAM_BYTES || this.#closed) return;
    const id = readLinkId(datagram);
    const link = this.#links.get(id);
    if (link === undefined) return;
    const nowMs = performance.now();
    if (link.state === 'handshaking') link.handleHandshake(datagram, nowMs);
    else {
      this.#cell.bytes.set(datagram);
      link.unmask(id, this.#cell);
      if (link.isControl(this.#cell, id)) link.handleControl(id, this.#cell, nowMs);
    }
    this.#flush();
  }

  #flush(): void {
    clearTimeout(this.#timer);
    const nowMs = performance.now();
    this.#handshakes.poll(nowMs, this.#emit);
    for (const link of new Set(this.#links.values())) {
      link.handleTimeout(nowMs);
      while (link.pollControl(this.#cell, nowMs)) this.#emit(link.via, link.address, this.#cell.bytes);
    }
    let dueMs = this.#handshakes.nextTimeoutMs();
    for (const link of this.#links.values()) dueMs = Math.min(dueMs, link.nextTimeoutMs());
    if (dueMs === Number.POSITIVE_INFINITY || this.#closed) return;
    this.#timer = setTimeout(() => this.#flush(), Math.max(1, dueMs - performance.now()));
    this.#timer.unref();
  }

  readonly #emit = (_via: Via, to: PeerAddress, datagram: Uint8Array): void => {
    const socket = this.#open.get(to.address.includes(':') ? 6 : 4);
    // A copy: the kernel may take it later. Whatever goes wrong shows as no answer.
    socket?.send(Uint8Array.from(datagram), to.port, to.address, (error) => {
      const code = (error as NodeJS.ErrnoException | null)?.code;
      if (code === undefined || !noWay.has(code)) return;
      for (const [link, attempt] of this.#attempts) {
        if (attempt.to.address !== to.address || attempt.to.port !== to.port) continue;
        this.#settle(link, 'not asked');
        link.abort('requested');
      }
    });
  };

  // --- LinkHost ---

  onMessage(): void {}

  onUp(link: Link): void {
    this.#settle(link, link.rttMs ?? 0);
    link.close(LinkClose.requested, performance.now());
  }

  onRekeyed(): void {}

  onIdsChanged(link: Link, added: readonly number[], removed: readonly number[]): void {
    for (const id of added) this.#links.set(id, link);
    for (const id of removed) this.#links.delete(id);
  }

  onClosed(link: Link, _reason: LinkEnd): void {
    this.#settle(link, undefined);
  }

  newLinkId(): number {
    const bytes = new Uint8Array(4);
    for (;;) {
      this.#random.fill(bytes);
      const id = readLinkId(bytes);
      if (id !== 0 && !this.#links.has(id)) return id;
    }
  }

  #settle(link: Link, answer: Answer): void {
    const attempt = this.#attempts.get(link);
    this.#attempts.delete(link);
    attempt?.resolve(answer);
  }
}
