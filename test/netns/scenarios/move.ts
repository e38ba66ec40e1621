/** A client whose address changes in the middle of a download: another network, with and without a gap, and a NAT that forgets. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Impairment } from '../impairment.ts';
import { measureDownload, PLAIN_TCP, throughNyx } from '../measure.ts';
import { isChosen, type ScenarioContext } from '../scenario.ts';
import { checkNetwork, type SmallNetwork, startSmallNetwork } from '../small-network.ts';

interface Move {
  readonly name: string;
  readonly client: string;
  /** The stall that this may cost, besides the time in which there is no network. */
  readonly limitMs: number;
  readonly gapMs: number;
  readonly move: (small: SmallNetwork) => Promise<void>;
}

interface MoveRow {
  readonly name: string;
  readonly way: string;
  readonly bytes: number;
  /** Longest time without data; undefined: the transfer failed. */
  readonly longestStallMs: number | undefined;
  readonly tookMs: number;
  readonly problem?: string;
}

const RTT_MS = 60;
const line: Impairment = { delayMs: RTT_MS / 2 - 1, rateMbit: 20, queueBytes: 250_000 };
const GAP_MS = 1000;
const SIZE_BYTES = 16_000_000;
const AFTER_MS = 2500;
/** One round trip and validation, and what a loaded machine adds. */
const LIMIT_MS = 500;

const second = (address: string) => ({ addresses: [address], up: line, down: line });

const moves: readonly Move[] = [
  {
    ...{ name: 'another network, at once', client: 'client-0', limitMs: LIMIT_MS, gapMs: 0 },
    move: async ({ network }) => {
      const { host } = network.node('client-0');
      await host.addInterface('wan1', second('10.21.0.2'));
      await host.removeInterface('wan0');
    },
  },
  {
    ...{ name: 'another network after a gap', client: 'client-1', limitMs: 2 * LIMIT_MS, gapMs: GAP_MS },
    move: async ({ network }) => {
      const { host } = network.node('client-1');
      await host.removeInterface('wan0');
      await delay(GAP_MS);
      await host.addInterface('wan1', second('10.23.0.2'));
    },
  },
  {
    ...{ name: 'the NAT forgets', client: 'client-2', limitMs: LIMIT_MS, gapMs: 0 },
    move: ({ network }) => network.lab.rebind('client-2'),
  },
];

const ways = [
  { name: 'Nyx', via: throughNyx('nyx;hops=3;paths=1') },
  { name: 'Nyx, 2 paths', via: throughNyx('nyx;hops=3;paths=2') },
  { name: 'TCP', via: PLAIN_TCP },
] as const;

export async function move(context: ScenarioContext): Promise<readonly MoveRow[]> {
  const { only, say, fail, signal } = context;
  const rows: MoveRow[] = [];
  for (const way of ways) {
    if (!moves.some(({ name }) => isChosen(only, `${name}: ${way.name}`))) continue;
    // Each way has networks of its own to move from.
    const small = await startSmallNetwork(context, {
      clients: {
        'client-0': second('10.20.0.2'),
        'client-1': second('10.22.0.2'),
        'client-2': { ...second('10.24.0.2'), natInside: '192.168.1.2' },
      },
      mixes: 4,
    });
    try {
      for (const { name, client, limitMs, gapMs, move: moveNow } of moves) {
        if (!isChosen(only, `${name}: ${way.name}`)) continue;
        signal.throwIfAborted();
        const { host } = small.network.node(client);
        const startedMs = performance.now();
        const outcome = measureDownload(host, small.target, way.via, {
          sizeBytes: SIZE_BYTES,
          stopAfterMs: 30_000,
        }).then(
          ({ bytes, longestStallMs }) => ({ bytes, longestStallMs }),
          (error: Error) => ({ bytes: 0, longestStallMs: undefined, problem: reasonOf(error) }),
        );
        await delay(AFTER_MS);
        await moveNow(small);
        const row: MoveRow = { name, way: way.name, ...(await outcome), tookMs: performance.now() - startedMs };
        rows.push(row);
        const stall =
          row.longestStallMs === undefined ? `failed: ${row.problem}` : `stall ${row.longestStallMs.toFixed(0)} ms`;
        say(
          `${name.padEnd(30)}${way.name.padEnd(14)}${(row.bytes / 1e6).toFixed(1).padStart(6)} MB in ${(row.tookMs / 1000).toFixed(1)} s, ${stall}`,
        );
        if (way.via === PLAIN_TCP) continue;
        if (row.bytes !== SIZE_BYTES)
          fail(`${name}, ${way.name}: ${row.bytes} of ${SIZE_BYTES} bytes; ${row.problem ?? ''}`);
        else if (row.longestStallMs! > limitMs + gapMs)
          fail(`${name}, ${way.name}: a stall of ${row.longestStallMs} ms`);
      }
      await checkNetwork(small.network, fail);
    } finally {
      await small.network.close();
    }
  }
  return rows;
}

/** The line of a probe's stack trace that says what happened. */
function reasonOf(error: Error): string {
  return error.message.split('\n').find((text) => /Error/.test(text)) ?? error.message;
}
