import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Drop } from '../drop-reason.ts';
import { PAYLOAD_BYTES } from '../wire/datagram.ts';
import {
  Frame,
  FrameDecoder,
  writeAck,
  writeConnect,
  writeCryptoHeader,
  writePairFrame,
  writeReset,
  writeResolve,
  writeStreamHeader,
  writeValueFrame,
} from '../wire/frames.ts';
import { encodeCapabilities } from './capabilities.ts';
import { SessionError, type SessionHost, type SessionOptions, type SessionStream } from './contract.ts';
import { RangeSet } from './ranges.ts';
import { Session } from './session.ts';

const TARGET = { kind: 'tcp', host: 'example.org', port: 443 } as const;

class End {
  readonly session: Session;
  readonly closes: [number, string, boolean][] = [];
  readonly streams: SessionStream[] = [];
  next = 0;

  constructor(options: Partial<SessionOptions>, host: Partial<SessionHost> = {}) {
    this.session = new Session(
      options,
      {
        onCryptoMessage: () => {},
        onWantSend: () => {},
        onStream: (stream) => void this.streams.push(stream),
        ...host,
        onClose: (code, reason, remote) => void this.closes.push([code, reason, remote]),
      },
      0,
    );
    if (options.role === 'server') this.session.firstPath.sendCryptoMessage(2, new Uint8Array(1120));
  }

  /** The next payload, or undefined. */
  poll(nowMs: number): Uint8Array | undefined {
    const out = new Uint8Array(PAYLOAD_BYTES);
    return this.session.firstPath.pollPayload(out, this.next, nowMs) ? out : undefined;
  }
}

/** Both ends and a network that takes 1 ms and loses nothing. */
class Pair {
  readonly client: End;
  readonly server: End;
  nowMs = 0;

  constructor(
    options: Partial<SessionOptions> = {},
    clientHost: Partial<SessionHost> = {},
    serverHost: Partial<SessionHost> = {},
  ) {
    this.client = new End({ ...options, role: 'client' }, clientHost);
    this.server = new End({ ...options, role: 'server' }, serverHost);
  }

  /** Lets time pass in steps of 1 ms. */
  run(ms: number): void {
    for (let i = 0; i < ms; i++) {
      const up = this.#take(this.client);
      const down = this.#take(this.server);
      this.nowMs++;
      for (const [number, payload] of up) this.server.session.firstPath.handlePayload(number, payload, this.nowMs);
      for (const [number, payload] of down) this.client.session.firstPath.handlePayload(number, payload, this.nowMs);
    }
  }

  #take(end: End): [number, Uint8Array][] {
    const out: [number, Uint8Array][] = [];
    if (end.session.firstPath.nextTimeoutMs() <= this.nowMs) end.session.firstPath.handleTimeout(this.nowMs);
    for (let payload = end.poll(this.nowMs); payload !== undefined; payload = end.poll(this.nowMs)) {
      out.push([end.next++, payload]);
    }
    return out;
  }

  open(): { client: SessionStream; server: SessionStream } {
    const client = this.client.session.openStream(TARGET);
    assert.ok(client !== undefined);
    this.run(5);
    const server = this.server.streams.at(-1);
    assert.ok(server !== undefined);
    return { client, server };
  }
}

function frameTypes(payload: Uint8Array): number[] {
  const decoder = new FrameDecoder();
  decoder.reset(payload);
  const types: number[] = [];
  while (decoder.next()) types.push(decoder.type);
  assert.equal(decoder.failed, false);
  return types;
}

function readAll(stream: SessionStream): number {
  const into = new Uint8Array(70_000);
  let total = 0;
  for (let n = stream.read(into); n > 0; n = stream.read(into)) total += n;
  return total;
}

test('the first payload carries capabilities, settings, CONNECT and data at once', () => {
  const end = new End({ role: 'client' });
  const stream = end.session.openStream(TARGET)!;
  assert.equal(stream.write(new Uint8Array(500)), 500);
  const payload = end.poll(0);
  assert.ok(payload !== undefined);
  assert.deepEqual(frameTypes(payload), [Frame.crypto, Frame.settings, Frame.connect, Frame.stream]);
});

