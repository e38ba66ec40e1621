/**
 * Follows what running nodes have written down (daemon/pump/step-log.ts) through the tables of what the specifications allow:
 * the steps of all nodes of a network by the machine's clock, each link, circuit, session, batch and cell for itself.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Step } from '@nyx/core/engine/contract.ts';
import { Deviation, Follower, readTable } from './trace.ts';

export interface NodeStep extends Step {
  /** Process and thread that took it. */
  readonly node: string;
  /** Any clock that all nodes share. */
  readonly at: number;
}

/** How many of a kind were followed, and all that was seen of any of them. */
export interface Followed {
  readonly count: number;
  readonly courses: ReadonlySet<string>;
}

/** All logs of a folder, in the order of time. Throws when one of them was cut off: what is missing could be anything. */
export function readSteps(folder: string): NodeStep[] {
  const steps: NodeStep[] = [];
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.steps'))) {
    const lines = readFileSync(join(folder, file), 'utf8').split('\n');
    // Whoever is killed while it writes leaves half a line.
    for (const text of lines.slice(0, -1)) {
      const line = JSON.parse(text) as NodeStep | { readonly full: true };
      if ('full' in line) throw new Error(`${file} is full: the test takes more steps than are logged`);
      steps.push({ ...line, node: file.slice(0, -'.steps'.length) });
    }
  }
  return steps.sort((a, b) => a.at - b.at);
}

/** Follows all steps. Throws Deviation at the first one that the specifications do not have. */
export function followSteps(steps: readonly NodeStep[]): ReadonlyMap<string, Followed> {
  const followers = new Map<string, { readonly table: string; readonly follower: Follower }>();
  const of = (table: string, name: string): Follower => {
    const key = `${table} ${name}`;
    let entry = followers.get(key);
    if (entry === undefined) {
      entry = { table, follower: new Follower(readTable(table)) };
      followers.set(key, entry);
    }
    return entry.follower;
  };
  const projections = new Map<Step['spec'], (step: NodeStep) => void>([
    ['Handshake', handshakes(of, steps)],
    ['Rekey', rekeys(of)],
    ['Circuit', circuits(of)],
    ['MixBatch', batches(of)],
  ]);
  const names = circuitNames(steps);
  projections.set('Session', sessions(of, names, steps));
  for (const step of steps) {
    try {
      projections.get(step.spec)?.(step);
    } catch (error) {
      if (!(error instanceof Deviation)) throw error;
      throw new Deviation(`${step.node}, ${step.spec} ${step.action} of ${step.of}: ${error.message}`);
    }
  }
  const found = new Map<string, { count: number; courses: Set<string> }>();
  for (const { table, follower } of followers.values()) {
    const sum = found.get(table) ?? { count: 0, courses: new Set() };
    sum.count++;
    sum.courses.add(follower.seen.join(' → '));
    found.set(table, sum);
  }
  return found;
}

type Of = (table: string, name: string) => Follower;

function table<T>(make: () => T): (name: string) => T {
  const all = new Map<string, T>();
  return (name) => {
    const found = all.get(name) ?? make();
    all.set(name, found);
    return found;
  };
}

/** A step that the projection does not know would otherwise pass unseen. */
function unknown({ spec, action }: Step): never {
  throw new Deviation(`${spec} has no action ${action}`);
}

/**
 * Of links that a logged node has opened. Others are opened without one: authorities try addresses by handshakes of their own
 * (daemon/directory/prober.ts).
 */
function handshakes(of: Of, steps: readonly NodeStep[]): (step: NodeStep) => void {
  const opened = new Set(steps.filter(({ action }) => action === 'Connect').map((step) => step.of));
  const ends = table(() => ({ initiator: 'idle', responder: 'none' }));
  const initiator = new Map([
    ['Connect', 'waiting'],
    ['TakeResponse', 'up'],
    ['GiveUp', 'failed'],
  ]);
  const responder = new Map([
    ['Accept', 'unproved'],
    ['Prove', 'up'],
    ['Expire', 'gone'],
  ]);
  return (step) => {
    if (!opened.has(step.of)) return;
    const link = ends(String(step.of));
    if (initiator.has(step.action)) link.initiator = initiator.get(step.action)!;
    else if (responder.has(step.action)) link.responder = responder.get(step.action)!;
    else unknown(step);
    of('handshake', String(step.of)).see(`${link.initiator}/${link.responder}`);
  };
}

/** One rekey after the other: the n-th of each action of a link belongs to its n-th rekey. */
function rekeys(of: Of): (step: NodeStep) => void {
  const actions = [
    'StartRekey',
    'Agree',
    'TakeAtInitiator',
    'TakeAtResponder',
    'ExpireAtInitiator',
    'ExpireAtResponder',
  ];
  const links = table(() => ({ counts: new Map<string, number>(), over: false }));
  const rounds = table(() => new Set<string>());
  return (step) => {
    const link = links(String(step.of));
    // What ends a link is mostly no matter of its keys.
    if (step.action === 'GiveUp') link.over = true;
    else if (!actions.includes(step.action)) unknown(step);
    if (link.over) return;
    const n = (link.counts.get(step.action) ?? 0) + 1;
    link.counts.set(step.action, n);
    const name = `${step.of} ${n}`;
    const done = rounds(name);
    done.add(step.action);
    const has = (action: string) => (done.has(action) ? 1 : 0);
    const ids = [1 + has('StartRekey') - has('ExpireAtInitiator'), 1 + has('Agree') - has('ExpireAtResponder')];
    of('rekey', name).see(`sends ${has('TakeAtInitiator')},${has('TakeAtResponder')} receives under ${ids} ids`);
  };
}

