/** Test support: nodes that answer link handshakes on real sockets, and authorities that talk over real HTTP. */
import { createSocket, type Socket } from 'node:dgram';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { type DescriptorFields, type NodeDescriptor, signDescriptor } from '@nyx/core/directory/descriptor.ts';
import { epochAt } from '@nyx/core/directory/view.ts';
import { type NodeContact, Via } from '@nyx/core/engine/contract.ts';
import { LinkHandshakes } from '@nyx/core/link/handshake.ts';
import { createNativeSuite } from '../io/native-suite.ts';

export const suite = createNativeSuite();

export const bytesOf = (seed: string, length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  createSeededRandom(seed).fill(bytes);
  return bytes;
};

/** Answers handshakes as a relay does, and nothing else. */
export class AnsweringNode {
  readonly contact: NodeContact;
  readonly port: number;
  readonly #name: string;
  readonly #socket: Socket;

  private constructor(name: string, socket: Socket, contact: NodeContact) {
    this.#name = name;
    this.#socket = socket;
    this.contact = contact;
    this.port = socket.address().port;
  }

  static async start(name: string, host: '127.0.0.1' | '::1' = '127.0.0.1'): Promise<AnsweringNode> {
    const socket = createSocket(host === '::1' ? 'udp6' : 'udp4');
    await new Promise<void>((resolve) => socket.bind(0, host, resolve));
    const linkX25519Secret = bytesOf(`${name} x25519`, 32);
    const linkKemSeed = bytesOf(`${name} kem`, 64);
    const identity = suite.ed25519(bytesOf(`${name} identity`, 32));
    const contact: NodeContact = {
      nodeId: suite.blake3(identity.publicKey),
      addresses: [{ address: host, port: socket.address().port }],
      linkX25519: suite.x25519(linkX25519Secret).publicKey,
      linkKem: suite.mlkem768(linkKemSeed).publicKey,
      mixKeys: [],
    };
    let nextId = 1;
    const handshakes = new LinkHandshakes(
      {
        identity: { nodeId: contact.nodeId, linkX25519Secret, linkKemSeed },
        named: false,
        accept: true,
        unixMs: Date.now,
      },
      {
        suite,
        random: createSeededRandom(`${name} links`),
        host: {
          onMessage() {},
          onUp() {},
          onRekeyed() {},
          onIdsChanged() {},
          onClosed() {},
          newLinkId: () => nextId++,
        },
      },
    );
    socket.on('message', (datagram, { address, port }) => {
      handshakes.handleDatagram(datagram, { address, port }, Via.listen, performance.now(), (_via, to, answer) => {
        socket.send(Uint8Array.from(answer), to.port, to.address);
      });
    });
    return new AnsweringNode(name, socket, contact);
  }

  close(): void {
    this.#socket.close();
  }

  describe(nowUnixSeconds: number, epochSeconds: number, change: Partial<DescriptorFields> = {}): NodeDescriptor {
    const identity = suite.ed25519(bytesOf(`${this.#name} identity`, 32));
    const epoch = epochAt(nowUnixSeconds, epochSeconds);
    const { linkX25519, linkKem, addresses } = this.contact;
    return signDescriptor(
      {
        identity: identity.publicKey,
        linkX25519,
        linkKem,
        mixKeys: [epoch, epoch + 1].map((each) => ({
          epoch: each,
          x25519: bytesOf(`${this.#name} mix x25519 ${each}`, 32),
          kem: bytesOf(`${this.#name} mix kem ${each}`, 1184),
        })),
        addresses,
        roles: { mix: true, exit: false },
        exitPolicy: [],
        family: [],
        compliance: 'core',
        bandwidthBytesPerSecond: 1_000_000,
        published: nowUnixSeconds,
        expires: nowUnixSeconds + 3 * epochSeconds,
        ...change,
      },
      identity,
      suite,
    );
  }
}
