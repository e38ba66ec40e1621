/** The run behind `nyx-cli bench`: set-up times, throughput both ways, latency, loss, over a given way of dialling. */
import type { Duplex } from 'node:stream';
import type { NyxClient } from '@nyx/sdk/client.ts';
import type { PathOptions } from '@nyx/sdk/socket.ts';
import { type Distribution, distribution } from './quantiles.ts';
import type { HostPort } from './socks.ts';
import { download, echo, upload } from './transfers.ts';

export interface BenchOptions {
  readonly path: Pick<PathOptions, 'hops' | 'class'>;
  readonly target: HostPort;
  /** Per direction, over all streams together. */
  readonly bytes: number;
  readonly streams: number;
  readonly rounds: number;
  readonly circuits: number;
  /** Longest time of each phase; transfers end early and count what they delivered. */
  readonly phaseMs: number;
  readonly signal: AbortSignal;
  /** Opens stream number `stream`; different numbers don't share a circuit. */
  readonly dial: (stream: number) => Promise<Duplex>;
  readonly onPhase?: (name: string, total: number) => void;
  readonly onStep?: (steps: number) => void;
}

export interface Transfer {
  readonly bytes: number;
  readonly seconds: number;
  readonly mbitPerSecond: number;
}

export interface BenchResult {
  readonly hops: number;
  readonly streams: number;
  readonly setupMs: Distribution;
  readonly download: Transfer;
  readonly upload: Transfer;
  /** Round trips of 64 bytes through the network to the target and back. */
  readonly echoMs: Distribution;
  readonly echoSampleMs: readonly number[];
  /** Largest loss measured on a circuit of the client while it ran; absent when the daemon shows none. */
  readonly lossRatio: number | undefined;
  /** Hops (NodeIDs) of the circuits that carried bytes during the run. */
  readonly paths: readonly (readonly string[])[];
}

const ECHO_BYTES = 64;
/** What a phase may need on top of its transfer: dialling, and the end of the stream. */
const GRACE_MS = 30_000;

export async function runBench(client: NyxClient, options: BenchOptions): Promise<BenchResult> {
  const setups: number[] = [];
  let hops = options.path.hops ?? 0;
  options.onPhase?.('set-up', options.circuits);
  const setupEnd = performance.now() + options.phaseMs;
  for (let index = 0; index < options.circuits && (index === 0 || performance.now() < setupEnd); index += 1) {
    const built = await client.paths.build({ ...options.path, exitTarget: options.target, signal: options.signal });
    setups.push(built.setupMs);
    hops = built.nodeIds.length;
    await client.paths.close(built.pathId, { signal: options.signal });
    options.onStep?.(1);
  }
  const before = new Map((await client.paths.list()).map((path) => [path.pathId, path.bytesSent + path.bytesReceived]));
  const down = await transfer(options, 'download', download);
  const up = await transfer(options, 'upload', upload);
  options.onPhase?.('latency', options.rounds * ECHO_BYTES);
  const socket = await options.dial(0);
  const echoSampleMs = await echo(socket, options.rounds, ECHO_BYTES, transferOptions(options));
  socket.destroy();
  const used = (await client.paths.list()).filter(
    (path) => path.bytesSent + path.bytesReceived > (before.get(path.pathId) ?? 0),
  );
  return {
    hops,
    streams: options.streams,
    setupMs: distribution(setups),
    download: down,
    upload: up,
    echoMs: distribution(echoSampleMs),
    echoSampleMs,
    lossRatio: used.length > 0 ? Math.max(...used.map(({ lossRatio }) => lossRatio)) : undefined,
    paths: used.map(({ nodeIds }) => nodeIds),
  };
}

function transferOptions(options: BenchOptions) {
  return {
    signal: AbortSignal.any([options.signal, AbortSignal.timeout(options.phaseMs + GRACE_MS)]),
    stopAfterMs: options.phaseMs,
    onBytes: options.onStep,
  };
}

async function transfer(options: BenchOptions, name: string, move: typeof download): Promise<Transfer> {
  options.onPhase?.(name, options.bytes);
  const sockets = await Promise.all(Array.from({ length: options.streams }, (_, stream) => options.dial(stream)));
  try {
    const share = Math.ceil(options.bytes / options.streams);
    const start = performance.now();
    const moved = await Promise.all(sockets.map((socket) => move(socket, share, transferOptions(options))));
    const seconds = (performance.now() - start) / 1000;
    const bytes = moved.reduce((sum, part) => sum + part, 0);
    return { bytes, seconds, mbitPerSecond: (bytes * 8) / 1e6 / seconds };
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}
