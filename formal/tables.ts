/**
 * What the specifications allow to be seen: for a module, TLC's whole state graph seen through a few observations, as a
 * deterministic automaton small enough to read. Tests check logs of the running code against these tables
 * (trace.test.ts); `npm run formal -- --tables` writes them anew, and every run of `npm run formal` checks that they are
 * still what the modules say.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tools } from './jar.ts';
import { configOf } from './models.ts';
import { runTlc } from './tlc.ts';

/** One variable's value, as TLC prints it. */
type State = (variable: string) => string;

export interface TableSpec {
  readonly name: string;
  readonly module: string;
  readonly constants: Readonly<Record<string, string>>;
  /** What can be seen of a state from outside. */
  readonly observe: (state: State) => string;
  /** The daemon's xstate machine of that name, and in which state it is for each thing that the module has one for. */
  readonly lifecycle?: { readonly machine: string; readonly of: (state: State) => readonly string[] };
}

export interface Table {
  readonly module: string;
  /** Of the module's text and the constants: a table of another text is out of date. */
  readonly sha256: string;
  readonly states: readonly TableState[];
  /** Machine and its transitions, `from > to`. */
  readonly lifecycle?: { readonly machine: string; readonly transitions: readonly string[] };
}

export interface TableState {
  readonly seen: string;
  /** By what can be seen next; the state then is the one with that number. */
  readonly next: Readonly<Record<string, number>>;
}

/** The value of a field of a record or function such as `[i |-> 0, r |-> 1]` or `(1 :> "up")`. */
function field(value: string, name: string): string {
  const found = new RegExp(`(?:^|[\\[(, ])${name} (?:\\|->|:>) ("[^"]*"|\\{[^}]*\\}|[^,\\])@ ]+)`).exec(value)?.[1];
  if (found === undefined) throw new Error(`no field ${name} in ${value}`);
  return found.replaceAll('"', '');
}

/** The value at a number, of a function or tuple as TLC prints it. */
function element(value: string, at: number): string {
  const strings = [...value.matchAll(/"(\w+)"/g)].map((match) => match[1]);
  const found = value.startsWith('<<') ? strings[at - 1] : new RegExp(`${at} :> "(\\w+)"`).exec(value)?.[1];
  if (found === undefined) throw new Error(`nothing at ${at} in ${value}`);
  return found;
}

const size = (value: string): number => (value === '{}' ? 0 : value.split(',').length);

