/**
 * Sessions over several circuits: what the application wrote arrives once and in order, whichever circuits die, and
 * several of them are worth more than one. `NYX_MULTIPATH_SEEDS` sets how many random schedules are run.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SessionError } from '@nyx/core/stream/contract.ts';
import { Scheduler, schedulers } from '@nyx/core/stream/path-choice.ts';
import { MAX_REORDER_BYTES, MIN_REORDER_BYTES } from '@nyx/core/stream/reorder-limit.ts';
import { PathState } from '@nyx/core/stream/session-path.ts';
import { MultipathPair } from './multipath-sim.ts';
import { PatternReader, sendPattern, TARGET } from './pattern-transfer.ts';
import { Bottleneck, SessionPair, type WayOptions } from './stream-sim.ts';

/** A pair whose server answers every stream with `downBytes`, and reads what comes. */
function transfer(options: {
  seed: number;
  first: WayOptions;
  upBytes: number;
  downBytes: number;
  scheduler?: Scheduler;
  /** Of both sides, for one stream. */
  windowBytes?: number;
}) {
  const { upBytes, downBytes, scheduler = Scheduler.latencyWeighted, windowBytes = 4 * 1024 * 1024 } = options;
  let up: PatternReader | undefined;
  const pair: MultipathPair = new MultipathPair({
    seed: options.seed,
    first: options.first,
    // The server is told.
    client: { scheduler, streamWindowBytes: windowBytes },
    server: { streamWindowBytes: windowBytes },
    serverHost: {
      onStream: (stream) => {
        up = new PatternReader(stream, 1, () => pair.clock.nowMs);
        sendPattern(stream, 2, downBytes);
      },
    },
  });
  const stream = pair.client.openStream(TARGET)!;
  const down = new PatternReader(stream, 2, () => pair.clock.nowMs);
  sendPattern(stream, 1, upBytes);
  const done = () => down.ended && down.bytes === downBytes && up?.ended === true && up.bytes === upBytes;
  return { pair, down, up: () => up, done };
}

const near: WayOptions = { delayMs: 20 };

