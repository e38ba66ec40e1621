import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DialOptions } from '../pump/contract.ts';
import { anonymousOptions, credentialOptions } from './credentials.ts';

function options(username: string, password = '', defaults: DialOptions = {}): DialOptions {
  const result = credentialOptions(Buffer.from(username), Buffer.from(password), 'L', defaults);
  assert.ok(result.ok, JSON.stringify(result));
  return result.options;
}

test('opaque credentials isolate, and show nothing of themselves', () => {
  const key = options('alice', 'secret').isolation;
  assert.equal(options('alice', 'secret').isolation, key);
  const others = [options('alice', 'secrets'), options('alic', 'esecret'), options('alice', ''), options('', 'secret')];
  const keys = [key, ...others.map(({ isolation }) => isolation), anonymousOptions('L', {}).isolation];
  assert.equal(new Set(keys).size, keys.length);
  for (const each of keys) assert.doesNotMatch(each!, /alice|secret/);
});

test('without credentials the listener isolates', () => {
  assert.deepEqual(options('', ''), anonymousOptions('L', {}));
  assert.notEqual(anonymousOptions('L', {}).isolation, anonymousOptions('M', {}).isolation);
});

test('options in the username', () => {
  const base = anonymousOptions('L', {}).isolation;
  assert.deepEqual(options('hops=5'), { hops: 5, isolation: base });
  assert.deepEqual(options('nyx'), { isolation: base });
  assert.deepEqual(options('nyx;class=mix;hops=7'), { hops: 7, class: 'mix', isolation: base });
  assert.deepEqual(options('class=fast', '', { hops: 4, timeoutMs: 9, class: 'mix' }), {
    hops: 4,
    timeoutMs: 9,
    class: 'fast',
    isolation: base,
  });
  assert.deepEqual(options('paths=3;strategy=redundant'), { paths: 3, strategy: 'redundant', isolation: base });
  assert.deepEqual(options('fec=off'), { fec: 'off', isolation: base });
  assert.deepEqual(options('fec=0.25'), { fec: { ratio: 0.25 }, isolation: base });
  const isolated = options('nyx;isolation=x').isolation;
  assert.equal(options('isolation=x;hops=3').isolation, isolated);
  assert.notEqual(isolated, base);
  assert.notEqual(options('isolation=x', 'p').isolation, isolated);
  assert.notEqual(options('x', '').isolation, isolated);
  assert.notEqual(options('hops=3', 'p').isolation, base);
});

test('option lists that are wrong are refused without repeating them', () => {
  const wrong = [
    'hops=2',
    'hops=8',
    'hops=',
    'hops=05',
    'hops=3;hops=3',
    'nyx;',
    'nyx;hop=3',
    'nyx;Hops=3',
    'hops=3;secret=s3cr3t',
    'class=slow',
    'class=constructor',
    'isolation=',
    `isolation=${'x'.repeat(201)}`,
    'nyx;__proto__=1',
    'nyx;nyx',
  ];
  for (const username of wrong) {
    const result = credentialOptions(Buffer.from(username), Buffer.from('pw'), 'L', {});
    assert.ok(!result.ok, username);
    assert.doesNotMatch(result.problem, /s3cr3t|slow|xxx|pw/);
  }
});
