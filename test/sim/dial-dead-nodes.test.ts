/**
 * A client that has just been started, so that it knows nothing of who answers, dials in a network of which a good part
 * is dead: real dialer, circuit pool, path builder and engines on virtual time, a network for each seed. As long as one
 * guard of its own, one middle and one exit live, it gets through, and soon.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import { NodeFlag } from '@nyx/core/directory/node-status.ts';
import type { ClientCircuitEvent } from '@nyx/core/engine/contract.ts';
import { testNodeId, testView } from '@nyx/core/path/testing.ts';
import { uniform } from '@nyx/core/path/weighted-choice.ts';
import { EventBus } from '@nyx/daemon/actors/event-bus.ts';
import { PathBuilder } from '@nyx/daemon/actors/path-builder.ts';
import { defaults } from '@nyx/daemon/config/defaults.ts';
import { defaultConfig } from '@nyx/daemon/config/load.ts';
import type { HeldView } from '@nyx/daemon/directory/directory-client.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import type { FromPump } from '@nyx/daemon/pump/contract.ts';
import { SessionDialer } from '@nyx/daemon/pump/dialer.ts';
import { RACE_MS } from '@nyx/daemon/pump/path-race.ts';
import { systemTimers } from '@nyx/daemon/supervision/timers.ts';
import { type SimNode, VirtualNetwork } from './virtual-network.ts';

const suite = createNativeSuite();
const MIXES = 6;
const EXITS = 3;
/** Other seeds: NYX_PROPERTY_SEED=n. */
const FIRST_SEED = Number(process.env.NYX_PROPERTY_SEED) || 0;
const target = { host: 'target.test', port: 80 };

class Client {
  readonly network: VirtualNetwork;
  readonly nodes: readonly SimNode[];
  readonly dialer: SessionDialer;
  readonly builder: PathBuilder;
  readonly story: string[] = [];
  readonly #timers = new Set<{ readonly atMs: number; readonly callback: () => void }>();

  constructor(seed: number) {
    const network = new VirtualNetwork(suite, seed);
    this.network = network;
    const client = network.add('client', { relay: false });
    this.nodes = Array.from({ length: MIXES + EXITS }, (_, i) =>
      network.add(`node ${i}`, {
        nodeId: testNodeId(i),
        exit: i >= MIXES,
        serve: () => ({ onStream: (stream) => stream.connected(4, '192.0.2.1', 80), onClose() {} }),
      }),
    );
    this.builder = this.#builder(seed);
    this.dialer = new SessionDialer(
      {
        worker: 0,
        defaultHops: 3,
        mix: { hops: 5, delayMs: 20 },
        cmix: defaults.cmix,
        multipath: { paths: 1, strategy: 'latency_weighted' },
        fec: 'adaptive',
        maxCircuits: 100,
        spareCircuits: 2,
      },
      {
        engine: client.engine,
        host: {
          requestPath: async (constraints) => this.builder.select(constraints),
          tell: (message) => this.#hear(message),
          nowMs: () => network.nowMs,
          unixSeconds: () => network.unixSeconds,
          unixMs: () => network.unixSeconds * 1000,
          isAway: () => false,
          atTurnEnd: setImmediate,
          batchDelayMs: () => 100,
          schedule: (delayMs, callback) => {
            const timer = { atMs: network.nowMs + delayMs, callback };
            this.#timers.add(timer);
            return () => this.#timers.delete(timer);
          },
        },
      },
    );
    client.circuitEvents.push = (...events: ClientCircuitEvent[]) => {
      for (const event of events) this.dialer.onCircuit(event);
      return 0;
    };
  }

