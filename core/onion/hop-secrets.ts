import type { CryptoSuite } from '../crypto/suite.ts';

/** What client and hop share after set-up (docs/protocol.md §4). */
export interface HopSecrets {
  /** AEAD key of the set-up message, 32 bytes. */
  readonly setupKey: Uint8Array;
  /** Key of the filler that the hop appends to the next set-up message, 32 bytes. */
  readonly fillerKey: Uint8Array;
  /** chain_0 of the cells that travel away from the client, 32 bytes. */
  readonly forwardChain: Uint8Array;
  /** chain_0 of the cells that travel to the client, 32 bytes. */
  readonly backwardChain: Uint8Array;
  /** What the node remembers for the epoch against replays, 16 bytes. */
  readonly setupTag: Uint8Array;
  /** What stands for this circuit in proofs that it carries, 32 bytes. */
  readonly binding: Uint8Array;
}

/** What both sides know of the exchange besides its secrets; all of it is bound into the keys. */
export interface SetupTranscript {
  readonly nodeId: Uint8Array;
  readonly epoch: number;
  readonly mixX25519: Uint8Array;
  /** SHA-256 of the node's ML-KEM public key. */
  readonly mixKemHash: Uint8Array;
  readonly epk: Uint8Array;
  readonly ciphertext: Uint8Array;
}

const text = new TextEncoder();
const LABEL_SETUP = text.encode('nyx1 setup');
const INFO_HOP = text.encode('nyx1 circuit hop');
const OKM_BYTES = 176;

/** Derives one hop's secrets from its hybrid exchange: `dh` and `kem` are 32 bytes each and stay the caller's. */
export function deriveHopSecrets(
  suite: CryptoSuite,
  dh: Uint8Array,
  kem: Uint8Array,
  transcript: SetupTranscript,
): HopSecrets {
  const epoch = new Uint8Array(8);
  new DataView(epoch.buffer).setBigUint64(0, BigInt(transcript.epoch));
  const salt = suite.sha256(
    LABEL_SETUP,
    transcript.nodeId,
    epoch,
    transcript.mixX25519,
    transcript.mixKemHash,
    transcript.epk,
    transcript.ciphertext,
  );
  const ikm = new Uint8Array(64);
  ikm.set(dh);
  ikm.set(kem, 32);
  const okm = suite.hkdf(ikm, salt, INFO_HOP, OKM_BYTES);
  const secrets: HopSecrets = {
    setupKey: okm.slice(0, 32),
    fillerKey: okm.slice(32, 64),
    forwardChain: okm.slice(64, 96),
    backwardChain: okm.slice(96, 128),
    setupTag: okm.slice(128, 144),
    binding: okm.slice(144, 176),
  };
  suite.wipe(ikm, okm);
  return secrets;
}

export function wipeHopSecrets(suite: CryptoSuite, secrets: HopSecrets): void {
  const { setupKey, fillerKey, forwardChain, backwardChain, setupTag, binding } = secrets;
  suite.wipe(setupKey, fillerKey, forwardChain, backwardChain, setupTag, binding);
}
