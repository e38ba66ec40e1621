/**
 * /nyx/announce/1: descriptors on their way to the authorities. A node sends its own to each authority directly; one that
 * can not reach an authority asks peers to pass it on, which they do once. So a descriptor crosses the network about as
 * often as there are authorities, where flooding it would cost every node the descriptors of all others.
 *
 *   request  = flags (1) ‖ descriptor        flags: 1 = has been passed on, goes no further;
 *                                     2 = no descriptor: which parameters does the authority go by?
 *   response = status (1) ‖ parameters        the authority's (core/directory/params.ts, CBOR), only when it refuses
 *                                            or was asked: the admission puzzle is in there
 */
import { createHash } from 'node:crypto';
import type { Connection, Libp2p, Stream } from '@libp2p/interface';
import { MAX_DESCRIPTOR_BYTES } from '@nyx/core/directory/descriptor.ts';
import {
  type DescriptorFeed,
  type DescriptorListener,
  type P2pCounters,
  P2pProtocol,
  Refusal,
  RefusedError,
} from './contract.ts';
import type { RecordRules } from './record-rules.ts';
import { exchange, handler, readMessage, writeMessage } from './stream-io.ts';
import { TokenBuckets } from './token-bucket.ts';

const Flag = { passedOn: 1, ask: 2 } as const;
export const AnnounceStatus = { taken: 0, passedOn: 1, refused: 2, busy: 3 } as const;
export type AnnounceStatus = (typeof AnnounceStatus)[keyof typeof AnnounceStatus];

const TIMEOUT_MS = 10_000;
/** Of one peer: passing on others' descriptors comes in bursts, at the start of an epoch. */
const PEER_BURST = 256;
const PEER_PER_SECOND = 4;
/** Of one node. */
const NODE_BURST = 8;
const NODE_PER_SECOND = 0.5;
const MAX_KNOWN = 20_000;
const MAX_PARAMS_BYTES = 4096;

export interface AnnounceDependencies {
  readonly libp2p: Libp2p;
  readonly rules: RecordRules;
  readonly counters: P2pCounters;
  readonly nowMs: () => number;
  readonly isAuthority: boolean;
  /** What an authority goes by; empty for others. */
  readonly params: () => Uint8Array;
  /** Takes a descriptor to be passed on; false when there are too many. */
  readonly passOn: (nodeId: string, descriptor: Uint8Array) => boolean;
  readonly onRefused: (reason: Refusal, connection: Connection) => void;
  readonly onProblem: (problem: string) => void;
}

/** Sends one descriptor over a connection. Rejects when the peer does not answer. */
export const announceTo = async (
  connection: Connection,
  descriptor: Uint8Array,
  isOwn: boolean,
  signal: AbortSignal,
): Promise<{ readonly status: AnnounceStatus; readonly params: Uint8Array }> => {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  const request = [Uint8Array.of(isOwn ? 0 : Flag.passedOn), descriptor];
  const response = await exchange(connection, P2pProtocol.announce, request, 1 + MAX_PARAMS_BYTES, limit);
  return decodeAnswer(response);
};

/** The parameters that an authority goes by, as it says; empty when it is none. */
export const askParams = async (connection: Connection, signal: AbortSignal): Promise<Uint8Array> => {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  const request = [Uint8Array.of(Flag.ask)];
  return decodeAnswer(await exchange(connection, P2pProtocol.announce, request, 1 + MAX_PARAMS_BYTES, limit)).params;
};

/** Throws RefusedError `malformed`. */
export const decodeAnswer = (
  response: Uint8Array,
): { readonly status: AnnounceStatus; readonly params: Uint8Array } => {
  const status = response[0];
  const mayExplain = status === AnnounceStatus.refused;
  if (status === undefined || status > AnnounceStatus.busy || (response.length > 1 && !mayExplain)) {
    throw new RefusedError(Refusal.malformed, 'not an answer to an announcement');
  }
  return { status: status as AnnounceStatus, params: response.slice(1) };
};

