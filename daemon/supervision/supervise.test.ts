import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assign, createMachine, fromPromise } from 'xstate';
import { actorChild } from './actor-child.ts';
import { type ChildContext, type ChildSpec, StartError, Supervisor, supervisorChild } from './supervise.ts';
import { VirtualTimers } from './timers.ts';

interface Rig {
  readonly timers: VirtualTimers;
  readonly log: string[];
  readonly contexts: Map<string, ChildContext>;
  readonly child: (id: string, overrides?: Partial<ChildSpec>) => ChildSpec;
  readonly dependencies: ConstructorParameters<typeof Supervisor>[2];
  readonly escalations: string[];
}

const rig = (): Rig => {
  const timers = new VirtualTimers();
  const log: string[] = [];
  const contexts = new Map<string, ChildContext>();
  const escalations: string[] = [];
  return {
    timers,
    log,
    contexts,
    escalations,
    dependencies: { timers, unixMs: () => 1000, onEscalate: (error) => escalations.push(error.message) },
    child: (id, overrides = {}) => ({
      id,
      restart: 'permanent',
      shutdownMs: 1000,
      inboxLimit: 4,
      start: (context) => {
        log.push(`+${id}`);
        contexts.set(id, context);
        return {
          stop: () => {
            log.push(`-${id}`);
          },
        };
      },
      ...overrides,
    }),
  };
};

const started = async (supervisor: Supervisor, timers: VirtualTimers): Promise<Supervisor> => {
  const promise = supervisor.start();
  await timers.advance(0);
  await promise;
  return supervisor;
};

test('children start in order and stop in reverse', async () => {
  const { child, log, timers, dependencies } = rig();
  const supervisor = await started(
    new Supervisor({ id: 'r', strategy: 'one_for_one' }, [child('a'), child('b'), child('c')], dependencies),
    timers,
  );
  await supervisor.stop();
  assert.deepEqual(log, ['+a', '+b', '+c', '-c', '-b', '-a']);
  assert.equal(timers.pending, 0);
});

for (const [strategy, expected] of [
  ['one_for_one', ['-b', '+b']],
  ['rest_for_one', ['-c', '-b', '+b', '+c']],
  ['one_for_all', ['-c', '-b', '-a', '+a', '+b', '+c']],
] as const) {
  test(`${strategy}: what a crash of the second of three takes with it`, async () => {
    const { child, log, timers, contexts, dependencies } = rig();
    const supervisor = await started(
      new Supervisor({ id: 'r', strategy, backoffMinMs: 100 }, [child('a'), child('b'), child('c')], dependencies),
      timers,
    );
    log.length = 0;
    contexts.get('b')!.crash(new Error('boom'));
    await timers.advance(99);
    assert.ok(!log.some((entry) => entry.startsWith('+')), 'restarted before its back-off');
    assert.equal(supervisor.healthy, false);
    await timers.advance(1);
    assert.deepEqual(log, expected);
    const b = supervisor.snapshot().children.find((entry) => entry.id === 'b')!;
    assert.equal(b.restarts, 1);
    assert.equal(b.lastError, 'boom');
    assert.equal(b.lastCrashUnixMs, 1000);
    assert.equal(b.status, 'running');
    assert.equal(supervisor.healthy, true);
    await supervisor.stop();
  });
}

test('restart policies: who comes back after a crash, who after being done', async () => {
  const { child, timers, contexts, dependencies } = rig();
  const ids = ['permanent', 'transient', 'temporary'] as const;
  const make = () =>
    new Supervisor(
      { id: 'r', strategy: 'one_for_one', backoffMinMs: 1 },
      ids.map((restart) => child(restart, { restart })),
      dependencies,
    );
  for (const [end, expected] of [
    ['crash', ['running', 'running', 'stopped']],
    ['done', ['running', 'stopped', 'stopped']],
  ] as const) {
    const supervisor = await started(make(), timers);
    for (const id of ids) end === 'crash' ? contexts.get(id)!.crash('x') : contexts.get(id)!.done();
    await timers.advance(10);
    assert.deepEqual(
      supervisor.snapshot().children.map((entry) => entry.status),
      expected,
      end,
    );
    await supervisor.stop();
  }
});

