import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import type { ClientCircuitEvent, NodeContact, SessionOwner } from '@nyx/core/engine/contract.ts';
import { type SessionApi, SessionError, type SessionStream } from '@nyx/core/stream/contract.ts';
import { type SimNode, VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';
import { defaults } from '../config/defaults.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { CIRCUIT_DIRTY_MS } from './circuit-pool.ts';
import { DialError, type DialErrorCode, type FromPump, type PathConstraints } from './contract.ts';
import { SessionDialer } from './dialer.ts';
import { MAX_ATTEMPTS, MAX_IDLE_ATTEMPTS, RACE_MS } from './path-race.ts';
import { SessionDuplex } from './session-duplex.ts';
import { SPARES_WANTED_MS } from './spare-circuits.ts';
import { decodeUdpFrame, encodeUdpFrame } from './udp-frame.ts';

const suite = createNativeSuite();
const target = { host: 'target.test', port: 80 };

/** What the exits of a test network do with a stream. */
type Serve = (exit: string, stream: SessionStream, session: SessionApi) => void;

/** Connects, and sends back whatever comes. */
const echo: Serve = (_exit, stream) => {
  stream.connected(4, '192.0.2.1', 1234);
  const duplex = new SessionDuplex(stream);
  duplex.on('error', () => {});
  duplex.pipe(duplex);
};

/** Real engines on virtual time: a client with a dialer, four mixes, two exits. */
class Harness {
  readonly network: VirtualNetwork;
  readonly client: SimNode;
  readonly mixes: readonly SimNode[];
  readonly exits: readonly SimNode[];
  readonly dialer: SessionDialer;
  readonly asked: PathConstraints[] = [];
  /** Requests for a path to one last hop: sessions that need another circuit. Answered with mixes that are not to be avoided. */
  readonly resumed: PathConstraints[] = [];
  readonly told: FromPump[] = [];
  /** The client's machine has no network. */
  isAway = false;
  /** Paths to give out, in order; then the first again. */
  paths: readonly (readonly SimNode[])[];
  readonly #timers = new Set<{ readonly atMs: number; readonly callback: () => void }>();

  constructor(seed: number, serve: Serve = echo, maxCircuits = 100, spareCircuits = 0, mixes = 4) {
    this.network = new VirtualNetwork(suite, seed);
    this.client = this.network.add('client', { relay: false });
    this.mixes = Array.from({ length: mixes }, (_, i) => this.network.add(`mix ${i}`));
    this.exits = [0, 1].map((i) =>
      this.network.add(`exit ${i}`, { exit: true, serve: (session) => ownerOf(`exit ${i}`, session, serve) }),
    );
    const [m0, m1, m2, m3] = this.mixes as [SimNode, SimNode, SimNode, SimNode];
    const [e0, e1] = this.exits as [SimNode, SimNode];
    this.paths = [
      [m0, m1, e0],
      [m2, m3, e1],
    ];
    this.dialer = new SessionDialer(
      {
        worker: 2,
        defaultHops: 3,
        mix: { hops: 5, delayMs: 20 },
        cmix: defaults.cmix,
        multipath: { paths: 1, strategy: 'latency_weighted' },
        fec: 'adaptive',
        maxCircuits,
        spareCircuits,
      },
      {
        engine: this.client.engine,
        host: {
          requestPath: async (constraints) => this.#path(constraints),
          tell: (message) => this.told.push(message),
          nowMs: () => this.network.nowMs,
          unixSeconds: () => this.network.unixSeconds,
          unixMs: () => this.network.unixSeconds * 1000,
          isAway: () => this.isAway,
          atTurnEnd: setImmediate,
          batchDelayMs: () => 100,
          schedule: (delayMs, callback) => {
            const timer = { atMs: this.network.nowMs + delayMs, callback };
            this.#timers.add(timer);
            return () => this.#timers.delete(timer);
          },
        },
      },
    );
    // The worker hands events on as they come; so does this.
    this.client.circuitEvents.push = (...events: ClientCircuitEvent[]) => {
      for (const event of events) this.dialer.onCircuit(event);
      return 0;
    };
  }

  /** Lets virtual time pass, and does what is due in it. */
  #step(untilMs: number): void {
    this.network.run(untilMs);
    for (const timer of this.#timers) {
      if (timer.atMs > untilMs) continue;
      this.#timers.delete(timer);
      timer.callback();
    }
  }

  /** Virtual time in small steps between turns of the event loop. */
  async pass(durationMs: number): Promise<void> {
    const endMs = this.network.nowMs + durationMs;
    while (this.network.nowMs < endMs) {
      await new Promise(setImmediate);
      this.#step(Math.min(endMs, this.network.nowMs + 2));
    }
    await new Promise(setImmediate);
  }

  #path(constraints: PathConstraints): readonly NodeContact[] {
    if (constraints.lastHop !== undefined) return this.#pathTo(constraints.lastHop, constraints);
    const path = this.paths[this.asked.length] ?? this.paths[0];
    this.asked.push(constraints);
    if (path === undefined) throw new DialError('NO_PATH', 'the view is empty');
    return path.map((node) => node.contact);
  }

  #pathTo(lastHop: string, constraints: PathConstraints): readonly NodeContact[] {
    this.resumed.push(constraints);
    const last = [...this.exits].find((node) => idOf(node) === lastHop)!;
    const not = [...(constraints.avoid ?? []), ...(constraints.apartFrom ?? [])];
    const free = this.mixes.filter((node) => !not.includes(idOf(node)) && !node.down);
    if (free.length < 2) throw new DialError('NO_PATH', 'too few mixes');
    return [...free.slice(-2), last].map((node) => node.contact);
  }

  /** Lets virtual time pass in small steps between turns of the event loop, until `promise` settles. */
  async until<T>(promise: Promise<T>, limitMs = 60_000): Promise<T> {
    let settled = false;
    const done = () => {
      settled = true;
    };
    promise.then(done, done);
    const endMs = this.network.nowMs + limitMs;
    while (!settled) {
      await new Promise(setImmediate);
      if (settled) break;
      assert.ok(this.network.nowMs < endMs, `seed ${this.network.seed}: nothing after ${limitMs} ms of virtual time`);
      this.#step(this.network.nowMs + 2);
    }
    return promise;
  }

  circuitEvents(kind: 'building' | 'ready' | 'ended'): number {
    return this.told.filter((message) => message.type === 'circuit' && message.kind === kind).length;
  }

  async fails(promise: Promise<unknown>, code: DialErrorCode): Promise<DialError> {
    try {
      await this.until(promise);
    } catch (error) {
      assert.ok(error instanceof DialError, String(error));
      assert.equal(error.code, code, error.message);
      return error;
    }
    assert.fail('it did not fail');
  }
}

