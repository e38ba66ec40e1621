/** Real workers on loopback: three relays, the last of them an exit, and a client. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import type { NodeContact, NodeSecrets } from '@nyx/core/engine/contract.ts';
import { makeNodeKeys } from '@nyx/test/sim/virtual-network.ts';
import { defaults } from '../config/defaults.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { systemRandom } from '../io/system-random.ts';
import { DATAGRAM_CREDIT, type DialError, type FromPump, type PumpOptions } from './contract.ts';
import { PumpClient, type PumpReady } from './pump-client.ts';

const suite = createNativeSuite();
const loopback = { host: '127.0.0.1', port: 0 };
const loopback6 = { host: '::1', port: 0 };

function options(secrets: NodeSecrets, more: Partial<PumpOptions>): PumpOptions {
  return {
    worker: 0,
    roles: { client: false, mix: false, exit: false },
    listen: [],
    udp: 'auto',
    socks: undefined,
    httpConnect: undefined,
    exit: undefined,
    secrets,
    limits: {
      maxLinks: 100,
      maxCircuits: 100,
      maxSessions: 20,
      messagesPerSecond: 1000,
      memoryBytes: 256 * 1024 * 1024,
    },
    defaultHops: 3,
    spareCircuits: 0,
    mix: { hops: 5, delayMs: 20 },
    cmix: { ...defaults.cmix, enabled: false, signer: undefined },
    multipath: defaults.multipath,
    fec: defaults.fec,
    cover: defaults.cover,
    allowCrash: false,
    ...more,
  };
}

const exitOptions = {
  policy: ['accept *:*'],
  allowPrivate: true,
  maxStreamsPerCircuit: 100,
  connectTimeoutMs: 5000,
  idleTimeoutMs: 60_000,
  halfClosedTimeoutMs: 60_000,
  dnsServers: [],
};

const relays: PumpClient[] = [];
const contacts: NodeContact[] = [];
const client = new PumpClient();
const told: FromPump[] = [];
let ready: PumpReady;
/** A TCP server that sends back what it gets. */
const echo = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => socket.destroy());
  socket.pipe(socket);
});
const udpEcho = createSocket('udp4', (message, from) => udpEcho.send(message, from.port, from.address));
let echoPort = 0;

function collect(duplex: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  duplex.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve, reject) => {
    duplex.once('end', () => resolve(Buffer.concat(chunks)));
    duplex.once('error', reject);
  });
}

before(async () => {
  echo.listen(0, '127.0.0.1');
  udpEcho.bind(0, '127.0.0.1');
  await Promise.all([once(echo, 'listening'), once(udpEcho, 'listening')]);
  echoPort = (echo.address() as AddressInfo).port;
  const keys = [0, 1, 2].map(() => makeNodeKeys(suite, systemRandom, [1]));
  const started = await Promise.all(
    keys.map(({ secrets }, i) => {
      const relay = new PumpClient();
      relays.push(relay);
      const exit = i === 2 ? exitOptions : undefined;
      const roles = { client: false, mix: i < 2, exit: i === 2 };
      // The first listens at both families, the second at IPv6 alone.
      const listen = [[loopback, loopback6], [loopback6], [loopback]][i]!;
      return relay.start(options(secrets, { roles, listen, exit }));
    }),
  );
  started.forEach(({ listen }, i) => {
    contacts.push({ ...keys[i]!.contact, addresses: listen.map(({ host, port }) => ({ address: host, port })) });
  });
  for (const relay of relays) relay.send({ type: 'view', contacts });
  client.on('path-request', ({ request, constraints }) => {
    if (constraints.hops === 7) client.send({ type: 'path-error', request, message: 'nobody offers that' });
    else client.send({ type: 'path', request, hops: contacts });
  });
  for (const type of ['circuit', 'session', 'stream', 'link'] as const)
    client.on(type, (message) => told.push(message));
  const roles = { client: true, mix: false, exit: false };
  const { secrets } = makeNodeKeys(suite, systemRandom, [1]);
  ready = await client.start(options(secrets, { roles, socks: loopback }));
});

after(async () => {
  await Promise.all([client, ...relays].map((pump) => pump.terminate()));
  echo.close();
  udpEcho.close();
});

/** What was said of the session that began on a circuit. */
const courseOf = (circuit: number): string[] =>
  told.flatMap((message) => (message.type === 'session' && message.session === circuit ? [message.kind] : []));

