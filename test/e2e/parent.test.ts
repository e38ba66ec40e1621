/** A daemon ends with its parent if told to, and only then. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connectNyx, type NyxClient } from '@nyx/sdk/index.ts';
import { TappedNetwork, until } from './fixture.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const MAIN = fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));
const DRAIN_MS = 20_000;

let network: TappedNetwork;
let echo: TestServer;
const children: ChildProcess[] = [];

before(async () => {
  network = await TappedNetwork.start({
    mixes: 2,
    exits: 1,
    taps: false,
    overrides: (role) => (role === 'client' ? { shutdown: { drainTimeoutMs: DRAIN_MS } } : {}),
  });
  echo = await serveEcho();
  // The tests run the client's configuration themselves.
  network.client.api.close();
  process.kill(network.client.pid, 'SIGTERM');
  await until('the end of the client', () => network.network.failures.length === 1);
});

after(async () => {
  for (const child of children) child.kill('SIGKILL');
  echo?.close();
  await network?.stop();
});

async function startClient(...flags: string[]): Promise<{ child: ChildProcess; api: NyxClient }> {
  const config = join(network.network.folder, 'client-0.yaml');
  const args = ['--disable-warning=ExperimentalWarning', MAIN, '--config', config, ...flags];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  const [line] = (await once(child.stdout!, 'data')) as [Buffer];
  const { api } = JSON.parse(line.toString()) as { api: string };
  return { child, api: await connectNyx({ socketPath: api }) };
}

test('a daemon that lives with its parent ends when the pipe does, open streams or not', async () => {
  const { child, api } = await startClient('--exit-with-parent');
  const socket = await api.connect({ host: echo.host, port: echo.port, allowHalfOpen: true });
  socket.on('error', () => {});
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const startedMs = performance.now();
  child.stdin!.end();
  const [code] = await exited;
  assert.equal(code, 0);
  assert.ok(performance.now() - startedMs < 5000, 'no draining');
  api.close();
});

test('without that flag the end of standard input means nothing', async () => {
  const { child, api } = await startClient();
  child.stdin!.end();
  await delay(300);
  const socket = await api.connect({ host: echo.host, port: echo.port, allowHalfOpen: true });
  await echoExactly(socket, 4096);
  const exited = once(child, 'exit') as Promise<[number | null]>;
  child.kill('SIGTERM');
  assert.deepEqual((await exited)[0], 0);
  api.close();
});
