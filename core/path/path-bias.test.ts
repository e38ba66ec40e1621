import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { GuardSet, type GuardWarning, parseGuardState } from './guards.ts';
import { parseSecondLayerState, SecondLayer } from './second-layer.ts';
import { selectPath } from './select.ts';
import { testId, testView } from './testing.ts';
import { uniform } from './weighted-choice.ts';

const now = 1_800_000_000;
const day = 86_400;
const hex = (id: Uint8Array) => Buffer.from(id).toString('hex');
const sixty = testView(new Array(60).fill({}), now);
const view = () => sixty;

/** A client that builds circuits while `fails` decides; ends after `circuits` or when its first guard is dropped. */
function run(seed: number, circuits: number, fails: (path: readonly string[], chance: () => number) => boolean) {
  const random = createSeededRandom(seed);
  const guards = new GuardSet();
  guards.update(view(), now, random);
  const [first] = guards.primaries() as [string];
  const warnings: GuardWarning[] = [];
  let built = 0;
  for (; built < circuits && guards.primaries()[0] === first; built++) {
    const path = selectPath(view(), { hops: 3, guards: guards.usable(now) }, random).map(({ nodeId }) => hex(nodeId));
    if (path[0] !== first) continue;
    const ok = !fails(path, () => uniform(random));
    const warning = guards.noteSetup(first, ok, 3, now + built);
    if (warning !== undefined) warnings.push(warning);
  }
  return { guards, first, warnings, built };
}

describe('path bias', () => {
  test('a guard that fails every circuit not going to its friends is warned of and dropped', () => {
    for (let seed = 0; seed < 10; seed++) {
      // One node in five is a friend; a circuit passes if one of its later hops is.
      const friend = (id: string) => Number.parseInt(id.slice(0, 8), 16) % 10 < 2;
      const { guards, first, warnings, built } = run(seed, 500, (path) => !path.slice(1).some(friend));
      assert.ok(built < 320, `seed ${seed}: after ${built}`);
      assert.ok(warnings.at(-1)!.dropped && warnings.at(-1)!.verdict === 'hostile', `seed ${seed}`);
      assert.ok(!guards.usable(now + 10 * day).includes(first));
      // Not after a restart, nor drawn again, nor confirmed by success.
      const again = new GuardSet(parseGuardState(JSON.parse(JSON.stringify(guards.state()))));
      again.update(view(), now + day, createSeededRandom(1));
      again.noteSuccess(first, now + day);
      assert.ok(!again.usable(now + day).includes(first));
      assert.equal(again.usable(now + day).length, 20);
    }
  });

  test('an honest guard is kept under churn, and while a fifth of the network fails what goes over it', () => {
    for (let seed = 0; seed < 10; seed++) {
      const churn = run(seed, 400, (path, chance) => path.slice(1).some(() => chance() < 0.1));
      assert.equal(churn.guards.primaries()[0], churn.first, `seed ${seed}`);
      assert.deepEqual(churn.warnings, [], `seed ${seed}`);
      const hostile = (id: string) => Number.parseInt(id.slice(0, 8), 16) % 5 === 0;
      const attacked = run(seed, 400, (path) => path.slice(1).some(hostile));
      assert.equal(attacked.guards.primaries()[0], attacked.first, `seed ${seed}`);
    }
  });

  test('circuits that break off before they carried anything count as well', () => {
    const guards = new GuardSet();
    guards.update(view(), now, createSeededRandom(1));
    const [first] = guards.primaries() as [string];
    const warnings = Array.from({ length: 40 }, (_, i) => guards.noteUse(first, i % 10 === 0, 3, now)).filter(Boolean);
    assert.ok(warnings.some((warning) => warning!.dropped));
    assert.equal(guards.noteUse(first, false, 3, now), undefined);
    assert.equal(guards.noteUse(testId(59_999), false, 3, now), undefined);
  });

  test('at most two guards are dropped in thirty days: more would be a way to choose them for the client', () => {
    const guards = new GuardSet();
    guards.update(view(), now, createSeededRandom(1));
    const dropAt = (at: number) => {
      const [first] = guards.primaries() as [string];
      for (let i = 0; i < 60; i++) guards.noteSetup(first, false, 3, at);
      return guards.primaries()[0] !== first;
    };
    assert.deepEqual([dropAt(now), dropAt(now + day), dropAt(now + 2 * day)], [true, true, false]);
    assert.equal(dropAt(now + 31 * day), true);
  });

  test('a guard state of version 1 is read', () => {
    const guards = new GuardSet();
    guards.update(view(), now, createSeededRandom(1));
    const { sampled } = guards.state();
    const old = { version: 1, sampled: sampled.map(({ bias: _, droppedAt: __, ...record }) => record) };
    assert.deepEqual(parseGuardState(JSON.parse(JSON.stringify(old))).sampled, sampled);
  });

  test('guards that vanish by attack do not make a client try the whole network', () => {
    const random = createSeededRandom(4);
    const guards = new GuardSet();
    const gone = new Set<string>();
    const tried = new Set<string>();
    // Every hour the first guard goes away. From the 58th on there is hardly one left, and availability counts.
    for (let hour = 0; hour < 75; hour++) {
      const at = now + hour * 3600;
      const all = testView(new Array(200).fill({}), at);
      guards.update({ ...all, nodes: all.nodes.filter(({ nodeId }) => !gone.has(hex(nodeId))) }, at, random);
      const [first] = guards.usable(at);
      assert.ok(first !== undefined, `hour ${hour}`);
      for (const { nodeId } of guards.state().sampled) tried.add(nodeId);
      assert.ok(hour > 57 ? tried.size <= 60 + hour - 57 : tried.size <= 60, `hour ${hour}: ${tried.size}`);
      gone.add(first);
    }
    assert.ok(guards.state().sampled.length <= 60);
  });
});

