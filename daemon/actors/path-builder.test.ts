import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { nodeIdHex, toContact } from '@nyx/core/directory/descriptor.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import { feedbackLimits } from '@nyx/core/path/feedback.ts';
import { type TestNode, testId, testView } from '@nyx/core/path/testing.ts';
import { uniform } from '@nyx/core/path/weighted-choice.ts';
import { type ConfigInput, defaultConfig } from '../config/load.ts';
import type { HeldView } from '../directory/directory-client.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { systemTimers } from '../supervision/timers.ts';
import type { NodeContext } from './context.ts';
import { EventBus, type NodeEvent } from './event-bus.ts';
import { PathBuilder, type PathWishes } from './path-builder.ts';
import type { WorkerStats } from './pump-pool.ts';

const HOUR = 3600;
const START = 1_800_000_000;
const suite = createNativeSuite();
const constraints = { hops: 3, class: 'fast', needExit: undefined } as const;
const indexOf = (id: string) => Number.parseInt(id.slice(0, 8), 16);

/** A view whose figures are the authorities'; what descriptors claim is `nodes[i].bandwidth`. */
function held(nodes: readonly TestNode[], validAfter = START, weights = nodes.map(() => 1000)): HeldView {
  const view = testView(nodes, validAfter);
  const statuses = weights.map((weight) => ({ weight, flags: NodeFlag.guard | NodeFlag.measured }));
  const byId = new Map(view.nodes.map((node) => [nodeIdHex(node.nodeId), node]));
  const signed = { ...view.view, freshUntil: validAfter + HOUR, validUntil: validAfter + 2 * HOUR };
  return { verified: { ...view, view: signed, statuses, byId } } as unknown as HeldView;
}

class Bench {
  now = START + 10;
  view: HeldView | undefined;
  readonly files = new Map<string, Buffer>();
  readonly events: NodeEvent[] = [];
  readonly logs: string[] = [];
  readonly #seed: string;
  readonly #config: ConfigInput;
  writes = 0;
  builder: PathBuilder;
  #circuit = 0;

  constructor(seed: string, config: ConfigInput = {}) {
    this.#seed = seed;
    this.#config = config;
    this.builder = this.#start();
  }

  restart(): void {
    this.builder = this.#start();
    if (this.view !== undefined) this.builder.update(this.view);
  }

  take(view: HeldView): void {
    this.view = view;
    this.builder.update(view);
  }

  choose(wishes: PathWishes = {}): string[] {
    return this.builder.build(constraints, wishes)[0]!.hops.map(({ nodeId }) => nodeId);
  }

  /** A circuit over `path`: built, or failed with what `hop` says. */
  circuit(path: readonly string[], outcome: { reason: string; hop?: number } | 'ready'): number {
    const circuit = ++this.#circuit;
    if (outcome === 'ready') this.builder.observe(0, { type: 'circuit', kind: 'ready', circuit, path, setupMs: 3 });
    else this.builder.observe(0, { type: 'circuit', kind: 'ended', circuit, path, ...outcome });
    return circuit;
  }

  #start(): PathBuilder {
    const bus = new EventBus(() => this.now * 1000);
    bus.subscribe((event) => void this.events.push(event));
    const context: NodeContext = {
      config: defaultConfig({
        directory: { sources: ['x'], authorities: { keys: ['ab'.repeat(32)] } },
        // Whatever this machine has.
        addressFamilies: ['ipv4', 'ipv6'],
        ...this.#config,
      }),
      log: (level, message) => void this.logs.push(`${level} ${message}`),
      timers: systemTimers,
      unixMs: () => this.now * 1000,
      suite,
      random: createSeededRandom(this.#seed),
      events: bus,
    };
    const directory = {
      view: undefined as HeldView | undefined,
      contactOf: (id: string) => {
        const node = this.view?.verified.byId.get(id);
        return node && toContact(node);
      },
    };
    Object.defineProperty(directory, 'view', { get: () => this.view });
    const files = {
      read: (name: string) => this.files.get(name),
      write: (name: string, bytes: Uint8Array) => {
        this.writes++;
        this.files.set(name, Buffer.from(bytes));
      },
    };
    return new PathBuilder(context, directory, { get: () => undefined }, files, testId(4_000_000), undefined);
  }
}

