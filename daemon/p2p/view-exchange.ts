/**
 * /nyx/view/1: every node hands the signed view that it holds to any peer that asks, as a delta where it has one from what
 * the peer holds; who gets it verifies it.
 */
import type { Connection, Libp2p } from '@libp2p/interface';
import { DirectoryError, DirectoryErrorCode } from '@nyx/core/directory/directory-error.ts';
import { type P2pCounters, P2pProtocol, Refusal, RefusedError, type ViewPort } from './contract.ts';
import { exchange, handler, readMessage, writeMessage } from './stream-io.ts';
import { TokenBuckets } from './token-bucket.ts';
import {
  decodeViewRequest,
  decodeViewResponse,
  encodeViewRequest,
  MAX_VIEW_RESPONSE_BYTES,
  VIEW_REQUEST_BYTES,
  ViewStatus,
} from './view-frames.ts';

const TRANSFER_TIMEOUT_MS = 60_000;
/** Transfers at once, and questions of one peer: 10 at once, then one every three seconds. */
const MAX_TRANSFERS = 8;
const BURST = 10;
const PER_SECOND = 1 / 3;
/** Peers that are asked in one round. */
const ASKED = 3;

export interface ViewExchangeDependencies {
  readonly libp2p: Libp2p;
  readonly view: ViewPort;
  readonly counters: P2pCounters;
  readonly nowMs: () => number;
  readonly pick: (connections: readonly Connection[], count: number) => Connection[];
  readonly onRefused: (reason: Refusal, connection: Connection) => void;
  readonly onProblem: (problem: string) => void;
}

export class ViewExchange {
  readonly #dependencies: ViewExchangeDependencies;
  readonly #rate: TokenBuckets;
  #transfers = 0;

  constructor(dependencies: ViewExchangeDependencies) {
    this.#dependencies = dependencies;
    this.#rate = new TokenBuckets(BURST, PER_SECOND, 4096, dependencies.nowMs);
  }

  async start(): Promise<void> {
    const { libp2p, onProblem } = this.#dependencies;
    await libp2p.handle(
      P2pProtocol.view,
      handler(
        TRANSFER_TIMEOUT_MS,
        (stream, connection, signal) => this.#serve(stream, connection, signal),
        (error, connection) => {
          if (error instanceof RefusedError) this.#dependencies.onRefused(error.reason, connection);
          else onProblem(`serving the view failed: ${error.message}`);
        },
      ),
      { maxInboundStreams: 2 },
    );
  }

  /** Asks a few peers in turn. True: a newer view was accepted. */
  async fetch(signal: AbortSignal): Promise<boolean> {
    const { libp2p, pick, onProblem } = this.#dependencies;
    for (const connection of pick(libp2p.getConnections(), ASKED)) {
      try {
        if (await this.#fetchFrom(connection, signal)) return true;
      } catch (error) {
        if (signal.aborted) throw error;
        onProblem(`${connection.remotePeer} gave no view: ${(error as Error).message}`);
      }
    }
    return false;
  }

  async #fetchFrom(connection: Connection, signal: AbortSignal): Promise<boolean> {
    const { view, counters, onRefused } = this.#dependencies;
    const request = encodeViewRequest(view.held());
    const limit = AbortSignal.any([signal, AbortSignal.timeout(TRANSFER_TIMEOUT_MS)]);
    try {
      const response = await exchange(connection, P2pProtocol.view, [request], MAX_VIEW_RESPONSE_BYTES, limit);
      const { status, bundle } = decodeViewResponse(response);
      if (status !== ViewStatus.newer) return false;
      counters.viewBytesFetched += bundle.length;
      if (!(await view.offer(bundle))) return false;
      counters.viewsFetched++;
      return true;
    } catch (error) {
      if (error instanceof RefusedError) onRefused(error.reason, connection);
      // Two views that are both signed are the authorities' doing, and an old one may be all that the peer has.
      else if (error instanceof DirectoryError && isPeersFault(error.code)) onRefused(Refusal.badView, connection);
      throw error;
    }
  }

  async #serve(stream: Parameters<typeof readMessage>[0], connection: Connection, signal: AbortSignal): Promise<void> {
    const { view, counters } = this.#dependencies;
    const asked = decodeViewRequest(await readMessage(stream, VIEW_REQUEST_BYTES, signal));
    if (!this.#rate.take(connection.remotePeer.toString())) {
      await writeMessage(stream, [Uint8Array.of(ViewStatus.busy)], signal);
      throw new RefusedError(Refusal.tooOften, 'asks for the view too often');
    }
    const held = view.held();
    // One of the same epoch that differs is of interest too: both together prove that the authorities signed two.
    const isNewer =
      held !== undefined &&
      held.epoch >= asked.epoch &&
      !(held.epoch === asked.epoch && Buffer.compare(held.digest, asked.digest) === 0);
    if (!isNewer || this.#transfers >= MAX_TRANSFERS) {
      const status = isNewer ? ViewStatus.busy : ViewStatus.nothingNewer;
      await writeMessage(stream, [Uint8Array.of(status)], signal);
      return;
    }
    this.#transfers++;
    try {
      const delta = asked.epoch === 0 ? undefined : await view.delta(asked.digest);
      const bytes = delta ?? held.bytes;
      await writeMessage(stream, [Uint8Array.of(ViewStatus.newer), bytes], signal);
      counters.viewsServed++;
      if (delta !== undefined) counters.deltasServed++;
      counters.viewBytesServed += bytes.length;
    } finally {
      this.#transfers--;
    }
  }
}

const isPeersFault = (code: DirectoryErrorCode): boolean =>
  code !== DirectoryErrorCode.fork &&
  code !== DirectoryErrorCode.rollback &&
  code !== DirectoryErrorCode.expired &&
  code !== DirectoryErrorCode.notYetValid;
