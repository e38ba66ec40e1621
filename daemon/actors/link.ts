/** A link's lifecycle, driven by what its pump says: idle → handshaking → up ⇄ rekeying → draining → closed. */
import { setup } from 'xstate';

export type LinkEvent =
  | { readonly type: 'handshaking' }
  | { readonly type: 'up' }
  | { readonly type: 'rekeying' }
  | { readonly type: 'rekeyed' }
  | { readonly type: 'draining' }
  | { readonly type: 'closed' };

export const linkMachine = setup({ types: {} as { events: LinkEvent; input: Record<string, never> } }).createMachine({
  id: 'link',
  initial: 'idle',
  on: { draining: '.draining', closed: '.closed' },
  states: {
    idle: { on: { handshaking: 'handshaking', up: 'up' } },
    handshaking: { on: { up: 'up' } },
    up: { on: { rekeying: 'rekeying' } },
    rekeying: { on: { rekeyed: 'up' } },
    draining: {},
    closed: { type: 'final' },
  },
});
