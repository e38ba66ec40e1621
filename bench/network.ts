/**
 * Measures a real local Nyx network, every node a process: the same measures as of Tor (bench/lib/measure.ts) over
 * 3, 5 and 7 hops, and what only Nyx's API can show: set-up times, memory per idle circuit, memory under a stalled reader.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { parseHostPort } from '@nyx/cli/arguments.ts';
import { type Distribution, distribution } from '@nyx/cli/measure/quantiles.ts';
import { spawnTarget } from '@nyx/cli/measure/server-process.ts';
import { type HostPort, socksConnect } from '@nyx/cli/measure/socks.ts';
import { download } from '@nyx/cli/measure/transfers.ts';
import { type LocalNetwork, startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { connectNyx, type NyxClient } from '@nyx/sdk/index.ts';
import {
  freshKey,
  type MeasuredProcess,
  measureDownload,
  measureEcho,
  measureFirstDial,
  measureStreamOpen,
  measureUpload,
  type Network,
  type Throughput,
  WARM_BYTES,
} from './lib/measure.ts';
import { Parts } from './lib/parts.ts';
import { processUsage } from './lib/process-usage.ts';

/** Circuits of this length are built ahead. */
const READY_HOPS = 3;
/** Dials that each find a circuit ready, and how often it is looked whether there is one. */
const READY_DIALS = 30;
const READY_LOOK_MS = 20;

export interface NetworkOptions {
  readonly bytes: number;
  /** Downloads over a circuit before its measured one. */
  readonly warmMs: number;
  readonly rounds: number;
  /** Streams that are opened to time them. */
  readonly count: number;
  /** Circuits that are built before those that count: relays that have made a few hundred have compiled what it takes. */
  readonly warmSetups: number;
  /** Circuits that are built to time them. */
  readonly setups: number;
  readonly idleCircuits: number;
  readonly stallMs: number;
  readonly hops: readonly number[];
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (message: string) => void;
}

export interface HopsMeasures {
  readonly hops: number;
  /** The first transfer of these nodes: their code is not compiled to its best yet. */
  readonly cold: Throughput | undefined;
  readonly oneStream: Throughput | undefined;
  readonly upload: Throughput | undefined;
  readonly fourStreams: Throughput | undefined;
  readonly echo: Distribution | undefined;
  /** One more stream on a circuit that is there. */
  readonly streamOpen: Distribution | undefined;
  /** First stream under a fresh isolation key, through SOCKS. */
  readonly firstDial: Distribution | undefined;
  /** The same when a circuit is ready that was built ahead; over 3 hops alone. */
  readonly readyDial: Distribution | undefined;
  /** Circuit set-up as the client sees it, through the API. */
  readonly setup: Distribution | undefined;
  /** The same circuits as the client's pump saw them: from the request to the last hop's reply. */
  readonly setupInside: Distribution | undefined;
  /** CPU of the second hop of the one-stream download. */
  readonly middleCpuSecondsPerGb: number | undefined;
}

export interface NetworkMeasures {
  readonly idleRelayRssBytes: number | undefined;
  readonly byHops: readonly HopsMeasures[];
  readonly idleCircuits: IdleCircuits | undefined;
  readonly stalledReader: StalledReader | undefined;
  /** Why a part has no figures, by its name. */
  readonly failed: Readonly<Record<string, string>>;
}

interface IdleCircuits {
  readonly count: number;
  readonly bytesPerCircuit: number | undefined;
  readonly buildsPerSecond: number;
}

interface StalledReader {
  readonly stallMs: number;
  readonly bytes: number;
  /** Largest growth of any process's memory while nobody read. */
  readonly rssGrowthBytes: number | undefined;
}

interface Running {
  readonly network: LocalNetwork;
  readonly client: NyxClient;
  readonly socks: HostPort;
  readonly target: HostPort;
  readonly options: NetworkOptions;
  /** All daemons, by NodeID. */
  readonly processes: readonly MeasuredProcess[];
}

export async function measureNetwork(options: NetworkOptions): Promise<NetworkMeasures> {
  const progress = options.onProgress ?? (() => {});
  progress('nyx: starting 6 mixes, 1 exit and a client');
  const network = await startLocalNetwork({
    mixes: 6,
    exits: 1,
    hops: READY_HOPS,
    overrides: () => ({ limits: { maxSessions: options.idleCircuits + 4000 } }),
  });
  try {
    const client = await connectNyx({ socketPath: network.apiSocket, signal: options.signal });
    const target = await spawnTarget();
    try {
      const processes = network.nodes.map(({ nodeId, pid }) => ({ name: nodeId, pid }));
      const socks = parseHostPort(network.socks);
      const running: Running = { network, client, socks, target: target.address, options, processes };
      await delay(2_000, undefined, { signal: options.signal }); // start-up garbage is not idleness
      // The first one is the authority as well, and has filled the cache of compiled code for the others.
      const mix = network.nodes.findLast(({ role }) => role === 'mix');
      const idleRelayRssBytes = mix && processUsage(mix.pid)?.rssBytes;
      const byHops: HopsMeasures[] = [];
      const parts = new Parts('nyx', options.signal, progress);
      for (const hops of options.hops) byHops.push(await measureHops(running, hops, parts));
      const stalledReader = await parts.run('stalled reader', () => measureStall(running));
      const idleCircuits = await parts.run(`${options.idleCircuits} idle circuits`, () => measureIdleCircuits(running));
      return { idleRelayRssBytes, byHops, idleCircuits, stalledReader, failed: parts.failed };
    } finally {
      client.close();
      await target.close();
    }
  } finally {
    await network.stop();
  }
}

