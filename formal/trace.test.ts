/**
 * The code does what the specifications allow: what real links, engines and state machines do on a bad wire is followed
 * through the tables that TLC made of the modules; code with a fault put in does not get through.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { CircuitEnd } from '@nyx/core/engine/contract.ts';
import { Engine } from '@nyx/core/engine/engine.ts';
import type { LinkEnd } from '@nyx/core/link/contract.ts';
import type { Link } from '@nyx/core/link/link.ts';
import * as wires from '@nyx/core/link/virtual-wire.ts';
import { testMix } from '@nyx/core/mix/batch-testing.ts';
import type { BatchJob } from '@nyx/core/mix/batch-work.ts';
import { SessionError } from '@nyx/core/stream/contract.ts';
import type { Session } from '@nyx/core/stream/session.ts';
import { circuitMachine } from '@nyx/daemon/actors/circuit.ts';
import { ConfigReloader } from '@nyx/daemon/actors/config-reloader.ts';
import { linkMachine } from '@nyx/daemon/actors/link.ts';
import { PumpPool } from '@nyx/daemon/actors/pump-pool.ts';
import { sessionMachine } from '@nyx/daemon/actors/session.ts';
import { streamMachine } from '@nyx/daemon/actors/stream.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { LiveTuning } from '@nyx/daemon/pump/live-tuning.ts';
import { type Lie, runBatches, SimBatches, settle, silent } from '@nyx/test/sim/batch-host.ts';
import { type NodeOptions, VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';
import { followReloads, type ReloadCode } from './reload-run.ts';
import { followSteps, type NodeStep } from './steps.ts';
import { tableHash, tableSpecs } from './tables.ts';
import { Deviation, Follower, readTable } from './trace.ts';

const suite = createNativeSuite();
const root = join(import.meta.dirname, '..');

type Wires = typeof wires;

interface LinkRun {
  readonly follower: Follower;
  /** Rekeys that were followed from beginning to end. */
  readonly rounds: number;
}

test('the tables are of the modules as they are', () => {
  for (const spec of tableSpecs) {
    assert.equal(readTable(spec.name).sha256, tableHash(spec), `${spec.name}: npm run formal -- --tables`);
  }
});

/** One handshake on a bad wire that goes dead after some datagrams, followed to its end. */
function followHandshake({ VirtualNode, VirtualWire }: Wires, seed: number): Follower {
  const follower = new Follower(readTable('handshake'));
  let initiator = 'idle';
  let responder = 'none';
  const see = () => follower.see(`${initiator}/${responder}`);
  class Node extends VirtualNode {
    override onUp(link: Link): void {
      super.onUp(link);
      if (link.initiator) initiator = 'up';
      else responder = 'up';
      see();
    }
    override onIdsChanged(link: Link, added: readonly number[], removed: readonly number[]): void {
      super.onIdsChanged(link, added, removed);
      if (!link.initiator && added.length > 0 && responder === 'none') responder = 'unproved';
      see();
    }
    override onClosed(link: Link, reason: LinkEnd): void {
      super.onClosed(link, reason);
      // What ends a link that was up is no matter of the handshake.
      if (link.initiator && initiator === 'waiting') initiator = 'failed';
      else if (!link.initiator && responder === 'unproved') responder = 'gone';
      see();
    }
  }
  const wire = new VirtualWire({ seed, jitterMs: 40, loss: 0.3, duplicates: 0.3, corruption: 0.05 });
  let left = 1 + (seed % 23);
  wire.observe = () => left-- > 0;
  const a = new Node(wire, suite, 'a');
  const b = new Node(wire, suite, 'b', { underLoad: () => seed % 3 === 0 });
  a.connect(b);
  initiator = 'waiting';
  see();
  wire.run(9000);
  return follower;
}

