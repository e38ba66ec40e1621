import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { Reach } from '../directory/address.ts';
import { GuardSet, type GuardState, parseGuardState } from './guards.ts';
import { PathError } from './path-error.ts';
import { testId, testView } from './testing.ts';

const now = 1_800_000_000;
const day = 86_400;
const viewOf = (count: number, at = now) => testView(new Array(count).fill({}), at);
const restart = (guards: GuardSet) => new GuardSet(parseGuardState(JSON.parse(JSON.stringify(guards.state()))));

function fresh(count = 30, seed = 1): GuardSet {
  const guards = new GuardSet();
  guards.update(viewOf(count), now, createSeededRandom(seed));
  return guards;
}

describe('guards', () => {
  test('a new client samples 20, three of them primary, and keeps them over updates and restarts', () => {
    let guards = fresh();
    assert.ok(guards.changed);
    const order = guards.usable(now);
    assert.equal(order.length, 20);
    assert.equal(new Set(order).size, 20);
    assert.deepEqual(guards.primaries(), order.slice(0, 3));
    for (let hour = 1; hour <= 24 * 30; hour += 7) {
      guards.update(viewOf(30, now + hour * 3600), now + hour * 3600, createSeededRandom(hour));
      guards = restart(guards);
      assert.deepEqual(guards.usable(now + hour * 3600), order);
      assert.equal(guards.changed, false);
    }
  });

  test('bandwidth decides who is sampled; who does not relay, or is excluded, never is', () => {
    const view = testView([
      ...new Array(40).fill({ bandwidth: 1 }),
      { bandwidth: 1e9 },
      { mix: false, bandwidth: 1e9 },
      { bandwidth: 1e9 },
    ]);
    const guards = new GuardSet();
    guards.update(view, now, createSeededRandom(1), [testId(42)]);
    assert.equal(guards.primaries()[0], testId(40));
    assert.ok(!guards.usable(now).includes(testId(41)));
    assert.ok(!guards.usable(now).includes(testId(42)));
  });

  test('guards of a family that is away are kept for when it is back, and replaced meanwhile', () => {
    const view = testView([
      ...Array.from({ length: 15 }, (_, i) => ({ address: `2a00:${i + 1}::1` })),
      ...Array.from({ length: 30 }, () => ({})),
      ...Array.from({ length: 5 }, (_, i) => ({ otherAddress: `2a01:${i + 1}::1` })),
    ]);
    const isSix = (id: string) => Number.parseInt(id.slice(0, 8), 16) < 15;
    const isDual = (id: string) => Number.parseInt(id.slice(0, 8), 16) >= 45;
    let guards = new GuardSet();
    const all = Reach.ipv4 | Reach.ipv6;
    guards.update(view, now, createSeededRandom(3), [], all);
    const atHome = guards.usable(now);
    assert.ok(atHome.some(isSix) && atHome.some((id) => !isSix(id)));
    guards.update(view, now, createSeededRandom(4), [], Reach.ipv4);
    const away = guards.usable(now);
    assert.equal(away.length, 20);
    assert.ok(!away.some(isSix));
    assert.deepEqual(
      away.slice(0, atHome.filter((id) => !isSix(id)).length),
      atHome.filter((id) => !isSix(id)),
    );
    guards = restart(guards);
    guards.update(view, now, createSeededRandom(5), [], all);
    assert.deepEqual(guards.usable(now).slice(0, 20), atHome, 'as before, those that were added behind them');
    guards.update(view, now, createSeededRandom(6), [], Reach.ipv6);
    assert.ok(guards.usable(now).every((id) => isSix(id) || isDual(id)));
    assert.ok(guards.state().sampled.length <= 60);
  });

  test('in a small network all nodes are in the sample', () => {
    assert.equal(fresh(4).usable(now).length, 4);
    assert.deepEqual(fresh(0).usable(now), []);
  });

  test('failures back off, doubling to half an hour; success ends that', () => {
    const guards = fresh();
    const [first, second] = guards.usable(now) as [string, string];
    let at = now;
    const waits: number[] = [];
    for (let i = 0; i < 12; i++) {
      guards.noteFailure(first, at);
      const { retryAt } = guards.state().sampled.find((record) => record.nodeId === first)!;
      waits.push(retryAt - at);
      assert.equal(guards.usable(retryAt - 0.001)[0], second);
      assert.equal(guards.usable(retryAt)[0], first);
      at = retryAt;
    }
    assert.deepEqual(waits, [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800, 1800]);
    guards.noteSuccess(first.toUpperCase(), at);
    guards.noteFailure(first, at);
    assert.equal(guards.usable(at + 5)[0], first);
    for (let i = 0; i < 5000; i++) guards.noteFailure(first, at);
    parseGuardState(JSON.parse(JSON.stringify(guards.state())));
  });

  test('the confirmed come first, in order of confirmation', () => {
    const guards = fresh();
    const order = guards.usable(now);
    guards.noteSuccess(order[7]!, now + 10);
    guards.noteSuccess(order[4]!, now + 20);
    guards.noteSuccess(order[7]!, now + 30);
    assert.deepEqual(guards.primaries(), [order[7], order[4], order[0]]);
    assert.deepEqual(restart(guards).primaries(), guards.primaries());
  });

  test('when all back off everyone is offered, soonest due first', () => {
    const guards = fresh(5);
    const order = guards.usable(now);
    for (const id of order) guards.noteFailure(id, now);
    guards.noteFailure(order[0]!, now);
    const offered = guards.usable(now + 1);
    assert.equal(offered.length, 5);
    assert.equal(offered[4], order[0]);
  });

  test('when another guard answers again after all were down, the primaries are due at once', () => {
    const guards = fresh(10);
    const order = guards.usable(now);
    for (const id of order) for (let i = 0; i < 9; i++) guards.noteFailure(id, now);
    assert.equal(guards.usable(now + 60).length, 10);
    guards.noteSuccess(order[6]!, now + 60);
    assert.deepEqual(new Set(guards.usable(now + 60)), new Set([order[6], ...order.slice(0, 3)]));
    // A guard that was never down says nothing about the primaries.
    const calm = fresh(10);
    const calmOrder = calm.usable(now);
    calm.noteFailure(calmOrder[0]!, now);
    calm.noteSuccess(calmOrder[5]!, now + 1);
    assert.ok(!calm.usable(now + 1).includes(calmOrder[0]!));
  });

  test('who leaves the view is not used, comes back in place, and is replaced after 20 days', () => {
    const guards = fresh(30);
    const order = guards.usable(now);
    const gone = Number.parseInt(order[0]!.slice(0, 8), 16);
    const without = (at: number) => {
      const view = viewOf(31, at);
      return { ...view, nodes: view.nodes.filter((_, i) => i !== gone) };
    };
    guards.update(without(now + 3600), now + 3600, createSeededRandom(2));
    assert.ok(!guards.usable(now + 3600).includes(order[0]!));
    assert.deepEqual(guards.primaries(), order.slice(1, 4));
    guards.update(viewOf(30, now + 7200), now + 7200, createSeededRandom(2));
    assert.deepEqual(guards.primaries(), order.slice(0, 3));
    guards.update(without(now + 10_800), now + 10_800, createSeededRandom(2));
    guards.update(without(now + 20 * day), now + 20 * day, createSeededRandom(2));
    assert.ok(guards.state().sampled.some((record) => record.nodeId === order[0]));
    guards.update(without(now + 21 * day), now + 21 * day, createSeededRandom(2));
    assert.ok(!guards.state().sampled.some((record) => record.nodeId === order[0]));
  });

  test('members age out: sampled after 120 days, confirmed 180 days after confirmation', () => {
    const guards = fresh(100);
    const order = guards.usable(now);
    guards.noteSuccess(order[0]!, now + 100 * day);
    const at = (days: number) => {
      guards.update(viewOf(100, now + days * day), now + days * day, createSeededRandom(days));
      return guards.state().sampled.map((record) => record.nodeId);
    };
    assert.deepEqual(at(120), order);
    const left = at(121).filter((id) => order.includes(id));
    assert.ok(left.includes(order[0]!) && left.length < 15, `${left.length} left`);
    assert.ok(guards.usable(now + 121 * day).length === 20);
    assert.ok(at(280).includes(order[0]!));
    const { confirmedAt } = guards.state().sampled.find((record) => record.nodeId === order[0])!;
    assert.equal(confirmedAt, now + 100 * day);
  });

  test('a clock that jumps anywhere, without a view to match, changes no guard', () => {
    for (const jumped of [0, now - 3000 * day, now + 3000 * day, 2 ** 48]) {
      let guards = fresh();
      const order = guards.usable(now);
      guards.noteSuccess(order[0]!, now + 1);
      guards.update(viewOf(30), jumped, createSeededRandom(5));
      guards.noteSuccess(order[1]!, jumped);
      guards.noteFailure(order[5]!, jumped);
      guards = restart(guards);
      guards.update(viewOf(30, now + 3600), now + 3600, createSeededRandom(6));
      const sampled = guards.state().sampled;
      assert.deepEqual(
        sampled.map((record) => record.nodeId),
        order,
        `jumped to ${jumped}`,
      );
      for (const record of sampled) {
        assert.ok(record.sampledAt <= now + 3600 && record.sampledAt >= now - day);
        assert.ok(record.retryAt <= now + 3600 + 1800);
      }
      assert.equal(guards.primaries()[0], order[0]);
    }
  });

  test('any sequence of events leaves a state that parses, without duplicates', () => {
    const event = fc.record({
      kind: fc.constantFrom('success', 'failure', 'update', 'restart'),
      node: fc.nat({ max: 40 }),
      wait: fc.integer({ min: -5 * day, max: 60 * day }),
      listed: fc.integer({ min: 0, max: 40 }),
    });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        let guards = fresh(40);
        let at = now;
        for (const { kind, node, wait, listed } of events) {
          at = Math.max(0, at + wait);
          if (kind === 'success') guards.noteSuccess(testId(node), at);
          if (kind === 'failure') guards.noteFailure(testId(node), at);
          if (kind === 'update') guards.update(viewOf(listed, at), at, createSeededRandom(node));
          if (kind === 'restart') guards = restart(guards);
          const usable = guards.usable(at);
          assert.equal(new Set(usable).size, usable.length);
          if (kind === 'update') assert.ok(usable.length >= 1 === listed > 0);
        }
        assert.ok(guards.state().sampled.length <= 60);
      }),
      { seed: 5, numRuns: 200 },
    );
  });

  test('a state that is not one is refused with what is wrong', () => {
    const good: GuardState = fresh(2).state();
    const record = good.sampled[0]!;
    const cases: [unknown, RegExp][] = [
      [null, /is not an object/],
      ['x', /is not an object/],
      [{ version: 3, sampled: [] }, /has version 3; this node reads versions 1 to 2/],
      [{ version: 2 }, /must have a list/],
      [{ version: 2, sampled: new Array(201).fill(record) }, /at most 200/],
      [{ version: 2, sampled: [record, record] }, /twice/],
      [{ version: 2, sampled: [7] }, /sampled\[0\], which is not an object/],
      [{ version: 2, sampled: [{ ...record, nodeId: 'AB' }] }, /sampled\[0\].nodeId/],
      [{ version: 2, sampled: [{ ...record, sampledAt: '1' }] }, /sampled\[0\].sampledAt/],
      [{ version: 2, sampled: [{ ...record, retryAt: -1 }] }, /sampled\[0\].retryAt/],
      [{ version: 2, sampled: [{ ...record, confirmedAt: undefined }] }, /sampled\[0\].confirmedAt/],
      [{ version: 2, sampled: [{ ...record, failures: Number.NaN }] }, /sampled\[0\].failures/],
      [{ version: 2, sampled: [{ ...record, bias: null }] }, /sampled\[0\].bias/],
      [{ version: 2, sampled: [{ ...record, bias: { setups: 1, built: 2, used: 0, held: 0 } }] }, /more successes/],
      [{ version: 2, sampled: [{ ...record, droppedAt: 'x' }] }, /sampled\[0\].droppedAt/],
    ];
    for (const [value, message] of cases) {
      assert.throws(
        () => parseGuardState(value),
        (error) => error instanceof PathError && error.code === 'BAD_GUARD_STATE' && message.test(error.message),
        String(message),
      );
    }
    assert.deepEqual(parseGuardState(good), good);
  });
});
