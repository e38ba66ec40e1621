import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { NodeFlag } from '../directory/node-status.ts';
import { type AddressOrigin, networkOf } from './candidates.ts';
import type { SelectConstraints } from './constraints.ts';
import { feedbackLimits, PathFeedback } from './feedback.ts';
import { GuardSet } from './guards.ts';
import { LATENCY_BIN_MS, LatencyBook } from './latency.ts';
import { entropyBits, pathEntropy } from './metrics.ts';
import { PathError } from './path-error.ts';
import { chooseDisjointPaths, choosePath, selectPath } from './select.ts';
import { testFamily, testId, testView } from './testing.ts';
import { WeightedPool } from './weighted-pool.ts';

const now = 1_800_000_000;
const web = ['accept *:443'];
const indexOf = (id: string) => Number.parseInt(id.slice(0, 8), 16);
const indices = (view: ReturnType<typeof testView>, constraints: SelectConstraints, seed: number | string = 1) =>
  choosePath(view, constraints, createSeededRandom(seed)).hops.map(({ id }) => indexOf(id));

/** Links of 20 ms to every node, and shares of (i mod 10) · 10 ms learned from three-hop paths. */
function learned(count: number): LatencyBook {
  const book = new LatencyBook();
  for (let i = 0; i < count; i++) book.noteLink(testId(i), 20);
  const share = (i: number) => (i % 10) * 10;
  for (let round = 0; round < 30; round++) {
    for (let i = 0; i < count; i++) {
      const j = (i * 7 + round * 13 + 1) % count;
      if (i === j) continue;
      book.notePath([testId((i + 3) % count), testId(i), testId(j)], 20 + share(i) + share(j));
    }
  }
  return book;
}

describe('weighted pool', () => {
  test('draws in proportion to weight, and evenly when asked to (chi-square, seed 5)', () => {
    const members = [0.5, 3, 1, 12, 7, 1].map((weight) => ({ weight }));
    const pool = new WeightedPool(members);
    const random = createSeededRandom(5);
    const counts = new Map(members.map((member) => [member, 0]));
    const even = new Map(members.map((member) => [member, 0]));
    for (let i = 0; i < 24_500; i++) {
      const member = pool.draw(random)!;
      counts.set(member, counts.get(member)! + 1);
      const other = pool.drawEvenly(random)!;
      even.set(other, even.get(other)! + 1);
    }
    const chi = members.reduce((sum, m) => sum + (counts.get(m)! - m.weight * 1000) ** 2 / (m.weight * 1000), 0);
    assert.ok(chi < 20.5, `chi-square ${chi}`); // 99.9% point for 5 degrees of freedom
    const chiEven = members.reduce((sum, m) => sum + (even.get(m)! - 24_500 / 6) ** 2 / (24_500 / 6), 0);
    assert.ok(chiEven < 20.5, `chi-square ${chiEven}`);
    assert.equal(new WeightedPool([]).draw(random), undefined);
    assert.equal(new WeightedPool([]).drawEvenly(random), undefined);
  });
});

describe('signed weights', () => {
  test('count instead of claims, and flags say who may be a guard', () => {
    const status = (weight: number, flags = 0) => ({ weight, flags });
    const view = {
      ...testView([{ bandwidth: 1 }, { bandwidth: 2 ** 40 }, { bandwidth: 7 }]),
      statuses: [status(500, NodeFlag.guard), status(300), status(100, NodeFlag.guard | NodeFlag.measured)],
    };
    const { candidates } = networkOf(view);
    assert.deepEqual(
      candidates.map(({ weight, fitGuard }) => [weight, fitGuard]),
      [
        [500, true],
        [300, false],
        [100, true],
      ],
    );
    const guards = new GuardSet(undefined, { sampleSize: 2 });
    guards.update(view, now, createSeededRandom(1));
    assert.deepEqual(new Set(guards.primaries()), new Set([testId(0), testId(2)]));
    // Too few are fit: who is not must do.
    const more = new GuardSet(undefined, { sampleSize: 3 });
    more.update(view, now, createSeededRandom(1));
    assert.equal(more.primaries().length, 3);
  });
});

