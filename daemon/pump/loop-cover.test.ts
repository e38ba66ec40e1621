import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { ClientCircuitEvent } from '@nyx/core/engine/contract.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import type { LoopStats, LoopVerdict } from '@nyx/core/mix/loop-monitor.ts';
import { type SimNode, VirtualNetwork } from '@nyx/test/sim/virtual-network.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { CircuitPool } from './circuit-pool.ts';
import { LoopCover } from './loop-cover.ts';

const suite = createNativeSuite();
const DELAY_MS = 20;

/** A client with loops over three mixes, on virtual time. */
class Harness {
  readonly network: VirtualNetwork;
  readonly path: readonly SimNode[];
  readonly loops: LoopCover;
  readonly verdicts: { verdict: LoopVerdict; stats: LoopStats }[] = [];
  readonly unable: string[] = [];
  asked = 0;
  pathless = false;
  readonly #timers = new Set<{ atMs: number; callback: () => void }>();

  constructor(seed: number, perMinute: number) {
    this.network = new VirtualNetwork(suite, seed);
    const { network } = this;
    const client = network.add('client', { relay: false });
    this.path = [network.add('guard'), network.add('middle'), network.add('exit', { exit: true })];
    const schedule = (delayMs: number, callback: () => void) => {
      const timer = { atMs: network.nowMs + delayMs, callback };
      this.#timers.add(timer);
      return () => void this.#timers.delete(timer);
    };
    const requestPath = async () => {
      this.asked++;
      if (this.pathless) throw new Error('the view is empty');
      return this.path.map((node) => node.contact);
    };
    const host = {
      requestPath,
      tell: () => {},
      nowMs: () => network.nowMs,
      unixSeconds: () => network.unixSeconds,
      isAway: () => false,
      schedule,
    };
    const pool = new CircuitPool(client.engine, host, {
      maxCircuits: 10,
      mixDelayMs: DELAY_MS,
      batchMs: () => 300,
      spares: { count: 0, hops: 3 },
    });
    client.circuitEvents.push = (...events: ClientCircuitEvent[]) => {
      for (const event of events) pool.onCircuit(event);
      return 0;
    };
    this.loops = new LoopCover(
      { perMinute, hops: 3 },
      {
        pool,
        times: new Exponential(createSeededRandom(`loops ${seed}`)),
        requestPath,
        nowMs: () => network.nowMs,
        isOnline: () => client.engine.links().some(({ lastHeardMs }) => lastHeardMs > network.nowMs - 20_000),
        schedule,
        onVerdict: (verdict, stats) => this.verdicts.push({ verdict, stats }),
        onUnable: (reason) => this.unable.push(reason),
      },
    );
  }

  async run(forMs: number, done: () => boolean = () => false): Promise<boolean> {
    const endMs = this.network.nowMs + forMs;
    while (this.network.nowMs < endMs) {
      this.network.run(this.network.nowMs + 10);
      for (const timer of [...this.#timers]) {
        if (timer.atMs > this.network.nowMs || !this.#timers.delete(timer)) continue;
        timer.callback();
        await new Promise(setImmediate);
      }
      if (done()) return true;
    }
    return false;
  }
}

test('loops go out as a Poisson process and measure the path', async () => {
  const h = new Harness(301, 60);
  await h.run(300_000);
  const { sent, lost, meanRttMs, alarm } = h.loops.stats;
  assert.ok(sent > 230 && sent < 340, `${sent} in five minutes`);
  assert.equal(lost, 0);
  assert.equal(alarm, undefined);
  // Three hops of 20 ms there and back, and a wire of 1 ms.
  assert.ok(meanRttMs! > 100 && meanRttMs! < 160, `${meanRttMs} ms`);
  h.loops.stop();
  await h.run(20_000);
  assert.equal(h.loops.stats.sent, sent, 'stopped is stopped');
});

test('a relay that drops a part of what passes raises the alarm, and its end is told', async () => {
  const h = new Harness(302, 60);
  await h.run(60_000);
  assert.ok(h.verdicts.every(({ verdict }) => verdict.changed === undefined));
  const [, middle, exit] = h.path;
  // By the dice: every other one could be the acknowledgements alone.
  const dice = new Exponential(createSeededRandom('drops 302'));
  h.network.tap = (_datagram, from, to) => !(from === middle && to === exit && dice.uniform() < 0.5);
  const raised = () => h.verdicts.some(({ verdict }) => verdict.changed === 'raised');
  assert.ok(await h.run(60_000, raised), `seed 302: no alarm, ${JSON.stringify(h.loops.stats)}`);
  assert.equal(h.loops.stats.alarm, 'loss');
  h.network.tap = undefined;
  const cleared = () => h.verdicts.some(({ verdict }) => verdict.changed === 'cleared');
  assert.ok(await h.run(300_000, cleared), `seed 302: the alarm stays, ${JSON.stringify(h.loops.stats)}`);
});

test('a relay before which everything is blocked raises the alarm: the silent path is tried until that is sure', async () => {
  const h = new Harness(304, 60);
  await h.run(60_000);
  const [, middle] = h.path;
  h.network.tap = (_datagram, _from, to) => to !== middle;
  const raised = () => h.verdicts.some(({ verdict }) => verdict.changed === 'raised');
  assert.ok(await h.run(60_000, raised), `seed 304: no alarm, ${JSON.stringify(h.loops.stats)}`);
  const { lost } = h.loops.stats;
  await h.run(120_000);
  assert.ok(h.asked >= 2, 'another path after enough of it');
  // They are all the same three relays here: each path has its eight loops, with what came before it went silent.
  assert.ok(h.loops.stats.lost > lost);
  h.network.tap = undefined;
  const cleared = () => h.verdicts.some(({ verdict }) => verdict.changed === 'cleared');
  assert.ok(await h.run(300_000, cleared), `seed 304: the alarm stays, ${JSON.stringify(h.loops.stats)}`);
});

test('a client whose own network is gone is not alarmed', async () => {
  const h = new Harness(305, 12);
  await h.run(120_000);
  const client = h.network.nodes[0]!;
  h.network.tap = (_datagram, from, to) => from !== client && to !== client;
  await h.run(600_000);
  assert.ok(h.verdicts.every(({ verdict }) => verdict.alarm === undefined));
  // One or two may have been under way, or due before it was clear that nobody is heard.
  assert.ok(h.loops.stats.lost <= 5, `${h.loops.stats.lost} lost`);
  h.network.tap = undefined;
  const { sent } = h.loops.stats;
  await h.run(120_000);
  assert.ok(h.loops.stats.sent > sent + 10, JSON.stringify(h.loops.stats));
});

test('a circuit of loops is replaced after ten minutes, and when there is no path it is said and tried again later', async () => {
  const h = new Harness(303, 30);
  await h.run(590_000);
  assert.equal(h.asked, 1);
  h.pathless = true;
  assert.ok(await h.run(120_000, () => h.unable.length > 0));
  assert.equal(h.unable[0], 'the view is empty');
  h.pathless = false;
  const { sent } = h.loops.stats;
  await h.run(60_000);
  assert.ok(h.asked <= 60, `asked ${h.asked} times`);
  assert.ok(h.loops.stats.sent > sent + 5);
});
