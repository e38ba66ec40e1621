/** An xstate machine as a supervised child: bounded inbox, throws and ends reported, its state on display. */
import { type AnyStateMachine, createActor, type InputFrom } from 'xstate';
import type { ChildContext, ChildSpec, Restart } from './supervise.ts';
import type { Timers } from './timers.ts';

export interface ActorChildOptions<M extends AnyStateMachine> {
  readonly id: string;
  readonly machine: M;
  /** Made anew at every start. */
  readonly input: (context: ChildContext) => InputFrom<M>;
  readonly timers: Timers;
  readonly restart?: Restart;
  readonly shutdownMs?: number;
  readonly inboxLimit?: number;
  /** The start is complete when the machine is in this state; without it at once. */
  readonly readyState?: string;
  /** Sent at stop(); the machine has shutdownMs to reach a final state. Without it the actor just stops. */
  readonly stopEvent?: { readonly type: string };
}

/**
 * The machine gets every message of the inbox as an event. An error of the machine (a throw in an action, an invoked
 * promise that rejected without onError) is a crash; a final state means that it is done.
 */
export const actorChild = <M extends AnyStateMachine>(options: ActorChildOptions<M>): ChildSpec => ({
  id: options.id,
  restart: options.restart ?? 'permanent',
  shutdownMs: options.shutdownMs ?? 1000,
  inboxLimit: options.inboxLimit ?? 1024,
  async start(context) {
    const { timers } = options;
    const cancels = new Map<unknown, () => void>();
    let nextTimer = 1;
    const clock = {
      setTimeout(callback: (...args: unknown[]) => void, delayMs: number) {
        const id = nextTimer++;
        cancels.set(
          id,
          timers.after(delayMs, () => {
            cancels.delete(id);
            callback();
          }),
        );
        return id;
      },
      clearTimeout(id: unknown) {
        cancels.get(id)?.();
        cancels.delete(id);
      },
    };
    const actor = createActor(options.machine as AnyStateMachine, { input: options.input(context), clock });
    let ended: (() => void) | undefined;
    let stopping = false;
    const ready = Promise.withResolvers<void>();
    if (options.readyState === undefined) ready.resolve();
    actor.subscribe({
      next(snapshot) {
        if ((snapshot as { value: unknown }).value === options.readyState) ready.resolve();
      },
      error(error) {
        ended?.();
        ready.reject(error);
        context.crash(error);
      },
      complete() {
        ended?.();
        ready.resolve();
        if (!stopping) context.done();
      },
    });
    actor.start();
    context.inbox.attach(
      (message) => actor.send(message as { type: string }),
      (error) => context.crash(error),
    );
    await ready.promise;
    const machineState = (): string => {
      const { value } = actor.getSnapshot() as { value: unknown };
      return typeof value === 'string' ? value : JSON.stringify(value);
    };
    const halt = (): void => {
      actor.stop();
      for (const cancel of cancels.values()) cancel();
      cancels.clear();
    };
    return {
      machineState,
      kill: halt,
      async stop() {
        stopping = true;
        if (options.stopEvent !== undefined && actor.getSnapshot().status === 'active') {
          await new Promise<void>((resolve) => {
            ended = resolve;
            actor.send(options.stopEvent!);
          });
        }
        halt();
      },
    };
  },
});
