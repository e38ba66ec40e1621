/** Totals over all pump workers that survive a worker's restart, and rates over the last ten seconds. */
import type { MixWindow } from '@nyx/core/mix/anonymity-report.ts';
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
  'messagesIn',
  'messagesForward',
  'messagesDelivered',
  'messagesOriginated',
  'messageCoverIn',
  'mixReleased',
  'mixWaitedMs',
  'fecSourcesSent',
  'fecRepairsSent',
  'fecRepairsReceived',
  'fecRepairsUsed',
  'fecRepairsWasted',
  'fecRepairsRejected',
  'fecPacketsRecovered',
  'fecRecoveredByPeer',
  'fecOverBudget',
  'exitSocketsOpened',
  'exitDatagramsDropped',
  'shedTotal',
  'handedOver',
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
  /** By worker: cells of class mix that have come in, and how long they wait, all together. */
  readonly mix: ReadonlyMap<number, MixTotals>;
}

interface MixTotals {
  readonly cells: number;
  readonly waitedMs: number;
}

/** Cells of class mix that have come in. */
const mixCells = (stats: PumpStats | undefined): number =>
  stats === undefined ? 0 : stats.mixReleased + stats.mixWaiting;

export class Meter {
  readonly #totals = Object.fromEntries(counted.map((name) => [name, 0])) as Record<Counted, number>;
  readonly #drops: Record<string, number> = {};
  readonly #last = new Map<number, PumpStats>();
  readonly #mix = new Map<number, MixTotals>();
  #latest: readonly WorkerStats[] = [];
  #samples: Sample[] = [];
  /** A datagram has come in at this time or later; -Infinity: none has. */
  heardMs = Number.NEGATIVE_INFINITY;

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
      const { cells, waitedMs } = this.#mix.get(worker) ?? { cells: 0, waitedMs: 0 };
      this.#mix.set(worker, {
        cells: cells + Math.max(0, mixCells(stats) - mixCells(before)),
        waitedMs: waitedMs + Math.max(0, stats.mixWaitedMs - (before?.mixWaitedMs ?? 0)),
      });
      this.#last.set(worker, stats);
    }
    this.#latest = workers;
    const { datagramsIn, datagramsOut } = this.#totals;
    const previous = this.#samples.at(-1);
    if (previous !== undefined && datagramsIn > previous.datagramsIn) this.heardMs = previous.atMs;
    this.#samples.push({ atMs: nowMs, datagramsIn, datagramsOut, processCpuSeconds, mix: new Map(this.#mix) });
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

  /** What came into each worker's mix in that time. */
  get mixWindows(): MixWindow[] {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || last.atMs <= first.atMs) return [];
    const seconds = (last.atMs - first.atMs) / 1000;
    return [...last.mix].flatMap(([worker, now]) => {
      const before = first.mix.get(worker);
      if (before === undefined) return [];
      return [{ seconds, cells: now.cells - before.cells, waitedMs: now.waitedMs - before.waitedMs }];
    });
  }

  sum(value: (stats: PumpStats) => number): number {
    return this.#latest.reduce((sum, { stats }) => sum + value(stats), 0);
  }
}
