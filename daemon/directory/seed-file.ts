/** Keys that operators keep in files: 64 hex digits of an Ed25519 seed, readable by their owner alone. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { CryptoSuite, SignKeyPair } from '@nyx/core/crypto/suite.ts';
import { type FamilyProof, proveFamily } from '@nyx/core/directory/family.ts';
import { assertPrivate, KeyStoreError, KeyStoreErrorCode, writeAtomically } from './sealed-files.ts';

/** Makes one if there is none. Throws KeyStoreError. */
export const loadOrMakeSeedKey = (path: string, suite: CryptoSuite): SignKeyPair => {
  if (!existsSync(path)) writeAtomically(path, Buffer.from(`${randomBytes(32).toString('hex')}\n`));
  return loadSeedKey(path, suite);
};

const loadSeedKey = (path: string, suite: CryptoSuite): SignKeyPair => {
  assertPrivate(path);
  const text = readFileSync(path, 'utf8').trim();
  if (!/^[0-9a-f]{64}$/.test(text)) {
    throw new KeyStoreError(KeyStoreErrorCode.corrupt, `${path} must hold 64 hex digits (an Ed25519 seed)`);
  }
  const seed = Buffer.from(text, 'hex');
  const key = suite.ed25519(seed);
  suite.wipe(seed);
  return key;
};

/** Proofs that the node with this identity is of the families with these key files. Throws KeyStoreError. */
export const proveFamilies = (files: readonly string[], identity: Uint8Array, suite: CryptoSuite): FamilyProof[] =>
  files.map((file) => {
    // A new key here would be a family of one.
    if (!existsSync(file)) {
      throw new KeyStoreError(
        KeyStoreErrorCode.corrupt,
        `${file} is missing; copy the family's key there, or make a family with: nyx-cli family key --create --file ${file}`,
      );
    }
    const key = loadSeedKey(file, suite);
    const proof = proveFamily(key, identity);
    key.wipe();
    return proof;
  });
