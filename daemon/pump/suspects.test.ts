import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SUSPECT_MS, Suspects } from './suspects.ts';

describe('suspects', () => {
  test('are the later hops of a silent path that no answering path shares, for a while', () => {
    const suspects = new Suspects();
    suspects.noteSilent(['g', 'a', 'b', 'x'], ['h', 'b', 'y'], 1000);
    assert.deepEqual(suspects.list(1000), ['a', 'x']);
    assert.ok(suspects.has('a', 1000));
    assert.ok(!suspects.has('b', 1000));
    suspects.clear(['a']);
    assert.deepEqual(suspects.list(1000), ['x']);
    assert.deepEqual(suspects.list(1000 + SUSPECT_MS), []);
  });

  test('a first hop becomes one with the second silent path in a row, in place of what lay behind it', () => {
    const suspects = new Suspects();
    suspects.noteSilent(['g', 'a'], [], 0);
    assert.deepEqual(suspects.list(0), ['a']);
    suspects.clear(['g']);
    suspects.noteSilent(['g', 'b'], [], 10);
    assert.deepEqual(suspects.list(10), ['a', 'b']);
    suspects.noteSilent(['h', 'z'], [], 10);
    suspects.noteSilent(['g', 'c'], [], 20);
    assert.deepEqual(suspects.list(20), ['z', 'g']);
    assert.ok(!suspects.has('g', 10_020), 'ten seconds, not more');
    suspects.noteSilent(['g', 'a'], [], 10_020);
    assert.ok(!suspects.has('g', 10_020), 'what is long ago does not count');
  });

  test('a first hop over which another path answers is none; one without a link is one at once', () => {
    const suspects = new Suspects();
    for (let i = 0; i < 3; i++) suspects.noteSilent(['k', 'a'], ['k', 'b'], 0);
    assert.deepEqual(suspects.list(0), ['a']);
    suspects.noteUnlinked('u', 0);
    assert.deepEqual(suspects.list(0), ['a', 'u']);
    suspects.clear(['u']);
    assert.deepEqual(suspects.list(0), ['a']);
  });

  test('are no more than can be remembered: the oldest are forgotten', () => {
    const suspects = new Suspects();
    for (let i = 0; i < 1000; i++) suspects.noteSilent([`g${i}`, `n${i}`], [], i);
    for (let i = 0; i < 1000; i++) suspects.noteUnlinked(`u${i}`, i);
    const list = suspects.list(1000);
    assert.ok(list.length <= 96 && list.includes('n999') && list.includes('u999') && !list.includes('n0'));
  });
});