describe('diversity', () => {
  const origins = new Map<string, AddressOrigin>();
  const nodes = Array.from({ length: 12 }, (_, i) => {
    origins.set(`20.${i}.0.1`, { country: i < 6 ? 'SE' : 'JP', asn: i % 4 });
    return { exitPolicy: i >= 9 ? web : undefined };
  });
  const view = testView(nodes);
  const base: SelectConstraints = { hops: 3, needExit: { port: 443 }, origins };

  test('no autonomous system twice, ends in different countries', () => {
    for (let seed = 0; seed < 200; seed++) {
      const path = indices(view, { ...base, asDiversity: 'require', countryDiversity: 'require' }, seed);
      assert.equal(new Set(path.map((i) => i % 4)).size, 3, `seed ${seed}: ${path}`);
      assert.ok(path[0]! < 6, `seed ${seed}: the exits are in JP`);
    }
    const free = Array.from({ length: 200 }, (_, seed) => indices(view, base, seed));
    assert.ok(free.some((path) => path[0]! >= 6) && free.some((path) => path[0]! % 4 === path[2]! % 4));
  });

  test('what is preferred gives way, country before AS, and says so; what is required does not', () => {
    // Four AS and five hops: not possible.
    const five = { ...base, hops: 5, asDiversity: 'prefer', countryDiversity: 'prefer' } as const;
    assert.deepEqual(choosePath(view, five, createSeededRandom(1)).relaxed, ['country', 'as']);
    const onlyJp = { ...base, includeCountries: ['JP'], asDiversity: 'prefer', countryDiversity: 'prefer' } as const;
    assert.deepEqual(choosePath(view, onlyJp, createSeededRandom(1)).relaxed, ['country']);
    const required = { ...five, asDiversity: 'require' } as const;
    assert.throws(() => choosePath(view, required, createSeededRandom(1)), /autonomous system/);
  });

  test('filters: countries, families and nodes, in and out', () => {
    const named = testView([
      ...new Array(4).fill({ family: ['a'], region: 'FI' }),
      ...new Array(4).fill({ family: ['b'] }),
      ...Array.from({ length: 6 }, () => ({ region: 'NO' })),
    ]);
    const of = (filter: Partial<SelectConstraints>) =>
      Array.from({ length: 60 }, (_, seed) => indices(named, { hops: 3, ...filter }, seed)).flat();
    assert.ok(of({ includeCountries: ['NO'] }).every((i) => i >= 8));
    assert.ok(of({ excludeFamilies: ['a', 'b'].map(testFamily) }).every((i) => i >= 8));
    assert.ok(of({ excludeCountries: ['FI'] }).every((i) => i >= 4));
    assert.ok(of({ includeNodes: [8, 9, 10].map(testId) }).every((i) => i >= 8 && i <= 10));
    assert.throws(() => of({ includeFamilies: [testFamily('a')] }), PathError); // all of one family
    assert.throws(() => of({ includeCountries: ['XX'] }), /of which 0 can be used/);
  });
});

describe('disjoint paths', () => {
  test('share no node, and there are as many as the network has', () => {
    const view = testView(Array.from({ length: 20 }, (_, i) => ({ exitPolicy: i < 3 ? web : undefined })));
    const guards = [5, 6, 7, 8].map(testId);
    const paths = chooseDisjointPaths(view, { hops: 3, needExit: { port: 443 }, guards }, 5, createSeededRandom(1));
    assert.equal(paths.length, 3); // as many as there are exits
    const used = paths.flatMap(({ hops }) => hops.map(({ id }) => id));
    assert.equal(new Set(used).size, 9);
    // Six nodes, two of them exits: a first path over both exits would leave no second one.
    const small = testView(Array.from({ length: 6 }, (_, i) => ({ exitPolicy: i < 2 ? web : undefined })));
    for (let seed = 0; seed < 20; seed++) {
      const two = chooseDisjointPaths(small, { hops: 3, needExit: { port: 443 } }, 2, createSeededRandom(seed));
      assert.equal(two.length, 2, `seed ${seed}`);
    }
    assert.throws(
      () => chooseDisjointPaths(view, { hops: 3, needExit: { port: 22 } }, 2, createSeededRandom(1)),
      PathError,
    );
  });
});

