/** The suite's own node, which the target has in its view: it takes the links that the target opens, and circuits and packets over them. */
import {
  type Bytes,
  concat,
  equal,
  FRAGMENT,
  HandshakeType,
  handshakeDatagram,
  handshakeHeader,
  makeResponse,
  type NodeKeys,
  newNodeKeys,
  type OpenedInit,
  openInit,
  random,
  readHandshake,
} from './codec.ts';
import { Peer, patience, type Target, TestLink } from './peer.ts';

const handshakeId = new Uint8Array(4);
/** So often it looks whether the target has begun a new link. */
const SLICE_MS = 100;

export interface PeerContact {
  readonly host: string;
  readonly port: number;
  readonly keys: NodeKeys;
}

/** As a target file has it. */
export const contactJson = ({ host, port, keys }: PeerContact): string => {
  const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');
  return JSON.stringify({
    host,
    port,
    epoch: keys.epoch,
    nodeId: hex(keys.nodeId),
    linkX25519: hex(keys.link.publicKey),
    linkKem: hex(keys.linkKem.publicKey),
    mixX25519: hex(keys.mix.publicKey),
    mixKem: hex(keys.mixKem.publicKey),
  });
};

interface Handshake {
  readonly name: string;
  readonly handshakeId: Uint8Array;
  readonly message: Uint8Array;
}

export class TestNode {
  readonly keys: NodeKeys;
  readonly peer: Peer;
  /** The last init that was answered. */
  init: OpenedInit | undefined;
  #link: TestLink | undefined;
  /** Fragments of inits, by handshake. */
  readonly #parts = new Map<string, [Uint8Array | undefined, Uint8Array | undefined]>();
  readonly #answered = new Set<string>();

  constructor(peer: Peer, keys: NodeKeys) {
    this.peer = peer;
    this.keys = keys;
  }

  /** `epoch`: of its mix keys, which has to be one that the target holds keys for. */
  static async open(epoch: number, port = 0): Promise<TestNode> {
    // Whom it speaks to it learns when it is spoken to.
    const nobody = { host: '127.0.0.1', port: 9 } as Target;
    const peer = await Peer.open(nobody, port);
    peer.accept();
    return new TestNode(peer, newNodeKeys(epoch));
  }

  get contact(): PeerContact {
    return { host: '127.0.0.1', port: this.peer.port, keys: this.keys };
  }

  close(): void {
    this.peer.close();
  }

  /** The link that the target has opened to it, or opens now because something is on its way. */
  async link(patienceMs = patience.ms): Promise<TestLink> {
    if (this.#link === undefined || this.peer.count(handshakeId) > 0) {
      const handshake = await this.#nextHandshake(this.#link === undefined ? patienceMs : 0);
      if (handshake !== undefined) this.#link = await this.#answer(handshake);
    }
    if (this.#link === undefined) throw new Error('the target opened no link to the next hop');
    return this.#link;
  }

  /** A message of that type, over the link that there is or another that the target opens because that one is dead to it. */
  async nextMessage(type: number, patienceMs = patience.ms): Promise<{ link: TestLink; body: Bytes } | undefined> {
    const endMs = performance.now() + patienceMs;
    while (performance.now() < endMs) {
      const link = await this.link();
      const body = await link.nextMessage(type, undefined, SLICE_MS);
      if (body !== undefined) return { link, body };
    }
    return undefined;
  }

  /** A packet of the message lane, likewise. */
  async nextPacket(patienceMs = patience.ms): Promise<Bytes | undefined> {
    const endMs = performance.now() + patienceMs;
    while (performance.now() < endMs) {
      const packet = await (await this.link()).nextPacket(SLICE_MS);
      if (packet !== undefined) return packet;
    }
    return undefined;
  }

  /** The link is over. */
  forgetLink(): void {
    this.#link = undefined;
  }

  /** The newest init of which all has come; the target repeats what was answered late. */
  async #nextHandshake(patienceMs: number): Promise<Handshake | undefined> {
    const endMs = performance.now() + patienceMs;
    let newest: Handshake | undefined;
    for (;;) {
      const datagram = await this.peer.next([handshakeId], newest === undefined ? endMs - performance.now() : 0);
      if (datagram === undefined) return newest;
      const { header, fragment, mac1Ok } = readHandshake(this.keys.link.publicKey, datagram);
      if (!mac1Ok) throw new Error('mac1 of an init to the next hop is wrong');
      const name = header.subarray(4, 12).join();
      if (header[0] !== HandshakeType.init || this.#answered.has(name)) continue;
      const parts = this.#parts.get(name) ?? [undefined, undefined];
      parts[header[1]!] = fragment;
      this.#parts.set(name, parts);
      const [first, second] = parts;
      if (first !== undefined && second !== undefined)
        newest = {
          name,
          handshakeId: new Uint8Array(header.slice(4, 12)),
          message: concat(first, second).subarray(0, 2398),
        };
    }
  }

  async #answer({ name, handshakeId: handshake, message: opened }: Handshake): Promise<TestLink> {
    const { keys, peer } = this;
    this.#parts.clear();
    this.#answered.add(name);
    const init = openInit(keys, opened);
    if (init === undefined) throw new Error('an init to the next hop does not open');
    if (!equal(init.linkId, handshake.subarray(0, 4))) throw new Error("an init's link id is not that of its header");
    this.init = init;
    const id = peer.newId();
    const { message, keys: linkKeys } = makeResponse(init, id);
    const header = handshakeHeader(HandshakeType.response, 0, 1, handshake);
    const fragment = concat(message, random(FRAGMENT - message.length));
    peer.send(handshakeDatagram(init.e, init.linkId, header, fragment));
    const link = new TestLink(peer, id, linkKeys, init.linkId as Bytes);
    await link.until(() => link.controls.length > 0);
    link.control({ flags: 0 });
    return link;
  }
}
