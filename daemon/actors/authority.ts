/** The authority actor: votes, probes and takes in descriptors from its start to its stop. */
import type { Authority } from '../directory/authority.ts';
import type { ChildSpec } from '../supervision/supervise.ts';

export const authorityChild = (authority: Authority): ChildSpec => ({
  id: 'authority',
  restart: 'permanent',
  shutdownMs: 2000,
  inboxLimit: 1,
  start: (context) => {
    authority.start((error) => context.crash(error));
    return { stop: () => authority.stop() };
  },
});
