import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { Drop } from '../drop-reason.ts';
import { Direction, DirectionKeys, GENERATION_CELLS } from './direction-keys.ts';

test('a sender that leaps from generation to generation is followed for some, then made to wait', () => {
  const keys = new DirectionKeys(createNobleSuite(), new Uint8Array(32).fill(1), Direction.backward);
  const leap = (generation: number, nowMs: number): Drop => {
    const drop = keys.select(generation * GENERATION_CELLS, nowMs);
    if (drop === Drop.none) keys.commit(keys.candidates[0]!, nowMs);
    return drop;
  };
  for (let generation = 4; generation <= 16; generation += 4) assert.equal(leap(generation, 1000), Drop.none);
  assert.equal(leap(20, 1500), Drop.limit);
  assert.equal(leap(16, 1500), Drop.none);
  assert.equal(leap(20, 2000), Drop.none);
});
