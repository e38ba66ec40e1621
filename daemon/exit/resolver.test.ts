import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { type ResolvedAddress, SessionError } from '@nyx/core/stream/contract.ts';
import { checkName, type NameService, Resolver } from './resolver.ts';

const options = { dnsServers: [], allowPrivate: false, timeoutMs: 1000 };
const coded = (code: SessionError) => (error: unknown) => (error as { code: number }).code === code;

/** Answers when the test says so. */
class Service implements NameService {
  readonly asked: string[] = [];
  answer: (name: string) => Promise<readonly ResolvedAddress[]> = async () => [];

  addresses(name: string) {
    this.asked.push(name);
    return this.answer(name);
  }

  async nameOf() {
    return 'evil\u0000name';
  }
}

function setUp() {
  const service = new Service();
  const clock = { nowMs: 0 };
  return { service, clock, resolver: new Resolver(options, service, () => clock.nowMs) };
}

const v4 = (address: string, ttlSeconds = 60): ResolvedAddress => ({ family: 4, address, ttlSeconds });

test('an answer lives as long as it says, within limits', async () => {
  const { service, clock, resolver } = setUp();
  service.answer = async (name) => [v4('1.1.1.1', { 'short.example': 0, 'long.example': 1e9 }[name] ?? 60)];
  const lookAt = async (name: string, nowMs: number) => {
    clock.nowMs = nowMs;
    await resolver.addresses(name);
    return service.asked.length;
  };
  assert.equal(await lookAt('a.example', 0), 1);
  assert.equal(await lookAt('a.example', 59_999), 1);
  assert.equal(await lookAt('a.example', 60_000), 2);
  assert.equal(await lookAt('short.example', 60_000), 3);
  assert.equal(await lookAt('short.example', 89_999), 3);
  assert.equal(await lookAt('short.example', 90_000), 4);
  assert.equal(await lookAt('long.example', 90_000), 5);
  assert.equal(await lookAt('long.example', 90_000 + 1_799_999), 5);
  assert.equal(await lookAt('long.example', 90_000 + 1_800_000), 6);
});

test('a failure is remembered briefly', async () => {
  const { service, clock, resolver } = setUp();
  service.answer = () => Promise.reject(Object.assign(new Error('no'), { code: 'ENOTFOUND' }));
  await assert.rejects(resolver.addresses('a.example'), coded(SessionError.resolveFailed));
  await assert.rejects(resolver.addresses('a.example'), coded(SessionError.resolveFailed));
  assert.equal(service.asked.length, 1);
  clock.nowMs = 10_000;
  await assert.rejects(resolver.addresses('a.example'), coded(SessionError.resolveFailed));
  assert.equal(service.asked.length, 2);
});

test('the same name is looked up once at a time, and there is a limit for different ones', async () => {
  const { service, resolver } = setUp();
  let answer!: (list: readonly ResolvedAddress[]) => void;
  const gate = new Promise<readonly ResolvedAddress[]>((resolve) => {
    answer = resolve;
  });
  service.answer = () => gate;
  const waiting = Array.from({ length: 256 }, (_, i) => [
    resolver.addresses(`n${i}.example`),
    resolver.addresses(`n${i}.example`),
  ]).flat();
  assert.equal(resolver.pending, 256);
  await assert.rejects(resolver.addresses('more.example'), coded(SessionError.limit));
  answer([v4('1.1.1.1')]);
  await Promise.all(waiting);
  assert.equal(service.asked.length, 256);
  assert.equal(resolver.pending, 0);
});

test('a resolver that does not answer is given up', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { service, resolver } = setUp();
  service.answer = () => new Promise(() => {});
  const answer = resolver.addresses('a.example');
  context.mock.timers.tick(1000);
  await assert.rejects(answer, coded(SessionError.resolveFailed));
});

test('private answers are left out, and mapped IPv4 counts as what it is', async () => {
  const { service, resolver } = setUp();
  const list: ResolvedAddress[] = [v4('10.0.0.1'), { family: 6, address: '::ffff:9.9.9.9', ttlSeconds: 60 }];
  service.answer = async () => [...list, { family: 6, address: 'fe80::1%eth0', ttlSeconds: 60 }];
  assert.deepEqual(await resolver.addresses('a.example'), [v4('9.9.9.9')]);
  service.answer = async () => Array.from({ length: 500 }, (_, i) => v4(`9.9.${i >> 8}.${i & 255}`));
  assert.equal((await resolver.addresses('b.example')).length, 16);
});

