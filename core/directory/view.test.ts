import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { nodeIdHex } from './descriptor.ts';
import { DirectoryError } from './directory-error.ts';
import { merkleLeaf, merkleRoot } from './merkle.ts';
import { makeDescriptor, makeViewNode, randomBytes, testSuite as suite, testNow } from './testing.ts';
import {
  type BuildViewOptions,
  buildView,
  decodeViewBundle,
  encodeViewBundle,
  epochAt,
  signView,
  type VerifyViewOptions,
  type ViewBundle,
  type ViewEntry,
  verifyViewBundle,
} from './view.ts';

const random = createSeededRandom('view');
const keys = Array.from({ length: 3 }, () => suite.ed25519(randomBytes(random, 32)));
const authorities = { threshold: 2, keys: keys.map((key) => key.publicKey) };
const nodes = Array.from({ length: 5 }, () => makeDescriptor(random));
const dates: BuildViewOptions = {
  validAfter: testNow,
  freshUntil: testNow + 3600,
  validUntil: testNow + 10_800,
  params: { 'max-hops': 7 },
};

function bundleOf(change: Partial<BuildViewOptions> = {}, signers = [0, 1], of = nodes): ViewBundle {
  return signers.reduce(
    (bundle, i) => signView(bundle, keys[i]!),
    buildView(of.map(makeViewNode), { ...dates, ...change }, suite),
  );
}

const verify = (bundle: ViewBundle, change: Partial<VerifyViewOptions> = {}) =>
  verifyViewBundle(bundle, { authorities, suite, now: testNow + 1, ...change });

const code = (expected: string, message?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof DirectoryError, String(error));
  assert.equal(error.code, expected, error.message);
  if (message !== undefined) assert.match(error.message, message);
  return true;
};

