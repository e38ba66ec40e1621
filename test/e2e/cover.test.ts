/** Cover traffic of real daemons: a client whose link has one constant rate, loops, and what the API says of it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { kolmogorovSmirnovTwo } from '@nyx/core/mix/testing.ts';
import { TappedNetwork, until } from './fixture.ts';
import { serveEcho, type TestServer } from './transfer.ts';

const RATE = 100;
/** Of watching the wire, idle and busy in turns; longer with NYX_WIRE_SECONDS (`npm run test:wire`). */
const ROUND_MS = 1000 * Number(process.env.NYX_WIRE_SECONDS ?? 2);
const ROUNDS = 2;
const SETTLE_MS = 700;
/** Two samples of one law differ by more once in ten thousand times. */
const KS_LIMIT = 2.23;

let network: TappedNetwork;
let echo: TestServer;
/** From which the client opened its link: the only one with a constant rate. */
let clientPort = 0;

before(async () => {
  network = await TappedNetwork.start({
    mixes: 4,
    exits: 1,
    overrides: (role) =>
      role === 'client'
        ? {
            mix: { delayMs: 5 },
            path: { hops: 3, allowSameSubnet: true, guards: 1, spareCircuits: 0 },
            cover: { mode: 'constant', constantCellsPerSecond: RATE, loopsPerMinute: 120, dropCellsPerSecond: 1 },
          }
        : {},
  });
  echo = await serveEcho();
});

after(async () => {
  echo?.close();
  await network?.stop();
});

/** Times (ms) of datagrams on one wire, by direction. */
interface Capture {
  readonly up: number[];
  readonly down: number[];
}

/** What passes between the client and its guard, and between the guard and whatever relays come next, for a time. */
async function capture(forMs: number): Promise<{ client: Capture; relays: Capture }> {
  const seen = {
    client: { up: [] as number[], down: [] as number[] },
    relays: { up: [] as number[], down: [] as number[] },
  };
  for (const tap of network.taps) {
    tap.onDatagram = ({ inbound, peerPort }) => {
      const wire = peerPort === clientPort ? seen.client : seen.relays;
      wire[inbound ? 'up' : 'down'].push(performance.now());
      return true;
    };
  }
  await delay(forMs);
  for (const tap of network.taps) tap.onDatagram = () => true;
  return seen;
}

const gaps = (times: readonly number[]) => times.slice(1).map((at, i) => at - times[i]!);

/** Datagrams in windows of 100 ms. */
function windows(times: readonly number[], forMs: number): number[] {
  const counts = new Array<number>(Math.floor(forMs / 100)).fill(0);
  for (const at of times) {
    const index = Math.floor((at - times[0]!) / 100);
    if (index < counts.length) counts[index]!++;
  }
  return counts;
}

test('loops go round, and the status shows them', async () => {
  const info = await until(
    'some loops',
    async () => {
      const status = await network.client.api.status();
      return (status.cover?.loops?.sent ?? 0) >= 4 && status;
    },
    60_000,
  );
  const { cover } = info;
  assert.equal(cover!.mode, 'constant');
  assert.equal(cover!.constantBack, cover!.links, 'the guard agreed to a constant rate back');
  assert.equal(cover!.loops!.alarm, '');
  // Ten sojourns of 5 ms, and cells that wait for their turn at 100 a second both ways.
  assert.ok(cover!.loops!.meanRttMs! > 30, `${cover!.loops!.meanRttMs}`);
});

test('one link carries a constant rate both ways', async () => {
  const counts = new Map<number, { up: number; down: number }>();
  for (const tap of network.taps) {
    tap.onDatagram = ({ inbound, peerPort }) => {
      const count = counts.get(peerPort) ?? { up: 0, down: 0 };
      counts.set(peerPort, count);
      count[inbound ? 'up' : 'down']++;
      return true;
    };
  }
  await delay(1500);
  const constant = [...counts].filter(([, { up, down }]) => up > 0.5 * RATE && down > 0.5 * RATE);
  assert.equal(constant.length, 1, JSON.stringify([...counts]));
  clientPort = constant[0]![0];
});

