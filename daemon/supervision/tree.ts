/**
 * The whole supervision tree:
 *
 *   node (one_for_one)
 *   ├── links      (one_for_one)  one temporary actor per link that a pump reports
 *   ├── circuits   (one_for_one)  one temporary actor per client circuit
 *   ├── sessions   (one_for_one)  one temporary actor per client session
 *   ├── streams    (one_for_one)  one temporary actor per client stream
 *   ├── keys                      epoch keys: made ahead, published, erased
 *   ├── pumps      (one_for_one)  pump-0 … pump-n: sockets, engine, sessions, proxies, exit; one thread each
 *   ├── paths                     path selection and guards
 *   ├── directory-server          serves the view (where configured)
 *   ├── directory                 fetches and publishes
 *   ├── authority                 probes, votes and signs (where configured)
 *   ├── mailboxes                 of the message lane (where the node keeps some)
 *   ├── messages                  sending slots, own mailboxes (clients)
 *   ├── dht                       libp2p: peers, DHT records, descriptors and views between nodes (where configured)
 *   └── api, metrics              what the outside sees
 *
 * Started from top to bottom, stopped from bottom to top: nothing is asked of what is not there yet, or no more.
 */
import { type ChildSpec, Supervisor, type SupervisorDependencies, supervisorChild } from './supervise.ts';

export interface TreeParts {
  readonly links: ChildSpec;
  readonly circuits: ChildSpec;
  readonly sessions: ChildSpec;
  readonly streams: ChildSpec;
  readonly keys: ChildSpec;
  readonly pumps: readonly ChildSpec[];
  readonly paths: ChildSpec;
  readonly directoryServer: ChildSpec | undefined;
  readonly directory: ChildSpec;
  readonly authority: ChildSpec | undefined;
  readonly mailboxes: ChildSpec | undefined;
  readonly messages: ChildSpec | undefined;
  readonly dht: ChildSpec | undefined;
  /** API and metrics servers. */
  readonly servers: readonly ChildSpec[];
  /** Time that all pumps together have to drain. */
  readonly drainMs: number;
}

export const buildTree = (parts: TreeParts, dependencies: SupervisorDependencies): Supervisor => {
  const { onEscalate: _, ...inner } = dependencies;
  return new Supervisor(
    { id: 'node', strategy: 'one_for_one', maxRestarts: 10, periodMs: 60_000 },
    [
      parts.links,
      parts.circuits,
      parts.sessions,
      parts.streams,
      parts.keys,
      supervisorChild(
        { id: 'pumps', strategy: 'one_for_one', maxRestarts: 10, periodMs: 60_000 },
        () => parts.pumps,
        inner,
        { shutdownMs: parts.drainMs + 15_000 },
      ),
      parts.paths,
      ...(parts.directoryServer === undefined ? [] : [parts.directoryServer]),
      parts.directory,
      ...(parts.authority === undefined ? [] : [parts.authority]),
      ...(parts.mailboxes === undefined ? [] : [parts.mailboxes]),
      ...(parts.messages === undefined ? [] : [parts.messages]),
      ...(parts.dht === undefined ? [] : [parts.dht]),
      ...parts.servers,
    ],
    dependencies,
  );
};
