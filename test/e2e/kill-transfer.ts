/** One transfer through a network whose relays are killed while it runs: what arrived, and how long nothing came at each kill. */
import { createHash } from 'node:crypto';
import type { Path } from '@nyx/proto/types.ts';
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
  const sent = createHash('sha256');
  const server = await serve((socket) => void send(socket, bytes, sent));
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
      const nodeId = path && middleOf(path);
      const at = { paths: path?.circuits.filter(({ state }) => state === 'usable').length ?? 0, atBytes: got };
      const nowMs = performance.now();
      if (nodeId === undefined || socket.destroyed || !options.kill(nodeId)) return;
      killedMs = nowMs;
      kills.push({ nodeId, ...at, stallMs: 0 });
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
    sha256Equal: got === bytes && sent.digest('hex') === received.digest('hex'),
    error,
    seconds,
    megabytesPerSecond: got / 1e6 / seconds,
    kills,
    longestStallMs: kills.reduce((most, { stallMs }) => Math.max(most, stallMs), 0),
  };
}

/** Blocks that differ, as fast as they are taken. */
async function send(socket: NodeJS.WritableStream, bytes: number, hash: ReturnType<typeof createHash>): Promise<void> {
  const block = Buffer.alloc(BLOCK_BYTES, 7);
  for (let at = 0; at < bytes; at += BLOCK_BYTES) {
    block.writeDoubleBE(at, 0);
    const piece = Buffer.from(block.subarray(0, Math.min(BLOCK_BYTES, bytes - at)));
    hash.update(piece);
    if (!socket.write(piece)) await new Promise((resolve) => socket.once('drain', resolve));
  }
  socket.end();
}

async function carriedBy(api: NyxClient, streamId: number): Promise<Path | undefined> {
  const [{ pathId }, paths] = await Promise.all([api.streams.get(streamId), api.paths.list()]);
  return paths.find((path) => path.pathId === pathId);
}

/** Of the circuit that carries most. */
function middleOf({ circuits }: Path): string | undefined {
  const usable = circuits.filter(({ state }) => state === 'usable');
  const [most] = usable.sort((a, b) => b.packetsReceived - a.packetsReceived);
  return most?.nodeIds[1];
}
