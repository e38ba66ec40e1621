/**
 * How a global passive observer matches what it sees on a client's link with the flows at the exits: a score for each pair,
 * higher = more alike. All of them are published, simple statistics; each is computed for all pairs at once.
 *
 * * `counts`: Pearson correlation of the numbers of cells in windows of 0.1, 0.5 and 2 s, shifted by the delay that the class and
 *   the wire have on average.
 * * `lagged`: the same in windows of 0.5 s at the best of five shifts around it (cross-correlation).
 * * `ranks`: Spearman's correlation of the numbers in windows of 1 s, as RAPTOR (Sun et al., USENIX Security 2015) uses it for bytes.
 * * `gaps`: correlation of the logarithms of the first 300 inter-packet delays.
 * * `likelihood`: log-likelihood of the times seen, when the flow's cells are delayed by the known law, against all times
 *   alike; the matched filter of Danezis, PET 2004 §3, with the flow's volume in it (Poisson process).
 *
 * The observer knows each client's latency on the wire and the law of the delays, as probes of its own would tell it.
 */
import type { DelayLaw, Seen } from './carry.ts';

export const statistics = [
  'counts 0.1 s',
  'counts 0.5 s',
  'counts 2 s',
  'lagged',
  'ranks',
  'gaps',
  'likelihood',
] as const;
export type Statistic = (typeof statistics)[number];

const LAG_WINDOW_MS = 500;
const MAX_LAG = 2;
const RANK_WINDOW_MS = 1000;
const MAX_GAPS = 300;
/** Bins of the matched filter: a fortieth of the mean delay, at least so much. */
const LEAST_BIN_MS = 5;
/** Share of a flow's cells that the template spreads evenly, so that no time is impossible. */
const FLOOR_SHARE = 0.01;

/** Flows at the exits, and what is computed of them once for all that they are compared with. */
export class Matcher {
  readonly #flows: readonly Float64Array[];
  readonly untilMs: number;
  readonly #columns = new Map<number, readonly Float32Array[]>();
  #rankColumns: readonly Float32Array[] | undefined;
  #gapColumns: readonly Float64Array[] | undefined;

  constructor(flows: readonly Float64Array[], untilMs: number) {
    this.#flows = flows;
    this.untilMs = untilMs;
  }

