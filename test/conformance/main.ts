/**
 * `npm run conformance`: cases from the protocol's rules, over a UDP socket, against any implementation.
 *
 *   npm run conformance -- [--target FILE] [--only TEXT] [--json] [--junit FILE]
 *
 * FILE says in JSON what a peer knows of the target: host, port, epoch, and in hex nodeId, linkX25519, linkKem, mixX25519,
 * mixKem; more in docs/formal.md. Without it, our own node is started. Exit code 1 when a case fails.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { TestNode } from './node.ts';
import { junit, summarize, summaryLine, table } from './report.ts';
import { allCases, readTarget, runCases, startOwn } from './suite.ts';

const { values } = parseArgs({
  options: {
    target: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    junit: { type: 'string' },
  },
});

const every = allCases();
const cases = every.filter(({ id }) => values.only === undefined || id.includes(values.only));
const isAll = cases.length === every.length;
const own = values.target === undefined ? await startOwn() : undefined;
const target = own?.target ?? readTarget(readFileSync(values.target!, 'utf8'));
const node = own?.node ?? (await TestNode.open(target.epoch));
const outcomes = await runCases(target, cases, node, (outcome) => {
  if (values.json || outcome.passed) return;
  console.log(`FAILED ${outcome.id} (§${outcome.section}, ${outcome.level}): ${outcome.rule}: ${outcome.reason}`);
});
await own?.stop();
const { reaches, ...summary } = summarize(outcomes, isAll);
if (values.json) console.log(JSON.stringify({ ...summary, reaches: reaches ?? null, outcomes }));
else console.log(`${table(outcomes)}\n${summaryLine({ ...summary, reaches }, isAll, target.compliance)}`);
if (values.junit !== undefined) writeFileSync(values.junit, junit(outcomes));
process.exitCode = summary.failed === 0 && outcomes.length > 0 ? 0 : 1;
