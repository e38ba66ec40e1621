/** A client circuit's lifecycle: building → ready → draining → closed. */
import { setup } from 'xstate';

export type CircuitEvent =
  | { readonly type: 'building' }
  | { readonly type: 'ready' }
  | { readonly type: 'draining' }
  | { readonly type: 'closed' };

export const circuitMachine = setup({
  types: {} as { events: CircuitEvent; input: Record<string, never> },
}).createMachine({
  id: 'circuit',
  initial: 'building',
  on: { draining: '.draining', closed: '.closed' },
  states: {
    building: { on: { ready: 'ready' } },
    ready: {},
    draining: {},
    closed: { type: 'final' },
  },
});
