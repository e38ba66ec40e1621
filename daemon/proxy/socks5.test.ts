import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { DialErrorCode } from '../pump/contract.ts';
import type { ProxyOptions, ProxyServer } from './proxy.ts';
import { replyOf, startSocks5 } from './socks5.ts';
import { encodeDatagram, parseDatagram } from './socks5-codec.ts';
import { DirectDialer } from './testing/direct-dialer.ts';
import { Client, curl, listen, listenEcho, listenHttp, untilStalled } from './testing/servers.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const greeting = hex('05 01 00');

interface Started {
  readonly proxy: ProxyServer;
  readonly dialer: DirectDialer;
  readonly log: string[];
  readonly client: (localAddress?: string) => Client;
}

async function start(context: TestContext, options: Partial<ProxyOptions> = {}): Promise<Started> {
  const dialer = new DirectDialer();
  const log: string[] = [];
  const proxy = await startSocks5({
    listen: { host: '127.0.0.1', port: 0 },
    dialer,
    log: (level, message, fields) => log.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
    ...options,
  });
  context.after(() => proxy.close());
  return { proxy, dialer, log, client: (local) => new Client(context, proxy.address.port, local) };
}

/** `05 command 00 03 name port`. */
function request(host: string, port: number, command = 1): Buffer {
  return Buffer.concat([Buffer.of(5, command, 0, 3, host.length), Buffer.from(host), Buffer.of(port >> 8, port & 255)]);
}

test('bytes travel both ways, requests may come byte by byte, half-close is kept', async (context) => {
  const { client, dialer, proxy } = await start(context);
  const port = await listenEcho(context);
  const socks = client();
  for (const byte of greeting) socks.send(Buffer.of(byte));
  assert.deepEqual(await socks.take(2), hex('05 00'));
  for (const byte of request('echo.test', port)) socks.send(Buffer.of(byte));
  const reply = await socks.take(10);
  assert.deepEqual(reply.subarray(0, 8), hex('05 00 00 01 7f000001'));
  assert.notEqual(reply.readUInt16BE(8), 0);
  socks.send('hello');
  assert.equal((await socks.take(5)).toString(), 'hello');
  assert.equal(proxy.connections, 1);
  socks.send('last').socket.end();
  assert.equal((await socks.rest()).toString(), 'last');
  await socks.untilClosed();
  assert.equal(socks.error, undefined);
  assert.deepEqual([dialer.dials[0]!.host, dialer.dials[0]!.port], ['echo.test', port]);
});

test('everything sent at once, the data and the end too', async (context) => {
  const { client } = await start(context);
  const port = await listenEcho(context);
  const socks = client();
  const credentials = hex('01 01 61 01 62');
  socks.socket.end(Buffer.concat([hex('05 01 02'), credentials, request('echo.test', port), Buffer.from('early')]));
  const all = await socks.rest();
  assert.deepEqual(all.subarray(0, 8), hex('05 02 01 00 05 00 00 01'));
  assert.equal(all.subarray(14).toString(), 'early');
});

test('a large transfer arrives whole both ways, and a target that does not read holds the client back', async (context) => {
  const { client, dialer } = await start(context);
  let far!: Socket;
  const port = await listen(context, (socket) => {
    far = socket.pause();
  });
  const socks = client().send(greeting, request('slow.test', port));
  await socks.take(12);
  const data = randomBytes(24 * 1024 * 1024);
  socks.socket.end(data);
  const duplex = dialer.dials[0]!.connection.duplex as Socket;
  await untilStalled(() => duplex.bytesWritten);
  assert.ok(duplex.bytesWritten < data.length, 'the test must send more than the kernel buffers');
  assert.ok(duplex.writableLength < 1024 * 1024);
  assert.ok(socks.socket.writableLength > 0);
  far.pipe(far);
  const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
  assert.equal(sha(await socks.rest()), sha(data));
});

