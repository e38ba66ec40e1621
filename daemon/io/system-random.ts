/** The operating system's generator. */
import { randomFillSync } from 'node:crypto';
import type { Random } from '@nyx/core/ports.ts';

/** A call into the system's generator costs more than the few bytes that ids and jitters need. */
const poolBytes = 4096;
const largestPooledBytes = 64;

const pool = new Uint8Array(poolBytes);
let used = poolBytes;

/** Cryptographically secure. Bytes given out are erased from the pool at once. */
export const systemRandom: Random = {
  fill(into) {
    if (into.length > largestPooledBytes) {
      randomFillSync(into);
      return;
    }
    if (used + into.length > poolBytes) {
      randomFillSync(pool);
      used = 0;
    }
    for (let i = 0; i < into.length; i++) {
      into[i] = pool[used]!;
      pool[used++] = 0;
    }
  },
};
