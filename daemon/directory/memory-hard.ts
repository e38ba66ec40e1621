/** argon2id for the admission puzzle, on libuv's threads; one run at a time, so that other work gets the rest of them. */
import { createRequire } from 'node:module';
import type { MemoryHard } from '@nyx/core/directory/admission.ts';

interface Sodium {
  readonly crypto_pwhash_ALG_ARGON2ID13: number;
  crypto_pwhash_async(
    out: Buffer,
    password: Buffer,
    salt: Buffer,
    opslimit: number,
    memlimit: number,
    algorithm: number,
    done: (error: Error | null) => void,
  ): void;
}

/** One lane, 32 bytes out: the same as RFC 9106 with p = 1. */
export const createMemoryHard = (): MemoryHard => {
  // Loaded only where it is used.
  const sodium = createRequire(import.meta.url)('sodium-native') as Sodium;
  let last: Promise<unknown> = Promise.resolve();
  return (password, salt, { memoryKib, passes }) => {
    const run = last.then(
      () =>
        new Promise<Uint8Array>((resolve, reject) => {
          const out = Buffer.alloc(32);
          sodium.crypto_pwhash_async(
            out,
            Buffer.from(password),
            Buffer.from(salt),
            passes,
            memoryKib * 1024,
            sodium.crypto_pwhash_ALG_ARGON2ID13,
            (error) => (error ? reject(error) : resolve(new Uint8Array(out))),
          );
        }),
    );
    // Its failure is its caller's.
    last = run.catch(() => {});
    return run;
  };
};