describe('epoch view', () => {
  test('survives its bytes and verifies; nodes ascend by NodeID', () => {
    const bundle = bundleOf();
    const decoded = decodeViewBundle(encodeViewBundle(bundle));
    assert.deepEqual(decoded, bundle);
    const verified = verify(decoded);
    assert.equal(verified.epoch, Math.floor(testNow / 3600));
    assert.equal(verified.view.params['max-hops'], 7);
    const ids = verified.nodes.map((node) => nodeIdHex(node.nodeId));
    assert.deepEqual(ids, nodes.map((node) => nodeIdHex(node.nodeId)).sort());
    assert.deepEqual([...verified.byId.keys()], ids);
  });

  test('epochs are floor(time / length)', () => {
    assert.equal(epochAt(7199), 1);
    assert.equal(epochAt(7200), 2);
    assert.equal(epochAt(25, 10), 2);
  });

  test('the threshold counts different authorities with valid signatures', () => {
    assert.throws(() => verify(bundleOf({}, [0])), code('TOO_FEW_SIGNATURES', /1 valid .* 2 are needed/));
    const one = bundleOf({}, [0]);
    const twice = { ...one, signatures: [one.signatures[0]!, one.signatures[0]!] };
    assert.throws(() => verify(twice), code('TOO_FEW_SIGNATURES'));
    const stranger = signView(one, suite.ed25519(randomBytes(random, 32)));
    assert.throws(() => verify(stranger), code('TOO_FEW_SIGNATURES'));
    const forged = {
      ...one,
      signatures: [one.signatures[0]!, { key: keys[1]!.publicKey, signature: new Uint8Array(64) }],
    };
    assert.throws(() => verify(forged), code('TOO_FEW_SIGNATURES'));
    assert.equal(signView(one, keys[0]!).signatures.length, 1);
    verify(bundleOf({}, [2, 1]));
    // A worthless signature before a good one by the same key must not use the key up.
    const mixed = bundleOf({}, [0, 1]);
    verify({ ...mixed, signatures: [{ key: keys[1]!.publicKey, signature: new Uint8Array(64) }, ...mixed.signatures] });
  });

  test('an authority set that makes no sense is refused', () => {
    for (const bad of [
      { threshold: 0, keys: authorities.keys },
      { threshold: 4, keys: authorities.keys },
      { threshold: 1.5, keys: authorities.keys },
      { threshold: 2, keys: [authorities.keys[0]!, authorities.keys[0]!] },
    ]) {
      assert.throws(() => verify(bundleOf(), { authorities: bad }), code('BAD_FIELD', /threshold/));
    }
  });

  test('dates', () => {
    verify(bundleOf(), { now: testNow - 60 });
    assert.throws(() => verify(bundleOf(), { now: testNow - 61 }), code('NOT_YET_VALID'));
    verify(bundleOf(), { now: testNow + 10_799 });
    assert.throws(() => verify(bundleOf(), { now: testNow + 10_800 }), code('EXPIRED'));
    assert.throws(() => bundleOf({ freshUntil: testNow }), code('BAD_FIELD', /freshUntil/));
    assert.throws(() => bundleOf({ freshUntil: testNow + 10_801 }), code('BAD_FIELD', /freshUntil/));
    assert.throws(() => bundleOf({ validUntil: testNow + 8 * 86_400 }), code('BAD_FIELD', /validUntil/));
  });

  test('a node left out, added, exchanged or moved is noticed', () => {
    const bundle = bundleOf();
    const [first, second, ...rest] = bundle.entries as [ViewEntry, ViewEntry, ...ViewEntry[]];
    const other = buildView([makeViewNode(makeDescriptor(random))], dates, suite).entries[0]!;
    assert.throws(() => verify({ ...bundle, entries: [second, ...rest] }), code('INCOMPLETE', /4 .* says 5/));
    assert.throws(() => verify({ ...bundle, entries: [...bundle.entries, other] }), code('INCOMPLETE'));
    assert.throws(() => verify({ ...bundle, entries: [other, second, ...rest] }), code('BAD_ROOT'));
    assert.throws(() => verify({ ...bundle, entries: [second, first, ...rest] }), code('BAD_ROOT'));
    for (const change of [{ flags: 1 }, { weight: 2 }, { bandwidthBytesPerSecond: 3 }, { firstEpoch: 4 }]) {
      const praised = { ...first, status: { ...first.status, ...change } };
      assert.throws(() => verify({ ...bundle, entries: [praised, second, ...rest] }), code('BAD_ROOT'));
    }
  });

  test('authorities cannot list a node twice, a forged descriptor, or one that has ended', () => {
    const node = nodes[0]!;
    assert.throws(() => bundleOf({}, [0, 1], [node, node]), code('INCOMPLETE', /twice/));
    const forged = { ...node, signature: new Uint8Array(64) };
    assert.throws(() => verify(bundleOf({}, [0, 1], [forged])), code('BAD_SIGNATURE'));
    const ended = makeDescriptor(random, { published: testNow - 100, expires: testNow });
    assert.throws(() => bundleOf({}, [0, 1], [ended]), code('EXPIRED'));
  });

  test('rollback and fork against the last view have codes of their own', () => {
    const first = verify(bundleOf());
    verify(bundleOf(), { previous: first });
    verify(bundleOf({}, [1, 2]), { previous: { epoch: first.epoch, digest: first.digest } });
    const later = { validAfter: testNow + 3600, freshUntil: testNow + 7200, validUntil: testNow + 10_800 };
    const second = verify(bundleOf(later), { previous: first, now: testNow + 3601 });
    assert.equal(second.epoch, first.epoch + 1);
    // Bytes that were verified before are not read again.
    assert.equal(second.nodes[0], first.nodes[0]);
    assert.throws(() => verify(bundleOf(), { previous: second }), code('ROLLBACK', /was accepted before/));
    assert.throws(() => verify(bundleOf({}, [0, 1], nodes.slice(1)), { previous: first }), code('FORK'));
    assert.throws(() => verify(bundleOf({ params: {} }), { previous: first }), code('FORK'));
  });

  test('a changed digest loses its signatures', () => {
    const bundle = bundleOf();
    const other = buildView(nodes.map(makeViewNode), { ...dates, validUntil: testNow + 10_801 }, suite);
    assert.throws(() => verify({ ...other, signatures: bundle.signatures }), code('TOO_FEW_SIGNATURES'));
  });

  test('cut, lengthened and arbitrary bytes give a DirectoryError, never another', () => {
    const bytes = encodeViewBundle(bundleOf({}, [0], nodes.slice(0, 1)));
    for (let length = 0; length < bytes.length; length += 7) {
      assert.throws(() => decodeViewBundle(bytes.subarray(0, length)), DirectoryError, `${length}`);
    }
    assert.throws(() => decodeViewBundle(new Uint8Array([...bytes, 0])), code('MALFORMED', /after its end/));
    const version = bytes.slice();
    version[4] = 1;
    assert.throws(() => decodeViewBundle(version), code('UNSUPPORTED_VERSION'));
    const huge = bytes.slice();
    huge.fill(0xff, 5, 9);
    assert.throws(() => decodeViewBundle(huge), code('TOO_LARGE'));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (junk) => {
        assert.throws(() => decodeViewBundle(new Uint8Array([...bytes.subarray(0, 5), ...junk])), DirectoryError);
      }),
      { seed: 7, numRuns: 300 },
    );
  });
});

describe('Merkle root', () => {
  test('has the shape of RFC 6962: left subtrees full', () => {
    const leaves = Array.from({ length: 5 }, (_, i) => merkleLeaf(Uint8Array.of(i), suite));
    const pair = (a: Uint8Array, b: Uint8Array) => merkleRoot([a, b], suite);
    const [a, b, c, d, e] = leaves as [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array];
    assert.deepEqual(merkleRoot([a], suite), a);
    assert.deepEqual(merkleRoot([a, b, c], suite), pair(pair(a, b), c));
    assert.deepEqual(merkleRoot(leaves, suite), pair(pair(pair(a, b), pair(c, d)), e));
  });

  test('leaves, nodes and nothing are different domains', () => {
    const a = merkleLeaf(Uint8Array.of(1), suite);
    const b = merkleLeaf(Uint8Array.of(2), suite);
    assert.notDeepEqual(merkleRoot([a, b], suite), merkleLeaf(new Uint8Array([...a, ...b]), suite));
    assert.notDeepEqual(merkleRoot([], suite), merkleLeaf(new Uint8Array(0), suite));
  });
});
