/** Real cells of circuits, recorded on their way to the relay in their middle, and that relay's engine to give them to. */
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { type CircuitClass, Via } from '@nyx/core/engine/contract.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import type { SessionStream } from '@nyx/core/stream/contract.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { systemRandom } from '@nyx/daemon/io/system-random.ts';
import { VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';

const SEED = 1;
const MIX_DELAY_MS = 20;
/** So often each of several circuits sends a cell. */
const ROUNDS_PER_MS = 5;
/** Fits into one cell, whatever the stream's frames beside it. */
const CELL_TEXT_BYTES = 1024;
/** Virtual time that a transfer may take. */
const LONGEST_MS = 600_000;
const chunk = new Uint8Array(65536);

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
  /** Which guard it comes from, or which exit. */
  readonly neighbour: number;
}

export interface MiddleOptions {
  /** Guards in front of the relay and exits behind it; from each guard a circuit goes to each exit. Default 1. */
  readonly neighbours?: number;
  /** Mean time that a cell of class mix waits. Default 20. */
  readonly delayMs?: number;
  readonly mixBatchMs?: number;
  /** Takes what the relay sends once the wire is cut. `exit`: whose it is; 0 as well for the few words that go back to a guard. */
  readonly send?: (exit: number, batch: Uint8Array, length: number, release: () => void) => void;
}

