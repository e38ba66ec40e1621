import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Level } from './context.ts';
import { junit, summarize, summaryLine, table } from './report.ts';
import type { Outcome } from './suite.ts';

const outcome = (id: string, level: Level, reason?: string): Outcome => ({
  id,
  section: level === 'Full' ? '7.1' : '2.3',
  level,
  rule: 'a rule < "another"',
  passed: reason === undefined,
  reason,
  ms: 1,
});
const run = (core?: string, plus?: string, full?: string): Outcome[] => [
  outcome('a', 'Core'),
  outcome('b', 'Core', core),
  outcome('c', 'Plus', plus),
  outcome('d', 'Full', full),
];

test('a level is reached by all of its cases and those of the levels below', () => {
  const reaches = (outcomes: Outcome[], isAll = true) => summarize(outcomes, isAll).reaches;
  assert.equal(reaches(run()), 'Full');
  assert.equal(reaches(run(undefined, undefined, 'no')), 'Plus');
  assert.equal(reaches(run(undefined, 'no')), 'Core');
  assert.equal(reaches(run('no')), undefined);
  assert.equal(reaches(run(), false), undefined, 'some of the cases are no level');
  assert.equal(reaches(run().slice(0, 3)), 'Plus', 'without a case there is no level');
  assert.equal(reaches([]), undefined);
});

test('counts are there by level and in all', () => {
  const { passed, failed, cases, levels } = summarize(run(undefined, 'no'), true);
  assert.deepEqual({ passed, failed, cases }, { passed: 3, failed: 1, cases: 4 });
  assert.deepEqual(levels, {
    Core: { passed: 2, failed: 0 },
    Plus: { passed: 0, failed: 1 },
    Full: { passed: 1, failed: 0 },
  });
});

test('the last line says which level the target reaches, and what else it claims', () => {
  const line = (outcomes: Outcome[], claimed?: string, isAll = true) =>
    summaryLine(summarize(outcomes, isAll), isAll, claimed);
  const counts = 'conformance: 4 of 4 cases passed (Core 2 of 2, Plus 1 of 1, Full 1 of 1)';
  assert.equal(line(run(), 'full'), `${counts}; the target reaches level Full`);
  assert.match(
    line(run(undefined, undefined, 'no'), 'full'),
    /Full 0 of 1\); the target reaches level Plus, and claims full$/,
  );
  assert.match(line(run('no'), 'core'), /; the target reaches no level, and claims core$/);
  assert.match(line(run(), undefined, false), /; no level is found, for these are not all cases$/);
});

test('table and JUnit name the level', () => {
  assert.match(table(run('no')), /^2\.3 {6}Core {7}2 {7}1$/m);
  assert.match(table(run()), /^7\.1 {6}Full {7}1 {7}1$/m);
  const xml = junit(run('no'));
  assert.match(xml, /<testsuite name="nyx conformance Core" tests="2" failures="1">/);
  assert.match(xml, /<testcase classname="nyx\.Full\.7\.1" name="d" time="0\.001"\/>/);
  assert.match(xml, /<failure message="a rule &lt; &quot;another&quot;: no"\/>/);
});
