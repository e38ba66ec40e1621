/**
 * A client behind a line with delay and loss: what a download gets through three hops, and how long messages take, next to
 * plain TCP over the same line and to Tor on the same hosts, where it is installed. Conditions and ways are tables: one line
 * more is one measurement more.
 */
import { distribution } from '@nyx/cli/measure/quantiles.ts';
import { findTor, startTorNetwork, type TorNetwork, type TorVariant } from '../../peers/tor/network.ts';
import type { Impairment } from '../impairment.ts';
import { measureDownload, measureMessages, PLAIN_TCP, throughNyx, type Via } from '../measure.ts';
import { isChosen, type ScenarioContext } from '../scenario.ts';
import { checkNetwork, NEAR, type SmallNetwork, startSmallNetwork } from '../small-network.ts';

interface Condition {
  readonly name: string;
  readonly rttMs: number;
  /** Of the client's line in each direction, besides half of the round trip time and the rate. */
  readonly line?: Impairment;
  /** Losses are few and long: it takes more messages to meet them, and longer until both ends know how they are. */
  readonly bursts?: boolean;
}

type Way = { readonly name: string } & (
  | { /** Of the target's host, which sends. */ readonly tcp: 'cubic' | 'bbr' }
  | { /** What the dial asks for. */ readonly nyx: string }
  | { readonly tor: TorVariant /** Of its guard, which sends to the client. */; readonly guardTcp: 'cubic' | 'bbr' }
);

const conditions: readonly Condition[] = [
  ...[20, 100, 300].map((rttMs) => ({ name: `${rttMs} ms`, rttMs })),
  ...[20, 100, 300].flatMap((rttMs) =>
    [1, 5, 10, 20].map((percent) => ({
      name: `${rttMs} ms, ${percent} % loss`,
      rttMs,
      line: { lossShare: percent / 100 },
    })),
  ),
  // What a burst is matters: to whom sends little, five packets in a row are a tenth of a second.
  { name: '100 ms, 5 % loss in bursts', rttMs: 100, line: { lossShare: 0.05, lossBurstPackets: 5 }, bursts: true },
  { name: '100 ms, 5 % loss in bursts of 8 ms', rttMs: 100, line: { lossShare: 0.05, lossBurstMs: 8 }, bursts: true },
  { name: '100 ms, jitter 50 ms', rttMs: 100, line: { jitterMs: 50 } },
  { name: '100 ms, 5 % 20 ms late', rttMs: 100, line: { reorderShare: 0.05, reorderMs: 20 } },
];

const ways: readonly Way[] = [
  { name: 'TCP cubic', tcp: 'cubic' },
  { name: 'TCP bbr', tcp: 'bbr' },
  { name: 'Tor cubic', tor: 'stock', guardTcp: 'cubic' },
  { name: 'Tor bbr', tor: 'stock', guardTcp: 'bbr' },
  { name: 'tuned Tor', tor: 'tuned', guardTcp: 'cubic' },
  { name: 'Nyx', nyx: 'paths=1;fec=off' },
  { name: 'Nyx fec', nyx: 'paths=1;fec=adaptive' },
  { name: 'Nyx fec 0.3', nyx: 'paths=1;fec=0.3' },
  { name: 'Nyx x3', nyx: 'paths=3;fec=off' },
  { name: 'Nyx x3 fec', nyx: 'paths=3;fec=adaptive' },
  { name: 'Nyx x3 fec 0.3', nyx: 'paths=3;fec=0.3' },
];

const TOR_GUARD = 'mix-1';
const RATE_MBIT = 20;
/** The line's queue holds so much time. */
const QUEUE_MS = 100;
const DOWNLOAD_MS = 6000;
/** Until the sender has found the rate, and both ends know what the line loses. */
const START_MS = 2000;
const MESSAGES = { count: 350, startMs: START_MS, gapMs: 20, sizeBytes: 200 };
const BURST_MESSAGES = { ...MESSAGES, count: 1400, startMs: 8000 };

