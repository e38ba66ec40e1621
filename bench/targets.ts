/** What the figures have to be. A target whose figures were not measured is neither met nor missed: it says so. */
import type { NetworkMeasures } from './network.ts';
import type { TorMeasures } from './peers/tor/measure.ts';

export interface Results {
  readonly network?: NetworkMeasures;
  readonly torStock?: TorMeasures;
  readonly torTuned?: TorMeasures;
  /** Echoes through Nyx over those through tuned Tor, in turns. */
  readonly echoToTor?: number;
  /** Relay CPU per packet over one AEAD open. */
  readonly relayToOpen?: number;
  /** Choosing a path from 10 000 nodes: nine in ten, by the slowest strategy. */
  readonly slowestPathMs?: number;
  readonly mix?: MixMeasures;
  /** Checking a delay of class cmix over computing it. */
  readonly delayCheckShare?: number;
}

export interface MixMeasures {
  /** A relay with more work than it can do, with one neighbour on each side and with several. */
  readonly saturated: readonly { readonly neighbours: number; readonly throughputRatio: number }[];
  readonly queue: { readonly rssMb: number; readonly longestTurnMs: number };
}

export interface TargetResult {
  readonly name: string;
  readonly value: number | undefined;
  readonly bound: string;
  readonly status: 'pass' | 'fail' | 'not measured';
}

export function checkTargets(results: Results): TargetResult[] {
  const three = results.network?.byHops.find(({ hops }) => hops === 3);
  const one = three?.oneStream?.mbitPerSecond;
  const over = (base: number | undefined) => (one === undefined || base === undefined ? undefined : one / base);
  const stalled = results.network?.stalledReader?.rssGrowthBytes;
  return [
    atLeast('one stream over 3 hops / tuned Tor', over(results.torTuned?.oneStream.mbitPerSecond), 2, '×'),
    atLeast('one stream over 3 hops / stock Tor', over(results.torStock?.oneStream.mbitPerSecond), 8, '×'),
    atMost('64-byte echo p50 / tuned Tor, in turns', results.echoToTor, 1, '×'),
    atMost('middle relay CPU', three?.middleCpuSecondsPerGb, 5, 's/GB'),
    // The circuit's own time: a call of the control API beside it is no part of a set-up, and has a row of its own in the table.
    atMost('set-up p50 over 3 hops', three?.setupInside?.p50, 5, 'ms'),
    atMost('idle relay memory', scaled(results.network?.idleRelayRssBytes, 1e6), 120, 'MB'),
    atMost('memory per idle circuit', scaled(results.network?.idleCircuits?.bytesPerCircuit, 1024), 8, 'KiB'),
    atMost('memory growth under a stalled reader', scaled(stalled, 1e6), 8, 'MB'),
    atMost('relay per packet / one AEAD open', results.relayToOpen, 3, '×'),
    atMost('choosing a path from 10 000 nodes', results.slowestPathMs, 1, 'ms'),
    ...mixTargets(results.mix),
    atMost('memory of 100 000 waiting cells', results.mix?.queue.rssMb, 256, 'MB'),
    atMost('checking a delay / computing it', results.delayCheckShare, 0.05, '×'),
    atMost('longest turn with 100 000 waiting cells', results.mix?.queue.longestTurnMs, 20, 'ms'),
  ];
}

/** A row for each number of neighbours. */
function mixTargets(mix: MixMeasures | undefined): TargetResult[] {
  const name = 'relay throughput in mix / in fast';
  if (mix === undefined) return [atLeast(name, undefined, 0.8, '×')];
  return mix.saturated.map(({ neighbours, throughputRatio }) =>
    atLeast(`${name}, ${neighbours} a side`, throughputRatio, 0.8, '×'),
  );
}

const scaled = (value: number | undefined, by: number) => (value === undefined ? undefined : value / by);

function atLeast(name: string, value: number | undefined, bound: number | undefined, unit: string): TargetResult {
  return result(name, value, bound, `≥ ${bound?.toFixed(2) ?? '?'} ${unit}`, (a, b) => a >= b);
}

function atMost(name: string, value: number | undefined, bound: number | undefined, unit: string): TargetResult {
  return result(name, value, bound, `≤ ${bound?.toFixed(2) ?? '?'} ${unit}`, (a, b) => a <= b);
}

function result(
  name: string,
  value: number | undefined,
  bound: number | undefined,
  text: string,
  holds: (value: number, bound: number) => boolean,
): TargetResult {
  if (value === undefined || bound === undefined) return { name, value, bound: text, status: 'not measured' };
  return { name, value, bound: text, status: holds(value, bound) ? 'pass' : 'fail' };
}