const exits = (count: number, more: TestNode = {}): TestNode[] =>
  Array.from({ length: count }, () => ({ exitPolicy: ['accept *:443'], ...more }));

describe('path builder', () => {
  test('a dial goes on when the one guard that is not backing off is the one exit (seed "alone")', () => {
    const bench = new Bench('alone');
    bench.take(held([...exits(1), {}, {}, {}, {}]));
    const others = [1, 2, 3, 4].map(testId);
    for (const guard of others)
      bench.circuit([guard, testId(0), others.find((id) => id !== guard)!], { reason: 'timeout' });
    const [first, , last] = bench.choose();
    assert.equal(last, testId(0));
    assert.ok(others.includes(first!), 'through a guard that failed a moment ago, for there is no other');
  });

  test('paths of class cmix go over nodes that claim to take part in it, and over no others (seed "batches")', () => {
    const bench = new Bench('batches');
    bench.take(held(exits(40).map((node, i) => ({ ...node, compliance: i % 2 === 0 ? 'full' : 'plus' }))));
    const used = (wanted: 'fast' | 'cmix') =>
      Array.from({ length: 40 }, () => bench.builder.select({ ...constraints, class: wanted })).flat();
    const claims = (nodeId: Uint8Array) => bench.view!.verified.byId.get(nodeIdHex(nodeId))!.compliance;
    const batched = new Set(used('cmix').map(({ nodeId }) => claims(nodeId)));
    assert.deepEqual([...batched], ['full']);
    assert.ok(used('fast').some(({ nodeId }) => claims(nodeId) === 'plus'));
    // Nobody is left: better no path than one that its first hop refuses.
    bench.take(held(exits(10, { compliance: 'plus' })));
    assert.throws(() => bench.builder.select({ ...constraints, class: 'cmix' }), { code: 'NO_PATH' });
    assert.equal(bench.builder.select(constraints).length, 3);
  });

  test('nodes in doubt come back as far as they must, the least doubtful first, and no way that was tried (seed "doubt")', () => {
    const bench = new Bench('doubt');
    bench.take(held([...exits(3), {}, {}, {}, {}, {}]));
    const select = (avoid: readonly string[], tried: readonly (readonly string[])[] = []) =>
      bench.builder.select({ ...constraints, avoid, tried }).map(({ nodeId }) => nodeIdHex(nodeId));
    const ids = (...indexes: number[]) => indexes.map(testId);
    for (let i = 0; i < 40; i++) {
      assert.ok(
        select(ids(0, 1, 3, 4)).every((id) => !ids(0, 1, 3, 4).includes(id)),
        'there are enough others',
      );
      assert.equal(select(ids(4, 1, 0, 2)).at(-1), testId(1), 'all exits are in doubt: that with the least against it');
      // One middle and one exit have to come back; over the first two of each, one after the other, nothing came.
      const avoid = ids(4, 1, 5, 0, 6, 7, 2, 3);
      const [, middle, exit] = select(avoid, [ids(4, 1)]);
      assert.ok([middle, exit].includes(testId(5)) || exit === testId(0), `${middle} ${exit}`);
      assert.ok(!(middle === testId(4) && exit === testId(1)));
    }
    // Every way has been tried: one of them again rather than none.
    assert.equal(
      select(
        [],
        Array.from({ length: 8 }, (_, i) => ids(i)),
      ).length,
      3,
    );
  });

  test('choices come from the verified view alone, but for bounded feedback (seed "poison")', () => {
    const nodes = exits(100);
    const clean = new Bench('poison');
    clean.take(held(nodes));
    const poisoned = new Bench('poison');
    // The attacker's nodes 0…9 claim whatever they like, …
    poisoned.take(
      held(nodes.map((node, i) => (i < 10 ? { ...node, bandwidth: 2 ** 40, family: [] } : { ...node, bandwidth: 1 }))),
    );
    assert.deepEqual(poisoned.builder.guards, clean.builder.guards, 'claims change no guard');
    for (let i = 0; i < 50; i++) assert.deepEqual(poisoned.choose(), clean.choose(), 'claims change no path');

    // … peers report links and circuits over nodes that nobody signed for, with any figures, …
    const foreign = testId(900_000);
    const guard = poisoned.builder.guards[0]!;
    const links = [foreign, guard, ...Array.from({ length: 10 }, (_, i) => testId(i))].map((nodeId) => ({
      nodeId,
      initiator: true,
      rttMs: 0.001,
    }));
    const reported = [
      { path: [foreign, foreign, foreign], rttMs: 0 },
      { path: [guard, testId(1), testId(2)], rttMs: Number.NaN },
      { path: [guard, testId(3), testId(4)], rttMs: -5 },
      { path: [foreign], rttMs: 1e300 },
    ];
    const clientCircuits = reported.map(({ path, rttMs }) => ({
      circuit: poisoned.circuit(path, 'ready'),
      path,
      class: 'fast',
      rttMs,
    }));
    for (const { path } of reported) clean.circuit(path, 'ready');
    const stats = { links, clientCircuits };
    poisoned.builder.measured([{ worker: 0, stats } as unknown as WorkerStats]);
    for (let i = 0; i < 2000; i++) poisoned.builder.linkChanged(i, foreign);
    for (let i = 0; i < 50; i++) assert.deepEqual(poisoned.choose(), clean.choose(), 'reports change no path');

    // … and every circuit over nobody of theirs fails, with honest nodes to blame.
    const random = createSeededRandom('attack');
    for (let i = 0; i < 1500; i++) {
      const path = poisoned.choose();
      const friendly = path.slice(1).some((id) => indexOf(id) < 10);
      poisoned.circuit(path, friendly ? 'ready' : { reason: 'unreachable', hop: uniform(random) < 0.5 ? 0 : 1 });
      poisoned.circuit([foreign, foreign, foreign], { reason: 'timeout' });
    }
    const share = (runs: number) => {
      let hits = 0;
      let hops = 0;
      for (let i = 0; i < runs; i++) {
        for (const id of poisoned.choose().slice(1)) {
          assert.ok(poisoned.view!.verified.byId.has(id));
          hops++;
          if (indexOf(id) < 10) hits++;
        }
      }
      return hits / hops;
    };
    const kept = (1 - feedbackLimits.maxReducedShare) * (1 - feedbackLimits.maxAvoidedShare);
    const atOnce = share(3000);
    assert.ok(atOnce < (0.1 / kept) * 1.15, `${atOnce} while nodes are left out`);
    poisoned.now += feedbackLimits.avoidSeconds + 1;
    const later = share(3000);
    assert.ok(later < (0.1 / (1 - feedbackLimits.maxReducedShare)) * 1.15, `${later} afterwards`);
  });

  test('a guard that fails every circuit not going to its friends: warned, dropped, not used again', () => {
    for (const how of [{ reason: 'unreachable', hop: 0 }, { reason: 'unreachable', hop: 1 }, { reason: 'timeout' }]) {
      const bench = new Bench(`bias ${how.reason} ${how.hop}`);
      bench.take(held(exits(80)));
      const [hostile] = bench.builder.guards as [string];
      bench.builder.linkChanged(1, hostile);
      // It has carried a circuit first, so it stays the first to be tried.
      bench.circuit([hostile, testId(70), testId(75)], 'ready');
      let tries = 0;
      for (; tries < 600 && bench.builder.guards.includes(hostile); tries++) {
        bench.now += 2;
        if (bench.now >= START + HOUR - 60) bench.now = START + 10;
        const path = bench.choose();
        const friendly = path.slice(1).some((id) => indexOf(id) % 5 === 0);
        bench.circuit(path, path[0] !== hostile || friendly ? 'ready' : how);
      }
      assert.ok(tries < 600, `${JSON.stringify(how)}: still there after ${tries}`);
      assert.ok(
        bench.events.some(({ kind, name, subject }) => kind === 'guard' && name === 'dropped' && subject === hostile),
      );
      assert.ok(bench.logs.includes('warn a guard fails too many circuits and is not used any more'));
      bench.restart();
      for (let i = 0; i < 50; i++) assert.notEqual(bench.choose()[0], hostile);
      assert.equal(bench.builder.guardInfos().find(({ nodeId }) => nodeId === hostile)!.primary, false);
    }
  });

  test('circuits that break off before they carried anything count; those that carried do not', () => {
    const bench = new Bench('use');
    bench.take(held(exits(60)));
    const [guard] = bench.builder.guards as [string];
    const countsOf = () => bench.builder.guardInfos().find(({ nodeId }) => nodeId === guard)!.bias;
    const path = bench.choose();
    const good = bench.circuit(path, 'ready');
    bench.builder.carried(good);
    bench.builder.carried(good);
    bench.builder.observe(0, { type: 'circuit', kind: 'ended', circuit: good, path, reason: 'timeout' });
    assert.deepEqual(countsOf(), { setups: 1, built: 1, used: 1, held: 1 });
    const idle = bench.circuit(path, 'ready');
    bench.builder.observe(0, { type: 'circuit', kind: 'ended', circuit: idle, path, reason: 'requested' });
    assert.deepEqual(countsOf(), { setups: 2, built: 2, used: 1, held: 1 });
    const dead = bench.circuit(path, 'ready');
    bench.builder.observe(0, { type: 'circuit', kind: 'ended', circuit: dead, path, reason: 'unreachable', hop: 0 });
    assert.deepEqual(countsOf(), { setups: 3, built: 3, used: 2, held: 1 });
    // A worker that crashed is nobody's fault, nor is a guard that is simply down.
    bench.circuit(path, 'ready');
    bench.builder.workerLost(0);
    bench.circuit(path, { reason: 'unreachable' });
    assert.deepEqual(countsOf(), { setups: 4, built: 4, used: 2, held: 1 });
    // From a view that is not fresh any more nothing is concluded.
    bench.now = START + HOUR + 1;
    bench.circuit(path, { reason: 'unreachable', hop: 1 });
    assert.deepEqual(countsOf(), { setups: 4, built: 4, used: 2, held: 1 });
  });

  test('a client that starts with a day-old view uses none of it; with the new one a path is there at once', () => {
    const bench = new Bench('old');
    bench.take(held(exits(200)));
    const guards = bench.builder.guards;
    bench.circuit(bench.choose(), 'ready');
    bench.now = START + 24 * HOUR;
    bench.restart();
    assert.throws(() => bench.choose(), /has expired and no newer one was found/);
    // After a day at 20% an hour few are left: here every tenth node, and one guard.
    const survivors = exits(220).map((node, i) => ({ node, id: testId(i) }));
    const view = held(exits(220), bench.now - 60);
    const left = survivors.filter(({ id }, i) => i >= 200 || i % 10 === 0 || id === guards[1]).map(({ id }) => id);
    const verified = view.verified;
    const keep = verified.nodes.map((node) => left.includes(nodeIdHex(node.nodeId)));
    const nodes = verified.nodes.filter((_, i) => keep[i]);
    const statuses = verified.statuses.filter((_, i) => keep[i]);
    bench.take({
      ...view,
      verified: { ...verified, nodes, statuses, byId: new Map(nodes.map((n) => [nodeIdHex(n.nodeId), n])) },
    });
    const path = bench.choose();
    assert.ok(path.every((id) => left.includes(id)));
    assert.ok(
      bench.builder.guardInfos().some(({ nodeId }) => nodeId === guards[1]),
      'the guard that stayed is kept',
    );
    assert.ok(bench.builder.guardInfos().every(({ nodeId }) => left.includes(nodeId)));
  });

  test('guards survive a restart, a damaged file is said and replaced; counts are not written for every circuit', () => {
    const bench = new Bench('files');
    bench.take(held(exits(60)));
    const guards = bench.builder.guards;
    bench.circuit(bench.choose(), 'ready');
    const before = bench.writes;
    for (let i = 0; i < 100; i++) bench.circuit(bench.choose(), 'ready');
    assert.ok(bench.writes - before <= 1, `${bench.writes - before} writes`);
    bench.restart();
    assert.deepEqual(bench.builder.guards, guards);
    bench.files.set('guards.json', Buffer.from('{"version":2,"sampled":[{}]}'));
    bench.restart();
    assert.ok(bench.logs.some((line) => line.startsWith('error the stored guards cannot be used')));
    assert.equal(bench.builder.guards.length, 3);
  });

  test('strategies and filters of the API; why each hop is there', () => {
    const bench = new Bench('api');
    bench.take(held([...exits(50, { region: 'SE' }), ...exits(50, { region: 'FI' })]));
    const seconds = new Set(Array.from({ length: 100 }, () => bench.choose({ strategy: 'service' })[1]));
    assert.ok(seconds.size <= 4);
    const [path] = bench.builder.build(
      { ...constraints, needExit: { host: 'example.org', port: 443 } },
      { includeCountries: ['FI'] },
    );
    assert.ok(path!.hops.every(({ countries }) => countries[0] === 'FI'));
    assert.deepEqual(path!.relaxed, ['country']);
    assert.match(path!.hops[0]!.reasons[0]!, /^guard: number \d+ of \d+ that can be used$/);
    assert.ok(path!.hops[2]!.reasons.includes('its exit policy takes example.org:443'));
    assert.ok(path!.hops[1]!.candidates === 50 && Math.abs(path!.hops[1]!.share - 0.02) < 1e-9);
    assert.equal(path!.contacts.length, 3);
    assert.ok(path!.entropy.pathBits > 11 && path!.entropy.positionBits[0] === 0);
    const paths = bench.builder.build(constraints, {}, 4);
    assert.equal(new Set(paths.flatMap(({ hops }) => hops.map(({ nodeId }) => nodeId))).size, 12);
    const named = bench.builder.build({ ...constraints, nodeIds: [1, 2, 3].map(testId) }, {})[0]!;
    assert.deepEqual(
      named.hops.map(({ nodeId }) => nodeId),
      [1, 2, 3].map(testId),
    );
    assert.equal(named.strategy, 'named');
    assert.throws(() => bench.builder.build(constraints, { excludeCountries: ['SE', 'FI'] }), /no/);
    assert.throws(
      () => bench.builder.build({ ...constraints, needExit: { host: 'a', port: 22 } }, {}),
      /no exit for a:22/,
    );
  });

  test('private targets are asked for only where that is allowed, whatever subnets may be', () => {
    const needExit = { host: '10.0.0.1', port: 443 };
    const view = held(exits(20));
    const careful = new Bench('careful');
    careful.take(view);
    assert.throws(() => careful.builder.build({ ...constraints, needExit }, {}), { code: 'EXIT_POLICY' });
    const allowed = new Bench('allowed', { path: { allowPrivateTargets: true } });
    allowed.take(view);
    assert.equal(allowed.builder.build({ ...constraints, needExit }, {})[0]!.hops.length, 3);
  });

  test('round-trip times make faster paths for bits that are counted', () => {
    const bench = new Bench('latency', { path: { strategy: 'latency', latencyBias: 1 } });
    bench.take(held(exits(60)));
    const baseline = bench.builder.entropy()!;
    const slow = (id: string) => indexOf(id) % 2 === 0;
    const timeOf = (path: readonly string[]) => path.slice(1).filter(slow).length;
    const links = bench.builder.guards.map((nodeId) => ({ nodeId, initiator: true, rttMs: 10 }));
    for (let i = 0; i < 400; i++) {
      const path = bench.choose({ strategy: 'bandwidth' });
      const circuit = bench.circuit(path, 'ready');
      const stats = { links, clientCircuits: [{ circuit, path, class: 'fast', rttMs: 20 + 100 * timeOf(path) }] };
      bench.builder.measured([{ worker: 0, stats } as unknown as WorkerStats]);
    }
    const slowHops = Array.from({ length: 100 }, () => timeOf(bench.choose())).reduce((a, b) => a + b);
    assert.ok(slowHops < 10, `${slowHops} slow hops in 100 paths`);
    const entropy = bench.builder.entropy()!;
    assert.ok(entropy.costBits > 1 && entropy.costBits <= entropy.maxCostBits + 0.5, `${entropy.costBits}`);
    assert.ok(Math.abs(entropy.baselineBits - baseline.baselineBits) < 1e-9);
    assert.ok(bench.builder.measuresOf(bench.builder.guards[0]!).linkMs === 10);
  });
});