test('the first payload of a server is the whole KEYS message', () => {
  const end = new End({ role: 'server' });
  const decoder = new FrameDecoder();
  decoder.reset(end.poll(0)!);
  assert.equal(decoder.next(), true);
  assert.deepEqual([decoder.type, decoder.value], [Frame.crypto, 0]);
  assert.ok(decoder.dataLength >= 1123);
});

test('set-up, CONNECTED, half-close in both orders, and one onClose each', () => {
  const ready: string[] = [];
  const pair = new Pair(
    { capabilities: ['a', 'b'] },
    { onReady: (names) => void ready.push(`client ${names.join()}`) },
    { onReady: (names) => void ready.push(`server ${names.join()}`) },
  );
  const { client, server } = pair.open();
  assert.deepEqual(ready.sort(), ['client a,b', 'server a,b']);
  assert.deepEqual(server.target, TARGET);
  const told: unknown[] = [];
  client.onConnected = (...from) => told.push(from);
  client.onClose = (...how) => told.push(['client', ...how]);
  server.onClose = (...how) => told.push(['server', ...how]);
  server.connected(6, '2001:db8::1', 4000);
  client.write(new Uint8Array(10));
  client.end();
  pair.run(10);
  assert.equal(readAll(server), 10);
  assert.equal(server.readEnded, true);
  assert.equal(client.write(new Uint8Array(1)), 0, 'ended');
  server.write(new Uint8Array(20));
  pair.run(10);
  assert.equal(readAll(client), 20);
  assert.equal(client.readEnded, false);
  server.end();
  pair.run(20);
  assert.equal(client.readEnded, true);
  assert.deepEqual(
    told,
    [
      [6, '2001:db8::1', 4000],
      ['server', 0, false],
      ['client', 0, false],
    ].sort((a, b) => told.findIndex((t) => String(t) === String(a)) - told.findIndex((t) => String(t) === String(b))),
  );
  assert.equal(pair.client.session.stats.streams + pair.server.session.stats.streams, 0);
  assert.equal(client.stats.bytesAcked, 10);
  assert.equal(client.stats.bytesReceived, 20);
  client.reset(1);
  assert.equal(told.length, 3, 'over is over');
});

test('reset tells both owners once and frees both sides', () => {
  const pair = new Pair();
  const { client, server } = pair.open();
  const told: unknown[] = [];
  client.onClose = (...how) => told.push(['client', ...how]);
  server.onClose = (...how) => told.push(['server', ...how]);
  client.write(new Uint8Array(300_000));
  server.write(new Uint8Array(1000));
  pair.run(3);
  server.reset(SessionError.connectRefused);
  server.reset(SessionError.cancelled);
  pair.run(50);
  assert.deepEqual(told, [
    ['server', SessionError.connectRefused, false],
    ['client', SessionError.connectRefused, true],
  ]);
  assert.equal(client.write(new Uint8Array(5)), 0);
  assert.equal(client.read(new Uint8Array(5)), 0);
  for (const { session } of [pair.client, pair.server]) {
    assert.equal(session.stats.streams, 0);
    assert.equal(session.stats.bufferedBytes, 0);
  }
  // The session's flow control has the unread bytes back: far more than its window still passes.
  const next = pair.open();
  let read = 0;
  let written = 0;
  for (let i = 0; i < 400 && read < 20_000_000; i++) {
    written += next.client.write(new Uint8Array(1_000_000));
    pair.run(5);
    read += readAll(next.server);
  }
  assert.ok(read >= 20_000_000, `${read} of ${written}`);
});

