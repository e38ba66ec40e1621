/** The report's figures as tables for docs/. */
import type { SimulationReport } from './run.ts';

export interface Reports {
  readonly even: SimulationReport;
  readonly skewed: SimulationReport;
}

const percent = (share: number, digits = 1): string => `${(100 * share).toFixed(digits)} %`;
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
const minutes = (seconds: number): string => `${(seconds / 60).toFixed(0)} min`;
const row = (...cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
const table = (head: readonly string[], rows: readonly string[]): string =>
  [row(...head), row(...head.map(() => '---')), ...rows].join('\n');

export function summarize({ even, skewed }: Reports): string {
  const { options } = even;
  const runs = [even, skewed];
  return `# Directory and paths, simulated

Written by \`npm run sim:paths\` (seed ${options.seed}); what it does is said in [../paths.md](../paths.md). ${options.nodes} nodes, epochs of an hour, ${percent(options.churnPerHour, 0)} of the
nodes leave every hour. Two runs: ${options.hours} hours in which all nodes are alike, and ${skewed.options.hours} in which 60 % of the nodes leave a tenth as often as the mean and the others
make up for it. ${options.clients} clients choose ${even.clients.paths} and ${skewed.clients.paths} paths of 3 hops. All figures: [paths.json](paths.json).

## Directory

${directoryTable(even)}

A node that stays needs one delta an hour. Nearly all of it is new mix keys, which every node makes every epoch.

## Clients

${table(['', 'all alike', 'most steady'], clientRows(runs))}

![First hops that a client has used](guards.svg)

## Load and entropy by strategy

Load is counted over ${even.load.map(({ paths }) => paths).join(', ')} paths. Deciles are of nodes old enough for their full weight; younger ones are newcomers.

${loadTable(even)}

![Load of nodes by strategy](load.svg)

## Latency against entropy

One client that has measured 2000 paths of its own.

${latencyTable(even)}

![Round trip against entropy](latency.svg)
`;
}

function directoryTable({ directory, options }: SimulationReport): string {
  const { perNodeHour } = directory;
  return table(
    ['what', 'size'],
    [
      row(
        'a descriptor (ML-KEM keys of the link and of two epochs)',
        `${(directory.descriptorBytes / 1000).toFixed(2)} kB`,
      ),
      row('a whole view', megabytes(directory.fullViewBytes)),
      ...directory.deltaBytes.map(({ epochsBehind, bytes }) =>
        row(`delta, ${epochsBehind} epoch(s) behind`, megabytes(bytes)),
      ),
      row(
        'received per node and hour',
        `${megabytes(perNodeHour.received)} (${(perNodeHour.received / 3.6e6).toFixed(1)} kB/s); ${megabytes(directory.fullViewsInsteadOfDeltas)} without deltas`,
      ),
      row(
        'published per node and hour',
        `${(perNodeHour.published / 1000).toFixed(0)} kB to ${options.authorities} authorities`,
      ),
      row('served per node and hour, if all serve alike', megabytes(perNodeHour.servedIfAllServe)),
    ],
  );
}

function clientRows(runs: readonly SimulationReport[]): string[] {
  const cells = (of: (clients: SimulationReport['clients']) => string) => runs.map(({ clients }) => of(clients));
  return [
    row('view’s age when a path is chosen, mean', ...cells((c) => minutes(c.viewAgeSeconds.mean))),
    row('the same, 99 % are below', ...cells((c) => minutes(c.viewAgeSeconds.p99))),
    ...[0, 1, 2, 3].map((i) => row(`path stands at attempt ${i + 1}`, ...cells((c) => percent(c.atAttempt[i]!)))),
    row('no path after four attempts', ...cells((c) => percent(c.failed, 2))),
    row('first hops used in the first hour, mean', ...cells((c) => c.distinctGuards[0]!.mean.toFixed(1))),
    row(
      'first hops used in the whole run, mean',
      ...runs.map(({ clients, options }) => `${clients.distinctGuards.at(-1)!.mean.toFixed(1)} in ${options.hours} h`),
    ),
    row('honest guards dropped for path bias', ...cells((c) => String(c.guardsDroppedWrongly))),
    row('clients that were away, hours', ...cells((c) => String(c.afterAway.hoursAway))),
    row('of their sample of 20 guards still there', ...cells((c) => c.afterAway.sampledGuardsStillListed.toFixed(1))),
    row('attempts until their first path, mean', ...cells((c) => c.afterAway.firstPathAttempts.toFixed(2))),
  ];
}

function loadTable({ load }: SimulationReport): string {
  return table(
    [
      'strategy',
      'bits, middle + last hop',
      'load / bandwidth, lowest … highest decile',
      'newcomers: share of bandwidth, of load',
    ],
    load.map(({ strategy, entropy, deciles, newcomers }) => {
      const [, middle, last] = entropy.positionBits;
      const ends = [deciles[0]!, deciles.at(-1)!].map(({ loadPerBandwidth }) => loadPerBandwidth.toFixed(2));
      return row(
        strategy,
        `${entropy.pathBits.toFixed(1)} (hops alone: ${middle!.toFixed(1)}, ${last!.toFixed(1)})`,
        ends.join(' … '),
        `${percent(newcomers.bandwidth)}, ${percent(newcomers.load)}`,
      );
    }),
  );
}

function latencyTable({ latency }: SimulationReport): string {
  return table(
    ['bias', 'round trip, mean', '90 %', 'bits given up', 'at most, for one path'],
    latency.map(({ bias, rttMs, costBits, maxCostBits }) =>
      row(
        bias,
        `${rttMs.mean.toFixed(0)} ms`,
        `${rttMs.p90.toFixed(0)} ms`,
        Math.max(0, costBits).toFixed(2),
        maxCostBits.toFixed(1),
      ),
    ),
  );
}
