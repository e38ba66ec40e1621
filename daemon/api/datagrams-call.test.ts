/** Datagrams calls on a worker that is not there: what is asked of it, and what it says, are messages. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { decodeErrorDetails } from '@nyx/proto/errors.ts';
import type { DatagramsRequest, DatagramsResponse, StreamOptions } from '@nyx/proto/types.ts';
import fc from 'fast-check';
import { DATAGRAM_CREDIT, type DatagramCounts, type FromPump, type ToPump } from '../pump/contract.ts';
import { RemoteDatagrams } from '../pump/remote-datagrams.ts';
import { encodeUdpFrame, MAX_UDP_BYTES } from '../pump/udp-frame.ts';
import { ApiError } from './errors.ts';
import type { ApiHost } from './host.ts';
import { streamService } from './stream-service.ts';
import { Validator } from './validate.ts';

type Call = ServerDuplexStream<DatagramsRequest, DatagramsResponse>;

class FakeCall extends EventEmitter {
  readonly written: DatagramsResponse[] = [];
  readonly errors: (Error & { readonly code: number })[] = [];
  writableNeedDrain = false;
  ended = false;

  constructor() {
    super();
    this.on('error', (error) => this.errors.push(error));
  }

  write(response: DatagramsResponse): boolean {
    this.written.push(response);
    return !this.writableNeedDrain;
  }

  end(): void {
    this.ended = true;
  }

  /** As a request comes out of gRPC: the member is named. */
  request(request: DatagramsRequest): void {
    this.emit('data', { request: Object.keys(request)[0], ...request });
  }

  open(more: Partial<NonNullable<DatagramsRequest['open']>> = {}): void {
    this.request({ open: { options: null, deadlineMs: 0, ...more } });
  }

  send(more: Partial<NonNullable<DatagramsRequest['datagram']>> = {}): void {
    this.request({ datagram: { host: 'a.test', port: 1, data: Buffer.of(1), ...more } });
  }

  get reason(): string | undefined {
    return this.errors[0] && decodeErrorDetails(this.errors[0] as never).reason;
  }

  get fields(): string[] {
    return decodeErrorDetails(this.errors[0] as never).fieldViolations.map(({ field }) => field);
  }
}

class FakeHost {
  readonly apiStreams = { open: 0 };
  readonly toPump: ToPump[] = [];
  state = 'ready';
  readonly #associations = new Map<number, RemoteDatagrams>();
  readonly service: ReturnType<typeof streamService>;

  constructor(maxApiStreams = 2) {
    const pump = {
      openDatagrams: (options: object) => {
        const id = this.#associations.size + 1;
        const made = new RemoteDatagrams(
          id,
          options,
          (message) => this.toPump.push(message),
          () => {},
        );
        this.#associations.set(id, made);
        return made;
      },
    };
    this.service = streamService({
      apiStreams: this.apiStreams,
      context: { config: { limits: { maxApiStreams } } },
      state: () => this.state,
      pool: { choose: () => ({ worker: 1, pump }) },
    } as unknown as ApiHost);
  }

  call(): FakeCall {
    const call = new FakeCall();
    this.service.Datagrams(call as unknown as Call);
    return call;
  }

  tell(message: Extract<FromPump, { readonly association: number }>): void {
    this.#associations.get(message.association)!.handle(message);
  }

  /** A call whose association is open. */
  async opened(): Promise<FakeCall> {
    const call = this.call();
    call.open();
    const association = this.#associations.size;
    const [circuit, address, port] = [7, '192.0.2.1', 999];
    this.tell({ type: 'datagrams-opened', association, circuit, path: ['aa'], address, port, addedLatencyMs: 5 });
    await new Promise(setImmediate);
    return call;
  }

  sent(type: ToPump['type']): ToPump[] {
    return this.toPump.filter((message) => message.type === type);
  }
}

const NO_COUNTS: DatagramCounts = {
  sent: 0,
  expiredSending: 0,
  droppedSending: 0,
  received: 0,
  expiredReceiving: 0,
  droppedReceiving: 0,
  exitArrived: 0,
  exitExpired: 0,
  exitDropped: 0,
  exitAnswersDropped: 0,
};

