import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encode, rfc8949EncodeOptions } from 'cborg';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { compatible, networkOf } from '../path/candidates.ts';
import { parseAddress } from './address.ts';
import {
  type DescriptorFields,
  decodeDescriptor,
  encodeDescriptor,
  familyKeysOf,
  type NodeDescriptor,
  nodeIdHex,
  signDescriptor,
  toContact,
  verifyDescriptor,
  verifyDescriptorSignature,
} from './descriptor.ts';
import { DirectoryError } from './directory-error.ts';
import { proveFamily } from './family.ts';
import { decodeCbor } from './strict-cbor.ts';
import { makeDescriptor, randomBytes, testSuite as suite, testNow } from './testing.ts';

const random = createSeededRandom('descriptor');
const code = (expected: string, message?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof DirectoryError, String(error));
  assert.equal(error.code, expected, error.message);
  if (message !== undefined) assert.match(error.message, message);
  return true;
};

const full: Partial<DescriptorFields> = {
  nickname: 'relay-1',
  region: 'SE',
  contact: 'Noc <noc@example.org>, PGP 0x1234',
  addresses: [
    { address: '203.0.113.7', port: 443 },
    { address: '2001:db8::7', port: 9001 },
  ],
  roles: { mix: true, exit: true },
  exitPolicy: ['reject 10.0.0.0/8:*', 'accept *:80', 'accept [2001:db8::]/32:443-444'],
  family: ['example.org', 'another'],
  compliance: 'full',
};

/** Replaces fields of a body and leaves the signature as it was. */
function tamper(change: (body: Record<string, unknown>) => void): Uint8Array {
  const descriptor = makeDescriptor(createSeededRandom('tamper'), full);
  const body = decodeCbor(descriptor.body, 'body') as Record<string, unknown>;
  change(body);
  return new Uint8Array([...descriptor.signature, ...encode(body, rfc8949EncodeOptions)]);
}

describe('families', () => {
  const family = suite.ed25519(new Uint8Array(32).fill(3));
  const identity = suite.ed25519(new Uint8Array(32).fill(4));
  const other = suite.ed25519(new Uint8Array(32).fill(5));

  test('a certificate of the family key is part of the descriptor and is checked with its signature', () => {
    const families = [proveFamily(family, identity.publicKey)];
    const member = makeDescriptor(random, { families }, identity);
    const decoded = decodeDescriptor(encodeDescriptor(member), suite);
    assert.deepEqual(decoded, member);
    verifyDescriptorSignature(decoded, suite);
    assert.deepEqual(familyKeysOf(decoded), [nodeIdHex(family.publicKey)]);
    assert.deepEqual(familyKeysOf(makeDescriptor(random)), []);
  });

  test("nobody gets into a family by himself, by another's certificate, or by a name", () => {
    const own = { ...proveFamily(other, identity.publicKey), key: new Uint8Array(family.publicKey) };
    const copied = proveFamily(family, other.publicKey);
    for (const proof of [own, copied]) {
      const liar = makeDescriptor(random, { families: [proof] }, identity);
      assert.throws(() => verifyDescriptorSignature(liar, suite), {
        code: 'BAD_SIGNATURE',
        message: /has not certified/,
      });
    }
    const named = makeDescriptor(random, { family: [nodeIdHex(family.publicKey)] }, identity);
    assert.deepEqual(familyKeysOf(named), []);
  });

  test('at most four, each once', () => {
    const proof = proveFamily(family, identity.publicKey);
    const twice = () => makeDescriptor(random, { families: [proof, proof] }, identity);
    assert.throws(twice, { code: 'BAD_FIELD', message: /families must not name a family twice/ });
    const five = Array.from({ length: 5 }, (_, i) =>
      proveFamily(suite.ed25519(new Uint8Array(32).fill(20 + i)), identity.publicKey),
    );
    assert.throws(() => makeDescriptor(random, { families: five }, identity), { code: 'BAD_FIELD' });
  });

  test('names keep nobody off a path; a family that is proved does', () => {
    const named = (i: number) => makeDescriptor(random, { family: ['same'], nickname: `n${i}` });
    const proved = (i: number) => {
      const key = suite.ed25519(new Uint8Array(32).fill(40 + i));
      return makeDescriptor(random, { families: [proveFamily(family, key.publicKey)] }, key);
    };
    const rules = { sameSubnetAllowed: true, sameAsAllowed: true, sameCountryAllowed: true };
    const of = (descriptors: NodeDescriptor[]) => networkOf({ nodes: descriptors }).candidates;
    const [a, b] = of([named(0), named(1)]);
    assert.equal(compatible(a!, b!, rules), true);
    const [c, d] = of([proved(0), proved(1)]);
    assert.equal(compatible(c!, d!, rules), false);
  });
});

