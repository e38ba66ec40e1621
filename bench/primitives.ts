/** The yardstick: one ChaCha20-Poly1305 open of a cell's 1240 bytes by the daemon's own suite, and its neighbours. */
import { CT_BYTES } from '@nyx/core/wire/datagram.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';

export interface Primitives {
  readonly openUs: number;
  readonly sealUs: number;
  readonly x25519Us: number;
  readonly encapsulateUs: number;
  readonly decapsulateUs: number;
}

const RUNS = 5;

export function measurePrimitives(): Primitives {
  const suite = createNativeSuite();
  const plain = new Uint8Array(CT_BYTES);
  const sealed = new Uint8Array(CT_BYTES);
  const tag = new Uint8Array(16);
  const ad = new Uint8Array(2);
  const nonce = new Uint8Array(12);
  const key = new Uint8Array(32).fill(7);
  suite.aeadSeal(sealed, tag, plain, ad, nonce, key);
  const a = suite.x25519(new Uint8Array(32).fill(1));
  const b = suite.x25519(new Uint8Array(32).fill(2));
  const kem = suite.mlkem768(new Uint8Array(64).fill(3));
  const coins = new Uint8Array(32).fill(4);
  const encapsulated = suite.mlkem768Encapsulate(kem.publicKey, coins);
  if (!encapsulated) throw new Error('the suite refused its own key');
  return {
    openUs: best(20_000, () => {
      if (!suite.aeadOpen(plain, tag, sealed, ad, nonce, key)) throw new Error('the tag did not verify');
    }),
    sealUs: best(20_000, () => suite.aeadSeal(sealed, tag, plain, ad, nonce, key)),
    x25519Us: best(1_000, () => a.agree(b.publicKey)),
    encapsulateUs: best(1_000, () => suite.mlkem768Encapsulate(kem.publicKey, coins)),
    decapsulateUs: best(1_000, () => kem.decapsulate(encapsulated.ciphertext)),
  };
}

/** µs per call, the best of several runs after a warm-up: the least disturbed one. */
function best(count: number, work: () => unknown): number {
  let lowest = Number.POSITIVE_INFINITY;
  for (let run = 0; run <= RUNS; run += 1) {
    const start = performance.now();
    for (let index = 0; index < count; index += 1) work();
    const us = ((performance.now() - start) * 1000) / count;
    if (run > 0) lowest = Math.min(lowest, us);
  }
  return lowest;
}
