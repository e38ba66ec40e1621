/** Runs a target or the demo web server in a process of its own, so that its CPU is not the network's or the client's. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { startDemoServer } from './demo-server.ts';
import type { HostPort } from './socks.ts';
import { startTarget, type Target } from './target.ts';

const kinds = { target: () => startTarget(), demo: () => startDemoServer() } as const;
type Kind = keyof typeof kinds;

export type ServerProcess = Target & { readonly pid: number };

export const spawnTarget = (): Promise<ServerProcess> => spawnServer('target');
export const spawnDemoServer = (): Promise<ServerProcess> => spawnServer('demo');

async function spawnServer(kind: Kind, timeoutMs = 15_000): Promise<ServerProcess> {
  // Detached: Ctrl-C in the terminal is for the command that started it, which then ends it in its own order.
  const child = fork(fileURLToPath(import.meta.url), [kind], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [],
    detached: true,
  });
  const address = await new Promise<HostPort>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`the ${kind} process did not start in ${timeoutMs} ms`));
    }, timeoutMs);
    const settle = (act: () => void) => {
      clearTimeout(timer);
      act();
    };
    child.once('message', (message) => settle(() => resolve(message as HostPort)));
    child.once('exit', (code) => settle(() => reject(new Error(`the ${kind} process ended with ${code}`))));
    child.once('error', (error) => settle(() => reject(error)));
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

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const start = kinds[process.argv[2] as Kind];
  const server = await start();
  process.send?.(server.address);
  process.on('disconnect', () => process.exit(0)); // whoever asked for it is gone
}