test('back-off doubles up to its limit and starts over after a quiet period', async () => {
  const { child, log, timers, contexts, dependencies } = rig();
  const supervisor = await started(
    new Supervisor(
      { id: 'r', strategy: 'one_for_one', backoffMinMs: 100, backoffMaxMs: 300, maxRestarts: 50, periodMs: 1000 },
      [child('a')],
      dependencies,
    ),
    timers,
  );
  const crashAndMeasure = async (): Promise<number> => {
    log.length = 0;
    const beforeMs = timers.nowMs();
    contexts.get('a')!.crash('x');
    while (!log.includes('+a')) await timers.advance(1);
    return timers.nowMs() - beforeMs;
  };
  await timers.advance(1);
  assert.deepEqual([await crashAndMeasure(), await crashAndMeasure(), await crashAndMeasure()], [100, 200, 300]);
  await timers.advance(1000);
  assert.equal(await crashAndMeasure(), 100);
  await supervisor.stop();
});

test('too many restarts in the period stop everything and escalate', async () => {
  const { child, log, timers, contexts, dependencies, escalations } = rig();
  const supervisor = await started(
    new Supervisor(
      { id: 'r', strategy: 'one_for_one', maxRestarts: 2, periodMs: 10_000, backoffMinMs: 1 },
      [child('a'), child('b')],
      dependencies,
    ),
    timers,
  );
  for (let i = 0; i < 3; i++) {
    contexts.get('b')!.crash(new Error(`no. ${i}`));
    await timers.advance(100);
  }
  assert.equal(escalations.length, 1);
  assert.match(escalations[0]!, /b was restarted more than 2 times in 10 s; last: no\. 2/);
  assert.equal(log.at(-1), '-a');
  assert.deepEqual(
    supervisor.snapshot().children.map((entry) => entry.status),
    ['stopped', 'failed'],
  );
});

test('restarts that are far apart do not escalate', async () => {
  const { child, timers, contexts, dependencies, escalations } = rig();
  const supervisor = await started(
    new Supervisor(
      { id: 'r', strategy: 'one_for_one', maxRestarts: 2, periodMs: 1000, backoffMinMs: 1 },
      [child('a')],
      dependencies,
    ),
    timers,
  );
  for (let i = 0; i < 10; i++) {
    contexts.get('a')!.crash('x');
    await timers.advance(1001);
  }
  assert.deepEqual(escalations, []);
  assert.equal(supervisor.snapshot().children[0]!.restarts, 10);
  await supervisor.stop();
});

test('a supervisor below escalates to the one above, which restarts it as a whole', async () => {
  const { child, log, timers, contexts, dependencies, escalations } = rig();
  const inner = supervisorChild(
    { id: 'inner', strategy: 'one_for_one', maxRestarts: 1, backoffMinMs: 1 },
    () => [child('x'), child('y')],
    dependencies,
  );
  const supervisor = await started(
    new Supervisor({ id: 'root', strategy: 'one_for_one', backoffMinMs: 1 }, [inner], dependencies),
    timers,
  );
  assert.deepEqual(supervisor.paths(), ['inner', 'inner/x', 'inner/y']);
  contexts.get('x')!.crash('1');
  await timers.advance(10);
  log.length = 0;
  contexts.get('x')!.crash('2');
  await timers.advance(10);
  assert.deepEqual(log, ['-x', '-y', '+x', '+y']);
  assert.deepEqual(escalations, []);
  const [snapshot] = supervisor.snapshot().children;
  assert.equal(snapshot!.restarts, 1);
  assert.equal(snapshot!.supervisor!.children.length, 2);
  await supervisor.stop();
});

