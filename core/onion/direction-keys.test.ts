import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { Drop } from '../drop-reason.ts';
import { Direction, DirectionKeys, GENERATION_CELLS, OLD_KEYS_MS } from './direction-keys.ts';

const noble = createNobleSuite();

/** A receiver that follows. */
function receiver() {
  const keys = new DirectionKeys(noble, new Uint8Array(32).fill(1), Direction.forward);
  const follow = (index: number, nowMs: number) => {
    assert.equal(keys.select(index, nowMs), Drop.none);
    keys.commit(keys.candidates[0]!, nowMs);
  };
  return { keys, follow };
}

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
