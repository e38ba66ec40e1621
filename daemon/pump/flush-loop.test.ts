import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlushLoop } from './flush-loop.ts';

/** An engine that counts flushes; `due` is when it wants the next one. */
function counted() {
  const engine = {
    due: Number.POSITIVE_INFINITY,
    flushes: 0,
    onFlush: () => {},
    flush() {
      engine.flushes++;
      engine.due = Number.POSITIVE_INFINITY;
      engine.onFlush();
    },
    nextTimeoutMs: () => engine.due,
    nextPacedMs: () => Number.POSITIVE_INFINITY,
  };
  return engine;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test('everything of one turn is answered by one flush', async () => {
  const engine = counted();
  const loop = new FlushLoop(engine, () => 0);
  for (let i = 0; i < 10; i++) loop.wake();
  assert.equal(engine.flushes, 0);
  await turn();
  assert.equal(engine.flushes, 1);
  await turn();
  assert.equal(engine.flushes, 1);
  loop.stop();
});

test('a datagram alone after a quiet spell is answered at once, others at the end of the turn', async () => {
  const engine = counted();
  let nowMs = 10;
  const loop = new FlushLoop(engine, () => nowMs);
  loop.received(1, nowMs);
  assert.equal(engine.flushes, 1);
  nowMs += 0.1;
  loop.received(1, nowMs);
  assert.equal(engine.flushes, 1, 'too soon after the last');
  await turn();
  assert.equal(engine.flushes, 2);
  nowMs += 5;
  loop.received(2, nowMs);
  assert.equal(engine.flushes, 2, 'one of a run');
  await turn();
  assert.equal(engine.flushes, 3);
  loop.stop();
  nowMs += 5;
  loop.received(1, nowMs);
  assert.equal(engine.flushes, 3, 'stopped');
});

test('a deadline that stays the same sets no second timer', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const engine = counted();
  engine.onFlush = () => {
    engine.due = 30.4;
  };
  const set = context.mock.method(globalThis, 'setTimeout');
  let nowMs = 0;
  const loop = new FlushLoop(engine, () => nowMs);
  for (let i = 0; i < 5; i++) {
    loop.received(1, nowMs);
    nowMs += 1;
  }
  assert.equal(engine.flushes, 5);
  assert.equal(set.mock.callCount(), 1);
  loop.stop();
});

test('a wake from within a flush is another flush, in the next turn', async () => {
  const engine = counted();
  const loop = new FlushLoop(engine, () => 0);
  let again = 3;
  engine.onFlush = () => {
    if (again-- > 0) loop.wake();
  };
  loop.wake();
  for (let i = 0; i < 8; i++) await turn();
  assert.equal(engine.flushes, 4);
  loop.stop();
});

test('timers: flushed when due and not before, an earlier one replaces a later one', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const engine = counted();
  let nowMs = 1000;
  const pass = (ms: number) => {
    nowMs += ms;
    context.mock.timers.tick(ms);
  };
  const loop = new FlushLoop(engine, () => nowMs);
  engine.onFlush = () => {
    engine.due = engine.flushes === 1 ? 1100 : engine.flushes === 2 ? 1030 : Number.POSITIVE_INFINITY;
  };
  loop.wake();
  await turn();
  pass(20);
  assert.equal(engine.flushes, 1);
  loop.wake();
  await turn();
  assert.equal(engine.flushes, 2);
  pass(9);
  assert.equal(engine.flushes, 2);
  pass(1);
  assert.equal(engine.flushes, 3, 'at 1030');
  pass(1000);
  assert.equal(engine.flushes, 3, 'nothing is due any more');
  loop.stop();
});

test('a timer whose cause was put off looks again and sleeps on', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const engine = counted();
  let nowMs = 0;
  const loop = new FlushLoop(engine, () => nowMs);
  engine.onFlush = () => {
    if (engine.flushes === 1) engine.due = 10.5;
  };
  loop.wake();
  await turn();
  engine.due = 40;
  nowMs = 11;
  context.mock.timers.tick(11);
  assert.equal(engine.flushes, 1);
  nowMs = 40;
  context.mock.timers.tick(29);
  assert.equal(engine.flushes, 2);
  loop.stop();
});

test('after stop() nothing is flushed', async () => {
  const engine = counted();
  const loop = new FlushLoop(engine, () => 0);
  loop.wake();
  loop.stop();
  loop.wake();
  await turn();
  assert.equal(engine.flushes, 0);
});

