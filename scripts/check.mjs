// `npm test`: everything that must hold before a change lands, the quick checks first. Runs under the pinned Node.
// `npm test -- core/onion` runs the tests below those paths alone.
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism, constants, setPriority } from 'node:os';
import { join } from 'node:path';

const bin = (name) => join('node_modules', '.bin', name);
const paths = process.argv.slice(2);
const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill();
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** Resolves with the exit code. */
function ended(child) {
  return new Promise((resolve) => {
    child.once('error', (error) => {
      console.error(error.message);
      resolve(1);
    });
    child.once('close', (code) => resolve(code ?? 1));
  });
}

function start(command, args, stdio) {
  const child = spawn(command, args, { stdio, shell: process.platform === 'win32' });
  running.add(child);
  child.once('close', () => running.delete(child));
  return child;
}

function report(title, startedMs, status) {
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  console.log(`== ${title}: ${status === 0 ? 'ok' : 'FAILED'} (${seconds} s)\n`);
  if (status !== 0) process.exit(1);
}

async function run(title, command, args) {
  const startedMs = Date.now();
  console.log(`== ${title}`);
  report(title, startedMs, await ended(start(command, args, 'inherit')));
}

/** Runs beside everything else on time that nothing else wants, and keeps what it prints. Gives what waits for it and tells. */
function runBeside(title, command, args) {
  const startedMs = Date.now();
  const child = start(command, args, ['ignore', 'pipe', 'pipe']);
  try {
    // Its own processes inherit this: it has no others yet.
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  } catch {
    // It has ended already, or the system has no such thing: then it takes its share.
  }
  const printed = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => printed.push(chunk));
  const end = ended(child);
  return async () => {
    const status = await end;
    console.log(`== ${title}, beside the rest`);
    process.stdout.write(Buffer.concat(printed));
    report(title, startedMs, status);
  };
}

let formal;
if (paths.length === 0) {
  formal = runBeside('formal models', process.execPath, ['formal/main.ts', '--if-available', '--jobs', '2']);
  await run('lint and format', bin('biome'), ['check', '--error-on-warnings', '.']);
  await run('types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']);
  await run('layers', process.execPath, ['scripts/check-layers.mjs']);
  await run('unused code', bin('knip'), []);
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
  await run('tests', process.execPath, [
    ...flags,
    `--test-concurrency=${Math.min(4, availableParallelism())}`,
    ...together,
  ]);
}
if (alone.length > 0) await run('end-to-end tests', process.execPath, [...flags, '--test-concurrency=1', ...alone]);
await formal?.();