const UNSET: StreamOptions = {
  hops: 0,
  pathClass: 'PATH_CLASS_UNSPECIFIED',
  isolation: '',
  pathId: 0,
  timeoutMs: 0,
  paths: 0,
  strategy: 'MULTIPATH_STRATEGY_UNSPECIFIED',
  fec: '',
};

test('open comes first, its fields are checked, and its deadline goes along', () => {
  const host = new FakeHost();
  const early = host.call();
  early.send();
  assert.deepEqual([early.reason, early.fields], ['INVALID_ARGUMENT', ['request']]);
  const wrong = host.call();
  wrong.open({ deadlineMs: 60_001, options: { ...UNSET, hops: 9, paths: 9, fec: 'much' } });
  assert.equal(wrong.reason, 'INVALID_ARGUMENT');
  for (const field of ['open.deadline_ms', 'open.options.hops', 'open.options.paths', 'open.options.fec']) {
    assert.ok(wrong.fields.includes(field), `${field} of ${wrong.fields}`);
  }
  assert.deepEqual(host.toPump, []);
  assert.equal(host.apiStreams.open, 0);
  const good = host.call();
  good.open({ deadlineMs: 60_000 });
  assert.deepEqual(host.toPump, [{ type: 'datagrams-open', association: 1, options: { deadlineMs: 60_000 } }]);
  good.open();
  assert.deepEqual([good.reason, good.fields], ['INVALID_ARGUMENT', ['request']], 'a second one');
  assert.equal(host.sent('datagrams-close').length, 1);
});

test('opened comes first, then datagrams with their senders', async () => {
  const host = new FakeHost();
  const call = await host.opened();
  host.tell({ type: 'datagram', association: 1, host: '192.0.2.9', port: 5, data: Buffer.from('x') });
  assert.deepEqual(call.written[0], {
    opened: {
      address: '192.0.2.1',
      port: 999,
      pathId: 2 ** 32 + 7,
      nodeIds: ['aa'],
      expectedAddedLatencyMs: 5,
      maxBytes: MAX_UDP_BYTES,
    },
  });
  assert.deepEqual(call.written[1], { datagram: { host: '192.0.2.9', port: 5, data: Buffer.from('x') } });
  call.send({ host: 'b.test', port: 65_535, deadlineMs: 40 });
  const [datagram] = host.sent('datagram');
  const data = Uint8Array.of(1);
  assert.deepEqual(datagram, { type: 'datagram', association: 1, host: 'b.test', port: 65_535, data, deadlineMs: 40 });
});

for (const [field, bad] of [
  ['datagram.host', { host: '' }],
  ['datagram.host', { host: 'a b' }],
  ['datagram.host', { host: 'x'.repeat(256) }],
  ['datagram.host', { host: 'fe80::1%eth0' }],
  ['datagram.port', { port: 0 }],
  ['datagram.port', { port: 65_536 }],
  ['datagram.data', { data: Buffer.alloc(MAX_UDP_BYTES - 6 + 1) }],
  ['datagram.data', { host: '192.0.2.1', data: Buffer.alloc(MAX_UDP_BYTES - 4 + 1) }],
  ['datagram.data', { host: '2001:db8::1', data: Buffer.alloc(MAX_UDP_BYTES - 16 + 1) }],
  ['datagram.deadline_ms', { deadlineMs: 60_001 }],
] as const) {
  const [[name, value]] = Object.entries(bad) as [[string, unknown]];
  const what = value instanceof Uint8Array ? `${value.length} bytes` : JSON.stringify(value).slice(0, 20);
  test(`a datagram with ${name} ${what} ends the call, and its field is named`, async () => {
    const host = new FakeHost();
    const call = await host.opened();
    call.send(bad as object);
    assert.deepEqual([call.reason, call.fields], ['INVALID_ARGUMENT', [field]]);
    assert.equal(host.sent('datagram').length, 0);
    assert.equal(host.sent('datagrams-close').length, 1);
    assert.equal(host.apiStreams.open, 0);
  });
}

test('what the checks let through can be put into a frame', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain(), fc.string({ maxLength: 300, unit: 'binary' })),
      fc.integer({ min: -1, max: 65_537 }),
      fc.nat({ max: 1200 }),
      (host, port, length) => {
        const validator = new Validator();
        validator.datagram('datagram', { host, port, data: Buffer.alloc(length) });
        try {
          validator.check();
        } catch (error) {
          assert.ok(error instanceof ApiError);
          return;
        }
        assert.ok(encodeUdpFrame(host, port, Buffer.alloc(length)).length <= MAX_UDP_BYTES + 4);
      },
    ),
  );
});

