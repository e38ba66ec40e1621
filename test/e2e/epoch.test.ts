/**
 * Epochs of ten seconds: what crosses their borders. Keys are replaced and erased, views follow by deltas (or whole where
 * deltas are missing or broken), transfers go on, dials at any moment get through, and a daemon that slept over a border
 * comes back.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LocalNetworkOptions } from '@nyx/daemon/local-network.ts';
import type { View } from '@nyx/proto/types.ts';
import { connectNyx } from '@nyx/sdk/index.ts';
import { type BentDirectory, bendDirectory } from './bent-directory.ts';
import { freeTcpPort, TappedNetwork, until } from './fixture.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const EPOCH_SECONDS = 10;
const MAIN = fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));

let network: TappedNetwork;
let echo: TestServer;
const bent: BentDirectory[] = [];

before(async () => {
  const port = await freeTcpPort();
  const p2p = (bootstrap: string[], own: number) => ({
    p2p: { enabled: true, listen: [`/ip4/127.0.0.1/tcp/${own}`], bootstrap, allowPrivate: true },
  });
  const overrides: LocalNetworkOptions['overrides'] = (role, index) => {
    if (role !== 'mix') return {};
    return index === 0 ? p2p([], port) : index === 3 ? p2p([`/ip4/127.0.0.1/tcp/${port}`], 0) : {};
  };
  const sizes = { mixes: 4, exits: 1, hops: 3, epochSeconds: EPOCH_SECONDS };
  network = await TappedNetwork.start({ ...sizes, taps: false, overrides });
  echo = await serveEcho();
});

after(async () => {
  for (const source of bent) source.close();
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

const bend = async (...how: Parameters<typeof bendDirectory>): Promise<BentDirectory> => {
  const source = await bendDirectory(...how);
  bent.push(source);
  return source;
};

const viewOf = async (name: string) => (await network.node(name).api.paths.nodes({})).view!;

/** From now on the node asks these instead of the authority alone. Returns what its counters of views say. */
async function asks(name: string, sources: readonly string[]): Promise<View> {
  const file = join(network.network.folder, `${name}.yaml`);
  const config = readFileSync(file, 'utf8').replace(
    /^( *sources:)\n( *- http:.*\n)+/m,
    `$1 ${JSON.stringify(sources)}\n`,
  );
  assert.ok(config.includes(JSON.stringify(sources)));
  writeFileSync(file, config);
  assert.equal((await network.node(name).api.reloadConfig()).outcome, 'applied');
  return await viewOf(name);
}

test('a transfer goes on over two borders while dials at every moment of them get through; views come by deltas or whole', async () => {
  const good = `http://${network.node('mix-0').directory}`;
  const broken = await bend(good, { deltas: 'broken' });
  const liar = await bend(good, { deltas: 'broken', breaksWhole: true });
  const whole = await bend(good, { deltas: 'absent' });
  const [mix1, mix2, mix3, exit, client] = await Promise.all([
    asks('mix-1', [broken.url]),
    asks('mix-2', [liar.url, good]),
    asks('mix-3', []),
    asks('exit-0', [whole.url]),
    viewOf('client-0'),
  ]);
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

  /** Views taken, deltas taken and deltas refused since then. */
  const since = async (name: string, before: View) => {
    const { viewsAccepted, deltasAccepted, deltasRefused } = await viewOf(name);
    const views = viewsAccepted - before.viewsAccepted;
    const deltas = deltasAccepted - before.deltasAccepted;
    const refused = deltasRefused - before.deltasRefused;
    return { views, deltas, refused, text: `${name}: ${views} views, ${deltas} deltas, ${refused} refused` };
  };
  const byDeltas = await since('client-0', client);
  assert.ok(byDeltas.views >= 2 && byDeltas.deltas >= byDeltas.views && byDeltas.refused === 0, byDeltas.text);
  const byWhole = await since('exit-0', exit);
  assert.ok(byWhole.views >= 2 && byWhole.deltas === 0 && byWhole.refused === 0 && whole.bent() >= 2, byWhole.text);
  const pastBroken = await since('mix-1', mix1);
  assert.ok(pastBroken.views >= 2 && pastBroken.deltas === 0 && pastBroken.refused >= 2, pastBroken.text);
  assert.ok(broken.bent() >= 2);
  const pastLiar = await since('mix-2', mix2);
  assert.ok(pastLiar.views >= 2 && pastLiar.deltas >= 2 && pastLiar.refused >= 2, pastLiar.text);
  const lies = Object.values((await viewOf('mix-2')).refused).reduce((sum, count) => sum + count, 0);
  assert.ok(lies >= 2 && liar.bent() >= 4, 'its whole views are refused and counted too');
  const fromPeers = await since('mix-3', mix3);
  assert.ok(fromPeers.views >= 2 && fromPeers.deltas >= 1 && fromPeers.refused === 0, fromPeers.text);
  assert.ok((await network.node('mix-3').api.controlPlane())!.viewsFetched >= 2, 'it can have them from nobody else');
  const metrics = await (await fetch(`http://${network.node('mix-2').metrics}/metrics`)).text();
  assert.match(metrics, /^nyx_directory_deltas_refused_total [2-9]/m);
  assert.match(metrics, /^nyx_directory_deltas_accepted_total [2-9]/m);
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
