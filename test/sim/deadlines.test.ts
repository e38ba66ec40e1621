/** Datagrams with a deadline: none is delivered that is older, whether it waited here, on the way or for its repair. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FecBudget } from '@nyx/core/fec/budget.ts';
import { ReedSolomon } from '@nyx/core/fec/reed-solomon.ts';
import { FecTally } from '@nyx/core/fec/stats.ts';
import { SessionPair, type WayOptions } from './stream-sim.ts';

const LIFETIME_MS = 80;
const resources = () => ({ codecs: [new ReedSolomon()], budget: new FecBudget(), tally: new FecTally() });

function run(seed: number, up: WayOptions, gapMs: number, withFec = true) {
  const ages: number[] = [];
  const told = { here: 0, there: 0 };
  const fec = () => (withFec ? { resources: resources(), policy: { ratio: 0.5 } } : undefined);
  const pair = new SessionPair({
    seed,
    up,
    down: { delayMs: 20 },
    client: { fec: fec() },
    server: { fec: fec() },
    clientHost: { onDatagramExpired: (flow, own) => void (flow === 1 && own && told.here++) },
    serverHost: {
      onDatagramExpired: (flow, own) => void (flow === 1 && !own && told.there++),
      onDatagram: (_flow, data) => {
        ages.push(pair.clock.nowMs - new DataView(data.buffer, data.byteOffset).getFloat64(0));
      },
    },
  });
  let sent = 0;
  const send = () => {
    const data = new Uint8Array(600);
    new DataView(data.buffer).setFloat64(0, pair.clock.nowMs);
    if (pair.client.session.sendDatagram(1, data, LIFETIME_MS)) sent++;
    if (pair.clock.nowMs < 20_000) pair.clock.at(pair.clock.nowMs + gapMs, send);
  };
  pair.clock.at(1000, send);
  pair.clock.run(30_000, () => false);
  const expired = {
    here: pair.client.session.stats.datagramsExpired,
    there: pair.server.session.stats.datagramsExpired,
  };
  assert.deepEqual(told, expired, 'of each one the flow is told');
  return { ages: ages.sort((a, b) => a - b), sent, expired };
}

test('a way that takes 20…180 ms: what took longer than the deadline is not delivered, what took less is', () => {
  const { ages, sent, expired } = run(1, { delayMs: 20, jitterMs: 160 }, 10);
  assert.ok(expired.there > 0.3 * sent, `${expired.there} of ${sent}`);
  // The least of a way that varies so much is known to some milliseconds only.
  assert.ok(ages.at(-1)! <= LIFETIME_MS + 10, `${ages.at(-1)} ms`);
  assert.ok(ages.at(-1)! >= LIFETIME_MS - 25, `${ages.at(-1)} ms`);
  assert.ok(ages.length + expired.there + expired.here <= sent);
  // Who hears little knows only long round trips on such a way, and takes datagrams to be older than they are.
  assert.ok(ages.length > 0.05 * sent, `${ages.length} of ${sent}`);
});

test('nothing gets through for five seconds: what waited for that is not sent afterwards', () => {
  const { ages, sent, expired } = run(2, { delayMs: 20, partition: { fromMs: 5000, toMs: 10_000 } }, 5);
  assert.ok(expired.here > 100, `${expired.here} of ${sent}`);
  assert.ok(ages.length > 1000 && ages.at(-1)! <= LIFETIME_MS + 10, `${ages.length}, ${ages.at(-1)} ms`);
});

test('a packet that comes back too late brings nothing', () => {
  const { ages } = run(3, { delayMs: 60, jitterMs: 1, gilbert: { lossRatio: 0.1, meanMs: 40 } }, 10);
  assert.ok(ages.length > 1000);
  assert.ok(ages.at(-1)! <= LIFETIME_MS + 25, `${ages.at(-1)} ms`);
});

test('a peer that does not know deadlines gets plain datagrams', () => {
  const { ages, expired } = run(4, { delayMs: 20 }, 10, false);
  assert.ok(ages.length > 1800);
  assert.equal(expired.there, 0);
});

test('one that may wait long, in front of one whose time is over, does not take it along', () => {
  const ages: number[][] = [[], []];
  const expired = [0, 0];
  const pair = new SessionPair({
    seed: 5,
    up: { delayMs: 20, partition: { fromMs: 5000, toMs: 6000 } },
    down: { delayMs: 20 },
    clientHost: { onDatagramExpired: (flow) => expired[flow]!++ },
    serverHost: {
      onDatagram: (flow, data) => {
        ages[flow]!.push(pair.clock.nowMs - new DataView(data.buffer, data.byteOffset).getFloat64(0));
      },
    },
  });
  let turn = 0;
  const send = () => {
    // Several fit into one payload.
    const data = new Uint8Array(100);
    new DataView(data.buffer).setFloat64(0, pair.clock.nowMs);
    const flow = turn++ % 2;
    pair.client.session.sendDatagram(flow, data, flow * LIFETIME_MS);
    if (pair.clock.nowMs < 10_000) pair.clock.at(pair.clock.nowMs + 5, send);
  };
  pair.clock.at(1000, send);
  pair.clock.run(20_000, () => false);
  // Nobody at the other end looks at ages: neither knows error correction.
  const oldest = ages.map((list) => list.reduce((most, age) => Math.max(most, age), 0));
  assert.ok(oldest[0]! > 300 && oldest[1]! <= LIFETIME_MS + 25, `${oldest}`);
  assert.ok(expired[0] === 0 && expired[1]! > 20, `${expired}`);
  assert.equal(pair.client.session.stats.datagramsExpired, expired[1]);
});