test('what abandoned streams never read is given back to the session', () => {
  const pair = new Pair({ sessionWindowBytes: 262_144 });
  for (let i = 0; i < 10; i++) {
    const { client, server } = pair.open();
    client.write(new Uint8Array(60_000));
    pair.run(10);
    assert.equal(server.readableBytes, 60_000, `stream ${i}`);
    (i % 2 === 0 ? client : server).reset(SessionError.cancelled);
    pair.run(10);
  }
});

test('readers that stop hold their windows and no more; other streams go on', () => {
  const options = { streamWindowBytes: 1_048_576, sessionWindowBytes: 4_194_304, sendBufferBytes: 8_388_608 };
  const pair = new Pair(options);
  const stalled = Array.from({ length: 5 }, () => pair.open());
  // They read well until their windows have grown, then stop.
  for (let round = 0; round < 40; round++) {
    for (const { client } of stalled) client.write(new Uint8Array(200_000));
    pair.run(3);
    for (const { server } of stalled) readAll(server);
  }
  for (let round = 0; round < 40; round++) {
    for (const { client } of stalled) client.write(new Uint8Array(1_000_000));
    pair.run(5);
  }
  for (const { server } of stalled) assert.ok(server.readableBytes <= 1_048_576, String(server.readableBytes));
  const held = pair.server.session.stats.bufferedBytes;
  assert.ok(held <= 4_194_304 + 6 * 32_768, `held ${held}`);
  const live = pair.open();
  let read = 0;
  for (let i = 0; i < 200 && read < 5_000_000; i++) {
    live.client.write(new Uint8Array(500_000));
    pair.run(5);
    read += readAll(live.server);
  }
  assert.ok(read >= 5_000_000, `only ${read} bytes passed the stalled streams`);
});

test('a writer gets back-pressure, and onWritable when there is room', () => {
  const pair = new Pair({ sendBufferBytes: 100_000 });
  const { client, server } = pair.open();
  let writable = 0;
  client.onWritable = () => writable++;
  assert.equal(client.write(new Uint8Array(150_000)), 100_000);
  assert.equal(client.write(new Uint8Array(1)), 0);
  let read = 0;
  for (let i = 0; i < 10; i++) {
    pair.run(5);
    read += readAll(server);
  }
  assert.equal(read, 100_000);
  assert.equal(writable, 1);
  assert.equal(client.write(new Uint8Array(100_000)), 100_000);
});

test('stream limits: opened again as streams end', () => {
  const pair = new Pair({ maxStreams: 8 });
  pair.run(5);
  const open: SessionStream[] = [];
  for (;;) {
    const stream = pair.client.session.openStream(TARGET);
    if (stream === undefined) break;
    open.push(stream);
  }
  assert.equal(open.length, 8);
  pair.run(5);
  for (const stream of open.splice(0, 4)) stream.reset(SessionError.cancelled);
  pair.run(20);
  for (let i = 0; i < 4; i++) assert.ok(pair.client.session.openStream(TARGET) !== undefined);
  assert.equal(pair.client.session.openStream(TARGET), undefined);
});

test('streams opened before the client knew a lower limit are refused one by one', () => {
  const pair = new Pair({ maxStreams: 4 });
  const codes: number[] = [];
  for (let i = 0; i < 10; i++) {
    pair.client.session.openStream(TARGET)!.onClose = (code) => codes.push(code);
  }
  pair.run(20);
  assert.deepEqual(codes, Array(6).fill(SessionError.limit));
  assert.equal(pair.server.session.stats.streams, 4);
  assert.deepEqual(pair.client.closes, []);
});

