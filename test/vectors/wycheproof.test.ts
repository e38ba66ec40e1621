import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hex, suites, toHex } from './suites.ts';
import { forEachCase, type WycheproofCase, wycheproofPresent } from './wycheproof.ts';

const field = (value: WycheproofCase, name: string): Uint8Array => {
  assert.equal(typeof value[name], 'string', `field ${name}`);
  return hex(value[name] as string);
};

describe('Wycheproof', () => {
  test('is there, or the standards alone are what ran', (t) => {
    t.diagnostic(
      wycheproofPresent
        ? 'vectors: ../shared/vectors/wycheproof and the standards'
        : 'vectors: ../shared/vectors does not exist; only the standards of standards.test.ts ran',
    );
  });
  if (!wycheproofPresent) return;

  for (const suite of suites) {
    test(`ChaCha20-Poly1305, ${suite.name}`, (t) => {
      let refused = 0;
      const ran = forEachCase('chacha20_poly1305_test.json', (c) => {
        const [key, iv, aad] = [field(c, 'key'), field(c, 'iv'), field(c, 'aad')];
        const [msg, ct, tag] = [field(c, 'msg'), field(c, 'ct'), field(c, 'tag')];
        const out = new Uint8Array(ct.length);
        if (iv.length !== 12) {
          assert.equal(c.result, 'invalid');
          assert.throws(() => suite.aeadOpen(out, tag, ct, aad, iv, key), RangeError);
          refused++;
          return;
        }
        assert.equal(suite.aeadOpen(out, tag, ct, aad, iv, key), c.result === 'valid');
        if (c.result !== 'valid') return;
        assert.deepEqual(out, msg);
        const sealedTag = new Uint8Array(16);
        suite.aeadSeal(out, sealedTag, msg, aad, iv, key);
        assert.deepEqual(out, ct);
        assert.deepEqual(sealedTag, tag);
      });
      t.diagnostic(`${ran} cases, of which ${refused} have a nonce length that the suite refuses`);
    });

    test(`X25519, ${suite.name}`, (t) => {
      let lowOrder = 0;
      const ran = forEachCase('x25519_test.json', (c) => {
        const agreed = suite.x25519(field(c, 'private')).agree(field(c, 'public'));
        if (/^0*$/.test(c.shared as string)) {
          assert.equal(agreed, undefined);
          lowOrder++;
        } else {
          assert.equal(toHex(agreed!), c.shared);
        }
      });
      assert.ok(lowOrder > 0);
      t.diagnostic(`${ran} cases, of which ${lowOrder} have a low-order key and were refused`);
    });

    test(`Ed25519, ${suite.name}`, (t) => {
      const ran = forEachCase('ed25519_test.json', (c, group) => {
        const publicKey = hex((group.publicKey as { pk: string }).pk);
        assert.equal(suite.ed25519Verify(publicKey, field(c, 'msg'), field(c, 'sig')), c.result === 'valid');
      });
      t.diagnostic(`${ran} cases`);
    });

    test(`HKDF-SHA-256, ${suite.name}`, (t) => {
      const ran = forEachCase('hkdf_sha256_test.json', (c) => {
        const derive = () => suite.hkdf(field(c, 'ikm'), field(c, 'salt'), field(c, 'info'), c.size as number);
        if (c.result === 'valid') assert.equal(toHex(derive()), c.okm);
        else assert.throws(derive);
      });
      t.diagnostic(`${ran} cases`);
    });

    test(`ML-KEM-768 key generation, ${suite.name}`, (t) => {
      const ran = forEachCase('mlkem_768_keygen_seed_test.json', (c) => {
        assert.equal(toHex(suite.mlkem768(field(c, 'seed')).publicKey), c.ek);
      });
      t.diagnostic(`${ran} cases`);
    });

    test(`ML-KEM-768 decapsulation, ${suite.name}`, (t) => {
      let badLength = 0;
      const ran = forEachCase('mlkem_768_test.json', (c) => {
        const [seed, ciphertext] = [field(c, 'seed'), field(c, 'c')];
        if (c.result === 'invalid') {
          assert.ok(seed.length !== 64 || ciphertext.length !== 1088);
          assert.throws(() => suite.mlkem768(seed).decapsulate(ciphertext), RangeError);
          badLength++;
        } else {
          assert.equal(toHex(suite.mlkem768(seed).decapsulate(ciphertext)), c.K);
        }
      });
      t.diagnostic(`${ran} cases, of which ${badLength} have a wrong length and were refused`);
    });

    test(`ML-KEM-768 encapsulation, ${suite.name}`, (t) => {
      let refused = 0;
      const ran = forEachCase('mlkem_768_encaps_test.json', (c) => {
        const [publicKey, coins] = [field(c, 'ek'), field(c, 'm')];
        if (publicKey.length !== 1184) {
          assert.equal(c.result, 'invalid');
          assert.throws(() => suite.mlkem768Encapsulate(publicKey, coins), RangeError);
          refused++;
          return;
        }
        const made = suite.mlkem768Encapsulate(publicKey, coins);
        assert.equal(made !== undefined, c.result === 'valid');
        if (made === undefined) refused++;
        else if (suite.name === 'noble') {
          assert.equal(toHex(made.ciphertext), c.c);
          assert.equal(toHex(made.sharedSecret), c.K);
        }
      });
      assert.ok(refused > 0);
      // The native suite draws its own coins: for it the cases show which keys it takes, the round trips the rest.
      t.diagnostic(`${ran} cases, of which ${refused} have a malformed key and were refused`);
    });
  }
});
