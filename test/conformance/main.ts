/**
 * `npm run conformance`: cases from the protocol's rules, over a UDP socket, against any implementation.
 *
 *   npm run conformance -- [--target FILE] [--only TEXT] [--json] [--junit FILE]
 *
 * FILE says in JSON what a peer knows of the target: host, port, epoch, and in hex nodeId, linkX25519, linkKem, mixX25519,
 * mixKem. Without it, our own node is started. Exit code 1 when a case fails.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { TestNode } from './node.ts';
import { allCases, type Outcome, readTarget, runCases, startOwn } from './suite.ts';

const { values } = parseArgs({
  options: {
    target: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    junit: { type: 'string' },
  },
});

const cases = allCases().filter(({ id }) => values.only === undefined || id.includes(values.only));
const own = values.target === undefined ? await startOwn() : undefined;
const target = own?.target ?? readTarget(readFileSync(values.target!, 'utf8'));
const node = own?.node ?? (await TestNode.open(target.epoch));
const outcomes = await runCases(target, cases, node, (outcome) => {
  if (values.json || outcome.passed) return;
  console.log(`FAILED ${outcome.id} (§${outcome.section}, ${outcome.level}): ${outcome.rule}: ${outcome.reason}`);
});
await own?.stop();
const failed = outcomes.filter(({ passed }) => !passed).length;
const summary = { passed: outcomes.length - failed, failed, cases: outcomes.length };
if (values.json) console.log(JSON.stringify({ ...summary, outcomes }));
else printTable();
if (values.junit !== undefined) writeFileSync(values.junit, junit());
if (!values.json) console.log(`conformance: ${summary.passed} of ${summary.cases} cases passed`);
process.exitCode = failed === 0 && outcomes.length > 0 ? 0 : 1;

function printTable(): void {
  console.log('section  level  cases  passed');
  const groups = Map.groupBy(outcomes, ({ section, level }) => `${section.padEnd(7)}  ${level.padEnd(5)}`);
  for (const [name, group] of [...groups].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const passed = group.filter((outcome) => outcome.passed).length;
    console.log(`${name}  ${String(group.length).padStart(5)}  ${String(passed).padStart(6)}`);
  }
}

function junit(): string {
  const escaped = (text: string) =>
    text.replace(/[<>&"]/g, (found) => ({ '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' })[found]!);
  const testcase = ({ id, section, rule, reason, ms }: Outcome) => {
    const open = `<testcase classname="nyx.${escaped(section)}" name="${escaped(id)}" time="${(ms / 1000).toFixed(3)}"`;
    return reason === undefined
      ? `${open}/>`
      : `${open}><failure message="${escaped(`${rule}: ${reason}`)}"/></testcase>`;
  };
  return `<?xml version="1.0"?>\n<testsuite name="nyx conformance" tests="${outcomes.length}" failures="${failed}">\n${outcomes.map(testcase).join('\n')}\n</testsuite>\n`;
}