describe('a session over several circuits', () => {
  test('a second circuit joins and carries a share', () => {
    const way = () => ({ delayMs: 20, bottleneck: new Bottleneck(20, 60) });
    const { pair, down, done } = transfer({ seed: 1, first: way(), upBytes: 1, downBytes: 4e6 });
    pair.clock.run(200, () => false);
    const second = pair.attach(way());
    assert.equal(second.client.path.state, PathState.attaching);
    assert.ok(pair.clock.run(60_000, done), `only ${down.bytes} bytes`);
    assert.equal(second.client.path.state, PathState.usable);
    const [a, b] = pair.server.stats.paths;
    assert.ok(b!.packetsSent > 0.3 * a!.packetsSent, `${a!.packetsSent} and ${b!.packetsSent}`);
  });

  test('two equal circuits carry at least 1.7 times what one does, a third adds to it', () => {
    const rates = [1, 2, 3].map((count) => {
      const way = () => ({ delayMs: 25, bottleneck: new Bottleneck(20, 80) });
      const { pair, done } = transfer({ seed: 2, first: way(), upBytes: 1, downBytes: 16e6 });
      for (let i = 1; i < count; i++) pair.attach(way());
      assert.ok(pair.clock.run(60_000, done));
      return 16e6 / pair.clock.nowMs;
    });
    assert.ok(rates[1]! >= 1.7 * rates[0]!, `${rates[1]! / rates[0]!}`);
    assert.ok(rates[2]! >= 2.4 * rates[0]!, `${rates[2]! / rates[0]!}`);
  });

  for (const lossRatio of [0.1, 0.2]) {
    test(`three circuits over one line that loses ${lossRatio * 100} % carry what one does`, () => {
      const rates = [1, 3].map((count) => {
        const bottleneck = new Bottleneck(20, 195);
        const way = { delayMs: 10, lossRatio, bottleneck };
        let ms = 0;
        for (let seed = 21; seed < 24; seed++) {
          const { pair, done } = transfer({ seed, first: way, upBytes: 1, downBytes: 6e6 });
          for (let i = 1; i < count; i++) pair.attach(way);
          assert.ok(pair.clock.run(60_000, done));
          ms += pair.clock.nowMs;
        }
        return 6e6 / ms;
      });
      assert.ok(rates[1]! >= 0.85 * rates[0]!, `${rates[1]! / rates[0]!}`);
    });
  }

  test('a slow circuit never drags a fast one down', () => {
    const fast = () => ({ delayMs: 10, bottleneck: new Bottleneck(50, 100) });
    const alone = transfer({ seed: 3, first: fast(), upBytes: 1, downBytes: 16e6 });
    assert.ok(alone.pair.clock.run(60_000, alone.done));
    const both = transfer({ seed: 3, first: fast(), upBytes: 1, downBytes: 16e6 });
    both.pair.attach({ delayMs: 300, bottleneck: new Bottleneck(1, 40), lossRatio: 0.02 });
    assert.ok(both.pair.clock.run(60_000, both.done));
    const ratio = both.pair.clock.nowMs / alone.pair.clock.nowMs;
    assert.ok(ratio < 1.05, `${ratio} times the time`);
  });

  test('credit that comes over one circuit wakes the one that is to use it', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const sim = transfer({ seed, first: { delayMs: 20, jitterMs: 15 }, upBytes: 1, downBytes: 1e6 });
      // The first window is small: when it is full, everything waits for credit, and is silent otherwise.
      sim.pair.clock.at(seed, () => {
        sim.pair.attach({ delayMs: 20, jitterMs: 15 });
        sim.pair.attach({ delayMs: 20, jitterMs: 15 });
      });
      assert.ok(sim.pair.clock.run(60_000, sim.done));
      assert.ok(sim.down.longestStallMs < 200, `seed ${seed}: ${sim.down.longestStallMs} ms`);
    }
  });

  test('lowest_latency keeps to the quickest circuit', () => {
    const { pair, done } = transfer({
      seed: 4,
      first: { delayMs: 40 },
      upBytes: 1,
      downBytes: 3e6,
      scheduler: Scheduler.lowestLatency,
    });
    const quick = pair.attach({ delayMs: 10 });
    assert.ok(pair.clock.run(60_000, done));
    const [slow, fast] = pair.server.stats.paths;
    assert.equal(fast!.path, pair.server.stats.paths.at(-1)!.path);
    assert.ok(quick.server.path.recovery.packetsSent > 4 * slow!.packetsSent);
  });

  test('redundant: what is lost on one circuit has come on the other, and the death of one is not even felt', () => {
    const way = (delayMs: number) => ({ delayMs, lossRatio: 0.05, bottleneck: new Bottleneck(30, 80) });
    const run = (scheduler: Scheduler, seed: number) => {
      const sim = transfer({ seed, first: way(20), upBytes: 1, downBytes: 4e6, scheduler });
      const second = sim.pair.attach(way(25));
      sim.pair.clock.run(400, () => false);
      sim.pair.kill(second, Number.POSITIVE_INFINITY);
      assert.ok(sim.pair.clock.run(60_000, sim.done));
      assert.equal(sim.pair.server.stats.scheduler, scheduler, 'the server does as its client says');
      return sim;
    };
    // One unlucky loss among few runs says nothing.
    const SEEDS = 12;
    let plainMs = 0;
    let twiceMs = 0;
    for (let seed = 11; seed < 11 + SEEDS; seed++) {
      const plain = run(Scheduler.loadBalance, seed);
      const twice = run(Scheduler.redundant, seed);
      const copied = twice.pair.server.stats.paths.reduce((sum, { copiedBytes }) => sum + copiedBytes, 0);
      assert.ok(copied > 0);
      assert.equal(plain.pair.server.stats.paths[0]!.copiedBytes, 0);
      plainMs += plain.down.longestStallMs;
      twiceMs += twice.down.longestStallMs;
    }
    assert.ok(
      twiceMs < plainMs,
      `sooner than what has to be noticed first: ${twiceMs / SEEDS} and ${plainMs / SEEDS} ms`,
    );
    assert.ok(twiceMs / SEEDS < 150, `${twiceMs / SEEDS} ms`);
  });

  test('the strategy may change while data flows', () => {
    const { pair, done } = transfer({ seed: 12, first: { delayMs: 20 }, upBytes: 1, downBytes: 3e6 });
    pair.attach({ delayMs: 20 });
    pair.clock.run(100, () => false);
    pair.client.setScheduler(Scheduler.redundant);
    pair.clock.run(200, () => false);
    assert.equal(pair.server.stats.scheduler, Scheduler.redundant);
    pair.client.setScheduler(Scheduler.latencyWeighted);
    pair.clock.run(300, () => false);
    assert.equal(pair.server.stats.scheduler, Scheduler.latencyWeighted);
    assert.ok(pair.clock.run(60_000, done));
  });

  test('a stream runs ahead no further than the difference of its circuits makes necessary', () => {
    const { pair, done } = transfer({
      seed: 13,
      first: { delayMs: 10, bottleneck: new Bottleneck(30, 60) },
      upBytes: 1,
      downBytes: 12e6,
      scheduler: Scheduler.loadBalance,
    });
    const slow = pair.attach({ delayMs: 60, lossRatio: 0.05, jitterMs: 10, bottleneck: new Bottleneck(10, 60) });
    let limitBytes = 0;
    let aheadBytes = 0;
    pair.clock.run(1000, () => slow.client.path.state === PathState.usable);
    // What was sent before is still on its way.
    pair.clock.run(pair.clock.nowMs + 300, () => false);
    pair.clock.run(60_000, () => {
      if (done()) return true;
      const { reorderLimitBytes } = pair.server.stats;
      if (reorderLimitBytes !== Number.POSITIVE_INFINITY) limitBytes = Math.max(limitBytes, reorderLimitBytes);
      aheadBytes = Math.max(aheadBytes, pair.client.stats.reorderedBytes);
      return false;
    });
    assert.ok(done());
    assert.ok(limitBytes >= MIN_REORDER_BYTES && limitBytes < MAX_REORDER_BYTES, `${limitBytes}`);
    assert.ok(aheadBytes > 50_000, `${aheadBytes}`);
    assert.ok(aheadBytes <= limitBytes + 1144, `${aheadBytes} ahead, ${limitBytes} allowed`);
  });

  test('a circuit whose way back is dead never joins', () => {
    const { pair, done } = transfer({ seed: 14, first: near, upBytes: 1, downBytes: 2e6 });
    const deaf = pair.attach(near);
    deaf.server.cut = true;
    assert.ok(pair.clock.run(60_000, done));
    assert.equal(deaf.client.path.state, PathState.attaching);
  });

  test('one of two dies unannounced: noticed in a probe time-out, nothing is lost, the stall is short', () => {
    const way = () => ({ delayMs: 20, bottleneck: new Bottleneck(30, 80) });
    const { pair, down, done } = transfer({ seed: 5, first: way(), upBytes: 2e6, downBytes: 20e6 });
    const second = pair.attach(way());
    pair.clock.run(400, () => false);
    assert.ok(second.server.path.recovery.inFlight > 10);
    assert.equal(second.client.path.state, PathState.usable);
    pair.kill(second, Number.POSITIVE_INFINITY);
    assert.ok(pair.clock.run(60_000, done));
    assert.equal(second.server.path.state, PathState.suspect);
    assert.ok(down.longestStallMs <= 500, `${down.longestStallMs} ms`);
  });

  test('the only one dies: the session waits, a new circuit takes over, nothing is lost or repeated', () => {
    const { pair, down, done } = transfer({ seed: 6, first: near, upBytes: 3e6, downBytes: 20e6 });
    pair.clock.run(300, () => false);
    const before = down.bytes;
    pair.kill(pair.circuits[0]!, 100);
    pair.clock.run(900, () => false);
    assert.equal(pair.detached, 1);
    assert.ok(!done() && down.bytes >= before);
    pair.attach({ delayMs: 30 });
    assert.ok(pair.clock.run(60_000, done));
    assert.deepEqual(pair.closes, { client: [], server: [] });
  });

  test('who can not prove that the session is his is refused, and the session goes on', () => {
    const { pair, done } = transfer({ seed: 7, first: near, upBytes: 1e6, downBytes: 1e6 });
    const wrongProof = pair.attach(near, undefined, new Uint8Array(16));
    const wrongId = pair.attach(near, new Uint8Array(16));
    assert.ok(pair.clock.run(60_000, done));
    for (const circuit of [wrongProof, wrongId]) {
      assert.equal(circuit.client.refused, 1);
      assert.equal(circuit.client.path.state, PathState.gone);
      assert.ok(circuit.server.path.session !== pair.server);
    }
    assert.deepEqual(pair.closes, { client: [], server: [] });
  });

  test('without onDetached a session ends with its last circuit', () => {
    const pair = new SessionPair({ seed: 8, up: near, down: near, serverHost: { onStream: () => {} } });
    const codes: number[] = [];
    pair.client.session.openStream(TARGET)!.onClose = (code) => void codes.push(code);
    pair.clock.run(100, () => false);
    pair.client.path.lost(100);
    assert.deepEqual(codes, [SessionError.sessionLost]);
    assert.equal(pair.client.closes[0]?.code, SessionError.sessionLost);
    assert.ok(pair.client.session.closed);
  });
});

