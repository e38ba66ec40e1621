/** A link's lifecycle, driven by what its pump says: idle → handshaking → up → closed. */
import { setup } from 'xstate';

export type LinkEvent =
  | { readonly type: 'handshaking' }
  | { readonly type: 'up' }
  | { readonly type: 'rekeyed' }
  | { readonly type: 'moved' }
  | { readonly type: 'closed' };

export const linkMachine = setup({ types: {} as { events: LinkEvent; input: Record<string, never> } }).createMachine({
  id: 'link',
  initial: 'idle',
  on: { closed: '.closed' },
  states: {
    /** An accepted link is up when its initiator has proved itself; nothing is said of it before. */
    idle: { on: { handshaking: 'handshaking', up: 'up' } },
    handshaking: { on: { up: 'up' } },
    /** New keys change nothing that anybody else would have to know. */
    up: { on: { rekeyed: 'up', moved: 'up' } },
    closed: { type: 'final' },
  },
});
