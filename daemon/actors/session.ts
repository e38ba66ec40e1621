/** A client session's lifecycle, from its first circuit's answer on: carried ⇄ resuming → closed. */
import { setup } from 'xstate';

export type SessionEvent =
  | { readonly type: 'opened' }
  | { readonly type: 'resuming' }
  | { readonly type: 'carried' }
  | { readonly type: 'closed' };

export const sessionMachine = setup({
  types: {} as { events: SessionEvent; input: Record<string, never> },
}).createMachine({
  id: 'session',
  initial: 'carried',
  on: { closed: '.closed' },
  states: {
    /** How many circuits carry it is no matter of the session. */
    carried: { on: { resuming: 'resuming' } },
    /** Its last circuit is lost, or silent: another one to the same last hop is looked for. */
    resuming: { on: { carried: 'carried' } },
    closed: { type: 'final' },
  },
});
