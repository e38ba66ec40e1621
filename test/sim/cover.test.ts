/** Cover traffic in networks of real engines: its share of what is sent, and a link that looks the same whatever its user does. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Drop } from '@nyx/core/drop-reason.ts';
import type { SessionOwner } from '@nyx/core/engine/contract.ts';
import type { CoverOptions } from '@nyx/core/mix/cover.ts';
import { erlangCdf, KS_ONE_PERCENT, kolmogorovSmirnov, kolmogorovSmirnovTwo } from '@nyx/core/mix/testing.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type SimNode, VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();

const adaptive: CoverOptions = {
  mode: 'adaptive',
  cellsPerSecond: 2,
  ratio: 0.4,
  dropCellsPerSecond: 0,
  budgetBytesPerHour: 0,
};
const constant: CoverOptions = { ...adaptive, mode: 'constant', cellsPerSecond: 50 };

function network(seed: number, cover: CoverOptions, serve?: () => SessionOwner) {
  const net = new VirtualNetwork(suite, seed);
  const client = net.add('client', { relay: false, engineOptions: { cover } });
  const path = [net.add('guard'), net.add('middle'), net.add('exit', { exit: true, serve })];
  const built = client.engine.buildCircuit(
    { hops: path.map((node) => node.contact), class: 'fast', delayMeanUs: 0, expiry: net.unixSeconds + 36_000 },
    { onClose() {} },
    net.nowMs,
  );
  const ready = () => client.circuitEvents.some(({ kind }) => kind === 'ready');
  assert.ok(net.run(net.nowMs + 20_000, ready), `seed ${seed}: no circuit`);
  return { net, client, path: path as [SimNode, SimNode, SimNode], session: built.session };
}

describe('adaptive cover', () => {
  const loads: Record<string, (seconds: number) => number> = {
    'a few cells a second': () => 20,
    'hundreds of cells a second': () => 400,
    'a load that swings': (seconds) => 150 + 120 * Math.sin((2 * Math.PI * seconds) / 40),
    'a load that grows': (seconds) => 20 + 5 * seconds,
  };
  for (const [name, rate] of Object.entries(loads)) {
    test(`stays within 0.2…0.6 of all cells over 5 s: ${name}`, () => {
      const { net, client, path, session } = network(91, adaptive);
      const data = new Uint8Array(1000);
      const cover: number[] = [];
      const all: number[] = [];
      const beginMs = net.nowMs;
      let owed = 0;
      for (let step = 0; step < 40 * 50; step++) {
        owed += rate((net.nowMs - beginMs) / 1000) / 50;
        for (; owed >= 1; owed--) session.sendDatagram(1, data);
        net.run(net.nowMs + 20);
        if (step % 50 !== 49) continue;
        cover.push(client.engine.counters.coverOut);
        all.push(client.engine.counters.datagramsOut);
      }
      const ratios: number[] = [];
      // The controller has seen the load for two seconds by then.
      for (let i = 8; i < cover.length; i++) ratios.push((cover[i]! - cover[i - 5]!) / (all[i]! - all[i - 5]!));
      const [least, most] = [Math.min(...ratios), Math.max(...ratios)];
      assert.ok(least >= 0.2 && most <= 0.6, `seed ${net.seed}: ${least.toFixed(2)}…${most.toFixed(2)}`);
      const mean = ratios.reduce((sum, value) => sum + value, 0) / ratios.length;
      assert.ok(Math.abs(mean - adaptive.ratio) < 0.06, `mean ${mean.toFixed(3)}`);
      net.run(net.nowMs + 5);
      const { counters } = path[0].engine;
      assert.ok(Math.abs(counters.coverIn - client.engine.counters.coverOut) <= 20, 'the receiver counts them');
      assert.ok(
        counters.drops.every((count) => count === 0),
        'cover is no error',
      );
    });
  }

  test('relays cover the links between them, and not those of clients that did not ask', () => {
    const net = new VirtualNetwork(suite, 92);
    const client = net.add('client', { relay: false });
    const path = [0, 1, 2].map((i) => net.add(`relay ${i}`, { exit: i === 2, engineOptions: { cover: adaptive } }));
    client.engine.buildCircuit(
      { hops: path.map((node) => node.contact), class: 'fast', delayMeanUs: 0, expiry: net.unixSeconds + 3600 },
      { onClose() {} },
      net.nowMs,
    );
    net.run(net.nowMs + 60_000);
    const [guard, middle, exit] = path.map(({ engine }) => engine.counters);
    for (const { coverOut } of [guard!, middle!, exit!]) assert.ok(coverOut > 60, `${coverOut}`);
    assert.equal(client.engine.counters.coverIn, 0);
    assert.equal(client.engine.counters.coverOut, 0);
  });

  test('keeps to its budget', () => {
    const { net, client } = network(93, { ...adaptive, cellsPerSecond: 50, budgetBytesPerHour: 1_280_000 });
    const before = client.engine.counters.coverOut;
    net.run(net.nowMs + 3_600_000);
    const sent = client.engine.counters.coverOut - before;
    assert.ok(sent <= 1100 && sent > 950, `${sent} cells in an hour, 1000 are paid for`);
  });

  test('drop cover reaches the last hop, costs its session nothing, and bytes go beside it unharmed', () => {
    const total = 3_000_000;
    let received = 0;
    const into = new Uint8Array(65536);
    const { net, client, path, session } = network(94, { ...adaptive, dropCellsPerSecond: 100 }, () => ({
      onStream(stream) {
        stream.connected(4, '192.0.2.1', 1);
        stream.onReadable = () => {
          for (let n = stream.read(into); n > 0; n = stream.read(into)) received += n;
        };
      },
      onClose() {},
    }));
    const delivered = path[2].engine.counters.cellsDelivered;
    const dropped = client.engine.counters.coverDropOut;
    net.run(net.nowMs + 10_000);
    const sent = client.engine.counters.coverDropOut - dropped;
    assert.ok(sent > 850 && sent < 1150, `${sent} in 10 s`);
    assert.ok(path[2].engine.counters.cellsDelivered - delivered >= sent - 5);
    const { packetsLost } = session.stats;
    const stream = session.openStream({ kind: 'tcp', host: 'sink', port: 1 })!;
    let left = total;
    const write = () => {
      while (left > 0) {
        const accepted = stream.write(into.subarray(0, Math.min(left, 65536)));
        if (accepted === 0) return;
        left -= accepted;
      }
    };
    stream.onWritable = write;
    write();
    assert.ok(
      net.run(net.nowMs + 60_000, () => received === total),
      `${received}`,
    );
    assert.equal(session.stats.packetsLost, packetsLost);
    assert.equal(session.closed, false);
  });
});

/** Times at which datagrams leave on the client's link to its guard and back, from a moment when both are under way. */
function watch(seed: number, use: boolean, forMs: number) {
  const into = new Uint8Array(65536).fill(7);
  const { net, client, path, session } = network(seed, constant, () => ({
    // Sends as fast as it can.
    onStream(stream) {
      stream.connected(4, '192.0.2.1', 1);
      const write = () => {
        while (stream.write(into) > 0);
      };
      stream.onWritable = write;
      stream.onReadable = () => {
        while (stream.read(new Uint8Array(65536)) > 0);
      };
      write();
    },
    onClose() {},
  }));
  net.run(net.nowMs + 5000);
  if (use) {
    const stream = session.openStream({ kind: 'tcp', host: 'a', port: 1 })!;
    const write = () => {
      while (stream.write(into) > 0);
    };
    stream.onWritable = write;
    stream.onReadable = () => {
      while (stream.read(new Uint8Array(65536)) > 0);
    };
    write();
  }
  net.run(net.nowMs + 5000);
  const times = { up: [] as number[], down: [] as number[] };
  net.tap = (datagram, from, to) => {
    assert.equal(datagram.length, DATAGRAM_BYTES);
    if (from === client) times.up.push(net.nowMs);
    if (to === client) times.down.push(net.nowMs);
    return true;
  };
  net.run(net.nowMs + forMs);
  return { times, client, guard: path[0], session };
}