test('bad input gets the right answer and the connection closed', async (context) => {
  const { client, dialer } = await start(context);
  const ok = '05 00';
  const cases: [string, Buffer | string, string][] = [
    ['version 6', hex('06 01 00'), ''],
    ['TLS hello', hex('16 03 01 02 00 01'), ''],
    ['SOCKS4', hex('04 01 0050 c0000201 00'), '00 5b 000000000000'],
    ['zero methods', hex('05 00'), '05 ff'],
    ['only GSSAPI', hex('05 01 01'), '05 ff'],
    ['wrong version of authentication', hex('05 01 02 05 01'), '05 02 01 01'],
    ['wrong version of request', hex('05 01 00 04'), `${ok} 05 01 00 01 00000000 0000`],
    ['BIND', hex('05 01 00 05 02 00 01 00000000 0000'), `${ok} 05 07 00 01 00000000 0000`],
    ['unknown command', hex('05 01 00 05 77'), `${ok} 05 07 00 01 00000000 0000`],
    ['unknown address type', hex('05 01 00 05 01 00 05'), `${ok} 05 08 00 01 00000000 0000`],
    ['empty name', hex('05 01 00 05 01 00 03 00 0050'), `${ok} 05 01 00 01 00000000 0000`],
    ['port 0', Buffer.concat([greeting, request('a.test', 0)]), `${ok} 05 01 00 01 00000000 0000`],
    ['64 KiB of noise', Buffer.alloc(65_536, 0xfe), ''],
    [
      'noise after the greeting',
      Buffer.concat([greeting, Buffer.alloc(4096, 0xfe)]),
      `${ok} 05 01 00 01 00000000 0000`,
    ],
  ];
  for (const [name, input, expected] of cases) {
    const socks = client().send(input);
    assert.equal((await socks.rest()).toString('hex'), expected.replaceAll(' ', ''), name);
    socks.socket.end();
    await socks.untilClosed();
  }
  assert.equal(dialer.dials.length, 0);
});

test('an HTTP request is told what this port is', async (context) => {
  const { client } = await start(context);
  const answer = (await client().send('GET / HTTP/1.1\r\nHost: x\r\n\r\n').rest()).toString();
  assert.match(answer, /^HTTP\/1\.1 400 .*SOCKS5/s);
});

test('every failure of a dial has its reply', async (context) => {
  const { client } = await start(context);
  const replies = new Map<number, string[]>();
  for (const code of Object.values(DialErrorCode)) {
    const answer = await client()
      .send(greeting, request(`fail-${code}.test`, 80))
      .rest();
    assert.equal(answer.toString('hex'), `050005${replyOf(code).toString(16).padStart(2, '0')}0001000000000000`, code);
    replies.set(replyOf(code), [...(replies.get(replyOf(code)) ?? []), code]);
  }
  assert.deepEqual(replies.get(2), ['EXIT_POLICY']);
  assert.deepEqual(replies.get(3), ['NETWORK_UNREACHABLE']);
  assert.deepEqual(replies.get(4), ['HOST_UNREACHABLE', 'RESOLVE_FAILED']);
  assert.deepEqual(replies.get(5), ['CONNECTION_REFUSED']);
  assert.deepEqual(replies.get(6), ['TIMEOUT']);
  assert.ok(!replies.has(0));
});

test('credentials isolate and set options; wrong options are refused and no secret is logged', async (context) => {
  const { client, dialer, log } = await start(context, { defaults: { timeoutMs: 1234 } });
  const port = await listenEcho(context);
  const dialWith = async (username: string, password: string) => {
    const auth = Buffer.concat([Buffer.of(1, username.length), Buffer.from(username), Buffer.of(password.length)]);
    const socks = client().send(hex('05 02 00 02'), auth, password, request('echo.test', port));
    await socks.take(4);
    await socks.take(10);
    return dialer.dials.at(-1)!.options;
  };
  const alice = await dialWith('alice', 'hush');
  const bob = await dialWith('bob', 'hush');
  assert.notEqual(alice.isolation, bob.isolation);
  assert.equal(alice.timeoutMs, 1234);
  const five = await dialWith('nyx;hops=5;class=mix;isolation=hush', '');
  assert.deepEqual([five.hops, five.class], [5, 'mix']);
  const refused = await client().send(hex('05 01 02 01 06'), 'hops=9', Buffer.of(4), 'hush').rest();
  assert.equal(refused.toString('hex'), '05020101');
  assert.ok(log.some((line) => line.startsWith('info') && line.includes('hops must be 3…7')));
  assert.doesNotMatch(log.join('\n'), /hush|alice|bob|echo\.test|hops=9/);
});