test('handshakes on a wire that loses, doubles, reorders, damages and dies', () => {
  const ends = new Set<string>();
  for (let seed = 1; seed <= 60; seed++) ends.add(followHandshake(wires, seed).seen.at(-1)!);
  for (const end of ['failed/none', 'up/up']) assert.ok(ends.has(end), `${end} was among ${[...ends].join(', ')}`);
  assert.ok(ends.size >= 4, `endings: ${[...ends].join(', ')}`);
});

/** A link that renews its keys every 30 s for some minutes; `dies` = the wire is cut in the middle of a rekey. */
function followRekeys({ VirtualNode, VirtualWire }: Wires, seed: number, dies: boolean): LinkRun {
  const table = readTable('rekey');
  const wire = new VirtualWire({ seed, jitterMs: 30, loss: 0.15, duplicates: 0.2 });
  let follower: Follower | undefined;
  let link: Link | undefined;
  let far: Link | undefined;
  let sends = [0, 0];
  let rounds = 0;
  let dead = false;
  const see = () => {
    if (follower === undefined || dead) return;
    dead = link!.state === 'closed' || far!.state === 'closed';
    if (dead) return;
    const seen = `sends ${sends} receives under ${link!.localIds.length},${far!.localIds.length} ids`;
    follower.see(seen);
    if (dies && seen.startsWith('sends 0,0 receives under 2,2')) wire.loss = 1;
    if (seen !== 'sends 1,1 receives under 1,1 ids') return;
    rounds++;
    sends = [0, 0];
    follower = new Follower(table);
  };
  class Node extends VirtualNode {
    override onRekeyed(): void {
      super.onRekeyed();
      sends[this === a ? 0 : 1]!++;
      see();
    }
    override onIdsChanged(changed: Link, added: readonly number[], removed: readonly number[]): void {
      super.onIdsChanged(changed, added, removed);
      see();
    }
  }
  const options = { link: { rekeyMs: 30_000 } };
  const a: wires.VirtualNode = new Node(wire, suite, 'a', options);
  const b = new Node(wire, suite, 'b', options);
  link = a.connect(b);
  assert.ok(
    wire.run(5000, () => a.up.length + b.up.length === 2),
    `seed ${seed}`,
  );
  far = b.up[0]!;
  follower = new Follower(table);
  wire.run(200_000, () => dead);
  if (dead && dies) follower.see(`${follower.seen.at(-1)} dead`);
  return { follower, rounds };
}

test('rekeys, and links that die while they rekey', () => {
  for (let seed = 1; seed <= 6; seed++) {
    assert.ok(followRekeys(wires, seed, false).rounds >= 4, `seed ${seed}`);
    const { follower } = followRekeys(wires, seed, true);
    assert.match(follower.seen.at(-1)!, /^sends 0,0 receives under 2,2 ids dead$/, `seed ${seed}`);
  }
});

/** One circuit in a network where something goes wrong, as its client and its last hop see it. */
function followCircuit(seed: number): Follower {
  const follower = new Follower(readTable('circuit'));
  const network = new VirtualNetwork(suite, seed, {
    latencyMs: 10,
    jitterMs: 20,
    lossRatio: seed % 4 === 0 ? 0.3 : 0.02,
    duplicateRatio: 0.1,
  });
  let client = 'idle';
  let exit = 'none';
  const see = () => follower.see(`client ${client}, exit ${exit}`);
  const user = network.add('user', {
    relay: false,
    host: {
      onCircuit: ({ kind }) => {
        client = kind;
        see();
      },
    },
  });
  const refuses = seed % 7 === 0;
  const path = ['r1', 'r2', 'r3'].map((name, i) =>
    network.add(name, {
      exit: i === 2 && !refuses,
      host:
        i === 2
          ? {
              onIncomingSession: () => {
                exit = 'open';
                see();
                return { onClose() {} };
              },
              onIncomingSessionEnd: () => {
                exit = 'ended';
                see();
              },
            }
          : {},
    }),
  );
  const { circuit } = user.engine.buildCircuit(
    { hops: path.map(({ contact }) => contact), class: 'fast', delayMeanUs: 0, expiry: 2_000_000_000 },
    { onClose() {} },
    network.nowMs,
  );
  client = 'building';
  see();
  const untilMs = network.nowMs + (seed % 5) * 60;
  network.run(untilMs);
  if (seed % 3 === 0) user.engine.closeCircuit(circuit, CircuitEnd.requested, network.nowMs);
  if (seed % 3 === 1) path[seed % 3]!.down = true;
  if (seed % 3 === 2) network.cut = (from, to) => from === path[1] && to === path[2];
  network.run(network.nowMs + 400_000, () => client === 'ended' && exit !== 'open');
  assert.equal(client, 'ended', `seed ${seed}`);
  assert.notEqual(exit, 'open', `seed ${seed}: the last hop was left with a dead circuit`);
  return follower;
}