  /** Scores of `seen` (rows) against the flows (columns). */
  score(statistic: Statistic, seen: readonly Seen[], law: DelayLaw): Float32Array {
    if (statistic === 'likelihood') return likelihood(seen, this.#flows, law, this.untilMs);
    const shifted = seen.map(({ times, latencyMs }) => times.map((at) => at - latencyMs - law.meanMs));
    switch (statistic) {
      case 'counts 0.1 s':
        return this.#correlate(shifted, 100, 0);
      case 'counts 0.5 s':
        return this.#correlate(shifted, 500, 0);
      case 'counts 2 s':
        return this.#correlate(shifted, 2000, 0);
      case 'lagged':
        return this.#correlate(shifted, LAG_WINDOW_MS, MAX_LAG);
      case 'ranks': {
        const rank = (times: Float64Array) => ranks(counts(times, RANK_WINDOW_MS, this.untilMs));
        this.#rankColumns ??= this.#flows.map((times) => standardized(rank(times)));
        return products(shifted.map(rank), this.#rankColumns);
      }
      case 'gaps':
        this.#gapColumns ??= this.#flows.map(logGaps);
        return gaps(shifted.map(logGaps), this.#gapColumns);
    }
  }

  #correlate(seen: readonly Float64Array[], windowMs: number, maxLag: number): Float32Array {
    const vector = (times: Float64Array) => counts(times, windowMs, this.untilMs);
    let columns = this.#columns.get(windowMs);
    if (columns === undefined) {
      columns = this.#flows.map((times) => standardized(vector(times)));
      this.#columns.set(windowMs, columns);
    }
    let best: Float32Array | undefined;
    for (let lag = -maxLag; lag <= maxLag; lag++) {
      const scores = products(
        seen.map((times) => vector(times.map((at) => at - lag * windowMs))),
        columns,
      );
      if (best === undefined) best = scores;
      else for (let i = 0; i < scores.length; i++) if (scores[i]! > best[i]!) best[i] = scores[i]!;
    }
    return best!;
  }
}

/** Events in windows of `windowMs`, of which the first begins at 0. */
function counts(times: Float64Array, windowMs: number, untilMs: number): Float64Array {
  const windows = new Float64Array(Math.ceil(untilMs / windowMs));
  for (const at of times) if (at >= 0 && at < untilMs) windows[Math.floor(at / windowMs)]!++;
  return windows;
}

/** Mean 0, sum of squares 1; all zeros when nothing varies. */
function standardized(values: Float64Array): Float32Array {
  let mean = 0;
  for (const value of values) mean += value / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  const scale = squares > 1e-12 ? 1 / Math.sqrt(squares) : 0;
  return Float32Array.from(values, (value) => (value - mean) * scale);
}

/** Correlation of raw rows with standardized columns; rows are mostly zeros, which add nothing since a column's mean is zero. */
function products(rows: readonly Float64Array[], columns: readonly Float32Array[]): Float32Array {
  const scores = new Float32Array(rows.length * columns.length);
  let at = 0;
  for (const row of rows) {
    const filled = Uint32Array.from(row.keys().filter((i) => row[i] !== 0));
    const values = Float64Array.from(filled, (i) => row[i]!);
    let mean = 0;
    for (const value of values) mean += value / row.length;
    let squares = mean * mean * (row.length - values.length);
    for (const value of values) squares += (value - mean) ** 2;
    const scale = squares > 1e-12 ? 1 / Math.sqrt(squares) : 0;
    for (const column of columns) {
      let sum = 0;
      for (let i = 0; i < filled.length; i++) sum += values[i]! * column[filled[i]!]!;
      scores[at++] = sum * scale;
    }
  }
  return scores;
}

/** Mean rank where values are equal. */
function ranks(values: Float64Array): Float64Array {
  const order = Array.from(values, (_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const out = new Float64Array(values.length);
  for (let from = 0; from < order.length; ) {
    let to = from;
    while (to < order.length && values[order[to]!] === values[order[from]!]) to++;
    for (let i = from; i < to; i++) out[order[i]!] = (from + to - 1) / 2;
    from = to;
  }
  return out;
}

function logGaps(times: Float64Array): Float64Array {
  return Float64Array.from({ length: Math.max(0, Math.min(MAX_GAPS, times.length - 1)) }, (_, i) =>
    Math.log(times[i + 1]! - times[i]! + 0.1),
  );
}

function gaps(rows: readonly Float64Array[], columns: readonly Float64Array[]): Float32Array {
  const scores = new Float32Array(rows.length * columns.length);
  let at = 0;
  for (const a of rows) for (const b of columns) scores[at++] = pearson(a, b, Math.min(a.length, b.length));
  return scores;
}

/** Of the first `length` values; −1 for fewer than four: nothing can be said for such a pair. */
function pearson(a: Float64Array, b: Float64Array, length: number): number {
  if (length < 4) return -1;
  let sumA = 0;
  let sumB = 0;
  let sumAA = 0;
  let sumBB = 0;
  let sumAB = 0;
  for (let i = 0; i < length; i++) {
    const x = a[i]!;
    const y = b[i]!;
    sumA += x;
    sumB += y;
    sumAA += x * x;
    sumBB += y * y;
    sumAB += x * y;
  }
  const varying = (sumAA - (sumA * sumA) / length) * (sumBB - (sumB * sumB) / length);
  return varying > 1e-12 ? (sumAB - (sumA * sumB) / length) / Math.sqrt(varying) : 0;
}

function likelihood(
  seen: readonly Seen[],
  flows: readonly Float64Array[],
  law: DelayLaw,
  untilMs: number,
): Float32Array {
  const binMs = Math.max(LEAST_BIN_MS, law.meanMs / 40);
  const density = law.bins(binMs);
  const bins = Math.ceil(untilMs / binMs);
  const rows = seen.map(({ times, latencyMs }) =>
    counts(
      times.map((at) => at - latencyMs),
      binMs,
      untilMs,
    ),
  );
  const filled = rows.map((row) => Uint32Array.from(row.keys().filter((i) => row[i]! > 0)));
  const wanted = Uint32Array.from(new Set(filled.flatMap((indices) => [...indices])));
  const totals = rows.map((row) => row.reduce((sum, value) => sum + value, 0));
  const meanTotal = totals.reduce((sum, total) => sum + total, 0) / totals.length;
  const scores = new Float32Array(rows.length * flows.length);
  /** Beyond the floor, by bin; its logarithm with it, where anything was seen. */
  const delayed = new Float64Array(bins);
  const logs = new Float64Array(bins);
  flows.forEach((flow, column) => {
    // With cover: what is seen on average beyond the flow is taken for it.
    const others = Math.max(FLOOR_SHARE * flow.length, law.covered ? meanTotal - flow.length : 0);
    const floor = others / bins + 1e-6;
    let mean = floor * bins;
    let reach = 0;
    for (let cell = 0; cell < flow.length; ) {
      const first = Math.floor(flow[cell]! / binMs);
      let cells = 0;
      while (cell < flow.length && Math.floor(flow[cell]! / binMs) === first) {
        cells += 1 - FLOOR_SHARE;
        cell++;
      }
      const count = Math.min(density.length, bins - first);
      for (let i = 0; i < count; i++) {
        delayed[first + i]! += density[i]! * cells;
        mean += density[i]! * cells;
      }
      reach = Math.max(reach, first + count);
    }
    for (const i of wanted) logs[i] = Math.log(floor + delayed[i]!);
    delayed.fill(0, Math.floor((flow[0] ?? 0) / binMs), reach);
    for (let row = 0; row < rows.length; row++) {
      const times = rows[row]!;
      // Against the same number of cells at any time alike.
      let sum = -mean - totals[row]! * Math.log(Math.max(totals[row]!, 1) / bins) + totals[row]!;
      for (const i of filled[row]!) sum += times[i]! * logs[i]!;
      scores[row * flows.length + column] = sum;
    }
  });
  return scores;
}
