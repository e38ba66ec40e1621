/**
 * `npm run formal`: TLC over every module, and over every mutant. Ends with one summary line; exit code 0 when every
 * property holds and every mutant is killed, 1 when not, 2 when the tools are missing.
 *
 *   npm run formal -- [--deep] [--json] [--only MODULE] [--no-mutants] [--tables] [--jobs N] [--if-available]
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { findTools, ToolMissing, type Tools } from './jar.ts';
import { configOf, type Gap, type Instance, type Model, type Mutant, models } from './models.ts';
import { buildTable, tableFile, tableSpecs } from './tables.ts';
import { endRuns, type Outcome, runTlc } from './tlc.ts';

const defaultTimeoutMs = 600_000;
const deepTimeoutMs = 4 * 3_600_000;
/** The state that a counterexample ends in tells most; long ones are shown from both ends. */
const maxStepsShown = 24;

interface Row {
  readonly kind: 'model' | 'mutant' | 'gap';
  readonly module: string;
  readonly level: Model['level'];
  readonly constants: string;
  readonly fault: string | undefined;
  readonly property: string | undefined;
  readonly states: number;
  readonly depth: number;
  readonly seconds: number;
  readonly result: string;
  readonly good: boolean;
  readonly outcome: Outcome;
}

const { values } = parseArgs({
  options: {
    deep: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
    'no-mutants': { type: 'boolean', default: false },
    /** Writes the tables of what the modules allow anew. */
    tables: { type: 'boolean', default: false },
    /** Runs at a time, each with one thread. */
    jobs: { type: 'string', default: '1' },
    /** Where the tools can't be had, says so and is content. */
    'if-available': { type: 'boolean', default: false },
  },
});

const columns = [12, 7, 9, 6, 7] as const;

process.on('exit', endRuns);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(2));

process.exitCode = await main();

async function main(): Promise<number> {
  const chosen = models.filter(({ module }) => values.only === undefined || module === values.only);
  if (chosen.length === 0) {
    console.error(`formal: no module ${values.only}; there are ${models.map(({ module }) => module).join(', ')}`);
    return 2;
  }
  const unproved = chosen.flatMap(withoutMutant);
  if (unproved.length > 0) {
    console.error(`formal: no mutant shows that these can fail: ${unproved.join(', ')}`);
    return 1;
  }
  let tools: Tools;
  try {
    tools = findTools();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    console.error(`formal: NOT CHECKED: ${error.message}`);
    return values['if-available'] ? 0 : 2;
  }
  if (!values.json) console.log(cells('module', 'level', 'states', 'depth', 'time', 'result'));
  const rows = await inOrder(
    chosen.flatMap((model) => tasksOf(tools, model)),
    Number(values.jobs),
    (item) => {
      if (values.json) return;
      console.log(tableLine(item));
      if (!item.good) console.log(explain(item));
    },
  );
  return report(rows, await checkTables(tools));
}

function tasksOf(tools: Tools, model: Model): (() => Promise<Row>)[] {
  const text = readFileSync(join(import.meta.dirname, 'spec', `${model.module}.tla`), 'utf8');
  const instances = model.instances.filter(({ deep }) => !deep || values.deep);
  const mutants = values['no-mutants'] ? [] : model.mutants;
  const gaps = values['no-mutants'] ? [] : (model.gaps ?? []);
  return [
    ...instances.map((instance) => () => checkModel(tools, model, instance, text)),
    ...mutants.map((mutant) => () => checkMutant(tools, model, mutant, text)),
    ...gaps.map((gap) => () => checkGap(tools, model, gap, text)),
  ];
}

/** Runs at most `jobs` at a time; results come in the order of the tasks. */
async function inOrder<T>(tasks: readonly (() => Promise<T>)[], jobs: number, done: (result: T) => void): Promise<T[]> {
  const results = new Array<T | undefined>(tasks.length).fill(undefined);
  let started = 0;
  let told = 0;
  const work = async () => {
    while (started < tasks.length) {
      const i = started++;
      results[i] = await tasks[i]!();
      while (told < tasks.length && results[told] !== undefined) done(results[told++]!);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, jobs) }, work));
  return results as T[];
}

