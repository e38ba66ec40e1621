import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import { Measurer } from './measurer.ts';
import { NodeHistory } from './node-history.ts';

const HOUR_MS = 3_600_000;
const contactOf = (id: string) => ({ nodeId: new TextEncoder().encode(id) }) as unknown as NodeContact;
const folder = mkdtempSync(join(tmpdir(), 'nyx-measurer-'));
after(() => rmSync(folder, { recursive: true }));

/** A network whose nodes have these speeds; undefined = lets nothing through. */
function measuring(speeds: Record<string, number | undefined>, bytesPerEpoch = 1000) {
  const state = {
    nowMs: 1000 * HOUR_MS,
    asked: [] as string[],
    begunWith: [] as (number | undefined)[],
    speeds,
    history: new NodeHistory(join(folder, 'none')),
  };
  const measurer = new Measurer(
    { bytesPerNode: 100, bytesPerEpoch, epochSeconds: 3600 },
    {
      candidates: () =>
        Object.keys(state.speeds).map((id) => ({
          id,
          contact: () => contactOf(id),
          measuredMs: state.history.measuredMs(id),
          speed: state.history.speed(id),
        })),
      last: () => contactOf('own'),
      measure: async ({ nodeId }, _last, { lastBytesPerSecond }) => {
        const id = new TextDecoder().decode(nodeId);
        state.asked.push(id);
        state.begunWith.push(lastBytesPerSecond);
        return { bytesPerSecond: state.speeds[id], sentBytes: 100 };
      },
      measured: (id, speed) => state.history.measured(id, 1000, speed, state.nowMs),
      unixMs: () => state.nowMs,
    },
  );
  const steps = async (count: number, gapMs = 2000) => {
    for (let i = 0; i < count; i++) {
      await measurer.step();
      state.nowMs += gapMs;
    }
  };
  return { state, measurer, steps };
}

test('each node once, those that were never measured first, and again only after six hours', async () => {
  const { state, steps } = measuring({ a: 5, b: 7 });
  await steps(6);
  assert.deepEqual(state.asked, ['a', 'b']);
  state.nowMs += 6 * HOUR_MS;
  state.speeds.c = 9;
  await steps(6);
  assert.deepEqual(state.asked, ['a', 'b', 'c', 'a', 'b']);
  assert.deepEqual(state.begunWith, [undefined, undefined, undefined, 5, 7], 'each begins where it was before');
});

test('an epoch has its budget of bytes, spent in vain or not', async () => {
  const { state, measurer, steps } = measuring({ a: 1, b: undefined, c: 3, d: 4 }, 350);
  await steps(20, 100);
  assert.equal(state.asked.length, 3);
  assert.equal(measurer.spentBytes, 300);
  state.nowMs += HOUR_MS;
  await steps(20, 100);
  assert.deepEqual(state.asked.slice(3).sort(), ['b', 'd']);
});

test('who lets nothing through while others do has speed 0; when nobody does, nobody is to blame', async () => {
  const alone = measuring({ a: undefined, b: undefined }, 1e9);
  await alone.steps(100);
  assert.ok(alone.state.asked.length >= 6);
  assert.equal(alone.state.history.speed('a'), undefined);
  const among = measuring({ a: 5, b: undefined }, 1e9);
  await among.steps(10);
  assert.equal(among.state.history.speed('b'), undefined, 'one failure is no proof');
  await among.steps(50);
  assert.equal(among.state.history.speed('a'), 5);
  assert.equal(among.state.history.speed('b'), 0);
});

test('the middle of five measurements counts, through restarts', () => {
  const file = join(folder, 'history.json');
  const history = new NodeHistory(file);
  const id = 'ab'.repeat(32);
  assert.equal(history.speed(id), undefined);
  const found = [10, 1000, 11, 12, 13, 14].map((speed, i) => {
    history.measured(id, 7, speed, i);
    return history.speed(id);
  });
  assert.deepEqual(found, [10, 1000, 11, 12, 12, 13]);
  history.save(7, 3600);
  const again = new NodeHistory(file);
  assert.equal(again.speed(id), 13);
  assert.equal(again.measuredMs(id), 5);
  writeFileSync(file, JSON.stringify({ [id]: { firstEpoch: 1, lastEpoch: 1, probes: 0, record: 0, speeds: 'many' } }));
  assert.throws(() => new NodeHistory(file), /damaged/);
});
