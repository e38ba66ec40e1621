/**
 * The answering side of handshakes, one per node. The order of its checks is the order of their cost: mac1, repeated
 * init, cookie, reassembly, seen before — and only then public-key work (docs/protocol.md §2.1, §2.2).
 */
import type { DhKeyPair, KemKeyPair } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { Via } from '../engine/contract.ts';
import type { PeerAddress } from '../ports.ts';
import { DATAGRAM_BYTES, readLinkId, TAG_BYTES, writeLinkId } from '../wire/datagram.ts';
import type { EmitDatagram, HandshakeLimits, LinkDependencies, LinkHandshakeOptions, LinkOptions } from './contract.ts';
import { addressKey, CookieJar, sealCookie } from './cookie.ts';
import { ExpiringMap } from './expiring-map.ts';
import { INIT_FRAGMENTS, InitReassembly, type PartialInit } from './fragments.ts';
import { HandshakeDatagram, type HandshakeKeys, HandshakeType, handshakeKeys } from './handshake-datagram.ts';
import { answerInit, HandshakeStatus, INIT_BYTES, type OpenedInit, openInit } from './handshake-messages.ts';
import { Link, type LinkSecrets } from './link.ts';
import { InitTimestamps } from './timestamps.ts';

/** A response as sent, for repetitions of the init that it answers. */
interface CachedResponse {
  readonly mac1s: Uint8Array;
  readonly datagram: Uint8Array;
}

const seenEntryBytes = 160;
const cachedEntryBytes = DATAGRAM_BYTES + 320;

export class LinkResponder {
  readonly #options: LinkHandshakeOptions;
  readonly #limits: HandshakeLimits;
  readonly #linkOptions: LinkOptions;
  readonly #deps: LinkDependencies;
  readonly #dh: DhKeyPair;
  readonly #kem: KemKeyPair;
  readonly #keys: HandshakeKeys;
  readonly #cookies: CookieJar;
  readonly #reassembly: InitReassembly;
  readonly #seen: ExpiringMap<true>;
  readonly #responses: ExpiringMap<CachedResponse>;
  readonly #timestamps: InitTimestamps;
  readonly #unconfirmed = new Set<Link>();
  readonly #received = new HandshakeDatagram();
  readonly #reply = new HandshakeDatagram();
  /** Public-key handshakes in the present second. */
  #second = Number.NEGATIVE_INFINITY;
  #handshakes = 0;

  /** Borrows the key pairs. */
  constructor(
    options: LinkHandshakeOptions,
    limits: HandshakeLimits,
    linkOptions: LinkOptions,
    keys: { dh: DhKeyPair; kem: KemKeyPair },
    deps: LinkDependencies,
  ) {
    this.#options = options;
    this.#limits = limits;
    this.#linkOptions = linkOptions;
    this.#deps = deps;
    this.#dh = keys.dh;
    this.#kem = keys.kem;
    this.#keys = handshakeKeys(deps.suite, keys.dh.publicKey);
    this.#cookies = new CookieJar(deps.suite, deps.random, limits.cookieSecretMs);
    this.#reassembly = new InitReassembly(limits.maxReassemblies, limits.reassemblyMs);
    this.#seen = new ExpiringMap(limits.maxSeenInits, limits.seenInitMs);
    this.#responses = new ExpiringMap(limits.maxCachedResponses, limits.cachedResponseMs);
    this.#timestamps = new InitTimestamps(limits.maxTimestamps);
  }

  get memoryBytes(): number {
    return (
      this.#reassembly.memoryBytes +
      this.#seen.size * seenEntryBytes +
      this.#responses.size * cachedEntryBytes +
      this.#timestamps.size * seenEntryBytes
    );
  }

  /** Accepted links that have not proved themselves yet. */
  get unconfirmed(): number {
    return this.#unconfirmed.size;
  }

