/**
 * What is measured of a network that offers SOCKS5: the same code for Nyx and for Tor, told only where the proxy
 * is and which processes' CPU to account. Every function is bounded in count and time and rejects rather than
 * report a number that it did not measure. Data is checked against the target's pattern as it comes.
 */
import type { Socket } from 'node:net';
import { type Distribution, distribution } from '@nyx/cli/measure/quantiles.ts';
import { type HostPort, type SocksAuth, socksConnect } from '@nyx/cli/measure/socks.ts';
import { download, echo, upload } from '@nyx/cli/measure/transfers.ts';
import { processUsage } from './process-usage.ts';

export interface MeasuredProcess {
  readonly name: string;
  readonly pid: number;
}

export interface Network {
  readonly socks: HostPort;
  /** Credentials for isolation key `key`: streams with different keys go over different circuits. */
  auth(key: string): SocksAuth;
  readonly processes: readonly MeasuredProcess[];
}

export interface Bounds {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface ProcessCost {
  readonly name: string;
  readonly cpuSeconds: number | undefined;
  readonly cpuSecondsPerGb: number | undefined;
  readonly rssBytes: number | undefined;
}

export interface Throughput {
  readonly mbitPerSecond: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly streams: number;
  readonly processes: readonly ProcessCost[];
}

/** Enough for a circuit to be there, and known not to be slow. */
export const WARM_BYTES = 1_000_000;
const DIAL_TIMEOUT_MS = 30_000;
let keyCounter = 0;

/** An isolation key that no earlier measurement of this process used. */
export function freshKey(prefix = 'bench'): string {
  keyCounter += 1;
  return `${prefix}-${process.pid}-${keyCounter}`;
}

/**
 * Downloads `bytesPerStream` over each of `streams` streams at once, each on a circuit of its own. The circuits are
 * built, and warmed with `warmBytes` and then for at least `warmMs`, before the clock starts. Counts what arrived, from the
 * first request to the last byte.
 */
export async function measureDownload(
  network: Network,
  target: HostPort,
  options: Bounds & {
    readonly streams: number;
    readonly bytesPerStream: number;
    readonly warmBytes?: number;
    readonly warmMs?: number;
  },
): Promise<Throughput> {
  const keys = Array.from({ length: options.streams }, () => freshKey('down'));
  const bounded = boundary(options);
  const sockets: Socket[] = [];
  try {
    if (options.warmBytes) {
      const { warmBytes, warmMs = 0 } = options;
      const start = performance.now();
      await Promise.all(
        keys.map(async (key) => {
          const warm = async (bytes: number) => {
            const socket = await dial(network, target, key, bounded, sockets);
            await download(socket, bytes, bounded);
            // Full circuits are left for fresh ones, whose nodes know nothing of the warmth.
            socket.destroy();
          };
          await warm(warmBytes);
          while (performance.now() - start < warmMs) await warm(8 * warmBytes);
        }),
      );
    }
    const opened = await Promise.all(keys.map((key) => dial(network, target, key, bounded, sockets)));
    return await accounted(network, options.streams, options.streams * options.bytesPerStream, () =>
      Promise.all(opened.map((socket) => download(socket, options.bytesPerStream, bounded))),
    );
  } catch (error) {
    throw bounded.explain(error, 'download');
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** Uploads to the sink; ends when the sink has answered how much it got. */
export async function measureUpload(
  network: Network,
  target: HostPort,
  options: Bounds & { readonly streams: number; readonly bytesPerStream: number },
): Promise<Throughput> {
  const bounded = boundary(options);
  const sockets: Socket[] = [];
  try {
    const opened = await Promise.all(
      Array.from({ length: options.streams }, () => dial(network, target, freshKey('up'), bounded, sockets)),
    );
    return await accounted(network, options.streams, options.streams * options.bytesPerStream, () =>
      Promise.all(opened.map((socket) => upload(socket, options.bytesPerStream, bounded))),
    );
  } catch (error) {
    throw bounded.explain(error, 'upload');
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** Round trips of `sizeBytes` on one warm stream, one after the other, in milliseconds. */
export async function measureEcho(
  network: Network,
  target: HostPort,
  options: Bounds & { readonly rounds: number; readonly sizeBytes: number },
): Promise<Distribution & { readonly sample: readonly number[] }> {
  const bounded = boundary(options);
  const sockets: Socket[] = [];
  try {
    const socket = await dial(network, target, freshKey('echo'), bounded, sockets);
    const sample = await echo(socket, options.rounds, options.sizeBytes, bounded);
    return { ...distribution(sample), sample };
  } catch (error) {
    throw bounded.explain(error, 'echo');
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** Opening one more stream on a circuit that is already there: from TCP connect to the SOCKS reply, in milliseconds. */
export async function measureStreamOpen(
  network: Network,
  target: HostPort,
  options: Bounds & { readonly count: number },
): Promise<Distribution> {
  const bounded = boundary(options);
  const sockets: Socket[] = [];
  const key = freshKey('open');
  try {
    (await dial(network, target, key, bounded, sockets)).destroy();
    const sample: number[] = [];
    for (let index = 0; index < options.count; index += 1) {
      const start = performance.now();
      const socket = await dial(network, target, key, bounded, sockets);
      sample.push(performance.now() - start);
      socket.destroy();
    }
    return distribution(sample);
  } catch (error) {
    throw bounded.explain(error, 'opening streams');
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** The first stream under a fresh isolation key: what a user waits for when no circuit is ready, in milliseconds. */
export async function measureFirstDial(
  network: Network,
  target: HostPort,
  options: Bounds & { readonly count: number },
): Promise<Distribution> {
  const bounded = boundary(options);
  const sockets: Socket[] = [];
  try {
    const sample: number[] = [];
    for (let index = 0; index < options.count; index += 1) {
      const start = performance.now();
      const socket = await dial(network, target, freshKey('first'), bounded, sockets);
      sample.push(performance.now() - start);
      socket.destroy();
    }
    return distribution(sample);
  } catch (error) {
    throw bounded.explain(error, 'first dials');
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}

/** CPU and memory of `processes` around `work`, and its duration; `bytes` is what the work delivers. */
export async function accounted(
  network: Pick<Network, 'processes'>,
  streams: number,
  bytes: number,
  work: () => Promise<unknown>,
): Promise<Throughput> {
  const before = network.processes.map(({ pid }) => processUsage(pid));
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  const processes = network.processes.map(({ name, pid }, index): ProcessCost => {
    const from = before[index];
    const to = processUsage(pid);
    const cpuSeconds = from && to ? to.cpuSeconds - from.cpuSeconds : undefined;
    return {
      name,
      cpuSeconds,
      cpuSecondsPerGb: cpuSeconds === undefined ? undefined : cpuSeconds / (bytes / 1e9),
      rssBytes: to?.rssBytes,
    };
  });
  return { mbitPerSecond: (bytes * 8) / 1e6 / seconds, bytes, seconds, streams, processes };
}

async function dial(
  network: Network,
  target: HostPort,
  key: string,
  bounded: Bounded,
  sockets: Socket[],
): Promise<Socket> {
  const socket = await socksConnect(network.socks, target, {
    auth: network.auth(key),
    timeoutMs: DIAL_TIMEOUT_MS,
    signal: bounded.signal,
  });
  socket.on('error', () => {}); // the operation in progress has its own listener and rejects
  sockets.push(socket);
  return socket;
}

interface Bounded {
  readonly signal: AbortSignal;
  explain(error: unknown, what: string): Error;
}

function boundary(bounds: Bounds): Bounded {
  const timeout = AbortSignal.timeout(bounds.timeoutMs);
  return {
    signal: bounds.signal ? AbortSignal.any([timeout, bounds.signal]) : timeout,
    explain: (error, what) => {
      const why = timeout.aborted
        ? `not done in ${bounds.timeoutMs} ms`
        : error instanceof Error
          ? error.message
          : String(error);
      return new Error(`${what}: ${why}`, { cause: error });
    },
  };
}
