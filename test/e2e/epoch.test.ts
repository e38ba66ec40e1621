/**
 * Epochs of ten seconds: what crosses their borders. Keys are replaced and erased, views follow, transfers go on, dials at
 * any moment get through, and a daemon that slept over a border comes back.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connectNyx } from '@nyx/sdk/index.ts';
import { TappedNetwork, until } from './fixture.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const EPOCH_SECONDS = 10;
const MAIN = fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));

let network: TappedNetwork;
let echo: TestServer;

before(async () => {
  network = await TappedNetwork.start({ mixes: 4, exits: 1, hops: 3, taps: false, epochSeconds: EPOCH_SECONDS });
  echo = await serveEcho();
});

after(async () => {
  echo?.close();
  await network?.stop();
});

const epochNow = () => Math.floor(Date.now() / 1000 / EPOCH_SECONDS);

/** Until shortly after the epoch that begins next. */
const nextBorder = () => delay(EPOCH_SECONDS * 1000 - (Date.now() % (EPOCH_SECONDS * 1000)) + 500);

async function dial(name: string): Promise<number> {
  const startedMs = performance.now();
  const socket = await socksConnect(network.socks, echo, { username: `nyx;isolation=${name}` });
  await echoExactly(socket, 4096);
  return performance.now() - startedMs;
}

test('a transfer goes on over two borders while dials at every moment of them get through', async () => {
  const began = epochNow();
  const keysBefore = await network.node('mix-1').api.keys.list();
  const socket = await socksConnect(network.socks, echo, { username: 'nyx;isolation=long' });
  const hash: Buffer[] = [];
  const received: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => received.push(chunk));
  let over = false;
  const sending = (async () => {
    while (!over) {
      const block = randomBytes(2048);
      hash.push(block);
      if (!socket.write(block)) await once(socket, 'drain');
      await delay(20);
    }
    socket.end();
    await once(socket, 'end');
  })();
  const took: number[] = [];
  const failed: string[] = [];
  // Circuits of their own, so that each of them needs the keys of the moment.
  for (let i = 0; epochNow() < began + 2; i++) {
    try {
      took.push(await dial(`border-${i}`));
    } catch (error) {
      failed.push(`${((Date.now() / 1000) % EPOCH_SECONDS).toFixed(2)} s into an epoch: ${(error as Error).message}`);
    }
    await delay(60);
  }
  over = true;
  await sending;
  assert.ok(Buffer.concat(hash).equals(Buffer.concat(received)), 'the transfer is unharmed');
  assert.deepEqual(failed, []);
  const slowest = Math.max(...took);
  console.log(`# ${took.length} dials over two borders, the slowest ${slowest.toFixed(0)} ms`);
  assert.ok(slowest < 5000, `${slowest} ms`);

  const epochsOf = (list: typeof keysBefore) => list.mixKeys.map(({ epoch }) => epoch);
  // A little into the epoch: clocks that lag still go by the one before.
  const keysAfter = await until('the end of older keys', async () => {
    const list = await network.node('mix-1').api.keys.list();
    return Math.min(...epochsOf(list)) >= epochNow() - 1 && list;
  });
  assert.ok(Math.max(...epochsOf(keysAfter)) > Math.max(...epochsOf(keysBefore)), 'newer ones are there');
  const old = new Set(keysBefore.mixKeys.map(({ x25519PublicKey }) => x25519PublicKey));
  assert.ok(keysAfter.mixKeys.filter(({ epoch }) => epoch > began + 1).every((key) => !old.has(key.x25519PublicKey)));
  for (const { name, api } of network.nodes.values()) {
    await until(`the view of this epoch at ${name}`, async () => {
      const { view } = await api.status();
      return (view?.epoch ?? -1) >= epochNow();
    });
  }
});

test('a client that slept over a border is back at once, one that was stopped too', async () => {
  const { client } = network;
  process.kill(client.pid, 'SIGSTOP');
  await nextBorder();
  process.kill(client.pid, 'SIGCONT');
  const tookMs = await dial('awake');
  console.log(`# awake: first dial after ${tookMs.toFixed(0)} ms`);
  assert.ok(tookMs < 5000, `${tookMs} ms`);

  client.api.close();
  process.kill(client.pid, 'SIGTERM');
  await nextBorder();
  const config = join(network.network.folder, 'client-0.yaml');
  const again = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, '--config', config], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [line] = (await once(again.stdout, 'data')) as [Buffer];
    const { api: socketPath } = JSON.parse(line.toString()) as { api: string };
    const api = await connectNyx({ socketPath });
    const socket = await api.connect({ host: echo.host, port: echo.port, allowHalfOpen: true });
    await echoExactly(socket, 64 * 1024);
    api.close();
  } finally {
    again.kill('SIGKILL');
  }
});
