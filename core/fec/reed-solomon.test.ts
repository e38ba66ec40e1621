import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { MAX_REPAIRS, MAX_SOURCES, SYMBOL_BYTES, Symbols } from './block-codec.ts';
import { divide, invert, multiply } from './gf256.ts';
import { coefficient, ReedSolomon } from './reed-solomon.ts';

const codec = new ReedSolomon();

function randomBlock(k: number, seed: number): Symbols {
  const sources = new Symbols(k);
  createSeededRandom(seed).fill(sources.bytes);
  return sources;
}

/** Erases sources and keeps repairs by the bits of `kept` (sources first); true when the block came back. */
function survives(original: Symbols, repairs: Symbols, k: number, r: number, kept: number): boolean {
  const missing: number[] = [];
  const sources = new Symbols(k);
  for (let i = 0; i < k; i++) {
    if ((kept >>> i) & 1) sources.set(i, original.at(i));
    else missing.push(i);
  }
  const ids: number[] = [];
  const left = new Symbols(Math.max(1, r));
  for (let i = 0; i < r; i++) {
    if (((kept >>> (k + i)) & 1) === 0) continue;
    left.set(ids.length, repairs.at(i));
    ids.push(i);
  }
  if (!codec.decode(sources, k, missing, left, ids)) return false;
  assert.deepEqual(sources.bytes, original.bytes);
  return true;
}

test('GF(256): products as by long multiplication, division as its inverse', () => {
  for (let a = 0; a < 256; a++) {
    for (let b = 0; b < 256; b++) {
      let product = 0;
      for (let bit = 7; bit >= 0; bit--) {
        product <<= 1;
        if (product & 0x100) product ^= 0x11d;
        if ((b >>> bit) & 1) product ^= a;
      }
      assert.equal(multiply(a, b), product);
      if (b !== 0) assert.equal(divide(product, b), a);
    }
  }
});

test('every erasure pattern of small blocks: what leaves k symbols comes back, what leaves fewer is refused', () => {
  for (let k = 1; k <= 5; k++) {
    for (let r = 1; r <= 4; r++) {
      const original = randomBlock(k, k * 100 + r);
      const repairs = new Symbols(r);
      assert.ok(codec.encode(original, k, r, repairs));
      for (let kept = 0; kept < 1 << (k + r); kept++) {
        let count = 0;
        for (let rest = kept; rest !== 0; rest &= rest - 1) count++;
        assert.equal(survives(original, repairs, k, r, kept), count >= k, `k ${k}, r ${r}, kept ${kept.toString(2)}`);
      }
    }
  }
});

test('repair symbol 0 is the XOR of the sources', () => {
  const sources = randomBlock(7, 1);
  const repairs = new Symbols(1);
  codec.encode(sources, 7, 1, repairs);
  for (let i = 0; i < SYMBOL_BYTES; i++) {
    let sum = 0;
    for (let s = 0; s < 7; s++) sum ^= sources.at(s)[i]!;
    assert.equal(repairs.at(0)[i], sum);
  }
});

test('every square part of the generator at full size has an inverse', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 0, max: MAX_SOURCES - 1 }), { minLength: 1, maxLength: 24 }),
      fc.uniqueArray(fc.integer({ min: 0, max: MAX_REPAIRS - 1 }), { minLength: 24, maxLength: 24 }),
      (columns, rows) => {
        const n = columns.length;
        const matrix = new Uint8Array(n * n);
        for (let i = 0; i < n; i++) {
          for (let j = 0; j < n; j++) matrix[i * n + j] = coefficient(rows[i]!, columns[j]!);
        }
        assert.ok(invert(matrix, new Uint8Array(n * n), n));
      },
    ),
    { numRuns: 200 },
  );
});

test('full blocks with as many losses as repairs', () => {
  for (const [k, r] of [
    [MAX_SOURCES, MAX_REPAIRS],
    [32, 10],
  ] as const) {
    const original = randomBlock(k, k);
    const repairs = new Symbols(r);
    codec.encode(original, k, r, repairs);
    const lost = Array.from({ length: r }, (_, i) => Math.floor((i * k) / r));
    const sources = new Symbols(k);
    for (let i = 0; i < k; i++) if (!lost.includes(i)) sources.set(i, original.at(i));
    const ids = Array.from({ length: r }, (_, i) => i);
    assert.ok(codec.decode(sources, k, lost, repairs, ids));
    assert.deepEqual(sources.bytes, original.bytes);
  }
});