function ownerOf(exit: string, session: SessionApi, serve: Serve): SessionOwner {
  const flows = new Map<number, SessionStream>();
  return {
    onStream(stream) {
      if (stream.target.kind === 'udp') {
        flows.set(stream.id, stream);
        stream.connected(4, '192.0.2.1', 999);
      } else serve(exit, stream, session);
    },
    onDatagram(flow, data) {
      const frame = flows.has(flow) ? decodeUdpFrame(data) : undefined;
      if (frame?.host === 'idle.test') flows.get(flow)!.reset(SessionError.idleTimeout);
      else if (frame) session.sendDatagram(flow, encodeUdpFrame('198.51.100.7', frame.port, frame.data));
    },
    onResolve(id, kind, value) {
      if (value === 'nowhere.test') session.resolved(id, SessionError.resolveFailed, []);
      else if (kind === 'name') {
        session.resolved(id, SessionError.noError, [{ family: 4, address: '192.0.2.9', ttlSeconds: 60 }]);
      } else session.resolved(id, SessionError.noError, [], 'nine.test');
    },
    onClose() {},
  };
}

/** All that is read until the end. (Iterating over a duplex would destroy it at the end of reading.) */
function collect(duplex: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  duplex.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve, reject) => {
    duplex.once('end', () => resolve(Buffer.concat(chunks)));
    duplex.once('error', reject);
  });
}

function pattern(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 9)) & 0xff));
}

