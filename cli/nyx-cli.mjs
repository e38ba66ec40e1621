#!/usr/bin/env node
// Runs nyx-cli under Node 26, whatever `node` is on the path: the project brings its own. Plain JavaScript, because
// an older Node has to be able to read it.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR = 26;
const here = dirname(fileURLToPath(import.meta.url));

if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) {
  const { run } = await import('./main.ts');
  process.exitCode = await run(process.argv.slice(2));
} else {
  const pinned = join(dirname(here), 'node_modules', '.bin', process.platform === 'win32' ? 'node.cmd' : 'node');
  if (!existsSync(pinned)) {
    process.stderr.write(
      `nyx-cli: needs Node ${NODE_MAJOR} or later and this is ${process.version}. Run \`npm install\` in the checkout, which brings one.\n`,
    );
    process.exit(1);
  }
  const child = spawn(pinned, [join(here, 'nyx-cli.mjs'), ...process.argv.slice(2)], {
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  // Ctrl-C reaches the child by itself (same terminal); this process only waits for its result.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code) => process.exit(code ?? 1));
}
