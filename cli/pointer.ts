/**
 * How `nyx-cli status` in another terminal finds the network that `nyx-cli up` (or `npm start`) runs: a small file that
 * lives as long as the network does. It is found from the directory the network was started in and those below it, and,
 * where the session has a runtime directory, from anywhere.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface LocalNetworkPointer {
  /** Of the process that runs the network; a pointer whose process is gone is ignored. */
  readonly pid: number;
  readonly apiSocket: string;
}

const FILE = 'local-network.json';

function places(env: NodeJS.ProcessEnv, cwd: string): string[] {
  const found: string[] = [];
  for (let dir = cwd; ; dir = dirname(dir)) {
    found.push(join(dir, '.nyx', FILE));
    if (dirname(dir) === dir) break;
  }
  if (env.XDG_RUNTIME_DIR) found.push(join(env.XDG_RUNTIME_DIR, 'nyx', FILE));
  return found;
}

/** Writes the pointer, in `cwd` and in the runtime directory if there is one. The function returned removes it. */
export function writePointer(pointer: LocalNetworkPointer, env: NodeJS.ProcessEnv, cwd: string): () => void {
  const files = [join(cwd, '.nyx', FILE)];
  if (env.XDG_RUNTIME_DIR && existsSync(env.XDG_RUNTIME_DIR)) files.push(join(env.XDG_RUNTIME_DIR, 'nyx', FILE));
  const text = `${JSON.stringify(pointer)}\n`;
  for (const file of files) {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, text, { mode: 0o600 });
  }
  return () => {
    for (const file of files) {
      // A network started later may have put its own in place: leave that.
      if (existsSync(file) && readFileSync(file, 'utf8') === text) rmSync(file);
    }
  };
}

/** The nearest pointer whose process is alive. */
export function readPointer(env: NodeJS.ProcessEnv, cwd: string): LocalNetworkPointer | undefined {
  for (const file of places(env, cwd)) {
    if (!existsSync(file)) continue;
    const pointer = parsePointer(readFileSync(file, 'utf8'));
    if (pointer && isAlive(pointer.pid)) return pointer;
  }
  return undefined;
}

function parsePointer(text: string): LocalNetworkPointer | undefined {
  try {
    const { pid, apiSocket } = JSON.parse(text) as Record<string, unknown>;
    const valid = typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 0 && typeof apiSocket === 'string';
    return valid ? { pid, apiSocket } : undefined;
  } catch {
    return undefined; // half-written or not ours: as if there were none
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
