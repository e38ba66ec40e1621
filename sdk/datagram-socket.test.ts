import assert from 'node:assert/strict';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connectNyx, type NyxClient, NyxDatagramSocket, NyxError } from './index.ts';
import { startTestDaemon, type TestDaemon } from './test-daemon.ts';

const dir = mkdtempSync(join(tmpdir(), 'nyx-datagrams-'));
const socketPath = join(dir, 'api.sock');
const targets: UdpSocket[] = [];
let daemon: TestDaemon;
let client: NyxClient;

before(async () => {
  daemon = await startTestDaemon(socketPath);
  client = await connectNyx({ socketPath });
});

after(async () => {
  client.close();
  for (const target of targets) target.close();
  await daemon.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** Port of a server that answers with its name before what it got. */
async function target(name: string): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  targets.push(socket);
  socket.on('message', (data, from) => socket.send(`${name} ${data}`, from.port, from.address));
  await once(socket, 'listening');
  return socket.address().port;
}

async function failureOf(work: Promise<unknown>): Promise<NyxError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof NyxError, String(error));
  return error;
}

test('answers of two targets are told apart by their senders; the exit, the path and the counts are known', async () => {
  const ports = [await target('one'), await target('two')];
  const socket = await client.createDatagramSocket({ hops: 3 });
  assert.deepEqual(socket.address(), { address: '192.0.2.1', family: 'IPv4', port: 4242 });
  assert.deepEqual([socket.pathId, socket.nodeIds], [7, ['aa', 'bb', 'cc']]);
  const got = new Promise<string[]>((resolve) => {
    const seen: string[] = [];
    socket.on('message', (data, { address, family, port, size }) => {
      assert.equal(size, data.length);
      seen.push(`${data} ${address} ${family} ${ports.indexOf(port)}`);
      if (seen.length === 2) resolve(seen.sort());
    });
  });
  const data = Buffer.from('hello');
  for (const port of ports) assert.equal(socket.send(data, port, 'local'), true);
  data.fill(0); // it was copied
  assert.deepEqual(await got, ['one hello 127.0.0.1 IPv4 0', 'two hello 127.0.0.1 IPv4 1']);
  assert.deepEqual(await socket.statistics(), {
    sent: 2,
    expiredSending: 1,
    droppedSending: 2,
    received: 2,
    expiredReceiving: 3,
    droppedReceiving: 4,
    exitArrived: 5,
    exitExpired: 6,
    exitDropped: 7,
    exitAnswersDropped: 8,
  });
  const closed = once(socket, 'close');
  socket.close();
  await closed;
  assert.equal((await failureOf(socket.statistics())).code, 'CANCELLED');
  assert.throws(() => socket.send('x', 1, 'local'), { code: 'CANCELLED' });
});

test('the deadline of the socket holds unless a datagram has its own', async () => {
  const { deadlines } = daemon.datagrams;
  deadlines.length = 0;
  const socket = await client.createDatagramSocket({ deadlineMs: 60_000 });
  socket.send('as opened', 1, 'nobody');
  socket.send('shorter', 1, 'nobody', { deadlineMs: 30_000 });
  socket.send('none', 1, 'nobody', { deadlineMs: 0 });
  await socket.statistics();
  const near = (ms: number | undefined) => Math.ceil(ms! / 30_000) * 30_000;
  assert.deepEqual(
    deadlines.map(([text, ms]) => [text, near(ms)]),
    [
      ['open', 60_000],
      ['as opened', 60_000],
      ['shorter', 30_000],
      ['none', 0],
    ],
  );
  socket.close();
});

test('what can never be sent is an error at once, with the field, and the daemon does not hear of it', async () => {
  const socket = await client.createDatagramSocket();
  assert.equal(socket.maxDataBytes('192.0.2.1'), 1083);
  assert.equal(socket.maxDataBytes('2001:db8::1'), 1071);
  assert.equal(socket.maxDataBytes('a.example'), 1087 - 9);
  for (const [field, data, port, host, deadlineMs] of [
    ['data', Buffer.alloc(1084), 1, '192.0.2.1', 0],
    ['data', Buffer.alloc(1083), 1, 'local', 0],
    ['port', 'x', 0, 'local', 0],
    ['port', 'x', 65_536, 'local', 0],
    ['port', 'x', 1.5, 'local', 0],
    ['host', 'x', 1, '', 0],
    ['host', 'x', 1, 'a b', 0],
    ['host', 'x', 1, 'x'.repeat(256), 0],
    ['host', 'x', 1, 'fe80::1%eth0', 0],
    ['deadlineMs', 'x', 1, 'local', 60_001],
    ['deadlineMs', 'x', 1, 'local', -1],
    ['deadlineMs', 'x', 1, 'local', 0.5],
  ] as const) {
    assert.throws(
      () => socket.send(data, port, host, { deadlineMs }),
      (error: NyxError) => error.code === 'BAD_REQUEST' && error.violations[0]?.field === field,
      field,
    );
  }
  assert.ok(socket.send(Buffer.alloc(1082), 9, 'local'));
  assert.equal((await socket.statistics()).sent, 1);
  assert.deepEqual(daemon.violations, []);
  socket.close();
});