interface Row {
  readonly condition: string;
  readonly way: string;
  /** After the start. */
  readonly goodputMbit: number;
  /** From the request on. */
  readonly wholeMbit: number;
  readonly longestStallMs: number;
  readonly messageP50Ms: number;
  readonly messageP99Ms: number;
  readonly dialMs: number;
  /** Repair symbols that came with the download, and what they brought back; plain TCP has none. */
  readonly repairsReceived: number;
  readonly packetsRecovered: number;
}

/** What was not measured, and why. */
interface NoRow {
  readonly condition: string;
  readonly way: string;
  readonly problem: string;
}

export async function transfer(context: ScenarioContext): Promise<readonly (Row | NoRow)[]> {
  const { only, runs, say, fail, signal } = context;
  const cells = conditions.flatMap(({ name }) => ways.map((way) => `${name}: ${way.name}`));
  if (!cells.some((cell) => isChosen(only, cell))) {
    fail(
      `no cell has such a name; they are called like ${JSON.stringify(cells[0])}, after a condition (${names(conditions)}) and a way (${names(ways)})`,
    );
    return [];
  }
  const small = await startSmallNetwork(context, {
    clients: { 'client-0': { addresses: ['10.20.0.2'] } },
    mixes: 6, // three paths that share no relay but the exit
  });
  const { network, targetHost } = small;
  const tor = new Map<TorVariant, TorNetwork>();
  try {
    const chosen = (way: Way) => conditions.some(({ name }) => isChosen(only, `${name}: ${way.name}`));
    const absent = await startTors(
      small,
      context,
      ways.flatMap((way) => ('tor' in way && chosen(way) ? [way.tor] : [])),
      tor,
    );
    const rows: (Row | NoRow)[] = [];
    let sessions = 0;
    say(
      `${'condition'.padEnd(36)}${'way'.padEnd(16)}   Mbit/s  with start  longest stall   message p50 / p99    dial  repairs, recovered`,
    );
    for (const condition of conditions) {
      const { name, rttMs, line } = condition;
      for (const way of ways) {
        if (!isChosen(only, `${name}: ${way.name}`)) continue;
        const label = `${name.padEnd(36)}${way.name.padEnd(16)}`;
        const problem = 'tor' in way ? absent.get(way.tor) : undefined;
        if (problem !== undefined) {
          rows.push({ condition: name, way: way.name, problem });
          say(`${label}${problem}`);
          continue;
        }
        const whole: Impairment = {
          ...line,
          delayMs: rttMs / 2 - 2 * NEAR.delayMs!,
          rateMbit: RATE_MBIT,
          queueBytes: QUEUE_MS * RATE_MBIT * 125,
        };
        await network.lab.impair('client-0', { up: whole, down: whole });
        await targetHost.useCongestionControl('tcp' in way ? way.tcp : 'cubic');
        if ('tor' in way) {
          await network.node(TOR_GUARD).host.useCongestionControl(way.guardTcp);
          await tor.get(way.tor)!.reconnect();
        }
        const measured: Row[] = [];
        for (let run = 0; run < runs; run++) {
          signal.throwIfAborted();
          // A session or circuit of its own: what an earlier one knows of the line is not true any more.
          const own = `isolation=${sessions++}`;
          const via =
            'nyx' in way
              ? throughNyx(`nyx;${way.nyx};${own}`)
              : 'tor' in way
                ? { socksPort: tor.get(way.tor)!.socks.port, username: own }
                : PLAIN_TCP;
          try {
            measured.push(await measureRow(small, condition, way.name, via));
          } catch (error) {
            const { message } = error as Error;
            // Tor's failures are a figure of the table, not of what is tested.
            if ('tor' in way) rows.push({ condition: name, way: way.name, problem: message });
            else fail(`${name}, ${way.name}: ${message}`);
            say(`${label}failed: ${message.split('\n').find((text) => /Error/.test(text)) ?? message}`);
          }
        }
        if (measured.length === 0) continue;
        const row = medianRow(measured);
        rows.push(row);
        const cells = [
          label,
          row.goodputMbit.toFixed(2).padStart(9),
          row.wholeMbit.toFixed(2).padStart(12),
          `${row.longestStallMs.toFixed(0).padStart(12)} ms`,
          `${row.messageP50Ms.toFixed(0).padStart(11)} /${row.messageP99Ms.toFixed(0).padStart(5)} ms`,
          `${row.dialMs.toFixed(0).padStart(6)} ms`,
          `${row.repairsReceived}, ${row.packetsRecovered}`.padStart(12),
          runs > 1 ? `  of ${measured.map(({ goodputMbit }) => goodputMbit.toFixed(1)).join(' ')}` : '',
        ];
        say(cells.join(''));
      }
    }
    await checkNetwork(network, fail);
    return rows;
  } finally {
    await Promise.all([...tor.values()].map((peer) => peer.stop()));
    await network.close();
  }
}

