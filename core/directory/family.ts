/**
 * Families that are proved: a key that their operator keeps certifies each member's identity, and the certificate is part
 * of the member's descriptor. So nobody can be said to be in a family by others, and nobody can put himself into one.
 *
 *   certificate = Ed25519(family key, "nyx1 family" ‖ 0x00 ‖ identity (32))
 */
import { nyxLabel } from '../crypto/key-schedule.ts';
import type { CryptoSuite, SignKeyPair } from '../crypto/suite.ts';
import { joinBytes } from './bytes.ts';

/** Families that one node may be in. */
export const MAX_PROVED_FAMILIES = 4;

export interface FamilyProof {
  /** The family's Ed25519 public key, which is its name; 32 bytes. */
  readonly key: Uint8Array;
  /** 64 bytes. */
  readonly certificate: Uint8Array;
}

export function proveFamily(key: SignKeyPair, identity: Uint8Array): FamilyProof {
  return { key: new Uint8Array(key.publicKey), certificate: key.sign(statement(identity)) };
}

/** What has to hold for a proof, as any Ed25519 signature. */
export function familySignature({ key, certificate }: FamilyProof, identity: Uint8Array) {
  return { key, signature: certificate, message: statement(identity) };
}

export function isFamilyProved({ key, certificate }: FamilyProof, identity: Uint8Array, suite: CryptoSuite): boolean {
  return suite.ed25519Verify(key, statement(identity), certificate);
}

function statement(identity: Uint8Array): Uint8Array {
  return joinBytes(nyxLabel('family'), Uint8Array.of(0), identity);
}
