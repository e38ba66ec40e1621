/** Nodes with two workers each, on shared ports: circuits spread over them, bytes cross what the path says, a crash hurts its own only. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { TappedNetwork, until } from './fixture.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const STREAMS = 24;
const WORKER_IDS = 2 ** 32;
const PAYLOAD_BYTES = 1144;

let network: TappedNetwork;
let echo: TestServer;

before(async () => {
  network = await TappedNetwork.start({
    mixes: 3,
    exits: 1,
    hops: 3,
    taps: false,
    workers: 2,
    allowCrash: true,
    spareCircuits: 0,
  });
  echo = await serveEcho();
});

after(async () => {
  echo?.close();
  await network?.stop();
});

interface Open {
  readonly socket: Socket;
  readonly worker: number;
}

/** Streams of as many users, each with a circuit of its own, and the worker that each came to. */
async function openStreams(prefix: string): Promise<Open[]> {
  const known = new Set((await network.client.api.streams.list()).map(({ streamId }) => streamId));
  const open: Open[] = [];
  for (let i = 0; i < STREAMS; i++) {
    const username = `nyx;isolation=${prefix}-${i}`;
    const socket = await socksConnect(network.socks, echo, { username });
    const info = await until('the new stream', async () =>
      (await network.client.api.streams.list()).find(({ streamId }) => !known.has(streamId)),
    );
    known.add(info.streamId);
    open.push({ socket, worker: Math.floor(info.streamId / WORKER_IDS) });
  }
  return open;
}

test('connections and circuits spread over both workers, and each carries its own bytes', async () => {
  const open = await openStreams('spread');
  const perWorker = [0, 1].map((worker) => open.filter((one) => one.worker === worker).length);
  console.log(`# ${perWorker.join(' and ')} streams on the two workers`);
  // The kernel chooses by a hash of the connection: all on one side has a chance of 1 in 8 million.
  assert.ok(
    perWorker.every((count) => count > 0),
    `${perWorker}`,
  );
  const paths = await network.client.api.paths.list();
  assert.equal(new Set(paths.map(({ pathId }) => Math.floor(pathId / WORKER_IDS))).size, 2);
  await Promise.all(open.map(({ socket }) => echoExactly(socket, 64 * 1024)));
});

test('the bytes of a transfer cross the processes of its path, and no others', async () => {
  await until('quiet', async () => (await network.client.api.streams.list()).length === 0);
  const socket = await socksConnect(network.socks, echo, { username: 'nyx;isolation=proof' });
  const path = await network.pathOf(echo.address);
  const before = await network.traffic();
  const sizeBytes = 4 << 20;
  await echoExactly(socket, sizeBytes);
  const after = await network.traffic();
  const cells = sizeBytes / PAYLOAD_BYTES;
  for (const { name, role } of network.nodes.values()) {
    if (role === 'client') continue;
    const [from, to] = [before.get(name)!, after.get(name)!];
    const moved = to.cellsForward + to.cellsBackward + to.cellsDelivered + to.cellsOriginated;
    const count = moved - (from.cellsForward + from.cellsBackward + from.cellsDelivered + from.cellsOriginated);
    if (path.some((node) => node.name === name)) assert.ok(count >= 2 * cells, `${name} moved ${count} cells`);
    // Idle circuits of the test before say a word now and then.
    else assert.ok(count < cells / 10, `${name} is off the path and moved ${count} cells`);
  }
});

test('a worker that crashes takes its own streams with it, and no others; its place is taken again', async () => {
  const open = await openStreams('crash');
  const lost = open.filter(({ worker }) => worker === 1);
  const kept = open.filter(({ worker }) => worker === 0);
  assert.ok(lost.length > 0 && kept.length > 0);
  const ended = lost.map(({ socket }) =>
    Promise.race([once(socket, 'close'), once(socket, 'error'), once(socket, 'end')]),
  );
  let disturbed = 0;
  for (const { socket } of kept) socket.once('error', () => disturbed++).once('close', () => disturbed++);
  await network.client.api.crashActor('pumps/pump-1');
  await Promise.all(ended);
  assert.equal(disturbed, 0);
  await Promise.all(kept.map(({ socket }) => echoExactly(socket, 64 * 1024)));
  // Both take new connections again.
  await until(
    'streams on the new worker',
    async () => {
      const again = await openStreams(`again-${Date.now()}`);
      await Promise.all(again.map(({ socket }) => echoExactly(socket, 1024)));
      return new Set(again.map(({ worker }) => worker)).size === 2;
    },
    20_000,
  );
});
