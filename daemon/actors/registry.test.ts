import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type SupervisionEvent, Supervisor } from '../supervision/supervise.ts';
import { VirtualTimers } from '../supervision/timers.ts';
import { circuitMachine } from './circuit.ts';
import { EventBus, type NodeEvent } from './event-bus.ts';
import { linkMachine } from './link.ts';
import { globalId, handleOf, PumpPool, workerOf } from './pump-pool.ts';
import { LifecycleRegistry } from './registry.ts';
import { sessionMachine } from './session.ts';
import { streamMachine } from './stream.ts';

async function running(registry: LifecycleRegistry, timers: VirtualTimers) {
  const events: SupervisionEvent[] = [];
  const dependencies = { timers, unixMs: () => 0, onEvent: (event: SupervisionEvent) => void events.push(event) };
  const supervisor = new Supervisor({ id: 'r', strategy: 'one_for_one' }, [registry.child(dependencies)], {
    ...dependencies,
    onEscalate: (error) => assert.fail(error),
  });
  const started = supervisor.start();
  await timers.advance(0);
  await started;
  return { supervisor, events };
}

for (const [name, machine, life] of [
  ['links', linkMachine, ['handshaking', 'up', 'rekeyed', 'closed']],
  ['circuits', circuitMachine, ['building', 'ready', 'closed']],
  ['sessions', sessionMachine, ['opened', 'resuming', 'carried', 'closed']],
  ['streams', streamMachine, ['opened', 'connected', 'closed']],
] as const) {
  test(`${name}: an actor from the first word to the last, none before and none after`, async () => {
    const timers = new VirtualTimers();
    const registry = new LifecycleRegistry(name, machine, 10, timers);
    registry.handle(1, life[0]);
    assert.equal(registry.size, 0, 'not started yet');
    const { supervisor } = await running(registry, timers);
    registry.handle(7, 'closed');
    assert.equal(registry.size, 0, 'the end of something unknown');
    for (const type of life.slice(0, -1)) {
      registry.handle(7, type);
      await timers.advance(1);
      assert.equal(registry.size, 1);
    }
    registry.handle(7, 'closed');
    await timers.advance(1);
    assert.equal(registry.size, 0);
    const stopped = supervisor.stop();
    await timers.advance(0);
    await stopped;
  });
}

test('beyond the limit there is no actor, which is counted; a worker that is gone takes all of its own with it', async () => {
  const timers = new VirtualTimers();
  const registry = new LifecycleRegistry('links', linkMachine, 3, timers);
  await running(registry, timers);
  for (const [worker, handle] of [
    [0, 1],
    [1, 1],
    [1, 2],
    [1, 3],
  ] as const) {
    registry.handle(globalId(worker, handle), 'handshaking');
  }
  await timers.advance(1);
  assert.deepEqual([registry.size, registry.refused], [3, 1]);
  registry.workerLost(1);
  await timers.advance(1);
  assert.equal(registry.size, 1);
  registry.handle(globalId(1, 9), 'handshaking');
  assert.deepEqual([registry.size, registry.refused], [2, 1]);
});

test('handles of workers share one number space', () => {
  for (const [worker, handle] of [
    [0, 1],
    [63, 2 ** 32 - 1],
  ] as const) {
    const id = globalId(worker, handle);
    assert.ok(Number.isSafeInteger(id));
    assert.deepEqual([workerOf(id), handleOf(id)], [worker, handle]);
  }
});

test('without a worker there is nobody to choose, and nothing to count', async () => {
  const pool = new PumpPool();
  assert.throws(() => pool.choose(), /no pump worker is up/);
  assert.deepEqual(await pool.stats(), []);
  assert.equal(pool.get(0), undefined);
});

test('events are numbered whether or not somebody listens, and say nothing of what is not known', () => {
  const bus = new EventBus(() => 42);
  bus.publish('link', 'up');
  const heard: NodeEvent[] = [];
  const stop = bus.subscribe((event) => heard.push(event));
  bus.publish('circuit', 'ready', 5, { setupMs: 3, reason: undefined });
  stop();
  bus.publish('circuit', 'ended', 5);
  assert.deepEqual(heard, [
    { sequence: 2, timeUnixMs: 42, kind: 'circuit', name: 'ready', subject: '5', attributes: { setupMs: '3' } },
  ]);
});
