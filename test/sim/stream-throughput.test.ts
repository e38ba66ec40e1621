/** Goodput, queues, fairness and memory of sessions in virtual time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SessionStream } from '@nyx/core/stream/contract.ts';
import { Bottleneck, SessionPair, VirtualClock, type WayOptions } from './stream-sim.ts';

/** Stream bytes in a payload, at least: 1144 less the STREAM header. */
const GOOD_BYTES = 1128;

class Transfer {
  readBytes = 0;
  readonly pair: SessionPair;
  readonly stream: SessionStream;

  constructor(
    clock: VirtualClock,
    seed: number,
    up: WayOptions,
    down: WayOptions,
    { mixRttMs = 0, afterMs = 0 }: { readonly mixRttMs?: number; readonly afterMs?: number } = {},
  ) {
    const into = new Uint8Array(65_536);
    this.pair = new SessionPair(
      {
        seed,
        up,
        down,
        client: { mixRttMs },
        server: { mixRttMs },
        serverHost: {
          onStream: (stream) => {
            stream.onReadable = () => {
              for (let n = stream.read(into); n > 0; n = stream.read(into)) this.readBytes += n;
            };
          },
        },
      },
      clock,
    );
    this.stream = this.pair.client.session.openStream({ kind: 'tcp', host: 'sink', port: 9 })!;
    const chunk = new Uint8Array(65_536);
    const write = (): void => {
      while (this.stream.write(chunk) === chunk.length);
    };
    clock.at(afterMs, () => {
      this.stream.onWritable = write;
      write();
    });
  }
}

/** Share of the bottleneck that got through as stream data between two times. */
function utilisation(transfers: Transfer[], clock: VirtualClock, bottleneck: Bottleneck, fromMs: number, toMs: number) {
  clock.run(fromMs, () => false);
  const before = transfers.map((transfer) => transfer.readBytes);
  clock.run(toMs, () => false);
  const capacity = ((toMs - fromMs) / bottleneck.packetMs) * GOOD_BYTES;
  return transfers.map((transfer, i) => (transfer.readBytes - before[i]!) / capacity);
}

function show(name: string, transfer: Transfer, bottleneck: Bottleneck, shares: number[]): string {
  const queueMs = bottleneck.waitedMs / bottleneck.carried;
  const { stats } = transfer.pair.client.session;
  return `${name}: ${shares.map((s) => s.toFixed(3))} queue ${queueMs.toFixed(1)} ms dropped ${bottleneck.dropped} ${JSON.stringify(stats)}`;
}

test('one stream fills 50 Mbit/s at 100 ms and keeps the queue short', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(50, 600);
  const transfer = new Transfer(clock, 1, { delayMs: 50, bottleneck }, { delayMs: 50 });
  const shares = utilisation([transfer], clock, bottleneck, 2000, 20_000);
  const summary = show('50 Mbit/s', transfer, bottleneck, shares);
  t.diagnostic(summary);
  assert.ok(shares[0]! >= 0.95, summary);
  assert.ok(bottleneck.waitedMs / bottleneck.carried < 50, summary);
});

for (const [lossRatio, least] of [
  [0.01, 0.93],
  [0.05, 0.8],
] as const) {
  test(`random loss of ${lossRatio * 100} % costs little more than itself`, (t) => {
    const clock = new VirtualClock();
    const bottleneck = new Bottleneck(50, 600);
    const transfer = new Transfer(clock, 2, { delayMs: 50, bottleneck, lossRatio }, { delayMs: 50, lossRatio });
    const shares = utilisation([transfer], clock, bottleneck, 2000, 15_000);
    const summary = show('loss', transfer, bottleneck, shares);
    t.diagnostic(summary);
    assert.ok(shares[0]! >= least, summary);
  });
}

for (const delayMs of [10, 50]) {
  test(`a fifth is lost at random, ${2 * delayMs} ms: nearly all of the rest arrives`, (t) => {
    const clock = new VirtualClock();
    const bottleneck = new Bottleneck(20, 195);
    const lossRatio = 0.2;
    const transfer = new Transfer(clock, 9, { delayMs, bottleneck, lossRatio }, { delayMs, lossRatio });
    const shares = utilisation([transfer], clock, bottleneck, 3000, 13_000);
    const summary = show('a fifth', transfer, bottleneck, shares);
    t.diagnostic(summary);
    assert.ok(shares[0]! >= 0.68, summary);
  });
}

test('a transfer that begins on a long line does not flood the queue in front of it', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(20, 195);
  const transfer = new Transfer(clock, 10, { delayMs: 150, bottleneck }, { delayMs: 150 });
  const shares = utilisation([transfer], clock, bottleneck, 2000, 8000);
  const summary = show('long line', transfer, bottleneck, shares);
  t.diagnostic(summary);
  assert.ok(shares[0]! >= 0.9, summary);
  // Of about 600 that a round trip holds.
  assert.ok(bottleneck.dropped < 1300, summary);
});

test('a queue that is too short to be seen is not overrun for long', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(20, 8);
  const transfer = new Transfer(clock, 11, { delayMs: 20, bottleneck }, { delayMs: 20 });
  const shares = utilisation([transfer], clock, bottleneck, 2000, 12_000);
  const summary = show('short queue', transfer, bottleneck, shares);
  t.diagnostic(summary);
  assert.ok(shares[0]! >= 0.85, summary);
  assert.ok(bottleneck.dropped < 0.14 * (bottleneck.dropped + bottleneck.carried), summary);
});

