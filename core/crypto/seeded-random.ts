/** Reproducible randomness for simulations and tests. Never for keys of a real node. */
import { chacha20 } from '@noble/ciphers/chacha.js';
import { sha256 } from '@noble/hashes/sha2.js';
import type { Random } from '../ports.ts';
import { nyxLabel } from './key-schedule.ts';

const poolBytes = 4096;
const blocksPerPool = poolBytes / 64;

/**
 * A ChaCha20 keystream under a key hashed from `seed`: equal seeds give equal bytes, however the requests are cut up.
 * A number and its decimal string are the same seed. Good for 256 GiB, then throws.
 */
export function createSeededRandom(seed: number | string): Random {
  const hash = sha256.create();
  hash.update(nyxLabel('seeded random'));
  hash.update(new TextEncoder().encode(String(seed)));
  const key = hash.digest();
  const nonce = new Uint8Array(12);
  const zeros = new Uint8Array(poolBytes);
  const pool = new Uint8Array(poolBytes);
  let used = poolBytes;
  let block = 0;
  return {
    fill(into) {
      let filled = 0;
      while (filled < into.length) {
        if (used === poolBytes) {
          chacha20(key, nonce, zeros, pool, block);
          block += blocksPerPool;
          used = 0;
        }
        const take = Math.min(poolBytes - used, into.length - filled);
        into.set(pool.subarray(used, used + take), filled);
        used += take;
        filled += take;
      }
    },
  };
}