async function measureHops(running: Running, hops: number, parts: Parts): Promise<HopsMeasures> {
  const { client, target, options } = running;
  const bounds = { timeoutMs: options.timeoutMs, signal: options.signal };
  const network: Network = {
    socks: running.socks,
    auth: (key) => ({ username: `nyx;hops=${hops};isolation=${key}`, password: 'x' }),
    processes: running.processes,
  };
  const part = <T>(name: string, measure: () => Promise<T>) => parts.run(`${hops} hops, ${name}`, measure);
  const cold = await part('first transfer', () =>
    measureDownload(network, target, {
      ...bounds,
      streams: 1,
      bytesPerStream: Math.floor(options.bytes / 4),
      warmBytes: WARM_BYTES,
    }),
  );
  const oneStream = await part('one stream', async () => {
    const carried = await carriedByPath(client);
    const plain = await measureDownload(network, target, {
      ...bounds,
      streams: 1,
      bytesPerStream: options.bytes,
      warmBytes: WARM_BYTES,
      warmMs: options.warmMs,
    });
    const path = await busiestPath(client, carried);
    return { ...plain, processes: namedByPlace(plain.processes, path, running) };
  });
  const upload = await part('upload', () =>
    measureUpload(network, target, { ...bounds, streams: 1, bytesPerStream: options.bytes }),
  );
  const fourStreams = await part('four streams', () =>
    measureDownload(network, target, {
      ...bounds,
      streams: 4,
      bytesPerStream: Math.floor(options.bytes / 2),
      warmBytes: WARM_BYTES,
      warmMs: options.warmMs,
    }),
  );
  const echo = await part('echo', async () => {
    const { sample: _, ...measured } = await measureEcho(network, target, {
      ...bounds,
      rounds: options.rounds,
      sizeBytes: 64,
    });
    return measured;
  });
  const streamOpen = await part('streams', () =>
    measureStreamOpen(network, target, { ...bounds, count: options.count }),
  );
  const firstDial = await part('first dials', () =>
    measureFirstDial(network, target, { ...bounds, count: options.count }),
  );
  const readyDial =
    hops === READY_HOPS
      ? await part('dials with a circuit ready', () => measureReadyDial(running, network))
      : undefined;
  const setups = await part('set-up', () => measureSetup(running, hops));
  return {
    hops,
    cold: cold && { ...cold, processes: [] },
    oneStream,
    upload: upload && { ...upload, processes: [] },
    fourStreams: fourStreams && { ...fourStreams, processes: [] },
    echo,
    streamOpen,
    firstDial,
    readyDial,
    setup: setups?.api,
    setupInside: setups?.inside,
    middleCpuSecondsPerGb: oneStream?.processes.find(({ name }) => name === 'hop 2')?.cpuSecondsPerGb,
  };
}

/** Circuits one after the other, each closed before the next. */
async function measureSetup(
  { client, options }: Running,
  hops: number,
): Promise<{ readonly api: Distribution; readonly inside: Distribution }> {
  const api: number[] = [];
  const inside: number[] = [];
  for (let index = -options.warmSetups; index < options.setups; index += 1) {
    const start = performance.now();
    const built = await client.paths.build({ hops, signal: options.signal });
    if (index >= 0) {
      api.push(performance.now() - start);
      inside.push(built.setupMs);
    }
    await client.paths.close(built.pathId);
  }
  return { api: distribution(api), inside: distribution(inside) };
}

/** As measureFirstDial, but each one when the circuit that takes the last one's place is ready. */
async function measureReadyDial({ client, target, options }: Running, network: Network): Promise<Distribution> {
  const bounds = { timeoutMs: options.timeoutMs, ...(options.signal === undefined ? {} : { signal: options.signal }) };
  const known = new Set<number>();
  const sample: number[] = [];
  for (let index = 0; index <= READY_DIALS; index += 1) {
    const before = await client.paths.list({ signal: options.signal });
    for (const { pathId } of before) known.add(pathId);
    const { p50 } = await measureFirstDial(network, target, { ...bounds, count: 1 });
    // Who comes first takes what is there from the parts before.
    if (index > 0) sample.push(p50);
    await newReadyPath(client, known, options);
  }
  return distribution(sample);
}

