/** All handshakes of a node: the links it opens and the responder for those of others. See LinkHandshakesApi. */
import type { DhKeyPair, KemKeyPair } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import { type NodeContact, Via } from '../engine/contract.ts';
import type { PeerAddress } from '../ports.ts';
import type {
  EmitDatagram,
  HandshakeLimits,
  LinkDependencies,
  LinkHandshakeOptions,
  LinkHandshakesApi,
  LinkOptions,
} from './contract.ts';
import type { NamedIdentity } from './handshake-messages.ts';
import { LinkInitiator } from './initiator.ts';
import { defaultLinkOptions, Link } from './link.ts';
import { LinkResponder } from './responder.ts';

export const defaultHandshakeLimits: HandshakeLimits = {
  maxReassemblies: 256,
  reassemblyMs: 5000,
  handshakesPerSecond: 200,
  maxSeenInits: 16_384,
  seenInitMs: 120_000,
  maxCachedResponses: 1024,
  cachedResponseMs: 10_000,
  maxTimestamps: 16_384,
  maxUnconfirmed: 512,
  cookieSecretMs: 120_000,
};

export class LinkHandshakes implements LinkHandshakesApi {
  readonly #options: LinkHandshakeOptions;
  readonly #linkOptions: LinkOptions;
  readonly #deps: LinkDependencies;
  readonly #dh: DhKeyPair;
  readonly #kem: KemKeyPair;
  readonly #identity: NamedIdentity | undefined;
  readonly #responder: LinkResponder | undefined;
  readonly #pending = new Map<Link, LinkInitiator>();
  #lastTimestampMs = 0;

  constructor(options: LinkHandshakeOptions, deps: LinkDependencies) {
    this.#options = options;
    this.#deps = deps;
    this.#linkOptions = { ...defaultLinkOptions, ...options.link };
    const limits = { ...defaultHandshakeLimits, ...options.limits };
    const { identity } = options;
    this.#dh = deps.suite.x25519(identity.linkX25519Secret);
    this.#kem = deps.suite.mlkem768(identity.linkKemSeed);
    if (options.named) this.#identity = { nodeId: identity.nodeId, dh: this.#dh };
    if (options.accept) {
      const keys = { dh: this.#dh, kem: this.#kem };
      this.#responder = new LinkResponder(options, limits, this.#linkOptions, keys, deps);
    }
  }

  get memoryBytes(): number {
    return this.#responder?.memoryBytes ?? 0;
  }

  /** Accepted links whose initiator has not proved itself yet. */
  get unconfirmed(): number {
    return this.#responder?.unconfirmed ?? 0;
  }

  connect(peer: NodeContact, nowMs: number, via: Via = Via.dial): Link {
    const { suite, random, host } = this.#deps;
    const localId = host.newLinkId();
    const handshake = LinkInitiator.create(suite, random, peer, localId, this.#timestamp(), this.#identity, nowMs);
    const address = peer.addresses[0] ?? { address: '', port: 0 };
    const link = new Link(
      {
        initiator: true,
        nodeId: peer.nodeId,
        address,
        via,
        options: this.#linkOptions,
        moves: !this.#options.named,
      },
      this.#deps,
    );
    if (handshake === undefined) {
      link.fail('unreachable');
      return link;
    }
    link.await(handshake);
    this.#pending.set(link, handshake);
    return link;
  }

  handleDatagram(datagram: Uint8Array, from: PeerAddress, via: Via, nowMs: number, emit: EmitDatagram): Drop {
    if (this.#responder === undefined) return Drop.notAllowed;
    return this.#responder.handle(datagram, from, via, nowMs, emit);
  }

  poll(nowMs: number, emit: EmitDatagram): void {
    for (const [link, handshake] of this.#pending) {
      if (link.state !== 'handshaking') {
        this.#pending.delete(link);
      } else if (handshake.isOver(nowMs)) {
        this.#pending.delete(link);
        link.fail('unreachable');
      } else {
        handshake.poll(link.via, nowMs, emit);
      }
    }
    this.#responder?.prune(nowMs);
  }

  nextTimeoutMs(): number {
    let timeoutMs = Number.POSITIVE_INFINITY;
    for (const [link, handshake] of this.#pending) {
      if (link.state === 'handshaking') timeoutMs = Math.min(timeoutMs, handshake.nextTimeoutMs());
    }
    return timeoutMs;
  }

  wipe(): void {
    this.#dh.wipe();
    this.#kem.wipe();
    this.#responder?.wipe();
    for (const handshake of this.#pending.values()) handshake.wipe();
    this.#pending.clear();
  }

  /**
   * Whole seconds of the wall clock, random milliseconds: links opened by several workers of one node don't collide,
   * and a responder learns less about this clock.
   */
  #timestamp(): number {
    if (this.#identity === undefined) return 0;
    const bytes = new Uint8Array(2);
    this.#deps.random.fill(bytes);
    const fraction = ((bytes[0]! << 8) | bytes[1]!) % 1000;
    const timestampMs = Math.floor(this.#options.unixMs() / 1000) * 1000 + fraction;
    this.#lastTimestampMs = timestampMs === this.#lastTimestampMs ? timestampMs + 1 : timestampMs;
    return this.#lastTimestampMs;
  }
}
