import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decode, encode, rfc8949EncodeOptions } from 'cborg';
import fc from 'fast-check';
import { isCanonicalCbor } from './canonical-cbor.ts';

/** What it stands for: the bytes that come of decoding and encoding again. */
function comesOutTheSame(bytes: Uint8Array): boolean {
  try {
    const value = decode(bytes, {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      allowBigInt: false,
      rejectDuplicateMapKeys: true,
    });
    return Buffer.compare(encode(value, rfc8949EncodeOptions), bytes) === 0;
  } catch {
    return false;
  }
}

const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.integer(),
    fc.maxSafeNat(),
    fc.maxSafeInteger(),
    fc.boolean(),
    fc.constant(null),
    fc.string(),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie('any'), { maxLength: 5 }),
    fc.dictionary(fc.string(), tie('any'), { maxKeys: 6 }),
  ),
})).any;

describe('canonical CBOR', () => {
  test('whatever is encoded deterministically is canonical', () => {
    fc.assert(
      fc.property(value, (each) => {
        assert.equal(isCanonicalCbor(encode(each, rfc8949EncodeOptions)), true);
      }),
      { seed: 11, numRuns: 400 },
    );
  });

  test('what decodes and does not come out as the same bytes is not (changed bytes of real ones)', () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 });
    let canonical = 0;
    let other = 0;
    fc.assert(
      fc.property(value, changes, (each, list) => {
        const bytes = new Uint8Array(encode(each, rfc8949EncodeOptions));
        for (const [at, byte] of list) bytes[at % bytes.length] = byte;
        const same = comesOutTheSame(bytes);
        if (same) canonical++;
        else other++;
        // It knows fewer kinds (no floats), never more.
        if (isCanonicalCbor(bytes)) assert.equal(same, true);
        else if (same) assert.match(Buffer.from(bytes).toString('hex'), /f[9ab]/);
      }),
      { seed: 12, numRuns: 3000 },
    );
    assert.ok(canonical > 300 && other > 300, `${canonical} ${other}`);
  });

  test('each way of saying it otherwise', () => {
    const refused: Record<string, string> = {
      'an integer longer than needed': '1817',
      'the same in two bytes': '190017',
      'the same in four and eight': '1a0000ffff',
      'a length longer than needed': '5801aa',
      'keys out of order': 'a2616201616101',
      'a key twice': 'a2616101616102',
      'a shorter key behind a longer one': 'a262616101616101',
      'a key that is no text': 'a10101',
      'indefinite lengths': '9f01ff',
      'a float': 'f93c00',
      undefined: 'f7',
      'a tag': 'c101',
      'text that is no UTF-8': '6180',
      'cut off': '43aabb',
      'more behind it': '0101',
      nothing: '',
      'a list longer than the bytes': '9a7fffffff',
      'an integer beyond 2^53': '1b0020000000000001',
    };
    for (const [what, hex] of Object.entries(refused)) {
      assert.equal(isCanonicalCbor(Buffer.from(hex, 'hex')), false, what);
    }
    const deep = Buffer.concat([Buffer.alloc(40, 0x81), Buffer.from([1])]);
    assert.equal(isCanonicalCbor(deep), false, 'nested without bound');
  });
});
