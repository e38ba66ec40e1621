import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SILENT_LINK_MS, SUSPECT_MS, Suspects } from './suspects.ts';

describe('suspects', () => {
  test('are the later hops of a silent path that no path has shared which answered in that time, for a while', () => {
    const suspects = new Suspects();
    suspects.clear(['k', 'a', 'y'], 500);
    suspects.clear(['h', 'b', 'y'], 700);
    suspects.noteSilent(['g', 'a', 'b', 'x'], 600, 1000);
    assert.deepEqual(suspects.list(1000), ['a', 'x']);
    assert.ok(suspects.has('a', 1000));
    assert.ok(!suspects.has('b', 1000));
    assert.ok(!suspects.has('g', 1000));
    suspects.clear(['a'], 1000);
    assert.deepEqual(suspects.list(1000), ['x']);
    assert.deepEqual(suspects.list(1000 + SUSPECT_MS), []);
  });

  test('a first hop that is not heard becomes one in place of what lay behind it, for a shorter while', () => {
    const suspects = new Suspects();
    suspects.noteSilent(['g', 'a'], 0, 0);
    suspects.noteSilent(['h', 'z'], 0, 0);
    suspects.noteFirst('g', 10);
    assert.deepEqual(suspects.list(10), ['z', 'g']);
    assert.ok(suspects.has('g', 10));
    assert.ok(!suspects.has('g', 10 + SILENT_LINK_MS));
    suspects.clear(['g', 'c'], 10);
    assert.deepEqual(suspects.list(10), ['z']);
  });

  test('are listed by how much there is against them; whoever answers leaves the others of its paths with the blame', () => {
    const suspects = new Suspects();
    suspects.noteSilent(['g', 'a', 'x'], 0, 10);
    suspects.noteSilent(['g', 'b', 'y'], 0, 20);
    suspects.noteSilent(['g', 'c', 'x'], 0, 30);
    assert.deepEqual(suspects.list(30), ['a', 'b', 'y', 'c', 'x']);
    assert.deepEqual(suspects.sets(30), [
      ['a', 'x'],
      ['b', 'y'],
      ['c', 'x'],
    ]);
    // So y is gone: as likely as x, which two paths led to.
    suspects.clear(['g', 'b', 'z'], 40);
    assert.deepEqual(suspects.list(40), ['a', 'c', 'x', 'y']);
    assert.deepEqual(suspects.sets(40), [['a', 'x'], ['y'], ['c', 'x']]);
  });

  test('a hop that says the next one does not answer is there, and nothing is held against those further on', () => {
    const suspects = new Suspects();
    suspects.noteSilent(['g', 'a', 'b', 'x'], 0, 10);
    suspects.noteSilent(['g', 'c', 'y'], 0, 10);
    suspects.noteReport(['g', 'a', 'b', 'x'], 1, 20);
    assert.deepEqual(suspects.list(20), ['c', 'y', 'b']);
    suspects.noteReport(['g', 'c', 'y'], 2, 20);
    assert.deepEqual(suspects.list(20), ['c', 'y', 'b'], 'nobody comes after the last');
  });

  test('are no more than can be remembered: the oldest are forgotten', () => {
    const suspects = new Suspects();
    for (let i = 0; i < 1000; i++) suspects.noteSilent([`g${i}`, `n${i}`], i, i);
    for (let i = 0; i < 1000; i++) suspects.noteFirst(`u${i}`, i);
    const list = suspects.list(1000);
    assert.ok(list.length <= 96 && list.includes('n999') && list.includes('u999') && !list.includes('n0'));
  });
});
