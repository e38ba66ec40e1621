/** A client stream's lifecycle: opening → open → closed. */
import { setup } from 'xstate';

export type StreamEvent = { readonly type: 'opened' } | { readonly type: 'connected' } | { readonly type: 'closed' };

export const streamMachine = setup({
  types: {} as { events: StreamEvent; input: Record<string, never> },
}).createMachine({
  id: 'stream',
  initial: 'opening',
  on: { closed: '.closed' },
  states: {
    opening: { on: { connected: 'open' } },
    open: {},
    closed: { type: 'final' },
  },
});