describe('second layer', () => {
  test('four are kept for one to twelve days, over restarts and clock jumps', () => {
    const random = createSeededRandom(6);
    let layer = new SecondLayer();
    const update = (at: number, viewAt = at, count = 60) => {
      layer.update(testView(new Array(count).fill({}), viewAt), at, random, [testId(0), testId(1)]);
      layer = new SecondLayer(parseSecondLayerState(JSON.parse(JSON.stringify(layer.state()))));
      return layer.hops();
    };
    const first = update(now);
    assert.equal(new Set(first).size, 4);
    assert.ok(!first.includes(testId(0)) && !first.includes(testId(1)));
    assert.deepEqual(update(now + day - 1), first);
    for (const jump of [0, now + 3000 * day]) assert.deepEqual(update(jump, now + 3600), first);
    const lifetimes = new Map<string, number>();
    for (let hour = 0; hour < 24 * 13; hour += 3) for (const id of update(now + hour * 3600)) lifetimes.set(id, hour);
    for (const id of first)
      assert.ok(lifetimes.get(id)! >= 21 && lifetimes.get(id)! <= 24 * 12, `${lifetimes.get(id)}`);
    assert.equal(update(now + 14 * day).length, 4);
    assert.equal(update(now + 14 * day, now + 14 * day, 3).length, 1); // all others are excluded
  });

  test('the second hop of a path comes from it', () => {
    const secondHops = [7, 8, 9, 10].map(testId);
    const random = createSeededRandom(8);
    const seen = new Set<string>();
    for (let i = 0; i < 200; i++) {
      const path = selectPath(view(), { hops: 4, guards: [testId(7)], secondHops }, random).map((n) => hex(n.nodeId));
      assert.ok(secondHops.includes(path[1]!) || path.includes(testId(7)) === false, `${i}`);
      seen.add(path[1]!);
    }
    assert.deepEqual([...seen].sort(), [8, 9, 10].map(testId));
  });

  test('a state that is not one is refused', () => {
    const member = { nodeId: testId(1), until: now };
    for (const bad of [
      null,
      { version: 2, members: [] },
      { version: 1 },
      { version: 1, members: [member, member] },
      { version: 1, members: [{ ...member, until: -1 }] },
      { version: 1, members: [{ ...member, nodeId: 'x' }] },
      { version: 1, members: [null] },
    ]) {
      assert.throws(() => parseSecondLayerState(bad), /second-layer state/);
    }
  });
});