test('names are resolved at the server, failures and limits included', () => {
  const asked: string[] = [];
  const pair = new Pair(
    {},
    {},
    {
      onResolve: (id, kind, value) => {
        asked.push(`${kind} ${value}`);
        const ok = value === 'example.org';
        const addresses = [{ family: 4, address: '192.0.2.7', ttlSeconds: 30 } as const];
        pair.server.session.resolved(id, ok ? 0 : SessionError.resolveFailed, ok ? addresses : []);
      },
    },
  );
  const results: (readonly unknown[])[] = [];
  pair.client.session.resolve('name', 'example.org', (...result) => results.push(result));
  pair.client.session.resolve('address', '192.0.2.9', (...result) => results.push(result));
  pair.client.session.resolve('name', 'no spaces please', (...result) => results.push(result));
  pair.run(10);
  assert.deepEqual(asked, ['name example.org', 'address 192.0.2.9']);
  assert.deepEqual(results as unknown, [
    [undefined, undefined, SessionError.resolveFailed],
    [[{ family: 4, address: '192.0.2.7', ttlSeconds: 30 }], undefined, 0],
    [undefined, undefined, SessionError.resolveFailed],
  ]);
  pair.client.session.resolve('name', 'never.example', (...result) => results.push(result));
  pair.client.session.abandon(SessionError.sessionLost, 'gone');
  assert.deepEqual(results[3], [undefined, undefined, SessionError.sessionLost]);
});

test('datagrams and pings pass, too large ones do not', () => {
  const got: [number, number][] = [];
  const pair = new Pair({}, {}, { onDatagram: (flow, data) => void got.push([flow, data.length]) });
  assert.equal(pair.client.session.sendDatagram(3, new Uint8Array(1120)), true);
  assert.equal(pair.client.session.sendDatagram(3, new Uint8Array(1141)), false);
  let rtt = -1;
  pair.client.session.ping((ms) => {
    rtt = ms;
  });
  pair.run(10);
  assert.deepEqual(got, [[3, 1120]]);
  assert.equal(rtt, 2);
  let queued = 0;
  while (pair.client.session.sendDatagram(1, new Uint8Array(10))) queued++;
  assert.ok(queued <= 128);
});

test('close: the peer is told, replies are bounded, streams end with the code', () => {
  const pair = new Pair();
  const { client, server } = pair.open();
  const told: unknown[] = [];
  client.onClose = (...how) => told.push(['client', ...how]);
  server.onClose = (...how) => told.push(['server', ...how]);
  pair.client.session.close(SessionError.internal, 'why not');
  assert.equal(pair.client.session.closed, false);
  pair.run(3);
  assert.deepEqual(pair.client.closes, [[SessionError.internal, 'why not', false]]);
  assert.deepEqual(pair.server.closes, [[SessionError.internal, 'why not', true]]);
  assert.deepEqual(told, [
    ['client', SessionError.internal, false],
    ['server', SessionError.internal, true],
  ]);
  assert.equal(pair.server.session.closed, true);
  let replies = 0;
  for (let i = 0; i < 50; i++) {
    pair.client.session.firstPath.handlePayload(1000 + i, new Uint8Array(PAYLOAD_BYTES), pair.nowMs);
    if (pair.client.poll(pair.nowMs) !== undefined) replies++;
  }
  assert.ok(replies >= 1 && replies <= 5, String(replies));
  pair.client.session.firstPath.handleTimeout(pair.client.session.firstPath.nextTimeoutMs());
  assert.equal(pair.client.session.closed, true);
  assert.equal(pair.client.session.firstPath.nextTimeoutMs(), Number.POSITIVE_INFINITY);
});

test('idle: keep-alives hold a session open, silence ends it', () => {
  const pair = new Pair({ idleTimeoutMs: 2000, keepAliveMs: 500 });
  const { client } = pair.open();
  let code = -1;
  client.onClose = (c) => {
    code = c;
  };
  pair.run(5000);
  assert.deepEqual(pair.client.closes, []);
  for (let t = pair.nowMs; t < pair.nowMs + 2100; t += 10) {
    if (pair.client.session.firstPath.nextTimeoutMs() <= t) pair.client.session.firstPath.handleTimeout(t);
    while (pair.client.poll(t) !== undefined) pair.client.next++;
  }
  assert.equal(pair.client.session.closed, true);
  assert.equal(code, SessionError.idleTimeout);
});

