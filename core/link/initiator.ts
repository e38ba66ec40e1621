/**
 * The opening side of a handshake: sends its init until a response, a refusal or the time-out. The responder's addresses
 * are tried in turn, families alternating (RFC 8305 §4), so that one family that leads nowhere costs one retry.
 */
import type { CryptoSuite } from '../crypto/suite.ts';
import { Drop } from '../drop-reason.ts';
import type { NodeContact, Via } from '../engine/contract.ts';
import type { PeerAddress, Random } from '../ports.ts';
import { DATAGRAM_BYTES, writeLinkId } from '../wire/datagram.ts';
import type { EmitDatagram } from './contract.ts';
import { COOKIE_BYTES, openCookie } from './cookie.ts';
import { INIT_FRAGMENTS } from './fragments.ts';
import {
  FRAGMENT_BYTES,
  HANDSHAKE_ID_BYTES,
  HandshakeDatagram,
  type HandshakeKeys,
  HandshakeType,
  handshakeKeys,
} from './handshake-datagram.ts';
import {
  HandshakeStatus,
  type InitState,
  makeInit,
  type NamedIdentity,
  openResponse,
  RESPONSE_BYTES,
} from './handshake-messages.ts';
import type { LinkSecrets } from './link.ts';

const firstRetryMs = 250;
const maxRetryMs = 500;
export const HANDSHAKE_TIMEOUT_MS = 5000;
/** Responses and cookie replies that cost work; who saw the init can forge their mac1. */
const maxAttempts = 64;
const maxPromptCookies = 4;

interface Route {
  readonly address: PeerAddress;
  transmissions: number;
  lastSentMs: number;
}

export class LinkInitiator {
  /** Our receive link id. */
  readonly localId: number;
  readonly #suite: CryptoSuite;
  readonly #init: InitState;
  readonly #routes: readonly Route[];
  /** Keys of datagrams to the responder, and of its answers. */
  readonly #toPeer: HandshakeKeys;
  readonly #toUs: HandshakeKeys;
  readonly #handshakeId = new Uint8Array(HANDSHAKE_ID_BYTES);
  readonly #datagrams: HandshakeDatagram[] = [];
  readonly #received = new HandshakeDatagram();
  readonly #giveUpMs: number;
  #nextSendMs: number;
  #retryMs = firstRetryMs;
  /** The one tried next, and the one tried last or, in the end, the one that answered. */
  #next = 0;
  #route: Route;
  #attempts = 0;
  /** The last cookie used; no real one is all zeros. */
  #cookie: Uint8Array = new Uint8Array(COOKIE_BYTES);
  #cookies = 0;
  #outcome: LinkSecrets | 'refused' | undefined;
  #rttMs: number | undefined;