/** Echoes as much as the link takes until it is told to stop. */
async function saturate(): Promise<() => Promise<void>> {
  const { host, port } = echo;
  const socket = await network.client.api.connect({ host, port });
  let received = 0;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  socket.on('error', () => {});
  const chunk = Buffer.alloc(16_384, 7);
  const write = () => {
    while (!socket.destroyed && socket.write(chunk));
  };
  socket.on('drain', write);
  write();
  await delay(SETTLE_MS);
  const before = received;
  return async () => {
    assert.ok(received - before > ROUND_MS * 10, `only ${received - before} bytes came back meanwhile`);
    socket.destroy();
    await delay(SETTLE_MS);
  };
}

test('the wire shows the same process when nothing happens as when the link is full', async () => {
  const { links } = (await network.client.api.status()).cover!;
  assert.equal(links, 1);
  const idle: Awaited<ReturnType<typeof capture>>[] = [];
  const busy: typeof idle = [];
  // In turns: whatever else the machine does hits both alike.
  for (let round = 0; round < ROUNDS; round++) {
    idle.push(await capture(ROUND_MS));
    const stop = await saturate();
    busy.push(await capture(ROUND_MS));
    await stop();
  }
  for (const direction of ['up', 'down'] as const) {
    const quiet = idle.map(({ client }) => gaps(client[direction]));
    const loud = busy.map(({ client }) => gaps(client[direction]));
    const ks = kolmogorovSmirnovTwo(quiet.flat(), loud.flat());
    // A machine that is busy with other things stalls now and then. How much that changes from one round to the next, whatever
    // the user does, is the least that idle and busy can differ by.
    const [first, second] = [0, 1].map((round) => [...quiet[round]!, ...loud[round]!]);
    const noise = kolmogorovSmirnovTwo(first!, second!);
    const limit = Math.max(KS_LIMIT, 1.5 * noise);
    const rates = [idle, busy].map(
      (captures) =>
        (captures.reduce((sum, { client }) => sum + client[direction].length, 0) * 1000) / ROUND_MS / ROUNDS,
    );
    const dispersions = [idle, busy].map((captures) => {
      const counts = captures.flatMap(({ client }) => windows(client[direction], ROUND_MS));
      const mean = counts.reduce((sum, n) => sum + n, 0) / counts.length;
      return counts.reduce((sum, n) => sum + (n - mean) ** 2, 0) / (counts.length - 1) / mean;
    });
    console.log(
      `# ${direction}: ${rates.map((rate) => rate.toFixed(0)).join(' and ')} a second idle and busy; Kolmogorov–Smirnov of gaps ` +
        `${ks.toFixed(2)}, between rounds ${noise.toFixed(2)}; variance over mean of counts ${dispersions.map((d) => d.toFixed(2)).join(' and ')}`,
    );
    assert.ok(ks < limit, `${direction}: gaps differ by ${ks}, ${noise} between rounds`);
    // A Poisson count over 4 s has a deviation of 5 a second; what a stall of a busy machine holds up is left out.
    for (const rate of rates) assert.ok(Math.abs(rate - RATE) < 40, `${direction}: ${rate.toFixed(0)} a second`);
    for (const dispersion of dispersions) {
      assert.ok(dispersion > 0.4 && dispersion < 4, `${direction}: variance over mean ${dispersion}`);
    }
  }
  // The same look at the wires behind the guard, which are not covered, sees the difference at once.
  const merged = (captures: typeof idle) =>
    captures.map(({ relays }) => [...relays.up, ...relays.down].sort((a, b) => a - b));
  const [quiet, loud] = [merged(idle), merged(busy)];
  const [few, many] = [quiet.flat().length, loud.flat().length];
  assert.ok(many > 3 * few, `${few} and ${many} datagrams between relays`);
  const uncovered = kolmogorovSmirnovTwo(quiet.flatMap(gaps), loud.flatMap(gaps));
  console.log(`# behind the guard: ${few} and ${many} datagrams, Kolmogorov–Smirnov of gaps ${uncovered.toFixed(2)}`);
  assert.ok(uncovered > KS_LIMIT, 'a test that sees no difference anywhere');
  const { cover, coverRatio } = await network.client.api.status();
  assert.equal(cover!.overflowedCells, 0);
  assert.ok(coverRatio! > 0.2, `${coverRatio}`);
});

test('a relay has not been asked to cover anything but the client’s link', async () => {
  for (const relay of network.relays) {
    const { cover, coverRatio } = await relay.api.status();
    assert.equal(cover ?? undefined, undefined);
    if (coverRatio !== undefined) assert.ok(coverRatio > 0);
  }
});
