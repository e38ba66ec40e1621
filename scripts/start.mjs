// `npm start`: a whole network on this machine, until Ctrl-C. `npm start -- --check` proves it with real bytes and ends
// with one JSON object on stdout. Runs under whatever `node` it is given; npm puts the pinned one first on the path.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR = 26;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);

if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) {
  const { runStart } = await import('../cli/start.ts');
  process.exitCode = await runStart(args);
} else {
  const pinned = join(root, 'node_modules', '.bin', process.platform === 'win32' ? 'node.cmd' : 'node');
  if (!existsSync(pinned)) {
    process.stderr.write(`nyx: run \`npm start\`, which first installs the Node ${NODE_MAJOR} this needs.\n`);
    process.exit(1);
  }
  const child = spawn(pinned, [fileURLToPath(import.meta.url), ...args], {
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code) => process.exit(code ?? 1));
}
