import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainPowMod, RSA_2048 } from '@nyx/core/mix/rsa-group.ts';
import fc from 'fast-check';
import { createNativePowMod } from './modular-power.ts';

test('powers by OpenSSL are those of bigints, for exponents of any size', () => {
  const native = createNativePowMod();
  const moduli = [RSA_2048, 2n ** 1279n - 1n, 3233n, 2n ** 3217n - 1n];
  fc.assert(
    fc.property(
      fc.constantFrom(...moduli),
      fc.bigInt({ min: 0n, max: 2n ** 2047n }),
      fc.oneof(
        fc.bigInt({ min: 0n, max: 2n ** 300n }),
        fc.bigInt({ min: 2n ** 2030n, max: 2n ** 2060n }),
        fc.bigInt({ min: 0n, max: 2n ** 6500n }),
        fc.integer({ min: 0, max: 300 }).map((bits) => 1n << BigInt(bits)),
      ),
      (modulus, base, exponent) => {
        assert.equal(native(base % modulus, exponent, modulus), plainPowMod(base % modulus, exponent, modulus));
      },
    ),
    { numRuns: 40 },
  );
});