describe('random schedules of circuits that come and die', () => {
  const seeds = Number(process.env.NYX_MULTIPATH_SEEDS ?? 100);
  test(`${seeds} of them: every byte once and in order`, () => {
    let allKills = 0;
    let mostAheadBytes = 0;
    for (let seed = 1; seed <= seeds; seed++) {
      const way = (random: { next(): number }): WayOptions => ({
        delayMs: 1 + 80 * random.next(),
        jitterMs: 10 * random.next(),
        lossRatio: random.next() < 0.5 ? 0 : 0.1 * random.next(),
        bottleneck: new Bottleneck(5 + 40 * random.next(), 20 + Math.floor(80 * random.next())),
      });
      const windowBytes = seed % 5 === 0 ? 262_144 : 4 * 1024 * 1024;
      const upBytes = 1 + (seed % 7) * 300_000;
      const downBytes = 1 + (seed % 11) * 300_000;
      const { pair, down, up, done } = transfer({
        seed,
        first: {
          delayMs: 20,
          jitterMs: 5,
          lossRatio: seed % 3 === 0 ? 0.05 : 0,
          bottleneck: new Bottleneck(10, 60),
        },
        upBytes,
        downBytes,
        scheduler: schedulers[seed % schedulers.length]!,
        windowBytes,
      });
      const { clock, random } = pair;
      const most = random.integer(1, 8);
      let kills = 0;
      const step = () => {
        if (done()) return;
        const live = pair.circuits.filter(({ client }) => !client.cut);
        if (live.length > 0 && random.chance(0.4)) {
          kills++;
          pair.kill(live[random.integer(0, live.length - 1)]!, random.integer(0, 1500));
        }
        if (live.length < most && random.chance(0.7)) pair.attach(way(random));
        if (clock.nowMs > 20_000 && live.length === 0) pair.attach(near);
        clock.at(clock.nowMs + random.integer(20, 600), clock.nowMs < 20_000 || live.length < 2 ? step : () => {});
      };
      clock.at(random.integer(0, 200), step);
      let aheadBytes = 0;
      let looks = 0;
      const finished = clock.run(120_000, () => {
        if (++looks % 16 === 0) {
          for (const session of [pair.client, pair.server]) {
            aheadBytes = Math.max(aheadBytes, session.stats.reorderedBytes);
          }
        }
        return done();
      });
      mostAheadBytes = Math.max(mostAheadBytes, aheadBytes);
      assert.ok(aheadBytes <= windowBytes, `seed ${seed}: ${aheadBytes} bytes out of order`);
      allKills += kills;
      assert.ok(finished, `seed ${seed}: ${down.bytes} of ${downBytes} down, ${up()?.bytes} of ${upBytes} up`);
      for (const session of [pair.client, pair.server]) {
        assert.ok(session.stats.bufferedBytes <= 24 * 1024 * 1024, `seed ${seed}`);
      }
    }
    assert.ok(mostAheadBytes > 100_000, 'circuits were never far apart');
    assert.ok(allKills > seeds, `only ${allKills} circuits died`);
  });
});
