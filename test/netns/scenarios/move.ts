/** A client whose address changes in the middle of a download: another network, with and without a gap, and a NAT that forgets. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Impairment } from '../impairment.ts';
import { monotonicMs } from '../lab.ts';
import { measureDownload, PLAIN_TCP, throughNyx } from '../measure.ts';
import { isChosen, type ScenarioContext } from '../scenario.ts';
import { checkNetwork, type SmallNetwork, startSmallNetwork } from '../small-network.ts';
import type { Stall } from '../socks-process.ts';

interface Move {
  readonly name: string;
  readonly client: string;
  /** Time without any network. */
  readonly gapMs: number;
  readonly move: (small: SmallNetwork) => Promise<Moved>;
}

interface Moved {
  /** The interface at which the client is now. */
  readonly at: string;
  /** When the old way was gone, or the new one there, whichever came later; on the machine's monotonic clock. */
  readonly doneMs: number;
}

interface MoveRow {
  readonly name: string;
  readonly way: string;
  readonly bytes: number;
  /** Longest time without data; undefined: the transfer failed. */
  readonly longestStallMs: number | undefined;
  /** From `doneMs` of Moved on, as those below (negative: the new way was there before the old one went): the client's first datagram from its new address. */
  readonly firstOutMs: number | undefined;
  /** The first datagram that reached it there: the challenge. */
  readonly firstInMs: number | undefined;
  /** The longest time without data that began before anything could have come the new way; the whole transfer may have had a longer one. */
  readonly stallMs: number | undefined;
  /** When that ended. */
  readonly resumedMs: number | undefined;
  readonly tookMs: number;
  readonly problem?: string;
}

const RTT_MS = 60;
const QUEUE_MS = 100;
const RATE_MBIT = 20;
const line: Impairment = { delayMs: RTT_MS / 2 - 1, rateMbit: RATE_MBIT, queueBytes: QUEUE_MS * RATE_MBIT * 125 };
const GAP_MS = 1000;
const SIZE_BYTES = 16_000_000;
const AFTER_MS = 2500;
/** What a loaded machine adds. */
const SLACK_MS = 150;
/** Until a client looks whether its addresses are others now. */
const LOOK_MS = 250;

const second = (address: string) => ({ addresses: [address], up: line, down: line });

const moved = (at: string, doneMs = monotonicMs()): Moved => ({ at, doneMs });

const moves: readonly Move[] = [
  {
    ...{ name: 'another network, at once', client: 'client-0', gapMs: 0 },
    move: async ({ network }) => {
      const { host } = network.node('client-0');
      await host.addInterface('wan1', second('10.21.0.2'));
      return moved('client-0.wan1', await host.removeInterface('wan0'));
    },
  },
  {
    ...{ name: 'another network after a gap', client: 'client-1', gapMs: GAP_MS },
    move: async ({ network }) => {
      const { host } = network.node('client-1');
      await host.removeInterface('wan0');
      await delay(GAP_MS);
      await host.addInterface('wan1', second('10.23.0.2'));
      return moved('client-1.wan1');
    },
  },
  {
    ...{ name: 'the NAT forgets', client: 'client-2', gapMs: 0 },
    move: async ({ network }) => {
      await network.lab.rebind('client-2');
      return moved('client-2');
    },
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
      for (const { name, client, gapMs, move: moveNow } of moves) {
        if (!isChosen(only, `${name}: ${way.name}`)) continue;
        signal.throwIfAborted();
        const { host } = small.network.node(client);
        const startedMs = performance.now();
        const outcome = measureDownload(host, small.target, way.via, {
          sizeBytes: SIZE_BYTES,
          stopAfterMs: 30_000,
        }).catch(reasonOf);
        await delay(AFTER_MS);
        const { at, doneMs } = await moveNow(small);
        const report = await outcome;
        const firsts = await small.network.lab.firsts(at);
        const { bytes, longestStallMs, stalls } = typeof report === 'string' ? noReport : report;
        const stall = longest(
          stalls.filter(({ fromMs, toMs }) => toMs > doneMs && fromMs < doneMs + RTT_MS + QUEUE_MS),
        );
        const sinceMove = (atMs: number | undefined) => (atMs === undefined ? undefined : atMs - doneMs);
        const row: MoveRow = {
          name,
          way: way.name,
          bytes,
          longestStallMs,
          firstOutMs: sinceMove(firsts.upMs),
          firstInMs: sinceMove(firsts.downMs),
          stallMs: stall && stall.toMs - stall.fromMs,
          resumedMs: sinceMove(stall?.toMs),
          tookMs: performance.now() - startedMs,
          ...(typeof report === 'string' && { problem: report }),
        };
        rows.push(row);
        const shown = (ms: number | undefined) => ms?.toFixed(0) ?? '–';
        const text =
          row.problem !== undefined
            ? `failed: ${row.problem}`
            : `stall ${shown(row.stallMs)} ms; after the move: out ${shown(row.firstOutMs)}, in ${shown(row.firstInMs)}, data ${shown(row.resumedMs)} ms`;
        say(
          `${name.padEnd(30)}${way.name.padEnd(14)}${(row.bytes / 1e6).toFixed(1).padStart(6)} MB in ${(row.tookMs / 1000).toFixed(1)} s, ${text}`,
        );
        if (way.via === PLAIN_TCP) continue;
        const problem = problemOf(row, gapMs);
        if (problem !== undefined) fail(`${name}, ${way.name}: ${problem}`);
      }
      await checkNetwork(small.network, fail);
    } finally {
      await small.network.close();
    }
  }
  return rows;
}

/** Undefined: everything came, and it went on when the network let it. */
function problemOf({ bytes, firstOutMs, firstInMs, resumedMs, stallMs, problem }: MoveRow, gapMs: number) {
  if (bytes !== SIZE_BYTES) return `${bytes} of ${SIZE_BYTES} bytes; ${problem ?? ''}`;
  if (firstOutMs === undefined || firstInMs === undefined) return 'nothing went over the new way';
  if (resumedMs === undefined || stallMs === undefined) return undefined; // not to be felt
  // The question waits behind what is in the line's queue. One round trip until it is there, one until data comes that was missing.
  const outLimitMs = LOOK_MS + SLACK_MS;
  const inLimitMs = RTT_MS + QUEUE_MS + SLACK_MS;
  const resumedLimitMs = 2 * RTT_MS + QUEUE_MS + SLACK_MS;
  const outMs = Math.max(0, firstOutMs);
  if (outMs > outLimitMs) return `${outMs} ms until something left for the new way, ${outLimitMs} allowed`;
  if (firstInMs - firstOutMs > inLimitMs) return `${firstInMs - firstOutMs} ms until an answer, ${inLimitMs} allowed`;
  if (resumedMs - outMs > resumedLimitMs)
    return `${resumedMs - outMs} ms until data went on, ${resumedLimitMs} allowed`;
  const stallLimitMs = gapMs + outMs + resumedLimitMs + QUEUE_MS;
  return stallMs > stallLimitMs ? `a stall of ${stallMs} ms, ${stallLimitMs} allowed` : undefined;
}

const noReport = { bytes: 0, longestStallMs: undefined, stalls: [] };

function longest(stalls: readonly Stall[]): Stall | undefined {
  return [...stalls].sort((a, b) => b.toMs - b.fromMs - (a.toMs - a.fromMs))[0];
}

/** The line of a probe's stack trace that says what happened. */
function reasonOf(error: Error): string {
  return error.message.split('\n').find((text) => /Error/.test(text)) ?? error.message;
}
