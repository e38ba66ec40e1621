/** Clients as the path builder of a daemon behaves: own guards, own feedback, a view that is as old as their last fetch. */

import type { VerifiedView } from '@nyx/core/directory/view.ts';
import { networkOf } from '@nyx/core/path/candidates.ts';
import { PathFeedback } from '@nyx/core/path/feedback.ts';
import { GuardSet } from '@nyx/core/path/guards.ts';
import { PathError } from '@nyx/core/path/path-error.ts';
import { choosePath } from '@nyx/core/path/select.ts';
import { uniform } from '@nyx/core/path/weighted-choice.ts';
import type { Random } from '@nyx/core/ports.ts';
import { HOUR, type Population } from './population.ts';

export const MAX_ATTEMPTS = 4;

export interface ClientTotals {
  paths: number;
  /** Paths that stood at the i-th attempt. */
  readonly atAttempt: number[];
  failed: number;
  readonly viewAges: number[];
  readonly guardsDropped: number[];
}

export const newTotals = (): ClientTotals => ({
  paths: 0,
  atAttempt: new Array(MAX_ATTEMPTS).fill(0),
  failed: 0,
  viewAges: [],
  guardsDropped: [],
});

export class SimClient {
  readonly guards = new GuardSet();
  readonly #feedback = new PathFeedback();
  readonly #random: Random;
  /** After an epoch has begun it fetches the view by then, as daemons spread their fetches. */
  readonly #fetchDelay: number;
  view: VerifiedView | undefined;
  /** First hops over which a circuit was built, ever. */
  readonly used = new Set<string>();

  constructor(random: Random) {
    this.#random = random;
    this.#fetchDelay = 30 * (0.75 + 0.5 * uniform(random));
  }

  take(view: VerifiedView, at: number): void {
    this.view = view;
    this.guards.update(view, at, this.#random);
  }

  /** One epoch: `count` paths at random times, over the old view until the new one is fetched. */
  live(epoch: number, view: VerifiedView, count: number, population: Population, totals: ClientTotals): void {
    const start = epoch * HOUR;
    const times = Array.from({ length: count }, () => start + uniform(this.#random) * HOUR).sort((a, b) => a - b);
    for (const at of times) {
      if (this.view !== view && at >= start + this.#fetchDelay) this.take(view, start + this.#fetchDelay);
      if (this.view === undefined) continue;
      totals.viewAges.push(at - this.view.view.validAfter);
      this.build(at, population, totals);
    }
  }

  /** Tries until a path stands; returns the attempts. */
  build(at: number, population: Population, totals: ClientTotals): number {
    totals.paths++;
    const view = this.view!;
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const now = at + attempt;
      const { dead, suspected } = this.#feedback.avoided(networkOf(view), now);
      let path: string[];
      try {
        const constraints = {
          hops: 3,
          needExit: { port: 443 },
          guards: this.guards.usable(now),
          feedback: this.#feedback,
          exclude: [...dead, ...suspected],
        };
        path = choosePath(view, constraints, this.#random).hops.map(({ id }) => id);
      } catch (error) {
        if (!(error instanceof PathError)) throw error;
        break;
      }
      const [guard] = path as [string];
      const down = path.find((id) => !population.isUp(id, now));
      if (down === guard) this.guards.noteFailure(guard, now);
      else {
        const isFresh = now < view.view.freshUntil;
        const warning = isFresh ? this.guards.noteSetup(guard, down === undefined, path.length, now) : undefined;
        if (warning?.dropped) totals.guardsDropped.push(now);
      }
      if (down === undefined) {
        this.guards.noteSuccess(guard, now);
        this.#feedback.noteSuccess(path, now);
        this.used.add(guard);
        totals.atAttempt[attempt - 1]!++;
        return attempt;
      }
      if (down !== guard) this.#feedback.noteFailure(path, now);
      this.#feedback.avoid(down, now);
    }
    totals.failed++;
    return MAX_ATTEMPTS;
  }
}
