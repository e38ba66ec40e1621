import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stepLogOf } from './step-log.ts';

test('no steps are written unless the environment names a folder', () => {
  assert.equal(stepLogOf({}, 'a'), undefined);
  assert.equal(stepLogOf({ NYX_STEP_LOG: '' }, 'a'), undefined);
});

test('steps are in the file as soon as they are taken, in order of time, for the owner alone', (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-steps-'));
  context.after(() => rmSync(folder, { recursive: true }));
  const log = stepLogOf({ NYX_STEP_LOG: folder }, 'worker', 3)!;
  log.write({ spec: 'Circuit', action: 'Build', of: 1, as: 'name' });
  log.write({ spec: 'Circuit', action: 'ClientEnds', of: 1 });
  assert.deepEqual(readdirSync(folder), ['worker.steps']);
  assert.equal(statSync(join(folder, 'worker.steps')).mode & 0o777, 0o600);
  const lines = () =>
    readFileSync(join(folder, 'worker.steps'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
  const [first, second] = lines();
  assert.deepEqual({ ...first, at: 0 }, { at: 0, spec: 'Circuit', action: 'Build', of: 1, as: 'name' });
  assert.ok(first.at > 0 && first.at <= second.at);
  // There is an end to it, and it is said.
  for (let i = 0; i < 10; i++) log.write({ spec: 'Circuit', action: 'Build', of: i });
  assert.deepEqual(lines().slice(2), [{ full: true }]);
  log.close();
  log.write({ spec: 'Circuit', action: 'Build', of: 1 });
  assert.equal(lines().length, 3);
  // A log that is there already is somebody else's.
  assert.throws(() => stepLogOf({ NYX_STEP_LOG: folder }, 'worker'), /EEXIST/);
});
