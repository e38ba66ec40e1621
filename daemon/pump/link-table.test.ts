import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLinkTableWords, LinkTable } from './link-table.ts';

/** Ids of one bucket. */
const inBucket = (i: number) => (i << 13) | 5;

test('workers find the links of others, not their own, and not those that are gone', () => {
  const words = createLinkTableWords();
  const tables = [0, 1, 2].map((worker) => new LinkTable(words, worker));
  const [a, b, c] = tables as [LinkTable, LinkTable, LinkTable];
  assert.ok(a.add(77) && b.add(-12_345) && c.add(77 + 2 ** 13));
  assert.equal(b.ownerOf(77), 0);
  assert.equal(a.ownerOf(-12_345), 1);
  assert.equal(a.ownerOf(77), undefined);
  assert.equal(a.ownerOf(77 + 2 ** 13), 2, 'in the same bucket');
  assert.equal(a.ownerOf(78), undefined);
  b.remove(77);
  assert.equal(b.ownerOf(77), 0, 'nobody removes what is not his');
  a.remove(77);
  assert.equal(b.ownerOf(77), undefined);
});

test('a full bucket takes no more, and takes again what has become free', () => {
  const words = createLinkTableWords();
  const [a, b] = [new LinkTable(words, 0), new LinkTable(words, 1)];
  for (let i = 0; i < 8; i++) assert.ok((i % 2 === 0 ? a : b).add(inBucket(i)));
  assert.ok(!a.add(inBucket(8)));
  assert.equal(b.ownerOf(inBucket(8)), undefined);
  b.remove(inBucket(3));
  assert.ok(a.add(inBucket(8)));
  assert.equal(b.ownerOf(inBucket(8)), 0);
});

test('a worker that takes the place of a crashed one begins with nothing, and leaves the others theirs', () => {
  const words = createLinkTableWords();
  const [a, b] = [new LinkTable(words, 0), new LinkTable(words, 1)];
  for (let i = 1; i <= 1000; i++) (i % 2 === 0 ? a : b).add(i * 7919);
  const again = new LinkTable(words, 1);
  for (let i = 1; i <= 1000; i++) {
    assert.equal(a.ownerOf(i * 7919), undefined);
    assert.equal(again.ownerOf(i * 7919), i % 2 === 0 ? 0 : undefined);
  }
});