test('circuits that are closed, refused, cut and left by dead relays', () => {
  const courses = new Set<string>();
  for (let seed = 1; seed <= 40; seed++) courses.add(followCircuit(seed).seen.join(' → '));
  assert.ok(courses.size >= 5, [...courses].join('\n'));
});

/**
 * A session on up to three circuits whose relays die, as its client and its last hop see it. The client attaches another
 * circuit while it has one, as soon as it has none, or long after the last hop has stopped waiting.
 */
function followSession(seed: number): Follower {
  const follower = new Follower(readTable('session'));
  const network = new VirtualNetwork(suite, seed, { latencyMs: 10, jitterMs: 2, lossRatio: 0, duplicateRatio: 0 });
  let client = 'open';
  let served: Session | undefined;
  let isServed = true;
  const see = () => {
    if (served === undefined) return;
    const last = isServed ? (served.pathCount > 0 ? 'open' : 'waiting') : 'ended';
    follower.see(`client ${client}, last hop ${last}, ${isServed ? served.pathCount : 0} circuits`);
  };
  const user = network.add('user', { relay: false });
  const exit = network.add('exit', {
    exit: true,
    serve: (session) => {
      served ??= session as Session;
      return { onStream: (stream) => stream.connected(4, '192.0.2.1', 1), onClose() {} };
    },
    host: {
      onIncomingSessionEnd: (session) => {
        if (session !== served) return;
        isServed = false;
        see();
      },
    },
  });
  const ways = [1, 2, 3].map((n) => [network.add(`guard ${n}`), network.add(`middle ${n}`)] as const);
  let built = 0;
  const circuit = () => ({
    hops: [...ways[built++]!, exit].map(({ contact }) => contact),
    class: 'fast' as const,
    delayMeanUs: 0,
    expiry: 2_000_000_000,
  });
  const { session } = user.engine.buildCircuit(
    circuit(),
    {
      onDetached() {},
      onClose: (code) => {
        if (client === 'open') client = code === SessionError.noError ? 'done' : 'failed';
        see();
      },
    },
    network.nowMs,
  );
  const stream = session.openStream({ kind: 'tcp', host: 'a.test', port: 1 })!;
  stream.write(Uint8Array.of(1));
  const pass = (ms: number) =>
    network.run(network.nowMs + ms, () => {
      see();
      return false;
    });
  const attach = () => {
    if (built < 3 && client === 'open') user.engine.attachCircuit(session, circuit(), network.nowMs);
  };
  pass(1000);
  if (seed % 2 === 0) attach();
  pass(1000 + (seed % 5) * 100);
  ways[0]![seed % 2]!.down = true;
  if (seed % 3 === 0) ways[1]![1]!.down = true;
  // What has nothing to say does not find out.
  stream.write(Uint8Array.of(2));
  // Before the last hop has noticed, while it waits, and when it has given up.
  pass([6000, 60_000, 6000, 20_000][seed % 4]!);
  attach();
  pass(8000);
  stream.write(Uint8Array.of(3));
  pass(500);
  if (client === 'open' && seed % 5 !== 0) {
    session.close(SessionError.noError, 'done');
    client = 'done';
    see();
  }
  for (const node of seed % 5 === 0 ? ways.flat() : []) node.down = true;
  pass(200_000);
  assert.equal(isServed, false, `seed ${seed}: the last hop kept a session whose circuits are gone`);
  return follower;
}