  /** A datagram under link id 0 (borrowed). Emits at most one, of the same size. */
  handle(datagram: Uint8Array, from: PeerAddress, via: Via, nowMs: number, emit: EmitDatagram): Drop {
    if (datagram.length !== DATAGRAM_BYTES) return Drop.badLength;
    const received = this.#received;
    if (!received.open(this.#deps.suite, this.#keys, datagram)) return Drop.badMac;
    if (received.type !== HandshakeType.init || received.count !== INIT_FRAGMENTS) return Drop.badHandshake;
    if (received.index >= INIT_FRAGMENTS || received.answerLinkId === 0) return Drop.badHandshake;
    const key = `${addressKey(from)} ${hex(received.handshakeId)}`;
    const answered = this.#responses.get(key, nowMs);
    if (answered !== undefined) return this.#repeatResponse(answered, from, via, emit);
    if (this.#isLoaded(nowMs) && !this.#hasCookie(from, nowMs)) {
      if (received.index === 0) this.#sendCookie(from, via, nowMs, emit);
      return Drop.cookieRequired;
    }
    const init = this.#reassembly.add(key, received.index, received.fragment, received.mac1, nowMs);
    if (init === undefined) return Drop.none;
    return this.#handleInit(init, key, from, via, nowMs, emit);
  }

  /** Frees what has expired. */
  prune(nowMs: number): void {
    this.#reassembly.prune(nowMs);
    this.#seen.prune(nowMs);
    this.#responses.prune(nowMs);
    for (const link of this.#unconfirmed) if (link.state === 'closed') this.#unconfirmed.delete(link);
  }

  wipe(): void {
    this.#cookies.wipe();
  }

  /** The initiator did not get the response: it gets the same one again, datagram for datagram. */
  #repeatResponse(answered: CachedResponse, from: PeerAddress, via: Via, emit: EmitDatagram): Drop {
    const { index, mac1 } = this.#received;
    const known = answered.mac1s.subarray(index * TAG_BYTES, (index + 1) * TAG_BYTES);
    if (!this.#deps.suite.equal(known, mac1)) return Drop.handshakeReplayed;
    emit(via, from, answered.datagram);
    return Drop.none;
  }

  #isLoaded(nowMs: number): boolean {
    if (this.#options.underLoad?.() || this.#reassembly.halfFull) return true;
    if (this.#unconfirmed.size * 2 >= this.#limits.maxUnconfirmed) return true;
    return nowMs < this.#second + 1000 && this.#handshakes >= this.#limits.handshakesPerSecond;
  }

  #hasCookie(from: PeerAddress, nowMs: number): boolean {
    return this.#received.mac2.some((byte) => byte !== 0) && this.#cookies.verify(this.#received, from, nowMs);
  }

  #sendCookie(from: PeerAddress, via: Via, nowMs: number, emit: EmitDatagram): void {
    const { suite, random } = this.#deps;
    const received = this.#received;
    const reply = this.#reply;
    // Fragment 0 begins with the initiator's ephemeral key.
    const keys = handshakeKeys(suite, received.fragment.subarray(0, 32));
    writeLinkId(reply.bytes, received.answerLinkId);
    reply.writeHeader(HandshakeType.cookieReply, 0, 1, received.handshakeId);
    sealCookie(suite, random, keys, this.#cookies.cookie(from, nowMs), received.mac1, reply.fragment);
    reply.seal(suite, keys);
    emit(via, from, reply.bytes);
  }

  #handleInit(init: PartialInit, key: string, from: PeerAddress, via: Via, nowMs: number, emit: EmitDatagram): Drop {
    const { suite } = this.#deps;
    const message = init.message.subarray(0, INIT_BYTES);
    const hash = hex(suite.sha256(message));
    if (this.#seen.get(hash, nowMs)) return Drop.handshakeReplayed;
    this.prune(nowMs);
    if (this.#unconfirmed.size >= this.#limits.maxUnconfirmed) return Drop.limit;
    this.#seen.set(hash, true, nowMs);
    this.#countHandshake(nowMs);
    const opened = openInit(suite, this.#dh, this.#kem, message);
    if (opened === undefined) return Drop.badTag;
    const nodeId = this.#believedName(opened);
    const drop = this.#checkInit(opened, nodeId);
    if (drop !== Drop.none) {
      opened.transcript.wipe();
      return drop;
    }
    return this.#answer(init, message, opened, nodeId, key, from, via, nowMs, emit);
  }

  #checkInit(opened: OpenedInit, nodeId: Uint8Array | undefined): Drop {
    if (opened.peerLinkId !== this.#received.answerLinkId) return Drop.badHandshake;
    if (nodeId !== undefined && !this.#timestamps.isNew(hex(nodeId), opened.timestampMs)) return Drop.handshakeReplayed;
    return Drop.none;
  }

  #answer(
    init: PartialInit,
    message: Uint8Array,
    opened: OpenedInit,
    nodeId: Uint8Array | undefined,
    key: string,
    from: PeerAddress,
    via: Via,
    nowMs: number,
    emit: EmitDatagram,
  ): Drop {
    const { suite, random, host } = this.#deps;
    const accepted = this.#options.mayAccept?.() ?? true;
    const localId = accepted ? host.newLinkId() : 0;
    const status = accepted ? HandshakeStatus.accepted : HandshakeStatus.refused;
    const answer = answerInit(suite, random, message, opened, localId, status);
    if (answer === undefined) return Drop.badHandshake;
    const reply = this.#reply;
    writeLinkId(reply.bytes, opened.peerLinkId);
    reply.writeHeader(HandshakeType.response, 0, 1, this.#received.handshakeId);
    random.fill(reply.fragment);
    reply.fragment.set(answer.message);
    reply.seal(suite, handshakeKeys(suite, message.subarray(0, 32)));
    this.#responses.set(key, { mac1s: init.mac1s, datagram: reply.bytes.slice() }, nowMs);
    if (accepted)
      this.#accept(opened, nodeId, { keys: answer.keys, localId, peerLinkId: opened.peerLinkId }, from, via, nowMs);
    emit(via, from, reply.bytes);
    return accepted ? Drop.none : Drop.limit;
  }

  /** The link is up, at our end, before its initiator hears of it. */
  #accept(
    opened: OpenedInit,
    nodeId: Uint8Array | undefined,
    secrets: LinkSecrets,
    from: PeerAddress,
    via: Via,
    nowMs: number,
  ): void {
    const link = new Link(
      {
        initiator: false,
        nodeId,
        address: from,
        via,
        options: this.#linkOptions,
        onConfirmed: () => {
          this.#unconfirmed.delete(link);
          if (nodeId !== undefined) this.#timestamps.record(hex(nodeId), opened.timestampMs);
        },
      },
      this.#deps,
    );
    this.#unconfirmed.add(link);
    link.install(secrets, nowMs);
  }

  /** The NodeID an initiator gave, if the verified view knows it under the same link key. */
  #believedName(opened: OpenedInit): Uint8Array | undefined {
    if (opened.named === undefined) return undefined;
    const contact = this.#options.resolve?.(opened.named.nodeId);
    if (contact === undefined || !this.#deps.suite.equal(contact.linkX25519, opened.named.x25519)) return undefined;
    return opened.named.nodeId;
  }

  #countHandshake(nowMs: number): void {
    if (nowMs >= this.#second + 1000) {
      this.#second = nowMs;
      this.#handshakes = 0;
    }
    this.#handshakes += 1;
  }
}

/** A map key: the words of `bytes` (a multiple of 4). */
function hex(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 4) {
    text += (readLinkId(bytes.subarray(i)) >>> 0).toString(16).padStart(8, '0');
  }
  return text;
}
