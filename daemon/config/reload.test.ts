import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { ConfigError, type ConfigIssue } from './config-error.ts';
import { changedKeys, withKeysOf } from './difference.ts';
import { configSchema, parseConfig } from './load.ts';
import { planReloadApart } from './load-apart.ts';
import { planReload } from './plan-reload.ts';
import { type ConfigKey, ReloadClass, reloadClasses, reloadClassOf } from './reload-classes.ts';
import type { Config } from './schema.ts';

const folder = mkdtempSync(join(tmpdir(), 'nyx-reload-'));
const file = join(folder, 'nyx.yaml');
after(() => rmSync(folder, { recursive: true }));

const KEY = 'ab'.repeat(32);
const base = `directory:
  authorities: { keys: [${KEY}] }
  sources: [http://127.0.0.1:9030]
dataDir: data
`;
const relay = `${base}roles: [mix, exit]
listen: 127.0.0.1:9001
exit:
  policy: [accept *:443]
`;
const parse = (text: string): Config => parseConfig(text, 'nyx.yaml', folder);

function issuesOf(run: () => unknown): readonly ConfigIssue[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.issues;
    throw error;
  }
  assert.fail('the configuration was not refused');
}

/** Key paths of the schema: everything that is no section. `optional`: of sections that may be missing. */
function schemaKeys(): { readonly keys: string[]; readonly optional: string[] } {
  const keys: string[] = [];
  const optional: string[] = [];
  const walk = (schema: unknown, path: readonly string[], mayMiss: boolean): void => {
    let inner = schema;
    let misses = mayMiss;
    while (inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional) {
      if (inner instanceof z.ZodOptional) misses = true;
      inner = inner.unwrap();
    }
    if (inner instanceof z.ZodObject) {
      for (const [name, part] of Object.entries(inner.shape)) walk(part, [...path, name], path.length > 0 && misses);
      return;
    }
    keys.push(path.join('.'));
    if (mayMiss) optional.push(path.join('.'));
  };
  for (const [name, part] of Object.entries(configSchema.shape)) walk(part, [name], false);
  return { keys, optional };
}

test('every key of the schema has a class, and no others have', () => {
  const { keys, optional } = schemaKeys();
  assert.ok(keys.length > 100, `${keys.length} keys`);
  assert.deepEqual(Object.keys(reloadClasses).sort(), keys.sort());
  // A section that comes or goes does so as a whole (difference.ts).
  assert.ok(optional.includes('authority.keyFile') && optional.includes('api.tls.certFile'), optional.join());
  for (const key of optional) assert.equal(reloadClasses[key as ConfigKey], ReloadClass.restart, key);
});

test('a file that says the same changes nothing', () => {
  const text = `${relay}path: { hops: 4 }\n`;
  writeFileSync(file, `# moved around\npath:\n  hops: 4\n${relay}`);
  assert.deepEqual(planReload(file, parse(text), false), { kind: 'unchanged', left: [] });
});

test('what has changed is named with its place, and is in the configuration to be', () => {
  writeFileSync(file, `${relay.replace('accept *:443', 'accept *:80')}log:\n  level: debug\n`);
  const plan = planReload(file, parse(relay), false);
  assert.ok(plan.kind === 'apply');
  assert.deepEqual(plan.changed, [
    { key: 'exit.policy', line: 8, column: 3 },
    { key: 'log.level', line: 10, column: 3 },
  ]);
  assert.deepEqual(plan.config.exit.policy, ['accept *:80']);
  assert.equal(plan.config.log.level, 'debug');
  // Back to the default: the place is that of the section around it.
  writeFileSync(file, base);
  const back = planReload(file, parse(`${base}path: { hops: 5, guards: 2 }\n`), false);
  assert.ok(back.kind === 'apply');
  assert.deepEqual(
    back.changed.map(({ key }) => key),
    ['path.hops', 'path.guards'],
  );
});

test('every mistake is named with its place', () => {
  writeFileSync(file, `${relay.replace('accept *:443', 'allow *:443')}limits:\n  maxLinks: many\n  maxCircut: 5\n`);
  const issues = issuesOf(() => planReload(file, parse(relay), false));
  assert.deepEqual(
    issues.map(({ line, column, path }) => ({ line, column, path })),
    [
      { line: 8, column: 12, path: 'exit.policy[0]' },
      { line: 10, column: 13, path: 'limits.maxLinks' },
      { line: 11, column: 3, path: 'limits.maxCircut' },
    ],
  );
  rmSync(file);
  assert.match(issuesOf(() => planReload(file, parse(relay), true))[0]!.message, /cannot be read/);
});