test('what is to be done at the end of the turn is done before the flush, in order, once', async () => {
  const engine = counted();
  let nowMs = 10;
  const loop = new FlushLoop(engine, () => nowMs);
  const seen: string[] = [];
  engine.onFlush = () => seen.push('flush');
  loop.received(1, nowMs);
  loop.atTurnEnd(() => seen.push('a'));
  loop.atTurnEnd(() => {
    seen.push('b');
    loop.wake(); // is part of the flush that follows
    loop.atTurnEnd(() => seen.push('c'));
  });
  await turn();
  assert.deepEqual(seen, ['flush', 'a', 'b', 'flush']);
  await turn();
  assert.deepEqual(seen, ['flush', 'a', 'b', 'flush', 'c', 'flush']);
  await turn();
  assert.equal(engine.flushes, 3);

  // A datagram alone: its bytes go to the reader within the same call, and nothing is left to do behind it.
  nowMs += 5;
  loop.atTurnEnd(() => seen.push('d'));
  loop.received(1, nowMs);
  assert.deepEqual(seen.slice(6), ['d', 'flush']);
  await turn();
  assert.equal(engine.flushes, 4);

  loop.atTurnEnd(() => seen.push('e'));
  loop.stop();
  loop.atTurnEnd(() => seen.push('f'));
  await turn();
  assert.deepEqual(seen.slice(8), ['e', 'f'], 'readers get what there is, though nothing is flushed any more');
  assert.equal(engine.flushes, 4);
});

test('after a quiet spell a wake is answered when what runs has ended, not behind other events', async () => {
  const engine = counted();
  let nowMs = 10;
  const loop = new FlushLoop(engine, () => nowMs);
  loop.wake();
  loop.wake();
  assert.equal(engine.flushes, 0);
  await new Promise<void>((resolve) => process.nextTick(resolve));
  assert.equal(engine.flushes, 1);
  nowMs += 0.1;
  loop.wake();
  await new Promise<void>((resolve) => process.nextTick(resolve));
  assert.equal(engine.flushes, 1, 'too soon after the last');
  await turn();
  assert.equal(engine.flushes, 2);
  loop.stop();
});

test('cells of links in constant mode leave by their own timer, not with what else is flushed', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const flushes: [number, boolean][] = [];
  const due = [12.4, 30.2, Number.POSITIVE_INFINITY];
  const engine = {
    flush(nowMs: number, paced: boolean) {
      flushes.push([nowMs, paced]);
      if (paced && due[0]! <= nowMs) due.shift();
    },
    nextTimeoutMs: () => Number.POSITIVE_INFINITY,
    nextPacedMs: () => due[0]!,
  };
  let nowMs = 10;
  const loop = new FlushLoop(engine, () => nowMs);
  const received = async (atMs: number) => {
    nowMs = atMs;
    loop.received(2, nowMs);
    await turn();
  };
  await received(10);
  await received(12.6);
  assert.deepEqual(flushes, [
    [10, false],
    [12.6, false],
  ]);
  nowMs = 13;
  context.mock.timers.tick(3);
  assert.deepEqual(flushes.at(-1), [13, true]);
  nowMs = 31;
  context.mock.timers.tick(18);
  assert.deepEqual(flushes.slice(3), [[31, true]]);
  loop.stop();
});

test('a turn that is over early flushes what waits, and once; or does what its timer stands for', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const engine = counted();
  let nowMs = 0;
  const loop = new FlushLoop(engine, () => nowMs);
  loop.turnOver(nowMs);
  assert.equal(engine.flushes, 0, 'nothing waits');
  loop.wake();
  assert.equal(loop.isScheduled, true);
  engine.onFlush = () => {
    engine.due = nowMs + 2.5;
  };
  loop.turnOver(nowMs);
  assert.equal(engine.flushes, 1);
  assert.equal(loop.nextTimerMs, 3);
  await turn();
  assert.equal(engine.flushes, 1, 'it was done already');
  nowMs = 2.6;
  loop.turnOver(nowMs);
  assert.equal(engine.flushes, 1, 'the timer would not fire yet');
  nowMs = 3;
  engine.onFlush = () => {};
  loop.turnOver(nowMs);
  assert.equal(engine.flushes, 2);
  context.mock.timers.tick(10);
  assert.equal(engine.flushes, 2, 'the timer itself has nothing left to do');
  loop.stop();
});
