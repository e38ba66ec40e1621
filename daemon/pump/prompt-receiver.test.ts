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
      else if (buffers !== undefined) receiver.received(2, state.nowMs);
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
    (callback) => turns.push(callback),
  );
  const turn = () => {
    for (let next = turns.shift(); next !== undefined; next = turns.shift()) next();
  };
  return { state, receiver, turn };
}

test('one run of datagrams changes nothing, nor do lone ones, two runs close together do', () => {
  const { state, receiver } = setUp();
  for (let i = 0; i < 10; i++) receiver.received(1, 100);
  receiver.received(2, 100);
  receiver.received(2, 102.5);
  assert.equal(state.attends, 0);
  receiver.received(2, 103);
  assert.equal(state.attends, 1);
});

test('it attends while something comes, and a millisecond more', () => {
  const { state, receiver, turn } = setUp();
  state.coming = [1, 2, 1];
  receiver.received(2, 99);
  receiver.received(2, 100);
  turn();
  assert.deepEqual(
    state.waits.map((waitMs) => waitMs.toFixed(3)),
    ['0.050', '0.050', '0.050', '0.050', '0.950'],
  );
  assert.equal(state.ends, 1);
  assert.equal(state.attends, 1);
  // And again, when there is reason to.
  receiver.received(2, 101);
  assert.equal(state.attends, 2);
});

test('it does not wait while there is something to flush, which is flushed in that turn, nor beyond the next timer', () => {
  const { state, receiver, turn } = setUp();
  receiver.received(2, 99);
  receiver.received(2, 100);
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
  receiver.received(2, 99);
  receiver.received(2, 100);
  state.coming = [undefined];
  turn();
  assert.equal(state.waits.length, 1);
  assert.equal(state.ends, 1);
});

test('where sockets cannot be read so, that is asked once', () => {
  const { state, receiver } = setUp();
  state.can = false;
  for (let i = 0; i < 10; i++) receiver.received(2, 100);
  assert.equal(state.attends, 1);
});

test('a client whose cells wait for a timer of their own leaves its sockets to the event loop', () => {
  const { state, receiver, turn } = setUp();
  state.isPaced = true;
  receiver.received(2, 99);
  receiver.received(2, 100);
  assert.equal(state.attends, 0);
  state.isPaced = false;
  receiver.received(2, 100);
  assert.equal(state.attends, 1);
  state.isPaced = true;
  state.coming = [1];
  turn();
  assert.equal(state.ends, 1);
});

test('after something else has happened the wait is short for a turn: what was opened is not watched yet', () => {
  const { state, receiver, turn } = setUp();
  receiver.received(2, 99);
  receiver.received(2, 100);
  state.isLoopReady = true;
  turn();
  assert.ok(state.waits.length > 10);
  assert.ok(Math.max(...state.waits) <= 0.05);
  assert.equal(state.ends, 1);
});
