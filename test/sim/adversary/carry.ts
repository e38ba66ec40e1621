/**
 * From the exit to the client: what each class and cover mode makes of a user's cells, and so what is to be seen on the client's
 * link. Delays come from the real mix, cover from the real Poisson process and controller; the wire is a model. A
 * cell's delay does not depend on other cells (the queue serves all at once), so that users can be carried one by one; only
 * `cmix` needs everybody's cells, since they fill the batches.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { batchRulesOf } from '@nyx/core/mix/batch-records.ts';
import { CoverController, type CoverOptions, PoissonProcess } from '@nyx/core/mix/cover.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import { type MixOwner, PoissonMix } from '@nyx/core/mix/poisson-mix.ts';
import { erlangCdf } from '@nyx/core/mix/testing.ts';
import type { Random } from '@nyx/core/ports.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { defaults } from '@nyx/daemon/config/defaults.ts';

export interface Mode {
  readonly name: string;
  readonly class: 'fast' | 'mix' | 'cmix';
  readonly hops: number;
  /** Class mix: mean at each hop. */
  readonly delayMs: number;
  readonly cover: 'off' | 'adaptive' | 'constant';
}

/** As daemons release cells: timers have a millisecond. */
const RELEASE_MS = 1;
/** One way over all hops, and what a cell may be later than that; order is kept. */
const LATENCY_MS = [30, 120] as const;
const JITTER_MS = 2;
export const CONSTANT_CELLS_PER_SECOND = 20;
export const ADAPTIVE: CoverOptions = {
  mode: 'adaptive',
  cellsPerSecond: 0.5,
  ratio: 0.4,
  dropCellsPerSecond: 0,
  budgetBytesPerHour: 0,
};

/**
 * Class cmix as its default parameters say: a relay waits for a full batch (or so long), computes, and sends all at once. The batches are
 * those of core/mix/batch-queue.ts (carry.test.ts holds them against it); however many are computed at the same time.
 */
const { cells, delayMs } = batchRulesOf({});
const { maxWaitMs } = defaults.cmix;
export const BATCH = { cells, computeMs: delayMs, longestWaitMs: maxWaitMs } as const;
/** Relays of the network, for how full batches get: at most 250 users for each, as far as a relay's batches hold them. */
export const relaysFor = (users: number): number => Math.max(20, Math.ceil(users / 250));

export interface Seen {
  /** Times of datagrams on the client's link, ascending. */
  readonly times: Float64Array;
  /** Least one-way latency of the wire, which the observer knows (it can measure round trips). */
  readonly latencyMs: number;
}

/** What the observer knows of the delays beyond the least latency of the wire. */
export interface DelayLaw {
  readonly meanMs: number;
  /** What is seen may be cover. */
  readonly covered: boolean;
  /** Probability of each bin of this width, from 0 on. */
  bins(binMs: number): Float64Array;
}

export class Carrier {
  readonly #mode: Mode;
  readonly #random: Random;
  readonly #dice: Exponential;
  /** Ascending. */
  #batchDelays: Float64Array | undefined;

  constructor(mode: Mode, seed: string) {
    this.#mode = mode;
    this.#random = createSeededRandom(`carry ${mode.name} ${seed}`);
    this.#dice = new Exponential(this.#random);
  }

  /** As the class says; of batches as measured over all cells of the last carryBatches(). */
  delayLaw(): DelayLaw {
    const { class: circuitClass, hops, delayMs, cover } = this.#mode;
    const covered = cover !== 'off';
    if (circuitClass === 'cmix' && this.#batchDelays !== undefined) {
      const delays = this.#batchDelays;
      const bins = (binMs: number) => {
        const law = new Float64Array(Math.ceil((delays.at(-1)! + 1) / binMs) + 1);
        for (const delay of delays) law[Math.floor((delay + JITTER_MS) / binMs)]!++;
        return normalized(law);
      };
      return { meanMs: JITTER_MS + delays.reduce((sum, delay) => sum + delay, 0) / delays.length, covered, bins };
    }
    // Erlang; the wire's jitter counts where there is nothing else.
    const [terms, mean] = circuitClass === 'mix' ? [hops, delayMs] : [1, JITTER_MS];
    const bins = (binMs: number) => {
      const cdf = erlangCdf(terms, mean);
      const law = new Float64Array(Math.ceil((6 * terms * mean + 10 * mean) / binMs));
      return normalized(law.map((_, i) => cdf((i + 1) * binMs) - cdf(i * binMs)));
    };
    return { meanMs: terms * mean + (circuitClass === 'mix' ? JITTER_MS : 0), covered, bins };
  }

  latency(): number {
    const [least, most] = LATENCY_MS;
    return least + (most - least) * this.#dice.uniform();
  }