test('a loop takes what comes; 256 behind it loses the oldest; nobody listening loses all', async () => {
  const socket = await client.createDatagramSocket();
  socket.send('', 10, 'flood');
  assert.deepEqual((await socket.statistics()).droppedReceiving, 4 + 10);
  const loop = socket[Symbol.asyncIterator]();
  const first = loop.next();
  socket.send('', 400, 'flood');
  const { received, droppedReceiving } = await socket.statistics();
  // One may have been taken before the others came.
  assert.ok(received <= 1 && droppedReceiving >= 14 + 400 - 256 - 1, `${received} ${droppedReceiving}`);
  const ports = [(await first).value![1].port];
  while (ports.at(-1) !== 400) ports.push((await loop.next()).value![1].port);
  assert.equal(new Set(ports).size, ports.length);
  assert.equal(ports.length + droppedReceiving - 14, 400);
  const next = loop.next();
  socket.close();
  assert.deepEqual(await next, { done: true, value: undefined });
});

test('a daemon that does not read: nothing piles up, and what has waited too long is not sent', async () => {
  const { datagrams } = daemon;
  const socket = await client.createDatagramSocket({ isolation: 'stall', deadlineMs: 200 });
  const data = Buffer.alloc(1000);
  let [taken, refused] = [0, 0];
  // gRPC takes some, and then no more.
  for (let stuck = 0; stuck < 20; stuck++) {
    for (let i = 0; i < 64; i++) {
      if (socket.send(data, 9, 'nobody')) {
        taken++;
        stuck = 0;
      } else refused++;
    }
    await new Promise(setImmediate);
  }
  await new Promise((resolve) => setTimeout(resolve, 210));
  const { length } = datagrams.deadlines;
  datagrams.resume();
  const { sent, expiredSending, droppedSending } = await socket.statistics();
  assert.equal(droppedSending, 2 + refused);
  assert.ok(expiredSending - 1 >= 256, `${expiredSending} expired`);
  assert.equal(sent + (expiredSending - 1), taken);
  assert.equal(datagrams.deadlines.length - length, sent);
  socket.close();
});

test('no path, and an AbortSignal: before the socket is open it rejects, afterwards it closes', async () => {
  assert.equal((await failureOf(client.createDatagramSocket({ isolation: 'refuse' }))).code, 'NO_PATH');
  assert.equal((await failureOf(client.createDatagramSocket({ signal: AbortSignal.abort() }))).code, 'CANCELLED');
  const early = new AbortController();
  const opening = failureOf(client.createDatagramSocket({ signal: early.signal }));
  early.abort();
  assert.equal((await opening).code, 'CANCELLED');
  const controller = new AbortController();
  const socket = await client.createDatagramSocket({ signal: controller.signal });
  const closed = once(socket, 'close');
  controller.abort();
  await closed;
  assert.ok(socket.closed);
});

test('the daemon goes away: the error says so, close follows, loops and questions end with it', async () => {
  const path = join(dir, 'second.sock');
  const second = await startTestDaemon(path);
  const fragile = await connectNyx({ socketPath: path });
  const heard = await fragile.createDatagramSocket();
  assert.ok(heard instanceof NyxDatagramSocket);
  const order: string[] = [];
  heard.on('error', ({ code }) => order.push(code)).on('close', () => order.push('close'));
  // Nobody listens for its error: the loop throws it.
  const looped = await fragile.createDatagramSocket();
  const loop = failureOf(looped[Symbol.asyncIterator]().next());
  const stalled = await fragile.createDatagramSocket({ isolation: 'stall' });
  stalled.on('error', () => {});
  const question = failureOf(stalled.statistics());
  await second.stop();
  assert.equal((await loop).code, 'DAEMON_UNREACHABLE');
  assert.equal((await question).code, 'DAEMON_UNREACHABLE');
  if (!heard.closed) await once(heard, 'close');
  assert.deepEqual(order, ['DAEMON_UNREACHABLE', 'close']);
  fragile.close();
});

test('close() of the client closes its sockets, without an error', async () => {
  const other = await connectNyx({ socketPath });
  const socket = await other.createDatagramSocket();
  socket.on('error', (error) => assert.fail(error));
  const closed = once(socket, 'close');
  other.close();
  await closed;
});
