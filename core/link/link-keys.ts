/** Key schedule of a link: the transcript of its handshake and what comes out of it (docs/protocol.md §2.2, §2.4). */
import { nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite } from '../crypto/suite.ts';
import { CID_BYTES } from '../wire/datagram.ts';

/** What one direction of a link needs. */
export interface DirectionKeys {
  /** Header mask key, 32 bytes. */
  readonly hp: Uint8Array;
  /** AEAD key of the control channel, 32 bytes. */
  readonly control: Uint8Array;
  /** Reserved CID of the control channel, 12 bytes. */
  readonly cid: Uint8Array;
  /** AEAD key of the message lane, 32 bytes. */
  readonly message: Uint8Array;
  /** Reserved CID of the message lane, 12 bytes. */
  readonly messageCid: Uint8Array;
}

/** All keys of a link between two rekeys. */
export interface LinkKeys {
  readonly initiatorToResponder: DirectionKeys;
  readonly responderToInitiator: DirectionKeys;
  /** Salt of the next rekey, 32 bytes. */
  readonly rekeySecret: Uint8Array;
  /** Hash over all handshake bytes so far, 32 bytes. */
  readonly transcript: Uint8Array;
}

/** The running chaining key and hash of a handshake, as in Noise (rev. 34 §5.2). */
export class Transcript {
  readonly #suite: CryptoSuite;
  #chainingKey: Uint8Array;
  #hash: Uint8Array;

  /** The responder's public link keys are hashed first: both sides must mean the same ones. */
  constructor(suite: CryptoSuite, responderX25519: Uint8Array, responderKem: Uint8Array) {
    this.#suite = suite;
    this.#hash = suite.sha256(nyxLabel('link'));
    this.#chainingKey = this.#hash.slice();
    this.mixHash(responderX25519, responderKem);
  }

  /** A twin from here on. */
  copy(): Transcript {
    const twin = new Transcript(this.#suite, new Uint8Array(0), new Uint8Array(0));
    twin.#chainingKey = this.#chainingKey.slice();
    twin.#hash = this.#hash;
    return twin;
  }

  /** The AD of the next AEAD. */
  get hash(): Uint8Array {
    return this.#hash;
  }

  mixHash(...parts: Uint8Array[]): void {
    this.#hash = this.#suite.sha256(this.#hash, ...parts);
  }

  /** Takes `secret` and wipes it; returns the AEAD key that follows from all secrets so far. */
  mixKey(secret: Uint8Array): Uint8Array {
    const okm = this.#suite.hkdf(secret, this.#chainingKey, nyxLabel('link mix'), 64);
    this.#suite.wipe(secret, this.#chainingKey);
    this.#chainingKey = okm.slice(0, 32);
    const key = okm.slice(32, 64);
    this.#suite.wipe(okm);
    return key;
  }

  /** Ends the handshake: the link's first keys. The chaining key is wiped. */
  finish(): LinkKeys {
    const keys = expandLinkKeys(this.#suite, this.#chainingKey, this.#hash);
    this.wipe();
    return keys;
  }

  wipe(): void {
    this.#suite.wipe(this.#chainingKey);
  }
}

/**
 * Keys after a rekey. `secret` = X25519 ‖ ML-KEM shared secrets (64 bytes, wiped here); `initBody` and
 * `responseBody` are the two messages.
 */
export function rekeyedLinkKeys(
  suite: CryptoSuite,
  before: LinkKeys,
  secret: Uint8Array,
  initBody: Uint8Array,
  responseBody: Uint8Array,
): LinkKeys {
  const chainingKey = suite.hkdf(secret, before.rekeySecret, nyxLabel('link rekey'), 32);
  const keys = expandLinkKeys(suite, chainingKey, suite.sha256(before.transcript, initBody, responseBody));
  suite.wipe(secret, chainingKey);
  return keys;
}

export function wipeDirection(suite: CryptoSuite, keys: DirectionKeys): void {
  suite.wipe(keys.hp, keys.control, keys.cid, keys.message, keys.messageCid);
}

function expandLinkKeys(suite: CryptoSuite, chainingKey: Uint8Array, transcript: Uint8Array): LinkKeys {
  const lane = 32 + CID_BYTES;
  const okm = suite.hkdf(chainingKey, transcript, nyxLabel('link keys'), 2 * (32 + lane) + 32 + 2 * lane);
  let offset = 0;
  const take = (length: number) => {
    offset += length;
    return okm.slice(offset - length, offset);
  };
  const control = () => ({ hp: take(32), control: take(32), cid: take(CID_BYTES) });
  const message = () => ({ message: take(32), messageCid: take(CID_BYTES) });
  const [forward, backward, rekeySecret] = [control(), control(), take(32)];
  const keys = {
    initiatorToResponder: { ...forward, ...message() },
    responderToInitiator: { ...backward, ...message() },
    rekeySecret,
    transcript,
  };
  suite.wipe(okm);
  return keys;
}