test('crash() ends a child on purpose and says how often it was restarted', async () => {
  const { child, timers, dependencies } = rig();
  const inner = supervisorChild(
    { id: 'g', strategy: 'one_for_one', backoffMinMs: 1 },
    () => [child('x')],
    dependencies,
  );
  const supervisor = await started(
    new Supervisor({ id: 'root', strategy: 'one_for_one' }, [inner], dependencies),
    timers,
  );
  assert.equal(supervisor.crash('g/x', 'asked for'), 0);
  assert.equal(supervisor.crash('g/x', 'asked for'), undefined, 'it is down now');
  await timers.advance(10);
  assert.equal(supervisor.crash('g/x', 'asked for'), 1);
  assert.equal(supervisor.crash('g/nobody', 'x'), undefined);
  assert.equal(supervisor.crash('nobody/x', 'x'), undefined);
  await supervisor.stop();
});

test('a child that does not stop in time is killed, and the others still stop', async () => {
  const { child, log, timers, dependencies } = rig();
  const stuck = child('stuck', {
    shutdownMs: 500,
    start: () => ({ stop: () => new Promise<void>(() => {}), kill: () => log.push('killed') }),
  });
  const supervisor = await started(
    new Supervisor({ id: 'r', strategy: 'one_for_one' }, [child('a'), stuck], dependencies),
    timers,
  );
  const stopped = supervisor.stop();
  await timers.advance(499);
  assert.deepEqual(log, ['+a']);
  await timers.advance(1);
  await stopped;
  assert.deepEqual(log, ['+a', 'killed', '-a']);
});

test('a start that fails stops what was started and says which child it was', async () => {
  const { child, log, timers, dependencies } = rig();
  const bad = child('bad', {
    start: async () => {
      throw new Error('no port');
    },
  });
  const supervisor = new Supervisor({ id: 'r', strategy: 'one_for_one' }, [child('a'), bad, child('c')], dependencies);
  const promise = supervisor.start();
  const outcome = assert.rejects(
    promise,
    (error) => error instanceof StartError && /bad did not start: no port/.test(error.message),
  );
  await timers.advance(0);
  await outcome;
  assert.deepEqual(log, ['+a', '-a']);
});

test('a start that hangs is a failed start', async () => {
  const { child, timers, dependencies } = rig();
  const hangs = child('hangs', { start: () => new Promise(() => {}) });
  const supervisor = new Supervisor({ id: 'r', strategy: 'one_for_one', startTimeoutMs: 50 }, [hangs], dependencies);
  const outcome = assert.rejects(supervisor.start(), /hangs did not start: start took more than 50 ms/);
  await timers.advance(50);
  await outcome;
});

test('a restart that fails is tried again', async () => {
  const { child, timers, dependencies } = rig();
  let starts = 0;
  let context: ChildContext | undefined;
  const flaky = child('flaky', {
    start: (given) => {
      context = given;
      starts++;
      if (starts === 2 || starts === 3) throw new Error('not yet');
      return { stop: () => {} };
    },
  });
  const supervisor = await started(
    new Supervisor({ id: 'r', strategy: 'one_for_one', backoffMinMs: 1 }, [flaky], dependencies),
    timers,
  );
  context!.crash('x');
  await timers.advance(100);
  assert.equal(starts, 4);
  assert.equal(supervisor.healthy, true);
  await supervisor.stop();
});

test('stop during a back-off does not wait for it', async () => {
  const { child, timers, contexts, dependencies, log } = rig();
  const supervisor = await started(
    new Supervisor({ id: 'r', strategy: 'one_for_one', backoffMinMs: 5000 }, [child('a')], dependencies),
    timers,
  );
  contexts.get('a')!.crash('x');
  await timers.advance(1);
  await supervisor.stop();
  await timers.advance(10_000);
  assert.deepEqual(log, ['+a', '-a']);
});

