import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, get as httpGet } from 'node:http';
import { createServer as createHttpsServer, get as httpsGet } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connectNyx, defaultSocketPath, type NyxClient, NyxError } from './index.ts';
import { startTestDaemon, type TestDaemon } from './test-daemon.ts';

const dir = mkdtempSync(join(tmpdir(), 'nyx-sdk-'));
const socketPath = join(dir, 'api.sock');
let daemon: TestDaemon;
let client: NyxClient;
const servers: Server[] = [];

before(async () => {
  daemon = await startTestDaemon(socketPath);
  client = await connectNyx({ socketPath, reconnectMinMs: 100, reconnectMaxMs: 200 });
});

after(async () => {
  client.close();
  for (const server of servers) server.close();
  await daemon.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function listen<S extends Server>(server: S): Promise<number> {
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

const tcp = (serve: (socket: Socket) => void) => listen(createServer({ allowHalfOpen: true }, serve));

async function failureOf(work: Promise<unknown>): Promise<NyxError> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof NyxError, String(error));
    return error;
  }
  throw new Error('it did not fail');
}

test('the default socket follows the environment in the documented order', () => {
  const base = { HOME: '/home/u' };
  assert.equal(defaultSocketPath({ ...base, NYX_API_SOCKET: '/a/b', XDG_RUNTIME_DIR: '/run/u' }), '/a/b');
  assert.equal(defaultSocketPath({ ...base, XDG_RUNTIME_DIR: '/run/u' }), '/run/u/nyx/api.sock');
  assert.equal(defaultSocketPath(base), '/home/u/.nyx/api.sock');
});

test('nobody at the socket: DAEMON_UNREACHABLE, at once, and how to start one', async () => {
  const error = await failureOf(connectNyx({ socketPath: join(dir, 'none.sock') }));
  assert.equal(error.code, 'DAEMON_UNREACHABLE');
  assert.match(error.message, /nyx-cli up/);
});

test('bytes both ways with half-close; addresses, path and counters as of a socket', async () => {
  const port = await tcp((socket) => socket.pipe(socket));
  const socket = client.dial({ host: 'local', port, allowHalfOpen: true });
  assert.equal(socket.connecting, true);
  assert.equal(socket.readyState, 'opening');
  const sent = randomBytes(3 * 1024 * 1024 + 17);
  const hash = createHash('sha256');
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
    hash.update(chunk);
  });
  const closed = once(socket, 'close');
  socket.end(sent);
  await once(socket, 'connect');
  assert.deepEqual(socket.nodeIds, ['aa', 'bb', 'cc']);
  assert.equal(socket.localAddress, '192.0.2.1');
  await once(socket, 'end');
  assert.equal(received, sent.length);
  assert.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'));
  assert.equal(socket.bytesRead, sent.length);
  assert.equal(socket.bytesWritten, sent.length);
  await closed;
  assert.deepEqual(daemon.violations, []);
});