  /** Classes fast and mix, and what cover makes of the client's link between 0 and `untilMs`. */
  carry(cells: Float64Array, latencyMs: number, untilMs: number): Seen {
    let times = cells;
    for (let hop = 0; this.#mode.class === 'mix' && hop < this.#mode.hops; hop++) {
      times = through(new PoissonMix(this.#random, 16_384, RELEASE_MS), times, this.#mode.delayMs);
    }
    return { times: this.cover(this.wire(times, latencyMs), untilMs), latencyMs };
  }

  wire(times: Float64Array, latencyMs: number): Float64Array {
    let last = 0;
    return times.map((at) => {
      last = Math.max(last, at + latencyMs + this.#dice.sample(JITTER_MS));
      return last;
    });
  }

  cover(times: Float64Array, untilMs: number): Float64Array {
    const { cover } = this.#mode;
    if (cover === 'off') return times;
    const process = new PoissonProcess(this.#dice);
    const covers: number[] = [];
    if (cover === 'constant') {
      // As core/engine/link-cover.ts: a datagram leaves at the times of the process, a real one if one waits, else cover.
      process.setRate(CONSTANT_CELLS_PER_SECOND, 0);
      while (process.nextMs < untilMs) {
        const at = process.nextMs;
        if (process.take(at)) covers.push(at);
      }
      return Float64Array.from(covers);
    }
    const controller = new CoverController(ADAPTIVE, process, 0, 0);
    let real = 0;
    for (;;) {
      const at = Math.min(process.nextMs, controller.nextMs);
      if (at >= untilMs) break;
      while (real < times.length && times[real]! <= at) real++;
      controller.adjust(real, at);
      if (process.take(at)) covers.push(at);
    }
    const all = new Float64Array(times.length + covers.length);
    all.set(times);
    all.set(covers, times.length);
    return all.sort();
  }

  /** Class cmix: all users together, hop by hop. Gives the times at the client of the first `targets` users. */
  carryBatches(users: readonly Float64Array[], targets: number, latenciesMs: readonly number[]): Seen[] {
    const total = users.reduce((sum, { length }) => sum + length, 0);
    const owner = new Uint32Array(total);
    let at: Float64Array = new Float64Array(total);
    let next = 0;
    users.forEach((times, user) => {
      owner.fill(user, next, next + times.length);
      at.set(times, next);
      next += times.length;
    });
    const began: Float64Array = at;
    const relayCount = relaysFor(users.length);
    const paths = users.map(() => this.#path(relayCount));
    for (let hop = 0; hop < this.#mode.hops; hop++) {
      const came = at;
      const byRelay: number[][] = Array.from({ length: relayCount }, () => []);
      for (const cell of new Uint32Array(total).map((_, i) => i).sort((a, b) => came[a]! - came[b]!)) {
        byRelay[paths[owner[cell]!]![hop]!]!.push(cell);
      }
      const out = new Float64Array(total);
      for (const cells of byRelay) {
        const leave = batchTimes(Float64Array.from(cells, (cell) => came[cell]!));
        cells.forEach((cell, i) => {
          out[cell] = leave[i]!;
        });
      }
      at = out;
    }
    this.#batchDelays = at.map((end, i) => end - began[i]!).sort();
    const seen: number[][] = Array.from({ length: targets }, () => []);
    for (let i = 0; i < total; i++) if (owner[i]! < targets) seen[owner[i]!]!.push(at[i]!);
    return seen.map((times, user) => {
      const latencyMs = latenciesMs[user]!;
      return { times: this.wire(Float64Array.from(times).sort(), latencyMs), latencyMs };
    });
  }

  #path(relayCount: number): number[] {
    const relays = Array.from({ length: relayCount }, (_, i) => i);
    return Array.from({ length: this.#mode.hops }, () => {
      const [relay] = relays.splice(Math.floor((1 - this.#dice.uniform()) * relays.length), 1);
      return relay!;
    });
  }
}

/** When the cells that come to a relay at these times (ascending) leave it in batches. */
export function batchTimes(times: Float64Array): Float64Array {
  const out = new Float64Array(times.length);
  let first = 0;
  for (let next = 1; next <= times.length; next++) {
    const closesMs = times[first]! + BATCH.longestWaitMs;
    const full = next - first === BATCH.cells;
    if (!full && next < times.length && times[next]! <= closesMs) continue;
    out.fill((full ? times[next - 1]! : closesMs) + BATCH.computeMs, first, next);
    first = next;
  }
  return out;
}

function normalized(values: Float64Array): Float64Array {
  const sum = values.reduce((total, value) => total + value, 0);
  return values.map((value) => value / sum);
}

const cell = new Uint8Array(DATAGRAM_BYTES);

/** One hop's real mix, driven from event to event. */
function through(mix: PoissonMix, times: Float64Array, meanMs: number): Float64Array {
  const out = new Float64Array(times.length);
  let count = 0;
  const owner: MixOwner = {
    mixPlace: -1,
    release(_bytes, _note, nowMs) {
      out[count++] = nowMs;
    },
  };
  const release = (untilMs: number) => {
    for (let dueMs = mix.nextMs(); dueMs <= untilMs; dueMs = mix.nextMs()) mix.release(dueMs, Number.POSITIVE_INFINITY);
  };
  for (const at of times) {
    release(at);
    mix.push(cell, owner, 0, mix.inward, meanMs, at);
  }
  release(Number.MAX_VALUE);
  return out;
}
