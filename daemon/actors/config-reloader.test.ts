import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../config/config-error.ts';
import { changedKeys } from '../config/difference.ts';
import { type Config, defaultConfig } from '../config/load.ts';
import type { ReloadPlan } from '../config/plan-reload.ts';
import { DialError, type PumpTuning } from '../pump/contract.ts';
import { ConfigProblem, ConfigReloader, type Reloadable } from './config-reloader.ts';
import { EventBus, type NodeEvent } from './event-bus.ts';
import { pumpTuning } from './pump-tuning.ts';

const config = (maxLinks: number): Config =>
  defaultConfig({
    directory: { authorities: { keys: ['ab'.repeat(32)] }, sources: ['http://127.0.0.1:1'] },
    limits: { maxLinks },
  });

function setUp() {
  const first = config(1);
  /** What the file says; an error is what is wrong with it. */
  const disk: { content: Config | Error } = { content: first };
  /** What holds the next look at the file up. */
  let gate: Promise<void> = Promise.resolve();
  const seen = {
    reads: 0,
    sent: [] as PumpTuning[],
    events: [] as NodeEvent[],
    log: [] as string[],
    torn: undefined as Error | undefined,
  };
  const events = new EventBus(() => 5);
  events.subscribe((event) => seen.events.push(event));
  const reloader = new ConfigReloader(
    { path: '/nyx.yaml', first },
    {
      plan: async (_path, present): Promise<ReloadPlan> => {
        seen.reads++;
        const { content } = disk;
        await gate;
        if (content instanceof Error) throw content;
        const changed = changedKeys(present, content).map((key) => ({ key, line: 3, column: 7 }));
        return changed.length === 0
          ? { kind: 'unchanged', left: [] }
          : { kind: 'apply', config: content, changed, left: [] };
      },
      tuning: pumpTuning,
      pool: {
        configure: async (tuning) => {
          seen.sent.push(tuning);
          return { confirmed: 2, pending: 0 };
        },
      },
      events,
      log: (level, message, fields) => seen.log.push(JSON.stringify({ level, message, ...fields })),
      unixMs: () => 5,
      onTorn: (error) => {
        seen.torn = error;
      },
    },
  );
  return {
    reloader,
    disk,
    seen,
    hold: () => {
      const held = Promise.withResolvers<void>();
      gate = held.promise;
      return held.resolve;
    },
  };
}

test('a change reaches every part and the workers under the next generation', async () => {
  const { reloader, disk, seen } = setUp();
  const taken: number[] = [];
  reloader.register((next, present) => {
    assert.equal(reloader.config, present);
    return () => taken.push(next.limits.maxLinks, reloader.config.limits.maxLinks);
  });
  disk.content = config(2);
  const report = await reloader.reload(false);
  assert.equal(report.outcome, 'applied');
  assert.deepEqual(report.changed, [{ key: 'limits.maxLinks', line: 3, column: 7 }]);
  assert.deepEqual(taken, [2, 2]);
  assert.deepEqual(
    seen.sent.map(({ generation, limits }) => [generation, limits.maxLinks]),
    [[2, 2]],
  );
  assert.deepEqual(
    seen.events.map(({ kind, name }) => [kind, name]),
    [['config', 'reloaded']],
  );
  assert.equal((await reloader.reload(false)).outcome, 'unchanged');
  assert.equal(reloader.generation, 2);
  assert.equal(seen.sent.length, 1);
  assert.deepEqual(reloader.state.counts, { applied: 1, unchanged: 1, invalid: 0, 'needs-restart': 0 });
});

test('when one part finds a mistake none of them changes, and all mistakes are told with their place', async () => {
  const { reloader, disk, seen } = setUp();
  let taken = 0;
  const finds =
    (key: 'limits.maxLinks' | 'familyKeyFiles'): Reloadable =>
    () => {
      throw new ConfigProblem(key, 'is not to be had');
    };
  reloader.register(() => () => taken++);
  reloader.register(finds('limits.maxLinks'));
  reloader.register(finds('familyKeyFiles'));
  disk.content = config(2);
  const report = await reloader.reload(false);
  assert.equal(report.outcome, 'invalid');
  assert.deepEqual(report.issues, [
    { line: 3, column: 7, path: 'limits.maxLinks', message: 'is not to be had' },
    { line: 0, column: 0, path: 'familyKeyFiles', message: 'is not to be had' },
  ]);
  assert.equal(taken, 0);
  assert.equal(seen.sent.length, 0);
  assert.equal(reloader.config.limits.maxLinks, 1);
  assert.equal(reloader.generation, 1);
  assert.match(reloader.state.lastError!, /^3:7: limits\.maxLinks is not to be had\n/);
});

test('a refusal is logged and told, and forgotten after the next reload that is not refused', async () => {
  const { reloader, disk, seen } = setUp();
  disk.content = new ConfigError('/nyx.yaml', [
    { line: 9, column: 1, path: 'late', message: 'is not a known key' },
    { line: 2, column: 4, path: 'early', message: 'is not a known key' },
  ]);
  const report = await reloader.reload(false);
  assert.deepEqual(
    report.issues.map(({ line }) => line),
    [2, 9],
  );
  assert.deepEqual(JSON.parse(seen.log[0]!).problems, [
    '2:4: early is not a known key',
    '9:1: late is not a known key',
  ]);
  assert.equal(seen.events[0]!.name, 'refused');
  assert.equal(reloader.state.last!.outcome, 'invalid');
  disk.content = new Error('the thread died');
  assert.match((await reloader.reload(false)).issues[0]!.message, /could not be checked: the thread died/);
  disk.content = config(2);
  await reloader.reload(false);
  assert.equal(reloader.state.lastError, undefined);
});

test('a reload that is asked for while one is under way reads the file after it; more of them share that one', async () => {
  const { reloader, disk, seen, hold } = setUp();
  const release = hold();
  disk.content = config(2);
  const first = reloader.reload(false);
  await new Promise(setImmediate);
  disk.content = config(3);
  const later = [reloader.reload(false), reloader.reload(false), reloader.reload(false)];
  release();
  assert.equal((await first).generation, 2);
  for (const report of await Promise.all(later)) assert.equal(report.generation, 3);
  assert.equal(seen.reads, 2);
  assert.deepEqual(
    seen.sent.map(({ limits }) => limits.maxLinks),
    [2, 3],
  );
});

test('a part that breaks while it changes ends the node: nothing runs on between two configurations', async () => {
  const { reloader, disk, seen } = setUp();
  reloader.register(() => () => {
    throw new Error('a bug');
  });
  disk.content = config(2);
  await assert.rejects(reloader.reload(false), /a bug/);
  assert.match(seen.torn!.message, /a bug/);
});

test('a node that is going down does not begin a reload, nor finish one', async () => {
  const { reloader, disk, seen, hold } = setUp();
  const release = hold();
  disk.content = config(2);
  const reload = reloader.reload(false);
  await new Promise(setImmediate);
  reloader.close();
  release();
  await assert.rejects(reload, DialError);
  await assert.rejects(reloader.reload(false), DialError);
  assert.equal(seen.sent.length, 0);
  assert.equal(reloader.generation, 1);
});
