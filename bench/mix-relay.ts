/**
 * A relay with more work than it can do, in class fast and in class mix: a thread with a real engine, real sockets and the
 * daemon's own flush loop, which gets recorded cells as fast as it takes them and passes them on. CPU per cell passed is
 * what bounds its throughput. Prints JSON. `node bench/mix-relay.ts [megabytes]`
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type CircuitClass, Via } from '@nyx/core/engine/contract.ts';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { openUdp, type UdpSocket } from '@nyx/daemon/io/udp.ts';
import { FlushLoop } from '@nyx/daemon/pump/flush-loop.ts';
import { cutOff, deterministicSuite, type Recorded, record, upToReady } from './lib/relay-replay.ts';

/** Single rounds differ by a tenth and more: a machine has other things to do. */
const ROUNDS = 9;
/** Some 240 000 cells that count: rounds of a tenth of a second measure mostly what a start costs. */
const MEGABYTES = 256;
/** Cells that are under way to the relay at most: what its socket holds. */
const AHEAD_CELLS = 20 * BATCH_DATAGRAMS;
const SETTLE_MS = 400;
/** Until then the code is compiled, the queue fills, and its memory is there. */
const WARM_UP_CELLS = 36_000;

interface Task {
  readonly circuitClass: CircuitClass;
  readonly sink: PeerAddress;
  /** Cells that have come to the relay. */
  readonly arrived: Int32Array;
}

interface Answer {
  readonly cells: number;
  readonly cpuUs: number;
}

const open = (onDatagrams: (buffer: Uint8Array) => void): Promise<UdpSocket> =>
  openUdp({
    host: '127.0.0.1',
    port: 0,
    mode: 'auto',
    reusePort: false,
    onDatagrams,
    onError: (error) => {
      throw error;
    },
  });

async function run({ circuitClass, sink, arrived }: Task): Promise<void> {
  let socket: UdpSocket;
  const relay = upToReady(deterministicSuite(), circuitClass, {
    mixBatchMs: 1,
    send: (batch, length, release) => void socket.send(sink, batch, length, release),
  });
  const { network, middle, guard } = relay;
  const { engine } = middle;
  const offsetMs = network.nowMs - performance.now();
  const nowMs = () => performance.now() + offsetMs;
  const loop = new FlushLoop(engine, nowMs);
  let before = Number.POSITIVE_INFINITY;
  let cpu: NodeJS.CpuUsage | undefined;
  socket = await open((buffer) => {
    engine.handleDatagrams(buffer, Via.listen, guard.dialAddress, nowMs());
    Atomics.add(arrived, 0, buffer.length / DATAGRAM_BYTES);
    loop.wake();
    if (cpu === undefined && engine.counters.cellsForward - before > WARM_UP_CELLS) {
      before = engine.counters.cellsForward;
      cpu = process.threadCpuUsage();
    }
  });
  cutOff(relay);
  before = engine.counters.cellsForward;
  parentPort!.once('message', async () => {
    const { user, system } = process.threadCpuUsage(cpu);
    loop.stop();
    await socket.close();
    parentPort!.postMessage({ cells: engine.counters.cellsForward - before, cpuUs: user + system } satisfies Answer);
  });
  parentPort!.postMessage(socket.address.port);
}

async function once<T>(worker: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

async function measure(cells: readonly Recorded[], circuitClass: CircuitClass): Promise<Answer> {
  const sink = await open(() => {});
  const source = await open(() => {});
  const arrived = new Int32Array(new SharedArrayBuffer(4));
  const task: Task = { circuitClass, sink: sink.address, arrived };
  const worker = new Worker(new URL(import.meta.url), { workerData: task });
  const port = await once<number>(worker);
  const to = { address: '127.0.0.1', port };
  for (let at = 0; at < cells.length; ) {
    const count = Math.min(BATCH_DATAGRAMS, cells.length - at);
    const batch = new Uint8Array(count * DATAGRAM_BYTES);
    for (let i = 0; i < count; i++) batch.set(cells[at++]!.datagram, i * DATAGRAM_BYTES);
    source.send(to, batch, batch.length, () => {});
    // Never idle, never so far ahead that the socket overflows for long.
    for (let tries = 0; at - Atomics.load(arrived, 0) > AHEAD_CELLS && tries < 200; tries++) {
      await new Promise(setImmediate);
    }
  }
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  worker.postMessage('stop');
  const answer = await once<Answer>(worker);
  await Promise.all([source.close(), sink.close(), worker.terminate()]);
  return answer;
}

async function main(): Promise<void> {
  const sizeBytes = Number(process.argv[2] ?? MEGABYTES) * 2 ** 20;
  const suite = deterministicSuite();
  const forward = (cells: Recorded[]) => cells.filter((cell) => cell.forward);
  const recorded = { fast: forward(record(suite, 'fast', sizeBytes)), mix: forward(record(suite, 'mix', sizeBytes)) };
  const cpuUs = { fast: [] as number[], mix: [] as number[] };
  const passed = { fast: 0, mix: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    for (const circuitClass of ['fast', 'mix'] as const) {
      const { cells, cpuUs: us } = await measure(recorded[circuitClass], circuitClass);
      cpuUs[circuitClass].push(us / cells);
      passed[circuitClass] = cells / recorded[circuitClass].length;
    }
  }
  // A round's two measurements are neighbours in time: a machine's speed changes from one minute to the next.
  const ratios = cpuUs.fast.map((value, round) => value / cpuUs.mix[round]!);
  console.log(
    JSON.stringify({
      bench: 'mix-relay',
      fastCpuUs: median(cpuUs.fast),
      mixCpuUs: median(cpuUs.mix),
      throughputRatio: median(ratios),
      ratios,
      passed,
    }),
  );
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

if (isMainThread) await main();
else await run(workerData as Task);
