/** What the API and the metrics see of the node. Filled in by main.ts. */

import type { ConfigReloader } from '../actors/config-reloader.ts';
import type { NodeContext } from '../actors/context.ts';
import type { ControlPlane } from '../actors/dht.ts';
import type { Directory } from '../actors/directory.ts';
import type { EpochKeys } from '../actors/epoch-keys.ts';
import type { PathBuilder } from '../actors/path-builder.ts';
import type { PumpPool } from '../actors/pump-pool.ts';
import type { LifecycleRegistry } from '../actors/registry.ts';
import type { CheatStore } from '../directory/cheat-store.ts';
import type { MailboxHost } from '../messages/mailbox-host.ts';
import type { Messages } from '../messages/messages.ts';
import type { Supervisor } from '../supervision/supervise.ts';
import type { Meter } from '../telemetry/meter.ts';

export interface ApiHost {
  readonly context: NodeContext;
  readonly pool: PumpPool;
  readonly keys: EpochKeys;
  readonly directory: Directory;
  readonly paths: PathBuilder;
  /** Undefined: this node is no client. */
  readonly messages: Messages | undefined;
  /** Undefined: this node keeps no mailboxes. */
  readonly mailboxes: MailboxHost | undefined;
  /** Undefined: not configured. */
  readonly controlPlane: ControlPlane | undefined;
  readonly meter: Meter;
  /** Brings the meter up to date. */
  readonly measure: () => Promise<void>;
  readonly supervisor: () => Supervisor;
  readonly links: LifecycleRegistry;
  /** Empty when it is not known (any more). */
  readonly addressOfLink: (linkId: number) => string;
  readonly nodeId: string;
  readonly version: string;
  readonly encrypted: boolean;
  readonly isAuthority: boolean;
  readonly startedAtMs: number;
  readonly state: () => string;
  readonly addresses: () => {
    readonly link: string;
    /** All that `link` is the first of. */
    readonly links: string[];
    readonly socks: string;
    readonly httpConnect: string;
    readonly api: string;
    readonly metrics: string;
    readonly directory: string;
    readonly p2p: string;
  };
  readonly shutdown: (drainMs: number | undefined) => void;
  /** Streams that applications have open through the API: the end of the node waits for them. Counted by the API. */
  readonly apiStreams: { open: number };
  /** Mixes of class cmix that were shown to cheat. */
  readonly cheats: CheatStore;
  readonly reloader: Pick<ConfigReloader, 'path' | 'reload' | 'state'>;
}
