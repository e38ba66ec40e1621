/** The proxies as applications use them: curl, UDP, names at the exit, isolation, refusals, many streams, slow readers. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { TappedNetwork, until } from './fixture.ts';
import { rssBytes } from './process-memory.ts';
import { encodeAddress, SocksCommand, socksConnect, socksRequest } from './socks-client.ts';
import { echoExactly, serve, serveEcho, type TestServer } from './transfer.ts';

const run = promisify(execFile);
const BODY_BYTES = 4 * 1024 * 1024;
const body = randomBytes(BODY_BYTES);
const bodyFile = join(tmpdir(), `nyx-body-${process.pid}`);
const FORBIDDEN_PORT = 9;

let network: TappedNetwork;
let echo: TestServer;
let web: HttpServer;
let webPort: number;

before(async () => {
  network = await TappedNetwork.start({
    mixes: 4,
    exits: 1,
    taps: false,
    overrides: (role) =>
      role === 'exit' ? { exit: { policy: [`reject *:${FORBIDDEN_PORT}`, 'accept *:*'], allowPrivate: true } } : {},
  });
  echo = await serveEcho();
  writeFileSync(bodyFile, body);
  web = createHttpServer(async (request, response) => {
    if (request.method === 'GET') {
      response.end(body);
      return;
    }
    const hash = createHash('sha256');
    for await (const chunk of request) hash.update(chunk as Buffer);
    response.end(hash.digest('hex'));
  }).listen(0, '127.0.0.1');
  await once(web, 'listening');
  webPort = (web.address() as AddressInfo).port;
});

after(async () => {
  rmSync(bodyFile, { force: true });
  web?.closeAllConnections();
  web?.close();
  echo?.close();
  await network?.stop();
});

async function curl(...args: string[]): Promise<Buffer> {
  const options = { encoding: 'buffer', maxBuffer: 2 * BODY_BYTES } as const;
  return (await run('curl', ['-sS', '--fail', '--max-time', '30', ...args], options)).stdout;
}

test('curl over SOCKS5 with the name resolved at the exit: GET and POST of 4 MiB', async () => {
  const { host, port } = network.socks;
  const proxy = ['--socks5-hostname', `${host}:${port}`];
  const url = `http://web.localhost:${webPort}/`;
  const startedMs = performance.now();
  assert.ok((await curl(...proxy, url)).equals(body));
  console.log(`# curl GET of 4 MiB: ${((BODY_BYTES * 8) / 1000 / (performance.now() - startedMs)).toFixed(0)} Mbit/s`);
  const digest = await curl(...proxy, '--data-binary', `@${bodyFile}`, '-H', 'Expect:', url);
  assert.equal(digest.toString(), createHash('sha256').update(body).digest('hex'));
});

test('curl over HTTP CONNECT', async () => {
  const { host, port } = network.httpConnect;
  assert.ok((await curl('-x', `http://${host}:${port}`, '-p', `http://web.localhost:${webPort}/`)).equals(body));
});

test('UDP ASSOCIATE carries datagrams there and back', async () => {
  const server = createSocket('udp4').bind(0, '127.0.0.1');
  server.on('message', (message, from) => server.send(message, from.port, from.address));
  await once(server, 'listening');
  const client = createSocket('udp4').bind(0, '127.0.0.1');
  await once(client, 'listening');
  const { reply, bound, socket } = await socksRequest(network.socks, SocksCommand.udpAssociate, {
    host: '0.0.0.0',
    port: 0,
  });
  try {
    assert.equal(reply, 0);
    const address = encodeAddress({ host: '127.0.0.1', port: server.address().port });
    const wanted = new Set(Array.from({ length: 20 }, (_, i) => `datagram ${i}`));
    client.on('message', (message) => wanted.delete(message.subarray(3 + address.length).toString()));
    // Datagrams may be lost: what has not come back is sent again.
    await until('all datagrams', () => {
      for (const text of wanted) {
        client.send(Buffer.concat([Buffer.alloc(3), address, Buffer.from(text)]), bound.port, bound.host);
      }
      return wanted.size === 0;
    });
  } finally {
    socket.destroy();
    client.close();
    server.close();
  }
});

test('RESOLVE is answered by the exit', async () => {
  const { reply, bound, socket } = await socksRequest(network.socks, SocksCommand.resolve, {
    host: 'some.name.localhost',
    port: 0,
  });
  socket.destroy();
  assert.deepEqual([reply, bound.host], [0, '127.0.0.1']);
});

test('other credentials, other circuits; the same ones share', async () => {
  const pathIdOf = async (username: string, password: string) => {
    const socket = await socksConnect(network.socks, echo, { username, password });
    const { pathId } = await network.stream(echo.address);
    socket.destroy();
    await until('the stream to go', async () => (await network.client.api.streams.list()).length === 0);
    return pathId;
  };
  const ids = [
    await pathIdOf('alice', 'a'),
    await pathIdOf('bob', 'a'),
    await pathIdOf('alice', 'b'),
    await pathIdOf('alice', 'a'),
  ];
  assert.equal(new Set(ids.slice(0, 3)).size, 3, ids.join());
  assert.equal(ids[3], ids[0]);
});

test('a target that refuses, one that the policy forbids, and a name that does not exist: RFC 1928 replies', async () => {
  const gone = await serveEcho();
  gone.close();
  for (const [host, port, expected] of [
    ['127.0.0.1', gone.port, 5],
    ['127.0.0.1', FORBIDDEN_PORT, 2],
    ['forbidden.localhost', FORBIDDEN_PORT, 2],
    ['nothing.invalid', 80, 4],
  ] as const) {
    const { reply, socket } = await socksRequest(network.socks, SocksCommand.connect, { host, port });
    socket.destroy();
    assert.equal(reply, expected, `${host}:${port}`);
  }
});

test('half-close: what is asked after the end of the question still comes', async () => {
  const server = await serve((socket) => {
    const hash = createHash('sha256');
    socket.on('data', (chunk) => hash.update(chunk));
    socket.on('end', () => socket.end(hash.digest('hex')));
  });
  const socket = await socksConnect(network.socks, server);
  socket.end(body);
  let answer = '';
  for await (const chunk of socket) answer += chunk;
  assert.equal(answer, createHash('sha256').update(body).digest('hex'));
  server.close();
});

test('100 streams at once, each with its own bytes', async () => {
  const startedMs = performance.now();
  await Promise.all(
    Array.from({ length: 100 }, async () => {
      const socket = await socksConnect(network.socks, echo);
      await echoExactly(socket, 64 * 1024);
    }),
  );
  console.log(`# 100 streams of 64 KiB each way: ${(performance.now() - startedMs).toFixed(0)} ms`);
});

test('a reader that stops holds up nobody, and nothing piles up behind it', async () => {
  const block = Buffer.alloc(1 << 20, 1);
  let offered = 0;
  const source = await serve((socket) => {
    const more = () => {
      do offered += block.length;
      while (offered < 512 << 20 && socket.write(block));
    };
    socket.on('drain', more);
    more();
  });
  const stalled = await socksConnect(network.socks, source);
  stalled.pause();
  let last = -1;
  let sinceMs = 0;
  await until('the source to be held back', () => {
    if (offered !== last) {
      last = offered;
      sinceMs = performance.now();
    }
    return performance.now() - sinceMs > 500;
  });
  const pids = [...network.nodes.values()].map(({ pid }) => pid);
  const before = pids.map(rssBytes);
  for (let i = 0; i < 8; i++) await echoExactly(await socksConnect(network.socks, echo), 1 << 20);
  console.log(`# a stalled reader lets ${(offered / 2 ** 20).toFixed(0)} MiB be offered`);
  assert.ok(offered < 64 << 20, `${offered} bytes were taken for a reader that does not read`);
  for (const [i, pid] of pids.entries()) {
    const growth = rssBytes(pid) - before[i]!;
    assert.ok(growth < 64 << 20, `process ${pid} grew by ${growth} bytes`);
  }
  stalled.destroy();
  source.close();
});
