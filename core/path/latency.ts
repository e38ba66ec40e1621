/**
 * How slow nodes are as hops, from the client's own round-trip times and nobody's word: a path's time is that of the link
 * to its first hop plus a share of each later hop. Shares are learned by spreading what a path took more or less than
 * expected evenly over its hops. A node without measurements counts as the median of those that have some.
 */

export const LATENCY_BINS = 64;
/** Round-trip milliseconds per bin: differences below it are noise. */
export const LATENCY_BIN_MS = 5;
const maxMs = 2000;
const maxNodes = 4096;
/** An estimate moves by this part of what is off once it has settled. */
const minGain = 0.1;

interface Estimate {
  shareMs: number;
  samples: number;
}

export class LatencyBook {
  readonly #links = new Map<string, number>();
  readonly #shares = new Map<string, Estimate>();
  #medianMs: number | undefined;
  #version = 0;

  /** Changes when an estimate does. */
  get version(): number {
    return this.#version;
  }

  /** Round trip to a first hop (NodeID, hex). */
  noteLink(id: string, rttMs: number): void {
    if (!isTime(rttMs)) return;
    const last = this.#links.get(id);
    remember(this.#links, id, last === undefined ? clamp(rttMs) : last + (clamp(rttMs) - last) / 8);
  }

  /** Round trip over a whole path, end to end. Without a time for its first link it says nothing. */
  notePath(path: readonly string[], rttMs: number): void {
    const [first, ...later] = path;
    const link = first === undefined ? undefined : this.#links.get(first);
    if (!isTime(rttMs) || link === undefined || later.length === 0) return;
    const estimates = later.map((id) => this.#shares.get(id) ?? { shareMs: this.medianMs, samples: 0 });
    const off = Math.max(0, clamp(rttMs) - link) - estimates.reduce((sum, { shareMs }) => sum + shareMs, 0);
    later.forEach((id, i) => {
      const { shareMs, samples } = estimates[i]!;
      const gain = Math.max(minGain, 1 / (samples + 1));
      remember(this.#shares, id, {
        shareMs: clamp(shareMs + (gain * off) / later.length),
        samples: Math.min(samples + 1, 1000),
      });
    });
    this.#medianMs = undefined;
    this.#version++;
  }

  /** Undefined: never measured. */
  shareMs(id: string): number | undefined {
    return this.#shares.get(id)?.shareMs;
  }

  linkMs(id: string): number | undefined {
    return this.#links.get(id);
  }

  get medianMs(): number {
    if (this.#medianMs === undefined) {
      const sorted = [...this.#shares.values()].map(({ shareMs }) => shareMs).sort((a, b) => a - b);
      this.#medianMs = sorted[sorted.length >> 1] ?? 0;
    }
    return this.#medianMs;
  }

  /** 0 … LATENCY_BINS − 1. */
  binOf(id: string): number {
    const shareMs = this.#shares.get(id)?.shareMs ?? this.medianMs;
    return Math.min(LATENCY_BINS - 1, Math.round(shareMs / LATENCY_BIN_MS));
  }
}

const isTime = (ms: number): boolean => ms >= 0 && Number.isFinite(ms);
const clamp = (ms: number): number => Math.min(maxMs, Math.max(0, ms));

/** Who was measured least lately makes room. */
function remember<T>(into: Map<string, T>, id: string, value: T): void {
  into.delete(id);
  if (into.size >= maxNodes) into.delete(into.keys().next().value!);
  into.set(id, value);
}
