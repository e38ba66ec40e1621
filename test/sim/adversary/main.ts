/**
 * `npm run sim:adversary [-- --users 100,1000,10000 --seed 1 --out docs/simulation]`: a global passive observer and an n−1
 * attacker against the classes and cover modes, with the real mix, cover, loops and, where that can be afforded, engines, in
 * virtual time. Writes adversary.json, a page with tables, and plots; some minutes on one core. `--from adversary.json`
 * only draws and tabulates an earlier run; with `--only web,single,chat,relays,engines,loops` it measures some of these
 * parts anew and keeps the others. Exit code 2: bad command line.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { plot } from '../svg-plot.ts';
import { bestOf } from './correlate.ts';
import { type AdversaryReport, modes, type Part, parts, simulate } from './run.ts';
import { statistics } from './statistics.ts';
import { entropyPlot, guessPlot, rocPlot, summarize } from './summary.ts';

const { values } = parseArgs({
  options: {
    users: { type: 'string', default: '100,1000,10000' },
    targets: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    from: { type: 'string', multiple: true },
    only: { type: 'string' },
    out: { type: 'string', default: 'docs/simulation' },
  },
});

const users = values.users.split(',').map(Number);
const targets = Number(values.targets);
const bad = users.some(
  (count, i) => !Number.isInteger(count) || count < 20 || count > 20_000 || count <= (users[i - 1] ?? 0),
);
if (bad || !Number.isInteger(targets) || targets < 10 || targets > 1000) {
  process.stderr.write('--users: numbers from 20 to 20000, ascending, with commas between; --targets: 10…1000\n');
  process.exit(2);
}

const isPart = (part: string): part is Part => parts.some((known) => known === part);
const requested: readonly string[] = values.only?.split(',') ?? (values.from === undefined ? parts : []);
const wanted = requested.filter(isPart);
if (wanted.length < requested.length) {
  process.stderr.write(`--only ${values.only}: of ${parts.join(', ')}, with commas between\n`);
  process.exit(2);
}

const startedMs = Date.now();
const progress = (line: string) =>
  void process.stderr.write(`${((Date.now() - startedMs) / 1000).toFixed(0)} s  ${line}\n`);
const earlier = values.from?.map((file) => read(file)).reduce(merge);
const report =
  wanted.length === 0 && earlier !== undefined
    ? earlier
    : await simulate({ users, targets, seed: values.seed }, wanted, earlier, progress);

mkdirSync(values.out, { recursive: true });
const write = (name: string, text: string) => writeFileSync(join(values.out, name), text);
// Lists of numbers on one line, as the formatter of this project has them; no more digits than mean anything.
const figures = JSON.stringify(
  slim(report),
  (_key, value) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value),
  2,
).replace(/\[[^[\]{}]*\]/g, (list) => list.replace(/\s+/g, ' ').replace('[ ', '[').replace(' ]', ']'));
write('adversary.json', `${figures}\n`);
const isWhole =
  report.attacks.length === 3 * modes.length * report.options.users.length && report.detections.length > 0;
if (!isWhole) {
  process.stdout.write(`${join(values.out, 'adversary.json')} written: not all parts are there\n`);
  process.exit(0);
}
write('adversary.md', summarize(report));
for (const model of ['web', 'single'] as const) {
  write(`adversary-roc-${model}.svg`, plot(rocPlot(report, model)));
  write(`adversary-guess-${model}.svg`, plot(guessPlot(report, model)));
}
write('adversary-entropy.svg', plot(entropyPlot(report)));
process.stdout.write(`${join(values.out, 'adversary.json')}, adversary.md and plots written\n`);

/** Curves of the best statistics only: the others' rates are there without. */
function slim(whole: AdversaryReport): AdversaryReport {
  const attacks = whole.attacks.map((result) => {
    const byStatistic = { ...result.byStatistic };
    for (const statistic of statistics) {
      if (statistic !== result.best) byStatistic[statistic] = { ...byStatistic[statistic], curve: [] };
    }
    return { ...result, byStatistic };
  });
  return { ...whole, attacks };
}

function read(file: string): AdversaryReport {
  const report: AdversaryReport = JSON.parse(readFileSync(file, 'utf8'));
  return { ...report, attacks: report.attacks.map((result) => ({ ...result, best: bestOf(result.byStatistic) })) };
}

/** Parts that were run apart. */
function merge(a: AdversaryReport, b: AdversaryReport): AdversaryReport {
  const some = <T>(x: readonly T[], y: readonly T[]) => (y.length > 0 ? y : x);
  return {
    ...a,
    cpuSeconds: a.cpuSeconds + b.cpuSeconds,
    meanCells: { ...a.meanCells, ...b.meanCells },
    attacks: [...a.attacks.filter(({ model }) => !b.attacks.some((other) => other.model === model)), ...b.attacks],
    engines: some(a.engines, b.engines),
    relays: some(a.relays, b.relays),
    detections: some(a.detections, b.detections),
    falseAlarms: some(a.falseAlarms, b.falseAlarms),
  };
}
