import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FromPump } from './contract.ts';
import { Outbox } from './outbox.ts';

const log = (message: string): FromPump => ({ type: 'log', level: 'info', message, fields: {} });

function setUp() {
  const state = { isFlushDue: false, posted: [] as string[] };
  const turns: (() => void)[] = [];
  const port = { postMessage: (message: FromPump) => state.posted.push(message.type === 'log' ? message.message : '') };
  const outbox = new Outbox(
    port,
    () => state.isFlushDue,
    (callback) => turns.push(callback),
  );
  const turn = () => {
    for (const callback of turns.splice(0)) callback();
  };
  return { state, outbox, turn };
}

test('what is told goes behind the flush, and is put off once', () => {
  const { state, outbox, turn } = setUp();
  outbox.tell(log('a'));
  outbox.tell(log('b'));
  assert.deepEqual(state.posted, []);
  turn();
  assert.deepEqual(state.posted, ['a', 'b']);
  state.isFlushDue = true;
  outbox.tell(log('c'));
  turn();
  assert.deepEqual(state.posted, ['a', 'b']);
  turn();
  assert.deepEqual(state.posted, ['a', 'b', 'c']);
});

test('order is kept: what is posted takes along what was told before', () => {
  const { state, outbox, turn } = setUp();
  outbox.tell(log('a'));
  outbox.post(log('b'));
  outbox.tell(log('c'));
  assert.deepEqual(state.posted, ['a', 'b']);
  turn();
  turn();
  assert.deepEqual(state.posted, ['a', 'b', 'c']);
});