describe('a dial', () => {
  test('carries what was written before the circuit was there, and ends cleanly', async () => {
    const h = new Harness(1);
    const connection = h.dialer.connect(target, {});
    const data = pattern(300_000);
    connection.duplex.end(data);
    const received = collect(connection.duplex);
    assert.deepEqual(await h.until(connection.connected), { address: '192.0.2.1', port: 1234, family: 4 });
    assert.deepEqual(await h.until(received), data);
    assert.deepEqual(
      connection.path(),
      h.paths[0]!.map((node) => Buffer.from(node.contact.nodeId).toString('hex')),
    );
    assert.equal(connection.circuit(), h.dialer.circuits()[0]!.circuit);
    assert.deepEqual(h.asked, [{ hops: 3, class: 'fast', needExit: target }]);
    const kinds = h.told.filter((message) => message.type === 'stream').map((message) => message.kind);
    assert.deepEqual(kinds, ['opened', 'connected', 'closed']);
    assert.equal(h.dialer.active, 0);
    const [circuit] = h.dialer.circuits();
    assert.equal(circuit!.bytesSent, data.length);
    assert.equal(circuit!.bytesReceived, data.length);
    assert.equal(circuit!.streams, 0);
  });

  test('lists its stream while it is open', async () => {
    const h = new Harness(2);
    const connection = h.dialer.forSource('socks').connect(target, {});
    await h.until(connection.connected);
    const [info] = h.dialer.streams();
    assert.equal(info!.id, 2 * 2 ** 32 + 1);
    assert.equal(info!.target, 'target.test:80');
    assert.equal(info!.source, 'socks');
    assert.equal(info!.state, 'open');
    connection.duplex.destroy();
    await h.until(once(connection.duplex, 'close'));
    assert.equal(h.dialer.streams().length, 0);
  });

  test('says what the exit found out about the target', async () => {
    const codes: readonly [number, DialErrorCode][] = [
      [SessionError.connectRefused, 'CONNECTION_REFUSED'],
      [SessionError.connectTimeout, 'TIMEOUT'],
      [SessionError.hostUnreachable, 'HOST_UNREACHABLE'],
      [SessionError.networkUnreachable, 'NETWORK_UNREACHABLE'],
      [SessionError.resolveFailed, 'RESOLVE_FAILED'],
      [SessionError.exitPolicy, 'EXIT_POLICY'],
      [SessionError.limit, 'LIMIT'],
    ];
    let code = 0;
    const h = new Harness(3, (_exit, stream) => stream.reset(code));
    for (const [sessionError, dialError] of codes) {
      code = sessionError;
      await h.fails(h.dialer.connect(target, {}).connected, dialError);
    }
    assert.equal(h.circuitEvents('building'), 1, 'a refusal by the target says nothing against the circuit');
  });

  test('is made once more over another path when the circuit fails, with the same bytes', async () => {
    const h = new Harness(4);
    const [first] = h.exits;
    first!.down = true;
    const connection = h.dialer.connect(target, { timeoutMs: 60_000 });
    const data = pattern(40_000);
    connection.duplex.end(data);
    assert.deepEqual(await h.until(collect(connection.duplex)), data);
    assert.equal(h.asked.length, 2);
    assert.equal(h.circuitEvents('ended'), 1);
    assert.deepEqual(
      connection.path(),
      h.paths[1]!.map((node) => Buffer.from(node.contact.nodeId).toString('hex')),
    );
  });

  test('fails with PATH_FAILED when no path comes up in its time', async () => {
    const h = new Harness(5);
    for (const exit of h.exits) exit.down = true;
    const error = await h.fails(h.dialer.connect(target, {}).connected, 'PATH_FAILED');
    assert.match(error.message, /unreachable/);
    const tookMs = h.network.nowMs - 1000;
    assert.ok(tookMs >= RACE_MS && tookMs < RACE_MS + 10_000, `after ${tookMs} ms`);
    assert.ok(h.asked.length > 12 && h.asked.length <= MAX_ATTEMPTS, `${h.asked.length} paths were asked for`);
  });

  test('outlives every path of its race that fails, as long as there is time', async () => {
    const h = new Harness(9);
    const [m0, m1, m2, m3] = h.mixes as [SimNode, SimNode, SimNode, SimNode];
    const [e0, e1] = h.exits as [SimNode, SimNode];
    e0.down = true;
    // Far more than a few of them lead to the dead exit, and the first ones have ended before the last begins.
    const dead = [m0, m1, e0];
    h.paths = [...Array.from({ length: 9 }, () => dead), [m2, m3, e1]];
    await h.until(h.dialer.connect(target, {}).connected);
    assert.equal(h.asked.length, 10);
    assert.ok(h.network.nowMs - 1000 < RACE_MS, `${h.network.nowMs}`);
  });

  test('goes on when the first hop of every path so far refuses it', async () => {
    const h = new Harness(10);
    const [m0, m1, m2, m3] = h.mixes as [SimNode, SimNode, SimNode, SimNode];
    const [e0, e1] = h.exits as [SimNode, SimNode];
    const { engine } = h.client;
    const build = engine.buildCircuit.bind(engine);
    // What the engine says of a path that cannot be built at all.
    engine.buildCircuit = (request, owner, nowMs) => {
      if (request.hops[0] === m0.contact) throw new RangeError('a hop without usable keys');
      return build(request, owner, nowMs);
    };
    h.paths = [...Array.from({ length: 4 }, () => [m0, m1, e0]), [m2, m3, e1]];
    const startedMs = h.network.nowMs;
    await h.until(h.dialer.connect(target, {}).connected);
    const tookMs = h.network.nowMs - startedMs;
    assert.ok(tookMs > 200 && tookMs < 2000, `${tookMs} ms`);
  });

  test('does not repeat itself once the target has answered', async () => {
    const h = new Harness(6);
    const connection = h.dialer.connect(target, {});
    await h.until(connection.connected);
    h.client.engine.closeCircuit(connection.circuit()!, 1, h.network.nowMs);
    const [error] = (await h.until(once(connection.duplex, 'error'))) as [DialError];
    assert.equal(error.code, 'SESSION_LOST');
    assert.equal(h.asked.length, 1);
  });

  test('without a path fails with NO_PATH, out of range with BAD_REQUEST', async () => {
    const h = new Harness(7);
    h.paths = [];
    await h.fails(h.dialer.connect(target, {}).connected, 'NO_PATH');
    for (const port of [0, 65_536, 1.5]) {
      await h.fails(h.dialer.connect({ host: 'a', port }, {}).connected, 'BAD_REQUEST');
    }
    await h.fails(h.dialer.connect({ host: '', port: 1 }, {}).connected, 'BAD_REQUEST');
    await h.fails(h.dialer.connect({ host: 'x'.repeat(256), port: 1 }, {}).connected, 'BAD_REQUEST');
    for (const hops of [2, 8]) await h.fails(h.dialer.connect(target, { hops }).connected, 'BAD_REQUEST');
    await h.fails(h.dialer.connect(target, { circuit: 77 }).connected, 'BAD_REQUEST');
    h.dialer.stopAccepting();
    await h.fails(h.dialer.connect(target, {}).connected, 'SHUTDOWN');
  });

  test('can be given up, before and while it runs', async () => {
    const h = new Harness(8, () => {}); // an exit that never answers
    const gone = new DialError('CANCELLED', 'gone');
    await h.fails(h.dialer.connect(target, {}, AbortSignal.abort(gone)).connected, 'CANCELLED');
    const abort = new AbortController();
    const connection = h.dialer.connect(target, {}, abort.signal);
    h.network.run(h.network.nowMs + 500);
    abort.abort(gone);
    await h.fails(connection.connected, 'CANCELLED');
    const slow = h.dialer.connect(target, { timeoutMs: 1 });
    await h.fails(slow.connected, 'TIMEOUT');
    assert.equal(h.dialer.active, 0);
  });

  test('an association says what became of its own datagrams, and why it ended', async () => {
    const h = new Harness(23);
    const [first, second] = await h.until(
      Promise.all([h.dialer.datagrams({ deadlineMs: 50 }), h.dialer.datagrams({})]),
    );
    assert.equal(first.circuit, second.circuit, 'both in one session');
    const answer = new Promise<void>((resolve) => {
      first.onMessage = () => resolve();
    });
    first.send('dns.test', 53, Buffer.from('query'));
    first.send('dns.test', 53, new Uint8Array(1200));
    await h.until(answer);
    const none = {
      ...{ expiredSending: 0, droppedSending: 0, expiredReceiving: 0, droppedReceiving: 0 },
      ...{ exitArrived: 0, exitExpired: 0, exitDropped: 0, exitAnswersDropped: 0 },
    };
    assert.deepEqual(first.counts, { ...none, sent: 1, received: 1, droppedSending: 1 });
    assert.deepEqual(second.counts, { ...none, sent: 0, received: 0 });
    // More than may be on the way at once: the others wait for longer than they may.
    // Of what finds no room one of the same session learns nothing: it has its share, and its turn.
    for (let i = 0; i < 120; i++) first.send('dns.test', 53, new Uint8Array(1000), 1);
    const behind = new Promise<void>((resolve) => {
      second.onMessage = () => resolve();
    });
    assert.ok(second.send('dns.test', 53, Buffer.from('query')));
    await h.until(behind);
    assert.equal(first.counts.sent, 1 + 96);
    assert.equal(first.counts.droppedSending, 1 + 24);
    assert.ok(first.counts.expiredSending > 20, `${first.counts.expiredSending} expired`);
    assert.deepEqual(second.counts, { ...none, sent: 1, received: 1 });
    const ends = [first, second].map(
      (association) =>
        new Promise<DialError | undefined>((resolve) => {
          association.onClose = resolve;
        }),
    );
    first.send('idle.test', 1, Buffer.of(1));
    assert.equal((await h.until(ends[0]!))?.code, 'RESET', 'the exit has ended it');
    assert.equal(h.dialer.closeAll(), 1);
    assert.equal((await h.until(ends[1]!))?.code, 'SHUTDOWN');
  });
});

