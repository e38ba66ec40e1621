import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { Reach } from '../directory/address.ts';
import { nodeIdHex } from '../directory/descriptor.ts';
import { NodeFlag } from '../directory/node-status.ts';
import type { SelectConstraints } from './constraints.ts';
import { PathError } from './path-error.ts';
import { selectPath } from './select.ts';
import { type TestNode, testId, testView } from './testing.ts';
import { chooseIndex, uniform } from './weighted-choice.ts';

const ids = (view: ReturnType<typeof testView>, constraints: SelectConstraints, random = createSeededRandom(1)) =>
  selectPath(view, constraints, random).map((node) => nodeIdHex(node.nodeId));

const code = (expected: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof PathError, String(error));
  assert.equal(error.code, expected, error.message);
  assert.match(error.message, message);
  return true;
};

const web = ['accept *:80', 'accept *:443'];

describe('selectPath', () => {
  test('every path keeps every constraint', () => {
    const node = fc.record({
      bandwidth: fc.integer({ min: 0, max: 10_000 }),
      address: fc.constantFrom(
        '20.1.0.1',
        '20.2.0.1',
        '20.3.0.1',
        '2a00:1::1',
        '2a00:1:2::1',
        '2a00:2::1',
        '30.1.1.1',
        '31.1.1.1',
        '32.1.1.1',
      ),
      otherAddress: fc.option(fc.constantFrom('33.1.1.1', '34.1.1.1', '2a00:3::1', '2a00:4::1'), { nil: undefined }),
      family: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 1 }),
      mix: fc.boolean(),
      exitPolicy: fc.option(fc.constantFrom(web, ['accept *:22'], ['accept *:*']), { nil: undefined }),
    });
    const input = fc.record({
      nodes: fc.array(node, { minLength: 3, maxLength: 30 }),
      hops: fc.integer({ min: 3, max: 7 }),
      exit: fc.boolean(),
      guards: fc.option(fc.uniqueArray(fc.integer({ min: 0, max: 29 }), { minLength: 1, maxLength: 4 }), {
        nil: undefined,
      }),
      exclude: fc.uniqueArray(fc.integer({ min: 0, max: 29 }), { maxLength: 3 }),
      sameSubnetAllowed: fc.boolean(),
      reach: fc.constantFrom(undefined, Reach.ipv4, Reach.ipv6, Reach.ipv4 | Reach.ipv6),
      seed: fc.integer(),
    });
    let found = 0;
    fc.assert(
      fc.property(input, ({ nodes, hops, exit, guards, exclude, sameSubnetAllowed, reach, seed }) => {
        const view = testView(nodes);
        const constraints: SelectConstraints = {
          hops,
          needExit: exit ? { host: '1.1.1.1', port: 443 } : undefined,
          exclude: exclude.map(testId),
          guards: guards?.map(testId),
          sameSubnetAllowed,
          reach,
        };
        let path: string[];
        try {
          path = ids(view, constraints, createSeededRandom(seed));
        } catch (error) {
          assert.ok(error instanceof PathError, String(error));
          return;
        }
        found++;
        const chosen = path.map((id) => nodes[Number.parseInt(id.slice(0, 8), 16)]!);
        assert.equal(path.length, hops);
        assert.equal(new Set(path).size, hops);
        assert.ok(exclude.every((i) => !path.includes(testId(i))));
        if (guards !== undefined) assert.ok(guards.map(testId).includes(path[0]!));
        assert.ok(chosen.slice(0, -1).every((n) => n.mix));
        const last = chosen.at(-1)!;
        assert.ok(exit ? last.exitPolicy !== undefined && last.exitPolicy[0] !== 'accept *:22' : last.mix);
        const families = chosen.flatMap((n) => n.family);
        assert.equal(new Set(families).size, families.length);
        const network = (a: string) => (a.includes(':') ? a.split(':', 2).join(':') : a.split('.', 2).join('.'));
        const addresses = chosen.map((n) => [n.address, n.otherAddress].filter((a) => a !== undefined));
        const networks = addresses.map((list) => new Set(list.map(network)));
        if (!sameSubnetAllowed) {
          assert.equal(
            new Set(networks.flatMap((set) => [...set])).size,
            networks.reduce((sum, set) => sum + set.size, 0),
          );
        }
        // Each hop opens the link to the next one, the sender that to the first.
        const versions = addresses.map((list) => new Set(list.map((a) => (a.includes(':') ? Reach.ipv6 : Reach.ipv4))));
        for (let i = 1; i < hops; i++) assert.ok([...versions[i]!].some((version) => versions[i - 1]!.has(version)));
        assert.ok(reach === undefined || [...versions[0]!].some((version) => (version & reach) !== 0));
      }),
      { seed: 11, numRuns: 600 },
    );
    assert.ok(found > 60, `only ${found} of 600 had a path`);
  });

  test('from an IPv4 guard to an IPv6 exit there is a relay that has both, where there is one', () => {
    const six = { address: '2a00:1::1', exitPolicy: web };
    const both = { address: '30.1.0.1', otherAddress: '2a00:9::1' };
    const fours: TestNode[] = Array.from({ length: 6 }, () => ({ bandwidth: 1_000_000 }));
    const constraints = { needExit: { port: 80 }, reach: Reach.ipv4 };
    const view = testView([six, both, ...fours]);
    for (const hops of [3, 4, 5]) {
      for (let seed = 0; seed < 20; seed++) {
        const path = ids(view, { ...constraints, hops }, createSeededRandom(seed));
        assert.equal(path.at(-2), testId(1), `${hops} hops, seed ${seed}: only that one reaches the exit`);
      }
    }
    const none = testView([six, ...fours]);
    assert.throws(
      () => ids(none, { ...constraints, hops: 3 }),
      code('NO_MIDDLE', /reaches its neighbours by IPv4 or IPv6/),
    );
    // What the authorities found to lead nowhere is no way: the dual relay is one of IPv4 alone.
    const failing = {
      ...view,
      statuses: view.nodes.map((_, i) => ({ weight: 1, flags: i === 1 ? NodeFlag.ipv6Fails : 0 })),
    };
    assert.throws(() => ids(failing, { ...constraints, hops: 3 }), code('NO_MIDDLE', /reaches its neighbours/));
    // And who has IPv6 alone begins at what has it.
    const begins = ids(view, { hops: 3, reach: Reach.ipv6 });
    assert.ok([testId(0), testId(1)].includes(begins[0]!));
  });

  test('loopback leads to this machine alone: no link from there to another', () => {
    const local = Array.from({ length: 3 }, (_, i) => ({ address: `127.${i}.0.1` }));
    const view = testView([...local, { exitPolicy: web }]);
    assert.throws(() => ids(view, { hops: 3, needExit: { port: 80 } }), code('NO_MIDDLE', /reaches its neighbours/));
    assert.equal(ids(view, { hops: 3 }).length, 3);
  });

  test('weights are respected at every position (chi-square, seed "weights")', () => {
    // 12 nodes of weight 1…12 with no conflicts. Nodes 8…11 are the exits.
    const view = testView(
      Array.from({ length: 12 }, (_, i) => ({ bandwidth: 1000 * (i + 1), exitPolicy: i >= 8 ? web : undefined })),
    );
    const random = createSeededRandom('weights');
    const runs = 12_000;
    const exits = new Array<number>(12).fill(0);
    const firstGivenLast11 = new Array<number>(12).fill(0);
    for (let run = 0; run < runs; run++) {
      const path = selectPath(view, { hops: 3, needExit: { port: 443 } }, random);
      const indices = path.map((n) => new DataView(n.nodeId.buffer).getUint32(0));
      exits[indices[2]!]!++;
      if (indices[2] === 11) firstGivenLast11[indices[0]!]!++;
    }
    const weights = Array.from({ length: 12 }, (_, i) => i + 1);
    // 99.9% points: 16.3 for 3 degrees of freedom, 29.6 for 10.
    assert.ok(chiSquare(exits.slice(8), weights.slice(8)) < 16.3, `exits ${exits}`);
    assert.ok(chiSquare(firstGivenLast11.slice(0, 11), weights.slice(0, 11)) < 29.6, `guards ${firstGivenLast11}`);
  });

  test('a choice that leaves nobody for another hop is taken back', () => {
    // The heavy exit is of the families of both other mixes: only the light one leads to a path.
    const view = testView([
      { bandwidth: 1_000_000_000, exitPolicy: web, family: ['x', 'y'] },
      { bandwidth: 1, exitPolicy: web },
      { family: ['x'] },
      { family: ['y'] },
    ]);
    for (let seed = 0; seed < 20; seed++) {
      const path = ids(view, { hops: 3, needExit: { port: 80 } }, createSeededRandom(seed));
      assert.equal(path[2], testId(1), `seed ${seed}`);
    }
  });

  test('the first guard that fits is taken', () => {
    const view = testView([{ exitPolicy: web }, {}, {}, {}]);
    const guards = [testId(0), testId(2), testId(1)];
    for (let seed = 0; seed < 20; seed++) {
      // Node 0 is the only exit, so it can't be the guard as well.
      const path = ids(view, { hops: 3, needExit: { port: 80 }, guards }, createSeededRandom(seed));
      assert.equal(path[0], testId(2), `seed ${seed}`);
      // Without an exit to find, any node may be last, the first guard too; it is drawn before the guard is.
      const free = ids(view, { hops: 3, guards }, createSeededRandom(seed));
      assert.equal(free[0], free[2] === testId(0) ? testId(2) : testId(0), `seed ${seed}`);
    }
  });

  test('a named path is checked and returned as it is', () => {
    const view = testView([{}, {}, { exitPolicy: web, mix: false }, { address: '20.0.9.9' }]);
    const requiredNodeIds = [testId(1), testId(0), testId(2)];
    const needExit = { host: 'example.org', port: 443 };
    assert.deepEqual(ids(view, { hops: 3, needExit, requiredNodeIds }), requiredNodeIds);
    assert.deepEqual(
      ids(view, { hops: 3, needExit, requiredNodeIds: requiredNodeIds.map((id) => id.toUpperCase()) }),
      requiredNodeIds,
    );
    const named =
      (indices: number[], more: Partial<SelectConstraints> = {}) =>
      () =>
        ids(view, { hops: 3, requiredNodeIds: indices.map(testId), ...more });
    assert.throws(named([1, 0, 2], { needExit: { port: 22 } }), code('NO_EXIT', /is no exit for port 22/));
    assert.throws(named([1, 0, 3], { needExit }), code('NO_EXIT', /is no exit for example.org:443/));
    assert.throws(named([1, 2, 0]), code('CONFLICT', /hop 2\) does not relay/));
    assert.throws(named([1, 0, 1]), code('CONFLICT', /shares no node/));
    assert.throws(named([1, 0, 3]), code('CONFLICT', /shares no node, family, \/16/));
    assert.deepEqual(named([1, 0, 3], { sameSubnetAllowed: true })(), [1, 0, 3].map(testId));
    assert.throws(named([1, 0, 9]), code('UNKNOWN_NODE', /hop 3\) is not in the view/));
    assert.throws(named([1, 0]), code('BAD_REQUEST', /2 nodes were named for a path of 3/));
    assert.throws(named([1, 0, 2], { needExit, exclude: [testId(0)] }), code('BAD_REQUEST', /excluded/));
  });

  test('private targets: only where asked for, and then by the rules', () => {
    const view = testView([{ exitPolicy: ['accept 127.0.0.0/8:80'] }, {}, {}]);
    const needExit = { host: '127.0.0.1', port: 80 };
    assert.throws(() => ids(view, { hops: 3, needExit }), code('NO_EXIT', /special range \(loopback\)/));
    assert.equal(ids(view, { hops: 3, needExit, privateTargetsAllowed: true })[2], testId(0));
    assert.equal(ids(view, { hops: 3, needExit, sameSubnetAllowed: true })[2], testId(0));
    assert.throws(
      () => ids(view, { hops: 3, needExit, sameSubnetAllowed: true, privateTargetsAllowed: false }),
      code('NO_EXIT', /special range/),
    );
    assert.throws(
      () => ids(view, { hops: 3, needExit: { host: '127.0.0.1', port: 81 }, privateTargetsAllowed: true }),
      code('NO_EXIT', /none has a policy/),
    );
  });

  test('errors say how many candidates there were and what left none', () => {
    const four = testView([{ exitPolicy: web }, {}, {}, {}]);
    for (const hops of [2, 8, 3.5, Number.NaN]) {
      assert.throws(() => ids(four, { hops }), code('BAD_REQUEST', /3 to 7 are possible/));
    }
    assert.throws(() => ids(four, { hops: 5 }), code('TOO_FEW_NODES', /5 different hops .* 4 nodes, of which 4/));
    assert.throws(
      () => ids(four, { hops: 4, exclude: [testId(3)] }),
      code('TOO_FEW_NODES', /of which 3 can be used \(1 are excluded\)/),
    );
    assert.throws(
      () => ids(four, { hops: 3, needExit: { host: '1.1.1.1', port: 22 } }),
      code('NO_EXIT', /no exit for 1.1.1.1:22: of 4 nodes 1 are exits, and none has a policy that accepts it/),
    );
    assert.throws(() => ids(four, { hops: 3, guards: [testId(7)] }), code('NO_GUARD', /none of the 1 guards/));
    assert.throws(
      () => ids(four, { hops: 3, needExit: { port: 80 }, guards: [testId(0)] }),
      code('NO_GUARD', /1, 4, 1 candidates, but hop 1 is left with none/),
    );
    const oneNetwork = testView(Array.from({ length: 6 }, (_, i) => ({ address: `10.0.0.${i + 1}` })));
    assert.throws(() => ids(oneNetwork, { hops: 3 }), code('NO_GUARD', /6, 6, 6 candidates.*\/16/));
    assert.equal(ids(oneNetwork, { hops: 6, sameSubnetAllowed: true }).length, 6);
  });

  test('ends at the last hop that is named, and nowhere else', () => {
    const view = testView(Array.from({ length: 20 }, () => ({})));
    for (let i = 0; i < 50; i++) {
      const path = ids(view, { hops: 4, lastHop: testId(i % 20) });
      assert.equal(path.at(-1), testId(i % 20));
      assert.equal(new Set(path).size, 4);
    }
    assert.throws(() => ids(view, { hops: 4, lastHop: testId(3), exclude: [testId(3)] }), PathError);
    assert.throws(() => ids(view, { hops: 4, lastHop: 'ff'.repeat(32) }), PathError);
  });

  test('gives up after a bounded number of draws where no path exists', () => {
    // 400 nodes in 6 families: 7 hops can't be had, and trying all ways would take years.
    const view = testView(Array.from({ length: 400 }, (_, i) => ({ family: [`f${i % 6}`] })));
    assert.throws(() => ids(view, { hops: 7 }), code('NO_MIDDLE', /gave up after 2000 draws/));
    assert.equal(ids(view, { hops: 6 }).length, 6);
  });
});