describe('a network of workers', { timeout: 30_000 }, () => {
  test('carries an API stream, larger than its credit, both ways with half-close', async () => {
    const stream = client.openStream({ target: { kind: 'tcp', host: '127.0.0.1', port: echoPort }, options: {} });
    const data = Buffer.from(Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 7 + (i >> 10)) & 0xff));
    stream.end(data);
    const received = collect(stream);
    const { path, address, circuit } = await stream.connected;
    assert.deepEqual(
      path,
      contacts.map((contact) => Buffer.from(contact.nodeId).toString('hex')),
    );
    assert.equal(address, '127.0.0.1');
    assert.ok((await received).equals(data));
    if (!stream.closed) await once(stream, 'close');
    const stats = await client.stats();
    const [info] = stats.clientCircuits;
    assert.equal(info!.circuit, circuit);
    assert.equal(info!.bytesReceived, data.length);
    assert.equal(stats.streams.length, 0);
    assert.ok(stats.cpuSeconds > 0);
    const [mix] = await Promise.all(relays.map((relay) => relay.stats()));
    assert.ok(mix!.cellsForward >= data.length / 1144);
    assert.equal(mix!.relayCircuits, 1);
    assert.deepEqual(
      told.filter((message) => message.type === 'stream').map(({ kind }) => kind),
      ['opened', 'connected', 'closed'],
    );
    assert.deepEqual(courseOf(circuit), ['opened']);
  });

  test('carries SOCKS5', async () => {
    const socket = connect(ready.socks!.port, '127.0.0.1');
    socket.write(Uint8Array.of(5, 1, 0));
    await once(socket, 'data');
    socket.write(Uint8Array.of(5, 1, 0, 1, 127, 0, 0, 1, echoPort >> 8, echoPort & 255));
    const [reply] = (await once(socket, 'data')) as [Buffer];
    assert.equal(reply[1], 0);
    const data = Buffer.alloc(200_000, 'nyx');
    socket.end(data);
    assert.ok((await collect(socket)).equals(data));
  });

  test('carries datagrams', async () => {
    const { port } = udpEcho.address();
    const datagrams = client.openDatagrams({});
    assert.deepEqual((await datagrams.counts()).sent, 0, 'it can be asked before it is open');
    await datagrams.opened;
    const received: string[] = [];
    const all = new Promise<void>((resolve) => {
      datagrams.onReadable = () => {
        const { host, port, data } = datagrams.take()!;
        received.push(`${host}:${port} ${Buffer.from(data)}`);
        if (received.length === 2) resolve();
      };
    });
    for (const text of ['one', 'two']) datagrams.send('127.0.0.1', port, Buffer.from(text), undefined);
    await all;
    assert.deepEqual(received.sort(), [`127.0.0.1:${port} one`, `127.0.0.1:${port} two`]);
    datagrams.send('127.0.0.1', port, new Uint8Array(1200), undefined); // more than a cell holds
    const { sent, droppedSending, received: got } = await datagrams.counts();
    assert.deepEqual([sent, droppedSending, got], [2, 1, 2]);
    datagrams.close();
    await assert.rejects(datagrams.counts(), { code: 'CANCELLED' });
  });

  test('a burst of datagrams beyond what may be under way: what has no room is dropped and counted', async () => {
    const datagrams = client.openDatagrams({});
    datagrams.send('127.0.0.1', 9, Buffer.of(1), undefined); // too early
    await datagrams.opened;
    const burst = 2 * DATAGRAM_CREDIT;
    for (let i = 0; i < burst; i++) datagrams.send('127.0.0.1', udpEcho.address().port, Buffer.alloc(1000), undefined);
    const { sent, droppedSending } = await datagrams.counts();
    assert.equal(sent + droppedSending, burst + 1);
    assert.ok(droppedSending > DATAGRAM_CREDIT, `${droppedSending} dropped`);
    // Credit comes back.
    const more = () => datagrams.send('127.0.0.1', udpEcho.address().port, Buffer.of(1), undefined);
    while ((await datagrams.counts()).sent === sent) more();
    datagrams.close();
  });

  test('lists an API stream under an id by which it can be closed', async () => {
    const stream = client.openStream({ target: { kind: 'tcp', host: '127.0.0.1', port: echoPort }, options: {} });
    await stream.connected;
    const id = await stream.listed;
    const { streams } = await client.stats();
    assert.deepEqual(
      streams.map((info) => [info.id, info.source, info.state]),
      [[id, 'api', 'open']],
    );
    client.send({ type: 'close-stream', id });
    const [error] = (await once(stream, 'error')) as [DialError];
    assert.equal(error.code, 'CANCELLED');
  });

  test('says why a stream failed', async () => {
    const closed = createServer();
    closed.listen(0, '127.0.0.1');
    await once(closed, 'listening');
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    const failing = [
      { target: { kind: 'tcp' as const, host: '127.0.0.1', port }, options: {}, code: 'CONNECTION_REFUSED' },
      { target: { kind: 'tcp' as const, host: 'a', port: 1 }, options: { hops: 7 }, code: 'NO_PATH' },
      { target: { kind: 'tcp' as const, host: 'a', port: 1 }, options: { hops: 9 }, code: 'BAD_REQUEST' },
    ];
    for (const { code, ...request } of failing) {
      const stream = client.openStream(request);
      stream.on('error', () => {});
      await assert.rejects(stream.connected, (error: DialError) => error.code === code, code);
    }
    const datagrams = client.openDatagrams({ hops: 9 });
    const told = new Promise<DialError>((resolve) => {
      datagrams.onClose = resolve;
    });
    await assert.rejects(datagrams.opened, { code: 'BAD_REQUEST' });
    assert.equal((await told).code, 'BAD_REQUEST');
  });

  test('builds a circuit on request and closes it', async () => {
    const constraints = { hops: 3, class: 'fast' as const, needExit: undefined };
    const built = await client.build(constraints, contacts);
    assert.equal(built.path.length, 3);
    const ended = new Promise<void>((resolve) => {
      client.on('circuit', ({ kind, circuit }) => {
        if (kind === 'ended' && circuit === built.circuit) resolve();
      });
    });
    client.closeCircuit(built.circuit);
    await ended;
    assert.deepEqual(courseOf(built.circuit), ['opened', 'closed']);
    await assert.rejects(
      client.build(constraints, contacts.slice(1)),
      (error: DialError) => error.code === 'BAD_REQUEST',
    );
  });
});

