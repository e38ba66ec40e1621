import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { blob, blobSha256, startDemoServer } from './demo-server.ts';
import { distribution, histogram } from './quantiles.ts';
import { type ServerProcess, spawnTarget } from './server-process.ts';
import { SocksError, socksConnect } from './socks.ts';
import { startTarget, type Target } from './target.ts';
import { download, echo, upload } from './transfers.ts';

let target: Target;
before(async () => {
  target = await startTarget();
});
after(() => target.close());

const within = () => ({ signal: AbortSignal.timeout(10_000) });
const open = () => connect({ ...target.address, allowHalfOpen: true });

test('quantiles are nearest-rank, and there are none of nothing', () => {
  const result = distribution(Array.from({ length: 100 }, (_, index) => 100 - index));
  assert.deepEqual(
    { p50: result.p50, p90: result.p90, p99: result.p99, max: result.max, mean: result.mean },
    { p50: 50, p90: 90, p99: 99, max: 100, mean: 50.5 },
  );
  assert.equal(distribution([7]).p99, 7);
  assert.throws(() => distribution([]), RangeError);
});

test('a histogram counts every value once', () => {
  const lines = histogram([1, 1, 1, 10, 100], 4, 8).split('\n');
  const counts = lines.map((line) => Number(/ms\s+(\d+)/.exec(line)?.[1]));
  assert.equal(
    counts.reduce((sum, count) => sum + count, 0),
    5,
  );
  assert.equal(counts[0], 3);
  assert.equal(counts[3], 1);
});

test('down, up and echo deliver what was asked for', async () => {
  assert.equal(await download(open(), 3_000_001, within()), 3_000_001);
  assert.equal(await upload(open(), 3_000_001, within()), 3_000_001);
  const times = await echo(open(), 20, 64, within());
  assert.equal(times.length, 20);
  assert.ok(times.every((time) => time > 0));
});

test('when the time is up a transfer counts what it has delivered', async () => {
  const got = await download(open(), 2 ** 36, { ...within(), stopAfterMs: 50 });
  assert.ok(got > 0 && got < 2 ** 36);
  const put = await upload(open(), 2 ** 36, { ...within(), stopAfterMs: 50 });
  assert.ok(put > 0 && put < 2 ** 36);
});

/** A server in the middle that lets `change` see each chunk on its way to the client. */
async function tampered(change: (chunk: Buffer, at: number) => Buffer): Promise<{ port: number; close(): void }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    const behind = connect(target.address);
    sockets.push(socket, behind);
    socket.pipe(behind);
    let at = 0;
    behind.on('data', (chunk: Buffer) => {
      socket.write(change(Buffer.from(chunk), at));
      at += chunk.length;
    });
    for (const end of [socket, behind]) end.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

test('one wrong byte fails a download and an echo: it is not throughput', async () => {
  const middle = await tampered((chunk, at) => {
    const index = 1000 - at;
    if (index >= 0 && index < chunk.length) chunk[index]! ^= 1;
    return chunk;
  });
  await assert.rejects(download(connect(middle.port, '127.0.0.1'), 100_000, within()), /wrong bytes/);
  await assert.rejects(echo(connect(middle.port, '127.0.0.1'), 100, 64, within()), /came back changed/);
  middle.close();
});

test('a target that stops early, and an abort, reject', async () => {
  const server = createServer((socket) => socket.end('abc'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = (server.address() as AddressInfo).port;
  await assert.rejects(download(connect(port, '127.0.0.1'), 100, within()));
  server.close();
  await assert.rejects(download(open(), 100, { signal: AbortSignal.abort(new Error('stop')) }), /stop/);
});

test('a target in a process of its own ends with it', async () => {
  const spawned: ServerProcess = await spawnTarget();
  assert.notEqual(spawned.pid, process.pid);
  assert.equal(await download(connect(spawned.address), 1000, within()), 1000);
  await spawned.close();
  assert.throws(() => process.kill(spawned.pid, 0), { code: 'ESRCH' });
});

/** Answers each piece of the handshake with the next of `answers`. */
async function socksServer(
  answers: readonly (readonly number[])[],
): Promise<{ port: number; got: Buffer[]; close(): void }> {
  const got: Buffer[] = [];
  const server = createServer((socket) => {
    let step = 0;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      got.push(Buffer.from(chunk));
      const answer = answers[step];
      step += 1;
      if (answer) socket.write(Buffer.from(answer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, got, close: () => server.close() };
}

test('SOCKS5 with a user name: the bytes of RFC 1928 and 1929, and nothing of the stream is lost', async () => {
  const server = await socksServer([
    [5, 2],
    [1, 0],
    [5, 0, 0, 1, 127, 0, 0, 1, 0, 80, 0x68, 0x69],
  ]);
  const socket = await socksConnect(
    { host: '127.0.0.1', port: server.port },
    { host: 'a.example', port: 258 },
    {
      auth: { username: 'nyx;hops=5', password: 'p' },
      timeoutMs: 5_000,
    },
  );
  assert.equal(String(socket.read()), 'hi');
  assert.deepEqual(
    server.got.map((piece) => piece.toString('latin1')),
    ['\x05\x01\x02', '\x01\x0anyx;hops=5\x01p', '\x05\x01\x00\x03\x09a.example\x01\x02'],
  );
  socket.destroy();
  server.close();
});

test('a SOCKS refusal carries its code; silence ends in time', async () => {
  const refusing = await socksServer([
    [5, 0],
    [5, 5, 0, 1, 0, 0, 0, 0, 0, 0],
  ]);
  const at = { host: '127.0.0.1', port: refusing.port };
  await assert.rejects(socksConnect(at, { host: 'x', port: 1 }, { timeoutMs: 5_000 }), (error) => {
    return error instanceof SocksError && error.reply === 5 && /refused/.test(error.message);
  });
  refusing.close();
  const silent = await socksServer([]);
  const dial = socksConnect({ host: '127.0.0.1', port: silent.port }, { host: 'x', port: 1 }, { timeoutMs: 50 });
  await assert.rejects(dial, /no SOCKS answer in 50 ms/);
  silent.close();
});

test('the demo server sends what its key says', async () => {
  const demo = await startDemoServer();
  const key = Buffer.alloc(32, 9);
  const url = `http://127.0.0.1:${demo.address.port}`;
  const response = await fetch(`${url}/blob?key=${key.toString('hex')}&bytes=700001`);
  const body = Buffer.from(await response.arrayBuffer());
  assert.deepEqual(body, Buffer.concat([...blob(key, 700_001)]));
  const { createHash } = await import('node:crypto');
  assert.equal(createHash('sha256').update(body).digest('hex'), blobSha256(key, 700_001));
  for (const bad of ['/blob?key=00&bytes=1', `/blob?key=${key.toString('hex')}&bytes=1e99`, '/x']) {
    assert.equal((await fetch(url + bad)).status, 404, bad);
  }
  await demo.close();
});
