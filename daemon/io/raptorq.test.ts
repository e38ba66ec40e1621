import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { MAX_SOURCES, Symbols } from '@nyx/core/fec/block-codec.ts';
import { RaptorQ } from '@nyx/core/fec/raptorq.ts';
import { loadRaptorQ } from './raptorq.ts';

const codec = new RaptorQ(loadRaptorQ);

test('RaptorQ: blocks of every size come back from any repair symbols, with a few to spare', () => {
  const random = createSeededRandom('raptorq');
  const draw = new Uint8Array(1);
  const r = 12;
  for (let k = 1; k <= MAX_SOURCES; k++) {
    const original = new Symbols(k);
    random.fill(original.bytes);
    const repairs = new Symbols(r);
    assert.ok(codec.encode(original, k, r, repairs));
    const missing: number[] = [];
    const sources = new Symbols(k);
    for (let i = 0; i < k; i++) {
      random.fill(draw);
      if (missing.length < r - 4 && draw[0]! < 96) missing.push(i);
      else sources.set(i, original.at(i));
    }
    // The later symbols rather than the first ones.
    const ids = Array.from({ length: missing.length + 3 }, (_, i) => r - 1 - i);
    const given = new Symbols(ids.length);
    for (const [at, id] of ids.entries()) given.set(at, repairs.at(id));
    assert.ok(codec.decode(sources, k, missing, given, ids), `k ${k}, ${missing.length} missing`);
    assert.deepEqual(sources.bytes, original.bytes);
  }
});

test('RaptorQ: too few symbols are refused, symbols that do not belong together harm nobody', () => {
  const original = new Symbols(8);
  createSeededRandom(1).fill(original.bytes);
  const repairs = new Symbols(4);
  assert.ok(codec.encode(original, 8, 4, repairs));
  const sources = new Symbols(8);
  sources.bytes.set(original.bytes);
  assert.equal(codec.decode(sources, 8, [1, 2], repairs, [0]), false);
  const lies = new Symbols(4);
  createSeededRandom(2).fill(lies.bytes);
  codec.decode(sources, 8, [1, 2], lies, [0, 1, 2, 3]);
  const again = new Symbols(8);
  again.bytes.set(original.bytes);
  again.at(1).fill(0);
  assert.ok(codec.decode(again, 8, [1], repairs, [0, 1, 2]));
  assert.deepEqual(again.bytes, original.bytes);
});

test('an instance that has trapped is replaced', () => {
  let loads = 0;
  const trapping = new RaptorQ(() => {
    loads++;
    const module = loadRaptorQ();
    if (loads > 1) return module;
    return {
      ...module,
      Encoder: {
        with_defaults: () => {
          throw new Error('unreachable');
        },
      },
    };
  });
  const sources = new Symbols(2);
  const repairs = new Symbols(1);
  assert.equal(trapping.encode(sources, 2, 1, repairs), false);
  assert.equal(trapping.encode(sources, 2, 1, repairs), true);
  assert.equal(loads, 2);
});