test('a reader that stops takes no more than one window; one that goes on gets everything', async () => {
  const size = 8 * 1024 * 1024;
  const port = await tcp((socket) => socket.end(Buffer.alloc(size, 7)));
  const socket = await client.connect({ host: 'local', port });
  // Nobody reads: what arrives is what was granted, and it stays at that.
  let before = -1;
  while (socket.bytesRead !== before || before === 0) {
    before = socket.bytesRead;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  assert.equal(before, 1024 * 1024);
  let received = 0;
  for await (const chunk of socket) received += (chunk as Buffer).length;
  assert.equal(received, size);
});

test('a target that does not read stops the writer', async () => {
  let accepted: Socket | undefined;
  const port = await tcp((socket) => {
    accepted = socket.pause();
  });
  const socket = await client.connect({ host: 'local', port });
  socket.on('error', () => {});
  let written = 0;
  let stuck = false;
  const chunk = Buffer.alloc(256 * 1024);
  while (!stuck && written < 64 * 1024 * 1024) {
    written += chunk.length;
    if (!socket.write(chunk)) {
      stuck = await Promise.race([
        once(socket, 'drain').then(() => false),
        new Promise<boolean>((resolve) => setTimeout(() => resolve(true), 200)),
      ]);
    }
  }
  assert.ok(stuck, `the writer never stopped (${written} bytes)`);
  assert.deepEqual(daemon.violations, []);
  socket.destroy();
  accepted?.destroy();
});

test('errors carry the daemon’s code, its message and details', async () => {
  const error = await failureOf(client.connect({ host: 'elsewhere', port: 80 }));
  assert.equal(error.code, 'HOST_UNREACHABLE');
  assert.equal(error.details.hop, '2');
  const closed = await tcp(() => {});
  servers.at(-1)?.close();
  assert.equal((await failureOf(client.connect({ host: 'local', port: closed }))).code, 'CONNECTION_REFUSED');
  assert.equal((await failureOf(client.resolve('a.example'))).code, 'UNIMPLEMENTED');
});

test('an AbortSignal ends a dial, before and after it is connected, and resets it in the daemon', async () => {
  const port = await tcp(() => {});
  const already = await failureOf(client.connect({ host: 'local', port, signal: AbortSignal.abort() }));
  assert.equal(already.code, 'CANCELLED');
  const controller = new AbortController();
  const socket = await client.connect({ host: 'local', port, signal: controller.signal });
  const closing = once(socket, 'error');
  controller.abort();
  assert.equal(((await closing)[0] as NyxError).code, 'CANCELLED');
  assert.ok(socket.destroyed);
  assert.equal((await failureOf(client.status({ signal: AbortSignal.abort() }))).code, 'CANCELLED');
});

test('setTimeout fires on idleness and leaves the stream open', async () => {
  const port = await tcp((socket) => socket.pipe(socket));
  const socket = await client.connect({ host: 'local', port });
  const keepAlive = setTimeout(() => {}, 5_000);
  await new Promise<void>((resolve) => socket.setTimeout(20, resolve));
  clearTimeout(keepAlive);
  socket.setTimeout(0);
  socket.write('x');
  assert.equal(String((await once(socket, 'data'))[0]), 'x');
  const closed = once(socket, 'close');
  socket.destroySoon();
  await closed;
});

test('http.get over the agent, with keep-alive; fetch over the dispatcher', async () => {
  let connections = 0;
  const http = createHttpServer((request, response) => response.end(`hello ${request.url}`));
  http.on('connection', () => {
    connections += 1;
  });
  const port = await listen(http);
  const agent = client.agent({}, { keepAlive: true, maxSockets: 1 });
  for (const path of ['/a', '/b']) {
    const text = await new Promise<string>((resolve, reject) => {
      httpGet({ host: 'local', port, path, agent }, (response) => {
        response.setEncoding('utf8');
        let body = '';
        response.on('data', (chunk: string) => {
          body += chunk;
        });
        response.on('end', () => resolve(body));
      }).on('error', reject);
    });
    assert.equal(text, `hello ${path}`);
  }
  assert.equal(connections, 1);
  agent.destroy();
  const nyxFetch = client.fetcher();
  assert.equal(await (await nyxFetch(`http://local:${port}/c`)).text(), 'hello /c');
  await nyxFetch.close();
  // Node's own fetch takes the dispatcher too.
  const dispatcher = client.dispatcher();
  const response = await fetch(`http://local:${port}/d`, { dispatcher } as RequestInit);
  assert.equal(await response.text(), 'hello /d');
  await dispatcher.close();
});

test('TLS end to end over a dialled stream: https.Agent and dispatcher', async () => {
  const key = join(dir, 'key.pem');
  const cert = join(dir, 'cert.pem');
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'],
      ...['-subj', '/CN=local', '-addext', 'subjectAltName=DNS:local', '-keyout', key, '-out', cert],
    ],
    { stdio: 'ignore' },
  );
  const ca = readFileSync(cert);
  const https = createHttpsServer({ key: readFileSync(key), cert: ca }, (_request, response) => response.end('secret'));
  const port = await listen(https);
  const agent = client.httpsAgent();
  const body = await new Promise<string>((resolve, reject) => {
    httpsGet({ host: 'local', port, path: '/', agent, ca }, (response) => {
      response.setEncoding('utf8').on('data', resolve);
    }).on('error', reject);
  });
  assert.equal(body, 'secret');
  agent.destroy();
  const dispatcher = client.dispatcher({}, { targetTls: { ca } });
  const response = await fetch(`https://local:${port}/`, { dispatcher } as RequestInit);
  assert.equal(await response.text(), 'secret');
  await dispatcher.close();
});

test('events: as an iterator with a filter, and on the emitter', async () => {
  const controller = new AbortController();
  const seen: string[] = [];
  const reading = (async () => {
    for await (const event of client.events({
      kinds: ['circuit'],
      filter: ({ name }) => name !== 'skip',
      signal: controller.signal,
    })) {
      seen.push(event.name);
      if (seen.length === 2) controller.abort();
    }
  })();
  const listened = once(client, 'event');
  const sender = setInterval(() => {
    for (const name of ['skip', 'ready', 'ended']) daemon.emit({ kind: 'circuit', name });
  }, 20);
  await reading;
  assert.equal(((await listened)[0] as { kind: string }).kind, 'circuit');
  clearInterval(sender);
  assert.deepEqual([...seen].sort(), ['ended', 'ready']);
});

test('the daemon goes and comes back: lost streams are named, the client works again', async () => {
  const path = join(dir, 'second.sock');
  let second = await startTestDaemon(path, 1001);
  const fragile = await connectNyx({ socketPath: path, reconnectMinMs: 100, reconnectMaxMs: 100 });
  const port = await tcp((socket) => socket.pipe(socket));
  const socket = await fragile.connect({ host: 'local', port });
  socket.write('hello');
  await once(socket, 'data');
  const failed = once(socket, 'error');
  const back = once(fragile, 'reconnected');
  await second.stop();
  const error = (await failed)[0] as NyxError;
  assert.equal(error.code, 'DAEMON_UNREACHABLE');
  second = await startTestDaemon(path, 1002);
  const [info] = await back;
  assert.equal(info.restarted, true);
  assert.deepEqual(
    info.lostStreams.map(({ host, port: at, bytesRead, bytesWritten }: Record<string, unknown>) => ({
      host,
      at,
      bytesRead,
      bytesWritten,
    })),
    [{ host: 'local', at: port, bytesRead: 5, bytesWritten: 5 }],
  );
  assert.equal((await fragile.status()).pid, 1002);
  fragile.close();
  await second.stop();
});