describe('a circuit', () => {
  test('is shared by dials of one key, those at the same time included, and by no others', async () => {
    const h = new Harness(10);
    const dials = [
      h.dialer.connect(target, { isolation: 'a' }),
      h.dialer.connect({ host: 'other.test', port: 443 }, { isolation: 'a' }),
      h.dialer.connect(target, { isolation: 'b' }),
    ];
    await h.until(Promise.all(dials.map((dial) => dial.connected)));
    const later = h.dialer.connect(target, { isolation: 'a' });
    await h.until(later.connected);
    const [a, a2, b] = dials.map((dial) => dial.circuit());
    assert.equal(a, a2);
    assert.notEqual(a, b);
    assert.equal(later.circuit(), a);
    assert.equal(h.asked.length, 2);
    // Another length is another circuit, whatever the key.
    h.paths = [[...h.mixes, h.exits[0]!]];
    const longer = h.dialer.connect(target, { isolation: 'a', hops: 5 });
    await h.until(longer.connected);
    assert.notEqual(longer.circuit(), a);
  });

  test('whose exit refuses the target is replaced by one that was asked for it', async () => {
    const h = new Harness(11, (exit, stream, session) => {
      if (exit === 'exit 0' && stream.target.port === 25) stream.reset(SessionError.exitPolicy);
      else echo(exit, stream, session);
    });
    const web = h.dialer.connect(target, {});
    await h.until(web.connected);
    const mail = h.dialer.connect({ host: 'mail.test', port: 25 }, {});
    mail.duplex.end('EHLO');
    assert.equal((await h.until(collect(mail.duplex))).toString(), 'EHLO');
    assert.notEqual(mail.circuit(), web.circuit());
    assert.deepEqual(h.asked[1]!.needExit, { host: 'mail.test', port: 25 });
    // From now on port 25 goes there at once.
    const again = h.dialer.connect({ host: 'mail2.test', port: 25 }, {});
    await h.until(again.connected);
    assert.equal(again.circuit(), mail.circuit());
    assert.equal(h.asked.length, 2);
  });

  test('takes no new streams after ten minutes, and is closed when the last one has ended', async () => {
    const h = new Harness(12);
    const old = h.dialer.connect(target, {});
    await h.until(old.connected);
    h.network.run(h.network.nowMs + CIRCUIT_DIRTY_MS + 1);
    h.dialer.sweep(h.network.nowMs);
    const young = h.dialer.connect(target, {});
    await h.until(young.connected);
    assert.notEqual(young.circuit(), old.circuit());
    assert.equal(h.circuitEvents('ended'), 0, 'a stream is on it');
    old.duplex.destroy();
    await h.until(once(old.duplex, 'close'));
    h.dialer.sweep(h.network.nowMs);
    assert.equal(h.circuitEvents('ended'), 1);
    young.duplex.destroy();
    await h.until(once(young.duplex, 'close'));
    h.dialer.sweep(h.network.nowMs);
    assert.equal(h.circuitEvents('ended'), 1, 'young and idle: kept');
    h.network.run(h.network.nowMs + CIRCUIT_DIRTY_MS + 1);
    h.dialer.sweep(h.network.nowMs);
    assert.equal(h.dialer.circuits().length, 0);
  });

  test('beyond the limit takes the place of an idle one, or fails with LIMIT', async () => {
    const h = new Harness(13, echo, 1);
    const first = h.dialer.connect(target, { isolation: 'a' });
    await h.until(first.connected);
    await h.fails(h.dialer.connect(target, { isolation: 'b' }).connected, 'LIMIT');
    first.duplex.destroy();
    await h.until(once(first.duplex, 'close'));
    await h.until(h.dialer.connect(target, { isolation: 'b' }).connected);
    assert.equal(h.dialer.circuits().length, 1);
  });

  test('built on purpose is used by its number and not otherwise', async () => {
    const h = new Harness(14);
    const hops = h.paths[1]!.map((node) => node.contact);
    const built = await h.until(h.dialer.build(hops, { hops: 3, class: 'fast', needExit: undefined }));
    assert.ok(built.setupMs > 0);
    const chosen = h.dialer.connect(target, { circuit: built.circuit });
    const other = h.dialer.connect(target, {});
    await h.until(Promise.all([chosen.connected, other.connected]));
    assert.equal(chosen.circuit(), built.circuit);
    assert.notEqual(other.circuit(), built.circuit);
    h.exits[0]!.down = true;
    const dead = h.dialer.build(
      h.paths[0]!.map((node) => node.contact),
      { hops: 3, class: 'fast', needExit: undefined },
    );
    await h.fails(dead, 'PATH_FAILED');
    await h.fails(h.dialer.build(hops.slice(1), { hops: 3, class: 'fast', needExit: undefined }), 'BAD_REQUEST');
    assert.equal(h.dialer.pool.addedLatencyMs('cmix', 3), 3 * (200 + 100 + 30));
  });

  test('of class mix have hops and a latency of their own, and share nothing with the fast ones', async () => {
    const h = new Harness(21);
    const [m0, m1, m2, m3] = h.mixes as [SimNode, SimNode, SimNode, SimNode];
    const [e0, e1] = h.exits as [SimNode, SimNode];
    h.paths = [
      [m0, m1, m2, m3, e0],
      [m0, m1, e1],
    ];
    const mixed = h.dialer.connect(target, { class: 'mix' });
    assert.equal(mixed.addedLatencyMs, 100, 'five hops of 20 ms, known before anything else');
    assert.deepEqual(h.asked[0], { hops: 5, class: 'mix', needExit: target });
    await h.until(mixed.connected);
    const fast = h.dialer.connect(target, {});
    assert.equal(fast.addedLatencyMs, 0);
    await h.until(fast.connected);
    assert.notEqual(fast.circuit(), mixed.circuit());
    const again = h.dialer.connect(target, { class: 'mix' });
    await h.until(again.connected);
    assert.equal(again.circuit(), mixed.circuit());
    const given = h.dialer.connect(target, { circuit: mixed.circuit()! });
    assert.equal(given.addedLatencyMs, 100, 'that of the circuit asked for');
    await h.until(given.connected);
    await h.fails(h.dialer.connect(target, { circuit: mixed.circuit()!, class: 'fast' }).connected, 'BAD_REQUEST');
    assert.ok(m0.engine.mix.released > 0);
    const [listed] = h.dialer.circuits();
    assert.deepEqual([listed!.class, listed!.addedLatencyMs], ['mix', 100]);
    assert.ok(listed!.rttMs! > 100, `${listed!.rttMs}`);
  });

  test('under memory pressure the idle one goes first, then the oldest', async () => {
    const h = new Harness(15);
    const [a, b] = ['a', 'b'].map((isolation) => h.dialer.connect(target, { isolation }));
    await h.until(Promise.all([a!.connected, b!.connected]));
    b!.duplex.destroy();
    await h.until(once(b!.duplex, 'close'));
    assert.notEqual(h.dialer.pool.shed(), undefined);
    assert.deepEqual(
      h.dialer.circuits().map((circuit) => circuit.circuit),
      [a!.circuit()],
    );
    assert.notEqual(h.dialer.pool.shed(), undefined);
    assert.equal(h.dialer.pool.shed(), undefined);
    const [error] = (await h.until(once(a!.duplex, 'error'))) as [DialError];
    assert.equal(error.code, 'SESSION_LOST');
  });
});

