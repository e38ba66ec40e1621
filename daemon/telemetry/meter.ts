/** Totals over all pump workers that survive a worker's restart, and rates over the last ten seconds. */
import type { WorkerStats } from '../actors/pump-pool.ts';
import type { PumpStats } from '../pump/contract.ts';

const DATAGRAM_BYTES = 1280;
const WINDOW_MS = 10_000;

const counted = [
  'datagramsIn',
  'datagramsOut',
  'cellsForward',
  'cellsBackward',
  'cellsDelivered',
  'cellsOriginated',
  'setups',
  'coverOut',
  'coverIn',
  'coverDropOut',
  'mixReleased',
  'mixWaitedMs',
  'exitSocketsOpened',
  'shedTotal',
  'cpuSeconds',
] as const;
type Counted = (typeof counted)[number];

export interface Totals extends Readonly<Record<Counted, number>> {
  readonly drops: Readonly<Record<string, number>>;
}

export interface Rates {
  readonly windowSeconds: number;
  readonly bytesInPerSecond: number;
  readonly bytesOutPerSecond: number;
  /** CPU time of the process per time; 1 = one core. */
  readonly cpuRatio: number;
}

interface Sample {
  readonly atMs: number;
  readonly datagramsIn: number;
  readonly datagramsOut: number;
  readonly processCpuSeconds: number;
}

export class Meter {
  readonly #totals = Object.fromEntries(counted.map((name) => [name, 0])) as Record<Counted, number>;
  readonly #drops: Record<string, number> = {};
  readonly #last = new Map<number, PumpStats>();
  #latest: readonly WorkerStats[] = [];
  #samples: Sample[] = [];

  /** Takes in the workers' figures. */
  update(workers: readonly WorkerStats[], nowMs: number, processCpuSeconds: number): void {
    for (const { worker, stats } of workers) {
      const last = this.#last.get(worker);
      // A worker that was restarted counts from zero again.
      const before = last !== undefined && stats.cpuSeconds >= last.cpuSeconds ? last : undefined;
      for (const name of counted) this.#totals[name] += Math.max(0, stats[name] - (before?.[name] ?? 0));
      for (const [reason, count] of Object.entries(stats.drops)) {
        this.#drops[reason] = (this.#drops[reason] ?? 0) + Math.max(0, count - (before?.drops[reason] ?? 0));
      }
      this.#last.set(worker, stats);
    }
    this.#latest = workers;
    const { datagramsIn, datagramsOut } = this.#totals;
    this.#samples.push({ atMs: nowMs, datagramsIn, datagramsOut, processCpuSeconds });
    while (this.#samples.length > 2 && this.#samples[1]!.atMs <= nowMs - WINDOW_MS) this.#samples.shift();
  }

  get totals(): Totals {
    return { ...this.#totals, drops: this.#drops };
  }

  get bytesIn(): number {
    return this.#totals.datagramsIn * DATAGRAM_BYTES;
  }

  get bytesOut(): number {
    return this.#totals.datagramsOut * DATAGRAM_BYTES;
  }

  /** The workers' last figures. */
  get latest(): readonly WorkerStats[] {
    return this.#latest;
  }

  get rates(): Rates {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    const windowSeconds = first === undefined || last === undefined ? 0 : (last.atMs - first.atMs) / 1000;
    if (first === undefined || last === undefined || windowSeconds <= 0) {
      return { windowSeconds: 0, bytesInPerSecond: 0, bytesOutPerSecond: 0, cpuRatio: 0 };
    }
    return {
      windowSeconds,
      bytesInPerSecond: ((last.datagramsIn - first.datagramsIn) * DATAGRAM_BYTES) / windowSeconds,
      bytesOutPerSecond: ((last.datagramsOut - first.datagramsOut) * DATAGRAM_BYTES) / windowSeconds,
      cpuRatio: (last.processCpuSeconds - first.processCpuSeconds) / windowSeconds,
    };
  }

  sum(value: (stats: PumpStats) => number): number {
    return this.#latest.reduce((sum, { stats }) => sum + value(stats), 0);
  }
}
