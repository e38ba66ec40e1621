/**
 * Random worlds for a pair of sessions: every stream delivers exactly what was written, or ends with an error.
 * NYX_SIM_SEED=<n> runs one seed again; NYX_SIM_SEEDS=<n> sets how many.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SessionStream } from '@nyx/core/stream/contract.ts';
import { fillPattern, firstMismatch, SeededRandom, SessionPair, type WayOptions } from './stream-sim.ts';

const SEEDS = Number(process.env.NYX_SIM_SEEDS ?? 1500);
const ONE_SEED = process.env.NYX_SIM_SEED;
/** A run that takes longer than this in virtual time hangs. */
const LIMIT_MS = 600_000;

interface Side {
  readonly toWrite: number;
  written: number;
  read: number;
  ended: boolean;
  closes: number;
  code: number | undefined;
}

function newSide(toWrite: number): Side {
  return { toWrite, written: 0, read: 0, ended: false, closes: 0, code: undefined };
}

/** Writes its pattern, reads the other's, and keeps the book. */
function drive(stream: SessionStream, side: Side, other: Side, salt: number, pair: SessionPair): void {
  const { clock, random } = pair;
  const chunk = new Uint8Array(random.integer(1, 20_000));
  const into = new Uint8Array(random.integer(1, 30_000));
  const readSome = random.chance(0.2);
  const write = (): void => {
    while (side.written < side.toWrite) {
      const piece = chunk.subarray(0, Math.min(chunk.length, side.toWrite - side.written));
      fillPattern(piece, salt, side.written);
      const accepted = stream.write(piece);
      side.written += accepted;
      if (accepted < piece.length) return;
    }
    stream.end();
  };
  const read = (): void => {
    for (;;) {
      const length = stream.read(into);
      const bad = firstMismatch(into, length, salt ^ 1, side.read);
      assert.equal(bad, -1, `stream ${stream.id}: wrong byte at ${side.read + bad}`);
      side.read += length;
      if (length === 0) break;
      if (readSome && random.chance(0.1)) {
        // Leaves the rest for later, as a busy reader does.
        clock.at(clock.nowMs + random.integer(1, 50), read);
        break;
      }
    }
    if (stream.readEnded) {
      side.ended = true;
      assert.equal(side.read, other.toWrite, `stream ${stream.id}: ended after ${side.read} bytes`);
    }
  };
  stream.onWritable = write;
  stream.onReadable = read;
  stream.onClose = (code) => {
    side.closes++;
    side.code = code;
    if (code === 0) assert.ok(side.ended, `stream ${stream.id}: closed well before the end was read`);
  };
  write();
}

function randomPath(random: SeededRandom): WayOptions {
  const kind = random.next();
  const delayMs = kind < 0.2 ? 0.1 : random.integer(1, 200);
  return {
    delayMs,
    jitterMs: random.chance(0.5) ? random.next() * delayMs * 2 : 0,
    lossRatio: random.chance(0.5) ? random.next() * 0.3 : 0,
    burstRatio: random.chance(0.2) ? 0.01 : 0,
    burstMs: 500,
    partition: random.chance(0.15) ? { fromMs: random.integer(0, 500), toMs: 10_500 } : undefined,
  };
}

function runSeed(seed: number): void {
  const random = new SeededRandom(seed);
  const streams = random.integer(1, 6);
  const sides: { client: Side; server: Side; resets: boolean }[] = [];
  const small = random.chance(0.3);
  const window = small ? 65_536 : 1_048_576;
  const options = {
    streamWindowBytes: window,
    sessionWindowBytes: window * 4,
    sendBufferBytes: random.integer(1000, 300_000),
    keepAliveMs: 0,
  };
  const serverStreams: SessionStream[] = [];
  const pair = new SessionPair({
    seed: seed ^ 0x5eed,
    up: randomPath(random),
    down: randomPath(random),
    client: options,
    server: options,
    serverHost: {
      onStream: (stream) => {
        serverStreams.push(stream);
        const entry = sides[stream.target.port];
        assert.ok(entry !== undefined);
        stream.connected(4, '192.0.2.1', 443);
        drive(stream, entry.server, entry.client, stream.target.port * 2 + 1, pair);
      },
    },
  });
  const size = (): number =>
    random.chance(0.2) ? 0 : random.integer(1, random.chance(small ? 0.25 : 0.1) ? 400_000 : 40_000);
  for (let i = 0; i < streams; i++) {
    const entry = { client: newSide(size()), server: newSide(size()), resets: random.chance(0.1) };
    sides.push(entry);
    pair.clock.at(random.integer(0, 300), () => {
      const stream = pair.client.session.openStream({ kind: 'tcp', host: 'example.org', port: i });
      assert.ok(stream !== undefined);
      drive(stream, entry.client, entry.server, i * 2, pair);
      if (entry.resets) {
        pair.clock.at(pair.clock.nowMs + random.integer(0, 1000), () => {
          const target = random.chance(0.5) ? stream : (serverStreams.find((s) => s.target.port === i) ?? stream);
          target.reset(0x20);
        });
      }
    });
  }
  const over = (): boolean =>
    pair.clock.nowMs > 300 &&
    sides.every((entry) => entry.client.closes > 0) &&
    pair.client.session.stats.streams === 0 &&
    pair.server.session.stats.streams === 0;
  const done = pair.clock.run(LIMIT_MS, over);
  const state = JSON.stringify({ client: pair.client.session.stats, server: pair.server.session.stats, sides });
  assert.ok(done, `hangs: ${state}`);
  // What is still unacknowledged settles, too.
  pair.clock.run(pair.clock.nowMs + 30_000, () => false);
  assert.deepEqual([...pair.client.closes, ...pair.server.closes], [], 'a session closed by itself');
  for (const { client, server, resets } of sides) {
    assert.equal(client.closes, 1);
    assert.ok(server.closes <= 1);
    if (resets) continue;
    assert.equal(server.closes, 1);
    assert.equal(client.code, 0, state);
    assert.equal(server.code, 0, state);
    assert.equal(client.read, server.toWrite);
    assert.equal(server.read, client.toWrite);
  }
  for (const { session } of [pair.client, pair.server]) {
    const { bufferedBytes, bytesInFlight } = session.stats;
    assert.equal(bufferedBytes, 0, 'memory is held with no stream open');
    assert.equal(bytesInFlight, 0, `in flight for ever: ${JSON.stringify(session.stats)}`);
  }
}

test('streams deliver exactly what was written through loss, reordering and partitions', () => {
  const seeds = ONE_SEED === undefined ? Array.from({ length: SEEDS }, (_, i) => i + 1) : [Number(ONE_SEED)];
  for (const seed of seeds) {
    try {
      runSeed(seed);
    } catch (error) {
      throw new Error(`NYX_SIM_SEED=${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
});
