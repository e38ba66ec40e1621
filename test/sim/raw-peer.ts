/**
 * A peer that holds real links and says over them whatever a test makes it say: the malicious neighbour. It stands in a
 * SimNode in the engine's place.
 */
import type { EngineApi, EngineOptions, NodeContact, Via } from '@nyx/core/engine/contract.ts';
import type { EngineDependencies } from '@nyx/core/engine/engine.ts';
import { LinkHandshakes } from '@nyx/core/link/handshake.ts';
import type { Link } from '@nyx/core/link/link.ts';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { CellBuffer, CellType, DATAGRAM_BYTES, readLinkId, TYPE_OFFSET } from '@nyx/core/wire/datagram.ts';

export class RawPeer implements Pick<EngineApi, 'handleDatagrams' | 'flush' | 'nextTimeoutMs'> {
  readonly links: Link[] = [];
  readonly messages: { readonly link: Link; readonly type: number; readonly body: Uint8Array }[] = [];
  readonly #deps: EngineDependencies;
  readonly #handshakes: LinkHandshakes;
  readonly #byId = new Map<number, Link>();
  #lastId = 0;

  constructor(options: EngineOptions, deps: EngineDependencies) {
    this.#deps = deps;
    this.#handshakes = new LinkHandshakes(
      { identity: options.secrets, named: false, accept: true, unixMs: () => deps.host.unixSeconds() * 1000 },
      {
        suite: deps.suite,
        random: deps.random,
        host: {
          onMessage: (link, type, body) => this.messages.push({ link, type, body: new Uint8Array(body) }),
          onUp: (link) => this.links.push(link),
          onRekeyed: () => {},
          onIdsChanged: (link, added, removed) => {
            for (const id of removed) this.#byId.delete(id);
            for (const id of added) this.#byId.set(id, link);
          },
          onClosed: (link) => void this.links.splice(this.links.indexOf(link), 1),
          newLinkId: () => ++this.#lastId,
        },
      },
    );
  }

  /** As the engine of a SimNode. */
  asEngine(): EngineApi {
    return this as unknown as EngineApi;
  }

  connect(to: NodeContact, nowMs: number): Link {
    const link = this.#handshakes.connect(to, nowMs);
    this.#deps.host.onWake();
    return link;
  }

  send(link: Link, type: number, ...parts: Uint8Array[]): boolean {
    const sent = link.send(type, ...parts);
    this.#deps.host.onWake();
    return sent;
  }

  /** A cell of the message lane, on a link that is up. */
  sendPacket(link: Link, packet: Uint8Array): void {
    const cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
    cell.ct.set(packet);
    cell.bytes[TYPE_OFFSET] = CellType.message;
    link.finish(cell);
    this.#emit(link.via, link.address, cell.bytes);
  }

  handleDatagrams(datagram: Uint8Array, via: Via, from: PeerAddress, nowMs: number): void {
    const id = readLinkId(datagram);
    const link = this.#byId.get(id);
    if (link === undefined) {
      if (id === 0) this.#handshakes.handleDatagram(datagram, from, via, nowMs, this.#emit);
      return;
    }
    if (link.state === 'handshaking') {
      link.handleHandshake(datagram, nowMs);
      return;
    }
    const cell = new CellBuffer(new Uint8Array(datagram).buffer, 0);
    link.unmask(id, cell);
    if (link.isControl(cell, id)) link.handleControl(id, cell, nowMs);
  }

  flush(nowMs: number): void {
    this.#handshakes.poll(nowMs, this.#emit);
    for (const link of new Set(this.#byId.values())) {
      link.handleTimeout(nowMs);
      const cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
      while (link.wantsSend(nowMs) && link.pollControl(cell, nowMs)) this.#emit(link.via, link.address, cell.bytes);
    }
  }

  nextTimeoutMs(): number {
    let next = this.#handshakes.nextTimeoutMs();
    for (const link of this.#byId.values()) next = Math.min(next, link.nextTimeoutMs());
    return next;
  }

  readonly #emit = (via: Via, to: PeerAddress, datagram: Uint8Array): void => {
    this.#deps.host.send(via, to, new Uint8Array(datagram), DATAGRAM_BYTES, () => {});
  };
}
