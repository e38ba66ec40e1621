/**
 * How much a mix hides, in bits: Shannon entropy of what an observer of all links still does not know about one cell
 * (Serjantov and Danezis, PET 2002). What the figures mean and where they stop: docs/adr/0022.
 */

const LN2 = Math.LN2;
/** From here on the limit is within 0.001 bits of the exact value. */
const LARGE_POOL = 2000;

/**
 * Mean entropy, bits, of which of the cells that came into a mix is the one that leaves now, when cells come as a Poisson
 * process and each waits for an exponential time: an M/M/∞ queue. The observer sees every arrival and every departure.
 *
 * Exact. Going back in time from the departure with n cells in the mix, the one looked for among them, the event before
 * was an arrival with probability n/(ρ + n), which was it once in n times, or a departure, of another cell, with
 * probability ρ/(ρ + n). So h(n) = ρ/(ρ+n)·h(n+1) + n/(ρ+n)·(H(1/n) + (n−1)/n·h(n−1)), a tridiagonal system, and the
 * departing cell finds a Poisson number of others. This is the mean of the entropy that the recursion of Loopix §4.1.2
 * (USENIX Security 2017) follows event by event. For large ρ it is log2(e·ρ), equation 13 of Danezis, PET 2004.
 *
 * @param meanCells ρ: cells a second times the mean delay in seconds, which is the mean number that waits.
 */
export function poissonMixBits(meanCells: number): number {
  if (!(meanCells >= 0)) throw new RangeError(`mean number of cells: ${meanCells}`);
  if (meanCells === 0) return 0;
  if (meanCells > LARGE_POOL) return Math.log2(Math.E * meanCells);
  const size = Math.ceil(meanCells + 12 * Math.sqrt(meanCells) + 40);
  // h(n) = a·h(n+1) + b + c·h(n−1), eliminated upwards: h(n) = slope[n]·h(n+1) + offset[n].
  const slope = new Float64Array(size + 1);
  const offset = new Float64Array(size + 1);
  for (let n = 1; n <= size; n++) {
    const up = meanCells / (meanCells + n);
    const down = (n - 1) / (meanCells + n);
    const known = (n / (meanCells + n)) * binaryEntropyBits(1 / n);
    const scale = 1 - down * slope[n - 1]!;
    slope[n] = up / scale;
    offset[n] = (known + down * offset[n - 1]!) / scale;
  }
  // So many never wait together; one more or less makes no difference there.
  let bits = 0;
  let above = offset[size]! / (1 - slope[size]!);
  let logProbability = (size - 1) * Math.log(meanCells) - meanCells - logFactorial(size - 1);
  for (let n = size; n >= 1; n--) {
    if (n < size) {
      above = slope[n]! * above + offset[n]!;
      logProbability += Math.log(n) - Math.log(meanCells);
    }
    bits += Math.exp(logProbability) * above;
  }
  return bits;
}

/** Least number of cells within a path's mean delay for which pathBits says anything: below, its limit is no good. */
export const MIN_PATH_CELLS = 5;

/**
 * Entropy, bits, of which of the cells that entered a path is the one that leaves it, for an observer of both ends who sees
 * nothing between: every cell takes the same `hops` mixes of mean delay `delayMs`, and cells enter as a Poisson process.
 * The delay is an Erlang time, whose differential entropy (nats) is h + ln(mean) + ln Γ(h) + (1 − h)·ψ(h); with the
 * cells' rate this is equation 9 of Danezis, PET 2004: a limit for many cells. Undefined below MIN_PATH_CELLS.
 */
export function pathBits(cellsPerSecond: number, delayMs: number, hops: number): number | undefined {
  if (!Number.isInteger(hops) || hops < 1) throw new RangeError(`hops: ${hops}`);
  const meanCells = (cellsPerSecond * delayMs) / 1000;
  if (!(meanCells * hops >= MIN_PATH_CELLS)) return undefined;
  const erlangNats = hops + logFactorial(hops - 1) + (1 - hops) * digamma(hops);
  return Math.log2(meanCells) + erlangNats / LN2;
}

/** Entropy, bits, of one out of so many that are all alike to the observer: a full batch, links that look the same. */
export function uniformBits(count: number): number {
  if (!(count >= 1)) throw new RangeError(`count: ${count}`);
  return Math.log2(count);
}

function binaryEntropyBits(p: number): number {
  return p <= 0 || p >= 1 ? 0 : -(p * Math.log2(p) + (1 - p) * Math.log2(1 - p));
}

/** ln n! */
function logFactorial(n: number): number {
  let sum = 0;
  for (let k = 2; k <= n; k++) sum += Math.log(k);
  return sum;
}

/** ψ(n) of a positive integer. */
function digamma(n: number): number {
  let sum = -0.577_215_664_901_532_9;
  for (let k = 1; k < n; k++) sum += 1 / k;
  return sum;
}