test('sessions whose circuits die, that are brought onto others in time or too late, and that end', () => {
  const courses = new Set<string>();
  for (let seed = 1; seed <= 20; seed++) courses.add(followSession(seed).seen.join(' → '));
  const all = [...courses].join('\n');

  for (const sight of [
    'last hop waiting, 0 circuits → client open, last hop open, 1',
    'open, 2 circuits',
    'client failed',
  ]) {
    assert.ok(all.includes(sight), `nobody saw "${sight}" in\n${all}`);
  }
});

interface BatchRun {
  readonly seed: number;
  readonly lie?: Lie;
  readonly lossRatio?: number;
  /** The class of the relays' engines. */
  readonly engine?: typeof Engine;
}

/** All steps of a network in which a client sends through three mixes of class cmix, the second of which may lie. */
function batchSteps({ seed, lie, lossRatio = 0, engine = Engine }: BatchRun): NodeStep[] {
  const network = new VirtualNetwork(suite, seed, { latencyMs: 1, jitterMs: 0, lossRatio, duplicateRatio: 0 });
  const steps: NodeStep[] = [];
  const hosts: SimBatches[] = [];
  const add = (name: string, options: NodeOptions) => {
    const mix = testMix(suite, `${name} ${seed}`);
    const cmix = new SimBatches(network, mix);
    hosts.push(cmix);
    const node = network.add(name, {
      ...options,
      nodeId: mix.nodeId,
      engine: (o, deps) => new engine(o, deps),
      host: { cmix, onStep: (step) => steps.push({ ...step, node: name, at: network.nowMs }) },
      serve: () => ({ onStream: (stream) => stream.connected(4, '192.0.2.1', 1), onClose() {} }),
    });
    cmix.node = node;
    return node;
  };
  const engineOptions = { cmix: { cells: 6, maxWaitMs: 50 } };
  const client = add('client', { relay: false });
  const mixes = ['guard', 'middle', 'exit'].map((name) => add(name, { engineOptions, exit: name === 'exit' }));
  hosts[2]!.lie = lie;
  const { session } = client.engine.buildCircuit(
    {
      hops: mixes.map(({ contact }) => contact),
      class: 'cmix',
      delayMeanUs: 0,
      batchMs: 200,
      expiry: network.unixSeconds + 3600,
    },
    { onClose() {} },
    network.nowMs,
  );
  const stream = session.openStream({ kind: 'tcp', host: 'a.test', port: 1 })!;
  stream.write(new Uint8Array(9000));
  runBatches(network, hosts, 3000);
  session.close(SessionError.noError, 'done');
  settle(network, hosts);
  return steps;
}

const coursesOf = (steps: readonly NodeStep[], table: string): string =>
  [...(followSteps(steps).get(table)?.courses ?? [])].join('\n');

test('batches of class cmix, honest and on links that lose', () => {
  const honest = batchSteps({ seed: 1 });
  const followed = followSteps(honest);
  assert.equal(
    coursesOf(honest, 'batch-given'),
    'cell no → cell given → cell receipted → cell proved',
    'an honest mix proves all it gets',
  );
  for (const table of ['handshake', 'circuit', 'session', 'batch', 'batch-given', 'batch-got']) {
    assert.ok((followed.get(table)?.count ?? 0) > 0, `nothing of ${table} was followed`);
  }
  assert.match(coursesOf(batchSteps({ seed: 2, lossRatio: 0.12 }), 'batch-given'), /given → cell lost/);
});

