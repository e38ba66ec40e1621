/** The SDK and nyx-cli against a real local network: every node a process, real bytes through three and five hops. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type LocalNetwork, startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { connectNyx, type NyxClient, NyxError } from '@nyx/sdk/index.ts';
import { until } from './fixture.ts';

const CLI = fileURLToPath(new URL('../../cli/nyx-cli.mjs', import.meta.url));
const servers: (Server | UdpSocket)[] = [];
let network: LocalNetwork;
let nyx: NyxClient;
let echoPort: number;

async function listen<S extends Server>(server: S): Promise<number> {
  servers.push(server);
  // A stream that a test ends early resets its connection here: that is the exit's doing and expected.
  server.on('connection', (socket) => socket.on('error', () => socket.destroy()));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

before(async () => {
  network = await startLocalNetwork({ mixes: 5, exits: 1, hops: 3 });
  nyx = await connectNyx({ socketPath: network.apiSocket });
  echoPort = await listen(createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)));
});

after(async () => {
  nyx?.close();
  for (const server of servers) server.close();
  await network?.stop();
});

async function failureOf(work: Promise<unknown>): Promise<NyxError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof NyxError, String(error));
  return error;
}

function collect(stream: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    stream.on('data', (chunk: Buffer) => {
      text += chunk;
    });
    stream.on('end', () => resolve(text));
  });
}

async function cli(
  args: readonly string[],
  input = '',
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child: ChildProcess = spawn(process.execPath, [CLI, ...args], {
    env: { ...process.env, NYX_API_SOCKET: network.apiSocket },
    stdio: 'pipe',
  });
  child.stdin!.end(input);
  const [stdout, stderr, [code]] = await Promise.all([
    collect(child.stdout!),
    collect(child.stderr!),
    once(child, 'exit') as Promise<[number | null]>,
  ]);
  return { code, stdout, stderr };
}

for (const hops of [3, 5]) {
  test(`bytes both ways over ${hops} hops, half-closed, hashed, on a path of ${hops} different nodes`, async () => {
    const sent = randomBytes(2 * 1024 * 1024);
    const socket = await nyx.connect({ host: '127.0.0.1', port: echoPort, hops, allowHalfOpen: true });
    assert.equal(new Set(socket.nodeIds).size, hops);
    const known = new Set(network.nodes.map(({ nodeId }) => nodeId));
    assert.ok(socket.nodeIds.every((nodeId) => known.has(nodeId)));
    const hash = createHash('sha256');
    socket.on('data', (chunk: Buffer) => hash.update(chunk));
    const closed = once(socket, 'close');
    socket.end(sent);
    await closed;
    assert.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'));
    assert.equal(socket.bytesRead, sent.length);
  });
}

test('fetch over the dispatcher', async () => {
  const port = await listen(createHttpServer((request, response) => response.end(`path ${request.url}`)));
  const dispatcher = nyx.dispatcher({ isolation: 'fetch' });
  const response = await fetch(`http://127.0.0.1:${port}/x`, { dispatcher } as RequestInit);
  assert.equal(await response.text(), 'path /x');
  await dispatcher.close();
});

test('a stopped reader stops the source; everything arrives when it goes on', async () => {
  // Without end: the kernel alone may take tens of megabytes before the source notices, depending on its settings.
  const block = Buffer.alloc(1 << 20, 5);
  const bound = 256 << 20;
  let offered = 0;
  let finish!: () => void;
  const port = await listen(
    createServer((source) => {
      const more = () => {
        do offered += block.length;
        while (source.write(block) && offered < bound);
      };
      finish = () => source.off('drain', more).end();
      source.on('drain', more);
      more();
    }),
  );
  const socket = await nyx.connect({ host: '127.0.0.1', port });
  let last = '';
  let sinceMs = 0;
  await until('nothing to move any more', () => {
    const now = `${offered} ${socket.bytesRead}`;
    if (now !== last) sinceMs = performance.now();
    last = now;
    return performance.now() - sinceMs > 500;
  });
  assert.ok(socket.bytesRead <= 1024 * 1024, `${socket.bytesRead} bytes came unasked`);
  assert.ok(offered < bound, 'the source was not held back');
  finish();
  let received = 0;
  for await (const chunk of socket) received += (chunk as Buffer).length;
  assert.equal(received, offered);
});

test('targets that fail say why, and requests that are wrong say what would be right', async () => {
  const closed = await listen(createServer());
  await new Promise((resolve) => servers.at(-1)!.close(resolve));
  assert.equal((await failureOf(nyx.connect({ host: '127.0.0.1', port: closed }))).code, 'CONNECTION_REFUSED');
  const bad = await failureOf(nyx.connect({ host: '127.0.0.1', port: echoPort, hops: 9 }));
  assert.equal(bad.code, 'BAD_REQUEST');
  assert.ok(
    bad.violations.some(({ field }) => field.includes('hops')),
    JSON.stringify(bad.violations),
  );
  assert.equal(
    (await failureOf(nyx.connect({ host: '127.0.0.1', port: echoPort, signal: AbortSignal.abort() }))).code,
    'CANCELLED',
  );
});

/** A UDP server that answers each datagram with its name before it. */
async function answerAs(name: string): Promise<{ port: number; seen: string[] }> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  servers.push(socket);
  const seen: string[] = [];
  socket.on('message', (data, from) => {
    seen.push(String(data));
    socket.send(`${name} ${data}`, from.port, from.address);
  });
  await once(socket, 'listening');
  return { port: socket.address().port, seen };
}

