import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { createNobleSuite } from '@nyx/core/crypto/noble-suite.ts';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { encodeDescriptor, nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import { makeDescriptor, randomBytes, testNow } from '@nyx/core/directory/testing.ts';
import fc from 'fast-check';
import { Refusal, RefusedError } from './contract.ts';
import { type Namespace, RecordRules, recordKey } from './record-rules.ts';
import { type ServiceRecord, serviceRecordKind } from './service-record.ts';
import { signRecord } from './signed-record.ts';
import { signAuthorityRecord } from './statements.ts';

const suite = createNobleSuite();
const random = createSeededRandom('record rules');
const peerId = '12D3KooWGbeUytAKEXPoAgu52XTHvkF2nKtR2CGV6RUyeQHfzW9T';
const serviceKey = suite.ed25519(randomBytes(random, 32));
const authorityKey = suite.ed25519(randomBytes(random, 32));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const service = (change: Partial<ServiceRecord> = {}, key = serviceKey): Uint8Array =>
  signRecord(
    serviceRecordKind,
    {
      key: serviceKey.publicKey,
      revision: 1,
      content: Uint8Array.of(1, 2, 3),
      published: testNow,
      expires: testNow + 600,
      ...change,
    },
    key,
  );

/** A good record of each namespace with its key. */
const good: readonly { readonly namespace: Namespace; readonly id: string; readonly value: Uint8Array }[] = [
  (() => {
    const descriptor = makeDescriptor(random);
    return { namespace: 'node' as const, id: nodeIdHex(descriptor.nodeId), value: encodeDescriptor(descriptor) };
  })(),
  {
    namespace: 'authority',
    id: hex(authorityKey.publicKey),
    value: signAuthorityRecord(authorityKey, peerId, ['/ip4/192.0.2.1/tcp/9040'], testNow),
  },
  { namespace: 'service', id: hex(suite.blake3(serviceKey.publicKey)), value: service() },
];

let nowSeconds = testNow;
const rules = new RecordRules(suite, () => nowSeconds * 1000);
const refused = (reason: Refusal) => (error: unknown) => {
  assert.ok(error instanceof RefusedError, String(error));
  assert.equal(error.reason, reason, error.message);
  return true;
};

describe('records of the DHT', () => {
  beforeEach(() => {
    nowSeconds = testNow;
  });

  for (const { namespace, id, value } of good) {
    const key = recordKey(namespace, id);

    it(`${namespace}: a good one is taken, and only under its own key`, () => {
      rules.check(key, value);
      assert.throws(() => rules.check(recordKey(namespace, 'ab'.repeat(32)), value), refused(Refusal.misplaced));
    });

    it(`${namespace}: the key has one form`, () => {
      const upper = id.toUpperCase();
      const others = ['', '/', `/nyx/${namespace}`, `/nyx/${namespace}/`, `/nyx/${namespace}/${id}/`, `/pk/${id}`];
      const more = [`/nyx/${namespace}/${upper}`, `/nyx/${namespace}/${id}0`, `nyx/${namespace}/${id}`, `/nyx/x/${id}`];
      for (const text of [...others, ...more, `/ipns/${id}`]) {
        assert.throws(() => rules.check(Buffer.from(text), value), refused(Refusal.unknownKey), text);
      }
    });

    it(`${namespace}: valid from its publication (with a minute of grace) to its end`, () => {
      nowSeconds = testNow - 60;
      rules.check(key, value);
      nowSeconds = testNow - 61;
      assert.throws(() => rules.check(key, value), refused(Refusal.notYetValid));
      const expires = rules.expiryOf(key, value);
      assert.ok(expires > testNow);
      nowSeconds = expires - 1;
      rules.check(key, value);
      nowSeconds = expires;
      assert.throws(() => rules.check(key, value), refused(Refusal.expired));
    });

    it(`${namespace}: a changed byte is noticed, wherever it is`, () => {
      fc.assert(
        fc.property(fc.nat(value.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
          const changed = value.slice();
          changed[at]! ^= flip;
          assert.throws(() => rules.check(key, changed), RefusedError);
        }),
        { numRuns: 60 },
      );
      const tampered = value.slice();
      tampered[0]! ^= 1;
      assert.throws(() => rules.check(key, tampered), refused(Refusal.badSignature));
    });

    it(`${namespace}: what is too long or no record at all is refused`, () => {
      assert.throws(() => rules.check(key, new Uint8Array(16 * 1024 + 1)), refused(Refusal.oversized));
      assert.throws(() => rules.check(key, value.slice(0, -1)), refused(Refusal.malformed));
      assert.equal(rules.expiryOf(key, Uint8Array.of(1)), 0);
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
          assert.throws(() => rules.check(key, bytes), refused(Refusal.malformed));
        }),
        { numRuns: 60 },
      );
    });
  }

  it('a record of another namespace is not taken', () => {
    for (const a of good) {
      for (const b of good) {
        if (a === b) continue;
        assert.throws(() => rules.check(recordKey(a.namespace, a.id), b.value), RefusedError);
      }
    }
  });

  it('a record that is signed by another key than it names is refused', () => {
    const { namespace, id } = good[2]!;
    assert.throws(
      () => rules.check(recordKey(namespace, id), service({}, authorityKey)),
      refused(Refusal.badSignature),
    );
  });

  it('bounds: lifetime, content, revision', () => {
    const key = recordKey('service', good[2]!.id);
    rules.check(key, service({ expires: testNow + 86_400, content: new Uint8Array(12 * 1024) }));
    assert.throws(() => rules.check(key, service({ expires: testNow + 86_401 })), refused(Refusal.malformed));
    assert.throws(() => rules.check(key, service({ content: new Uint8Array(12 * 1024 + 1) })), RefusedError);
    assert.throws(() => rules.check(key, service({ revision: -1 })), refused(Refusal.malformed));
  });

  it('the newest wins in any order, and everybody chooses the same of two with one age', () => {
    const key = recordKey('service', good[2]!.id);
    const revisions = fc.array(fc.record({ revision: fc.nat(3), age: fc.nat(3), byte: fc.nat(255) }), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(revisions, fc.nat(), (given, seed) => {
        const records = given.map(({ revision, age, byte }) =>
          service({ revision, published: testNow - age, content: Uint8Array.of(byte) }),
        );
        const best = records[rules.select(key, records)]!;
        const top = Math.max(...given.map(({ revision }) => revision));
        const chosen = given[records.indexOf(best)]!;
        assert.equal(chosen.revision, top);
        assert.equal(chosen.age, Math.min(...given.filter((one) => one.revision === top).map(({ age }) => age)));
        const rotated = [...records.slice(seed % records.length), ...records.slice(0, seed % records.length)];
        assert.deepEqual(rotated.toReversed()[rules.select(key, rotated.toReversed())], best);
        for (const other of records) rules.assertNotOlder(key, other, best);
      }),
      { numRuns: 40 },
    );
  });

  it('an older record does not replace a newer one; the same one may come again; what is unreadable never wins', () => {
    const [{ id, value }] = good as [(typeof good)[0]];
    const key = recordKey('node', id);
    const serviceOf = recordKey('service', good[2]!.id);
    assert.throws(
      () => rules.assertNotOlder(serviceOf, service({ revision: 2 }), service({ revision: 1, published: testNow + 9 })),
      refused(Refusal.replayed),
    );
    rules.assertNotOlder(serviceOf, service({ revision: 1 }), service({ revision: 2 }));
    rules.assertNotOlder(key, value, value);
    assert.equal(rules.select(key, [Uint8Array.of(1), value, Uint8Array.of(255)]), 1);
    assert.throws(() => rules.assertNotOlder(key, value, Uint8Array.of(255)), refused(Refusal.replayed));
  });
});