/** What the tests compare the running code with has to be what the modules say now. Returns what is out of date. */
async function checkTables(tools: Tools): Promise<string[]> {
  const stale: string[] = [];
  for (const spec of tableSpecs) {
    if (values.only !== undefined && values.only !== spec.module) continue;
    const text = `${JSON.stringify(await buildTable(tools, spec), undefined, 1)}\n`;
    const file = tableFile(spec.name);
    if (values.tables) {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, text);
    } else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
      stale.push(spec.name);
      console.error(`formal: tables/${spec.name}.json is not what ${spec.module} says now: npm run formal -- --tables`);
    }
  }
  return stale;
}

/** Properties that no mutant is there for; TypeOK only documents. */
function withoutMutant(model: Model): string[] {
  const killed = new Set(model.mutants.map(({ kills }) => kills));
  return [...model.invariants, ...model.temporal]
    .filter((property) => property !== 'TypeOK' && !killed.has(property))
    .map((property) => `${model.module}.${property}`);
}

async function checkModel(tools: Tools, model: Model, instance: Instance, text: string): Promise<Row> {
  const config = configOf(instance, model.invariants, model.temporal);
  const outcome = await runTlc(tools, {
    module: model.module,
    text,
    config,
    heapMb: instance.deep ? 2048 : 1024,
    timeoutMs: instance.deep ? deepTimeoutMs : defaultTimeoutMs,
  });
  // An action that nothing ever allows is a hole in the model: what it is about would never be checked.
  const idle = outcome.result === 'ok' ? outcome.idleActions.filter((action) => !instance.idle?.includes(action)) : [];
  const good = outcome.result === 'ok' && idle.length === 0;
  const problem = idle.length > 0 ? `NEVER HAPPENS: ${idle.join(', ')}` : 'ERROR';
  const result = outcome.result === 'violated' ? `VIOLATED: ${outcome.property}` : good ? 'holds' : problem;
  return row('model', model, instance, outcome, good, result);
}

async function checkMutant(tools: Tools, model: Model, mutant: Mutant, original: string): Promise<Row> {
  const instance = instanceFor(model, mutant);
  const text = [mutant, ...(mutant.also ?? [])].reduce((before, patch) => applyPatch(model, before, patch), original);
  const isTemporal = model.temporal.includes(mutant.kills);
  const config = configOf(instance, isTemporal ? [] : [mutant.kills], isTemporal ? [mutant.kills] : []);
  const outcome = await runTlc(tools, {
    module: model.module,
    text,
    config,
    timeoutMs: defaultTimeoutMs,
  });
  const expected = isTemporal ? 'a temporal property' : mutant.kills;
  const good = outcome.result === 'violated' && outcome.property === expected;
  const result = good ? 'killed' : outcome.result === 'ok' ? 'SURVIVED' : `ERROR ${outcome.property ?? ''}`;
  return row('mutant', model, instance, outcome, good, result, mutant);
}

/** What the docs say is not seen must indeed not be: a property that holds by now no longer belongs among the gaps. */
async function checkGap(tools: Tools, model: Model, gap: Gap, text: string): Promise<Row> {
  const { property, about } = gap;
  const instance = instanceFor(model, gap);
  const config = configOf(instance, [property], []);
  const outcome = await runTlc(tools, { module: model.module, text, config, timeoutMs: defaultTimeoutMs });
  const good = outcome.result === 'violated' && outcome.property === property;
  const result = good ? 'unseen' : outcome.result === 'ok' ? 'NOT A GAP' : `ERROR ${outcome.property ?? ''}`;
  return row('gap', model, instance, outcome, good, result, { kills: property, fault: about });
}