describe('a path that does not answer', () => {
  const idsOf = (...nodes: SimNode[]) => nodes.map((node) => Buffer.from(node.contact.nodeId).toString('hex'));

  test('gets company after a second, later after a few times the usual set-up; the first to be ready wins', async () => {
    const h = new Harness(30);
    const [m0, m1, m2, m3] = h.mixes as [SimNode, SimNode, SimNode, SimNode];
    const [e0, e1] = h.exits as [SimNode, SimNode];
    e0.down = true;
    const startedMs = h.network.nowMs;
    const connection = h.dialer.connect(target, {});
    const data = pattern(20_000);
    connection.duplex.end(data);
    assert.deepEqual(await h.until(collect(connection.duplex)), data);
    assert.ok(h.network.nowMs - startedMs < 1200, `${h.network.nowMs - startedMs} ms`);
    // The link to the guard is up: what is behind it is avoided.
    assert.deepEqual(h.asked[1]!.avoid, idsOf(m1, e0));
    assert.deepEqual(connection.path(), idsOf(m2, m3, e1));
    assert.equal(h.circuitEvents('ended'), 1);
    assert.deepEqual(
      h.dialer.circuits().map(({ circuit }) => circuit),
      [connection.circuit()],
    );

    // Other isolation, so another circuit: by now it is known how fast set-ups are here, and whom to avoid.
    h.paths = [[], [], [m0, m1, e0], [m0, m2, e0], [m0, m3, e1]];
    const againMs = h.network.nowMs;
    const again = h.dialer.connect(target, { isolation: 'b' });
    await h.until(again.connected);
    assert.ok(h.network.nowMs - againMs < 800, `${h.network.nowMs - againMs} ms`);
    assert.deepEqual(h.asked[2]!.avoid, idsOf(m1, e0));
    assert.deepEqual(again.path(), idsOf(m0, m3, e1));
    assert.equal(h.circuitEvents('ended'), 3);
  });

  test('is left with its guard when that is what is silent', async () => {
    const h = new Harness(31);
    const [m0] = h.mixes as [SimNode];
    m0.down = true;
    const startedMs = h.network.nowMs;
    await h.until(h.dialer.connect(target, {}).connected);
    assert.ok(h.network.nowMs - startedMs < 1200);
    assert.deepEqual(h.asked[1]!.avoid, idsOf(m0), 'and nobody behind it is suspected');
  });

  test('does not hold up a look-up or an association either', async () => {
    const h = new Harness(32);
    h.exits[0]!.down = true;
    const [dead, alive] = h.paths as [SimNode[], SimNode[]];
    h.paths = [dead, dead, alive, alive];
    const startedMs = h.network.nowMs;
    await h.until(Promise.all([h.dialer.resolve('address', '192.0.2.9', {}), h.dialer.datagrams({ isolation: 'b' })]));
    assert.ok(h.network.nowMs - startedMs < 2500, `${h.network.nowMs - startedMs} ms`);
  });

  test('is no reason to try more than a few others, and none at all once the dial was given up and it answers', async () => {
    const h = new Harness(33);
    for (const exit of h.exits) exit.down = true;
    const connection = h.dialer.connect(target, {});
    await h.pass(2500);
    assert.ok(h.asked.length >= 3 && h.asked.length < MAX_IDLE_ATTEMPTS, `${h.asked.length}`);
    connection.duplex.destroy();
    await h.pass(RACE_MS);
    assert.ok(h.asked.length <= MAX_IDLE_ATTEMPTS, `${h.asked.length}`);
    const quick = new Harness(34);
    await quick.until(quick.dialer.connect(target, {}).connected);
    await quick.pass(5000);
    assert.equal(quick.asked.length, 1);
  });

  test('although it was ready, is replaced under a dial after a short time, and left alone', async () => {
    const h = new Harness(35);
    const first = h.dialer.connect(target, {});
    await h.until(first.connected);
    const [m1] = h.mixes.slice(1) as [SimNode];
    // Nothing gets through the middle; its links stay up.
    h.network.cut = (a, b) => (a === m1 && b === h.exits[0]) || (b === m1 && a === h.exits[0]);
    const startedMs = h.network.nowMs;
    const second = h.dialer.connect(target, {});
    const data = pattern(20_000);
    second.duplex.end(data);
    assert.deepEqual(await h.until(collect(second.duplex)), data);
    assert.ok(h.network.nowMs - startedMs < 1500, `${h.network.nowMs - startedMs} ms`);
    // Whichever came first, another circuit for the session or another session: both streams live.
    assert.ok(!first.duplex.destroyed);
    const third = h.dialer.connect(target, {});
    await h.until(third.connected);
  });

  test('is replaced under a stream that lives: nothing is lost, and it says over which path it goes now', async () => {
    const h = new Harness(37);
    const connection = h.dialer.connect(target, {});
    await h.until(connection.connected);
    const before = { circuit: connection.circuit(), path: connection.path() };
    const data = pattern(5_000_000);
    const received = collect(connection.duplex);
    connection.duplex.end(data);
    await h.pass(8);
    assert.ok(connection.duplex.writableLength > 0, 'it is under way');
    h.mixes[1]!.down = true;
    const diedMs = h.network.nowMs;
    assert.deepEqual(await h.until(received), data);
    assert.ok(h.network.nowMs - diedMs < 4000, `${h.network.nowMs - diedMs} ms`);
    assert.ok(h.resumed.length >= 1);
    assert.equal(h.resumed[0]!.lastHop, idOf(h.exits[0]!));
    assert.notEqual(connection.circuit(), before.circuit);
    assert.ok(!connection.path().includes(idOf(h.mixes[1]!)), 'not over the dead one');
    assert.equal(connection.path().at(-1), before.path.at(-1));
    // New dials share it.
    const next = h.dialer.connect(target, {});
    await h.until(next.connected);
    assert.equal(next.circuit(), connection.circuit());
    assert.equal(h.asked.length, 1);
  });

  for (const guardDies of [false, true]) {
    const then = guardDies
      ? 'is replaced once it is back, when the guard died meanwhile'
      : 'stays when it answers then';
    test(`is not replaced while the client has no network, and ${then}`, async () => {
      const h = new Harness(43);
      const connection = h.dialer.connect(target, {});
      await h.until(connection.connected);
      const circuit = connection.circuit();
      const data = pattern(5_000_000);
      const received = collect(connection.duplex);
      connection.duplex.end(data);
      await h.pass(8);
      h.isAway = true;
      h.network.cut = (a, b) => a === h.client || b === h.client;
      await h.pass(2500);
      assert.equal(h.resumed.length, 0, 'there is no way to build one');
      h.mixes[0]!.down = guardDies;
      h.isAway = false;
      h.network.cut = undefined;
      h.client.engine.networkChanged(h.network.nowMs);
      const backMs = h.network.nowMs;
      assert.deepEqual(await h.until(received), data);
      assert.equal(connection.circuit() === circuit, !guardDies);
      assert.equal(h.resumed.length > 0, guardDies);
      assert.ok(h.network.nowMs - backMs < 4000, `${h.network.nowMs - backMs} ms`);
    });
  }

  test('lets datagrams go on over another circuit, from the same socket of the exit', async () => {
    const h = new Harness(40);
    const association = await h.until(h.dialer.datagrams({}));
    const { circuit } = association.circuit;
    let answered = () => {};
    association.onMessage = () => answered();
    association.onClose = (error) => assert.fail(String(error));
    /** Sends until something comes back: what was under way is lost. */
    const answer = async () => {
      let came = false;
      answered = () => {
        came = true;
      };
      while (!came) {
        association.send('dns.test', 53, Buffer.from('query'));
        await h.pass(50);
      }
    };
    await answer();
    await h.pass(200);
    h.mixes[1]!.down = true;
    await answer();
    assert.equal(h.resumed.length, 1);
    assert.notEqual(association.circuit.circuit, circuit);
    assert.ok(!association.circuit.path.includes(idOf(h.mixes[1]!)));
    assert.equal(association.counts.expiredSending, 0);
  });

  test('is replaced although the first paths tried for that are dead, too: none of their nodes is tried again', async () => {
    const h = new Harness(40, echo, 100, 0, 8);
    const connection = h.dialer.connect(target, {});
    await h.until(connection.connected);
    const data = pattern(3_000_000);
    const received = collect(connection.duplex);
    connection.duplex.end(data);
    await h.pass(8);
    // The middle of its path, and those that are given out first.
    const [, m1, , , , , m6, m7] = h.mixes as SimNode[];
    const dead = [m1!, m6!, m7!];
    h.network.cut = (a, b) => dead.includes(a) || dead.includes(b);
    assert.deepEqual(await h.until(received), data);
    const [, second] = h.resumed;
    assert.ok(second!.avoid!.includes(idsOf(m6!)[0]!), 'the first hop of the first attempt did not even answer');
  });

  test('has a session given up in time when there is no other way to its last hop', async () => {
    const h = new Harness(38);
    const connection = h.dialer.connect(target, {});
    await h.until(connection.connected);
    for (const mix of h.mixes) mix.down = true;
    const failed = assert.rejects(collect(connection.duplex), (error: DialError) => error.code === 'SESSION_LOST');
    const diedMs = h.network.nowMs;
    await h.until(failed, 30_000);
    assert.ok(h.network.nowMs - diedMs < 20_000, `${h.network.nowMs - diedMs} ms`);
    assert.equal(h.dialer.pool.size, 0);
  });

  test('under nobody is not replaced', async () => {
    const h = new Harness(39);
    const connection = h.dialer.connect(target, {});
    await h.until(connection.connected);
    connection.duplex.destroy();
    await h.pass(100);
    h.mixes[1]!.down = true;
    await h.pass(8000);
    assert.equal(h.resumed.length, 0);
    assert.equal(h.dialer.pool.size, 0);
  });

  test('is not what a slow target looks like', async () => {
    const h = new Harness(36, (exit, stream, session) => {
      if (stream.target.port === 80) echo(exit, stream, session);
    });
    await h.until(h.dialer.connect(target, {}).connected);
    const slow = h.dialer.connect({ host: 'slow.test', port: 81 }, {});
    slow.duplex.write('hello');
    await h.pass(10_000);
    assert.equal(h.asked.length, 1);
    assert.equal(h.circuitEvents('building'), 1);
    slow.duplex.destroy();
  });
});

