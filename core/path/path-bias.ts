/**
 * A guard that fails the circuits which do not go on to its friends learns whom its clients talk to far more often than
 * its share of the network would let it ("path bias", Tor's proposal 209). It shows in what becomes of circuits through
 * it: how many set-ups succeed, and how many of the circuits that were set up then carry something to its end.
 *
 * Only what came behind the guard's own answer counts, and only under a fresh view: a guard that is down is a matter of
 * retrying, and from an old view circuits fail without anybody's doing. Hostile nodes further on can fail circuits too,
 * to make the client think ill of an honest guard; hence a guard is dropped only when the rate is so low that they would
 * have to be about a third of the network, at most two guards are dropped in thirty days, and the rest is a warning.
 */
import type { UnixSeconds } from '../ports.ts';

export const pathBiasLimits = {
  /** Fewer circuits say nothing. */
  minCircuits: 20,
  /** Warned of below this success rate, with 97.5% confidence. */
  warnRate: 0.7,
  /** Dropped below this one. */
  dropRate: 0.5,
  maxDrops: 2,
  dropWindowDays: 30,
  /** Counts are halved here, so that the past fades. */
  scaleAt: 300,
} as const;

/** Circuits through one guard; counts are halved together and need not be whole. */
export interface BiasCounts {
  /** Set-ups that the guard took. */
  readonly setups: number;
  /** Of these, the last hop answered. */
  readonly built: number;
  /** Circuits that were set up and then carried a stream, or broke off before. */
  readonly used: number;
  /** Of these, they carried a stream. */
  readonly held: number;
}

export const noBiasCounts: BiasCounts = { setups: 0, built: 0, used: 0, held: 0 };

export type BiasVerdict = 'fine' | 'suspicious' | 'hostile';

/** `hops` of the circuit: the more nodes could have failed it, the less its failure says. */
export function addSetup(counts: BiasCounts, succeeded: boolean, hops: number): BiasCounts {
  const { setups, built, used, held } = counts;
  return scale({ setups: setups + (succeeded ? 1 : 2 / (hops - 1)), built: built + (succeeded ? 1 : 0), used, held });
}

export function addUse(counts: BiasCounts, succeeded: boolean, hops: number): BiasCounts {
  const { setups, built, used, held } = counts;
  return scale({ setups, built, used: used + (succeeded ? 1 : 2 / (hops - 1)), held: held + (succeeded ? 1 : 0) });
}

/** The worse of what set-ups and uses say. */
export function judgeBias({ setups, built, used, held }: BiasCounts): BiasVerdict {
  const rate = Math.min(
    setups < pathBiasLimits.minCircuits ? 1 : highestRate(built, setups),
    used < pathBiasLimits.minCircuits ? 1 : highestRate(held, used),
  );
  return rate < pathBiasLimits.dropRate ? 'hostile' : rate < pathBiasLimits.warnRate ? 'suspicious' : 'fine';
}

/** May one more guard be dropped, given when others were? */
export function mayDrop(droppedAt: readonly UnixSeconds[], now: UnixSeconds): boolean {
  const since = now - pathBiasLimits.dropWindowDays * 86_400;
  return droppedAt.filter((at) => at > since).length < pathBiasLimits.maxDrops;
}

/** Upper end of Wilson's 95% interval: the highest success rate that `successes` of `tries` go with. */
function highestRate(successes: number, tries: number): number {
  const z = 1.96;
  const rate = successes / tries;
  const spread = z * Math.sqrt((rate * (1 - rate)) / tries + (z * z) / (4 * tries * tries));
  return (rate + (z * z) / (2 * tries) + spread) / (1 + (z * z) / tries);
}

function scale(counts: BiasCounts): BiasCounts {
  const { setups, built, used, held } = counts;
  const halve = (all: number) => (all > pathBiasLimits.scaleAt ? 0.5 : 1);
  return {
    setups: setups * halve(setups),
    built: built * halve(setups),
    used: used * halve(used),
    held: held * halve(used),
  };
}