export const tableSpecs: readonly TableSpec[] = [
  {
    name: 'handshake',
    module: 'Handshake',
    constants: { Tries: '{1}', Forged: '{}', FarFuture: '9', MaxUnproved: '1', MaxCrashes: '0' },
    observe: (state) => {
      const links = [...state('links').matchAll(/st \|-> "(\w+)"/g)].map((match) => match[1]).sort();
      return `${only(state('initiator'))}/${links.join('+') || 'none'}`;
    },
    lifecycle: {
      machine: 'link',
      // The initiator's link, then the responder's.
      of: (state) => [
        { idle: 'idle', waiting: 'handshaking', up: 'up', failed: 'closed' }[only(state('initiator'))] ?? '?',
        { unproved: 'idle', up: 'up', gone: 'closed' }[/st \|-> "(\w+)"/.exec(state('links'))?.[1] ?? 'unproved'] ??
          '?',
      ],
    },
  },
  {
    name: 'rekey',
    module: 'Rekey',
    constants: { MaxGeneration: '1', MaxCells: '2', MaxSlots: '4' },
    observe: (state) => {
      const asked = state('rekeying') === '2' ? 0 : 1;
      const receive = state('receive');
      const ids = `${size(field(receive, 'i')) + asked},${size(field(receive, 'r'))}`;
      const send = state('send');
      const life = state('alive') === 'TRUE' ? '' : ' dead';
      return `sends ${field(send, 'i')},${field(send, 'r')} receives under ${ids} ids${life}`;
    },
    lifecycle: {
      machine: 'link',
      of: (state) => [state('alive') === 'TRUE' ? 'up' : 'closed'],
    },
  },
  {
    name: 'circuit',
    module: 'Circuit',
    constants: { MaxCells: '1', MaxHeld: '1' },
    observe: (state) => `client ${only(state('client'))}, exit ${only(state('exit'))}`,
    lifecycle: {
      machine: 'circuit',
      of: (state) => [{ idle: 'building', ended: 'closed' }[only(state('client'))] ?? only(state('client'))],
    },
  },
  {
    name: 'stream',
    module: 'Stream',
    constants: { Size: '1', Window: '1', MaxLosses: '1' },
    observe: (state) => `owner ${only(state('owner'))}`,
    lifecycle: { machine: 'stream', of: (state) => [only(state('owner'))] },
  },
  {
    name: 'reload',
    module: 'Reload',
    constants: { Workers: '{1, 2}', MaxVersion: '3', Unsound: '{2}', MaxCrashes: '1' },
    // Which worker is which does not matter.
    observe: (state) => {
      const states = [...state('state').matchAll(/"(\w+)"/g)].map((match) => match[1]);
      const parts = [...state('parts').matchAll(/<<(\d), (\d)>>/g)].map(([, one, other]) => `${one},${other}`);
      const workers = states.map((worker, i) => (worker === 'down' ? 'down' : `${worker} ${parts[i]}`));
      return `main ${state('main')} ${only(state('phase'))}; ${workers.sort().join('; ')}`;
    },
  },
  {
    name: 'session',
    module: 'Session',
    constants: { Paths: '{1, 2, 3}', Size: '1' },
    observe: (state) => {
      const attached = state('far').match(/"attached"/g)?.length ?? 0;
      return `client ${only(state('client'))}, last hop ${only(state('server'))}, ${attached} circuits`;
    },
    lifecycle: {
      machine: 'session',
      // As its client sees it: over what it is done or failed does not matter.
      of: (state) => {
        if (only(state('client')) !== 'open') return ['closed'];
        const [mine, near] = [listOf(state('mine')), listOf(state('near'))];
        return [mine.some((own, i) => own === 'TRUE' && near[i] === 'open') ? 'carried' : 'resuming'];
      },
    },
  },
  {
    // One of two cells that a neighbour gives to a mix, and what it finds in the mix's proof.
    name: 'batch-given',
    module: 'MixBatch',
    constants: { Cells: '{1, 2}', Onward: '{}', Own: '{}', LiesTo: '{"u"}', Linked: '{TRUE}' },
    observe: (state) => {
      const shown = state('evidence');
      return `cell ${element(state('given'), 1)}${shown === '{}' ? '' : `, evidence of ${only(shown)}`}`;
    },
  },
  {
    // A cell that a neighbour gets from a mix.
    name: 'batch-got',
    module: 'MixBatch',
    constants: { Cells: '{1}', Onward: '{1}', Own: '{}', LiesTo: '{"w"}', Linked: '{TRUE}' },
    observe: (state) => `cell ${element(state('got'), 1)}`,
  },
  {
    // A batch in its mix.
    name: 'batch',
    module: 'MixBatch',
    constants: { Cells: '{1, 2}', Onward: '{1, 2}', Own: '{}', LiesTo: '{}', Linked: '{TRUE}' },
    observe: (state) =>
      `batch ${only(state('phase'))}, ${size(state('sent')) > 0 ? 'cells are out' : 'no cell is out'}`,
  },
];

/** The values of a function over 1, 2, …: `<<TRUE, FALSE>>`, or `(1 :> "open" @@ 2 :> "gone")`. */
function listOf(value: string): string[] {
  return [...value.matchAll(/TRUE|FALSE|(?<=")\w+(?=")/g)].map(([found]) => found);
}

/** The one string in a value. */
function only(value: string): string {
  return /"(\w+)"/.exec(value)?.[1] ?? value;
}

interface Graph {
  readonly states: ReadonlyMap<string, { readonly seen: string; readonly stages: readonly string[] }>;
  readonly edges: ReadonlyMap<string, readonly string[]>;
  readonly initial: readonly string[];
}

const moduleText = (module: string): string => readFileSync(join(import.meta.dirname, 'spec', `${module}.tla`), 'utf8');

export function tableHash({ module, constants }: TableSpec): string {
  return createHash('sha256').update(moduleText(module)).update(JSON.stringify(constants)).digest('hex');
}

