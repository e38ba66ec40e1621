/**
 * One relay's real mix under an observer of all its links: what it is surprised by for each cell, beside what the meter of
 * the daemon says from the relay's counters (windows of ten seconds). With cells that come as a Poisson process, for which the
 * formula is exact, and with cells of web users, which come in bursts.
 */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { poissonMixBits } from '@nyx/core/mix/anonymity.ts';
import { measuredMix } from '@nyx/core/mix/anonymity-report.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import { type MixOwner, PoissonMix } from '@nyx/core/mix/poisson-mix.ts';
import { PoolObserver } from '@nyx/core/mix/pool-observer.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { userCells } from './traffic.ts';

export interface RelayEntropy {
  readonly arrivals: 'poisson' | 'web';
  readonly delayMs: number;
  readonly cellsPerSecond: number;
  /** Mean over windows that have enough cells, weighted by their cells: what GetAnonymity would have said. */
  readonly meterBits: number | undefined;
  /** Of the posterior, and the mean surprise by the true cell. */
  readonly entropyBits: number;
  readonly surpriseBits: number;
  /** At the rate of the whole run. */
  readonly formulaBits: number;
}

const WINDOW_MS = 10_000;
const RELEASE_MS = 1;

export function poissonArrivals(cellsPerSecond: number, durationMs: number, seed: string): Float64Array {
  const dice = new Exponential(createSeededRandom(`poisson ${seed}`));
  const times: number[] = [];
  for (let at = dice.sample(1000 / cellsPerSecond); at < durationMs; at += dice.sample(1000 / cellsPerSecond)) {
    times.push(at);
  }
  return Float64Array.from(times);
}

/** Cells of so many web users, all together. */
export function webArrivals(users: number, durationMs: number, seed: string): Float64Array {
  const dice = new Exponential(createSeededRandom(`web ${seed}`));
  const all = Array.from({ length: users }, () => userCells('web', durationMs, dice));
  const out = new Float64Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const times of all) {
    out.set(times, at);
    at += times.length;
  }
  return out.sort();
}

export function relayEntropy(
  arrivals: 'poisson' | 'web',
  times: Float64Array,
  delayMs: number,
  durationMs: number,
  seed: string,
): RelayEntropy {
  const mix = new PoissonMix(createSeededRandom(`relay ${seed} ${delayMs}`), 131_072, RELEASE_MS);
  const observer = new PoolObserver();
  const warmUpMs = 10 * delayMs;
  const cell = new Uint8Array(DATAGRAM_BYTES);
  const numbers = new DataView(cell.buffer);
  const owner: MixOwner = {
    mixPlace: -1,
    release(bytes, _note, nowMs) {
      const id = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
      observer.depart(id, nowMs > warmUpMs);
    },
  };
  let before = { cells: 0, waitedMs: 0 };
  let windowEndMs = WINDOW_MS;
  let meterBits = 0;
  let meterCells = 0;
  const closeWindow = () => {
    const now = { cells: mix.released + mix.length, waitedMs: mix.waitedMs };
    const cells = now.cells - before.cells;
    const measured = measuredMix([{ seconds: WINDOW_MS / 1000, cells, waitedMs: now.waitedMs - before.waitedMs }]);
    before = now;
    windowEndMs += WINDOW_MS;
    if (measured === undefined) return;
    meterBits += measured.bits * cells;
    meterCells += cells;
  };
  times.forEach((at, id) => {
    for (let dueMs = mix.nextMs(); dueMs <= at; dueMs = mix.nextMs()) mix.release(dueMs, Number.POSITIVE_INFINITY);
    while (at >= windowEndMs) closeWindow();
    observer.arrive(id);
    numbers.setUint32(0, id);
    mix.push(cell, owner, 0, mix.inward, delayMs, at);
  });
  const cellsPerSecond = (times.length * 1000) / durationMs;
  return {
    arrivals,
    delayMs,
    cellsPerSecond,
    meterBits: meterCells === 0 ? undefined : meterBits / meterCells,
    entropyBits: observer.entropyBits / observer.departures,
    surpriseBits: observer.surpriseBits / observer.departures,
    formulaBits: poissonMixBits((cellsPerSecond * delayMs) / 1000),
  };
}
