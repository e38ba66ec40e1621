/**
 * `npm run sim:paths [-- --nodes 10000 --hours 25 --out docs/simulation]`: the simulation of directory and paths, with
 * the real modules on virtual time. Writes paths.json, plots and tables; takes a quarter of an hour. `--from paths.json`
 * only draws and tabulates an earlier run's figures. Exit code 2: bad command line.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { plot } from '../svg-plot.ts';
import { type SimulationReport, simulate } from './run.ts';
import { type Reports, summarize } from './summary.ts';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '10000' },
    hours: { type: 'string', default: '25' },
    clients: { type: 'string', default: '200' },
    churn: { type: 'string', default: '0.2' },
    seed: { type: 'string', default: '1' },
    from: { type: 'string' },
    out: { type: 'string', default: 'docs/simulation' },
  },
});
const number = (name: 'nodes' | 'hours' | 'clients' | 'churn', min: number, max: number): number => {
  const value = Number(values[name]);
  if (value >= min && value <= max) return value;
  process.stderr.write(`--${name} ${values[name]}: must be ${min}…${max}\n`);
  process.exit(2);
};
async function run(): Promise<Reports> {
  const common = {
    nodes: number('nodes', 100, 20_000),
    churnPerHour: number('churn', 0, 0.4),
    clients: number('clients', 10, 10_000),
    pathsPerHour: 10,
    loadPaths: 200_000,
    seed: values.seed,
  };
  const hours = Math.round(number('hours', 4, 1000));
  const startedMs = Date.now();
  const progress = (line: string) =>
    void process.stderr.write(`${((Date.now() - startedMs) / 1000).toFixed(0)} s  ${line}\n`);
  process.stderr.write('churn alike for all nodes\n');
  const even = await simulate({ ...common, hours, churnShape: 'even' }, progress);
  process.stderr.write('most nodes steady, others come and go\n');
  const fewer = Math.max(4, Math.ceil(hours / 3));
  return { even, skewed: await simulate({ ...common, hours: fewer, churnShape: 'skewed' }, progress) };
}

const { even, skewed } =
  values.from === undefined ? await run() : (JSON.parse(readFileSync(values.from, 'utf8')) as Reports);
mkdirSync(values.out, { recursive: true });
const write = (name: string, text: string) => writeFileSync(join(values.out, name), text);
// Lists of numbers on one line, as the formatter of this project has them.
const figures = JSON.stringify({ even, skewed }, null, 2).replace(/\[[^[\]{}]*\]/g, (list) =>
  list.replace(/\s+/g, ' ').replace('[ ', '[').replace(' ]', ']'),
);
write('paths.json', `${figures}\n`);
write('paths.md', summarize({ even, skewed }));
write('load.svg', loadPlot(even));
write('latency.svg', latencyPlot(even));
write('guards.svg', guardsPlot(even, skewed));
process.stdout.write(`${join(values.out, 'paths.json')} and plots written\n`);

function loadPlot({ load }: SimulationReport): string {
  return plot({
    title: 'Load of nodes in proportion to their bandwidth',
    x: 'decile of nodes by bandwidth',
    y: 'share of load / share of bandwidth',
    log: true,
    series: load.map(({ strategy, deciles }) => ({
      name: strategy,
      points: deciles.map(({ loadPerBandwidth }, i) => [i + 1, Math.max(1e-3, loadPerBandwidth)] as const),
    })),
  });
}

function latencyPlot({ latency }: SimulationReport): string {
  const reference = latency[0]!;
  return plot({
    title: 'The knob between weight alone and fastest',
    x: 'bits of the path’s entropy given up',
    y: 'round trip, % of that by weight alone',
    series: [
      {
        name: 'mean',
        points: latency.map(({ costBits, rttMs }) => [costBits, (100 * rttMs.mean) / reference.rttMs.mean] as const),
      },
      {
        name: '90%',
        points: latency.map(({ costBits, rttMs }) => [costBits, (100 * rttMs.p90) / reference.rttMs.p90] as const),
      },
    ],
  });
}

function guardsPlot(a: SimulationReport, b: SimulationReport): string {
  const points = (report: SimulationReport) =>
    report.clients.distinctGuards.map(({ hour, mean }) => [hour, mean] as const);
  return plot({
    title: 'First hops that a client has used so far',
    x: 'hours',
    y: 'nodes, mean over clients',
    series: [
      { name: 'churn alike for all', points: points(a) },
      { name: 'most nodes steady', points: points(b) },
    ],
  });
}
