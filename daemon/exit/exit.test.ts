import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type ResolvedAddress, SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import type { ExitOptions } from '../pump/contract.ts';
import { decodeUdpFrame, encodeUdpFrame } from '../pump/udp-frame.ts';
import { decodeUdpReport, type UdpReport } from '../pump/udp-report.ts';
import { Exit } from './exit.ts';
import type { NameService } from './resolver.ts';
import { connectToExit, type SessionPair } from './testing/session-pair.ts';

const defaults: ExitOptions = {
  policy: ['accept *:*'],
  allowPrivate: true,
  maxStreamsPerCircuit: 16,
  connectTimeoutMs: 5000,
  idleTimeoutMs: 60_000,
  halfClosedTimeoutMs: 60_000,
  dnsServers: [],
};

/** Names of the tests; anything else is ENOTFOUND. */
function names(table: Record<string, readonly string[]>): NameService & { asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    async addresses(name) {
      asked.push(name);
      const found = table[name];
      if (found === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
      return found.map((address) => ({ family: address.includes(':') ? 6 : 4, address, ttlSeconds: 60 }));
    },
    async nameOf(address) {
      return Object.keys(table).find((name) => table[name]!.includes(address));
    },
  };
}

interface Started extends SessionPair {
  readonly exit: Exit;
  readonly log: string[];
}

function start(context: TestContext, options: Partial<ExitOptions> = {}, nameService?: NameService): Started {
  const log: string[] = [];
  const exit = new Exit(
    { ...defaults, ...options },
    { log: (level, message, fields) => log.push(`${level} ${message} ${JSON.stringify(fields)}`), nameService },
  );
  context.after(() => exit.close());
  const pair = connectToExit(context, exit, 1);
  return Object.assign(pair, { exit, log });
}