test('reports of an instance that was replaced are ignored', async () => {
  const { child, timers, contexts, dependencies } = rig();
  const supervisor = await started(
    new Supervisor({ id: 'r', strategy: 'one_for_one', backoffMinMs: 1 }, [child('a')], dependencies),
    timers,
  );
  const old = contexts.get('a')!;
  old.crash('first');
  old.crash('again');
  await timers.advance(10);
  old.crash('late');
  await timers.advance(10);
  assert.equal(supervisor.snapshot().children[0]!.restarts, 1);
  assert.ok(old.signal.aborted);
  await supervisor.stop();
});

test('children added at run time: temporary ones are forgotten when they end', async () => {
  const { child, timers, contexts, dependencies } = rig();
  const supervisor = await started(
    new Supervisor({ id: 'r', strategy: 'one_for_all' }, [child('a')], dependencies),
    timers,
  );
  for (const id of ['x', 'y']) {
    const added = supervisor.add(child(id, { restart: 'temporary' }));
    await timers.advance(0);
    await added;
  }
  assert.equal(supervisor.size, 3);
  contexts.get('x')!.done();
  contexts.get('y')!.crash('lost');
  await timers.advance(1);
  assert.deepEqual(
    supervisor.snapshot().children.map((entry) => entry.id),
    ['a'],
  );
  await supervisor.stop();
});

test('an inbox is bounded, and outlives a crash that a message caused', async () => {
  const { child, timers, dependencies } = rig();
  const got: unknown[] = [];
  const supervisor = await started(
    new Supervisor(
      { id: 'r', strategy: 'one_for_one', backoffMinMs: 10 },
      [
        child('a', {
          start: (context) => {
            context.inbox.attach((message) => {
              if (message === 'poison') throw new Error('poisoned');
              got.push(message);
            }, context.crash);
            return { stop: () => {} };
          },
        }),
      ],
      dependencies,
    ),
    timers,
  );
  assert.deepEqual(
    [1, 'poison', 2, 3, 4].map((message) => supervisor.send('a', message)),
    [true, true, true, true, false],
  );
  assert.equal(supervisor.send('nobody', 1), false);
  await timers.advance(0);
  assert.deepEqual(got, [1]);
  let [a] = supervisor.snapshot().children;
  assert.equal(a!.lastError, 'poisoned');
  assert.equal(a!.inboxLength, 2);
  assert.equal(a!.inboxDropped, 1);
  await timers.advance(10);
  assert.deepEqual(got, [1, 2, 3]);
  [a] = supervisor.snapshot().children;
  assert.equal(a!.restarts, 1);
  await supervisor.stop();
});

test('xstate: a throw in an action and a rejected promise are crashes, a final state is an end', async () => {
  const { timers, dependencies } = rig();
  const machine = createMachine({
    id: 'm',
    initial: 'idle',
    context: { count: 0 },
    states: {
      idle: {
        on: {
          throw: {
            actions: () => {
              throw new Error('in an action');
            },
          },
          reject: 'working',
          count: { actions: assign({ count: ({ context }) => context.count + 1 }) },
          finish: 'finished',
        },
      },
      working: {
        invoke: {
          src: fromPromise(async () => {
            throw new Error('in a promise');
          }),
        },
      },
      finished: { type: 'final' },
    },
  });
  const supervisor = await started(
    new Supervisor(
      { id: 'r', strategy: 'one_for_one', backoffMinMs: 1 },
      [actorChild({ id: 'm', machine, input: () => ({}), timers, restart: 'transient' })],
      dependencies,
    ),
    timers,
  );
  const status = () => supervisor.snapshot().children[0]!;
  assert.equal(status().machineState, 'idle');
  for (const [event, error] of [
    ['throw', 'in an action'],
    ['reject', 'in a promise'],
  ] as const) {
    supervisor.send('m', { type: event });
    await timers.advance(50);
    assert.equal(status().lastError, error);
    assert.equal(status().status, 'running');
  }
  assert.equal(status().restarts, 2);
  supervisor.send('m', { type: 'finish' });
  await timers.advance(50);
  assert.equal(status().status, 'stopped');
  assert.equal(status().restarts, 2);
  await supervisor.stop();
});

