/**
 * What the client learned from its own circuits about nodes, and how far that may move its choices.
 *
 * Whoever is on a circuit can make it fail, so failures are an adversary's lever: he fails what goes to others and hopes
 * to be chosen more often. Hence the limits. A failed circuit is blamed on all its hops but the first in equal parts
 * (nobody's word on who it was is believed; the first hop has its own account, see path-bias.ts); a node loses at most
 * three quarters of its weight; and of each pool at most a tenth of the weight is taken away in all. So no node's
 * probability grows by more than 1/0.9 by others' failures, whatever an adversary makes fail.
 *
 * Besides, what did not answer just now is left out for some seconds, up to a third of the network's weight.
 */
import type { UnixSeconds } from '../ports.ts';
import type { Candidate, Network } from './candidates.ts';
import type { WeightedPool } from './weighted-pool.ts';

export const feedbackLimits = {
  /** Least share of its weight that a node keeps. */
  minFactor: 0.25,
  /** Largest share of a pool's weight that is taken away in all. */
  maxReducedShare: 0.1,
  /** A hop that failed is left out this long, if there are enough others. */
  avoidSeconds: 20,
  /** Largest share of the network's weight that is left out so; in a small network, up to three nodes. */
  maxAvoidedShare: 1 / 3,
  minAvoided: 3,
  /** What was seen counts half after this. */
  halfLifeSeconds: 3600,
  maxRecords: 1024,
} as const;

/** Successes that every node is credited with, so that one failure alone says little. */
const priorSuccesses = 2;

interface Account {
  successes: number;
  failures: number;
  at: UnixSeconds;
}

export class PathFeedback {
  readonly #accounts = new Map<string, Account>();
  /** NodeID → until when. Oldest first. */
  readonly #dead = new Map<string, UnixSeconds>();
  readonly #suspected = new Map<string, UnixSeconds>();
  #version = 0;
  readonly #factors = new WeakMap<WeightedPool<Candidate>, { version: number; factors: ReadonlyMap<string, number> }>();

  /** A circuit over these hops (NodeIDs, hex) was set up. */
  noteSuccess(path: readonly string[], now: UnixSeconds): void {
    for (const id of path) {
      this.#dead.delete(id);
      this.#suspected.delete(id);
    }
    for (const id of path.slice(1)) this.#account(id, now).successes++;
    this.#version++;
  }

  /** A set-up over these hops failed behind the first one; who is to blame is not known. */
  noteFailure(path: readonly string[], now: UnixSeconds): void {
    const blamed = path.slice(1);
    for (const id of blamed) this.#account(id, now).failures += 1 / blamed.length;
    this.#version++;
  }

  /** This one seems not to answer. */
  avoid(id: string, now: UnixSeconds): void {
    put(this.#dead, id, now + feedbackLimits.avoidSeconds);
  }

  /** One of these is gone: a circuit over them worked and went dead. */
  suspect(ids: readonly string[], now: UnixSeconds): void {
    for (const id of ids) put(this.#suspected, id, now + feedbackLimits.avoidSeconds);
  }

  /** What to leave out, if enough others are there: the latest first, until the limit is reached. */
  avoided(network: Network, now: UnixSeconds): { readonly dead: string[]; readonly suspected: string[] } {
    let left = network.totalWeight * feedbackLimits.maxAvoidedShare;
    let count = 0;
    const take = (from: Map<string, UnixSeconds>): string[] => {
      const taken: string[] = [];
      for (const [id, until] of [...from].reverse()) {
        const weight = network.byId.get(id)?.weight;
        if (until <= now || weight === undefined) from.delete(id);
        else if (weight <= left || count < feedbackLimits.minAvoided) {
          taken.push(id);
          left -= weight;
          count++;
        }
      }
      return taken;
    };
    return { dead: take(this.#dead), suspected: take(this.#suspected) };
  }

  /** Factors in [minFactor, 1] for members of `pool`, by NodeID; who is not named has 1. */
  factorsFor(pool: WeightedPool<Candidate>, network: Network): ReadonlyMap<string, number> {
    const known = this.#factors.get(pool);
    if (known?.version === this.#version) return known.factors;
    const wanted = new Map<string, number>();
    let reduced = 0;
    for (const [id, { successes, failures }] of this.#accounts) {
      if (failures === 0) continue;
      const candidate = network.byId.get(id);
      if (candidate === undefined || !pool.has(candidate)) continue;
      const rate = (successes + priorSuccesses) / (successes + failures + priorSuccesses);
      const factor = Math.max(feedbackLimits.minFactor, rate);
      wanted.set(id, factor);
      reduced += (1 - factor) * candidate.weight;
    }
    const limit = feedbackLimits.maxReducedShare * pool.totalWeight;
    const scale = reduced > limit ? limit / reduced : 1;
    const factors = new Map([...wanted].map(([id, factor]) => [id, 1 - (1 - factor) * scale]));
    this.#factors.set(pool, { version: this.#version, factors });
    return factors;
  }

  /** Set-ups that went over this node, after ageing: shown, not used. */
  accountOf(id: string): { readonly successes: number; readonly failures: number } | undefined {
    return this.#accounts.get(id);
  }

  #account(id: string, now: UnixSeconds): Account {
    let account = this.#accounts.get(id);
    if (account === undefined) {
      if (this.#accounts.size >= feedbackLimits.maxRecords) {
        this.#accounts.delete(this.#accounts.keys().next().value!);
      }
      account = { successes: 0, failures: 0, at: now };
    } else {
      this.#accounts.delete(id);
      const aged = 2 ** (-Math.max(0, now - account.at) / feedbackLimits.halfLifeSeconds);
      account = { successes: account.successes * aged, failures: account.failures * aged, at: now };
    }
    // Last in the map: who was seen least lately goes first.
    this.#accounts.set(id, account);
    return account;
  }
}

function put(into: Map<string, UnixSeconds>, id: string, until: UnixSeconds): void {
  into.delete(id);
  if (into.size >= feedbackLimits.maxRecords) into.delete(into.keys().next().value!);
  into.set(id, until);
}
