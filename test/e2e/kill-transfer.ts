/** One transfer through a network whose relays are killed while it runs: what arrived, and how long nothing came at each kill. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Path, SessionPath } from '@nyx/proto/types.ts';
import type { NyxClient } from '@nyx/sdk/index.ts';
import type { PathOptions } from '@nyx/sdk/socket.ts';
import { serve } from './transfer.ts';

const BLOCK_BYTES = 65_536;
/** A pause that begins this long after a kill is not its doing. */
const BLAME_MS = 10_000;

export interface KillOptions {
  readonly bytes: number;
  readonly path: PathOptions;
  readonly maxKills: number;
  /** From the first byte, and from one kill to the next. */
  readonly everyMs: number;
  readonly timeoutMs: number;
  /** Kills the process of this node. False: not this one. */
  readonly kill: (nodeId: string) => boolean;
}

export interface Kill {
  readonly nodeId: string;
  /** Circuits that carried the session just before. */
  readonly paths: number;
  readonly atBytes: number;
  /** Of the circuit, as the client measures it. */
  readonly rttMs: number | undefined;
  readonly jitterMs: number | undefined;
  /** The longest time without a byte from then to the next kill. */
  stallMs: number;
}

export interface KillReport {
  readonly bytes: number;
  readonly sha256Equal: boolean;
  /** Of the application's socket; undefined: none. */
  readonly error: string | undefined;
  readonly seconds: number;
  readonly megabytesPerSecond: number;
  readonly kills: readonly Kill[];
  readonly longestStallMs: number;
}

/** Downloads over the API from a server of this process; at each kill a middle relay of one of the stream's circuits dies. */
export async function transferWithKills(api: NyxClient, options: KillOptions): Promise<KillReport> {
  const { bytes, everyMs, timeoutMs } = options;
  // A dial that is made again before the target has answered brings a second connection; its bytes are the same.
  const digest = digestOf(bytes);
  const server = await serve((socket) => void send(socket, bytes));
  const received = createHash('sha256');
  const kills: Kill[] = [];
  let got = 0;
  let lastMs = 0;
  let error: string | undefined;
  const startedMs = performance.now();
  const socket = await api.connect({ host: server.host, port: server.port, ...options.path });
  const { streamId } = socket;
  const over = Promise.withResolvers<void>();
  const timer = setTimeout(() => socket.destroy(new Error(`not over after ${timeoutMs} ms`)), timeoutMs);
  let killedMs = performance.now();
  socket.on('data', (chunk: Buffer) => {
    const nowMs = performance.now();
    const kill = kills.at(-1);
    if (kill !== undefined && lastMs - killedMs < BLAME_MS) {
      kill.stallMs = Math.max(kill.stallMs, nowMs - Math.max(lastMs, killedMs));
    }
    lastMs = nowMs;
    got += chunk.length;
    received.update(chunk);
  });
  socket.once('error', (failure: NodeJS.ErrnoException) => {
    error = `${failure.code ?? 'ERROR'}: ${failure.message}`;
  });
  socket.once('close', () => over.resolve());
  let looking = false;
  const killer = setInterval(() => {
    if (looking || got === 0 || kills.length >= options.maxKills || performance.now() - killedMs < everyMs) return;
    looking = true;
    void (async () => {
      const path = await carriedBy(api, streamId!);
      if (path === undefined || socket.destroyed) return;
      const circuits = usableByBusyness(path);
      const at = { paths: circuits.length, atBytes: got };
      const nowMs = performance.now();
      const victim = circuits.find(({ nodeIds }) => options.kill(nodeIds[1]!));
      if (victim === undefined) return;
      killedMs = nowMs;
      kills.push({ nodeId: victim.nodeIds[1]!, ...at, rttMs: victim.rttMs, jitterMs: victim.jitterMs, stallMs: 0 });
    })().finally(() => {
      looking = false;
    });
  }, 100);
  socket.end();
  await over.promise;
  clearInterval(killer);
  clearTimeout(timer);
  server.close();
  const seconds = (performance.now() - startedMs) / 1000;
  return {
    bytes: got,
    sha256Equal: got === bytes && received.digest('hex') === digest,
    error,
    seconds,
    megabytesPerSecond: got / 1e6 / seconds,
    kills,
    longestStallMs: kills.reduce((most, { stallMs }) => Math.max(most, stallMs), 0),
  };
}

/** The block at this place: each is another one. */
function blockAt(at: number, bytes: number): Buffer {
  const block = Buffer.alloc(Math.min(BLOCK_BYTES, bytes - at), at & 0xff);
  if (block.length >= 8) block.writeDoubleBE(at, 0);
  return block;
}

function digestOf(bytes: number): string {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes; at += BLOCK_BYTES) hash.update(blockAt(at, bytes));
  return hash.digest('hex');
}

/** As fast as they are taken. */
async function send(socket: Socket, bytes: number): Promise<void> {
  for (let at = 0; at < bytes && !socket.destroyed; at += BLOCK_BYTES) {
    if (!socket.write(blockAt(at, bytes))) await once(socket, 'drain').catch(() => {});
  }
  socket.end();
}

/** Undefined when the stream is over by now. */
async function carriedBy(api: NyxClient, streamId: number): Promise<Path | undefined> {
  const [streams, paths] = await Promise.all([api.streams.list(), api.paths.list()]);
  const pathId = streams.find((stream) => stream.streamId === streamId)?.pathId;
  return paths.find((path) => path.pathId === pathId);
}

/** That which carries most comes first. */
function usableByBusyness({ circuits }: Path): SessionPath[] {
  const usable = circuits.filter(({ state }) => state === 'usable');
  return usable.sort((a, b) => b.packetsReceived - a.packetsReceived);
}
