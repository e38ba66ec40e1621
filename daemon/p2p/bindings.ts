/**
 * /nyx/bind/1: which node, and which authority, is behind a connection. Each side that has something to say opens a
 * stream for it once identify has shown that the other side listens. A peer that says nothing is just a peer: it may
 * serve the DHT, but no node is counted for it.
 */
import type { Connection, IdentifyResult, Libp2p } from '@libp2p/interface';
import type { CryptoSuite } from '@nyx/core/crypto/suite.ts';
import { nodeIdHex, nodeIdOf } from '@nyx/core/directory/descriptor.ts';
import { P2pProtocol, type Refusal, RefusedError } from './contract.ts';
import {
  type AuthorityRecord,
  encodeStatements,
  MAX_BIND_BYTES,
  openStatements,
  type StatementKeys,
} from './statements.ts';
import { handler, readMessage, writeMessage } from './stream-io.ts';

const TIMEOUT_MS = 10_000;

export interface BindingDependencies {
  readonly libp2p: Libp2p;
  readonly suite: CryptoSuite;
  readonly unixSeconds: () => number;
  readonly keys: StatementKeys;
  readonly addresses: () => readonly string[];
  readonly onAuthority: (record: AuthorityRecord) => void;
  readonly onRefused: (reason: Refusal, connection: Connection) => void;
  readonly onProblem: (problem: string) => void;
}

interface Binding {
  readonly nodeId: string | undefined;
  readonly isAuthority: boolean;
}

export class Bindings {
  readonly #dependencies: BindingDependencies;
  /** By peer id; of connected peers only, so as many as there are connections. */
  readonly #bound = new Map<string, Binding>();

  constructor(dependencies: BindingDependencies) {
    this.#dependencies = dependencies;
  }

  get(peerId: string): Binding | undefined {
    return this.#bound.get(peerId);
  }

  async start(): Promise<void> {
    const { libp2p, onRefused, onProblem, keys } = this.#dependencies;
    await libp2p.handle(
      P2pProtocol.bind,
      handler(
        TIMEOUT_MS,
        async (stream, connection, signal) => {
          const message = await readMessage(stream, MAX_BIND_BYTES, signal);
          await stream.close({ signal });
          this.#take(message, connection);
        },
        (error, connection) => {
          if (error instanceof RefusedError) onRefused(error.reason, connection);
          else onProblem(`a binding failed: ${error.message}`);
        },
      ),
      { maxInboundStreams: 2 },
    );
    libp2p.addEventListener('peer:disconnect', ({ detail }) => this.#bound.delete(detail.toString()));
    if (keys.identity === undefined && keys.authority === undefined) return;
    libp2p.addEventListener('peer:identify', ({ detail }) => {
      if (!detail.protocols.includes(P2pProtocol.bind)) return;
      this.#tell(detail).catch((error: Error) => onProblem(`${detail.peerId} was not told: ${error.message}`));
    });
  }

  async #tell({ connection }: IdentifyResult): Promise<void> {
    const { libp2p, keys, addresses, unixSeconds } = this.#dependencies;
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const stream = await connection.newStream(P2pProtocol.bind, { signal });
    const message = encodeStatements(keys, libp2p.peerId.toString(), addresses(), unixSeconds());
    await writeMessage(stream, [message], signal);
  }

  #take(message: Uint8Array, connection: Connection): void {
    const { libp2p, suite, unixSeconds, onAuthority } = this.#dependencies;
    const peerId = connection.remotePeer.toString();
    const { node, authority } = openStatements(message, peerId, suite, unixSeconds());
    // It may have gone while it was speaking; what is kept would never be removed.
    if (libp2p.getConnections(connection.remotePeer).length === 0) return;
    const nodeId = node === undefined ? undefined : nodeIdHex(nodeIdOf(node.key, suite));
    this.#bound.set(peerId, { nodeId, isAuthority: authority !== undefined });
    if (authority !== undefined) onAuthority(authority.record);
  }
}