test('a mix of class cmix that lies: what its neighbours see is what the specification says they do', () => {
  const without = (job: BatchJob, side: 'inputs' | 'outputs'): BatchJob => {
    const at = job[side].findIndex(({ tag, digests }) => tag.length > 0 && digests.length > 1);
    return {
      ...job,
      [side]: job[side].map((share, i) => (i === at ? { ...share, digests: share.digests.slice(1) } : share)),
    };
  };
  const lies: readonly (readonly [string, RegExp, Lie])[] = [
    ['batch-given', /receipted → cell withheld/, silent],
    ['batch-given', /given → cell lost/, (job, honest) => honest(without(job, 'inputs'))],
    [
      'batch-given',
      /receipted, evidence of receipt → cell withheld, evidence of receipt/,
      (job, honest) => [honest(job)[0]!, ...honest(without(job, 'inputs')).slice(1)],
    ],
    ['batch-got', /cell got → cell unproved/, (job, honest) => honest(without(job, 'outputs'))],
  ];
  lies.forEach(([table, expected, lie], i) => {
    assert.match(coursesOf(batchSteps({ seed: 10 + i, lie }), table), expected);
  });
});

const reloadCode: ReloadCode = { ConfigReloader, PumpPool, LiveTuning };

test('reloads one after the other, refused ones among them, while workers crash and start', async () => {
  const sights = new Set<string>();
  for (let seed = 1; seed <= 60; seed++)
    for (const seen of (await followReloads(reloadCode, seed)).seen) sights.add(seen);
  for (const sight of [
    'main 1 idle; up 1,1; up 1,1',
    'main 3 spreading; up 1,1; up 1,1',
    'main 3 spreading; up 1,1; up 3,3',
    'main 3 idle; up 1,1; up 3,3',
    'main 3 idle; up 3,3; up 3,3',
    'main 3 spreading; down; up 1,1',
    'main 3 checking; up 3,3; up 3,3',
  ]) {
    assert.ok(sights.has(sight), `nobody saw "${sight}" among\n${[...sights].join('\n')}`);
  }
});