/** Those variants that can run here, into `started`; returns of the others why not. */
async function startTors(
  { network }: SmallNetwork,
  { say, signal }: ScenarioContext,
  variants: readonly TorVariant[],
  started: Map<TorVariant, TorNetwork>,
): Promise<ReadonlyMap<TorVariant, string>> {
  const absent = new Map<TorVariant, string>();
  if (variants.length === 0) return absent;
  const found = await findTor();
  const hostOf = (name: string) => network.node(name).host;
  // Its relays on the hosts of ours, its client behind the same line.
  const hosts = {
    auth: hostOf('mix-0'),
    guard: hostOf(TOR_GUARD),
    middle: hostOf('mix-2'),
    exit: hostOf('exit-0'),
    client: hostOf('client-0'),
  };
  for (const variant of new Set(variants)) {
    if ('missing' in found) absent.set(variant, found.missing);
    else if (variant === 'tuned' && !found.compiler) absent.set(variant, 'no C compiler for its preload');
    else {
      const onProgress = (message: string) => say(`tor ${found.version} ${variant}: ${message}`);
      started.set(variant, await startTorNetwork({ variant, hosts, onProgress, signal }));
    }
  }
  return absent;
}

async function measureRow(small: SmallNetwork, { name, bursts }: Condition, way: string, via: Via): Promise<Row> {
  const { network, target } = small;
  const { api, host } = network.node('client-0');
  const repairs = async () => {
    let received = 0;
    let recovered = 0;
    for (const { fec } of await api.paths.list()) {
      received += fec?.repairsReceived ?? 0;
      recovered += fec?.packetsRecovered ?? 0;
    }
    return { received, recovered };
  };
  const flow = bursts === true ? BURST_MESSAGES : MESSAGES;
  const messages = await measureMessages(host, target, via, flow);
  const before = await repairs();
  const download = await measureDownload(host, target, via, { sizeBytes: 2 ** 32, stopAfterMs: DOWNLOAD_MS });
  const after = await repairs();
  const { p50, p99 } = distribution(messages.timesMs.slice(flow.startMs / flow.gapMs));
  const afterStart = download.tenths.slice(START_MS / 100).reduce((sum, bytes) => sum + bytes, 0);
  return {
    condition: name,
    way,
    goodputMbit: (afterStart * 8) / (download.tookMs - START_MS) / 1000,
    wholeMbit: (download.bytes * 8) / download.tookMs / 1000,
    longestStallMs: download.longestStallMs,
    messageP50Ms: p50,
    messageP99Ms: p99,
    dialMs: messages.dialMs,
    repairsReceived: Math.max(0, after.received - before.received),
    packetsRecovered: Math.max(0, after.recovered - before.recovered),
  };
}

function names(of: readonly { readonly name: string }[]): string {
  return of.map(({ name }) => name).join('; ');
}

/** Of every figure the one in the middle. */
function medianRow(rows: readonly Row[]): Row {
  const [first] = rows;
  const median = (figure: (row: Row) => number) =>
    rows.map(figure).sort((a, b) => a - b)[Math.floor((rows.length - 1) / 2)]!;
  return {
    ...first!,
    goodputMbit: median((row) => row.goodputMbit),
    wholeMbit: median((row) => row.wholeMbit),
    longestStallMs: median((row) => row.longestStallMs),
    messageP50Ms: median((row) => row.messageP50Ms),
    messageP99Ms: median((row) => row.messageP99Ms),
    dialMs: median((row) => row.dialMs),
    repairsReceived: median((row) => row.repairsReceived),
    packetsRecovered: median((row) => row.packetsRecovered),
  };
}
