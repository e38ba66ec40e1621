/** Nearest-rank quantiles of a sample, and a text histogram of it. */

export interface Distribution {
  readonly count: number;
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  readonly mean: number;
}

/** Throws RangeError for an empty sample: a distribution of nothing would be a made-up number. */
export function distribution(sample: readonly number[]): Distribution {
  if (sample.length === 0) throw new RangeError('no measurement in the sample');
  const sorted = Float64Array.from(sample).sort();
  const rank = (q: number) => sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]!;
  let sum = 0;
  for (const value of sorted) sum += value;
  return {
    count: sorted.length,
    min: sorted[0]!,
    p50: rank(0.5),
    p90: rank(0.9),
    p99: rank(0.99),
    max: sorted[sorted.length - 1]!,
    mean: sum / sorted.length,
  };
}

/** Rows `from – to  count  bar` over logarithmic buckets, widest bar `width` characters. */
export function histogram(sample: readonly number[], rows = 10, width = 40, unit = 'ms'): string {
  const { min, max } = distribution(sample);
  const low = Math.max(min, 1e-3);
  const ratio = Math.max(max / low, 1.0001);
  const counts = new Array<number>(rows).fill(0);
  for (const value of sample) {
    const index = Math.floor((Math.log(Math.max(value, low) / low) / Math.log(ratio)) * rows);
    counts[Math.min(rows - 1, Math.max(0, index))]! += 1;
  }
  const top = Math.max(...counts);
  const lines: string[] = [];
  for (let index = 0; index < rows; index += 1) {
    const from = low * ratio ** (index / rows);
    const to = low * ratio ** ((index + 1) / rows);
    const bar = '#'.repeat(Math.ceil((counts[index]! / top) * width));
    lines.push(
      `${from.toFixed(2).padStart(9)} – ${to.toFixed(2).padEnd(9)} ${unit} ${String(counts[index]).padStart(7)} ${bar}`,
    );
  }
  return lines.join('\n');
}
