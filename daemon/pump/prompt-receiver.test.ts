import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PromptReceiver } from './prompt-receiver.ts';

/** Sockets and a flush loop that note what they are asked; time goes by in waits alone. */
function setUp() {
  const state = {
    nowMs: 100,
    can: true,
    attends: 0,
    ends: 0,
    flushes: 0,
    timers: 0,
    /** What the next turns bring, by turn; none = nothing comes. */
    coming: [] as (number | undefined)[],
    waits: [] as number[],
    /** Of what comes. */
    datagrams: 2,
    relayed: false,
    turns: 0,
    /** For the handling of what comes. */
    takesMs: 0,
    isScheduled: false,
    isPaced: false,
    isLoopReady: false,
    nextTimerMs: Number.POSITIVE_INFINITY,
  };
  const sockets = {
    get isLoopReady() {
      return state.isLoopReady;
    },
    attend: () => {
      state.attends++;
      return state.can;
    },
    endAttention: () => {
      state.ends++;
    },
    receive: (waitMs: number) => {
      state.waits.push(waitMs);
      const buffers = state.coming.length > 0 ? state.coming.shift() : 0;
      if (buffers === 0) state.nowMs += waitMs;
      else if (buffers !== undefined) state.nowMs += state.takesMs;
      if (buffers) receiver.received(state.datagrams, state.relayed, state.nowMs);
      return buffers;
    },
  };
  const loop = {
    get isScheduled() {
      return state.isScheduled;
    },
    get isPaced() {
      return state.isPaced;
    },
    get nextTimerMs() {
      return state.nextTimerMs;
    },
    turnOver: () => {
      if (state.isScheduled) state.flushes++;
      state.isScheduled = false;
      if (state.nextTimerMs <= state.nowMs) {
        state.timers++;
        state.nextTimerMs = Number.POSITIVE_INFINITY;
      }
    },
  };
  const turns: (() => void)[] = [];
  const receiver = new PromptReceiver(
    sockets,
    loop,
    () => state.nowMs,
    (callback) => {
      state.turns++;
      turns.push(callback);
    },
  );
  const turn = () => {
    for (let next = turns.shift(); next !== undefined; next = turns.shift()) next();
  };
  return { state, receiver, turn };
}

test('one run of datagrams changes nothing, nor do lone ones, two runs close together do', () => {
  const { state, receiver } = setUp();
  for (let i = 0; i < 10; i++) receiver.received(1, false, 100);
  receiver.received(2, false, 100);
  receiver.received(2, false, 102.5);
  assert.equal(state.attends, 0);
  receiver.received(2, false, 103);
  assert.equal(state.attends, 1);
});

test('it attends while something comes, and a millisecond more', () => {
  const { state, receiver, turn } = setUp();
  state.coming = [1, 2, 1];
  receiver.received(2, false, 99);
  receiver.received(2, false, 100);
  turn();
  assert.deepEqual(
    state.waits.map((waitMs) => waitMs.toFixed(3)),
    ['0.050', '0.050', '0.050', '0.050', '0.950'],
  );
  assert.equal(state.ends, 1);
  assert.equal(state.attends, 1);
  // And again, when there is reason to.
  receiver.received(2, false, 101);
  assert.equal(state.attends, 2);
});

test('it does not wait while there is something to flush, which is flushed in that turn, nor beyond the next timer', () => {
  const { state, receiver, turn } = setUp();
  receiver.received(2, false, 99);
  receiver.received(2, false, 100);
  state.isScheduled = true;
  state.nextTimerMs = 100.25;
  state.coming = [1, 0];
  turn();
  assert.equal(state.flushes, 1);
  assert.equal(state.waits[0], 0);
  assert.deepEqual(
    state.waits.slice(1, 3).map((waitMs) => waitMs.toFixed(3)),
    ['0.050', '0.200'],
    'the timer is a quarter of a millisecond off',
  );
  assert.equal(state.timers, 1);
});

test('sockets that are gone end it', () => {
  const { state, receiver, turn } = setUp();
  receiver.received(2, false, 99);
  receiver.received(2, false, 100);
  state.coming = [undefined];
  turn();
  assert.equal(state.waits.length, 1);
  assert.equal(state.ends, 1);
});

test('where sockets cannot be read so, that is asked once', () => {
  const { state, receiver } = setUp();
  state.can = false;
  for (let i = 0; i < 10; i++) receiver.received(2, false, 100);
  assert.equal(state.attends, 1);
});

test('a client whose cells wait for a timer of their own leaves its sockets to the event loop', () => {
  const { state, receiver, turn } = setUp();
  state.isPaced = true;
  receiver.received(2, false, 99);
  receiver.received(2, false, 100);
  assert.equal(state.attends, 0);
  state.isPaced = false;
  receiver.received(2, false, 100);
  assert.equal(state.attends, 1);
  state.isPaced = true;
  state.coming = [1];
  turn();
  assert.equal(state.ends, 1);
});

test('after something else has happened the wait is short for a turn: what was opened is not watched yet', () => {
  const { state, receiver, turn } = setUp();
  receiver.received(2, false, 99);
  receiver.received(2, false, 100);
  state.isLoopReady = true;
  turn();
  assert.ok(state.waits.length > 10);
  assert.ok(Math.max(...state.waits) <= 0.05);
  assert.equal(state.ends, 1);
});

test('lone datagrams that were passed on count when they follow closely, those that end here never do', () => {
  const { state, receiver } = setUp();
  for (let i = 0; i < 10; i++) receiver.received(1, false, 100);
  receiver.received(1, true, 100);
  receiver.received(1, true, 101.1);
  assert.equal(state.attends, 0, 'further apart than it would wait');
  receiver.received(1, true, 101.9);
  assert.equal(state.attends, 1);
});

test('what is only passed on is waited for again in the same turn, for some milliseconds', () => {
  const { state, receiver, turn } = setUp();
  receiver.received(1, true, 99.5);
  receiver.received(1, true, 100);
  Object.assign(state, { datagrams: 1, relayed: true, takesMs: 0.5, coming: [...Array(10).fill(1), 0] });
  turn();
  // The first wait is short: something may just have been opened.
  assert.deepEqual(
    state.waits.map((waitMs) => waitMs.toFixed(2)),
    ['0.05', ...Array(10).fill('1.00')],
  );
  // One of eight buffers (4 ms), and one of the other two and a wait for nothing, which is the last.
  assert.equal(state.turns, 2);
  assert.equal(state.ends, 1);
});

test('a turn ends with what does not only pass, and when the event loop has something to do', () => {
  for (const other of [{ relayed: false }, { isLoopReady: true }]) {
    const { state, receiver, turn } = setUp();
    receiver.received(2, true, 99.5);
    receiver.received(2, true, 100);
    Object.assign(state, { relayed: true, coming: [1, 1, 1, 1] }, other);
    turn();
    assert.ok(state.turns >= 5, `${state.turns} turns for four buffers`);
  }
});
