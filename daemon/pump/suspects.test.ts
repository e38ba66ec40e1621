import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SUSPECT_MS, Suspects } from './suspects.ts';

describe('suspects', () => {
  test('are the later hops of a silent path that no answering path shares, for a while', () => {
    const suspects = new Suspects();
    suspects.notePath(['g', 'a', 'b', 'x'], ['h', 'b', 'y'], 1000);
    assert.deepEqual(suspects.list(1000), ['a', 'x']);
    assert.ok(suspects.has('a', 1000));
    assert.ok(!suspects.has('b', 1000));
    suspects.clear(['a']);
    assert.deepEqual(suspects.list(1000), ['x']);
    assert.deepEqual(suspects.list(1000 + SUSPECT_MS), []);
  });

  test('a first hop becomes one with the second silent path in a row, and is none after it has answered', () => {
    const suspects = new Suspects();
    suspects.notePath(['g', 'a'], [], 0);
    assert.ok(!suspects.has('g', 0));
    suspects.clear(['g']);
    suspects.notePath(['g', 'a'], [], 10);
    assert.ok(!suspects.has('g', 10));
    suspects.notePath(['g', 'a'], [], 20);
    assert.ok(suspects.list(20).includes('g'));
    assert.ok(!suspects.has('g', 10_020), 'ten seconds, not more');
    suspects.notePath(['g', 'a'], [], 10_020);
    assert.ok(!suspects.has('g', 10_020), 'what is long ago does not count');
    suspects.notePath(['k', 'a'], ['k', 'b'], 0);
    suspects.notePath(['k', 'a'], ['k', 'b'], 0);
    assert.ok(!suspects.has('k', 0), 'another path over it answers');
  });

  test('are no more than can be remembered: the oldest are forgotten', () => {
    const suspects = new Suspects();
    for (let i = 0; i < 1000; i++) for (let twice = 0; twice < 2; twice++) suspects.notePath([`g${i}`, `n${i}`], [], i);
    const list = suspects.list(1000);
    assert.ok(list.length <= 96 && list.includes('n999') && list.includes('g999') && !list.includes('n0'));
  });
});
