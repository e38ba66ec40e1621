/**
 * A relay with more work than it can do, in class fast and in class mix: a thread with a real engine, and the daemon's own
 * sockets, receiver and flush loop, which gets recorded cells as fast as it takes them and passes them on. CPU per cell passed
 * is what bounds its throughput. Measured with several neighbours on each side, as a relay of a network has them, with the
 * cells of their circuits one among the other; and with one neighbour and one circuit. Prints JSON.
 * `node bench/mix-relay.ts [--rounds n] [--against checkout] [megabytes [neighbours,… [mean delay in ms]]]`
 * With `--against`, the relay of another checkout gets the same cells, each round in turns with this one. What a cell costs more or less
 * comes with its standard error: some 0.02 µs with 24 rounds on a machine that is quiet.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Drop, type DropName, dropNames } from '@nyx/core/drop-reason.ts';
import { type CircuitClass, Via } from '@nyx/core/engine/contract.ts';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { BATCH_DATAGRAMS, DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { openUdp, type UdpSocket } from '@nyx/daemon/io/udp.ts';
import { FlushLoop } from '@nyx/daemon/pump/flush-loop.ts';
import { PromptReceiver } from '@nyx/daemon/pump/prompt-receiver.ts';
import { PumpSockets } from '@nyx/daemon/pump/sockets.ts';
import { cutOff, deterministicSuite, type Recording, recordBatches, upToReady } from './lib/relay-replay.ts';

/** As daemons run (daemon/main.ts). */
setFlagsFromString('--invocation-count-for-turbofan=100');

/** Single rounds differ by some hundredths, now and then by a tenth: a machine has other things to do. */
const ROUNDS = 9;
const MAX_ROUNDS = 100;
/** Some 800 000 cells, of which 270 000 count. */
const MEGABYTES = 800;
/** Less ends before the queue is full. What is less than the default is not warm yet. */
const MIN_MEGABYTES = 64;
/** On each side. With several, cells of several circuits come from each, and go to all on the other side. */
const NEIGHBOURS = '1,8';
/** More circuits than one client gets through so many cells. */
const MAX_NEIGHBOURS = 8;
/** Mean of class mix: its default in daemons. With more the queue of a short run is not full yet when the measurement begins. */
const MAX_DELAY_MS = 20;
/** Cells that are under way to the relay at most: what its socket holds. */
const AHEAD_CELLS = 20 * BATCH_DATAGRAMS;
const SETTLE_MS = 400;
const LONGEST_ROUND_MS = 60_000;
/** A link that nothing comes back over for three seconds is dead. */
const ANSWER_MS = 500;
/** Of all cells. Some may be lost between the sockets. */
const MIN_PASSED_SHARE = 0.995;
/**
 * Of the cells. A relay runs for days; in its first second, some 400 000 cells, the compiler still goes back on what it
 * took for granted, more often with class mix, whose queue and memory are in use besides.
 */
const WARM_UP_SHARE = 2 / 3;

interface Task {
  readonly circuitClass: CircuitClass;
  readonly neighbours: number;
  readonly delayMs: number;
  readonly warmUpCells: number;
  /** Ports that stand for the guards, and addresses that stand for the exits. */
  readonly sourcePorts: readonly number[];
  readonly sinks: readonly PeerAddress[];
  /** What the exits send. */
  readonly answers: readonly Uint8Array[];
  /** Cells that have come to the relay. */
  readonly arrived: Int32Array;
}

interface Answer {
  /** Cells that have passed, the warm-up included. */
  readonly passed: number;
  /** Behind the warm-up: what the following are of. */
  readonly cells: number;
  readonly cpuUs: number;
  readonly sends: number;
  /** Names of what it has dropped something as. */
  readonly dropped: readonly DropName[];
}

const openPeer = (): Promise<UdpSocket> =>
  openUdp({
    host: '127.0.0.1',
    port: 0,
    mode: 'auto',
    reusePort: false,
    onDatagrams: () => {},
    onError: (error) => {
      throw error;
    },
  });

