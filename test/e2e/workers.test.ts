/**
 * Nodes with two workers each, on shared ports: circuits spread over them, bytes cross what the path says, a crash hurts its own only, a
 * reload of the configuration reaches all and cuts nothing.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { run } from '@nyx/cli/main.ts';
import type { Event, ReloadConfigResponse } from '@nyx/proto/types.ts';
import { TappedNetwork, until } from './fixture.ts';
import { SocksCommand, socksConnect, socksRequest } from './socks-client.ts';
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

/** nyx-cli config reload, for the exit. */
async function reload(...flags: string[]): Promise<{ code: number; report: ReloadConfigResponse & { ok: boolean } }> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const socket = network.node('exit-0').apiSocket.replace(/^unix:/, '');
  const signal = new AbortController().signal;
  const code = await run(['config', 'reload', '--api', socket, '--json', ...flags], { stdin, stdout, stderr, signal });
  stdout.end();
  return { code, report: JSON.parse(await text(stdout)) };
}

test('a reload: refused as a whole, or applied to every worker at once; a transfer goes on; a worker that comes later goes by it', async () => {
  const exit = network.node('exit-0');
  const file = join(network.network.folder, 'exit-0.yaml');
  const before = readFileSync(file, 'utf8');
  const refused = await serveEcho();
  const events: Event[] = [];
  const watching = new AbortController();
  const watched = (async () => {
    for await (const event of exit.api.events({ kinds: ['config'], signal: watching.signal })) events.push(event);
  })();
  const configuration = async () => (await exit.api.status()).configuration!;
  const socksReply = async (port: number, isolation: string) => {
    const username = `nyx;isolation=${isolation}`;
    const target = { host: '127.0.0.1', port };
    const { reply, socket } = await socksRequest(network.socks, SocksCommand.connect, target, { username });
    socket.destroy();
    return reply;
  };
  try {
    assert.deepEqual((await configuration()).workerGenerations, [1, 1]);
    // A transfer that has begun, and ends only when everything below is over.
    const transfer = await socksConnect(network.socks, echo, { username: 'nyx;isolation=reload-transfer' });
    const path = (await network.pathOf(echo.address)).map(({ name }) => name);
    transfer.write(Buffer.alloc(1 << 20, 1));
    await once(transfer, 'readable');

    // SIGHUP with a broken file: an event and a log line with the place, and nothing changes.
    const policy = before.replace('- accept *:*', `- reject 127.0.0.1:${refused.port}\n    - accept *:*`);
    assert.notEqual(policy, before);
    writeFileSync(file, `${policy.replace('- accept *:*', '- allow *:*')}fec: { cpuShare: 7 }\n`);
    await until('the subscription', async () => {
      process.kill(exit.pid, 'SIGHUP');
      return events.find(({ name }) => name === 'refused');
    });
    const [event] = events;
    assert.equal(event!.attributes.outcome, 'invalid');
    assert.match(event!.attributes.problems!, /^\d+:7: exit\.policy\[1\] .*\n\d+:18: fec\.cpuShare /s);
    assert.ok(exit.lastLog().some((line) => line.includes('not reloaded') && line.includes('exit.policy[1]')));
    const unchanged = await configuration();
    assert.equal(unchanged.generation, 1);
    assert.equal(unchanged.lastOutcome, 'invalid');
    assert.match(unchanged.lastError!, /exit\.policy\[1\]/);
    assert.equal(await socksReply(refused.port, 'reload-before'), 0);
    const mistakes = await reload();
    assert.equal(mistakes.code, 1);
    assert.equal(mistakes.report.ok, false);
    assert.deepEqual(
      mistakes.report.issues.map(({ key, column }) => [key, column]),
      [
        ['exit.policy[1]', 7],
        ['fec.cpuShare', 18],
      ],
    );

    // What needs a restart: all is refused, or the rest applied.
    writeFileSync(file, `${policy.replace('workers: 2', 'workers: 3')}`);
    const restart = await reload();
    assert.equal(restart.code, 1);
    assert.equal(restart.report.outcome, 'needs-restart');
    assert.deepEqual(
      restart.report.needRestart.map(({ key }) => key),
      ['workers'],
    );
    assert.equal(await socksReply(refused.port, 'reload-restart'), 0);
    const partial = await reload('--partial');
    assert.equal(partial.code, 0);
    assert.deepEqual(
      [partial.report.outcome, partial.report.generation, partial.report.workersConfirmed],
      ['applied', 2, 2],
    );
    assert.deepEqual(
      partial.report.changed.map(({ key }) => key),
      ['exit.policy'],
    );
    // Not allowed by the rule set (RFC 1928), on both workers, and nothing else is affected.
    for (let i = 0; i < 6; i++) assert.equal(await socksReply(refused.port, `reload-after-${i}`), 2);
    assert.equal(await socksReply(echo.port, 'reload-other'), 0);
    assert.deepEqual((await configuration()).workerGenerations, [2, 2]);
    assert.deepEqual((await configuration()).needRestart, ['workers']);

    // SIGHUP with a sound file; a worker that dies is followed by one that goes by the newest.
    writeFileSync(file, `${policy}limits: { maxSessions: 900 }\n`);
    process.kill(exit.pid, 'SIGHUP');
    await until('generation 3', async () => (await configuration()).workerGenerations.every((worker) => worker === 3));
    assert.deepEqual((await configuration()).needRestart, []);
    const busy = await network.stream(echo.address);
    assert.deepEqual(
      busy.nodeIds.map((nodeId) => network.nodes.get(nodeId)!.name),
      path,
    );
    let back = 0;
    for await (const chunk of transfer.end(Buffer.alloc(1 << 20, 1))) back += chunk.length;
    assert.equal(back, 2 << 20);
    for (const pump of ['pumps/pump-0', 'pumps/pump-1']) await exit.api.crashActor(pump);
    await until('the next workers', async () => {
      const { workerGenerations } = await configuration();
      return workerGenerations.length === 2 && workerGenerations.every((worker) => worker === 3);
    });
  } finally {
    refused.close();
    writeFileSync(file, before);
    watching.abort();
    await watched;
  }
});
