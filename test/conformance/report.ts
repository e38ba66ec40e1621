/** What a run came to: as text, JSON and JUnit, by compliance level. */
import type { Level } from './context.ts';
import type { Outcome } from './suite.ts';

/** Each has the rules of those before it as well. */
export const LEVELS = ['Core', 'Plus', 'Full'] as const satisfies readonly Level[];

export interface Count {
  readonly passed: number;
  readonly failed: number;
}

export interface Summary extends Count {
  readonly cases: number;
  readonly levels: Readonly<Record<Level, Count>>;
  /** The highest level of which, and of those below, all cases passed. Undefined: not even Core, or not all were run. */
  readonly reaches: Level | undefined;
}

function count(outcomes: readonly Outcome[]): Count {
  const passed = outcomes.filter((outcome) => outcome.passed).length;
  return { passed, failed: outcomes.length - passed };
}

/** @param isAll whether these are all cases: a level is reached by all of its cases or not at all. */
export function summarize(outcomes: readonly Outcome[], isAll: boolean): Summary {
  const levels = Object.fromEntries(
    LEVELS.map((level) => [level, count(outcomes.filter((outcome) => outcome.level === level))]),
  ) as Record<Level, Count>;
  let reaches: Level | undefined;
  for (const level of LEVELS) {
    if (!isAll || levels[level].failed > 0 || levels[level].passed === 0) break;
    reaches = level;
  }
  return { ...count(outcomes), cases: outcomes.length, levels, reaches };
}

/** @param claimed what the target says of itself, in whatever letters. */
export function summaryLine(summary: Summary, isAll: boolean, claimed: string | undefined): string {
  const { passed, cases, levels, reaches } = summary;
  const byLevel = LEVELS.map((level) => {
    const { passed: some, failed } = levels[level];
    return `${level} ${some} of ${some + failed}`;
  });
  const line = `conformance: ${passed} of ${cases} cases passed (${byLevel.join(', ')})`;
  if (!isAll) return `${line}; no level is found, for these are not all cases`;
  const found = reaches === undefined ? 'the target reaches no level' : `the target reaches level ${reaches}`;
  const differs = claimed !== undefined && claimed.toLowerCase() !== (reaches ?? '').toLowerCase();
  return `${line}; ${found}${differs ? `, and claims ${claimed}` : ''}`;
}

export function table(outcomes: readonly Outcome[]): string {
  const rows = ['section  level  cases  passed'];
  const groups = Map.groupBy(outcomes, ({ section, level }) => `${section.padEnd(7)}  ${level.padEnd(5)}`);
  for (const [name, group] of [...groups].sort(([a], [b]) => (a < b ? -1 : 1))) {
    rows.push(`${name}  ${String(group.length).padStart(5)}  ${String(count(group).passed).padStart(6)}`);
  }
  return rows.join('\n');
}

/** A test suite for each level. */
export function junit(outcomes: readonly Outcome[]): string {
  const suites = LEVELS.flatMap((level) => {
    const some = outcomes.filter((outcome) => outcome.level === level);
    if (some.length === 0) return [];
    const open = `<testsuite name="nyx conformance ${level}" tests="${some.length}" failures="${count(some).failed}">`;
    return [open, ...some.map(testcase), '</testsuite>'];
  });
  return ['<?xml version="1.0"?>', '<testsuites>', ...suites, '</testsuites>', ''].join('\n');
}

function testcase({ id, section, level, rule, reason, ms }: Outcome): string {
  const name = `classname="nyx.${level}.${escaped(section)}" name="${escaped(id)}"`;
  const open = `<testcase ${name} time="${(ms / 1000).toFixed(3)}"`;
  if (reason === undefined) return `${open}/>`;
  return `${open}><failure message="${escaped(`${rule}: ${reason}`)}"/></testcase>`;
}

const entities: Readonly<Record<string, string>> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' };
const escaped = (text: string): string => text.replace(/[<>&"]/g, (found) => entities[found]!);
