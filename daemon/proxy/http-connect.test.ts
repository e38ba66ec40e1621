import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { DialErrorCode } from '../pump/contract.ts';
import { parseAuthority, startHttpConnect, statusOf } from './http-connect.ts';
import type { ProxyOptions, ProxyServer } from './proxy.ts';
import { DirectDialer } from './testing/direct-dialer.ts';
import { Client, curl, listenEcho, listenHttp } from './testing/servers.ts';

interface Started {
  readonly proxy: ProxyServer;
  readonly dialer: DirectDialer;
  readonly log: string[];
  readonly client: () => Client;
}

async function start(context: TestContext, options: Partial<ProxyOptions> = {}): Promise<Started> {
  const dialer = new DirectDialer();
  const log: string[] = [];
  const proxy = await startHttpConnect({
    listen: { host: '127.0.0.1', port: 0 },
    dialer,
    log: (level, message, fields) => log.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
    ...options,
  });
  context.after(() => proxy.close());
  return { proxy, dialer, log, client: () => new Client(context, proxy.address.port) };
}

const established = 'HTTP/1.1 200 Connection established\r\n\r\n';

test('a tunnel carries bytes both ways, those sent along with the request first, and half-closes', async (context) => {
  const { client, dialer } = await start(context);
  const port = await listenEcho(context);
  const http = client().send(`CONNECT echo.test:${port} HTTP/1.1\r\nHost: echo.test\r\n\r\nhead `);
  assert.equal((await http.take(established.length)).toString(), established);
  assert.equal((await http.take(5)).toString(), 'head ');
  http.socket.end('tail');
  assert.equal((await http.rest()).toString(), 'tail');
  await http.untilClosed();
  assert.equal(http.error, undefined);
  assert.equal(dialer.dials[0]!.host, 'echo.test');
});

test('every failure of a dial has its status and names its code', async (context) => {
  const { client } = await start(context);
  const statuses = new Map<string, number>();
  for (const code of Object.values(DialErrorCode)) {
    const answer = (await client().send(`CONNECT fail-${code}.test:80 HTTP/1.1\r\n\r\n`).rest()).toString();
    assert.match(answer, new RegExp(`^HTTP/1\\.1 ${statusOf(code)} [A-Z].*\r\nx-nyx-error: ${code}\r\n`, 's'), code);
    statuses.set(code, statusOf(code));
  }
  assert.equal(statuses.get('EXIT_POLICY'), 403);
  assert.equal(statuses.get('CONNECTION_REFUSED'), 502);
  assert.equal(statuses.get('TIMEOUT'), 504);
  assert.equal(statuses.get('BAD_REQUEST'), 400);
});