describe('circuits built ahead', () => {
  /** Housekeeping as in the worker: four times a second. */
  async function keep(h: Harness, durationMs: number): Promise<void> {
    for (const endMs = h.network.nowMs + durationMs; h.network.nowMs < endMs; ) {
      h.dialer.sweep(h.network.nowMs);
      await h.pass(250);
    }
  }

  test('make the first dial of a user free of set-up, and are replaced', async () => {
    const h = new Harness(40, echo, 100, 2);
    await keep(h, 1000);
    assert.equal(h.circuitEvents('ready'), 2);
    assert.equal(h.asked.length, 2);
    assert.equal(h.asked[0]!.needExit, undefined);
    const startedMs = h.network.nowMs;
    const [a, b] = [h.dialer.connect(target, { isolation: 'a' }), h.dialer.connect(target, { isolation: 'b' })];
    await h.until(Promise.all([a.connected, b.connected]));
    assert.ok(h.network.nowMs - startedMs <= 10, 'one round trip');
    assert.equal(h.asked.length, 2, 'no path was needed');
    assert.notEqual(a.circuit(), b.circuit());
    const more = h.dialer.connect(target, { isolation: 'a' });
    await h.until(more.connected);
    assert.equal(more.circuit(), a.circuit(), "it is that user's now");
    await keep(h, 1000);
    assert.equal(h.circuitEvents('ready'), 4);
    // Other lengths and classes are built for whoever asks.
    h.paths = [[...h.mixes, h.exits[0]!]];
    const longer = h.dialer.connect(target, { hops: 5 });
    await h.until(longer.connected);
    assert.equal(longer.path().length, 5);
    assert.equal(h.asked.length, 5);
  });

  test("are replaced when they die and when they are old; nobody's stream is on an old one", async () => {
    const h = new Harness(41, echo, 100, 2);
    await keep(h, 1000);
    h.client.engine.closeCircuit(h.dialer.circuits()[0]!.circuit, 1, h.network.nowMs);
    await keep(h, 500);
    assert.equal(h.dialer.circuits().length, 2);
    h.network.run(h.network.nowMs + CIRCUIT_DIRTY_MS + 1);
    await keep(h, 1000);
    const circuits = h.dialer.circuits();
    assert.equal(circuits.length, 2);
    assert.ok(circuits.every(({ ageMs }) => ageMs < 2000));
    // Its ten minutes begin when it is taken.
    h.network.run(h.network.nowMs + CIRCUIT_DIRTY_MS - 5000);
    const late = h.dialer.connect(target, {});
    await h.until(late.connected);
    await keep(h, 8000);
    const next = h.dialer.connect(target, {});
    await h.until(next.connected);
    assert.equal(next.circuit(), late.circuit());
  });

  test('are asked for ever less often when none can be had, and at once after a dial got through', async () => {
    const h = new Harness(42, echo, 100, 1);
    h.paths = [];
    await keep(h, 60_000);
    assert.ok(h.asked.length > 4 && h.asked.length < 12, `${h.asked.length}`);
    const before = h.asked.length;
    h.paths = [[...h.mixes.slice(0, 2), h.exits[0]!]];
    await h.until(h.dialer.connect(target, { hops: 3, isolation: 'a' }).connected);
    await keep(h, 500);
    assert.equal(h.asked.length, before + 2);
  });

  test('are not kept for somebody who has not dialled in an hour, nor while shutting down', async () => {
    const h = new Harness(43, echo, 100, 1);
    await keep(h, 500);
    h.network.run(h.network.nowMs + SPARES_WANTED_MS);
    await keep(h, 1000);
    assert.equal(h.dialer.circuits().length, 0);
    await h.until(h.dialer.connect(target, {}).connected);
    await keep(h, 500);
    assert.equal(h.dialer.circuits().length, 2);
    h.dialer.stopAccepting();
    h.client.engine.closeCircuit(h.dialer.circuits()[1]!.circuit, 1, h.network.nowMs);
    await keep(h, 1000);
    assert.equal(h.dialer.circuits().length, 1);
  });

  test('make room for circuits that are asked for', async () => {
    const h = new Harness(44, echo, 2, 2);
    await keep(h, 1000);
    h.paths = [[...h.mixes, h.exits[0]!]];
    await h.until(h.dialer.connect(target, { hops: 5 }).connected);
    assert.equal(h.dialer.circuits().length, 2);
    await keep(h, 1000);
    assert.equal(h.asked.length, 3, 'no spare beyond the limit');
  });

  test('whose set-up goes wrong are tried again over other paths', async () => {
    const h = new Harness(45, echo, 100, 1);
    h.exits[0]!.down = true;
    await keep(h, 3000);
    const connection = h.dialer.connect(target, {});
    const startedMs = h.network.nowMs;
    await h.until(connection.connected);
    assert.ok(h.network.nowMs - startedMs <= 10);
  });
});

