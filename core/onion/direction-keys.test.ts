import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import { Direction, DirectionKeys, GENERATION_CELLS, OLD_KEYS_MS } from './direction-keys.ts';

const noble = createNobleSuite();

/** A receiver that follows, and how often it has used the PRG. */
function receiver() {
  let prgCalls = 0;
  const suite: CryptoSuite = {
    ...noble,
    chacha20Xor: (...args) => {
      prgCalls++;
      noble.chacha20Xor(...args);
    },
  };
  const keys = new DirectionKeys(suite, new Uint8Array(32).fill(1), Direction.forward);
  const pad = new Uint8Array(16);
  const follow = (index: number, nowMs: number) => {
    assert.equal(keys.select(index, nowMs), Drop.none);
    const cellKeys = keys.candidates[0]!;
    keys.commit(cellKeys, nowMs);
    return cellKeys;
  };
  const receive = (index: number, nowMs: number) => {
    keys.writePad(follow(index, nowMs), index, pad, 0);
    return pad.slice();
  };
  return { keys, follow, receive, prgCalls: () => prgCalls };
}

test('pads come 64 at a time in every generation, also while the keys before are kept', () => {
  const { receive, prgCalls } = receiver();
  const CELLS = 640;
  for (const start of [0, GENERATION_CELLS, 2 * GENERATION_CELLS]) {
    const before = prgCalls();
    for (let i = 0; i < CELLS; i++) receive(start + i, i / 100);
    assert.ok(prgCalls() - before <= CELLS / 64 + 8, `${prgCalls() - before} calls from cell ${start} on`);
  }
});

test('a late cell of the generation before takes nothing from those of the present one', () => {
  const { receive, prgCalls } = receiver();
  const late = GENERATION_CELLS - 640;
  const alone = receiver().receive(late, 0);
  for (let i = 0; i < 64; i++) receive(GENERATION_CELLS + i, 0);
  const before = prgCalls();
  assert.deepEqual(receive(late, 1), alone);
  for (let i = 64; i < 640; i++) receive(GENERATION_CELLS + i, 1);
  assert.ok(prgCalls() - before <= 1 + 640 / 64);
});

test('keys of the generation before go after their time, with the cells that come or without any', () => {
  for (const ticks of [true, false]) {
    const { keys, follow } = receiver();
    follow(5, 0);
    follow(GENERATION_CELLS, 0);
    const held = keys.memoryBytes;
    for (let nowMs = 0; nowMs < OLD_KEYS_MS; nowMs += 1000) follow(GENERATION_CELLS + 1, nowMs);
    assert.equal(keys.memoryBytes, held);
    if (ticks) keys.expireOld(OLD_KEYS_MS);
    else assert.equal(keys.select(6, OLD_KEYS_MS), Drop.tooOld);
    assert.ok(keys.memoryBytes < held);
    follow(GENERATION_CELLS + 2, OLD_KEYS_MS);
  }
});