test('datagrams to two targets, with error correction: the answers are told apart by who sent them', async () => {
  const targets = await Promise.all(['one', 'two'].map(answerAs));
  const socket = await nyx.createDatagramSocket({ hops: 4, fec: { ratio: 0.5 }, deadlineMs: 10_000 });
  assert.equal(socket.nodeIds.length, 4);
  // One by its address, one by a name that only the exit resolves.
  const hosts = ['127.0.0.1', 'two.localhost'];
  const texts = hosts.map((host) => ['a', 'x'.repeat(socket.maxDataBytes(host))]);
  const answers = new Set<string>();
  const wanted = ['one', 'two'].flatMap((name, i) => texts[i]!.map((text) => `${name} ${text} ${targets[i]!.port}`));
  socket.on('message', (data, info) => {
    assert.deepEqual([info.address, info.family, info.size], ['127.0.0.1', 'IPv4', data.length]);
    answers.add(`${data} ${info.port}`);
  });
  // Datagrams may be lost: what has not come back is sent again.
  await until('all answers', () => {
    for (const [i, host] of hosts.entries()) for (const text of texts[i]!) socket.send(text, targets[i]!.port, host);
    return wanted.every((answer) => answers.has(answer));
  });
  assert.equal(answers.size, wanted.length);
  const { sent, received } = await socket.statistics();
  assert.ok(sent >= wanted.length && received >= wanted.length, `${sent} sent, ${received} received`);
  // Half a second behind, by the exit's own word.
  await until('the report of the exit', async () => {
    const { exitArrived, exitDropped } = await socket.statistics();
    return exitArrived >= wanted.length && exitArrived <= sent && exitDropped === 0;
  });
  const { fec } = (await nyx.paths.list()).find(({ pathId }) => pathId === socket.pathId)!;
  assert.equal(fec?.policy, '0.5');
  assert.ok(fec.sourcesSent > 0 && fec.repairsSent > 0, JSON.stringify(fec));
  socket.close();
});

test('a datagram whose time is over is not delivered, and counted where it waited', async () => {
  const target = await answerAs('mix');
  const socket = await nyx.createDatagramSocket({ class: 'mix' });
  assert.ok(socket.expectedAddedLatencyMs > 10);
  const answers: string[] = [];
  socket.on('message', (data) => answers.push(String(data)));
  const echo = (text: string) =>
    until(`the answer to ${text}`, () => {
      socket.send(text, target.port, '127.0.0.1');
      return answers.includes(`mix ${text}`);
    });
  // How long the way is, the exit knows from round trips.
  for (const text of ['first', 'second', 'third']) await echo(text);
  const droppedAtExit = async () => {
    const { metrics } = network.nodes.find(({ role }) => role === 'exit')!;
    const page = await (await fetch(`http://${metrics}/metrics`)).text();
    return Number(/^nyx_exit_dropped_datagrams_total (\d+)$/m.exec(page)![1]);
  };
  const droppedBefore = await droppedAtExit();
  const late = Buffer.alloc(1000, 'late');
  for (let i = 0; i < 100; i++) socket.send(late, target.port, '127.0.0.1', { deadlineMs: 1 });
  const { sent, expiredSending, droppedSending } = await socket.statistics();
  // Some left, as long as there was room at once, and had become too old when they came to the exit.
  assert.ok(sent + expiredSending + droppedSending >= 100, `${sent} sent, ${expiredSending} expired`);
  await echo('last');
  assert.ok((await socket.statistics()).expiredSending > 0);
  assert.ok((await droppedAtExit()) > droppedBefore);
  assert.equal(target.seen.filter((text) => text.startsWith('late')).length, 0);
  socket.close();
});

