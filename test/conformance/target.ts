/**
 * The implementation under test by default: a node that is relay and exit, with real sockets, in a process of its own.
 * Says in one line of JSON what a peer has to know of it. Ends with its stdin.
 */
import { createSocket, type Socket } from 'node:dgram';
import { type EngineHost, Via } from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { systemRandom } from '@nyx/daemon/io/system-random.ts';
import { makeNodeKeys } from '../sim/virtual-network.ts';

const epoch = 5;
const suite = createNativeSuite();
const { secrets, contact } = makeNodeKeys(suite, systemRandom, [epoch]);
const bind = (): Promise<Socket> =>
  new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.bind(0, '127.0.0.1', () => resolve(socket));
  });
const sockets = [await bind(), await bind()] as const;
const now = () => performance.now();

const host: EngineHost = {
  send(via, to, batch, length, release) {
    for (let at = 0; at < length; at += 1280) {
      const datagram = Buffer.from(batch.subarray(at, at + 1280));
      sockets[via]!.send(datagram, to.port, to.address);
    }
    release();
  },
  resolve: () => undefined,
  onLink() {},
  onCircuit() {},
  onIncomingSession: () => ({
    onStream(stream) {
      stream.connected(4, '192.0.2.1', 7);
      const buffer = new Uint8Array(65_536);
      stream.onReadable = () => {
        for (let length = stream.read(buffer); length > 0; length = stream.read(buffer)) {
          stream.write(buffer.subarray(0, length));
        }
        if (stream.readEnded) stream.end();
      };
    },
    onResolve() {},
    onClose() {},
  }),
  onIncomingSessionEnd() {},
  onWake: () => wake(),
  unixSeconds: () => Date.now() / 1000,
};
const engine = new Engine(
  {
    secrets,
    relay: true,
    exit: true,
    named: true,
    maxLinks: 1000,
    maxCircuits: 10_000,
    memoryBytes: 512 * 1024 * 1024,
    session: {},
  },
  { suite, random: systemRandom, host },
);

let timer: NodeJS.Timeout | undefined;
let awake = false;
function wake(): void {
  if (awake) return;
  awake = true;
  setImmediate(() => {
    awake = false;
    engine.flush(now());
    clearTimeout(timer);
    const due = engine.nextTimeoutMs() - now();
    if (due !== Number.POSITIVE_INFINITY) timer = setTimeout(wake, Math.max(0, Math.ceil(due)));
  });
}
for (const via of [Via.listen, Via.dial]) {
  sockets[via].on('message', (datagram, { address, port }) => {
    engine.handleDatagrams(new Uint8Array(datagram), via, { address, port }, now());
    wake();
  });
}
process.stdin.resume().on('end', () => process.exit(0));

const hex = (value: Uint8Array): string => Buffer.from(value).toString('hex');
const mix = contact.mixKeys[0]!;
process.stdout.write(
  `${JSON.stringify({
    host: '127.0.0.1',
    port: sockets[Via.listen].address().port,
    nodeId: hex(contact.nodeId),
    linkX25519: hex(contact.linkX25519),
    linkKem: hex(contact.linkKem),
    epoch,
    mixX25519: hex(mix.x25519),
    mixKem: hex(mix.kem),
  })}\n`,
);