async function newReadyPath(client: NyxClient, known: ReadonlySet<number>, options: NetworkOptions): Promise<void> {
  const deadlineMs = performance.now() + options.timeoutMs;
  while (performance.now() < deadlineMs) {
    const paths = await client.paths.list({ signal: options.signal });
    if (paths.some(({ pathId, setupMs }) => setupMs !== undefined && !known.has(pathId))) return;
    await delay(READY_LOOK_MS);
  }
  throw new Error('no circuit was built ahead');
}

async function carriedByPath(client: NyxClient): Promise<Map<number, number>> {
  return new Map((await client.paths.list()).map((path) => [path.pathId, path.bytesReceived]));
}

async function busiestPath(client: NyxClient, before: ReadonlyMap<number, number>): Promise<readonly string[]> {
  const paths = await client.paths.list();
  const gained = (path: (typeof paths)[number]) => path.bytesReceived - (before.get(path.pathId) ?? 0);
  const busiest = paths.reduce((a, b) => (gained(b) > gained(a) ? b : a), paths[0]!);
  if (!busiest) throw new Error('the client lists no circuit after a transfer');
  return busiest.nodeIds;
}

function namedByPlace(
  costs: Throughput['processes'],
  path: readonly string[],
  running: Running,
): Throughput['processes'] {
  const clientIds = new Set(running.network.nodes.filter(({ role }) => role === 'client').map(({ nodeId }) => nodeId));
  return costs.flatMap((cost) => {
    const place = path.indexOf(cost.name);
    if (place >= 0) return [{ ...cost, name: `hop ${place + 1}` }];
    return clientIds.has(cost.name) ? [{ ...cost, name: 'client' }] : [];
  });
}

/** Many circuits through the same three nodes, and by how much the middle one's memory grew. */
async function measureIdleCircuits(running: Running): Promise<IdleCircuits> {
  const { network, client, options } = running;
  const mixes = network.nodes.filter(({ role }) => role === 'mix');
  const exit = network.nodes.find(({ role }) => role === 'exit');
  const [first, middle] = mixes;
  if (!first || !middle || !exit) throw new Error('the network has no two mixes and an exit');
  const nodeIds = [first.nodeId, middle.nodeId, exit.nodeId];
  const build = () => client.paths.build({ nodeIds, signal: options.signal });
  await build();
  const before = await settledRss(middle.pid);
  const deadline = performance.now() + options.timeoutMs;
  const start = performance.now();
  let started = 0;
  let built = 0;
  const worker = async () => {
    while (started < options.idleCircuits && performance.now() < deadline) {
      started += 1;
      await build();
      built += 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  const seconds = (performance.now() - start) / 1000;
  const after = await settledRss(middle.pid);
  return {
    count: built,
    bytesPerCircuit: before === undefined || after === undefined || built === 0 ? undefined : (after - before) / built,
    buildsPerSecond: built / seconds,
  };
}

/** The lowest of several looks: what a process holds, without garbage that is about to go. */
async function settledRss(pid: number): Promise<number | undefined> {
  let lowest: number | undefined;
  for (let look = 0; look < 12; look += 1) {
    const rss = processUsage(pid)?.rssBytes;
    if (rss !== undefined) lowest = Math.min(lowest ?? rss, rss);
    await delay(250);
  }
  return lowest;
}

/** A download whose reader stops: back-pressure has to reach the source, so no node's memory may grow meanwhile. */
async function measureStall(running: Running): Promise<StalledReader> {
  const { socks, target, options, processes } = running;
  const signal = AbortSignal.any([AbortSignal.timeout(options.timeoutMs), ...(options.signal ? [options.signal] : [])]);
  const socket = await socksConnect(socks, target, {
    auth: { username: `nyx;hops=3;isolation=${freshKey('stall')}`, password: 'x' },
    timeoutMs: 30_000,
    signal,
  });
  const bytes = options.bytes * 2;
  let received = 0;
  const done = download(socket, bytes, {
    signal,
    onBytes: (size) => {
      received += size;
      if (received > bytes / 4 && received - size <= bytes / 4) socket.pause();
    },
  });
  while (!socket.isPaused() && !signal.aborted) await delay(20);
  await delay(1_000); // what was under way fills the windows: bounded, and over by now
  const before = processes.map(({ pid }) => processUsage(pid)?.rssBytes);
  await delay(options.stallMs);
  const growth = processes.flatMap(({ pid }, index) => {
    const from = before[index];
    const to = processUsage(pid)?.rssBytes;
    return from === undefined || to === undefined ? [] : [to - from];
  });
  socket.resume();
  await done;
  socket.destroy();
  return { stallMs: options.stallMs, bytes, rssGrowthBytes: growth.length > 0 ? Math.max(...growth) : undefined };
}