describe('weighted choice', () => {
  test('uniform is in [0, 1) and evenly spread (seed 3)', () => {
    const random = createSeededRandom(3);
    const buckets = new Array<number>(16).fill(0);
    for (let i = 0; i < 16_000; i++) {
      const value = uniform(random);
      assert.ok(value >= 0 && value < 1);
      buckets[Math.floor(value * 16)]!++;
    }
    assert.ok(chiSquare(buckets, new Array(16).fill(1)) < 37.7, `${buckets}`);
    const ones = { fill: (into: Uint8Array) => void into.fill(0xff) };
    assert.equal(uniform(ones), 1 - 2 ** -53);
    assert.equal(chooseIndex([1, 2, 0], ones), 1);
    assert.equal(chooseIndex([0, 1, 2], { fill: (into: Uint8Array) => void into.fill(0) }), 1);
  });

  test('weight 0 is never chosen; nothing to choose is −1', () => {
    const random = createSeededRandom(4);
    for (let i = 0; i < 1000; i++) assert.equal(chooseIndex([0, 5, 0], random), 1);
    assert.equal(chooseIndex([0, 0], random), -1);
    assert.equal(chooseIndex([], random), -1);
  });
});

function chiSquare(counts: readonly number[], weights: readonly number[]): number {
  const total = counts.reduce((a, b) => a + b, 0);
  const sum = weights.reduce((a, b) => a + b, 0);
  return counts.reduce(
    (chi, count, i) => chi + (count - (total * weights[i]!) / sum) ** 2 / ((total * weights[i]!) / sum),
    0,
  );
}