test('callbacks may call back into the session', () => {
  const pair = new Pair();
  const { client, server } = pair.open();
  const order: string[] = [];
  server.onReadable = () => {
    readAll(server);
    server.write(new Uint8Array(100));
    server.reset(7);
    order.push('after reset');
  };
  server.onClose = () => {
    order.push('server closed');
    assert.equal(server.write(new Uint8Array(1)), 0);
    server.reset(8);
    server.end();
  };
  client.onClose = (code) => {
    order.push(`client closed ${code}`);
    pair.client.session.close(0, '');
  };
  client.write(new Uint8Array(10));
  pair.run(20);
  assert.deepEqual(order, ['after reset', 'server closed', 'client closed 7']);
});

test('a stalled host reads its sockets before it believes in loss', () => {
  const pair = new Pair();
  const { client } = pair.open();
  client.write(new Uint8Array(50_000));
  pair.run(1);
  // The ACKs are there, but the host was away for a second and looks at its timers first.
  const late = pair.nowMs + 1000;
  pair.client.session.firstPath.handleTimeout(late);
  assert.equal(pair.client.session.firstPath.wantsSend(late), false);
  const again = pair.client.session.firstPath.nextTimeoutMs();
  assert.ok(again > late && again <= late + 1, String(again - late));
  pair.client.session.firstPath.handleTimeout(again);
  assert.equal(pair.client.session.firstPath.wantsSend(again), true, 'then it probes');
});

// ---- Hostile peers

/** Gives one forged payload to a fresh server (or the given end) and returns the code it closes with. */
function attack(
  write: (out: Uint8Array) => number,
  end = new End({ role: 'server' }),
  packetNumber = 0,
): number | undefined {
  const payload = new Uint8Array(PAYLOAD_BYTES);
  write(payload);
  const drop = end.session.firstPath.handlePayload(packetNumber, payload, 1);
  if (end.closes.length > 0) assert.equal(drop, Drop.badFrame);
  return end.closes[0]?.[0];
}

test('what breaks the protocol closes the session', () => {
  const { protocolViolation, flowControl } = SessionError;
  const server = (write: (out: Uint8Array) => number) => attack(write);
  const client = (write: (out: Uint8Array) => number) => attack(write, new End({ role: 'client' }));
  assert.equal(
    server((out) => writeValueFrame(out, 0, 0x2f, 1)),
    protocolViolation,
  );
  assert.equal(
    server((out) => writeStreamHeader(out, 0, 5000, 0, 10, false)),
    protocolViolation,
    'stream count',
  );
  assert.equal(
    server((out) => writeStreamHeader(out, 0, 0, 1e9, 10, false)),
    flowControl,
  );
  assert.equal(
    server((out) => writeReset(out, 0, 0, 0, 1e9)),
    flowControl,
  );
  assert.equal(
    server((out) => writeValueFrame(out, 0, Frame.maxStreams, 9)),
    protocolViolation,
  );
  assert.equal(
    server((out) => writeCryptoHeader(out, 0, 1e6, 10)),
    protocolViolation,
  );
  assert.equal(
    client((out) => writeConnect(out, 0, 0, 0, 1, 'x')),
    protocolViolation,
  );
  assert.equal(
    client((out) => writeResolve(out, 0, 0, 0, 'x')),
    protocolViolation,
  );
  assert.equal(
    client((out) => writeStreamHeader(out, 0, 0, 0, 10, false)),
    protocolViolation,
  );
  assert.equal(
    client((out) => writePairFrame(out, 0, Frame.maxStreamData, 3, 10)),
    protocolViolation,
  );
  const finalSize = new End({ role: 'server' });
  assert.equal(
    attack((out) => writeStreamHeader(out, 0, 0, 100, 10, true), finalSize),
    undefined,
  );
  assert.equal(
    attack((out) => writeStreamHeader(out, 0, 0, 105, 10, false), finalSize, 1),
    protocolViolation,
  );
  const caps = encodeCapabilities(['x']).fill(0xff);
  const message = (out: Uint8Array): number => {
    const pos = writeCryptoHeader(out, 0, 0, 3 + caps.length);
    out.set([1, 0, caps.length, ...caps], pos);
    return pos;
  };
  assert.equal(server(message), protocolViolation, 'CAPS that is not CBOR');
});