test('no more calls than the limit, none while draining; one that ends makes room', async () => {
  const host = new FakeHost(2);
  const calls = [host.call(), await host.opened()];
  assert.equal(host.call().reason, 'LIMIT');
  calls[0]!.emit('cancelled');
  assert.equal(host.apiStreams.open, 1);
  calls[1]!.emit('end');
  assert.ok(calls[1]!.ended);
  assert.equal(host.apiStreams.open, 0);
  assert.equal(host.sent('datagrams-close').length, 1, 'of the one that was open');
  host.state = 'draining';
  assert.equal(host.call().reason, 'SHUTDOWN');
});

test('what is sent too early, or beyond what may be under way, is dropped; credit makes room; the counts say so', async () => {
  const host = new FakeHost();
  const call = host.call();
  call.open();
  call.send();
  const open = { circuit: 7, path: [], address: '192.0.2.1', port: 9, addedLatencyMs: 0 };
  host.tell({ type: 'datagrams-opened', association: 1, ...open });
  for (let i = 0; i < DATAGRAM_CREDIT + 10; i++) call.send();
  assert.equal(host.sent('datagram').length, DATAGRAM_CREDIT);
  host.tell({ type: 'datagrams-credit', association: 1, datagrams: 5 });
  for (let i = 0; i < 10; i++) call.send();
  assert.equal(host.sent('datagram').length, DATAGRAM_CREDIT + 5);
  call.request({ count: {} });
  call.request({ count: {} });
  assert.equal(host.sent('datagrams-count').length, 1, 'one question at a time');
  const counts = { ...NO_COUNTS, sent: 200, expiredSending: 3, droppedSending: 61, expiredReceiving: 4 };
  host.tell({ type: 'datagrams-counts', association: 1, counts });
  await new Promise(setImmediate);
  assert.deepEqual(call.written.at(-1), { counts: { ...counts, droppedSending: 61 + 1 + 10 + 5 } });
});

test('a caller that does not read loses the oldest beyond 256, and nothing piles up', async () => {
  const host = new FakeHost();
  const call = await host.opened();
  call.writableNeedDrain = true;
  for (let i = 0; i < 1000; i++) {
    host.tell({ type: 'datagram', association: 1, host: '192.0.2.9', port: 1 + i, data: Buffer.of(1) });
  }
  assert.equal(call.written.length, 1);
  // The worker goes on: its credit came back although nobody read.
  const credit = host.sent('datagrams-credit') as Extract<ToPump, { readonly type: 'datagrams-credit' }>[];
  assert.ok(credit.reduce((sum, { datagrams }) => sum + datagrams, 0) > 1000 - DATAGRAM_CREDIT);
  call.writableNeedDrain = false;
  call.emit('drain');
  assert.deepEqual(
    call.written.slice(1).map(({ datagram }) => datagram?.port),
    Array.from({ length: 256 }, (_, i) => 1000 - 255 + i),
  );
  call.request({ count: {} });
  host.tell({
    type: 'datagrams-counts',
    association: 1,
    counts: { ...NO_COUNTS, received: 1000, droppedReceiving: 2 },
  });
  await new Promise(setImmediate);
  assert.deepEqual(call.written.at(-1)!.counts, { ...NO_COUNTS, received: 256, droppedReceiving: 1000 - 256 + 2 });
});

test('the association ends: the call does, with its reason', async () => {
  const host = new FakeHost();
  const call = await host.opened();
  host.tell({ type: 'datagrams-closed', association: 1, code: 'SESSION_LOST', message: 'gone' });
  assert.equal(call.reason, 'SESSION_LOST');
  assert.equal(host.apiStreams.open, 0);
  const failing = host.call();
  failing.open();
  failing.request({ count: {} });
  host.tell({ type: 'datagrams-closed', association: 2, code: 'NO_PATH', message: 'none' });
  assert.equal(failing.reason, 'NO_PATH');
  assert.equal(failing.errors.length, 1);
});