test('keys that need a restart: refused with their places, or left as they are', () => {
  writeFileSync(file, `${relay.replace(':9001', ':9002')}workers: 2\nlog: { level: warn }\n`);
  const present = parse(relay);
  assert.deepEqual(planReload(file, present, false), {
    kind: 'needs-restart',
    keys: [
      { key: 'listen', line: 6, column: 1 },
      { key: 'workers', line: 9, column: 1 },
    ],
  });
  const plan = planReload(file, present, true);
  assert.ok(plan.kind === 'apply');
  assert.deepEqual(
    [plan.changed, plan.left].map((keys) => keys.map(({ key }) => key)),
    [['log.level'], ['listen', 'workers']],
  );
  assert.deepEqual(plan.config, { ...present, log: { level: 'warn' } });
});

test('a part that would not be sound with what is left is refused', () => {
  const present = parse(relay);
  // As a client it could save power; as the relay that it still is until a restart it can't.
  writeFileSync(file, `${base}announce: [192.0.2.1:0]\n`);
  assert.match(issuesOf(() => planReload(file, present, true))[0]!.message, /has port 0/);
  const wildcard = relay.replace('127.0.0.1:9001', '0.0.0.0:9001');
  writeFileSync(file, relay);
  const [issue] = issuesOf(() => planReload(file, parse(`${wildcard}announce: [192.0.2.1:9001]\n`), true));
  assert.equal(issue!.path, 'announce');
  assert.match(issue!.message, /with what needs a restart left as it is/);
});

test('the budget of cover is a matter of the links there are in constant mode alone', () => {
  const budget = (mode: string) => parse(`${base}cover: { mode: ${mode}, budgetBytesPerHour: 5000000 }\n`);
  assert.equal(reloadClassOf('cover.budgetBytesPerHour', budget('constant')), ReloadClass.restart);
  assert.equal(reloadClassOf('cover.budgetBytesPerHour', budget('adaptive')), ReloadClass.live);
});

test('a section that comes or goes is left out as a whole', () => {
  const authority = `${relay}authority: { keyFile: a.key }\n`.replace(
    '  sources',
    '  listen: 127.0.0.1:9030\n  sources',
  );
  const present = parse(relay);
  writeFileSync(file, `${authority}log: { level: warn }\n`);
  const plan = planReload(file, present, true);
  assert.ok(plan.kind === 'apply');
  assert.equal(plan.config.authority, undefined);
  assert.equal(plan.config.directory.listen, undefined);
  writeFileSync(file, `${relay}log: { level: warn }\n`);
  const gone = planReload(file, parse(authority), true);
  assert.ok(gone.kind === 'apply');
  assert.deepEqual(gone.config.authority, parse(authority).authority);
});

test('of two configurations, each key is from one of them', () => {
  const one = parse(relay);
  const other = parse(
    `${relay.replace('accept *:443', 'reject *:*')}mix: { hops: 4, delayMs: 7 }\nregion: SE\nfec: { policy: 0.3 }\ncover: { ratio: 0.2 }\nudp: plain\n`,
  );
  const all = changedKeys(one, other);
  assert.equal(all.length, 7);
  fc.assert(
    fc.property(fc.subarray(all), (taken) => {
      const merged = withKeysOf(one, other, taken);
      assert.deepEqual(changedKeys(one, merged).sort(), [...taken].sort());
      assert.deepEqual(changedKeys(merged, other).sort(), all.filter((key) => !taken.includes(key)).sort());
    }),
  );
});

test('what may be a secret is not repeated in an error', () => {
  writeFileSync(file, `${base}keys: { passphraseFile: 20260101 }\n`);
  const present = parse(base);
  for (const text of [
    'keys: { passphraseFile: 20260101 }',
    'keys: { passphrase: 20260101 }',
    'keys: { passphraseFile: *20260101 }',
  ]) {
    writeFileSync(file, `${base}${text}\n`);
    const issues = issuesOf(() => planReload(file, present, false));
    assert.ok(issues.length > 0);
    assert.ok(!JSON.stringify(issues).includes('20260101'), JSON.stringify(issues));
  }
});

test('a plan is made in a thread of its own', async () => {
  writeFileSync(file, `${relay}log: { level: debug }\n`);
  const plan = await planReloadApart(file, parse(relay), false);
  assert.deepEqual(plan, planReload(file, parse(relay), false));
  writeFileSync(file, 'roles: [');
  await assert.rejects(planReloadApart(file, parse(relay), false), ConfigError);
});