test('xstate: delays run on the given timers, and a stop event has time to finish', async () => {
  const { timers, dependencies } = rig();
  const machine = createMachine({
    initial: 'on',
    states: {
      on: { on: { stop: 'draining' } },
      draining: { after: { 300: 'off' } },
      off: { type: 'final' },
    },
  });
  const supervisor = await started(
    new Supervisor(
      { id: 'r', strategy: 'one_for_one' },
      [actorChild({ id: 'm', machine, input: () => ({}), timers, stopEvent: { type: 'stop' } })],
      dependencies,
    ),
    timers,
  );
  let stopped = false;
  const stop = supervisor.stop().then(() => {
    stopped = true;
  });
  await timers.advance(299);
  assert.equal(stopped, false);
  await timers.advance(1);
  await stop;
  assert.equal(timers.pending, 0);
});

test('told to stop while a child starts: the child is waited for and stopped, those after it never start', async () => {
  const { child, log, timers, dependencies } = rig();
  const slow = child('b', {
    start: async (context) => {
      log.push('+b');
      await new Promise<void>((resolve) => timers.after(500, resolve));
      log.push(`b is up${context.signal.aborted ? ', too late' : ''}`);
      return { stop: () => void log.push('-b') };
    },
  });
  const supervisor = new Supervisor({ id: 'r', strategy: 'one_for_one' }, [child('a'), slow, child('c')], dependencies);
  const starting = supervisor.start();
  const refused = assert.rejects(starting, StartError);
  await timers.advance(100);
  const stopping = supervisor.stop();
  await timers.advance(1000);
  await stopping;
  await refused;
  assert.deepEqual(log, ['+a', '+b', 'b is up, too late', '-b', '-a']);
  assert.equal(timers.pending, 0);
});

test('told to stop while a child is added: nothing of it is left', async () => {
  const { child, log, timers, dependencies } = rig();
  const supervisor = await started(
    new Supervisor({ id: 'r', strategy: 'one_for_one' }, [child('a')], dependencies),
    timers,
  );
  const slow = child('x', {
    start: async () => {
      await new Promise<void>((resolve) => timers.after(500, resolve));
      log.push('+x');
      return { stop: () => void log.push('-x') };
    },
  });
  const refused = assert.rejects(supervisor.add(slow), StartError);
  await timers.advance(100);
  const stopping = supervisor.stop();
  await timers.advance(1000);
  await stopping;
  await refused;
  assert.deepEqual(log, ['+a', '+x', '-x', '-a']);
});

test('a start that outlives the time for stopping is given up, and stopped when it comes', async () => {
  const { child, log, timers, dependencies } = rig();
  const slow = child('a', {
    start: async () => {
      await new Promise<void>((resolve) => timers.after(5000, resolve));
      log.push('+a');
      return { stop: () => void log.push('-a') };
    },
  });
  const supervisor = new Supervisor({ id: 'r', strategy: 'one_for_one' }, [slow], dependencies);
  const refused = assert.rejects(supervisor.start(), StartError);
  await timers.advance(10);
  const stopping = supervisor.stop();
  await timers.advance(1000);
  await stopping;
  assert.deepEqual(log, []);
  await timers.advance(5000);
  await refused;
  assert.deepEqual(log, ['+a', '-a']);
});

test('a child that is removed during its back-off is not started again', async () => {
  const { child, log, timers, contexts, dependencies } = rig();
  const supervisor = await started(
    new Supervisor({ id: 'r', strategy: 'one_for_one', backoffMinMs: 100 }, [child('a')], dependencies),
    timers,
  );
  const adding = supervisor.add(child('x'));
  await timers.advance(0);
  await adding;
  contexts.get('x')!.crash(new Error('boom'));
  await timers.advance(50);
  await supervisor.remove('x');
  await timers.advance(1000);
  assert.deepEqual(log, ['+a', '+x', '-x']);
  assert.equal(supervisor.size, 1);
  await supervisor.stop();
});