describe('latency', () => {
  test('shares of hops are learned from paths', () => {
    const book = learned(50);
    for (let i = 0; i < 50; i++) {
      const shareMs = book.shareMs(testId(i))!;
      assert.ok(Math.abs(shareMs - (i % 10) * 10) < 12, `node ${i}: ${shareMs}`);
    }
    assert.equal(book.linkMs(testId(3)), 20);
    const { version } = book;
    for (const bad of [Number.NaN, -1, Number.POSITIVE_INFINITY]) {
      book.notePath([testId(1), testId(2), testId(3)], bad);
      book.noteLink(testId(1), bad);
    }
    book.notePath([testId(99), testId(2)], 5); // no link measured
    assert.equal(book.version, version);
    assert.ok(Math.abs(book.binOf(testId(1234)) * LATENCY_BIN_MS - book.medianMs) <= LATENCY_BIN_MS);
  });

  test('the knob: faster paths for fewer bits, by what the entropy says (2 · 20 000 draws, seed "knob")', () => {
    const view = testView(Array.from({ length: 50 }, (_, i) => ({ bandwidth: 1000 + ((i * 37) % 900) })));
    const latency = learned(50);
    const guards = [testId(0)];
    const timeOf = (path: readonly string[]) => path.slice(1).reduce((sum, id) => sum + latency.binOf(id), 0);
    let lastMs = Number.POSITIVE_INFINITY;
    let lastBits = Number.POSITIVE_INFINITY;
    for (const latencyBias of [0, 0.3, 0.7, 1]) {
      const constraints = { hops: 3, guards, strategy: 'latency', latency, latencyBias } as const;
      const random = createSeededRandom('knob');
      const runs = latencyBias === 0 || latencyBias === 0.7 ? 20_000 : 3000;
      const counts = new Map<string, number>();
      let bins = 0;
      for (let run = 0; run < runs; run++) {
        const path = selectPath(view, constraints, random).map((node) => Buffer.from(node.nodeId).toString('hex'));
        bins += timeOf(path);
        counts.set(path[2]!, (counts.get(path[2]!) ?? 0) + 1);
      }
      const { positionBits, pathBits, baselineBits, costBits, maxCostBits } = pathEntropy(view, constraints);
      assert.ok(bins / runs < lastMs && pathBits < lastBits, `bias ${latencyBias}: ${bins / runs}, ${pathBits}`);
      lastMs = bins / runs;
      lastBits = pathBits;
      // What is computed is what happens, but for conflicts between hops, which it leaves out.
      if (runs === 20_000) {
        const measured = entropyBits([...counts.values()]);
        assert.ok(Math.abs(measured - positionBits[2]!) < 0.06, `bias ${latencyBias}: ${measured}, ${positionBits[2]}`);
      }
      assert.ok(Math.abs(baselineBits - pathBits - costBits) < 1e-9);
      assert.ok(Math.abs(maxCostBits - 6 * latencyBias) < 1e-9);
      assert.ok(costBits <= maxCostBits + 0.2 && costBits >= -1e-9, `${costBits} of at most ${maxCostBits}`);
      assert.equal(positionBits[0], 0);
    }
  });

  test('whatever latencies are made believed, no path is favoured more than the number of draws (seed 9)', () => {
    const view = testView(new Array(30).fill({}));
    const latency = new LatencyBook();
    for (let i = 0; i < 30; i++) latency.noteLink(testId(i), 10);
    // Two adversaries look instant, everybody else looks slow.
    for (let round = 0; round < 50; round++) {
      for (let i = 2; i < 30; i += 2) latency.notePath([testId(5), testId(i), testId(i + 1)], 600);
      latency.notePath([testId(5), testId(0), testId(1)], 10);
    }
    const random = createSeededRandom(9);
    const constraints = { hops: 3, guards: [testId(29)], strategy: 'latency', latency, latencyBias: 1 / 3 } as const; // 4 draws
    let both = 0;
    const runs = 20_000;
    for (let run = 0; run < runs; run++) {
      const [, b, c] = selectPath(view, constraints, random).map((node) =>
        new DataView(node.nodeId.buffer).getUint32(0),
      );
      if (b! < 2 && c! < 2) both++;
    }
    const byWeight = 2 / (29 * 28);
    assert.ok(both / runs <= 4 * byWeight * 1.2, `${both / runs} against ${4 * byWeight}`);
    assert.ok(both / runs > 2 * byWeight, 'the knob does something');
  });

  test('uniform hides more and costs load', () => {
    const view = testView(Array.from({ length: 40 }, (_, i) => ({ bandwidth: 2 ** (i % 12) })));
    const { pathBits, costBits, baselineBits } = pathEntropy(view, { hops: 3, strategy: 'uniform' });
    assert.ok(Math.abs(pathBits - 3 * Math.log2(40)) < 1e-9);
    assert.ok(costBits < -1 && Math.abs(baselineBits - costBits - pathBits) < 1e-9);
  });
});

