/** The transport actor: one per pump worker. starting → running → (crash: restarted by its supervisor) | draining → closed. */
import { assign, fromPromise, setup } from 'xstate';
import type { PumpClient, PumpExit } from '../pump/pump-client.ts';
import { actorChild } from '../supervision/actor-child.ts';
import type { ChildContext, ChildSpec } from '../supervision/supervise.ts';
import type { Timers } from '../supervision/timers.ts';

export interface PumpActorOptions {
  readonly id: string;
  readonly timers: Timers;
  /** Starts a worker; rejects when it can't listen. `onExit` must be called when it ends. */
  readonly open: (onExit: (exit: PumpExit) => void) => Promise<PumpClient>;
  /** The worker is gone, however that came. */
  readonly onGone: (client: PumpClient) => void;
  readonly drainTimeoutMs: () => number;
}

interface Context {
  readonly options: PumpActorOptions;
  readonly child: ChildContext;
  readonly client: PumpClient | undefined;
}

type Event = { readonly type: 'pump.exit'; readonly exit: PumpExit } | { readonly type: 'stop' };

const pumpMachine = setup({
  types: {} as { context: Context; input: { options: PumpActorOptions; child: ChildContext }; events: Event },
  actors: {
    open: fromPromise<PumpClient, { options: PumpActorOptions; child: ChildContext }>(async ({ input, signal }) => {
      const { options, child } = input;
      const client = await options.open((exit) => child.inbox.send({ type: 'pump.exit', exit }));
      child.signal.addEventListener('abort', () => {
        options.onGone(client);
        // After a drain there is nothing left to end.
        void client.terminate();
      });
      if (signal.aborted) await client.terminate();
      return client;
    }),
    drain: fromPromise<PumpExit, { options: PumpActorOptions; client: PumpClient }>(({ input }) =>
      input.client.drain(input.options.drainTimeoutMs()),
    ),
  },
}).createMachine({
  id: 'pump',
  context: ({ input }) => ({ ...input, client: undefined }),
  initial: 'starting',
  states: {
    starting: {
      invoke: {
        src: 'open',
        input: ({ context }) => context,
        onDone: { target: 'running', actions: assign({ client: ({ event }) => event.output }) },
      },
      on: { stop: 'closed' },
    },
    running: {
      on: {
        'pump.exit': {
          actions: ({ event }) => {
            throw event.exit.error ?? new Error(`the pump ended by itself with code ${event.exit.code}`);
          },
        },
        stop: 'draining',
      },
    },
    draining: {
      invoke: {
        src: 'drain',
        input: ({ context }) => ({ options: context.options, client: context.client! }),
        onDone: 'closed',
      },
    },
    closed: { type: 'final' },
  },
});

export const pumpChild = (options: PumpActorOptions, shutdownMs: number): ChildSpec =>
  actorChild({
    id: options.id,
    machine: pumpMachine,
    input: (child) => ({ options, child }),
    timers: options.timers,
    readyState: 'running',
    stopEvent: { type: 'stop' },
    shutdownMs,
    inboxLimit: 16,
  });