test('a handshake that does not get on is cut off', { timeout: 5000 }, async (context) => {
  const { client } = await start(context, { handshakeTimeoutMs: 60 });
  const idle = client();
  const slow = client().send(hex('05 01 00 05 01 00'));
  await Promise.all([idle.rest(), slow.rest()]);
  assert.equal((await slow.rest()).toString('hex'), '0500');
});

test('connections above the limit are closed, and there is room again after one left', async (context) => {
  const { client, proxy, log } = await start(context, { maxConnections: 2 });
  const first = client().send(greeting);
  const second = client().send(greeting);
  await Promise.all([first.take(2), second.take(2)]);
  assert.equal((await client().rest()).length, 0);
  assert.equal(proxy.connections, 2);
  assert.ok(log.some((line) => line.includes('limit')));
  first.socket.end();
  await first.untilClosed();
  await client().send(greeting).take(2);
});

test('a client that leaves during the dial aborts it', async (context) => {
  const leave: ((socket: Socket) => void)[] = [
    (socket) => socket.end(),
    (socket) => socket.destroy(),
    (socket) => socket.resetAndDestroy(),
  ];
  for (const go of leave) {
    const { client, dialer } = await start(context);
    const port = await listenEcho(context);
    const aborted = new Promise<void>((resolve) => {
      dialer.onEvent = () => {
        if (dialer.aborted.length > 0) resolve();
        else go(socks.socket);
      };
    });
    const socks = client().send(greeting, request('hang.test', port));
    await aborted;
    assert.equal(dialer.aborted[0]!.code, 'CANCELLED');
    assert.ok(dialer.dials[0]!.connection.duplex.destroyed);
  }
});

test('a stream that breaks ends the client with a reset, not in order', async (context) => {
  const { client, dialer } = await start(context);
  const port = await listenEcho(context);
  const socks = client().send(greeting, request('echo.test', port));
  await socks.take(12);
  dialer.dials[0]!.connection.duplex.destroy(new Error('cut'));
  await socks.untilClosed();
  assert.equal(socks.error?.code, 'ECONNRESET');
  assert.equal(socks.ended, false);
});

test('a client that breaks off destroys the stream', async (context) => {
  const { client, dialer } = await start(context);
  const port = await listen(context, (socket) => socket.resume());
  const socks = client().send(greeting, request('sink.test', port));
  await socks.take(12);
  const { duplex } = dialer.dials[0]!.connection;
  const gone = once(duplex, 'close').catch((error) => error);
  socks.socket.resetAndDestroy();
  await gone;
  assert.ok(duplex.errored !== null);
});

test('UDP ASSOCIATE relays for its client only and dies with its connection', async (context) => {
  const { client, dialer } = await start(context);
  const target = createSocket('udp4');
  target.on('message', (data, from) => target.send(Buffer.concat([Buffer.from('re:'), data]), from.port, from.address));
  target.bind(0, '127.0.0.1');
  await once(target, 'listening');
  const { port } = target.address();
  const [mine, other] = [createSocket('udp4'), createSocket('udp4')];
  context.after(() => {
    for (const socket of [target, mine, other]) socket.close();
  });
  const control = client().send(greeting, hex('05 03 00 01 00000000 0000'));
  const reply = await control.take(12);
  assert.equal(reply.subarray(2, 10).toString('hex'), '050000017f000001');
  const relay = reply.readUInt16BE(10);
  const send = (socket: typeof mine, bytes: Uint8Array) =>
    new Promise((resolve) => socket.send(bytes, relay, '127.0.0.1', resolve));
  let answered = once(mine, 'message');
  const fragment = Buffer.from(encodeDatagram('127.0.0.1', port, Buffer.from('fragment')));
  fragment[2] = 1;
  await send(mine, fragment);
  await send(mine, hex('00 00 00'));
  await send(mine, encodeDatagram('udp.test', port, Buffer.from('one')));
  const [first] = await answered;
  const answer = parseDatagram(first)!;
  assert.deepEqual([answer.host, answer.port, Buffer.from(answer.data).toString()], ['127.0.0.1', port, 're:one']);
  // Another port of the same address is not the client: its datagram goes nowhere, the client's next one does.
  let strays = 0;
  other.on('message', () => {
    strays += 1;
  });
  answered = once(mine, 'message');
  await send(other, encodeDatagram('udp.test', port, Buffer.from('stray')));
  await send(mine, encodeDatagram('udp.test', port, Buffer.from('two')));
  const [second] = await answered;
  assert.equal(Buffer.from(parseDatagram(second)!.data).toString(), 're:two');
  assert.equal(strays, 0);
  const closed = new Promise<void>((resolve) => {
    dialer.onEvent = resolve;
  });
  control.socket.end();
  await closed;
  await control.untilClosed();
});

