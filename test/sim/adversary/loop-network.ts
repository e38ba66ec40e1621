/** A client of real engines with the daemon's loop cover, over relays of which one may be attacked, on virtual time. */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { ClientCircuitEvent } from '@nyx/core/engine/contract.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import type { LoopAlarm } from '@nyx/core/mix/loop-monitor.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { CircuitPool } from '@nyx/daemon/pump/circuit-pool.ts';
import { LoopCover } from '@nyx/daemon/pump/loop-cover.ts';
import { perfectWire, type SimNode, VirtualNetwork } from '../virtual-network.ts';

export const LOOPS_PER_MINUTE = 6;
export const LOOP_DELAY_MS = 20;
const HOPS = 5;
const MIDDLES = 8;
const LATENCY_MS = 15;
const STEP_MS = 200;

const suite = createNativeSuite();

export interface Attack {
  /** Share of the datagrams towards the relay that never reach it. */
  readonly drop: number;
  /** How long the others are held back, ms. */
  readonly holdMs: number;
}

export class LoopNetwork {
  readonly network: VirtualNetwork;
  readonly loops: LoopCover;
  /** First hop first, of the circuit that was asked for last. */
  path: readonly SimNode[] = [];
  readonly middles: readonly SimNode[];
  alarms: { readonly atMs: number; readonly alarm: LoopAlarm }[] = [];
  readonly #dice: Exponential;
  readonly #timers = new Set<{ atMs: number; callback: () => void }>();

  constructor(seed: number, wireLossRatio: number) {
    this.network = new VirtualNetwork(suite, seed, { ...perfectWire, latencyMs: LATENCY_MS, lossRatio: wireLossRatio });
    const { network } = this;
    const dice = new Exponential(createSeededRandom(`loops ${seed}`));
    this.#dice = dice;
    const client = network.add('client', { relay: false });
    const guard = network.add('guard');
    this.middles = Array.from({ length: MIDDLES }, (_, i) => network.add(`middle ${i}`));
    const exit = network.add('exit', { exit: true });
    const nowMs = () => network.nowMs;
    const schedule = (delayMs: number, callback: () => void) => {
      const timer = { atMs: network.nowMs + delayMs, callback };
      this.#timers.add(timer);
      return () => void this.#timers.delete(timer);
    };
    const requestPath = async () => {
      const left = [...this.middles];
      const drawn = Array.from(
        { length: HOPS - 2 },
        () => left.splice(Math.floor((1 - dice.uniform()) * left.length), 1)[0]!,
      );
      this.path = [guard, ...drawn, exit];
      return this.path.map((node) => node.contact);
    };
    const unixSeconds = () => network.unixSeconds;
    const host = { requestPath, tell: () => {}, nowMs, unixSeconds, isAway: () => false, schedule };
    const pool = new CircuitPool(client.engine, host, {
      maxCircuits: 10,
      mixDelayMs: LOOP_DELAY_MS,
      batchMs: () => 300,
      spares: { count: 0, hops: HOPS },
    });
    client.circuitEvents.push = (...events: ClientCircuitEvent[]) => {
      for (const event of events) pool.onCircuit(event);
      return 0;
    };
    this.loops = new LoopCover(
      { perMinute: LOOPS_PER_MINUTE, hops: HOPS },
      {
        pool,
        times: dice,
        requestPath,
        nowMs,
        isOnline: () => client.engine.links().some(({ lastHeardMs }) => lastHeardMs > network.nowMs - 20_000),
        schedule,
        onVerdict: ({ changed, alarm }) => {
          if (changed === 'raised') this.alarms.push({ atMs: network.nowMs, alarm: alarm! });
        },
        onUnable: () => {},
      },
    );
  }

  /** From now on; undefined: it is over. */
  attack(target: SimNode, attack: Attack | undefined): void {
    const { network } = this;
    if (attack === undefined) {
      network.tap = undefined;
      return;
    }
    network.tap = (datagram, from, to) => {
      if (to !== target) return true;
      if (this.#dice.uniform() <= attack.drop) return false;
      if (attack.holdMs === 0) return true;
      const late = datagram.slice();
      this.#timers.add({
        atMs: network.nowMs + attack.holdMs,
        callback: () => network.inject(target, late, from.dialAddress),
      });
      return false;
    };
  }

  async run(forMs: number, done: () => boolean = () => false): Promise<boolean> {
    const { network } = this;
    const endMs = network.nowMs + forMs;
    while (network.nowMs < endMs) {
      let nextMs = Math.min(endMs, network.nowMs + STEP_MS);
      for (const { atMs } of this.#timers) nextMs = Math.min(nextMs, Math.max(atMs, network.nowMs));
      network.run(nextMs);
      for (const timer of [...this.#timers]) {
        if (timer.atMs > network.nowMs || !this.#timers.delete(timer)) continue;
        timer.callback();
        // A path that was asked for comes in a promise.
        await Promise.resolve();
        await Promise.resolve();
      }
      if (done()) return true;
    }
    return false;
  }
}