test('what little an application said before does not slow down a transfer', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(20, 200);
  const lossRatio = 0.01;
  const way = { delayMs: 50, bottleneck, lossRatio };
  const transfer = new Transfer(clock, 3, way, { delayMs: 50, lossRatio }, { afterMs: 5000 });
  const { session } = transfer.pair.client;
  const messages = session.openStream({ kind: 'tcp', host: 'echo', port: 7 })!;
  for (let atMs = 0; atMs < 5000; atMs += 20) clock.at(atMs, () => messages.write(new Uint8Array(200)));
  const shares = utilisation([transfer], clock, bottleneck, 7000, 12_000);
  const summary = show('after messages', transfer, bottleneck, shares);
  t.diagnostic(summary);
  assert.ok(shares[0]! >= 0.9, summary);
});

test('reordering by mixing is not taken for loss for long', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(20, 2000);
  const transfer = new Transfer(clock, 3, { delayMs: 60, jitterMs: 120, bottleneck }, { delayMs: 60, jitterMs: 120 });
  const shares = utilisation([transfer], clock, bottleneck, 3000, 15_000);
  const summary = show('mix', transfer, bottleneck, shares);
  t.diagnostic(summary);
  assert.ok(shares[0]! >= 0.85, summary);
  const { packetsLost, packetsSent, spuriousRetransmissions } = transfer.pair.client.session.stats;
  assert.ok(packetsLost <= packetsSent / 50, summary);
  assert.ok(spuriousRetransmissions <= packetsLost);
});

/** Where less than nearly all is asked for, the stream's window of 4 MiB is what limits. */
for (const [meanMs, mbitPerSecond, lossRatio, least] of [
  [20, 20, 0, 0.9],
  [20, 80, 0, 0.8],
  [20, 20, 0.01, 0.9],
  [5, 20, 0, 0.9],
  [100, 20, 0, 0.7],
] as const) {
  test(`class mix, 5 hops of ${meanMs} ms at ${mbitPerSecond} Mbit/s, loss ${lossRatio}`, (t) => {
    const clock = new VirtualClock();
    const bottleneck = new Bottleneck(mbitPerSecond, 4000);
    const mix = { hops: 5, meanMs };
    const transfer = new Transfer(
      clock,
      3,
      { delayMs: 5, mix, lossRatio, bottleneck },
      { delayMs: 5, mix },
      { mixRttMs: 10 * meanMs },
    );
    const shares = utilisation([transfer], clock, bottleneck, 5000 + 50 * meanMs, 15_000 + 50 * meanMs);
    const summary = show('mix', transfer, bottleneck, shares);
    t.diagnostic(summary);
    assert.ok(shares[0]! >= least, summary);
    const { packetsSent, spuriousRetransmissions } = transfer.pair.client.session.stats;
    assert.ok(spuriousRetransmissions <= packetsSent / 500, summary);
  });
}

test('a local path is not held back by timers or windows', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(700, 4000);
  const transfer = new Transfer(clock, 4, { delayMs: 0.25, bottleneck }, { delayMs: 0.25 });
  const shares = utilisation([transfer], clock, bottleneck, 200, 1200);
  const summary = show('local', transfer, bottleneck, shares);
  t.diagnostic(summary);
  assert.ok(shares[0]! >= 0.95, summary);
  assert.ok(bottleneck.waitedMs / bottleneck.carried < 12, summary);
});

test('a slow link is not flooded', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(2, 1000);
  const transfer = new Transfer(clock, 5, { delayMs: 20, bottleneck }, { delayMs: 20 });
  const shares = utilisation([transfer], clock, bottleneck, 5000, 30_000);
  const summary = show('slow', transfer, bottleneck, shares);
  t.diagnostic(summary);
  assert.ok(shares[0]! >= 0.93, summary);
  assert.ok(bottleneck.waitedMs / bottleneck.carried < 150, summary);
});

test('two sessions share a bottleneck', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(50, 800);
  const a = new Transfer(clock, 6, { delayMs: 40, bottleneck }, { delayMs: 40 });
  clock.run(3000, () => false);
  const b = new Transfer(clock, 7, { delayMs: 40, bottleneck }, { delayMs: 40 });
  const shares = utilisation([a, b], clock, bottleneck, 15_000, 45_000);
  const summary = show('shared', a, bottleneck, shares);
  t.diagnostic(summary);
  const [x, y] = shares as [number, number];
  assert.ok(x + y >= 0.93, summary);
  assert.ok((x + y) ** 2 / (2 * (x * x + y * y)) >= 0.8, summary);
});

test('traffic goes on within seconds after a partition of 10 s', (t) => {
  const clock = new VirtualClock();
  const bottleneck = new Bottleneck(50, 600);
  const partition = { fromMs: 3000, toMs: 13_000 };
  const transfer = new Transfer(clock, 8, { delayMs: 50, bottleneck, partition }, { delayMs: 50, partition });
  const shares = utilisation([transfer], clock, bottleneck, 17_000, 20_000);
  const summary = show('partition', transfer, bottleneck, shares);
  t.diagnostic(summary);
  assert.ok(shares[0]! >= 0.9, summary);
});
