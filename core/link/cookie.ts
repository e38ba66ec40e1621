/** Proof of address under load (docs/protocol.md §2.1, after WireGuard §5.3 and §5.4.7). */
import type { CryptoSuite } from '../crypto/suite.ts';
import { AEAD_NONCE_BYTES } from '../crypto/suite.ts';
import type { PeerAddress, Random } from '../ports.ts';
import { TAG_BYTES } from '../wire/datagram.ts';
import type { HandshakeDatagram, HandshakeKeys } from './handshake-datagram.ts';

export const COOKIE_BYTES = 16;
const tagOffset = AEAD_NONCE_BYTES;
const cookieOffset = tagOffset + TAG_BYTES;
const endOffset = cookieOffset + COOKIE_BYTES;
const ascii = new TextEncoder();

/** Makes and checks cookies with a secret that changes; the one before it is still honoured. */
export class CookieJar {
  readonly #suite: CryptoSuite;
  readonly #random: Random;
  readonly #secretMs: number;
  #secret = new Uint8Array(32);
  #previous = new Uint8Array(32);
  #hasPrevious = false;
  #rotatesMs = Number.NEGATIVE_INFINITY;

  constructor(suite: CryptoSuite, random: Random, secretMs: number) {
    this.#suite = suite;
    this.#random = random;
    this.#secretMs = secretMs;
  }

  /** The present cookie of an address, 16 bytes. */
  cookie(from: PeerAddress, nowMs: number): Uint8Array {
    this.#rotate(nowMs);
    return this.#suite.mac16(this.#secret, addressBytes(from));
  }

  /** Whether an unmasked datagram carries a mac2 made with a cookie of its sender's address. */
  verify(datagram: HandshakeDatagram, from: PeerAddress, nowMs: number): boolean {
    if (this.#matches(datagram, this.cookie(from, nowMs))) return true;
    return this.#hasPrevious && this.#matches(datagram, this.#suite.mac16(this.#previous, addressBytes(from)));
  }

  wipe(): void {
    this.#suite.wipe(this.#secret, this.#previous);
  }

  #matches(datagram: HandshakeDatagram, cookie: Uint8Array): boolean {
    return this.#suite.equal(datagram.mac2, datagram.computeMac2(this.#suite, cookie));
  }

  #rotate(nowMs: number): void {
    if (nowMs < this.#rotatesMs) return;
    this.#hasPrevious = nowMs < this.#rotatesMs + this.#secretMs;
    [this.#previous, this.#secret] = [this.#secret, this.#previous];
    this.#random.fill(this.#secret);
    this.#rotatesMs = nowMs + this.#secretMs;
  }
}

/** Fills a cookie reply's fragment: `nonce (12) ‖ tag (16) ‖ sealed cookie (16) ‖ random`; AD = the mac1 it answers. */
export function sealCookie(
  suite: CryptoSuite,
  random: Random,
  keys: HandshakeKeys,
  cookie: Uint8Array,
  answeredMac1: Uint8Array,
  fragment: Uint8Array,
): void {
  random.fill(fragment);
  suite.aeadSeal(
    fragment.subarray(cookieOffset, endOffset),
    fragment.subarray(tagOffset, cookieOffset),
    cookie,
    answeredMac1,
    fragment.subarray(0, tagOffset),
    keys.cookie,
  );
}

/** The cookie in a reply to the datagram with `sentMac1`; undefined when it does not verify. */
export function openCookie(
  suite: CryptoSuite,
  keys: HandshakeKeys,
  sentMac1: Uint8Array,
  fragment: Uint8Array,
): Uint8Array | undefined {
  const cookie = new Uint8Array(COOKIE_BYTES);
  const opened = suite.aeadOpen(
    cookie,
    fragment.subarray(tagOffset, cookieOffset),
    fragment.subarray(cookieOffset, endOffset),
    sentMac1,
    fragment.subarray(0, tagOffset),
    keys.cookie,
  );
  return opened ? cookie : undefined;
}

export function addressKey(from: PeerAddress): string {
  return `${from.address} ${from.port}`;
}

function addressBytes(from: PeerAddress): Uint8Array {
  return ascii.encode(addressKey(from));
}
