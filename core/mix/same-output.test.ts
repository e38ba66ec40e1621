import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { CELL_BYTES, CT_BYTES, TAG_BYTES } from '../wire/datagram.ts';
import { headsOfOutput } from './same-output.ts';

const suite = createNobleSuite();

test('all cells that become one output are found, from whichever of them one comes', () => {
  const random = createSeededRandom('same output');
  const bytes = (length: number) => {
    const drawn = new Uint8Array(length);
    random.fill(drawn);
    return drawn;
  };
  const several: number[] = [];
  for (let trial = 0; trial < 60; trial++) {
    const [key, nonce, ad, head] = [bytes(32), bytes(12), bytes(2), bytes(CT_BYTES)];
    const sealed = (from: Uint8Array) => {
      const cell = new Uint8Array(CELL_BYTES);
      suite.aeadSeal(cell.subarray(TAG_BYTES), cell.subarray(0, TAG_BYTES), from, ad, nonce, key);
      return cell;
    };
    const sorted = (from: Uint8Array) => {
      const heads = headsOfOutput(suite, from, sealed(from), ad, nonce, key);
      assert.ok(heads !== undefined, `trial ${trial}`);
      return heads.sort(Buffer.compare);
    };
    const heads = sorted(head);
    assert.ok(
      heads.some((one) => Buffer.compare(one, head) === 0),
      `trial ${trial}: not even the cell itself`,
    );
    assert.equal(new Set(heads.map((one) => Buffer.from(one).toString('hex'))).size, heads.length);
    for (const one of heads) {
      assert.deepEqual(sealed(one).subarray(0, CT_BYTES), sealed(head).subarray(0, CT_BYTES));
      assert.deepEqual(sorted(one), heads, `trial ${trial}`);
    }
    several.push(heads.length);
  }
  assert.ok(several.some((count) => count > 1) && several.some((count) => count === 1), several.join());
});