test('names of the reverse zone are checked before they travel', async () => {
  await assert.rejects(setUp().resolver.nameOf('9.9.9.9'), coded(SessionError.resolveFailed));
});

test('names', () => {
  for (const name of ['a.example', 'xn--nxasmq6b.example', '_srv.a.example', `${'x'.repeat(63)}.example`, '1a.2b.c3']) {
    assert.equal(checkName(`${name.toUpperCase()}.`, false), name);
  }
  const wrong = ['', '.', 'a..b', '-a.example', 'a-.example', 'a b.example', 'ä.example', `${'x'.repeat(64)}.example`];
  const foreign = ['a.onion', 'onion', 'b.nyx', 'c.i2p', 'd.exit', 'e.alt', 'f.invalid', '1.2.3', '0x7f.1', 'a.0x1'];
  for (const name of [
    ...wrong,
    ...foreign,
    'a%2e.example',
    'a/b.example',
    'a.example..',
    `${'x.'.repeat(130)}example`,
  ]) {
    assert.throws(() => checkName(name, true), coded(SessionError.resolveFailed), name);
  }
  for (const name of ['localhost', 'a.localhost', 'host', 'router.lan', 'x.internal', 'y.home.arpa', 'z.local']) {
    assert.throws(() => checkName(name, false), coded(SessionError.exitPolicy), name);
    assert.equal(checkName(name, true), name);
  }
});

/** A DNS server (RFC 1035 §4) with one name, which counts its questions. */
async function startDns(context: TestContext): Promise<{ server: string; asked: string[] }> {
  const asked: string[] = [];
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  context.after(() => void socket.close());
  await once(socket, 'listening');
  socket.on('message', (query, { port, address }) => {
    const labels: string[] = [];
    let at = 12;
    for (; query[at] !== 0; at += 1 + query[at]!) labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
    const type = query.readUInt16BE(at + 1);
    const name = labels.join('.').toLowerCase();
    asked.push(`${name} ${type}`);
    const data = new Map([
      ['dns.example 1', Buffer.from([9, 9, 9, 9])],
      ['dns.example 28', Buffer.from('262000fe000000000000000000000009', 'hex')],
      ['9.9.9.9.in-addr.arpa 12', Buffer.from('\x03dns\x07example\x00', 'latin1')],
    ]).get(`${name} ${type}`);
    const header = Buffer.from(query.subarray(0, 12));
    header.writeUInt16BE(data === undefined ? 0x8183 : 0x8180, 2);
    header.writeUInt16BE(data === undefined ? 0 : 1, 6);
    header.writeUInt32BE(0, 8);
    const record = Buffer.alloc(data === undefined ? 0 : 12);
    if (data !== undefined) {
      record.writeUInt16BE(0xc00c, 0);
      record.writeUInt16BE(type, 2);
      record.writeUInt16BE(1, 4);
      record.writeUInt32BE(300, 6);
      record.writeUInt16BE(data.length, 10);
    }
    socket.send(Buffer.concat([header, query.subarray(12, at + 5), record, data ?? Buffer.alloc(0)]), port, address);
  });
  return { server: `127.0.0.1:${socket.address().port}`, asked };
}

test('configured servers are asked for both address types and for names', async (context) => {
  const { server, asked } = await startDns(context);
  const resolver = new Resolver({ ...options, dnsServers: [server], timeoutMs: 3000 });
  assert.deepEqual(await resolver.addresses('dns.example'), [
    { family: 6, address: '2620:fe::9', ttlSeconds: 300 },
    { family: 4, address: '9.9.9.9', ttlSeconds: 300 },
  ]);
  assert.equal(await resolver.nameOf('9.9.9.9'), 'dns.example');
  await assert.rejects(resolver.addresses('none.example'), coded(SessionError.resolveFailed));
  assert.deepEqual(asked.filter((question) => question.startsWith('dns.example')).sort(), [
    'dns.example 1',
    'dns.example 28',
  ]);
  assert.throws(() => new Resolver({ ...options, dnsServers: ['not an address'] }));
});
