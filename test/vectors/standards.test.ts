/** Vectors out of the standards themselves, carried here so that every clone runs them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ascii, hex, suites, toHex } from './suites.ts';

const empty = new Uint8Array(0);
const rfc8439Key = hex('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f');
const sunscreen = ascii(
  "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
);
const mlkemSeed =
  '7c9935a0b07694aa0c6d10e4db6b1add2fd81a25ccb148032dcd739936737f2d8626ed79d451140800e03b59b956f8210e556067407d13dc90fa9e8b872bfb8f';
const mlkemPublicKeySha256 = '86adbca81f4fee893e2fb58fb98aa2fe188f501fed268d7f4056f8c05c4e53c4';

const rfc8032 = [
  {
    seed: '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    publicKey: 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    message: '',
    signature:
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  },
  {
    seed: '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    publicKey: '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    message: '72',
    signature:
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  },
  {
    seed: 'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    publicKey: 'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    message: 'af82',
    signature:
      '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  },
];

for (const suite of suites) {
  describe(`standards, ${suite.name}`, () => {
    test('RFC 8439 §2.4.2: ChaCha20 from block 1', () => {
      const out = new Uint8Array(sunscreen.length);
      suite.chacha20Xor(out, sunscreen, hex('000000000000004a00000000'), 1, rfc8439Key);
      assert.equal(
        toHex(out),
        toHex(
          hex(`6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639d6
               24e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a3
               5be6b40b8eedf2785e42874d`),
        ),
      );
    });

    test('RFC 8439 §2.8.2: ChaCha20-Poly1305', () => {
      const out = new Uint8Array(sunscreen.length);
      const tag = new Uint8Array(16);
      const key = hex('808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f');
      const nonce = hex('070000004041424344454647');
      const ad = hex('50515253c0c1c2c3c4c5c6c7');
      suite.aeadSeal(out, tag, sunscreen, ad, nonce, key);
      assert.equal(
        toHex(out),
        toHex(
          hex(`d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de
               0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b
               7a9de576d26586cec64b6116`),
        ),
      );
      assert.equal(toHex(tag), '1ae10b594f09e26a7e902ecbd0600691');
      assert.ok(suite.aeadOpen(out, tag, out, ad, nonce, key));
      assert.deepEqual(out, sunscreen);
    });

    test('FIPS 180-4: SHA-256 of "abc", in parts', () => {
      const expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
      assert.equal(toHex(suite.sha256(ascii('abc'))), expected);
      assert.equal(toHex(suite.sha256(ascii('a'), empty, ascii('bc'))), expected);
    });

    test('RFC 5869 A.1, A.3: HKDF-SHA-256', () => {
      const ikm = hex('0b'.repeat(22));
      assert.equal(
        toHex(suite.hkdf(ikm, hex('000102030405060708090a0b0c'), hex('f0f1f2f3f4f5f6f7f8f9'), 42)),
        '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
      );
      assert.equal(
        toHex(suite.hkdf(ikm, empty, empty, 42)),
        '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
      );
    });

    test('RFC 7748 §5.2, §6.1: X25519', () => {
      assert.equal(
        toHex(
          suite
            .x25519(hex('a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4'))
            .agree(hex('e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c'))!,
        ),
        'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552',
      );
      const alice = suite.x25519(hex('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a'));
      const bob = suite.x25519(hex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb'));
      assert.equal(toHex(alice.publicKey), '8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
      assert.equal(toHex(bob.publicKey), 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
      const shared = '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742';
      assert.equal(toHex(alice.agree(bob.publicKey)!), shared);
      assert.equal(toHex(bob.agree(alice.publicKey)!), shared);
    });

    test('RFC 8032 §7.1, tests 1 to 3: Ed25519', () => {
      for (const { seed, publicKey, message, signature } of rfc8032) {
        const pair = suite.ed25519(hex(seed));
        assert.equal(toHex(pair.publicKey), publicKey);
        assert.equal(toHex(pair.sign(hex(message))), signature);
        assert.ok(suite.ed25519Verify(pair.publicKey, hex(message), hex(signature)));
        assert.ok(!suite.ed25519Verify(pair.publicKey, ascii('another'), hex(signature)));
      }
    });

    test('BLAKE3: the first vectors of its test_vectors.json', () => {
      assert.equal(toHex(suite.blake3()), 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262');
      assert.equal(toHex(suite.blake3(hex('00'))), '2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213');
    });

    test('ML-KEM-768: the public key of a published seed', () => {
      // FIPS 203 prints no vectors; seed and key are tcId 1 of Wycheproof's mlkem_768_keygen_seed_test.json.
      const seed = hex(mlkemSeed);
      assert.equal(toHex(suite.sha256(suite.mlkem768(seed).publicKey)), mlkemPublicKeySha256);
    });
  });
}
