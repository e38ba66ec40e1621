/**
 * Rubbish, broken sizes and replayed datagrams at the rate one thread can make them, against a mix and an exit, while an
 * honest transfer crosses both. NYX_FLOOD_SECONDS sets how long (default 6).
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { dropsOf, hostPort, TappedNetwork, until } from './fixture.ts';
import type { FloodData } from './flood-worker.ts';
import { rssBytes } from './process-memory.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const FLOOD_MS = Number(process.env.NYX_FLOOD_SECONDS ?? 6) * 1000;
const WARM_UP_MS = Math.min(FLOOD_MS / 3, 10_000);
const MAX_GROWTH_BYTES = 30 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;
const MAX_CAPTURED = 2000;

let network: TappedNetwork;
let echo: TestServer;

before(async () => {
  network = await TappedNetwork.start({ mixes: 2, exits: 1, hops: 3 });
  echo = await serveEcho();
});

after(async () => {
  echo?.close();
  await network?.stop();
});

test('a flooded mix and exit carry honest bytes, count the rest, and hold no more memory', async () => {
  const captured: Uint8Array[] = [];
  for (const tap of network.taps) {
    tap.onDatagram = ({ datagram, inbound }) => {
      if (inbound && captured.length < MAX_CAPTURED) captured.push(Uint8Array.from(datagram));
      return true;
    };
  }
  await echoExactly(await socksConnect(network.socks, echo), 1 << 20);
  assert.ok(captured.length >= 1000);

  const victims = [network.node('mix-0'), network.node('exit-0')];
  const before = await network.traffic();
  const data: FloodData = { ports: victims.map(({ link }) => hostPort(link).port), captured };
  const flood = new Worker(new URL('./flood-worker.ts', import.meta.url), { workerData: data });
  const startedMs = performance.now();
  let transferred = 0;
  let warm: number[] | undefined;
  try {
    do {
      // New streams, over the flooded nodes, for as long as the flood lasts.
      await echoExactly(await socksConnect(network.socks, echo, { timeoutMs: 60_000 }), PIECE_BYTES);
      transferred += PIECE_BYTES;
      if (performance.now() - startedMs > WARM_UP_MS) warm ??= victims.map(({ pid }) => rssBytes(pid));
    } while (performance.now() - startedMs < FLOOD_MS);
  } finally {
    flood.postMessage('stop');
  }
  const [sent] = (await once(flood, 'message')) as [number];
  const floodMs = performance.now() - startedMs;
  const growth = victims.map(({ pid }, i) => rssBytes(pid) - warm![i]!);

  const drops = await until('drops', async () => {
    const now = await network.traffic();
    const found = victims.map(({ name }) => dropsOf(now.get(name)) - dropsOf(before.get(name)));
    return found.every((count) => count > 0) && found;
  });
  console.log(
    `# ${sent} datagrams to each of 2 nodes in ${(floodMs / 1000).toFixed(1)} s (${((2 * sent) / floodMs).toFixed(0)} k/s); dropped and counted: ${drops.join(', ')}`,
  );
  console.log(
    `# honest bytes meanwhile: ${transferred}; memory grew by ${growth.map((bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`).join(', ')}`,
  );
  assert.ok(sent > 10_000, `only ${sent} datagrams were sent`);
  for (const [i, { name }] of victims.entries()) {
    assert.ok(drops[i]! > sent / 100, `${name} counted ${drops[i]} drops`);
    assert.ok(growth[i]! <= MAX_GROWTH_BYTES, `${name} grew by ${growth[i]} bytes`);
  }
  assert.ok(transferred >= 4 * PIECE_BYTES, `only ${transferred} honest bytes came through`);
  assert.deepEqual(network.network.failures, []);
  for (const { name, api } of network.nodes.values()) {
    for (const { id, restarts } of (await api.status()).supervision!.children)
      assert.equal(restarts, 0, `${name} ${id}`);
  }
  await echoExactly(await socksConnect(network.socks, echo), 1 << 20);
});
