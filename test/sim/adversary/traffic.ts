/**
 * What users do: times (ms, ascending) at which bytes for a user, a cell's worth each, reach the exit from outside.
 * Three models. `web`: pages after exponential pauses (mean 12 s), sizes log-normal (median 60 cells, σ 1.2, at most 3000),
 * fetched as objects of geometric size (mean 15 cells) with exponential gaps (80 ms) at a user's own speed (log-normal, median
 * 400 cells/s, σ 0.5). `chat`: messages of one to four cells, a Poisson process of 12 a minute. `single`: one cell, at any time.
 */
import type { Exponential } from '@nyx/core/mix/exponential.ts';

export type TrafficModel = 'web' | 'chat' | 'single';

const WEB_PAUSE_MS = 12_000;
const PAGE_MEDIAN_CELLS = 60;
const PAGE_SIGMA = 1.2;
const PAGE_MAX_CELLS = 3000;
const OBJECT_CELLS = 15;
const OBJECT_GAP_MS = 80;
const SPEED_MEDIAN = 400;
const SPEED_SIGMA = 0.5;
const CHAT_PAUSE_MS = 5000;
const CHAT_GAP_MS = 2;

/** One user's cells in [0, durationMs). */
export function userCells(model: TrafficModel, durationMs: number, dice: Exponential): Float64Array {
  const times: number[] = [];
  if (model === 'single') times.push((1 - dice.uniform()) * durationMs);
  else if (model === 'chat') {
    for (let at = dice.sample(CHAT_PAUSE_MS); at < durationMs; at += dice.sample(CHAT_PAUSE_MS)) {
      const cells = 1 + Math.floor((1 - dice.uniform()) * 4);
      for (let i = 0; i < cells; i++) times.push(at + i * CHAT_GAP_MS);
    }
  } else {
    const speed = SPEED_MEDIAN * Math.exp(SPEED_SIGMA * normal(dice));
    for (let at = dice.sample(WEB_PAUSE_MS); at < durationMs; at += dice.sample(WEB_PAUSE_MS)) {
      let left = Math.min(PAGE_MAX_CELLS, Math.ceil(PAGE_MEDIAN_CELLS * Math.exp(PAGE_SIGMA * normal(dice))));
      while (left > 0) {
        const size = Math.min(left, 1 + Math.floor(dice.sample(OBJECT_CELLS)));
        for (let i = 0; i < size; i++) {
          at += 1000 / speed;
          times.push(at);
        }
        left -= size;
        at += dice.sample(OBJECT_GAP_MS);
      }
    }
  }
  return Float64Array.from(times.filter((at) => at < durationMs)).sort();
}

/** Standard normal (Box and Muller). */
export function normal(dice: Exponential): number {
  return Math.sqrt(2 * dice.sample(1)) * Math.cos(2 * Math.PI * dice.uniform());
}