async function run({
  circuitClass,
  neighbours,
  delayMs,
  warmUpCells,
  sourcePorts,
  sinks,
  answers,
  arrived,
}: Task): Promise<void> {
  let sockets: PumpSockets;
  let sends = 0;
  const relay = upToReady(deterministicSuite(), circuitClass, {
    neighbours,
    delayMs,
    mixBatchMs: 1,
    send: (exit, batch, length, release) => {
      sends++;
      sockets.send(Via.dial, sinks[exit]!, batch, length, release);
    },
  });
  const { network, middle, guards, exits } = relay;
  const { engine } = middle;
  const guardAt = new Map(sourcePorts.map((port, i) => [port, guards[i]!.dialAddress]));
  const offsetMs = network.nowMs - performance.now();
  const nowMs = () => performance.now() + offsetMs;
  const loop = new FlushLoop(engine, nowMs);
  let prompt: PromptReceiver;
  let before = Number.POSITIVE_INFINITY;
  let sendsBefore = 0;
  let cpu: NodeJS.CpuUsage | undefined;
  sockets = await PumpSockets.open({
    listen: [{ host: '127.0.0.1', port: 0 }],
    reusePort: false,
    mode: 'auto',
    // As the daemon's worker does.
    onDatagrams: (buffer, via, from) => {
      const datagrams = buffer.length / DATAGRAM_BYTES;
      const receivedMs = nowMs();
      const passed = engine.counters.cellsForward;
      engine.handleDatagrams(buffer, via, guardAt.get(from.port)!, receivedMs);
      loop.received(datagrams, receivedMs);
      prompt.received(datagrams, engine.counters.cellsForward - passed === datagrams, receivedMs);
      Atomics.add(arrived, 0, datagrams);
      if (cpu === undefined && engine.counters.cellsForward - before > warmUpCells) {
        before = engine.counters.cellsForward;
        sendsBefore = sends;
        cpu = process.threadCpuUsage();
      }
    },
    onError: (error) => {
      throw error;
    },
    log: () => {},
  });
  prompt = new PromptReceiver(sockets, loop, nowMs);
  cutOff(relay);
  const first = engine.counters.cellsForward;
  before = first;
  const answering = setInterval(() => {
    for (const [exit, cell] of answers.entries()) {
      engine.handleDatagrams(cell.slice(), Via.dial, exits[exit]!.address, nowMs());
    }
  }, ANSWER_MS);
  parentPort!.once('message', async () => {
    const { user, system } = process.threadCpuUsage(cpu);
    clearInterval(answering);
    loop.stop();
    await sockets.close();
    const passed = engine.counters.cellsForward - first;
    const cells = engine.counters.cellsForward - before;
    const dropped = dropNames.filter((_, drop) => drop !== Drop.none && engine.counters.drops[drop]! > 0);
    parentPort!.postMessage({
      passed,
      cells,
      cpuUs: user + system,
      sends: sends - sendsBefore,
      dropped,
    } satisfies Answer);
  });
  parentPort!.postMessage(sockets.listenAddresses[0]!.port);
}

async function once<T>(worker: Worker): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

async function measure(
  { batches, answers }: Recording,
  circuitClass: CircuitClass,
  neighbours: number,
  delayMs: number,
  script: string | URL,
): Promise<Answer> {
  const sinks = await Promise.all(Array.from({ length: neighbours }, openPeer));
  // Nobody reads what the relay sends: that would be work of others beside it, in the same caches.
  for (const sink of sinks) sink.attend(true);
  const sources = await Promise.all(Array.from({ length: neighbours }, openPeer));
  const arrived = new Int32Array(new SharedArrayBuffer(4));
  const task: Task = {
    circuitClass,
    neighbours,
    delayMs,
    warmUpCells: batches.length * BATCH_DATAGRAMS * WARM_UP_SHARE,
    sourcePorts: sources.map(({ address }) => address.port),
    sinks: sinks.map(({ address }) => address),
    answers,
    arrived,
  };
  const worker = new Worker(script, { workerData: task });
  const port = await once<number>(worker);
  const to = { address: '127.0.0.1', port };
  let sent = 0;
  const deadlineMs = performance.now() + LONGEST_ROUND_MS;
  for (const { bytes, neighbour } of batches) {
    sources[neighbour]!.send(to, bytes, bytes.length, () => {});
    sent += BATCH_DATAGRAMS;
    // Never idle, never so far ahead that the socket overflows.
    while (sent - Atomics.load(arrived, 0) > AHEAD_CELLS) {
      if (performance.now() > deadlineMs)
        throw new Error(`${sent - Atomics.load(arrived, 0)} cells were lost on the way`);
      await new Promise(setImmediate);
    }
  }
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  worker.postMessage('stop');
  const answer = await once<Answer>(worker);
  await Promise.all([...sources, ...sinks].map((socket) => socket.close()));
  await worker.terminate();
  // Also when another checkout does not say.
  if (!(answer.passed >= sent * MIN_PASSED_SHARE)) {
    throw new Error(`only ${answer.passed} of ${sent} cells passed; some were dropped as ${answer.dropped}`);
  }
  return answer;
}

/** CPU per cell of each round, in microseconds, and cells per send. */
class Series {
  readonly cpuUs: number[] = [];
  readonly perSend: number[] = [];