function instanceFor(model: Model, { instance = 0, constants }: Pick<Mutant, 'instance' | 'constants'>): Instance {
  const base = model.instances[instance]!;
  return { ...base, constants: { ...base.constants, ...constants } };
}

/** Throws when the text to replace is not there exactly once: the mutant no longer fits its module. */
function applyPatch(
  { module }: Model,
  text: string,
  { find, put }: { readonly find: string; readonly put: string },
): string {
  const parts = text.split(find);
  if (parts.length !== 2) {
    throw new Error(`${module}: a mutant's "${find.trim()}" occurs ${parts.length - 1} times in the module, not once`);
  }
  return parts.join(put);
}

function row(
  kind: Row['kind'],
  { module, level }: Model,
  instance: Instance,
  outcome: Outcome,
  good: boolean,
  result: string,
  mutant?: Pick<Mutant, 'kills' | 'fault'>,
): Row {
  const { distinct: states, depth, seconds } = outcome;
  const constants = Object.entries(instance.constants)
    .map(([name, value]) => `${name} = ${value}`)
    .join(', ');
  const property = mutant?.kills;
  return {
    kind,
    module,
    level,
    constants,
    fault: mutant?.fault,
    property,
    states,
    depth,
    seconds,
    result,
    good,
    outcome,
  };
}

function tableLine(item: Row): string {
  const what = item.kind === 'model' ? item.constants : `${item.property}: ${item.fault}`;
  const line = cells(
    item.module,
    item.level,
    item.states.toLocaleString('en'),
    String(item.depth),
    `${item.seconds.toFixed(1)} s`,
    item.result,
  );
  return `${line.padEnd(60)}  ${what}`;
}

function cells(...values: readonly string[]): string {
  return values
    .map((value, i) => (i < 2 || i === 5 ? value.padEnd(columns[i] ?? 0) : value.padStart(columns[i]!)))
    .join('  ');
}

/** The counterexample as steps: what happened, and what it changed. */
function explain({ outcome, result, module, constants }: Row): string {
  const lines = [`  ${module} with ${constants}: ${result}`];
  if (outcome.message !== '') lines.push(outcome.message);
  let before = new Set<string>();
  outcome.steps.forEach((step, i) => {
    const now = step.state.split(/\n(?=\/\\)/);
    const skip = outcome.steps.length > maxStepsShown && i > 3 && i < outcome.steps.length - maxStepsShown + 4;
    if (!skip) {
      lines.push(`  ${String(i + 1).padStart(3)}. ${step.action}`);
      for (const part of now)
        if (part !== '' && !before.has(part)) lines.push(`         ${part.replaceAll('\n', '\n         ')}`);
    }
    before = new Set(now);
  });
  return lines.join('\n');
}

function report(rows: readonly Row[], staleTables: readonly string[]): number {
  const ok = staleTables.length === 0 && rows.every(({ good }) => good);
  const mutants = rows.filter(({ kind }) => kind === 'mutant');
  const runs = rows.filter(({ kind }) => kind === 'model');
  const seconds = rows.reduce((sum, item) => sum + item.seconds, 0);
  if (values.json) {
    const plain = rows.map(({ outcome, ...rest }) => ({ ...rest, steps: rest.good ? undefined : outcome.steps }));
    console.log(JSON.stringify({ ok, staleTables, seconds, rows: plain }, undefined, 2));
  }
  const gaps = rows.filter(({ kind }) => kind === 'gap');
  const count = (items: readonly Row[]) => `${items.filter(({ good }) => good).length} of ${items.length}`;
  const states = runs.reduce((sum, item) => sum + item.states, 0).toLocaleString('en');
  const line = `formal: ${ok ? 'ok' : 'FAILED'}: ${count(runs)} models hold (${states} states), ${count(mutants)} mutants killed, ${count(gaps)} gaps as stated, ${seconds.toFixed(0)} s`;
  if (values.json) console.error(line);
  else console.log(line);
  return ok ? 0 : 1;
}
