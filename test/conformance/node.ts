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

export class TestNode {
  readonly keys: NodeKeys;
  readonly peer: Peer;
  /** The last init that was answered. */
  init: OpenedInit | undefined;
  #link: TestLink | undefined;

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
    if (this.#link === undefined || this.peer.count(handshakeId) > 0) this.#link = await this.#accept(patienceMs);
    return this.#link;
  }

  /** The link is over. */
  forgetLink(): void {
    this.#link = undefined;
  }

  async #accept(patienceMs: number): Promise<TestLink> {
    const { keys, peer } = this;
    const parts = new Map<number, { header: Uint8Array; fragment: Uint8Array }>();
    const endMs = performance.now() + patienceMs;
    while (parts.size < 2) {
      const datagram = await peer.next([handshakeId], Math.max(0, endMs - performance.now()));
      if (datagram === undefined) throw new Error('the target opened no link to the next hop');
      const { header, fragment, mac1Ok } = readHandshake(keys.link.publicKey, datagram);
      if (!mac1Ok) throw new Error('mac1 of an init to the next hop is wrong');
      if (header[0] === HandshakeType.init) parts.set(header[1]!, { header, fragment });
    }
    const [first, second] = [parts.get(0)!, parts.get(1)!];
    const init = openInit(keys, concat(first.fragment, second.fragment).subarray(0, 2398));
    if (init === undefined) throw new Error('an init to the next hop does not open');
    if (!equal(init.linkId, first.header.subarray(4, 8)))
      throw new Error("an init's link id is not that of its header");
    this.init = init;
    const id = peer.newId();
    const { message, keys: linkKeys } = makeResponse(init, id);
    const header = handshakeHeader(HandshakeType.response, 0, 1, first.header.subarray(4, 12));
    const fragment = concat(message, random(FRAGMENT - message.length));
    peer.send(handshakeDatagram(init.e, init.linkId, header, fragment));
    const link = new TestLink(peer, id, linkKeys, init.linkId as Bytes);
    await link.until(() => link.controls.length > 0);
    link.control({ flags: 0 });
    return link;
  }
}
