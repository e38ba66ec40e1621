/** Cover traffic of real daemons: a client whose link has one constant rate, loops, and what the API says of it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { TappedNetwork, until } from './fixture.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const RATE = 100;

let network: TappedNetwork;
let echo: TestServer;

before(async () => {
  network = await TappedNetwork.start({
    mixes: 4,
    exits: 1,
    taps: false,
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

/** Datagrams that the client sent and got in a second, over some seconds. */
async function rates(forMs: number): Promise<{ out: number; in: number }> {
  const look = async () => ({ atMs: performance.now(), traffic: (await network.client.api.status()).traffic! });
  const first = await look();
  await delay(forMs);
  const last = await look();
  const seconds = (last.atMs - first.atMs) / 1000;
  return {
    out: (last.traffic.datagramsOut - first.traffic.datagramsOut) / seconds,
    in: (last.traffic.datagramsIn - first.traffic.datagramsIn) / seconds,
  };
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

test('the link carries as much when nothing happens as when it is full', async () => {
  const { host, port } = echo;
  const idle = await rates(5000);
  const socket = await network.client.api.connect({ host, port, allowHalfOpen: true });
  let moving = true;
  const transfer = echoExactly(socket, 400_000).finally(() => {
    moving = false;
  });
  await delay(1000);
  const busy = await rates(2500);
  assert.equal(moving, true, 'the transfer was over too soon to be seen');
  const { links } = (await network.client.api.status()).cover!;
  for (const [name, rate] of Object.entries({
    idleOut: idle.out,
    idleIn: idle.in,
    busyOut: busy.out,
    busyIn: busy.in,
  })) {
    // A Poisson count over 2.5 s has a deviation of 6; what a stall of a busy machine holds up is left out.
    assert.ok(Math.abs(rate / links - RATE) < 40, `${name}: ${rate.toFixed(0)} a second over ${links} link(s)`);
  }
  await transfer;
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