test('UDP from an address that is not the client’s is ignored', async (context) => {
  const { client, dialer } = await start(context);
  const sent: string[] = [];
  const control = client('127.0.0.2').send(greeting, hex('05 03 00 01 00000000 0000'));
  const relay = (await control.take(12)).readUInt16BE(10);
  dialer.associations[0]!.send = (_host, _port, data) => {
    sent.push(Buffer.from(data).toString());
    done();
    return true;
  };
  let done = () => {};
  const arrived = new Promise<void>((resolve) => {
    done = resolve;
  });
  const [stranger, mine] = [createSocket('udp4'), createSocket('udp4')];
  context.after(() => {
    stranger.close();
    mine.close();
  });
  mine.bind(0, '127.0.0.2');
  await once(mine, 'listening');
  await new Promise((resolve) =>
    stranger.send(encodeDatagram('x.test', 9, Buffer.from('no')), relay, '127.0.0.1', resolve),
  );
  mine.send(encodeDatagram('x.test', 9, Buffer.from('yes')), relay, '127.0.0.1');
  await arrived;
  assert.deepEqual(sent, ['yes']);
});

test('RESOLVE and RESOLVE_PTR', async (context) => {
  const { client, dialer } = await start(context);
  const ask = async (bytes: Buffer) => (await client().send(greeting, bytes).rest()).subarray(2).toString('hex');
  assert.equal(await ask(request('two.test', 0, 0xf0)), '05000001c00002070000');
  assert.equal(await ask(request('192.0.2.9', 0, 0xf0)), '05000001c00002090000');
  assert.equal(await ask(hex('05 f1 00 01 c0000207 0000')), '050000030874776f2e746573740000');
  assert.equal(await ask(request('2001:db8::7', 0, 0xf1)), '050000030874776f2e746573740000');
  assert.equal(await ask(request('none.test', 0, 0xf0)), '05040001000000000000');
  assert.equal(await ask(request('two.test', 0, 0xf1)), '05010001000000000000');
  assert.deepEqual(
    dialer.resolves.map(({ kind, value }) => `${kind} ${value}`),
    ['name two.test', 'address 192.0.2.7', 'address 2001:db8::7', 'name none.test'],
  );
});

test('only loopback, unless allowed', async (context) => {
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.com']) {
    await assert.rejects(start(context, { listen: { host, port: 0 } }), /not a loopback address/);
  }
  const { proxy } = await start(context, { listen: { host: '0.0.0.0', port: 0 }, allowNonLoopback: true });
  assert.equal(proxy.address.host, '0.0.0.0');
});

test('close() ends dials and streams', async (context) => {
  const { client, dialer, proxy } = await start(context);
  const port = await listenEcho(context);
  const open = client().send(greeting, request('echo.test', port));
  await open.take(12);
  const dialling = new Promise<void>((resolve) => {
    dialer.onEvent = resolve;
  });
  const hanging = client().send(greeting, request('hang.test', port));
  await dialling;
  await proxy.close();
  await Promise.all([open.rest(), hanging.rest()]);
  assert.equal(proxy.connections, 0);
  assert.equal(dialer.aborted[0]!.code, 'SHUTDOWN');
});

test('curl --socks5-hostname', async (context) => {
  const { proxy, dialer } = await start(context);
  const port = await listenHttp(context);
  const via = `127.0.0.1:${proxy.address.port}`;
  assert.equal(await curl('--socks5-hostname', via, `http://curl.test:${port}/a`), `curl.test:${port} /a`);
  assert.equal(
    await curl('--socks5-hostname', via, '--proxy-user', 'hops=4:', `http://curl.test:${port}/b`),
    `curl.test:${port} /b`,
  );
  assert.deepEqual(
    dialer.dials.map(({ host, options }) => [host, options.hops]),
    [
      ['curl.test', undefined],
      ['curl.test', 4],
    ],
  );
});
