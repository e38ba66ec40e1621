/** A client circuit's lifecycle: building → ready → closed. */
import { setup } from 'xstate';

export type CircuitEvent = { readonly type: 'building' } | { readonly type: 'ready' } | { readonly type: 'closed' };

export const circuitMachine = setup({
  types: {} as { events: CircuitEvent; input: Record<string, never> },
}).createMachine({
  id: 'circuit',
  initial: 'building',
  on: { closed: '.closed' },
  states: {
    building: { on: { ready: 'ready' } },
    ready: {},
    closed: { type: 'final' },
  },
});
