import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { MixSecrets } from '@nyx/core/engine/contract.ts';
import { KeyStore } from '../directory/key-store.ts';
import { SealedFiles } from '../directory/sealed-files.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { Supervisor } from '../supervision/supervise.ts';
import { VirtualTimers } from '../supervision/timers.ts';
import type { NodeContext } from './context.ts';
import { EpochKeys, epochKeysChild } from './epoch-keys.ts';
import { EventBus } from './event-bus.ts';
import type { PumpPool } from './pump-pool.ts';

const suite = createNativeSuite();
const folder = mkdtempSync(join(tmpdir(), 'nyx-epochs-'));
after(() => rmSync(folder, { recursive: true }));

/** An epoch of 100 s (so a lead of 10 s) on a virtual clock that begins 50 s into epoch 20. */
function rig(name: string) {
  const timers = new VirtualTimers();
  const unixMs = () => 2_050_000 + timers.nowMs();
  const store = new KeyStore(new SealedFiles(join(folder, name)), suite);
  const given: number[][] = [];
  const pool = {
    setMixSecrets: (make: () => MixSecrets[]) => given.push(make().map(({ epoch }) => epoch)),
  } as unknown as PumpPool;
  const context = {
    config: { epochSeconds: 100 },
    log: () => {},
    timers,
    unixMs,
    suite,
    events: new EventBus(unixMs),
  } as unknown as NodeContext;
  const keys = new EpochKeys(context, store, pool);
  let changes = 0;
  keys.onChange = () => changes++;
  return {
    timers,
    store,
    keys,
    given,
    context,
    changes: () => changes,
    held: () => store.mixPublicKeys().map((k) => k.epoch),
  };
}

test('the next keys are made an epoch ahead, used a little before it begins, and erased a little after the next one has', async () => {
  const { timers, keys, given, context, changes, held } = rig('cycle');
  const supervisor = new Supervisor({ id: 'r', strategy: 'one_for_one' }, [epochKeysChild(context, keys)], {
    timers,
    unixMs: context.unixMs,
    onEscalate: (error) => assert.fail(error),
  });
  const started = supervisor.start();
  await timers.advance(0);
  await started;
  assert.deepEqual(held(), [20, 21]);
  assert.deepEqual(given, [[20]]);
  assert.equal(changes(), 1);
  await timers.advance(39_000); // 11 s before the border
  assert.deepEqual(given.length, 1);
  await timers.advance(2_000); // 9 s before it
  assert.deepEqual(given.at(-1), [20, 21]);
  assert.equal(changes(), 1, 'nothing new to publish');
  await timers.advance(10_000); // 1 s behind it
  assert.deepEqual(held(), [20, 21, 22]);
  assert.equal(changes(), 2);
  await timers.advance(100_000); // 1 s into epoch 22: a clock that lags is still in 21 and goes by a view of 20
  assert.deepEqual(held(), [20, 21, 22, 23]);
  await timers.advance(10_000);
  assert.deepEqual(held(), [21, 22, 23], 'the keys of epoch 20 are gone');
  assert.deepEqual(given.at(-1), [21, 22]);
  const stopped = supervisor.stop();
  await timers.advance(0);
  await stopped;
});

test('a node that slept over several epochs goes on with the present one; what is over is not made afterwards', async () => {
  const { timers, keys, held } = rig('asleep');
  keys.update();
  await timers.advance(500_000);
  keys.update();
  assert.deepEqual(held(), [25, 26]);
});

test('keys are renewed on request, but not once the next ones are in use', async () => {
  const { timers, store, keys, changes } = rig('rotate');
  keys.update();
  const [present, next] = store.mixPublicKeys();
  assert.equal(keys.rotate(), true);
  assert.equal(changes(), 2);
  const [same, fresh] = store.mixPublicKeys();
  assert.deepEqual(same, present, 'the signed view names it');
  assert.notDeepEqual(fresh!.x25519, next!.x25519);
  await timers.advance(45_000);
  assert.equal(keys.rotate(), false);
});
