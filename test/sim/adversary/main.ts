/**
 * `npm run sim:adversary [-- --users 100,1000,10000 --seed 1 --out docs/simulation]`: a global passive observer and an n−1
 * attacker against the classes and cover modes, with the real delay queue, cover, loops and, where that can be afforded, engines, in
 * virtual time. Writes adversary.json, a page with tables, and plots; some minutes on one core. `--from adversary.json`
 * only draws and tabulates an earlier run. Exit code 2: bad command line.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { plot } from '../svg-plot.ts';
import { type AdversaryReport, simulate } from './run.ts';
import { entropyPlot, guessPlot, rocPlot, summarize } from './summary.ts';

const { values } = parseArgs({
  options: {
    users: { type: 'string', default: '100,1000,10000' },
    targets: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    from: { type: 'string' },
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

const startedMs = Date.now();
const progress = (line: string) =>
  void process.stderr.write(`${((Date.now() - startedMs) / 1000).toFixed(0)} s  ${line}\n`);
const report: AdversaryReport =
  values.from === undefined
    ? await simulate({ users, targets, seed: values.seed }, progress)
    : JSON.parse(readFileSync(values.from, 'utf8'));

mkdirSync(values.out, { recursive: true });
const write = (name: string, text: string) => writeFileSync(join(values.out, name), text);
// Lists of numbers on one line, as the formatter of this project has them; no more digits than mean anything.
const figures = JSON.stringify(
  report,
  (_key, value) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value),
  2,
).replace(/\[[^[\]{}]*\]/g, (list) => list.replace(/\s+/g, ' ').replace('[ ', '[').replace(' ]', ']'));
write('adversary.json', `${figures}\n`);
write('adversary.md', summarize(report));
for (const model of ['web', 'single'] as const) {
  write(`adversary-roc-${model}.svg`, plot(rocPlot(report, model)));
  write(`adversary-guess-${model}.svg`, plot(guessPlot(report, model)));
}
write('adversary-entropy.svg', plot(entropyPlot(report)));
process.stdout.write(`${join(values.out, 'adversary.json')}, adversary.md and plots written\n`);