describe('a worker', { timeout: 30_000 }, () => {
  const roles = { client: true, mix: false, exit: false };
  const { secrets } = makeNodeKeys(suite, systemRandom, [1]);

  test('that crashes says so, and can be started again', async () => {
    const pump = new PumpClient();
    await pump.start(options(secrets, { roles, allowCrash: true }));
    const stream = pump.openStream({ target: { kind: 'tcp', host: 'a', port: 1 }, options: {} });
    stream.on('error', () => {});
    const exited = once(pump, 'exit');
    pump.send({ type: 'crash' });
    const [exit] = await exited;
    assert.equal(exit.expected, false);
    assert.equal(exit.error.message, 'crashed on request');
    await assert.rejects(stream.connected, (error: DialError) => error.code === 'SESSION_LOST');
    await assert.rejects(pump.stats(), (error: DialError) => error.code === 'INTERNAL');
    assert.equal(pump.running, false);
    await pump.start(options(secrets, { roles }));
    pump.send({ type: 'crash' });
    assert.ok((await pump.stats()).cpuSeconds > 0, 'without permission it goes on');
    assert.deepEqual(await pump.drain(0), { code: 0, expected: true, error: undefined });
  });

  test('that cannot listen says why', async () => {
    const taken = createSocket('udp4');
    taken.bind(0, '127.0.0.1');
    await once(taken, 'listening');
    const listen = [loopback6, { host: '127.0.0.1', port: taken.address().port }];
    const mix = { client: false, mix: true, exit: false };
    const pump = new PumpClient();
    await assert.rejects(pump.start(options(secrets, { roles: mix, listen })), /EADDRINUSE/);
    assert.equal(pump.running, false);
    taken.close();
  });

  test('shares its ports with others when told so', async () => {
    const both = { client: true, mix: true, exit: false };
    const first = new PumpClient();
    const one = await first.start(
      options(secrets, { roles: both, listen: [loopback6, loopback], socks: loopback, reusePort: true }),
    );
    const second = new PumpClient();
    const shared = { listen: one.listen, socks: one.socks, reusePort: true, worker: 1 };
    const two = await second.start(options(secrets, { roles: both, ...shared }));
    assert.deepEqual([two.listen, two.socks], [one.listen, one.socks]);
    await Promise.all([first.terminate(), second.terminate()]);
  });

  test('opens links to the families that it has, at the first address of one that it has', async () => {
    const [dual] = contacts;
    assert.deepEqual(
      dual!.addresses.map(({ address }) => address),
      ['127.0.0.1', '::1'],
    );
    for (const [family, address] of [
      ['ipv4', '127.0.0.1'],
      ['ipv6', `[::1]`],
    ] as const) {
      const other = new PumpClient();
      const links: string[] = [];
      other.on('link', ({ kind, address: at }) => kind === 'up' && links.push(at));
      other.on('path-request', ({ request }) => other.send({ type: 'path', request, hops: contacts }));
      const { secrets } = makeNodeKeys(suite, systemRandom, [1]);
      const roles = { client: true, mix: false, exit: false };
      await other.start(options(secrets, { roles, addressFamilies: [family] }));
      const stream = other.openStream({ target: { kind: 'tcp', host: '127.0.0.1', port: echoPort }, options: {} });
      const received = collect(stream);
      stream.end('by either');
      assert.equal((await received).toString(), 'by either');
      const port = dual!.addresses.find((one) => address.includes(one.address))!.port;
      assert.deepEqual(links, [`${address}:${port}`]);
      await other.terminate();
    }
  });

  test('that drains lets open streams finish, and takes no new ones', async () => {
    const stream = client.openStream({ target: { kind: 'tcp', host: '127.0.0.1', port: echoPort }, options: {} });
    await stream.connected;
    const drained = client.drain(20_000);
    const refused = client.openStream({ target: { kind: 'tcp', host: '127.0.0.1', port: echoPort }, options: {} });
    refused.on('error', () => {});
    await assert.rejects(refused.connected, (error: DialError) => error.code === 'SHUTDOWN');
    const received = collect(stream);
    stream.end('to the end');
    assert.equal((await received).toString(), 'to the end');
    assert.deepEqual(await drained, { code: 0, expected: true, error: undefined });
  });
});