  /** Virtual ms until the target has answered. The spare circuits' set-ups are under way at the same time. */
  async dial(): Promise<number> {
    const { network } = this;
    const startedMs = network.nowMs;
    let outcome: 'connected' | Error | undefined;
    const { connected } = this.dialer.connect(target, { timeoutMs: 2 ** 31 - 1 });
    connected.then(
      () => {
        outcome = 'connected';
      },
      (error: Error) => {
        outcome = error;
      },
    );
    let swept = 0;
    while (outcome === undefined) {
      for (let turn = 0; turn < 4; turn++) await new Promise(setImmediate);
      if (network.nowMs >= swept) {
        this.dialer.sweep(network.nowMs);
        swept = network.nowMs + 250;
      }
      const untilMs = network.nowMs + 10;
      network.run(untilMs);
      for (const timer of this.#timers) {
        if (timer.atMs > untilMs) continue;
        this.#timers.delete(timer);
        timer.callback();
      }
      assert.ok(network.nowMs - startedMs < 60_000, `seed ${network.seed}: nothing`);
    }
    if (outcome !== 'connected') throw outcome;
    return network.nowMs - startedMs;
  }

  #hear(message: FromPump): void {
    if (message.type !== 'circuit') return;
    const names = message.path.map((id) => Number.parseInt(id.slice(0, 8), 16));
    const { kind, circuit } = message;
    this.story.push(
      `${this.network.nowMs} ${kind} ${circuit} ${names} ${kind === 'ended' ? `${message.reason} ${message.hop}` : ''}`,
    );
    this.builder.observe(0, message);
  }

  #builder(seed: number): PathBuilder {
    const { network } = this;
    const shape = Array.from({ length: MIXES + EXITS }, (_, i) => (i < MIXES ? {} : { exitPolicy: ['accept *:*'] }));
    const view = testView(shape, network.unixSeconds - 10);
    const statuses = shape.map(() => ({ weight: 1000, flags: NodeFlag.guard | NodeFlag.measured }));
    const byId = new Map(view.nodes.map((node) => [nodeIdHex(node.nodeId), node]));
    const signed = { ...view.view, freshUntil: network.unixSeconds + 3600, validUntil: network.unixSeconds + 7200 };
    const held = { verified: { ...view, view: signed, statuses, byId } } as unknown as HeldView;
    const contacts = new Map(this.nodes.map(({ contact }) => [nodeIdHex(contact.nodeId), contact]));
    const builder = new PathBuilder(
      {
        config: defaultConfig({
          directory: { sources: ['x'], authorities: { keys: ['ab'.repeat(32)] } },
          addressFamilies: ['ipv4', 'ipv6'],
        }),
        log: () => {},
        timers: systemTimers,
        unixMs: () => network.nowMs,
        suite,
        random: createSeededRandom(`paths ${seed}`),
        events: new EventBus(() => 0),
      },
      { view: held, contactOf: (id) => contacts.get(id) },
      { get: () => undefined },
      { read: () => undefined, write: () => {} },
      'ff'.repeat(32),
      undefined,
    );
    builder.update(held);
    return builder;
  }
}

/** Kills so many nodes, so many exits among them. */
function kill({ nodes }: Client, dead: number, deadExits: number, seed: number): void {
  const random = createSeededRandom(`dead ${seed}`);
  const kill = (among: readonly SimNode[], count: number) => {
    const left = [...among];
    for (let i = 0; i < count; i++) left.splice(Math.floor(uniform(random) * left.length), 1)[0]!.down = true;
  };
  kill(nodes.slice(0, MIXES), dead - deadExits);
  kill(nodes.slice(MIXES), deadExits);
}

for (const { dead, exits, seeds, withinMs } of [
  // Nearly half of the network, and two of three exits; and all but one guard, one middle and one exit.
  { dead: 4, exits: 2, seeds: 16, withinMs: 5_000 },
  { dead: 6, exits: 2, seeds: 8, withinMs: RACE_MS },
]) {
  test(`${dead} of ${MIXES + EXITS} nodes are dead, ${exits} of them exits: connected within ${withinMs} ms`, async () => {
    for (let i = 0; i < seeds; i++) {
      const seed = FIRST_SEED + i;
      const client = new Client(seed);
      kill(client, dead, exits, seed);
      const tookMs = await client.dial();
      assert.ok(tookMs <= withinMs, `seed ${seed}: ${tookMs} ms\n${client.story.join('\n')}`);
    }
  });
}
