/**
 * `npm start -- --check`: brings up the network, fetches 64 MiB from a local web server through SOCKS5 over 3 and over
 * 5 hops, compares SHA-256 with what was asked for, and proves the path by the cell counters of every daemon.
 */
import { createHash, randomBytes } from 'node:crypto';
import { get } from 'node:http';
import type { Socket } from 'node:net';
import { connectNyx, type NyxClient } from '@nyx/sdk/index.ts';
import { parseHostPort } from './arguments.ts';
import { progressTo } from './local-network.ts';
import { blobSha256 } from './measure/demo-server.ts';
import { spawnDemoServer } from './measure/server-process.ts';
import { type HostPort, socksConnect } from './measure/socks.ts';
import { type Io, printJson } from './output.ts';

const FETCH_BYTES = 64 * 2 ** 20;
/** Payload of a cell (docs/protocol.md §3): a path that carried the bytes carried at least this many cells. */
const PAYLOAD_BYTES = 1144;
const TOTAL_MS = 150_000;
const START_MS = 60_000;

interface Fetched {
  readonly hops: number;
  readonly bytes: number;
  readonly ms: number;
  readonly mbitPerSecond: number;
  readonly sha256: string;
  readonly expectedSha256: string;
  /** NodeIDs of the hops, first hop first, as the client built it. */
  readonly path: readonly string[];
  /** Cells that each node moved for the fetch, by NodeID: high on the path, next to nothing off it. */
  readonly cells: Readonly<Record<string, number>>;
}

/** Prints one JSON object on stdout. Exit code 0, or 1 with `reason`. */
export async function runCheck(io: Io): Promise<number> {
  const startedMs = performance.now();
  const deadline = AbortSignal.timeout(TOTAL_MS);
  const signal = AbortSignal.any([io.signal, deadline]);
  const report: { ok: boolean; startMs?: number; fetches: Fetched[]; reason?: string } = { ok: false, fetches: [] };
  try {
    await withNetwork(io, signal, async (network) => {
      report.startMs = Math.round(performance.now() - startedMs);
      for (const hops of [3, 5]) {
        io.stderr.write(`fetching 64 MiB over ${hops} hops\n`);
        const fetched = await fetchOver(hops, network, signal);
        report.fetches.push(fetched);
        const problem = problemOf(fetched);
        if (problem) throw new Error(`${hops} hops: ${problem}`);
        io.stderr.write(`  ${fetched.mbitPerSecond.toFixed(0)} Mbit/s, SHA-256 as expected, path proven\n`);
      }
    });
    report.ok = true;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    report.reason = deadline.aborted ? `not done in ${TOTAL_MS / 1000} s (${why})` : why;
    io.stderr.write(`nyx check: ${report.reason}\n`);
  }
  printJson(io, { ...report, totalMs: Math.round(performance.now() - startedMs) });
  return report.ok ? 0 : 1;
}

interface CheckNetwork {
  readonly socks: HostPort;
  readonly web: HostPort;
  readonly client: NyxClient;
  /** By NodeID. */
  readonly daemons: ReadonlyMap<string, NyxClient>;
}

async function withNetwork(io: Io, signal: AbortSignal, work: (network: CheckNetwork) => Promise<void>): Promise<void> {
  const { startLocalNetwork } = await import('@nyx/daemon/local-network.ts');
  const started = await startLocalNetwork({
    mixes: 5,
    exits: 1,
    hops: 3,
    onProgress: progressTo((message) => io.stderr.write(`${message}\n`)),
    startTimeoutMs: START_MS,
  });
  const clients: NyxClient[] = [];
  const connect = async (socketPath: string) => {
    const client = await connectNyx({ socketPath, signal });
    clients.push(client);
    return client;
  };
  try {
    const web = await spawnDemoServer();
    try {
      const daemons = new Map<string, NyxClient>();
      for (const node of started.nodes) daemons.set(node.nodeId, await connect(node.apiSocket));
      const client = await connect(started.apiSocket);
      await work({ socks: parseHostPort(started.socks), web: web.address, client, daemons });
    } finally {
      await web.close();
    }
  } finally {
    for (const client of clients) client.close();
    await started.stop();
  }
}

async function fetchOver(hops: number, network: CheckNetwork, signal: AbortSignal): Promise<Fetched> {
  const key = randomBytes(32);
  const before = await cellCounts(network);
  const startedMs = performance.now();
  const socket = await socksConnect(network.socks, network.web, {
    auth: { username: `nyx;hops=${hops};isolation=check-${hops}`, password: 'x' },
    timeoutMs: 30_000,
    signal,
  });
  const path = await pathOfStream(network, hops);
  const { bytes, sha256 } = await fetchBlob(socket, network.web, key, signal);
  const ms = performance.now() - startedMs;
  const after = await cellCounts(network);
  const cells: Record<string, number> = {};
  for (const [nodeId, count] of after) cells[nodeId] = count - (before.get(nodeId) ?? 0);
  return {
    hops,
    bytes,
    ms: Math.round(ms),
    mbitPerSecond: Math.round((bytes * 8) / 1e3 / ms),
    sha256,
    expectedSha256: blobSha256(key, FETCH_BYTES),
    path,
    cells,
  };
}

/** Hops of the one stream that is open to the web server now. */
async function pathOfStream(network: CheckNetwork, hops: number): Promise<readonly string[]> {
  const target = `${network.web.host}:${network.web.port}`;
  const streams = (await network.client.streams.list()).filter(
    (stream) => stream.target === target && stream.nodeIds.length === hops,
  );
  if (streams.length !== 1)
    throw new Error(`the daemon lists ${streams.length} streams to ${target} over ${hops} hops, not 1`);
  return streams[0]!.nodeIds;
}

async function cellCounts(network: CheckNetwork): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const [nodeId, daemon] of network.daemons) {
    const { traffic } = await daemon.status();
    if (!traffic) throw new Error(`node ${nodeId} shows no counters`);
    counts.set(nodeId, traffic.cellsForward + traffic.cellsBackward + traffic.cellsDelivered + traffic.cellsOriginated);
  }
  return counts;
}

function fetchBlob(
  socket: Socket,
  web: HostPort,
  key: Buffer,
  signal: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  return new Promise((resolve, reject) => {
    const path = `/blob?key=${key.toString('hex')}&bytes=${FETCH_BYTES}`;
    const request = get({ ...web, path, signal, createConnection: () => socket }, (response) => {
      const hash = createHash('sha256');
      let bytes = 0;
      if (response.statusCode !== 200) reject(new Error(`the web server answered ${response.statusCode}`));
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        hash.update(chunk);
      });
      response.on('end', () => resolve({ bytes, sha256: hash.digest('hex') }));
      response.on('error', reject);
    });
    request.on('error', reject);
  });
}

function problemOf(fetched: Fetched): string | undefined {
  const enough = fetched.bytes / PAYLOAD_BYTES;
  if (fetched.bytes !== FETCH_BYTES) return `${fetched.bytes} bytes came, not ${FETCH_BYTES}`;
  if (fetched.sha256 !== fetched.expectedSha256) return 'the bytes that came are not those that were asked for';
  if (new Set(fetched.path).size !== fetched.hops) return `the path has ${new Set(fetched.path).size} different nodes`;
  for (const nodeId of fetched.path) {
    const count = fetched.cells[nodeId];
    if (count === undefined) return `hop ${nodeId} is none of the network's daemons`;
    if (count < enough) return `hop ${nodeId} moved ${count} cells; the bytes need ${Math.ceil(enough)}`;
  }
  return undefined;
}