export function upToReady(suite: CryptoSuite, circuitClass: CircuitClass, options: MiddleOptions = {}) {
  const network = new VirtualNetwork(suite, SEED);
  const wire = { cut: false };
  const neighbours = Array.from({ length: options.neighbours ?? 1 }, (_, i) => i);
  const client = network.add('client', { relay: false });
  let received = 0;
  const sink = new Uint8Array(65536);
  const guards = neighbours.map((i) => network.add(`guard ${i}`));
  const middle = network.add('middle', {
    engineOptions: { mixBatchMs: options.mixBatchMs },
    host: {
      // The simulator's own work for a datagram is no part of a relay's.
      send: (via, to, batch, length, release) => {
        if (wire.cut && options.send !== undefined) {
          options.send(exitOf.get(to.address) ?? 0, batch, length, release);
          return;
        }
        if (!wire.cut) network.send(middle, via, to, batch.subarray(0, length));
        release();
      },
    },
  });
  const exits = neighbours.map((i) =>
    network.add(`exit ${i}`, {
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
  );
  const exitOf = new Map(exits.map(({ address }, i) => [address.address, i]));
  const sessions = guards.flatMap((guard) =>
    exits.map((exit) => {
      const { session } = client.engine.buildCircuit(
        {
          hops: [guard, middle, exit].map((node) => node.contact),
          class: circuitClass,
          delayMeanUs: circuitClass === 'mix' ? 1000 * (options.delayMs ?? MIX_DELAY_MS) : 0,
          expiry: network.unixSeconds + 3600,
        },
        { onClose() {} },
        network.nowMs,
      );
      return session;
    }),
  );
  const isBuilt = () => client.circuitEvents.length === sessions.length;
  if (!network.run(10_000, isBuilt) || client.circuitEvents.some(({ kind }) => kind !== 'ready')) {
    throw new Error('a circuit was not built');
  }
  return { network, wire, sessions, middle, guards, exits, received: () => received };
}

/** Cuts it off from the other nodes. From now on it draws from a daemon's generator: the seeded one costs several times as much. */
export function cutOff({ network, wire }: ReturnType<typeof upToReady>): void {
  wire.cut = true;
  network.random.fill = systemRandom.fill;
}

type RecordOptions = Pick<MiddleOptions, 'neighbours' | 'delayMs'>;

/** Cells of transfers as `transfer` has them, one by one. */
export function record(
  suite: CryptoSuite,
  circuitClass: CircuitClass,
  sizeBytes: number,
  options: RecordOptions = {},
): Recorded[] {
  const recorded: Recorded[] = [];
  transfer(suite, circuitClass, sizeBytes, options, (datagram, forward, neighbour) => {
    recorded.push({ datagram: datagram.slice(), forward, neighbour });
  });
  return recorded;
}

export interface RecordedBatch {
  readonly bytes: Uint8Array;
  /** Which guard it comes from. */
  readonly neighbour: number;
}

export interface Recording {
  /** The cells of the way forward: each guard's in the order in which it sent them, in whole batches, so that nobody receives more cheaply. */
  readonly batches: readonly RecordedBatch[];
  /** A cell from each exit. */
  readonly answers: readonly Uint8Array[];
}

export function recordBatches(
  suite: CryptoSuite,
  circuitClass: CircuitClass,
  sizeBytes: number,
  options: RecordOptions = {},
): Recording {
  const batches: RecordedBatch[] = [];
  const answers: Uint8Array[] = [];
  const filling = Array.from({ length: options.neighbours ?? 1 }, () => ({ bytes: new Uint8Array(0), length: 0 }));
  transfer(suite, circuitClass, sizeBytes, options, (datagram, forward, neighbour) => {
    if (!forward) {
      answers[neighbour] ??= datagram.slice();
      return;
    }
    const batch = filling[neighbour]!;
    if (batch.length === 0) batch.bytes = new Uint8Array(BATCH_DATAGRAMS * DATAGRAM_BYTES);
    batch.bytes.set(datagram, batch.length);
    batch.length += DATAGRAM_BYTES;
    if (batch.length < batch.bytes.length) return;
    batches.push({ bytes: batch.bytes, neighbour });
    batch.length = 0;
  });
  return { batches, answers };
}

/**
 * Transfers of `sizeBytes` in all, over all circuits at once, with each of the relay's incoming cells shown. Of several
 * circuits each sends a cell in turn, in an order that changes every time: as those of many clients come to a relay whose
 * line is much faster than theirs.
 */
function transfer(
  suite: CryptoSuite,
  circuitClass: CircuitClass,
  sizeBytes: number,
  options: RecordOptions,
  onCell: (datagram: Uint8Array, forward: boolean, neighbour: number) => void,
): void {
  const { network, sessions, middle, guards, exits, received } = upToReady(suite, circuitClass, options);
  network.tap = (datagram, from, to) => {
    if (to === middle) {
      const guard = guards.indexOf(from);
      const neighbour = guard < 0 ? exits.indexOf(from) : guard;
      if (neighbour >= 0) onCell(datagram, guard >= 0, neighbour);
    }
    return true;
  };
  const sources = sessions.map((session) => ({
    stream: session.openStream({ kind: 'tcp', host: 'sink.test', port: 1 })!,
    left: Math.floor(sizeBytes / sessions.length),
  }));
  const wanted = sources.reduce((sum, { left }) => sum + left, 0);
  if (sources.length > 1) writeInTurns(network, sources);
  else writeAtOnce(sources[0]!);
  if (!network.run(LONGEST_MS, () => received() >= wanted)) throw new Error('the transfer did not end');
}

interface Source {
  readonly stream: SessionStream;
  /** Bytes that it has not taken yet. */
  left: number;
}

function writeInTurns(network: VirtualNetwork, sources: Source[]): void {
  const places = new Exponential(createSeededRandom('order of the circuits'));
  for (let untilMs = network.nowMs; sources.some(({ left }) => left > 0); untilMs += 1 / ROUNDS_PER_MS) {
    if (untilMs > LONGEST_MS) throw new Error('the transfer did not end');
    for (let i = sources.length - 1; i > 0; i--) {
      const other = places.place(i + 1);
      [sources[i], sources[other]] = [sources[other]!, sources[i]!];
    }
    for (const source of sources) writeSome(source, CELL_TEXT_BYTES);
    network.run(untilMs);
  }
}

function writeAtOnce(source: Source): void {
  const write = () => {
    while (source.left > 0 && writeSome(source, chunk.length) > 0);
  };
  source.stream.onWritable = write;
  write();
}

/** How many bytes the stream has taken. */
function writeSome(source: Source, mostBytes: number): number {
  const accepted = source.stream.write(chunk.subarray(0, Math.min(source.left, mostBytes)));
  source.left -= accepted;
  return accepted;
}

/**
 * Gives cells recorded with one neighbour to the relay in batches of 51, with a clock beside it. The relay's own time is the time it took:
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
    const { middle, guards, exits } = this.#relay;
    const { forward } = this.#cells[this.#at]!;
    let count = 0;
    while (count < BATCH_DATAGRAMS && this.#cells[this.#at]?.forward === forward) {
      this.#batch.set(this.#cells[this.#at++]!.datagram, count++ * DATAGRAM_BYTES);
    }
    const [via, from] = forward ? [Via.listen, guards[0]!.dialAddress] : [Via.dial, exits[0]!.address];
    const buffer = this.#batch.subarray(0, count * DATAGRAM_BYTES);
    const started = performance.now();
    middle.engine.handleDatagrams(buffer, via, from, this.#nowMs);
    middle.engine.flush(this.#nowMs);
    const tookMs = performance.now() - started;
    this.#nowMs += tookMs;
    return tookMs * 1000;
  }
}