describe('descriptor', () => {
  test('comes back from its bytes as it was, and verifies', () => {
    const descriptor = makeDescriptor(random, full);
    const decoded = decodeDescriptor(encodeDescriptor(descriptor), suite);
    assert.deepEqual(decoded, descriptor);
    assert.deepEqual(decoded.nodeId, suite.blake3(decoded.identity));
    assert.equal(nodeIdHex(decoded.nodeId).length, 64);
    verifyDescriptor(decoded, suite, testNow);
    const contact = toContact(decoded);
    assert.deepEqual(contact.addresses, full.addresses);
    assert.deepEqual(contact.mixKeys, descriptor.mixKeys);
  });

  test('any changed bit is refused', () => {
    const bytes = encodeDescriptor(makeDescriptor(random, full));
    for (let at = 0; at < bytes.length; at += 29) {
      const changed = bytes.slice();
      changed[at]! ^= 1 << (at % 8);
      assert.throws(() => verifyDescriptor(decodeDescriptor(changed, suite), suite, testNow), DirectoryError, `${at}`);
    }
  });

  test('another key in the identity field is refused, by the signer and by the reader', () => {
    const descriptor = makeDescriptor(random);
    const other = suite.ed25519(randomBytes(random, 32));
    assert.throws(() => signDescriptor(descriptor, other, suite), code('BAD_FIELD', /identity is not the key/));
    const stolen = decodeDescriptor(
      tamper((body) => {
        body.identity = other.publicKey;
      }),
      suite,
    );
    assert.throws(() => verifyDescriptor(stolen, suite, testNow), code('BAD_SIGNATURE'));
  });

  test('is valid from published to before expires', () => {
    const descriptor = makeDescriptor(random, { published: testNow, expires: testNow + 100 });
    verifyDescriptor(descriptor, suite, testNow - 60);
    verifyDescriptor(descriptor, suite, testNow + 99);
    assert.throws(() => verifyDescriptor(descriptor, suite, testNow - 61), code('NOT_YET_VALID'));
    assert.throws(() => verifyDescriptor(descriptor, suite, testNow - 1, 0), code('NOT_YET_VALID'));
    assert.throws(() => verifyDescriptor(descriptor, suite, testNow + 100), code('EXPIRED'));
  });

  test('says which field is wrong and what would be right', () => {
    const withAddresses =
      (...list: string[]) =>
      (b: Record<string, unknown>) =>
        Object.assign(b, { addresses: list.map((address) => ({ address, port: 9001 })) });
    const cases: [string, RegExp, (body: Record<string, unknown>) => void][] = [
      ['UNSUPPORTED_VERSION', /version 2; this node reads version 1/, (b) => Object.assign(b, { version: 2 })],
      ['MALFORMED', /has no version/, (b) => delete b.version],
      ['BAD_FIELD', /linkX25519 must be 32 bytes, is missing/, (b) => delete b.linkX25519],
      ['BAD_FIELD', /linkKem must be 1184 bytes/, (b) => Object.assign(b, { linkKem: new Uint8Array(3) })],
      ['BAD_FIELD', /extra is not a field/, (b) => Object.assign(b, { extra: 1 })],
      ['BAD_FIELD', /addresses must be a list of 1 to 8/, (b) => Object.assign(b, { addresses: [] })],
      ['BAD_FIELD', /canonical form/, (b) => Object.assign(b, { addresses: [{ address: '::0:1', port: 1 }] })],
      ['BAD_FIELD', /literal IP/, (b) => Object.assign(b, { addresses: [{ address: 'example.org', port: 1 }] })],
      [
        'BAD_FIELD',
        /port must be an integer/,
        (b) => Object.assign(b, { addresses: [{ address: '1.2.3.4', port: 0 }] }),
      ],
      ['BAD_FIELD', /mixKeys must be a list of 1 to 3/, (b) => Object.assign(b, { mixKeys: [] })],
      [
        'BAD_FIELD',
        /epochs ascend/,
        (b) => {
          const [key] = b.mixKeys as unknown[];
          b.mixKeys = [key, key];
        },
      ],
      ['BAD_FIELD', /literal IP/, withAddresses('2001:DB8::1')],
      ['BAD_FIELD', /must not be IPv4 written as IPv6/, withAddresses('::ffff:c000:201')],
      ['BAD_FIELD', /must not be there twice/, withAddresses('2001:db8::1', '192.0.2.1', '2001:db8::1')],
      ['BAD_FIELD', /list of 1 to 8/, withAddresses(...Array.from({ length: 9 }, (_, i) => `192.0.2.${i}`))],
      ['BAD_POLICY', /accept nothing/, (b) => Object.assign(b, { exitPolicy: ['accept nothing'] })],
      ['BAD_FIELD', /list of 0 to 64/, (b) => Object.assign(b, { exitPolicy: new Array(65).fill('accept *:*') })],
      ['BAD_FIELD', /family must be a list/, (b) => Object.assign(b, { family: new Array(17).fill('a') })],
      ['BAD_FIELD', /family twice/, (b) => Object.assign(b, { family: ['a', 'a'] })],
      ['BAD_FIELD', /family must hold only/, (b) => Object.assign(b, { family: ['x'.repeat(65)] })],
      ['BAD_FIELD', /core, plus or full/, (b) => Object.assign(b, { compliance: 'none' })],
      ['BAD_FIELD', /nickname must be/, (b) => Object.assign(b, { nickname: 'a b' })],
      ['BAD_FIELD', /contact must be/, (b) => Object.assign(b, { contact: 'clears\u001b[2J' })],
      ['BAD_FIELD', /contact must be/, (b) => Object.assign(b, { contact: 'x'.repeat(257) })],
      ['BAD_FIELD', /contact must be/, (b) => Object.assign(b, { contact: ' ' })],
      ['BAD_FIELD', /region must be/, (b) => Object.assign(b, { region: 'se' })],
      ['BAD_FIELD', /bandwidth must be an integer/, (b) => Object.assign(b, { bandwidth: -1 })],
      ['BAD_FIELD', /bandwidth must be an integer/, (b) => Object.assign(b, { bandwidth: -1 })],
      ['MALFORMED', /not the canonical form/, (b) => Object.assign(b, { bandwidth: 1.5 })],
      ['BAD_FIELD', /expires must be/, (b) => Object.assign(b, { expires: b.published })],
      ['BAD_FIELD', /expires must be/, (b) => Object.assign(b, { expires: testNow + 8 * 86_400 })],
      ['BAD_FIELD', /mix must be true or false/, (b) => Object.assign(b, { mix: 1 })],
    ];
    for (const [expected, message, change] of cases) {
      assert.throws(() => decodeDescriptor(tamper(change), suite), code(expected, message));
    }
  });

  test('only one encoding is accepted', () => {
    const { signature, body } = makeDescriptor(random);
    const withBody = (...changed: number[]) => new Uint8Array([...signature, ...changed]);
    assert.equal(body[0], 0xae, 'a map of 14');
    const fields = Object.entries(decodeCbor(body, 'body') as object);
    const notCanonical = [
      withBody(0xbf, ...body.subarray(1), 0xff), // indefinite length
      withBody(0xb8, 0x0e, ...body.subarray(1)), // count not in its shortest form
      withBody(...body, 0), // bytes after the end
      withBody(0xaf, ...body.subarray(1), ...encode('mix'), ...encode(true)), // a key twice
      withBody(...body.subarray(0, -1)),
      withBody(...encode(Object.fromEntries(fields.reverse()), { mapSorter: () => 0 })), // keys out of order
      withBody(...new Array(15_000).fill(0x81)), // nested deeply
      withBody(0xf9, 0x7e, 0x00), // NaN
    ];
    for (const bytes of notCanonical) {
      assert.throws(() => decodeDescriptor(bytes, suite), code('MALFORMED', /is not deterministic CBOR/));
    }
  });

  test('too large, too short and arbitrary bytes give a DirectoryError, never another', () => {
    assert.throws(() => decodeDescriptor(new Uint8Array(16_385), suite), code('TOO_LARGE'));
    assert.throws(() => decodeDescriptor(new Uint8Array(64), suite), code('MALFORMED'));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        assert.throws(() => decodeDescriptor(bytes, suite), DirectoryError);
      }),
      { seed: 7, numRuns: 500 },
    );
  });

  test('every valid combination of fields survives the round trip', () => {
    const v6 = fc
      .array(fc.integer({ min: 0, max: 0xffff }), { minLength: 7, maxLength: 7 })
      .map((parts) => parseAddress(`2001:${parts.map((part) => part.toString(16)).join(':')}`)!.toString());
    const address = fc.oneof(fc.ipV4(), v6);
    const arbitrary = fc.record({
      addresses: fc.uniqueArray(fc.record({ address, port: fc.integer({ min: 1, max: 65535 }) }), {
        minLength: 1,
        maxLength: 8,
        selector: (one) => `${one.address} ${one.port}`,
      }),
      roles: fc.record({ mix: fc.boolean(), exit: fc.boolean() }),
      family: fc.uniqueArray(fc.stringMatching(/^[!-~]{1,64}$/), { maxLength: 16 }),
      compliance: fc.constantFrom('core' as const, 'plus' as const, 'full' as const),
      bandwidthBytesPerSecond: fc.integer({ min: 0, max: 2 ** 40 }),
      nickname: fc.option(fc.stringMatching(/^[A-Za-z0-9._-]{1,32}$/), { nil: undefined }),
      contact: fc.option(fc.stringMatching(/^[!-~]([ -~]{0,254}[!-~])?$/), { nil: undefined }),
    });
    fc.assert(
      fc.property(arbitrary, (fields) => {
        const descriptor = makeDescriptor(createSeededRandom(1), fields);
        assert.deepEqual(decodeDescriptor(encodeDescriptor(descriptor), suite), descriptor);
        assert.deepEqual(descriptor.family, fields.family);
        assert.equal(descriptor.nickname, fields.nickname);
        assert.equal(descriptor.contact, fields.contact);
      }),
      { seed: 7, numRuns: 60 },
    );
  });
});