async function listen(context: TestContext, onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    context.after(() => void socket.destroy());
    socket.on('error', () => socket.destroy());
    onSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** The client's end of a stream: writes with back-pressure, collects what comes. */
class Reader {
  readonly stream: SessionStream;
  readonly chunks: Buffer[] = [];
  sizeBytes = 0;
  connectedFrom: string | undefined;
  closeCode: number | undefined;
  paused = false;
  #wake: () => void = () => {};

  constructor({ client }: SessionPair, host: string, port: number, kind: 'tcp' | 'udp' = 'tcp') {
    const stream = client.openStream({ kind, host, port });
    assert.ok(stream !== undefined);
    this.stream = stream;
    stream.onReadable = () => this.pull();
    stream.onConnected = (_family, address, from) => {
      this.connectedFrom = `${address} ${from}`;
      this.#wake();
    };
    stream.onClose = (code) => {
      this.closeCode = code;
      this.#wake();
    };
  }

  pull(): void {
    while (!this.paused && this.stream.readableBytes > 0) {
      const chunk = Buffer.alloc(this.stream.readableBytes);
      this.sizeBytes += this.stream.read(chunk);
      this.chunks.push(chunk);
    }
    this.#wake();
  }

  /** Writes all of it as the stream takes it, then ends. */
  sendAndEnd(data: Uint8Array): void {
    let at = 0;
    const more = () => {
      at += this.stream.write(data.subarray(at));
      if (at === data.length) this.stream.end();
    };
    this.stream.onWritable = more;
    more();
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The code it ended with. */
  async closed(): Promise<number> {
    await this.until(() => this.closeCode !== undefined);
    return this.closeCode!;
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }
}

const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test('a stream reaches its target; bytes sent before it stood arrive; half-close both ways', async (context) => {
  const pair = start(context);
  let ended = false;
  const port = await listen(context, (socket) => {
    socket.on('data', (chunk) => socket.write(`re:${chunk}`));
    socket.on('end', () => {
      ended = true;
      socket.end(' bye');
    });
  });
  const reader = new Reader(pair, '127.0.0.1', port);
  reader.sendAndEnd(Buffer.from('hello'));
  assert.equal(await reader.closed(), SessionError.noError);
  assert.equal(reader.text, 're:hello bye');
  assert.match(reader.connectedFrom!, /^127\.0\.0\.1 \d+$/);
  assert.ok(ended);
  assert.equal(pair.exit.socketsOpened, 1);
  await become(() => pair.exit.streams, 0);
  assert.doesNotMatch(pair.log.join(), /127\.0\.0\.1/);
});

test('a target may end first and still be written to', async (context) => {
  const pair = start(context);
  const received: Buffer[] = [];
  const port = await listen(context, (socket) =>
    socket.end('first').on('data', (chunk: Buffer) => received.push(chunk)),
  );
  const reader = new Reader(pair, '127.0.0.1', port);
  await reader.until(() => reader.stream.readEnded);
  reader.sendAndEnd(Buffer.alloc(300_000, 'x'));
  assert.equal(await reader.closed(), SessionError.noError);
  assert.equal(reader.text, 'first');
  await become(() => Buffer.concat(received).length, 300_000);
});

test('megabytes go both ways whole, on two streams, while either side stops reading for a while', async (context) => {
  const pair = start(context, {}, names({ 'a.example': ['127.0.0.1'], 'b.example': ['127.0.0.1'] }));
  const targets: Socket[] = [];
  const port = await listen(context, (socket) => targets.push(socket.pause()));
  const readers = [new Reader(pair, 'a.example', port), new Reader(pair, 'b.example', port)];
  const data = readers.map(() => randomBytes(24 * 1024 * 1024));
  for (const [i, reader] of readers.entries()) {
    reader.paused = true;
    reader.sendAndEnd(data[i]!);
    await reader.until(() => reader.connectedFrom !== undefined);
  }
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  const read = () => sum(targets.map(({ bytesRead }) => bytesRead));
  await stalled(() => read() + sum(readers.map(({ stream }) => stream.stats.bytesAcked)));
  for (const [i, { stream }] of readers.entries()) {
    assert.ok(stream.stats.bytesWritten < data[i]!.length, 'a target that does not read holds the client back');
  }
  for (const target of targets) target.pipe(target);
  await stalled(() => read() + sum(readers.map(({ stream }) => stream.stats.bytesReceived)));
  assert.ok(read() < 48 * 1024 * 1024, 'a client that does not read holds the target back');
  assert.ok(pair.server.stats.bufferedBytes <= 24 * 1024 * 1024);
  for (const reader of readers) {
    reader.paused = false;
    reader.pull();
  }
  for (const [i, reader] of readers.entries()) {
    assert.equal(await reader.closed(), SessionError.noError);
    assert.equal(sha(Buffer.concat(reader.chunks)), sha(data[i]!));
  }
});

/** Turns of the event loop until a value is what it should be; the test's time-out is the limit. */
async function become(value: () => number, expected: number): Promise<void> {
  while (value() !== expected) await new Promise((resolve) => setImmediate(resolve));
}

/** Turns of the event loop until nothing has moved for a good many of them. */
async function stalled(progress: () => number): Promise<void> {
  for (let last = progress(), still = 0; still < 300; still += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (progress() !== last) still = 0;
    last = progress();
  }
}

test('failures reach the client under their codes', async (context) => {
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const { port } = free.address() as AddressInfo;
  free.close();
  await once(free, 'close');
  const service = names({ 'private.example': ['10.1.2.3'], 'mixed.example': ['::ffff:192.168.1.1', '169.254.1.1'] });
  const open = start(context, {}, service);
  const closed = start(context, { allowPrivate: false, policy: ['reject *:25', 'accept *:*'] }, service);
  const cases: [Started, string, number, SessionError][] = [
    [open, '127.0.0.1', port, SessionError.connectRefused],
    [open, '::1', port, SessionError.connectRefused],
    [open, 'none.example', 80, SessionError.resolveFailed],
    [open, 'bad..name', 80, SessionError.resolveFailed],
    [open, 'service.onion', 80, SessionError.resolveFailed],
    [open, '127.1', 80, SessionError.resolveFailed],
    [open, '127.0.0.1', 0, SessionError.exitPolicy],
    [closed, '127.0.0.1', port, SessionError.exitPolicy],
    [closed, '::1', port, SessionError.exitPolicy],
    [closed, '::ffff:127.0.0.1', port, SessionError.exitPolicy],
    [closed, '0.0.0.0', port, SessionError.exitPolicy],
    [closed, 'localhost', port, SessionError.exitPolicy],
    [closed, 'printer', 80, SessionError.exitPolicy],
    [closed, 'private.example', 80, SessionError.exitPolicy],
    [closed, 'mixed.example', 80, SessionError.exitPolicy],
    [closed, 'none.example', 25, SessionError.exitPolicy],
    [closed, '2130706433', 80, SessionError.resolveFailed],
  ];
  for (const [pair, host, to, code] of cases) {
    assert.equal(await new Reader(pair, host, to).closed(), code, `${host}:${to}`);
  }
  assert.equal(closed.exit.socketsOpened, 0);
  assert.ok(!service.asked.includes('localhost') && !service.asked.includes('service.onion'));
  // A forbidden port is refused before anyone is asked.
  assert.equal(service.asked.filter((name) => name === 'none.example').length, 1);
});

test('each address of a name is asked of the policy; the first that answers is used', async (context) => {
  const port = await listen(context, (socket) => socket.end('here'));
  const service = names({ 'many.example': ['::1', '127.0.0.9', '127.0.0.1'] });
  const pair = start(context, { policy: ['reject 127.0.0.9:*', 'accept *:*'] }, service);
  // ::1 refuses, 127.0.0.9 is not allowed though it would answer there as well.
  const reader = new Reader(pair, 'many.example', port);
  reader.stream.end();
  assert.equal(await reader.closed(), SessionError.noError);
  assert.equal(reader.text, 'here');
  assert.match(reader.connectedFrom!, /^127\.0\.0\.1 /);
  assert.equal(pair.exit.socketsOpened, 2);
});

test('a target that resets, and a client that resets', async (context) => {
  const pair = start(context);
  const resetting = await listen(context, (socket) => socket.on('data', () => socket.resetAndDestroy()));
  const reader = new Reader(pair, '127.0.0.1', resetting);
  reader.stream.write(Buffer.from('x'));
  assert.equal(await reader.closed(), SessionError.peerReset);

  let gone!: (error: NodeJS.ErrnoException) => void;
  const dropped = new Promise<NodeJS.ErrnoException>((resolve) => {
    gone = resolve;
  });
  const waiting = await listen(context, (socket) => socket.on('error', gone).resume());
  const other = new Reader(pair, '127.0.0.1', waiting);
  await other.until(() => other.connectedFrom !== undefined);
  other.stream.reset(SessionError.cancelled);
  assert.equal((await dropped).code, 'ECONNRESET');
});

test('a stream that one side has ended is not kept for a silent other one', async (context) => {
  const silent = await listen(context, (socket) => socket.resume());
  const pair = start(context, { halfClosedTimeoutMs: 50 });
  const client = new Reader(pair, '127.0.0.1', silent);
  client.sendAndEnd(Buffer.from('all'));
  assert.equal(await client.closed(), SessionError.idleTimeout);

  const ended = await listen(context, (socket) => socket.end('all'));
  const target = new Reader(pair, '127.0.0.1', ended);
  assert.equal(await target.closed(), SessionError.idleTimeout);
  assert.equal(Buffer.concat(target.chunks).toString(), 'all');
});

test('an idle stream is ended, and so are the streams of a circuit that is gone', async (context) => {
  const port = await listen(context, (socket) => socket.resume());
  const idle = start(context, { idleTimeoutMs: 50 });
  assert.equal(await new Reader(idle, '127.0.0.1', port).closed(), SessionError.idleTimeout);

  let gone!: () => void;
  const dropped = new Promise<void>((resolve) => {
    gone = resolve;
  });
  const watched = await listen(context, (socket) => socket.resume().on('error', gone));
  const pair = start(context);
  const reader = new Reader(pair, '127.0.0.1', watched);
  await reader.until(() => reader.connectedFrom !== undefined);
  assert.equal(pair.exit.streams, 1);
  pair.exit.sessionEnded(1);
  await dropped;
  assert.equal(await reader.closed(), SessionError.sessionLost);
});

test('a circuit has so many streams and no more, close() ends them all', async (context) => {
  const port = await listen(context, (socket) => socket.resume());
  const pair = start(context, { maxStreamsPerCircuit: 2 });
  const first = new Reader(pair, '127.0.0.1', port);
  const second = new Reader(pair, '127.0.0.1', port);
  await second.until(() => second.connectedFrom !== undefined);
  assert.equal(await new Reader(pair, '127.0.0.1', port).closed(), SessionError.limit);
  const other = connectToExit(context, pair.exit, 2);
  const third = new Reader(other, '127.0.0.1', port);
  await third.until(() => third.connectedFrom !== undefined);
  assert.equal(pair.exit.streams, 3);
  await pair.exit.close();
  assert.equal(pair.exit.streams, 0);
  for (const reader of [first, second, third]) assert.equal(await reader.closed(), SessionError.shutdown);
  assert.equal(await new Reader(pair, '127.0.0.1', port).closed(), SessionError.shutdown);
});

test('RESOLVE answers names, addresses and literals', async (context) => {
  const service = names({ 'two.example': ['192.0.2.1', '2001:db8::1'], 'in.example': ['10.0.0.1'] });
  const open = start(context, {}, service);
  const closed = start(context, { allowPrivate: false }, names({ 'in.example': ['10.0.0.1'] }));
  const ask = ({ client }: SessionPair, kind: 'name' | 'address', value: string) =>
    new Promise<string>((resolve) => {
      client.resolve(kind, value, (addresses, name, code) => {
        const list = (addresses ?? []).map(({ address }: ResolvedAddress) => address);
        resolve([code, ...list, ...(name === undefined ? [] : [name])].join(' '));
      });
    });
  assert.equal(await ask(open, 'name', 'two.example'), '0 192.0.2.1 2001:db8::1');
  assert.equal(await ask(open, 'name', 'TWO.example.'), '0 192.0.2.1 2001:db8::1');
  assert.deepEqual(service.asked, ['two.example']);
  assert.equal(await ask(open, 'name', '192.0.2.9'), '0 192.0.2.9');
  assert.equal(await ask(open, 'name', 'localhost'), '0 127.0.0.1 ::1');
  assert.equal(await ask(open, 'address', '2001:db8::1'), '0 two.example');
  assert.equal(await ask(open, 'name', 'none.example'), `${SessionError.resolveFailed}`);
  assert.equal(await ask(open, 'address', '192.0.2.200'), `${SessionError.resolveFailed}`);
  assert.equal(await ask(open, 'address', 'two.example'), `${SessionError.resolveFailed}`);
  assert.equal(await ask(closed, 'name', 'in.example'), `${SessionError.exitPolicy}`);
  assert.equal(await ask(closed, 'address', '10.0.0.1'), `${SessionError.exitPolicy}`);
  assert.equal(await ask(closed, 'name', 'localhost'), `${SessionError.exitPolicy}`);
});

async function udp(context: TestContext): Promise<UdpSocket> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  context.after(() => void socket.close());
  await once(socket, 'listening');
  return socket;
}

test('UDP: datagrams reach literals and names; only targets that were sent to can answer', async (context) => {
  const pair = start(context, { policy: ['reject *:9', 'accept *:*'] }, names({ 'udp.example': ['127.0.0.1'] }));
  const [target, stranger] = [await udp(context), await udp(context)];
  const { port } = target.address();
  let from = 0;
  target.on('message', (data, { port: sender, address }) => {
    from = sender;
    target.send(`re:${data}`, sender, address);
  });
  const reader = new Reader(pair, '-', 0, 'udp');
  await reader.until(() => reader.connectedFrom !== undefined);
  const answers: string[] = [];
  let report: UdpReport | undefined;
  const answer = () =>
    new Promise<void>((resolve) => {
      pair.onDatagram = (flowId, data) => {
        if (data[0] === 0) {
          report = decodeUdpReport(data)!;
          return;
        }
        const frame = decodeUdpFrame(data)!;
        assert.equal(flowId, reader.stream.id);
        answers.push(`${frame.host} ${frame.port === port} ${Buffer.from(frame.data)}`);
        resolve();
      };
    });
  const send = (host: string, to: number, text: string) =>
    pair.client.sendDatagram(reader.stream.id, encodeUdpFrame(host, to, Buffer.from(text)));
  let next = answer();
  send('127.0.0.1', port, 'one');
  await next;
  // The stranger's datagram is on its way before the next answer; it must not arrive.
  await new Promise((resolve) => stranger.send('spoof', from, '127.0.0.1', resolve));
  next = answer();
  send('udp.example', port, 'two');
  await next;
  assert.deepEqual(answers, ['127.0.0.1 true re:one', '127.0.0.1 true re:two']);
  assert.equal(pair.exit.datagramsDropped, 1);
  // Forbidden port, unknown name, no frame at all, unknown flow, an answer that is too large.
  send('127.0.0.1', 9, 'no');
  send('none.example', port, 'no');
  pair.client.sendDatagram(reader.stream.id, Buffer.from('\xff'));
  pair.client.sendDatagram(77, encodeUdpFrame('127.0.0.1', port, Buffer.from('no')));
  target.send(Buffer.alloc(1400), from, '127.0.0.1');
  next = answer();
  send('127.0.0.1', port, 'three');
  await next;
  assert.equal(pair.exit.datagramsDropped, 6);
  // Of its own flow the client hears what became of it; neither the stranger nor the unknown flow is its business.
  await become(() => report?.arrived ?? 0, 6);
  assert.deepEqual(report, { arrived: 6, expired: 0, dropped: 3, answersDropped: 1 });
  assert.equal(pair.exit.streams, 1);
  reader.stream.end();
  assert.equal(await reader.closed(), SessionError.noError);
  await become(() => pair.exit.streams, 0);
});

test('UDP: private targets are refused, bytes in the stream are an error, idle associations end', async (context) => {
  const target = await udp(context);
  let arrived = 0;
  target.on('message', () => {
    arrived += 1;
  });
  const closed = start(context, { allowPrivate: false, idleTimeoutMs: 60 }, names({ 'a.example': ['127.0.0.1'] }));
  const reader = new Reader(closed, '-', 0, 'udp');
  for (const host of ['127.0.0.1', '::ffff:127.0.0.1', 'a.example', 'localhost']) {
    closed.client.sendDatagram(reader.stream.id, encodeUdpFrame(host, target.address().port, Buffer.from('x')));
  }
  assert.equal(await reader.closed(), SessionError.idleTimeout);
  assert.equal(closed.exit.datagramsDropped, 4);
  assert.equal(arrived, 0);
  const other = new Reader(closed, '-', 0, 'udp');
  other.stream.write(Buffer.from('bytes'));
  assert.equal(await other.closed(), SessionError.protocolViolation);
});
