/**
 * The same attack on networks of real engines: what comes into the exit's streams, and every datagram on each client's link,
 * with acknowledgements, control cells and flow control as they are. Small, since engines cost more than a model; it says
 * whether the model leaves out anything that would change its outcome.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { SessionOwner } from '@nyx/core/engine/contract.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import type { SessionStream } from '@nyx/core/stream/contract.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type SimNode, VirtualNetwork } from '../virtual-network.ts';
import { ADAPTIVE, Carrier, CONSTANT_CELLS_PER_SECOND, type Mode, type Seen } from './carry.ts';
import { margins, type Quality, quality } from './roc.ts';
import { Matcher, type Statistic, statistics } from './statistics.ts';
import { userCells } from './traffic.ts';

/** Bytes of a stream that fit into one cell, about. */
const CELL_BYTES = 1150;
const SETTLE_MS = 3000;

export interface EngineAttack {
  readonly mode: string;
  readonly users: number;
  readonly runs: number;
  /** Of all runs together. */
  readonly cells: number;
  readonly datagrams: number;
  /** Means over the runs. */
  readonly byStatistic: Readonly<Record<Statistic, Pick<Quality, 'area' | 'firstGuess'>>>;
}

export function attackEngines(mode: Mode, users: number, durationMs: number, runs: number, seed: number): EngineAttack {
  const all = Array.from({ length: runs }, (_, run) => attackOnce(mode, users, durationMs, seed * 100 + run));
  const mean = (value: (run: (typeof all)[number]) => number) => all.reduce((sum, run) => sum + value(run) / runs, 0);
  const byStatistic = Object.fromEntries(
    statistics.map((statistic) => [
      statistic,
      {
        area: mean((run) => run.byStatistic[statistic].area),
        firstGuess: mean((run) => run.byStatistic[statistic].firstGuess),
      },
    ]),
  ) as EngineAttack['byStatistic'];
  const sum = (value: (run: (typeof all)[number]) => number) => all.reduce((total, run) => total + value(run), 0);
  return {
    mode: mode.name,
    users,
    runs,
    cells: sum((run) => run.cells),
    datagrams: sum((run) => run.datagrams),
    byStatistic,
  };
}

function attackOnce(mode: Mode, users: number, durationMs: number, seed: number) {
  if (mode.class === 'cmix') throw new Error('cmix needs the proofs of its batches, which engines leave to the daemon');
  const network = new VirtualNetwork(createNativeSuite(), seed);
  const streams: (SessionStream | undefined)[] = [];
  const relays = Array.from({ length: mode.hops - 1 }, (_, i) => network.add(`relay ${i}`));
  const exit = network.add('exit', { exit: true, serve: () => serve() });
  const cover =
    mode.cover === 'constant'
      ? { ...ADAPTIVE, mode: 'constant' as const, cellsPerSecond: CONSTANT_CELLS_PER_SECOND }
      : ADAPTIVE;
  const clients = Array.from({ length: users }, (_, user) => {
    const client = network.add(`client ${user}`, {
      relay: false,
      engineOptions: mode.cover === 'off' ? {} : { cover },
    });
    const { session } = client.engine.buildCircuit(
      {
        hops: [...relays, exit].map((node) => node.contact),
        class: mode.class,
        delayMeanUs: 1000 * mode.delayMs,
        expiry: network.unixSeconds + 36_000,
      },
      { onClose() {} },
      network.nowMs,
    );
    const stream = session.openStream({ kind: 'tcp', host: `${user}`, port: 1 })!;
    const into = new Uint8Array(65_536);
    stream.onReadable = () => {
      while (stream.read(into) > 0);
    };
    return client;
  });
  if (!network.run(network.nowMs + 30_000, () => streams.filter(Boolean).length === users)) {
    throw new Error(`seed ${seed}: not all streams came to the exit`);
  }
  network.run(network.nowMs + SETTLE_MS);
  const zeroMs = network.nowMs;
  const seen: number[][] = clients.map(() => []);
  const index = new Map<SimNode, number>(clients.map((client, i) => [client, i]));
  network.tap = (_datagram, _from, to) => {
    const user = index.get(to);
    if (user !== undefined) seen[user]!.push(network.nowMs - zeroMs);
    return true;
  };
  const dice = new Exponential(createSeededRandom(`engines ${seed}`));
  const flows = Array.from({ length: users }, () => {
    for (;;) {
      const cells = userCells('web', durationMs, dice);
      if (cells.length >= 8) return cells;
    }
  });
  const data = new Uint8Array(CELL_BYTES);
  const events = flows.flatMap((cells, user) => Array.from(cells, (at) => ({ at, user }))).sort((a, b) => a.at - b.at);
  const owed = new Float64Array(users);
  const push = (user: number) => {
    while (owed[user]! > 0) {
      const accepted = streams[user]!.write(data.subarray(0, Math.min(CELL_BYTES, owed[user]!)));
      if (accepted === 0) return;
      owed[user]! -= accepted;
    }
  };
  streams.forEach((stream, user) => {
    stream!.onWritable = () => push(user);
  });
  for (const { at, user } of events) {
    network.run(zeroMs + at);
    owed[user]! += CELL_BYTES;
    push(user);
  }
  const untilMs = durationMs + 500 + 2.5 * Math.max(500, mode.hops * mode.delayMs);
  network.run(zeroMs + untilMs);
  const latencyMs = mode.hops * network.wire.latencyMs;
  const views = seen.map((times): Seen => ({ times: Float64Array.from(times), latencyMs }));
  const matcher = new Matcher(flows, untilMs);
  const law = new Carrier(mode, String(seed)).delayLaw();
  const byStatistic = {} as Record<Statistic, Quality>;
  for (const statistic of statistics) {
    const scores = matcher.score(statistic, views, law);
    const judged = statistic === 'likelihood' ? margins(scores, users, users, users) : scores;
    byStatistic[statistic] = quality(judged, users, users, users);
  }
  const datagrams = seen.reduce((sum, { length }) => sum + length, 0);
  return { cells: events.length, datagrams, byStatistic };

  function serve(): SessionOwner {
    return {
      onStream(stream) {
        stream.connected(4, '192.0.2.1', 1);
        streams[Number(stream.target.host)] = stream;
      },
      onClose() {},
    };
  }
}
