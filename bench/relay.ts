/**
 * CPU of a relay per packet, the whole way through the engine (find link, unmask, find circuit, open or seal, mask,
 * batch), against one ChaCha20-Poly1305 open of 1240 bytes by the same library, in one run and one process.
 *
 * The cells are real ones: a network of engines on virtual time moves a transfer over three hops while the datagrams that
 * reach the middle relay are recorded; the same network, from the same seed up to the same moment, then gets them in
 * batches of 51 with a clock beside it. Prints JSON.
 */
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { Via } from '@nyx/core/engine/contract.ts';
import { BATCH_DATAGRAMS, CT_BYTES, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';

const TRANSFER_BYTES = 24 * 1024 * 1024;
const ROUNDS = 3;
const SEED = 1;

/** The native suite, but for encapsulation: there only the portable one is a function of its arguments. */
function deterministicSuite(): CryptoSuite {
  const native = createNativeSuite();
  const noble = createNobleSuite();
  return Object.assign(Object.create(native) as CryptoSuite, {
    mlkem768Encapsulate: (key: Uint8Array, coins: Uint8Array) => noble.mlkem768Encapsulate(key, coins),
  });
}

interface Recorded {
  readonly datagram: Uint8Array;
  readonly forward: boolean;
}

function upToReady(suite: CryptoSuite) {
  const network = new VirtualNetwork(suite, SEED);
  const client = network.add('client', { relay: false });
  let received = 0;
  const sink = new Uint8Array(65536);
  const path = [
    network.add('guard'),
    network.add('middle'),
    network.add('exit', {
      exit: true,
      serve: () => ({
        onStream(stream) {
          stream.connected(4, '192.0.2.1', 1);
          const read = () => {
            for (let n = stream.read(sink); n > 0; n = stream.read(sink)) received += n;
          };
          stream.onReadable = read;
          read();
        },
        onClose() {},
      }),
    }),
  ];
  const { session } = client.engine.buildCircuit(
    { hops: path.map((node) => node.contact), class: 'fast', delayMeanUs: 0, expiry: network.unixSeconds + 3600 },
    { onClose() {} },
    network.nowMs,
  );
  if (!network.run(10_000, () => client.circuitEvents.length > 0)) throw new Error('the circuit was not built');
  return { network, session, middle: path[1]!, guard: path[0]!, exit: path[2]!, received: () => received };
}

function record(suite: CryptoSuite): Recorded[] {
  const { network, session, middle, guard, exit, received } = upToReady(suite);
  const recorded: Recorded[] = [];
  network.tap = (datagram, from, to) => {
    if (to === middle && (from === guard || from === exit)) {
      recorded.push({ datagram: datagram.slice(), forward: from === guard });
    }
    return true;
  };
  const stream = session.openStream({ kind: 'tcp', host: 'sink.test', port: 1 })!;
  const chunk = new Uint8Array(65536);
  let left = TRANSFER_BYTES;
  const write = () => {
    while (left > 0) {
      const accepted = stream.write(chunk.subarray(0, Math.min(left, chunk.length)));
      if (accepted === 0) return;
      left -= accepted;
    }
  };
  stream.onWritable = write;
  write();
  if (!network.run(600_000, () => received() >= TRANSFER_BYTES)) throw new Error('the transfer did not end');
  return recorded;
}

function replay(suite: CryptoSuite, recorded: readonly Recorded[]): { microseconds: number; cells: number } {
  const { network, middle, guard, exit } = upToReady(suite);
  const { counters } = middle.engine;
  network.tap = () => false;
  const before = counters.cellsForward + counters.cellsBackward;
  let cpu = 0n;
  let batch = Buffer.alloc(BATCH_DATAGRAMS * DATAGRAM_BYTES);
  for (let at = 0; at < recorded.length; ) {
    const { forward } = recorded[at]!;
    let count = 0;
    while (count < BATCH_DATAGRAMS && at < recorded.length && recorded[at]!.forward === forward) {
      batch.set(recorded[at++]!.datagram, count++ * DATAGRAM_BYTES);
    }
    const [via, from] = forward ? [Via.listen, guard.dialAddress] : [Via.dial, exit.address];
    const started = process.hrtime.bigint();
    middle.engine.handleDatagrams(batch.subarray(0, count * DATAGRAM_BYTES), via, from, network.nowMs);
    middle.engine.flush(network.nowMs);
    cpu += process.hrtime.bigint() - started;
    batch = Buffer.alloc(BATCH_DATAGRAMS * DATAGRAM_BYTES);
  }
  return {
    microseconds: Number(cpu) / 1000,
    cells: counters.cellsForward + counters.cellsBackward - before,
  };
}

function openMicroseconds(suite: CryptoSuite): number {
  const body = new Uint8Array(CT_BYTES);
  const sealed = new Uint8Array(CT_BYTES);
  const tag = new Uint8Array(16);
  const ad = new Uint8Array(2);
  const nonce = new Uint8Array(12);
  const key = new Uint8Array(32).fill(7);
  suite.aeadSeal(sealed, tag, body, ad, nonce, key);
  const count = 50_000;
  const started = process.hrtime.bigint();
  for (let i = 0; i < count; i++) suite.aeadOpen(body, tag, sealed, ad, nonce, key);
  return Number(process.hrtime.bigint() - started) / 1000 / count;
}

const suite = deterministicSuite();
const recorded = record(suite);
replay(suite, recorded);
openMicroseconds(suite);
const rounds = Array.from({ length: ROUNDS }, () => {
  const open = openMicroseconds(suite);
  const { microseconds, cells } = replay(suite, recorded);
  return { openUs: open, relayUs: microseconds / cells, cells };
});
const best = rounds.reduce((a, b) => (a.relayUs / a.openUs <= b.relayUs / b.openUs ? a : b));
const ratio = best.relayUs / best.openUs;
console.log(
  JSON.stringify({
    bench: 'relay',
    cells: best.cells,
    relayUsPerPacket: Number(best.relayUs.toFixed(2)),
    openUs: Number(best.openUs.toFixed(2)),
    ratio: Number(ratio.toFixed(2)),
    target: 3,
    ok: ratio <= 3,
  }),
);