/** What both ends call a circuit, by node and number. */
function circuitNames(steps: readonly NodeStep[]): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const { spec, node, of, as } of steps)
    if (spec === 'Circuit' && as !== undefined) names.set(`${node} ${of}`, as);
  return names;
}

function circuits(of: Of): (step: NodeStep) => void {
  const names = new Map<string, string>();
  const ends = table(() => ({ client: 'idle', exit: 'none' }));
  const client = new Map([
    ['Build', 'building'],
    ['ClientTakes', 'ready'],
    ['ClientEnds', 'ended'],
  ]);
  const exit = new Map([
    ['ExitTakesSetup', 'open'],
    ['ExitEnds', 'ended'],
  ]);
  return (step) => {
    const here = `${step.node} ${step.of}`;
    if (step.as !== undefined) names.set(here, step.as);
    const name = names.get(here);
    if (name === undefined) throw new Deviation(`${step.action} of a circuit that nobody has built`);
    const circuit = ends(name);
    if (client.has(step.action)) circuit.client = client.get(step.action)!;
    else if (exit.has(step.action)) circuit.exit = exit.get(step.action)!;
    else unknown(step);
    of('circuit', name).see(`client ${circuit.client}, exit ${circuit.exit}`);
  };
}

/** Circuits of a session over its whole life in its table's instance (tables.ts). */
const SESSION_CIRCUITS = 3;

/** Sessions whose first circuit came as far as the last hop; they are named by it. */
function sessions(of: Of, names: ReadonlyMap<string, string>, steps: readonly NodeStep[]): (step: NodeStep) => void {
  const nameOf = ({ node, of: circuit }: NodeStep) => names.get(`${node} ${circuit}`);
  const begun = new Set(steps.filter(({ spec, action }) => spec === 'Session' && action === 'Begin').map(nameOf));
  const ends = table(() => ({ client: 'open', server: 'open', count: 1, total: 1 }));
  return (step) => {
    const name = nameOf(step);
    if (name === undefined || !begun.has(name)) return;
    const session = ends(name);
    const { action, count = 0 } = step;
    if (action === 'Attach') session.total++;
    // The module's circuits are used once, and its table has so many: of a session that gets more, it says nothing any longer.
    if (session.total > SESSION_CIRCUITS) return;
    if (action === 'Done') session.client = 'done';
    else if (action === 'GiveUp') session.client = 'failed';
    else if (action === 'End') Object.assign(session, { server: 'ended', count: 0 });
    else if (action === 'Attach' || action === 'LastHopNotices') {
      Object.assign(session, { server: count > 0 ? 'open' : 'waiting', count });
    } else if (action !== 'Begin') unknown(step);
    of('session', name).see(`client ${session.client}, last hop ${session.server}, ${session.count} circuits`);
  };
}

function batches(of: Of): (step: NodeStep) => void {
  const ours = table(() => ({ phase: 'open', out: false }));
  const phases = new Map([
    ['Close', 'closed'],
    ['Compute', 'delayed'],
    ['Prove', 'told'],
  ]);
  /** Cells given to a neighbour and not yet decided: their batch, once there is a receipt. */
  const given = new Map<string, { readonly link: string; batch: number | undefined; evidence: string }>();
  const got = new Map<string, 'got' | 'ahead'>();
  const seeGiven = (name: string, now: string) => of('batch-given', name).see(`cell ${now}`);
  const seeGot = (name: string, now: string) => of('batch-got', name).see(`cell ${now}`);
  return (step) => {
    const { node, action, count } = step;
    const name = `${node} ${step.of}`;
    if (phases.has(action) || action === 'Send') {
      const batch = ours(name);
      if (action === 'Send') batch.out = true;
      else batch.phase = phases.get(action)!;
      of('batch', name).see(`batch ${batch.phase}, ${batch.out ? 'cells are out' : 'no cell is out'}`);
      return;
    }
    const link = name.slice(0, name.lastIndexOf(' '));
    switch (action) {
      case 'Give':
        given.set(name, { link, batch: undefined, evidence: '' });
        return seeGiven(name, 'given');
      case 'TakeReceipt':
        if (given.has(name)) given.get(name)!.batch = count;
        return seeGiven(name, 'receipted');
      case 'ProvedIn':
      case 'Lost':
      case 'Withheld': {
        const end = { ProvedIn: 'proved', Lost: 'lost', Withheld: 'withheld' }[action];
        seeGiven(name, `${end}${given.get(name)?.evidence ?? ''}`);
        given.delete(name);
        return;
      }
      case 'JudgeProofU':
        // What a neighbour finds in a proof is about all cells that it has given into that batch.
        for (const [cell, about] of given) {
          if (about.link !== name || about.batch !== count) continue;
          about.evidence = `, evidence of ${step.as}`;
          seeGiven(cell, `receipted${about.evidence}`);
        }
        return;
      case 'JudgeProofW':
      case 'Compare':
      case 'HearEvidence':
        return;
      case 'Take':
        seeGot(name, got.get(name) === 'ahead' ? 'proved' : 'got');
        got.set(name, 'got');
        return;
      case 'ProvedOut':
        seeGot(name, got.has(name) ? 'proved' : 'ahead');
        if (!got.has(name)) got.set(name, 'ahead');
        return;
      case 'Unproved':
        return seeGot(name, 'unproved');
      default:
        return unknown(step);
    }
  };
}