describe('feedback', () => {
  const view = testView(new Array(100).fill({}));
  const network = networkOf(view);

  test('a node that fails is chosen less, one that works again recovers', () => {
    const feedback = new PathFeedback();
    for (let i = 0; i < 60; i++) {
      feedback.noteFailure([testId(50), testId(7), testId(8 + (i % 40))], now + i);
      feedback.noteSuccess([testId(50), testId(8 + (i % 40)), testId(60 + (i % 30))], now + i);
    }
    const factors = feedback.factorsFor(network.relays, network);
    assert.equal(factors.get(testId(7)), feedbackLimits.minFactor);
    assert.ok((factors.get(testId(8)) ?? 1) > 0.6, `${factors.get(testId(8))}`);
    assert.equal(factors.get(testId(50)), undefined); // the first hop has an account of its own
    const random = createSeededRandom(2);
    let chosen = 0;
    for (let run = 0; run < 10_000; run++) {
      if (choosePath(view, { hops: 3, feedback }, random).hops.some(({ id }) => id === testId(7))) chosen++;
    }
    assert.ok(chosen > 40 && chosen < 150, `${chosen} of 10 000; 300 by weight`);
    for (let i = 0; i < 60; i++) feedback.noteSuccess([testId(50), testId(7), testId(8)], now + 7200 + i);
    assert.ok(feedback.factorsFor(network.relays, network).get(testId(7))! > 0.85);
  });

  test('an adversary who fails everything that is not his gains at most a ninth', () => {
    const feedback = new PathFeedback();
    // Nodes 0…9 are his. Every circuit over nobody of his fails, a thousand times over.
    const random = createSeededRandom(3);
    for (let i = 0; i < 3000; i++) {
      const path = choosePath(view, { hops: 3 }, random).hops.map(({ id }) => id);
      if (path.every((id) => indexOf(id) >= 10)) feedback.noteFailure(path, now + i);
      else feedback.noteSuccess(path, now + i);
    }
    const { members } = network.relays;
    const factors = feedback.factorsFor(network.relays, network);
    const mass = (from: number, to: number) =>
      members.slice(from, to).reduce((sum, { id, weight }) => sum + weight * (factors.get(id) ?? 1), 0);
    const share = mass(0, 10) / mass(0, 100);
    assert.ok(share > 0.1 && share <= 0.1 / (1 - feedbackLimits.maxReducedShare) + 1e-9, `${share}`);
  });

  test('who does not answer is left out for some seconds, up to a third of the network', () => {
    const feedback = new PathFeedback();
    for (let i = 0; i < 60; i++) feedback.avoid(testId(i), now);
    feedback.suspect([testId(70), testId(71)], now);
    const { dead, suspected } = feedback.avoided(network, now + 1);
    assert.equal(dead.length, 33);
    assert.ok(dead.includes(testId(59)) && !dead.includes(testId(0)));
    assert.deepEqual(suspected, []);
    feedback.noteSuccess([testId(59), testId(58), testId(57)], now + 1);
    assert.ok(!feedback.avoided(network, now + 1).dead.includes(testId(58)));
    assert.deepEqual(feedback.avoided(network, now + 21), { dead: [], suspected: [] });
    const small = networkOf(testView(new Array(4).fill({})));
    const few = new PathFeedback();
    few.avoid(testId(1), now);
    few.suspect([testId(2), testId(3)], now);
    assert.deepEqual(few.avoided(small, now), { dead: [testId(1)], suspected: [testId(3), testId(2)] });
  });
});
