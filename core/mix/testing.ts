/** Goodness of fit, for the tests of what is random here. */

/** Largest distance between the samples' distribution and `cdf` (Kolmogorov–Smirnov), times √n: 1.63 at the 1 % level. */
export function kolmogorovSmirnov(samples: readonly number[], cdf: (x: number) => number): number {
  const sorted = Float64Array.from(samples).sort();
  const n = sorted.length;
  let distance = 0;
  for (let i = 0; i < n; i++) {
    const expected = cdf(sorted[i]!);
    distance = Math.max(distance, expected - i / n, (i + 1) / n - expected);
  }
  return distance * Math.sqrt(n);
}

/** The same between two sets of samples, scaled alike. */
export function kolmogorovSmirnovTwo(a: readonly number[], b: readonly number[]): number {
  const x = Float64Array.from(a).sort();
  const y = Float64Array.from(b).sort();
  let i = 0;
  let j = 0;
  let distance = 0;
  while (i < x.length && j < y.length) {
    const at = Math.min(x[i]!, y[j]!);
    while (i < x.length && x[i]! <= at) i++;
    while (j < y.length && y[j]! <= at) j++;
    distance = Math.max(distance, Math.abs(i / x.length - j / y.length));
  }
  return distance * Math.sqrt((x.length * y.length) / (x.length + y.length));
}

/** What 1 in 100 honest samples exceed. */
export const KS_ONE_PERCENT = 1.628;

/** Distribution of the sum of `count` exponential times of one mean (Erlang). */
export function erlangCdf(count: number, mean: number): (x: number) => number {
  return (x) => {
    if (x <= 0) return 0;
    let term = Math.exp(-x / mean);
    let sum = term;
    for (let k = 1; k < count; k++) {
      term *= x / mean / k;
      sum += term;
    }
    return 1 - sum;
  };
}