describe('beside streams', () => {
  test('names and addresses are resolved at the exit', async () => {
    const h = new Harness(20);
    const byName = await h.until(h.dialer.resolve('name', 'nine.test', {}));
    assert.deepEqual(byName.addresses, [{ family: 4, address: '192.0.2.9', ttlSeconds: 60 }]);
    assert.equal((await h.until(h.dialer.resolve('address', '192.0.2.9', {}))).name, 'nine.test');
    await h.fails(h.dialer.resolve('name', 'nowhere.test', {}), 'RESOLVE_FAILED');
    await h.fails(h.dialer.resolve('name', '', {}), 'BAD_REQUEST');
    assert.equal(h.asked.length, 1);
    assert.equal(h.dialer.circuits()[0]!.streams, 0);
  });

  test('a look-up is repeated over another path when the circuit fails', async () => {
    const h = new Harness(21);
    h.exits[0]!.down = true;
    const { name } = await h.until(h.dialer.resolve('address', '192.0.2.9', {}));
    assert.equal(name, 'nine.test');
    assert.equal(h.asked.length, 2);
  });

  test('datagrams travel both ways, each with its address', async () => {
    const h = new Harness(22);
    const association = await h.until(h.dialer.datagrams({}));
    assert.equal(association.port, 999);
    const received = new Promise((resolve) => {
      association.onMessage = (host, port, data) => resolve([host, port, Buffer.from(data).toString()]);
    });
    assert.ok(association.send('dns.test', 53, Buffer.from('query')));
    assert.deepEqual(await h.until(received), ['198.51.100.7', 53, 'query']);
    assert.equal(association.send('', 53, Buffer.from('x')), false);
    assert.equal(association.send('dns.test', 53, new Uint8Array(1200)), false, 'more than a cell holds');
    let ends = 0;
    association.onClose = () => ends++;
    assert.equal(h.dialer.active, 1);
    association.close();
    association.close();
    assert.equal(ends, 1);
    assert.equal(association.send('dns.test', 53, Buffer.from('x')), false);
    assert.equal(h.dialer.active, 0);
  });
});