export function tableFile(name: string): string {
  return join(import.meta.dirname, 'tables', `${name}.json`);
}

/** Has TLC write out the module's states and makes the table of them. */
export async function buildTable(tools: Tools, spec: TableSpec): Promise<Table> {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-table-'));
  try {
    const dump = join(folder, 'graph.dot');
    const text = moduleText(spec.module);
    const outcome = await runTlc(tools, {
      module: spec.module,
      text,
      config: configOf({ constants: spec.constants }, [], []),
      timeoutMs: 300_000,
      dumpTo: dump,
    });
    if (outcome.result !== 'ok') throw new Error(`${spec.module}: ${outcome.message}`);
    const graph = readGraph(readFileSync(dump, 'utf8'), spec);
    const { lifecycle } = spec;
    return {
      module: spec.module,
      sha256: tableHash(spec),
      states: determinize(graph),
      ...(lifecycle && { lifecycle: { machine: lifecycle.machine, transitions: transitions(graph) } }),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readGraph(dot: string, spec: TableSpec): Graph {
  const states = new Map<string, { seen: string; stages: readonly string[] }>();
  const edges = new Map<string, string[]>();
  const initial: string[] = [];
  for (const line of dot.split('\n')) {
    const edge = /^(-?\d+) -> (-?\d+) \[label=/.exec(line);
    if (edge !== null) {
      const list = edges.get(edge[1]!) ?? [];
      list.push(edge[2]!);
      edges.set(edge[1]!, list);
      continue;
    }
    const node = /^(-?\d+) \[label="(.*?)"(,style = filled)?(?:,|\])/.exec(line.replaceAll('\\"', '\u0001'));
    if (node === null) continue;
    const text = node[2]!.replaceAll('\u0001', '"').replaceAll('\\\\', '\\');
    const values = new Map<string, string>();
    for (const part of text.split(/(?:^|\\n)\/\\ /)) {
      const at = part.indexOf(' = ');
      if (at > 0) values.set(part.slice(0, at), part.slice(at + 3).replaceAll('\\n', ' '));
    }
    const state: State = (variable) => {
      const value = values.get(variable);
      if (value === undefined) throw new Error(`${spec.module} has no variable ${variable}: ${text}`);
      return value;
    };
    states.set(node[1]!, { seen: spec.observe(state), stages: spec.lifecycle?.of(state) ?? [] });
    if (node[3] !== undefined) initial.push(node[1]!);
  }
  return { states, edges, initial };
}

/** Sets of states that look the same and can't be told apart by what was seen so far. */
function determinize({ states, edges, initial }: Graph): TableState[] {
  const close = (from: Iterable<string>): string[] => {
    const closed = new Set(from);
    for (const state of closed) {
      for (const to of edges.get(state) ?? []) {
        if (states.get(to)!.seen === states.get(state)!.seen) closed.add(to);
      }
    }
    return [...closed].sort();
  };
  const start = close(initial);
  const numbers = new Map([[start.join(), 0]]);
  const queue = [start];
  const table: TableState[] = [];
  for (const members of queue) {
    const targets = new Map<string, Set<string>>();
    for (const state of members) {
      for (const to of edges.get(state) ?? []) {
        const { seen } = states.get(to)!;
        if (seen === states.get(state)!.seen) continue;
        targets.set(seen, (targets.get(seen) ?? new Set()).add(to));
      }
    }
    const next: Record<string, number> = {};
    for (const [seen, target] of [...targets].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const closed = close(target);
      const key = closed.join();
      if (!numbers.has(key)) {
        numbers.set(key, numbers.size);
        queue.push(closed);
      }
      next[seen] = numbers.get(key)!;
    }
    table.push({ seen: states.get(members[0]!)!.seen, next });
  }
  return table;
}

function transitions({ states, edges }: Graph): string[] {
  const found = new Set<string>();
  for (const [from, list] of edges) {
    const before = states.get(from)!.stages;
    for (const to of list) {
      states.get(to)!.stages.forEach((after, i) => {
        if (before[i] !== after) found.add(`${before[i]} > ${after}`);
      });
    }
  }
  return [...found].sort();
}