test('a path built by hand carries a stream; its events are seen; closing it ends it', async () => {
  const events = new AbortController();
  const ready = (async () => {
    for await (const event of nyx.events({ kinds: ['circuit'], signal: events.signal })) {
      if (event.name === 'ready') return event;
    }
    return undefined;
  })();
  await nyx.status(); // the subscription was sent before this, on the same connection
  const mixes = network.nodes.filter(({ role }) => role === 'mix').slice(0, 3);
  const exit = network.nodes.find(({ role }) => role === 'exit')!;
  const nodeIds = [...mixes, exit].map(({ nodeId }) => nodeId);
  const built = await nyx.paths.build({ nodeIds });
  assert.deepEqual(built.nodeIds, nodeIds);
  assert.ok((await ready) !== undefined);
  events.abort();
  const socket = await nyx.connect({ host: '127.0.0.1', port: echoPort, pathId: built.pathId });
  assert.deepEqual(socket.nodeIds, nodeIds);
  const broken = once(socket, 'error');
  await nyx.paths.close(built.pathId);
  assert.ok(['SESSION_LOST', 'PATH_FAILED', 'RESET', 'CANCELLED'].includes(((await broken)[0] as NyxError).code));
  assert.ok(!(await nyx.paths.list()).some(({ pathId }) => pathId === built.pathId));
});

test('nyx-cli connect, status, paths, keys and bench against the same daemon', { timeout: 120_000 }, async () => {
  const piped = await cli(['connect', `127.0.0.1:${echoPort}`, '--hops', '4', '-v'], 'through four hops\n');
  assert.deepEqual([piped.code, piped.stdout], [0, 'through four hops\n'], piped.stderr);
  assert.equal(piped.stderr.split('→').length, 4, piped.stderr);
  const status = JSON.parse((await cli(['status', '--json'])).stdout) as { state: string; roles: string[] };
  assert.equal(status.state, 'ready');
  const text = (await cli(['status'])).stdout;
  assert.match(text, /^node {8}[0-9a-f]{64}$/m);
  assert.match(text, /one_for_/);
  assert.ok((JSON.parse((await cli(['paths', '--json'])).stdout) as { paths: unknown[] }).paths.length > 0);
  assert.match((await cli(['keys'])).stdout, /^identity {3}[0-9a-f]{64}$/m);
  const bench = await cli(['bench', '--bytes', '4MiB', '--rounds', '20', '--circuits', '3', '--json']);
  const result = JSON.parse(bench.stdout) as {
    ok: boolean;
    download: { bytes: number; mbitPerSecond: number };
    upload: { bytes: number };
    echoMs: { count: number };
  };
  assert.equal(bench.code, 0, bench.stderr);
  assert.equal(result.download.bytes, 4 * 2 ** 20);
  assert.equal(result.upload.bytes, 4 * 2 ** 20);
  assert.equal(result.echoMs.count, 20);
  assert.ok(result.download.mbitPerSecond > 0);
  const viaApi = await cli(['bench', '--via', 'api', '--bytes', '4MiB', '--rounds', '20', '--circuits', '1', '--json']);
  assert.equal(viaApi.code, 0, viaApi.stderr);
});

test('nyx-cli says by its exit code what failed', async () => {
  const closed = await listen(createServer());
  await new Promise((resolve) => servers.at(-1)!.close(resolve));
  const refused = await cli(['connect', `127.0.0.1:${closed}`]);
  assert.equal(refused.code, 5, refused.stderr);
  const unknown = await cli(['paths', 'build', '--nodes', Array(3).fill('0'.repeat(64)).join(',')]);
  assert.ok(unknown.code === 4 || unknown.code === 2, `${unknown.code}: ${unknown.stderr}`);
});
