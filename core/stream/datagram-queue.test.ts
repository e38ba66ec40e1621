import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DatagramQueue } from './datagram-queue.ts';

const data = (value: number) => Uint8Array.of(value);

/** Offers until it is refused; how many were taken. */
function fill(queue: DatagramQueue, flowId: number, lifetimeMs = 0, offers = 1000): number {
  let taken = 0;
  for (; taken < offers && queue.hasRoom(flowId); taken++) queue.add(flowId, data(taken & 0xff), lifetimeMs);
  return taken;
}

function drain(queue: DatagramQueue, count: number): number[] {
  const flows: number[] = [];
  for (let i = 0; i < count && queue.next !== undefined; i++) {
    flows.push(queue.next.flowId);
    queue.taken();
  }
  return flows;
}

test('a flow that floods holds up nobody: others find room, and each has its turn', () => {
  const queue = new DatagramQueue(() => {});
  assert.equal(fill(queue, 1), 96);
  assert.equal(fill(queue, 2), 24);
  assert.equal(fill(queue, 3), 6);
  assert.deepEqual(drain(queue, 9), [1, 2, 3, 1, 2, 3, 1, 2, 3]);
  // One that sends now and then, while the other fills what it can: taken each time, and out with the second packet.
  for (let i = 0; i < 200; i++) {
    fill(queue, 1);
    assert.ok(queue.hasRoom(9));
    queue.add(9, data(i), 0);
    const flows = drain(queue, 5);
    assert.ok(flows.includes(9), `round ${i}: ${flows}`);
  }
});

test('what is too old goes from the front of every flow, and is told', () => {
  const expired: number[] = [];
  const queue = new DatagramQueue((flowId) => expired.push(flowId));
  fill(queue, 1, 0, 1);
  fill(queue, 2, 50, 3);
  fill(queue, 3, 80, 1);
  queue.expire(1000, 0);
  queue.expire(1050, 50);
  assert.deepEqual(expired, []);
  queue.expire(1051, 51);
  assert.deepEqual(expired, [2, 2, 2]);
  assert.equal(queue.bytes, 2);
  queue.clear();
  assert.equal(queue.next, undefined);
  queue.expire(2000, 1000);
  assert.deepEqual(expired, [2, 2, 2]);
});

test('property: order is kept within a flow, the bound holds over all, and nothing is lost', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('add' as const), flow: fc.integer({ min: 1, max: 6 }) }),
    fc.record({ kind: fc.constant('take' as const), flow: fc.constant(0) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
      const queue = new DatagramQueue(() => assert.fail('nothing here grows old'));
      const held = new Map<number, number[]>();
      let count = 0;
      let value = 0;
      for (const { kind, flow } of steps) {
        if (kind === 'add') {
          if (!queue.hasRoom(flow)) continue;
          value = (value + 1) & 0xff;
          queue.add(flow, data(value), 0);
          held.set(flow, [...(held.get(flow) ?? []), value]);
          count++;
        } else {
          const { next } = queue;
          assert.equal(next === undefined, count === 0);
          if (next === undefined) continue;
          assert.equal(held.get(next.flowId)!.shift(), next.data[0]);
          queue.taken();
          count--;
        }
        assert.ok(count <= 128);
        assert.equal(queue.bytes, count);
      }
    }),
    { numRuns: 60 },
  );
});
