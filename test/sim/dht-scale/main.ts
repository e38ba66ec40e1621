/**
 * `npm run sim:dht [-- --nodes 10000 --hours 3 --out docs/simulation]`: the DHT and the spreading of the view under churn.
 * Writes dht.json, dht.md and a plot; takes a quarter of an hour of a free core. Exit code 2: bad command line.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { TABLE_REFRESH_MS } from '@nyx/daemon/p2p/contract.ts';
import { plot } from '../svg-plot.ts';
import { type DhtReport, simulateDht } from './run.ts';
import { summarize } from './summary.ts';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '10000' },
    hours: { type: 'string', default: '3' },
    lookups: { type: 'string', default: '2000' },
    churn: { type: 'string', default: '0.2' },
    /** Minutes between two refreshes of a routing table. */
    refresh: { type: 'string', default: `${TABLE_REFRESH_MS / 60_000}` },
    seed: { type: 'string', default: '1' },
    from: { type: 'string' },
    out: { type: 'string', default: 'docs/simulation' },
  },
});
const number = (name: 'nodes' | 'hours' | 'lookups' | 'churn' | 'refresh', min: number, max: number): number => {
  const value = Number(values[name]);
  if (value >= min && value <= max) return value;
  process.stderr.write(`--${name} ${values[name]}: must be ${min}…${max}\n`);
  process.exit(2);
};

async function run(): Promise<DhtReport> {
  const startedMs = Date.now();
  const options = {
    nodes: number('nodes', 50, 20_000),
    churnPerHour: number('churn', 0, 0.4),
    hours: Math.round(number('hours', 2, 100)),
    lookups: number('lookups', 10, 100_000),
    seed: values.seed,
    refreshMinutes: number('refresh', 1, 600),
  };
  return await simulateDht(
    options,
    (line) => void process.stderr.write(`${((Date.now() - startedMs) / 1000).toFixed(0)} s  ${line}\n`),
  );
}

const report = values.from === undefined ? await run() : (JSON.parse(readFileSync(values.from, 'utf8')) as DhtReport);
mkdirSync(values.out, { recursive: true });
const figures = JSON.stringify(report, null, 2).replace(/\[[^[\]{}]*\]/g, (list) =>
  list.replace(/\s+/g, ' ').replace('[ ', '[').replace(' ]', ']'),
);
writeFileSync(join(values.out, 'dht.json'), `${figures}\n`);
writeFileSync(join(values.out, 'dht.md'), summarize(report));
const { whole, delta } = report.spread;
writeFileSync(
  join(values.out, 'dht-view.svg'),
  plot({
    title: 'Nodes that have the new view',
    x: 'seconds after the authorities have it',
    y: '% of the nodes',
    series: [
      { name: 'deltas', points: delta.curve.map(([x, share]) => [x, 100 * share] as const) },
      { name: 'whole bundles', points: whole.curve.map(([x, share]) => [x, 100 * share] as const) },
    ],
  }),
);
process.stdout.write(`${join(values.out, 'dht.json')}, dht.md and dht-view.svg written\n`);