test('ACKs of what was never sent close the session, those of what was sent do not', () => {
  const ack = (numbers: number[]) => (out: Uint8Array) => {
    const ranges = new RangeSet(100);
    for (const n of numbers) ranges.insert(n, n + 1);
    return writeAck(out, 0, 200, 0, ranges);
  };
  const fresh = (): End => {
    const end = new End({ role: 'client' });
    end.session.openStream(TARGET)!.write(new Uint8Array(10_000));
    for (const number of [3, 4, 10, 11]) {
      end.next = number;
      assert.ok(end.poll(0) !== undefined);
    }
    return end;
  };
  assert.equal(attack(ack([3, 4, 10, 11]), fresh()), undefined);
  assert.equal(attack(ack([4, 11]), fresh()), undefined);
  assert.equal(attack(ack([12]), fresh()), SessionError.protocolViolation, 'beyond the newest');
  assert.equal(attack(ack([3, 4, 5]), fresh()), SessionError.protocolViolation, 'in a gap');
  assert.equal(attack(ack([3, 4, 5, 6, 7, 8, 9, 10, 11]), fresh()), SessionError.protocolViolation, 'across a gap');
  assert.equal(attack(ack([8]), fresh()), SessionError.protocolViolation, 'in a gap, alone');
});

test('more holes than an honest sender leaves are not acknowledged, and cost little', () => {
  const end = new End({ role: 'server' });
  const payload = new Uint8Array(PAYLOAD_BYTES);
  let refused = 0;
  const started = process.cpuUsage();
  let packets = 0;
  // One byte at every fourth offset or so, from the middle outwards.
  for (let i = 0; i < 30_000; packets++) {
    payload.fill(0);
    let pos = 0;
    while (pos < PAYLOAD_BYTES - 20 && i < 30_000) {
      const offset = 32_768 + (i % 2 === 0 ? i : -i);
      pos = writeStreamHeader(payload, pos, 0, offset, 1, false) + 1;
      i++;
    }
    if (end.session.firstPath.handlePayload(packets, payload, 1) === Drop.memory) refused++;
  }
  const cpuMs = process.cpuUsage(started).user / 1000;
  assert.ok(refused > 0);
  assert.deepEqual(end.closes, []);
  assert.ok(end.session.stats.bufferedBytes <= 65_536 + 32_768);
  assert.ok(cpuMs < 1000, `${cpuMs} ms for ${packets} packets`);
});

test('random payloads never throw, whatever state the session is in', () => {
  const seed = Number(process.env.NYX_FUZZ_SEED ?? 7);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  const types = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0x10, 0x20, 0x30, 0x31, 0x32, 0x33, 0x34, 0x3f, 0x50];
  for (let run = 0; run < 3000; run++) {
    const end = new End({ role: run % 2 === 0 ? 'server' : 'client' });
    if (run % 2 === 1) end.session.openStream(TARGET)?.write(new Uint8Array(5000));
    for (let i = 0; i < 4; i++) if (end.poll(1) !== undefined) end.next++;
    for (let i = 0; i < 5; i++) {
      const payload = new Uint8Array(PAYLOAD_BYTES);
      let pos = 0;
      while (pos < 60) {
        payload[pos++] = types[random(types.length)]!;
        for (let k = random(8); k > 0; k--) payload[pos++] = random(random(3) === 0 ? 256 : 8);
      }
      end.session.firstPath.handlePayload(i, payload, 2 + i);
      if (end.session.firstPath.nextTimeoutMs() <= 2 + i) end.session.firstPath.handleTimeout(2 + i);
      if (end.poll(2 + i) !== undefined) end.next++;
    }
    assert.ok(end.closes.length <= 1, `NYX_FUZZ_SEED=${seed}, run ${run}`);
  }
});