test('requests that are no tunnels are refused with a text that says so', async (context) => {
  const { client, dialer } = await start(context);
  const cases: [string, RegExp][] = [
    ['GET / HTTP/1.1\r\nHost: x\r\n\r\n', /^HTTP\/1\.1 405 .*allow: CONNECT.*not a web server/is],
    ['GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n', /^HTTP\/1\.1 405 .*only tunnels/s],
    ['POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc', /^HTTP\/1\.1 405 /],
    ['CONNECT a.test HTTP/1.1\r\n\r\n', /^HTTP\/1\.1 400 .*host:port/s],
    ['CONNECT a.test:0 HTTP/1.1\r\n\r\n', /^HTTP\/1\.1 400 /],
    ['CONNECT a.test:65536 HTTP/1.1\r\n\r\n', /^HTTP\/1\.1 400 /],
    ['CONNECT http://a.test:80 HTTP/1.1\r\n\r\n', /^HTTP\/1\.1 400 /],
    ['\x16\x03\x01\x02\x00\x01\x00\x01', /^HTTP\/1\.1 400 /],
    ['\x05\x01\x00', /^HTTP\/1\.1 400 /],
    [`CONNECT a.test:80 HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
  ];
  for (const [input, expected] of cases) {
    const http = client().send(input);
    assert.match((await http.rest()).toString(), expected, input.slice(0, 50));
  }
  assert.equal(dialer.dials.length, 0);
});

test('authorities', () => {
  assert.deepEqual(parseAuthority('a.test:443'), { host: 'a.test', port: 443 });
  assert.deepEqual(parseAuthority('192.0.2.1:80'), { host: '192.0.2.1', port: 80 });
  assert.deepEqual(parseAuthority('[2001:db8::1]:80'), { host: '2001:db8::1', port: 80 });
  assert.equal(parseAuthority(`${'x'.repeat(255)}:1`)?.host.length, 255);
  const wrong = ['', ':80', 'a.test', 'a.test:', 'a.test:x', '2001:db8::1:80', '[::1', '[::1%lo]:80', '[1.2.3.4]:80'];
  for (const authority of [...wrong, 'u@a:80', 'a b:80', `${'x'.repeat(256)}:1`, 'a:1/b', '[zz::]:80']) {
    assert.equal(parseAuthority(authority), undefined, authority);
  }
});

test('credentials isolate and set options; wrong ones are refused and never logged', async (context) => {
  const { client, dialer, log } = await start(context);
  const port = await listenEcho(context);
  const send = (credentials: string) =>
    client().send(`CONNECT echo.test:${port} HTTP/1.1\r\nProxy-Authorization: ${credentials}\r\n\r\n`);
  const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
  for (const text of ['alice:hush', 'bob:hush', 'nyx;hops=6:']) await send(basic(text)).take(established.length);
  const [alice, bob, six] = dialer.dials.map(({ options }) => options);
  assert.notEqual(alice!.isolation, bob!.isolation);
  assert.equal(six!.hops, 6);
  for (const wrong of [basic('hops=9:hush'), basic('nocolon'), 'Bearer hush', 'Basic !']) {
    assert.match((await send(wrong).rest()).toString(), /^HTTP\/1\.1 407 .*Proxy-Authenticate: Basic/s, wrong);
  }
  assert.equal(dialer.dials.length, 3);
  assert.doesNotMatch(log.join('\n'), /hush|alice|nocolon|echo\.test/);
});

test('a request that does not get on is cut off', { timeout: 5000 }, async (context) => {
  const { client } = await start(context, { handshakeTimeoutMs: 60 });
  const slow = client().send('CONNECT a.test:80 HTTP/1.1\r\nX: ');
  assert.match((await slow.rest()).toString(), /^HTTP\/1\.1 408 /);
});

test('a client that leaves during the dial aborts it', async (context) => {
  const { client, dialer } = await start(context);
  const port = await listenEcho(context);
  const aborted = new Promise<void>((resolve) => {
    dialer.onEvent = () => {
      if (dialer.aborted.length > 0) resolve();
      else http.socket.destroy();
    };
  });
  const http = client().send(`CONNECT hang.test:${port} HTTP/1.1\r\n\r\n`);
  await aborted;
  assert.equal(dialer.aborted[0]!.code, 'CANCELLED');
});

test('a stream that breaks resets the client', async (context) => {
  const { client, dialer } = await start(context);
  const port = await listenEcho(context);
  const http = client().send(`CONNECT echo.test:${port} HTTP/1.1\r\n\r\n`);
  await http.take(established.length);
  dialer.dials[0]!.connection.duplex.destroy(new Error('cut'));
  await http.untilClosed();
  assert.equal(http.error?.code, 'ECONNRESET');
});

test('limits, loopback and closing are those of the other proxy', async (context) => {
  await assert.rejects(start(context, { listen: { host: '0.0.0.0', port: 0 } }), /not a loopback address/);
  const { client, proxy } = await start(context, { maxConnections: 1 });
  const port = await listenEcho(context);
  const http = client().send(`CONNECT echo.test:${port} HTTP/1.1\r\n\r\n`);
  await http.take(established.length);
  assert.equal((await client().rest()).length, 0);
  await proxy.close();
  await http.rest();
  assert.equal(proxy.connections, 0);
});

test('curl -x tunnels, and a plain request through it is refused', async (context) => {
  const { proxy, dialer } = await start(context);
  const port = await listenHttp(context);
  const via = `http://127.0.0.1:${proxy.address.port}`;
  const url = `http://curl.test:${port}/a`;
  assert.equal(await curl('-x', via, '--proxytunnel', url), `curl.test:${port} /a`);
  assert.equal(await curl('-x', via, '-p', '--proxy-user', 'class=mix:', url), `curl.test:${port} /a`);
  assert.deepEqual(
    dialer.dials.map(({ host, options }) => [host, options.class]),
    [
      ['curl.test', undefined],
      ['curl.test', 'mix'],
    ],
  );
  assert.match(await curl('-x', via, url), /only tunnels/);
});
