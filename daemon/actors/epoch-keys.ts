/**
 * The epoch's mix keys: the previous, the present and the next epoch's are held; the next one's are published an epoch
 * ahead and taken into use a little before it begins, older ones erased a little after their time (clocks differ).
 */

import { epochAt } from '@nyx/core/directory/view.ts';
import { setup } from 'xstate';
import type { KeyStore } from '../directory/key-store.ts';
import { actorChild } from '../supervision/actor-child.ts';
import type { ChildSpec } from '../supervision/supervise.ts';
import { type NodeContext, unixSeconds } from './context.ts';
import type { PumpPool } from './pump-pool.ts';

/** A sleep is never longer, so that a clock that was set is noticed. */
const MAX_SLEEP_MS = 30_000;

export class EpochKeys {
  readonly #context: NodeContext;
  readonly #keys: KeyStore;
  readonly #pool: PumpPool;
  #latestInUse = -1;
  /** Called when what has to be published has changed. */
  onChange: () => void = () => {};

  constructor(context: NodeContext, keys: KeyStore, pool: PumpPool) {
    this.#context = context;
    this.#keys = keys;
    this.#pool = pool;
  }

  get store(): KeyStore {
    return this.#keys;
  }

  /** Seconds before an epoch from which on its keys are in use. */
  get leadSeconds(): number {
    return Math.min(30, this.#context.config.epochSeconds / 10);
  }

  get epoch(): number {
    return epochAt(unixSeconds(this.#context), this.#context.config.epochSeconds);
  }

  /** The newest epoch whose keys are in use now. */
  get latestEpoch(): number {
    const { epochSeconds } = this.#context.config;
    return epochAt(this.#context.unixMs() / 1000 + this.leadSeconds, epochSeconds);
  }

  /** The oldest epoch whose keys are held: the one before that of a clock that is `leadSeconds` behind. */
  get #oldestEpoch(): number {
    return epochAt(this.#context.unixMs() / 1000 - this.leadSeconds, this.#context.config.epochSeconds) - 1;
  }

  /** Does what is due now. */
  update(): void {
    const { epoch } = this;
    const held = this.#keys.mixPublicKeys().map((keys) => keys.epoch);
    // Keys of an epoch that is over can't be made afterwards. A client whose clock lags still goes by an earlier view.
    const past = held.filter((other) => other < epoch && other >= this.#oldestEpoch);
    const wanted = [epoch, epoch + 1, ...past];
    const changed = this.#keys.holdEpochs(wanted);
    if (changed || this.latestEpoch !== this.#latestInUse) {
      this.#latestInUse = this.latestEpoch;
      this.#pool.setMixSecrets(() => this.#keys.mixSecrets(this.latestEpoch));
    }
    if (wanted.some((other) => !held.includes(other))) {
      this.#context.events.publish('keys', 'rotated', epoch, { epoch });
      this.onChange();
    }
  }

  /**
   * Makes the next epoch's keys anew and erases the previous epoch's. The present ones can't change: the signed view
   * names them. False: the next ones are in use already, try again after the epoch has begun.
   */
  rotate(): boolean {
    const { epoch } = this;
    if (this.latestEpoch > epoch) return false;
    this.#keys.holdEpochs([epoch, epoch + 1], [epoch + 1]);
    this.#pool.setMixSecrets(() => this.#keys.mixSecrets(this.latestEpoch));
    this.#context.events.publish('keys', 'rotated', epoch, { epoch, onRequest: 'true' });
    this.onChange();
    return true;
  }

  /** Until something is due. */
  get sleepMs(): number {
    const epochMs = this.#context.config.epochSeconds * 1000;
    const now = this.#context.unixMs();
    const begunMs = Math.floor(now / epochMs) * epochMs;
    const leadMs = this.leadSeconds * 1000;
    // The keys of the epoch before the last are erased, the next ones taken into use, the next epoch begins.
    const dueMs = [begunMs + leadMs, begunMs + epochMs - leadMs, begunMs + epochMs].find((time) => time > now)!;
    return Math.min(MAX_SLEEP_MS, Math.max(50, dueMs - now));
  }
}

const machine = setup({
  types: {} as { context: { keys: EpochKeys }; input: { keys: EpochKeys }; events: { type: 'check' } },
  actions: { update: ({ context }) => context.keys.update() },
  delays: { untilDue: ({ context }) => context.keys.sleepMs },
}).createMachine({
  id: 'epoch-keys',
  context: ({ input }) => input,
  initial: 'holding',
  states: {
    holding: {
      entry: 'update',
      after: { untilDue: { target: 'holding', reenter: true } },
      on: { check: { target: 'holding', reenter: true } },
    },
  },
});

export const epochKeysChild = (context: NodeContext, keys: EpochKeys): ChildSpec =>
  actorChild({ id: 'keys', machine, input: () => ({ keys }), timers: context.timers, inboxLimit: 8 });
