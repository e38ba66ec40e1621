/** Real cells of one circuit, recorded on their way to its middle relay, and that relay's engine to give them to. */
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { type CircuitClass, Via } from '@nyx/core/engine/contract.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { systemRandom } from '@nyx/daemon/io/system-random.ts';
import { VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';

const SEED = 1;
const MIX_DELAY_US = 20_000;

/** The native suite, but for encapsulation: there only the portable one is a function of its arguments. */
export function deterministicSuite(): CryptoSuite {
  const native = createNativeSuite();
  const noble = createNobleSuite();
  return Object.assign(Object.create(native) as CryptoSuite, {
    mlkem768Encapsulate: (key: Uint8Array, coins: Uint8Array) => noble.mlkem768Encapsulate(key, coins),
  });
}

export interface Recorded {
  readonly datagram: Uint8Array;
  readonly forward: boolean;
}

/** What the middle relay of the network does that a simulated one would not. */
export interface MiddleOptions {
  readonly mixBatchMs?: number;
  /** Takes what it sends once the wire is cut. */
  readonly send?: (batch: Uint8Array, length: number, release: () => void) => void;
}

export function upToReady(suite: CryptoSuite, circuitClass: CircuitClass, options: MiddleOptions = {}) {
  const network = new VirtualNetwork(suite, SEED);
  const wire = { cut: false };
  const client = network.add('client', { relay: false });
  let received = 0;
  const sink = new Uint8Array(65536);
  const path = [
    network.add('guard'),
    network.add('middle', {
      engineOptions: { mixBatchMs: options.mixBatchMs },
      host: {
        // The simulator's own work for a datagram is no part of a relay's.
        send: (via, to, batch, length, release) => {
          if (wire.cut && options.send !== undefined) {
            options.send(batch, length, release);
            return;
          }
          if (!wire.cut) network.send(network.nodes[2]!, via, to, batch.subarray(0, length));
          release();
        },
      },
    }),
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
    {
      hops: path.map((node) => node.contact),
      class: circuitClass,
      delayMeanUs: circuitClass === 'mix' ? MIX_DELAY_US : 0,
      expiry: network.unixSeconds + 3600,
    },
    { onClose() {} },
    network.nowMs,
  );
  if (!network.run(10_000, () => client.circuitEvents.length > 0)) throw new Error('the circuit was not built');
  return { network, wire, session, middle: path[1]!, guard: path[0]!, exit: path[2]!, received: () => received };
}

/** Cuts it off from the other nodes. From now on it draws from a daemon's generator: the seeded one costs several times as much. */
export function cutOff({ network, wire }: ReturnType<typeof upToReady>): void {
  wire.cut = true;
  network.random.fill = systemRandom.fill;
}

export function record(suite: CryptoSuite, circuitClass: CircuitClass, sizeBytes: number): Recorded[] {
  const { network, session, middle, guard, exit, received } = upToReady(suite, circuitClass);
  const recorded: Recorded[] = [];
  network.tap = (datagram, from, to) => {
    if (to === middle && (from === guard || from === exit)) {
      recorded.push({ datagram: datagram.slice(), forward: from === guard });
    }
    return true;
  };
  const stream = session.openStream({ kind: 'tcp', host: 'sink.test', port: 1 })!;
  const chunk = new Uint8Array(65536);
  let left = sizeBytes;
  const write = () => {
    while (left > 0) {
      const accepted = stream.write(chunk.subarray(0, Math.min(left, chunk.length)));
      if (accepted === 0) return;
      left -= accepted;
    }
  };
  stream.onWritable = write;
  write();
  if (!network.run(600_000, () => received() >= sizeBytes)) throw new Error('the transfer did not end');
  return recorded;
}

/**
 * Gives the recorded cells to the relay in batches of 51, with a clock beside it. The relay's own time is the time it took:
 * cells of class mix leave while later ones come in, as in a relay that has nothing but work.
 */
export class Replay {
  readonly #relay: ReturnType<typeof upToReady>;
  readonly #cells: readonly Recorded[];
  #at = 0;
  #nowMs: number;
  #batch = Buffer.alloc(BATCH_DATAGRAMS * DATAGRAM_BYTES);

  constructor(suite: CryptoSuite, recorded: readonly Recorded[], circuitClass: CircuitClass) {
    this.#relay = upToReady(suite, circuitClass);
    cutOff(this.#relay);
    this.#nowMs = this.#relay.network.nowMs;
    // One direction behind the other: both classes then come in batches of the same size.
    this.#cells = [...recorded.filter(({ forward }) => !forward), ...recorded.filter(({ forward }) => forward)];
  }

  /** Cells that have passed the relay. */
  get passed(): number {
    const { counters } = this.#relay.middle.engine;
    return counters.cellsForward + counters.cellsBackward;
  }

  get done(): boolean {
    return this.#at >= this.#cells.length;
  }

  /** One batch and the flush behind it; how many microseconds that took. */
  step(): number {
    const { middle, guard, exit } = this.#relay;
    const { forward } = this.#cells[this.#at]!;
    let count = 0;
    while (count < BATCH_DATAGRAMS && this.#cells[this.#at]?.forward === forward) {
      this.#batch.set(this.#cells[this.#at++]!.datagram, count++ * DATAGRAM_BYTES);
    }
    const [via, from] = forward ? [Via.listen, guard.dialAddress] : [Via.dial, exit.address];
    const buffer = this.#batch.subarray(0, count * DATAGRAM_BYTES);
    const started = performance.now();
    middle.engine.handleDatagrams(buffer, via, from, this.#nowMs);
    middle.engine.flush(this.#nowMs);
    const tookMs = performance.now() - started;
    this.#nowMs += tookMs;
    return tookMs * 1000;
  }
}
