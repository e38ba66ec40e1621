// Runs under the machine's own Node (20 or later) before `npm start`, `npm test` and `npm run bench`:
// installs the locked dependencies when they are missing or out of date, and makes sure that the
// Node 26 the project is pinned to is the `node` that npm scripts will find. Plain JavaScript, no imports
// from outside Node, because nothing is installed yet when it runs.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR = 26;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(root, 'node_modules', '.nyx-setup');
const pinned = join(root, 'node_modules', '.bin', process.platform === 'win32' ? 'node.cmd' : 'node');

function fail(message) {
  process.stderr.write(`nyx setup: ${message}\n`);
  process.exit(1);
}

const lock = readFileSync(join(root, 'package-lock.json'));
const stamp = `${createHash('sha256').update(lock).digest('hex')} ${process.platform}-${process.arch}\n`;
if (!existsSync(stampFile) || readFileSync(stampFile, 'utf8') !== stamp) {
  process.stderr.write('nyx setup: installing dependencies (first run, or the lock file changed) ...\n');
  const npm = process.env.npm_execpath;
  // Not `npm ci`: where a registry lacks an optional package of some other platform, the lock can't name it, and `ci`
  // refuses such a lock altogether. `install --no-save` follows the same lock and changes no file.
  const args = ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error'];
  const run = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ['ignore', 2, 2] })
    : spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' });
  if (run.status !== 0) {
    fail(
      'installing the dependencies failed (see above). Check that the npm registry can be reached, then run the command again.',
    );
  }
  writeFileSync(stampFile, stamp);
}

// The pinned Node is an optional dependency (one package per platform). Where there is none, a Node that is
// already new enough will do; an older one lacks ML-KEM and type stripping, so saying so beats a later crash.
const runtime = existsSync(pinned) ? pinned : process.execPath;
const version = spawnSync(runtime, ['--version'], { encoding: 'utf8', shell: process.platform === 'win32' });
const major = Number(/^v(\d+)\./.exec(version.stdout ?? '')?.[1] ?? 0);
if (major < NODE_MAJOR) {
  fail(
    existsSync(pinned)
      ? `the Node ${NODE_MAJOR} that came with the dependencies does not run on this system (${(version.stderr ?? '').trim() || 'no output'}).`
      : `no Node ${NODE_MAJOR} package exists for ${process.platform}-${process.arch} and this is ${process.version}. ` +
          `Install Node ${NODE_MAJOR} or later (https://nodejs.org) and run the command again.`,
  );
}