export class AnnounceService implements DescriptorFeed {
  readonly #dependencies: AnnounceDependencies;
  readonly #listeners = new Set<DescriptorListener>();
  readonly #peerRate: TokenBuckets;
  readonly #nodeRate: TokenBuckets;
  /** What an authority took last, by NodeID. */
  readonly #known = new Map<string, { readonly published: number; readonly digest: string }>();

  constructor(dependencies: AnnounceDependencies) {
    this.#dependencies = dependencies;
    this.#peerRate = new TokenBuckets(PEER_BURST, PEER_PER_SECOND, 4096, dependencies.nowMs);
    this.#nodeRate = new TokenBuckets(NODE_BURST, NODE_PER_SECOND, MAX_KNOWN, dependencies.nowMs);
  }

  subscribe(listener: DescriptorListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async start(): Promise<void> {
    const { libp2p, onRefused, onProblem } = this.#dependencies;
    await libp2p.handle(
      P2pProtocol.announce,
      handler(
        TIMEOUT_MS,
        (stream, connection, signal) => this.#receive(stream, connection, signal),
        (error, connection) => {
          if (error instanceof RefusedError) onRefused(error.reason, connection);
          else onProblem(`an announcement failed: ${error.message}`);
        },
      ),
      { maxInboundStreams: 16 },
    );
  }

  async #receive(stream: Stream, connection: Connection, signal: AbortSignal): Promise<void> {
    const message = await readMessage(stream, 1 + MAX_DESCRIPTOR_BYTES, signal);
    const answer = (status: AnnounceStatus, params: Uint8Array = new Uint8Array()) =>
      writeMessage(stream, [Uint8Array.of(status), params], signal);
    if (!this.#peerRate.take(connection.remotePeer.toString())) {
      await answer(AnnounceStatus.busy);
      throw new RefusedError(Refusal.tooOften, 'announces too often');
    }
    let status: AnnounceStatus = AnnounceStatus.refused;
    try {
      status = await this.#take(message);
    } catch (error) {
      const { onProblem } = this.#dependencies;
      // The sender may be gone already; why it was refused matters more.
      if (error instanceof RefusedError) await answer(status).catch((problem: Error) => onProblem(problem.message));
      throw error;
    }
    await answer(status, status === AnnounceStatus.refused ? this.#dependencies.params() : undefined);
  }

  /** Rejects with RefusedError. */
  async #take(message: Uint8Array): Promise<AnnounceStatus> {
    const { rules, isAuthority, counters, passOn } = this.#dependencies;
    const flags = message[0];
    if (flags === Flag.ask && message.length === 1) return AnnounceStatus.refused;
    if (flags !== 0 && flags !== Flag.passedOn) throw new RefusedError(Refusal.malformed, 'unknown flags');
    const descriptor = message.slice(1);
    const { id, published } = rules.checkNode(descriptor);
    const digest = createHash('sha256').update(descriptor).digest('base64');
    const known = this.#known.get(id);
    if (known?.digest === digest) return AnnounceStatus.taken;
    if (known !== undefined && published <= known.published) {
      throw new RefusedError(Refusal.replayed, `a descriptor of ${id} published at ${known.published} is here already`);
    }
    if (!isAuthority && flags === Flag.passedOn) return AnnounceStatus.busy;
    if (!this.#nodeRate.take(id)) return AnnounceStatus.busy;
    counters.descriptorsReceived++;
    if (!isAuthority) return passOn(id, descriptor) ? AnnounceStatus.passedOn : AnnounceStatus.busy;
    if (!(await this.#tell(descriptor))) return AnnounceStatus.refused;
    this.#known.delete(id);
    if (this.#known.size >= MAX_KNOWN) this.#known.delete(this.#known.keys().next().value!);
    this.#known.set(id, { published, digest });
    return AnnounceStatus.taken;
  }

  /** False when a listener did not want it. */
  async #tell(descriptor: Uint8Array): Promise<boolean> {
    for (const listener of this.#listeners) {
      try {
        await listener(descriptor);
      } catch (error) {
        this.#dependencies.onProblem(`a descriptor was not taken: ${(error as Error).message}`);
        return false;
      }
    }
    return this.#listeners.size > 0;
  }
}