/** One module of the same code with one fault put in, in a folder of its own. */
async function faulty<T>(
  context: TestContext,
  room: 'core' | 'daemon',
  file: string,
  find: string,
  put: string,
  module = file,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-faulty-'));
  context.after(() => rmSync(folder, { recursive: true }));
  cpSync(join(root, room), join(folder, room), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const path = join(folder, room, file);
  const parts = readFileSync(path, 'utf8').split(find);
  assert.equal(parts.length, 2, `"${find}" is in ${file} once`);
  writeFileSync(path, parts.join(put));
  return (await import(pathToFileURL(join(folder, room, module)).href)) as T;
}

const faultyWires = (context: TestContext, file: string, find: string, put: string): Promise<Wires> =>
  faulty(context, 'core', file, find, put, 'link/virtual-wire.ts');

/** Engines of a core with a fault in it. */
const faultyEngine = async (context: TestContext, file: string, find: string, put: string): Promise<typeof Engine> =>
  (await faulty<{ readonly Engine: typeof Engine }>(context, 'core', file, find, put, 'engine/engine.ts')).Engine;

/** The code of reloads with `fault` in it does not get through. */
async function isFoundOut(fault: Partial<ReloadCode>, how: RegExp): Promise<void> {
  await assert.rejects(async () => {
    for (let seed = 1; seed <= 60; seed++) await followReloads({ ...reloadCode, ...fault }, seed);
  }, how);
}

test('a worker of which a part keeps the old configuration for a turn is found out', async (context) => {
  const fault = await faulty<Pick<ReloadCode, 'LiveTuning'>>(
    context,
    'daemon',
    'pump/live-tuning.ts',
    'for (const part of this.#parts) part(tuning);',
    'this.#parts.forEach((part, turn) => turn === 0 ? part(tuning) : setImmediate(part, tuning));',
  );
  await isFoundOut(fault, /Reload has no step to ".*up 1,3|Reload has no step to ".*up 3,1/);
});

test('a reload that changes something before all is found sound is found out', async (context) => {
  const fault = await faulty<Pick<ReloadCode, 'ConfigReloader'>>(
    context,
    'daemon',
    'actors/config-reloader.ts',
    '    const prepared = this.#prepare(plan);',
    '    const prepared = this.#prepare(plan);\n    this.#config = plan.config;',
  );
  await isFoundOut(fault, /Reload has no step to "main 2/);
});

test('a pool that forgets who was starting while a reload was accepted is found out', async (context) => {
  const fault = await faulty<Pick<ReloadCode, 'PumpPool'>>(
    context,
    'daemon',
    'actors/pump-pool.ts',
    'ready.generation < this.#tuning.generation',
    'ready.generation < 0',
  );
  await isFoundOut(fault, /a worker goes by 1,1, the node by 3/);
});

test('a mix that lets cells go before their delay is found out', async (context) => {
  const find = "host.onStep?.({ spec: 'MixBatch', action: 'Close', of: closed.batch });\n";
  const engine = await faultyEngine(
    context,
    'engine/engine-batches.ts',
    find,
    `${find}    this.#release(closed.batch, nowMs);\n`,
  );
  assert.throws(() => followSteps(batchSteps({ seed: 3, engine })), /no step to "batch closed, cells are out"/);
});

test('a neighbour that takes a broken receipt for a lost cell is found out', async (context) => {
  const engine = await faultyEngine(context, 'engine/batch-ledger.ts', '      cell.receipted = true;\n', '');
  assert.throws(() => followSteps(batchSteps({ seed: 4, lie: silent, engine })), /no step to "cell lost"/);
});

test('a responder that takes an initiator at its word is found out', async (context) => {
  const wrong = await faultyWires(context, 'link/link.ts', 'if (!this.initiator) return;', '');
  assert.throws(() => {
    for (let seed = 1; seed <= 10; seed++) followHandshake(wrong, seed);
  }, Deviation);
});

test('an initiator that drops the old keys before the responder has switched is found out', async (context) => {
  const wrong = await faultyWires(context, 'link/link.ts', 'this.#nowMs + maxSwitchMs', 'this.#nowMs');
  assert.throws(() => {
    for (let seed = 1; seed <= 6; seed++) followRekeys(wrong, seed, false);
  }, Deviation);
});

test('a responder that switches as soon as it has answered is found out', async (context) => {
  const wrong = await faultyWires(
    context,
    'link/link.ts',
    '    this.#addId(localId);\n  }\n\n  #handleRekeyResponse',
    '    this.#addId(localId);\n    this.#promote(this.#next, this.#nowMs);\n  }\n\n  #handleRekeyResponse',
  );
  assert.throws(() => {
    for (let seed = 1; seed <= 6; seed++) followRekeys(wrong, seed, false);
  }, Deviation);
});

interface MachineConfig {
  readonly on?: Readonly<Record<string, unknown>>;
  readonly states?: Readonly<
    Record<string, { readonly on?: Readonly<Record<string, unknown>>; readonly type?: string }>
  >;
}

/** `from > to` for every change of state that a machine's configuration has. */
function transitionsOf({ on = {}, states = {} }: MachineConfig): string[] {
  const found = new Set<string>();
  for (const [from, state] of Object.entries(states)) {
    if (state.type === 'final') continue;
    for (const target of [...Object.values(on), ...Object.values(state.on ?? {})]) {
      const to = String(target).replace(/^\./, '');
      if (to !== from) found.add(`${from} > ${to}`);
    }
  }
  return [...found].sort();
}

for (const [name, machine] of [
  ['link', linkMachine],
  ['circuit', circuitMachine],
  ['session', sessionMachine],
  ['stream', streamMachine],
] as const) {
  test(`the ${name} machine has the states and transitions of the modules, and no others`, () => {
    const allowed = tableSpecs
      .filter(({ lifecycle }) => lifecycle?.machine === name)
      .flatMap((spec) => readTable(spec.name).lifecycle!.transitions);
    assert.deepEqual(transitionsOf(machine.config as MachineConfig), [...new Set(allowed)].sort());
  });
}