  add({ cells, cpuUs, sends }: Answer): void {
    this.cpuUs.push(cpuUs / cells);
    this.perSend.push(cells / sends);
  }
}

const CLASSES = ['fast', 'mix'] as const;

async function measureRelay(neighbours: number, { rounds, delayMs, megabytes, against }: ReturnType<typeof parse>) {
  const sizeBytes = megabytes * 2 ** 20;
  const suite = deterministicSuite();
  const recorded = {
    fast: recordBatches(suite, 'fast', sizeBytes, { neighbours, delayMs }),
    mix: recordBatches(suite, 'mix', sizeBytes, { neighbours, delayMs }),
  };
  const here = { fast: new Series(), mix: new Series() };
  const there = { fast: new Series(), mix: new Series() };
  const sides = [{ script: new URL(import.meta.url), series: here }];
  if (against !== undefined) sides.push({ script: against, series: there });
  const passed = { fast: 0, mix: 0 };
  for (let round = 0; round < rounds; round++) {
    for (const circuitClass of CLASSES) {
      for (const { script, series } of sides) {
        const answer = await measure(recorded[circuitClass], circuitClass, neighbours, delayMs, script);
        series[circuitClass].add(answer);
        passed[circuitClass] = answer.cells / (recorded[circuitClass].batches.length * BATCH_DATAGRAMS);
      }
    }
    sides.reverse();
  }
  // A round's measurements are neighbours in time: a machine's speed changes from one minute to the next.
  const ratios = here.fast.cpuUs.map((value, round) => value / here.mix.cpuUs[round]!);
  return {
    neighbours,
    delayMs,
    fastCpuUs: median(here.fast.cpuUs),
    mixCpuUs: median(here.mix.cpuUs),
    throughputRatio: median(ratios),
    cellsPerSend: { fast: median(here.fast.perSend), mix: median(here.mix.perSend) },
    ratios,
    passed,
    against:
      against === undefined
        ? undefined
        : { fast: compare(here.fast.cpuUs, there.fast.cpuUs), mix: compare(here.mix.cpuUs, there.mix.cpuUs) },
  };
}

/** What a cell costs there, and how much more or less it costs here. */
function compare(here: readonly number[], there: readonly number[]) {
  const differences = here.map((value, round) => value - there[round]!);
  const mean = differences.reduce((sum, value) => sum + value, 0) / differences.length;
  const squares = differences.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {
    cpuUs: median(there),
    differenceUs: mean,
    standardErrorUs: Math.sqrt(squares / (differences.length - 1) / differences.length),
  };
}

async function main(): Promise<void> {
  let args: ReturnType<typeof parse>;
  try {
    args = parse();
  } catch (error) {
    console.error(
      `${(error as Error).message}\nusage: node bench/mix-relay.ts [--rounds n (2 to ${MAX_ROUNDS})] [--against checkout] [megabytes (${MIN_MEGABYTES} to ${MEGABYTES}) [neighbours (1 to ${MAX_NEIGHBOURS}),… [mean delay in ms (1 to ${MAX_DELAY_MS})]]]`,
    );
    process.exitCode = 2;
    return;
  }
  const relays = [];
  for (const count of args.neighbours) relays.push(await measureRelay(count, args));
  console.log(JSON.stringify({ bench: 'mix-relay', relays }));
}

function parse() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { against: { type: 'string' }, rounds: { type: 'string' } },
  });
  const rounds = Number(values.rounds ?? ROUNDS);
  const megabytes = Number(positionals[0] ?? MEGABYTES);
  const neighbours = (positionals[1] ?? NEIGHBOURS).split(',').map(Number);
  const delayMs = Number(positionals[2] ?? MAX_DELAY_MS);
  const isCount = (value: number) => Number.isInteger(value) && value >= 1 && value <= MAX_NEIGHBOURS;
  if (!(Number.isInteger(rounds) && rounds >= 2 && rounds <= MAX_ROUNDS)) throw new Error('rounds out of range');
  if (!(megabytes >= MIN_MEGABYTES && megabytes <= MEGABYTES)) throw new Error('megabytes out of range');
  if (!neighbours.every(isCount)) throw new Error('neighbours out of range');
  if (!(delayMs >= 1 && delayMs <= MAX_DELAY_MS)) throw new Error('mean delay out of range');
  const script = values.against === undefined ? undefined : resolve(values.against, 'bench/mix-relay.ts');
  if (script !== undefined && !existsSync(script)) throw new Error(`--against: there is no ${script}`);
  return { rounds, megabytes, neighbours, delayMs, against: script === undefined ? undefined : pathToFileURL(script) };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

if (isMainThread) await main();
else await run(workerData as Task);