  private constructor(
    suite: CryptoSuite,
    random: Random,
    peer: NodeContact,
    init: InitState,
    localId: number,
    nowMs: number,
  ) {
    this.localId = localId;
    this.#suite = suite;
    this.#init = init;
    this.#routes = alternate(peer.addresses).map((address) => ({ address, transmissions: 0, lastSentMs: 0 }));
    this.#route = this.#routes[0]!;
    this.#toPeer = handshakeKeys(suite, peer.linkX25519);
    this.#toUs = handshakeKeys(suite, init.dh.publicKey);
    this.#nextSendMs = nowMs;
    this.#giveUpMs = nowMs + HANDSHAKE_TIMEOUT_MS;
    random.fill(this.#handshakeId);
    writeLinkId(this.#handshakeId, localId);
    for (let index = 0; index < INIT_FRAGMENTS; index++) {
      const datagram = new HandshakeDatagram();
      random.fill(datagram.fragment);
      datagram.fragment.set(init.message.subarray(index * FRAGMENT_BYTES, (index + 1) * FRAGMENT_BYTES));
      datagram.writeHeader(HandshakeType.init, index, INIT_FRAGMENTS, this.#handshakeId);
      datagram.seal(suite, this.#toPeer);
      this.#datagrams.push(datagram);
    }
  }

  /** Undefined when the contact's keys are no keys, or it has no address. `identity` undefined = anonymous. */
  static create(
    suite: CryptoSuite,
    random: Random,
    peer: NodeContact,
    localId: number,
    timestampMs: number,
    identity: NamedIdentity | undefined,
    nowMs: number,
  ): LinkInitiator | undefined {
    if (peer.addresses.length === 0) return undefined;
    const keys = { x25519: peer.linkX25519, kem: peer.linkKem };
    const init = makeInit(suite, random, keys, localId, timestampMs, identity);
    return init && new LinkInitiator(suite, random, peer, init, localId, nowMs);
  }

  /** The link's keys, or that the responder has no room; undefined as long as nobody has answered. */
  get outcome(): LinkSecrets | 'refused' | undefined {
    return this.#outcome;
  }

  /** The address tried last; with an outcome, the one that it came from. */
  get address(): PeerAddress {
    return this.#route.address;
  }

  /** Known when only one transmission can have been answered. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** True once nobody will answer any more. */
  isOver(nowMs: number): boolean {
    return nowMs >= this.#giveUpMs;
  }

  nextTimeoutMs(): number {
    return Math.min(this.#nextSendMs, this.#giveUpMs);
  }

  /** Sends the init if it is due, to each address in turn. */
  poll(via: Via, nowMs: number, emit: EmitDatagram): void {
    if (nowMs < this.#nextSendMs) return;
    const route = this.#routes[this.#next % this.#routes.length]!;
    this.#route = route;
    this.#next += 1;
    route.transmissions += 1;
    route.lastSentMs = nowMs;
    this.#nextSendMs = nowMs + this.#retryMs;
    this.#retryMs = Math.min(maxRetryMs, this.#retryMs * 2);
    for (const datagram of this.#datagrams) emit(via, route.address, datagram.bytes);
  }

  /**
   * Takes a response or a cookie reply; see `outcome`. Forged ones change nothing. `from` is nothing that anybody has
   * proved: it chooses among the responder's own addresses, no more.
   */
  handle(datagram: Uint8Array, nowMs: number, from?: PeerAddress): Drop {
    if (datagram.length !== DATAGRAM_BYTES) return Drop.badLength;
    const received = this.#received;
    if (!received.open(this.#suite, this.#toUs, datagram)) return Drop.badMac;
    if (received.index !== 0 || received.count !== 1) return Drop.badHandshake;
    if (!this.#suite.equal(received.handshakeId, this.#handshakeId)) return Drop.badHandshake;
    if (this.#outcome !== undefined) return Drop.closed;
    this.#attempts += 1;
    if (this.#attempts > maxAttempts) return Drop.limit;
    if (received.type === HandshakeType.response) return this.#handleResponse(received, nowMs, this.#routeOf(from));
    if (received.type === HandshakeType.cookieReply) return this.#handleCookie(received, nowMs, this.#routeOf(from));
    return Drop.badHandshake;
  }

  wipe(): void {
    this.#init.dh.wipe();
    this.#init.kem.wipe();
    this.#init.transcript.wipe();
  }

  /** The tried address that a datagram came from; undefined: a responder behind a NAT answers from another. */
  #routeOf(from: PeerAddress | undefined): Route | undefined {
    const tried = this.#routes.filter(({ transmissions }) => transmissions > 0);
    if (tried.length === 1) return tried[0];
    return tried.find(({ address }) => address.port === from?.port && address.address === from.address);
  }

  #handleResponse(received: HandshakeDatagram, nowMs: number, route: Route | undefined): Drop {
    const opened = openResponse(this.#suite, this.#init, received.fragment.subarray(0, RESPONSE_BYTES));
    if (opened === undefined) return Drop.badTag;
    if (route !== undefined) this.#route = route;
    if (route?.transmissions === 1) this.#rttMs = nowMs - route.lastSentMs;
    this.#outcome =
      opened.status === HandshakeStatus.accepted
        ? { keys: opened.keys, localId: this.localId, peerLinkId: opened.peerLinkId }
        : 'refused';
    return Drop.none;
  }

  #handleCookie(received: HandshakeDatagram, nowMs: number, route = this.#route): Drop {
    const cookie = openCookie(this.#suite, this.#toUs, this.#datagrams[0]!.mac1, received.fragment);
    if (cookie === undefined) return Drop.badTag;
    for (const datagram of this.#datagrams) datagram.addMac2(this.#suite, this.#toPeer, cookie);
    // A new cookie is used at once, on the address that asked for it. Not without end: who saw the init can forge them.
    if (this.#cookies < maxPromptCookies && !this.#suite.equal(cookie, this.#cookie)) {
      this.#cookies += 1;
      this.#cookie = cookie;
      this.#nextSendMs = nowMs;
      this.#next = this.#routes.indexOf(route);
      // What was sent without it is not answered any more.
      route.transmissions = 0;
    }
    return Drop.none;
  }
}

/** Best first, as given, but each family in turn with the other; the first one stays the first. */
function alternate(addresses: readonly PeerAddress[]): PeerAddress[] {
  const isV6 = ({ address }: PeerAddress) => address.includes(':');
  const leading = isV6(addresses[0]!);
  const first = addresses.filter((address) => isV6(address) === leading);
  const second = addresses.filter((address) => isV6(address) !== leading);
  return first.flatMap((address, i) => [address, ...second.slice(i, i + 1)]).concat(second.slice(first.length));
}
