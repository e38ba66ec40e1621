/** One mode, one traffic model, so many users: the observer's scores and what they are worth at each number of users. */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { Exponential } from '@nyx/core/mix/exponential.ts';
import { Carrier, type Mode, type Seen } from './carry.ts';
import { margins, type Quality, quality, surpriseBits } from './roc.ts';
import { Matcher, type Statistic, statistics } from './statistics.ts';
import { type TrafficModel, userCells } from './traffic.ts';

export interface AttackOptions {
  readonly model: TrafficModel;
  readonly durationMs: number;
  /** Ascending; flows of the smaller numbers are the first of the larger ones. */
  readonly users: readonly number[];
  /** Clients whose link is watched; each has exactly one flow among the users. */
  readonly targets: number;
  readonly seed: string;
}

export interface AttackResult {
  readonly mode: string;
  readonly model: TrafficModel;
  readonly users: number;
  readonly targets: number;
  readonly byStatistic: Readonly<Record<Statistic, Quality>>;
  /** By true positives at one false in a thousand, and area. */
  readonly best: Statistic;
  /**
   * Mean of −log2 of the probability that the likelihoods give the true flow: what is still hidden of it, bits. Undefined with
   * cover, which the model of the likelihood does not know well enough to speak of probabilities.
   */
  readonly hiddenBits: number | undefined;
}

/** Flows with fewer cells are not there to be matched: nobody attacks an empty flow. */
const MIN_CELLS: Readonly<Record<TrafficModel, number>> = { web: 8, chat: 8, single: 1 };
/** How long the observer goes on after the last cell has come to the exit: latency, and the delays but for a few. */
const LATENCY_MARGIN_MS = 500;
const DELAY_MARGIN = 2.5;

/** The users' flows, and what the observer keeps of them for all modes. */
export class Crowd {
  readonly options: AttackOptions;
  readonly flows: readonly Float64Array[];
  #matcher: Matcher | undefined;

  constructor(options: AttackOptions) {
    this.options = options;
    const { model, durationMs, users, seed } = options;
    const dice = new Exponential(createSeededRandom(`traffic ${model} ${seed}`));
    this.flows = Array.from({ length: users.at(-1)! }, () => {
      for (;;) {
        const cells = userCells(model, durationMs, dice);
        if (cells.length >= MIN_CELLS[model]) return cells;
      }
    });
  }

  /** The last one is kept: most modes are watched for the same time. */
  matcher(untilMs: number): Matcher {
    if (this.#matcher?.untilMs !== untilMs) this.#matcher = new Matcher(this.flows, untilMs);
    return this.#matcher;
  }
}

export function bestOf(byStatistic: Readonly<Partial<Record<Statistic, Quality>>>): Statistic {
  const worth = (quality: Quality | undefined) =>
    quality === undefined ? -1 : quality.truePositiveAt['1e-3'] + 0.5 * quality.area;
  return statistics.reduce((a, b) => (worth(byStatistic[b]) > worth(byStatistic[a]) ? b : a));
}

/** @param wanted statistics; only they are in the results. */
export function attack(mode: Mode, crowd: Crowd, wanted: readonly Statistic[] = statistics): AttackResult[] {
  const { durationMs, users, seed, model, targets: most } = crowd.options;
  const { flows } = crowd;
  const targets = Math.min(most, users[0]!);
  const carrier = new Carrier(mode, seed);
  const untilMs = durationMs + LATENCY_MARGIN_MS + DELAY_MARGIN * Math.max(500, mode.hops * mode.delayMs);
  const matcher = crowd.matcher(untilMs);
  const latencies = Array.from({ length: targets }, () => carrier.latency());
  let seen: Seen[] = [];
  if (mode.class !== 'cmix') {
    seen = latencies.map((latencyMs, i) => carrier.carry(flows[i]!, latencyMs, untilMs));
  }
  const whole = new Map<Statistic, Float32Array>();
  return users.map((count): AttackResult => {
    // The others fill the batches: what is seen depends on how many there are.
    if (mode.class === 'cmix') {
      seen = carrier.carryBatches(flows.slice(0, count), targets, latencies);
      whole.clear();
    }
    const byStatistic = {} as Record<Statistic, Quality>;
    let hiddenBits: number | undefined;
    for (const statistic of wanted) {
      let scores = whole.get(statistic);
      if (scores === undefined) {
        scores = matcher.score(statistic, seen, carrier.delayLaw());
        whole.set(statistic, scores);
      }
      if (statistic === 'likelihood') {
        if (mode.cover === 'off') hiddenBits = surpriseBits(scores, targets, flows.length, count);
        scores = margins(scores, targets, flows.length, count);
      }
      byStatistic[statistic] = quality(scores, targets, flows.length, count);
    }
    return { mode: mode.name, model, users: count, targets, byStatistic, best: bestOf(byStatistic), hiddenBits };
  });
}
