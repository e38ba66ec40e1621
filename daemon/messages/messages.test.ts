import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { NodeContext } from '../actors/context.ts';
import { EventBus } from '../actors/event-bus.ts';
import { type ConfigInput, defaultConfig } from '../config/load.ts';
import { SealedFiles } from '../directory/sealed-files.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import type { ChildContext } from '../supervision/supervise.ts';
import { Messages } from './messages.ts';

const suite = createNativeSuite();
const START_MS = 1_800_000_000_000;

/** A client of a network that it has no view of, on virtual time: its slots come, and find no way. */
async function runSlots(test: TestContext, seconds: number, config: ConfigInput): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-slots-'));
  test.after(() => rmSync(folder, { recursive: true }));
  let nowMs = 0;
  const due: { readonly atMs: number; readonly callback: () => void }[] = [];
  const context: NodeContext = {
    config: defaultConfig({
      roles: ['client'],
      directory: { authorities: { keys: ['ab'.repeat(32)] }, sources: ['view.bin'] },
      ...config,
    }),
    log: () => {},
    timers: {
      nowMs: () => nowMs,
      after: (delayMs, callback) => {
        const entry = { atMs: nowMs + delayMs, callback };
        due.push(entry);
        return () => {
          const at = due.indexOf(entry);
          if (at >= 0) due.splice(at, 1);
        };
      },
    },
    unixMs: () => START_MS + nowMs,
    suite,
    random: createSeededRandom(`slots of ${JSON.stringify(config)}`),
    events: new EventBus(() => START_MS),
  };
  const nothing = () => assert.fail('there is nobody to send to');
  const messages = new Messages(context, {
    nodeId: '00'.repeat(32),
    files: new SealedFiles(folder),
    directory: { view: undefined, contactOf: nothing },
    paths: { select: nothing },
    pool: { choose: nothing, first: nothing },
    heardMs: () => nowMs,
  });
  const child = await messages.child().start({} as ChildContext);
  while (nowMs < 1000 * seconds) {
    const next = due.reduce((first, entry) => (entry.atMs < first.atMs ? entry : first));
    due.splice(due.indexOf(next), 1);
    nowMs = Math.max(nowMs, next.atMs);
    next.callback();
  }
  await child.stop();
  return messages.figures.slots;
}

/** Five deviations of a Poisson count. */
const isAbout = (count: number, expected: number) => Math.abs(count - expected) < 5 * Math.sqrt(expected);

test('with cover `always` slots come from the start, at the rate that is configured, and a tenth of it in low power', async (context) => {
  const always = { cover: 'always' } as const;
  const full = await runSlots(context, 300, { messages: always });
  assert.ok(isAbout(full, 1200), `${full} slots`);
  const saving = await runSlots(context, 300, { messages: always, cover: { lowPower: true } });
  assert.ok(isAbout(saving, 120), `${saving} slots in low power`);
  const fast = await runSlots(context, 300, {
    messages: { ...always, packetsPerSecond: 10 },
    cover: { lowPower: true, mode: 'adaptive' },
  });
  assert.ok(isAbout(fast, 300), `${fast} slots of ten a second in low power`);
  assert.equal(await runSlots(context, 300, { messages: { cover: 'active' } }), 0, 'none without a message');
});
