/** Runs a target in a process of its own, so that its CPU is not counted as the network's or the client's. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { HostPort } from './socks.ts';
import { startTarget, type Target } from './target.ts';

export async function spawnTarget(timeoutMs = 15_000): Promise<Target & { readonly pid: number }> {
  const child = fork(fileURLToPath(import.meta.url), ['serve'], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const address = await new Promise<HostPort>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error('the target process did not start in time'));
    }, timeoutMs);
    child.once('message', (message) => {
      clearTimeout(timer);
      resolve(message as HostPort);
    });
    child.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`the target process ended with ${code}`));
    });
    child.once('error', reject);
  });
  return {
    address,
    pid: child.pid!,
    close: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.kill('SIGKILL');
      await exited;
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv[2] === 'serve') {
  const target = await startTarget();
  process.send?.(target.address);
  process.on('disconnect', () => process.exit(0)); // the measuring process is gone
}
