/**
 * One actor for each link, circuit or stream that pumps report, under a supervisor of their own. Bounded: beyond the
 * limit the thing itself lives on in its pump, only its actor is missing, which is counted.
 */
import type { AnyStateMachine, InputFrom } from 'xstate';
import { actorChild } from '../supervision/actor-child.ts';
import {
  type ChildSpec,
  type RunningChild,
  Supervisor,
  type SupervisorDependencies,
} from '../supervision/supervise.ts';
import type { Timers } from '../supervision/timers.ts';
import { workerOf } from './pump-pool.ts';

export class LifecycleRegistry {
  readonly id: string;
  readonly #machine: AnyStateMachine;
  /** More lifecycles than this get no actor. */
  limit: number;
  readonly #timers: Timers;
  readonly #known = new Set<number>();
  #supervisor: Supervisor | undefined;
  #refused = 0;

  constructor(id: string, machine: AnyStateMachine, limit: number, timers: Timers) {
    this.id = id;
    this.#machine = machine;
    this.limit = limit;
    this.#timers = timers;
  }

  /** Actors alive. */
  get size(): number {
    return this.#known.size;
  }

  /** Lifecycles that got no actor because of the limit. */
  get refused(): number {
    return this.#refused;
  }

  /** Passes an event on to the actor of `handle`, which is made at its first event. `closed` ends it. */
  handle(handle: number, type: string): void {
    const supervisor = this.#supervisor;
    if (supervisor === undefined) return;
    if (!this.#known.has(handle)) {
      if (type === 'closed') return;
      if (this.#known.size >= this.limit) {
        this.#refused++;
        return;
      }
      this.#known.add(handle);
      const added = supervisor.add(
        actorChild({
          id: String(handle),
          machine: this.#machine,
          input: () => ({}) as InputFrom<AnyStateMachine>,
          timers: this.#timers,
          restart: 'temporary',
          inboxLimit: 16,
        }),
      );
      // Reported by the supervisor; the lifecycle has no actor then.
      added.catch(() => this.#known.delete(handle));
    }
    supervisor.send(String(handle), { type });
    if (type === 'closed') this.#known.delete(handle);
  }

  /** A pump is gone, and all of its lifecycles with it. */
  workerLost(worker: number): void {
    for (const handle of this.#known) if (workerOf(handle) === worker) this.handle(handle, 'closed');
  }

  child(dependencies: Omit<SupervisorDependencies, 'onEscalate'>): ChildSpec {
    return {
      id: this.id,
      restart: 'permanent',
      shutdownMs: 5000,
      inboxLimit: 1,
      start: async (context): Promise<RunningChild> => {
        const supervisor = new Supervisor({ id: this.id, strategy: 'one_for_one' }, [], {
          ...dependencies,
          // Their comings and goings are events of their own kind.
          onEvent: (event) => {
            if (event.kind === 'crashed' || event.kind === 'escalated') dependencies.onEvent?.(event);
          },
          onEscalate: context.crash,
        });
        supervisor.path = this.id;
        this.#known.clear();
        await supervisor.start();
        this.#supervisor = supervisor;
        return {
          supervisor,
          stop: async () => {
            this.#supervisor = undefined;
            await supervisor.stop();
          },
        };
      },
    };
  }
}