const gaps = (times: readonly number[]) => times.slice(1).map((at, i) => at - times[i]!);

/** Datagrams in windows of 100 ms. */
function windows(times: readonly number[]): number[] {
  const counts: number[] = [];
  for (const at of times) {
    const index = Math.floor((at - times[0]!) / 100);
    counts[index] = (counts[index] ?? 0) + 1;
  }
  return Array.from(counts, (count) => count ?? 0);
}

describe('constant cover', () => {
  const FOR_MS = 60_000;
  const idle = watch(201, false, FOR_MS);
  const busy = watch(201, true, FOR_MS);

  test('sends at the very same moments, idle or saturated', () => {
    assert.ok(idle.times.up.length > 2900);
    assert.deepEqual(busy.times.up, idle.times.up);
  });

  for (const direction of ['up', 'down'] as const) {
    test(`shows one Poisson process whatever the user does: ${direction}`, () => {
      const [quiet, loud] = [idle.times[direction], busy.times[direction]];
      const meanMs = 1000 / constant.cellsPerSecond;
      for (const [name, times] of Object.entries({ quiet, loud })) {
        const ks = kolmogorovSmirnov(gaps(times), erlangCdf(1, meanMs));
        assert.ok(ks < KS_ONE_PERCENT, `${name}: ${ks}`);
      }
      const twoSample = kolmogorovSmirnovTwo(gaps(quiet), gaps(loud));
      assert.ok(twoSample < KS_ONE_PERCENT, `idle against saturating: ${twoSample}`);
      // Counts in windows: mean and variance of a Poisson law are equal, in both.
      for (const times of [quiet, loud]) {
        const counts = windows(times);
        const mean = counts.reduce((sum, n) => sum + n, 0) / counts.length;
        const variance = counts.reduce((sum, n) => sum + (n - mean) ** 2, 0) / counts.length;
        assert.ok(Math.abs(mean - 5) < 0.3 && Math.abs(variance / mean - 1) < 0.2, `${mean} ± ${variance}`);
      }
    });
  }

  test('a flush that something else brings about sends none of its cells', () => {
    const { client, session } = network(96, constant);
    const { engine } = client;
    const dueMs = engine.nextPacedMs();
    const lateMs = dueMs + 1;
    const sent = () => engine.counters.datagramsOut;
    const before = sent();
    session.sendDatagram(1, new Uint8Array(100));
    engine.flush(lateMs, false);
    assert.equal(sent(), before);
    assert.equal(engine.nextPacedMs(), dueMs);
    assert.ok(engine.nextTimeoutMs(false) > lateMs, 'nothing is to be done before');
    engine.flush(lateMs);
    assert.ok(sent() > before);
    assert.ok(engine.nextPacedMs() > lateMs);
  });

  test('real cells take the place of cover', () => {
    const sent = (run: typeof idle) => run.client.engine.counters.coverOut / run.client.engine.counters.datagramsOut;
    assert.ok(sent(idle) > 0.9, `idle: ${sent(idle)}`);
    assert.ok(sent(busy) < 0.2, `busy: ${sent(busy)}`);
    assert.equal(busy.client.engine.cover.granted, 1);
    assert.ok(busy.session.stats.packetsSent > 2500);
    assert.equal(busy.client.engine.cover.overflowed, 0, 'our own circuits hold back');
  });

  test('a relay refuses what it has no room for, and the client knows', () => {
    const net = new VirtualNetwork(suite, 97);
    const client = net.add('client', { relay: false, engineOptions: { cover: constant } });
    const path = [0, 1, 2].map((i) =>
      net.add(`relay ${i}`, { exit: i === 2, engineOptions: { cover: adaptive, coverGrantPerSecond: 20 } }),
    );
    client.engine.buildCircuit(
      { hops: path.map((node) => node.contact), class: 'fast', delayMeanUs: 0, expiry: net.unixSeconds + 3600 },
      { onClose() {} },
      net.nowMs,
    );
    net.run(net.nowMs + 10_000);
    assert.equal(client.engine.cover.links, 1);
    assert.equal(client.engine.cover.granted, 0);
    assert.equal(path[0]!.engine.counters.drops[Drop.limit], 1);
  });
});