function idOf(node: SimNode): string {
  return Buffer.from(node.contact.nodeId).toString('hex');
}

describe('a session on several paths', () => {
  const changes = (h: Harness) => h.told.flatMap((message) => (message.type === 'path' ? [message] : []));
  const sees = (h: Harness) => h.dialer.circuits()[0]!;
  const usable = (h: Harness) => sees(h).paths.filter(({ state }) => state === 'usable');

  test('has as many as were asked for, without a common node but the last, and says so', async () => {
    const h = new Harness(60, echo, 100, 0, 8);
    const connection = h.dialer.connect(target, { paths: 3, strategy: 'redundant' });
    await h.until(connection.connected);
    await h.pass(2000);
    assert.equal(usable(h).length, 3);
    assert.equal(sees(h).wantedPaths, 3);
    assert.equal(sees(h).strategy, 'redundant');
    const inner = sees(h).paths.flatMap(({ path }) => path.slice(0, -1));
    assert.equal(new Set(inner).size, 6);
    assert.equal(new Set(sees(h).paths.map(({ path }) => path.at(-1))).size, 1);
    assert.deepEqual(
      changes(h).map(({ kind, paths }) => [kind, paths]),
      [
        ['added', 2],
        ['added', 3],
      ],
    );
    const data = pattern(400_000);
    connection.duplex.end(data);
    assert.deepEqual(await h.until(collect(connection.duplex)), data);
    assert.ok(sees(h).paths.some(({ copiedBytes }) => copiedBytes > 0));
  });

  test('gets another one for each that dies, while data flows', async () => {
    const h = new Harness(61, echo, 100, 0, 10);
    const connection = h.dialer.connect(target, { paths: 2 });
    const received = collect(connection.duplex);
    await h.until(connection.connected);
    await h.pass(1000);
    const data = pattern(600_000);
    for (let i = 0; i < 2; i++) {
      connection.duplex.write(data.subarray(i * 200_000, (i + 1) * 200_000));
      const [victim] = usable(h);
      h.mixes.find((node) => idOf(node) === victim!.path[1])!.down = true;
      await h.pass(6000);
      assert.equal(usable(h).length, 2, `after ${i + 1}`);
    }
    connection.duplex.end(data.subarray(400_000));
    assert.deepEqual(await h.until(received), data);
    const kinds = changes(h).map(({ kind }) => kind);
    assert.equal(kinds.filter((kind) => kind === 'lost').length, 2);
    assert.equal(kinds.filter((kind) => kind === 'replaced' || kind === 'added').length, 3);
    assert.ok(changes(h).every(({ session }) => session === changes(h)[0]!.session));
  });

  test('goes on with fewer where the network has no more, and asks less and less often', async () => {
    const h = new Harness(62, echo, 100, 0, 4);
    await h.until(h.dialer.connect(target, { paths: 8 }).connected);
    for (let i = 0; i < 40; i++) {
      await h.pass(250);
      h.dialer.sweep(h.network.nowMs);
    }
    assert.equal(usable(h).length, 2);
    assert.ok(h.resumed.length > 2 && h.resumed.length < 9, `${h.resumed.length} paths were asked for`);
  });

  test('is nobody else’s who asked for another number, and numbers out of range are refused', async () => {
    const h = new Harness(63, echo, 100, 0, 8);
    const two = h.dialer.connect(target, { paths: 2 });
    const one = h.dialer.connect(target, {});
    await h.until(Promise.all([two.connected, one.connected]));
    assert.notEqual(two.circuit(), one.circuit());
    for (const paths of [0, 9, 1.5]) await h.fails(h.dialer.connect(target, { paths }).connected, 'BAD_REQUEST');
    await h.fails(h.dialer.connect(target, { paths: 2, circuit: one.circuit()! }).connected, 'BAD_REQUEST');
    // @ts-expect-error a strategy that there is not
    await h.fails(h.dialer.connect(target, { strategy: 'fastest' }).connected, 'BAD_REQUEST');
  });

  test('builds no further path while nobody uses it', async () => {
    const h = new Harness(64, echo, 100, 0, 8);
    const connection = h.dialer.connect(target, { paths: 2 });
    await h.until(connection.connected);
    await h.pass(1000);
    connection.duplex.destroy();
    await h.pass(500);
    const victim = usable(h)[0]!;
    h.client.engine.closeCircuit(victim.circuit, 0, h.network.nowMs);
    for (let i = 0; i < 10; i++) {
      await h.pass(250);
      h.dialer.sweep(h.network.nowMs);
    }
    assert.equal(sees(h).paths.length, 1);
  });
});
