/** Where the key store's passphrase comes from: a file that only its owner can read, or an environment variable. */
import { readFileSync } from 'node:fs';
import { assertPrivate, KeyStoreError, KeyStoreErrorCode } from './sealed-files.ts';

/** Undefined: none is configured. Throws KeyStoreError. */
export const readPassphrase = (
  keys: { readonly passphraseFile?: string | undefined; readonly passphraseEnv?: string | undefined },
  environment: NodeJS.ProcessEnv = process.env,
): Buffer | undefined => {
  if (keys.passphraseFile !== undefined) {
    let bytes: Buffer;
    try {
      assertPrivate(keys.passphraseFile);
      bytes = readFileSync(keys.passphraseFile);
    } catch (error) {
      if (error instanceof KeyStoreError) throw error;
      throw new KeyStoreError(KeyStoreErrorCode.io, `passphrase file: ${(error as Error).message}`);
    }
    let end = bytes.length;
    while (end > 0 && (bytes[end - 1] === 0x0a || bytes[end - 1] === 0x0d)) end--;
    return nonEmpty(bytes.subarray(0, end), keys.passphraseFile);
  }
  if (keys.passphraseEnv !== undefined) {
    const value = environment[keys.passphraseEnv];
    // Children and /proc readers of this process need not see it.
    delete environment[keys.passphraseEnv];
    return nonEmpty(Buffer.from(value ?? ''), `environment variable ${keys.passphraseEnv}`);
  }
  return undefined;
};

const nonEmpty = (passphrase: Buffer, where: string): Buffer => {
  if (passphrase.length > 0) return passphrase;
  throw new KeyStoreError(KeyStoreErrorCode.passphrase, `the passphrase in ${where} is empty or missing`);
};
