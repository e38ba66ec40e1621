// `npm test`: everything that must hold before a change lands, the quick checks first. Runs under the pinned Node.
// `npm test -- core/onion` runs the tests below those paths alone.
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

const bin = (name) => join('node_modules', '.bin', name);
const paths = process.argv.slice(2);

function run(title, command, args) {
  const startedMs = Date.now();
  console.log(`== ${title}`);
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', shell: process.platform === 'win32' });
  if (error) console.error(error.message);
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  console.log(`== ${title}: ${status === 0 ? 'ok' : 'FAILED'} (${seconds} s)\n`);
  if (status !== 0) process.exit(1);
}

if (paths.length === 0) {
  run('lint and format', bin('biome'), ['check', '--error-on-warnings', '.']);
  run('types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']);
  run('layers', process.execPath, ['scripts/check-layers.mjs']);
  run('unused code', bin('knip'), []);
  run('formal models', process.execPath, ['formal/main.ts', '--if-available', '--jobs', '2']);
}

const roots = paths.length > 0 ? paths : ['core', 'proto', 'daemon', 'sdk', 'cli', 'bench', 'formal', 'test'];
const files = roots
  .flatMap((root) => (root.endsWith('.test.ts') ? [root] : globSync(`${root}/**/*.test.ts`)))
  .filter((file) => !file.includes('node_modules'));
if (files.length === 0) {
  console.error(`no test file below ${roots.join(', ')}`);
  process.exit(1);
}
// End-to-end tests bring up whole networks: one at a time, so that they do not starve each other on two cores.
const together = files.filter((file) => !file.startsWith(join('test', 'e2e')));
const alone = files.filter((file) => file.startsWith(join('test', 'e2e')));
const flags = ['--test', '--test-reporter=spec', '--test-timeout=240000', '--import=./scripts/property-seed.mjs'];
if (together.length > 0) {
  run('tests', process.execPath, [...flags, `--test-concurrency=${Math.min(4, availableParallelism())}`, ...together]);
}
if (alone.length > 0) run('end-to-end tests', process.execPath, [...flags, '--test-concurrency=1', ...alone]);
