/**
 * The frame around handshake messages (docs/protocol.md §2.1):
 *
 *   link id 4 | masked: type 1 · index 1 · count 1 · 0 · handshake id 8 · 0 (8) | mac1 16 | mac2 16 | fragment 1224
 *
 * The first half of a handshake id is the initiator's receive link id: a cookie reply finds its way with it although
 * nothing has been decrypted.
 */
import { EMPTY, nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { CellBuffer, DATAGRAM_BYTES, HEADER_OFFSET, readLinkId, TAG_BYTES } from '../wire/datagram.ts';
import { xorHandshakeHeader } from './header-mask.ts';

export const HandshakeType = { init: 1, response: 2, cookieReply: 3 } as const;

export const HANDSHAKE_ID_BYTES = 8;
export const FRAGMENT_BYTES = 1224;
const typeOffset = HEADER_OFFSET;
const indexOffset = HEADER_OFFSET + 1;
const countOffset = HEADER_OFFSET + 2;
const idOffset = HEADER_OFFSET + 4;
const mac1Offset = 24;
const mac2Offset = 40;
const fragmentOffset = 56;

/** What handshake datagrams to one receiver are masked and authenticated with; follows from a public key. */
export interface HandshakeKeys {
  readonly hp: Uint8Array;
  readonly mac1: Uint8Array;
  /** Seals cookies (§2.1, after WireGuard §5.4.7). */
  readonly cookie: Uint8Array;
}

/** `receiverKey`: the responder's link X25519 key for inits, the initiator's ephemeral one for answers. */
export function handshakeKeys(suite: CryptoSuite, receiverKey: Uint8Array): HandshakeKeys {
  const mac1 = suite.hkdf(receiverKey, EMPTY, nyxLabel('mac1'), 32);
  return {
    hp: suite.hkdf(receiverKey, EMPTY, nyxLabel('handshake mask'), 32),
    mac1,
    cookie: suite.hkdf(mac1, EMPTY, nyxLabel('cookie'), 32),
  };
}

/** One datagram with the views a handshake needs. Holds its own memory. */
export class HandshakeDatagram {
  readonly cell: CellBuffer;
  readonly bytes: Uint8Array;
  readonly linkId: Uint8Array;
  readonly header: Uint8Array;
  readonly handshakeId: Uint8Array;
  readonly mac1: Uint8Array;
  readonly mac2: Uint8Array;
  readonly fragment: Uint8Array;

  constructor() {
    this.cell = new CellBuffer(new ArrayBuffer(DATAGRAM_BYTES), 0);
    this.bytes = this.cell.bytes;
    this.header = this.cell.header;
    this.linkId = this.bytes.subarray(0, HEADER_OFFSET);
    this.handshakeId = this.bytes.subarray(idOffset, idOffset + HANDSHAKE_ID_BYTES);
    this.mac1 = this.bytes.subarray(mac1Offset, mac1Offset + TAG_BYTES);
    this.mac2 = this.bytes.subarray(mac2Offset, mac2Offset + TAG_BYTES);
    this.fragment = this.bytes.subarray(fragmentOffset);
  }

  get type(): number {
    return this.bytes[typeOffset]!;
  }

  get index(): number {
    return this.bytes[indexOffset]!;
  }

  get count(): number {
    return this.bytes[countOffset]!;
  }

  /** The link id under which the initiator wants answers, from the handshake id. */
  get answerLinkId(): number {
    return readLinkId(this.handshakeId);
  }

  /** Writes the header; link id and fragment are the caller's. */
  writeHeader(type: number, index: number, count: number, handshakeId: Uint8Array): void {
    this.header.fill(0);
    this.bytes[typeOffset] = type;
    this.bytes[indexOffset] = index;
    this.bytes[countOffset] = count;
    this.handshakeId.set(handshakeId);
  }

  /** The last step of a datagram without cookie: mac1, no mac2, mask. */
  seal(suite: CryptoSuite, keys: HandshakeKeys): void {
    this.mac1.set(suite.mac16(keys.mac1, this.linkId, this.header, this.fragment));
    this.mac2.fill(0);
    xorHandshakeHeader(suite, keys.hp, this.cell);
  }

  /** Copies and unmasks a received datagram; false unless its mac1 verifies and its reserved bytes are zero. */
  open(suite: CryptoSuite, keys: HandshakeKeys, datagram: Uint8Array): boolean {
    this.bytes.set(datagram);
    xorHandshakeHeader(suite, keys.hp, this.cell);
    if (this.header[3] !== 0) return false;
    for (let i = 12; i < 20; i++) if (this.header[i] !== 0) return false;
    return suite.equal(this.mac1, suite.mac16(keys.mac1, this.linkId, this.header, this.fragment));
  }

  /** mac2 of this (unmasked) datagram under a cookie (16 bytes). */
  computeMac2(suite: CryptoSuite, cookie: Uint8Array): Uint8Array {
    const key = suite.hkdf(cookie, EMPTY, nyxLabel('mac2'), 32);
    const mac2 = suite.mac16(key, this.linkId, this.header, this.mac1, this.fragment);
    suite.wipe(key);
    return mac2;
  }

  /** Writes mac2 into a datagram that is already sealed. */
  addMac2(suite: CryptoSuite, keys: HandshakeKeys, cookie: Uint8Array): void {
    xorHandshakeHeader(suite, keys.hp, this.cell);
    this.mac2.set(this.computeMac2(suite, cookie));
    xorHandshakeHeader(suite, keys.hp, this.cell);
  }
}
