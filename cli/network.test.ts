import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { View } from '@nyx/proto/types.ts';
import { formatView } from './commands/network.ts';

const view: View = {
  epoch: 500_000,
  nodes: 30,
  mixes: 30,
  exits: 5,
  ageSeconds: 60,
  validUntilUnixSeconds: 10_000,
  freshUntilUnixSeconds: 5000,
  digest: 'ab'.repeat(32),
  signatures: 2,
  threshold: 2,
  authorities: ['11', '22', '33'].map((byte, i) => ({ key: byte.repeat(32), signed: i < 2 })),
  params: { 'puzzle-bits': 5, 'max-per-subnet': 16 },
  alarms: [],
  forkNeeds: 1,
  refused: {},
  viewsAccepted: 5,
  deltasAccepted: 4,
  deltasRefused: 0,
};

test('a view is shown with its age, who signed it, and its parameters', () => {
  const text = formatView(view, 6400);
  assert.match(text, /epoch 500000, .*1 min.* old, good for .*1 h.* more/);
  assert.match(text, /2; 2 of 3 authorities are needed/);
  assert.match(text, /1111111111 {2}signed\n {2}2222222222 {2}signed\n {2}3333333333 {2}missing/);
  assert.match(text, /max-per-subnet 16, puzzle-bits 5/);
  assert.match(text, /take 1 lying authorities or more; 0 seen/);
  assert.match(text, /views taken: 5; deltas that led to them: 4$/m);
  assert.match(formatView({ ...view, deltasRefused: 2 }, 6400), /led to them: 4, of no use: 2$/m);
  assert.doesNotMatch(text, /ALARM|refused|votes/);
});

test('what was refused, and what the own authority does, is shown', () => {
  const voting = {
    nodes: 30,
    reachable: 29,
    measured: 28,
    votes: 7,
    views: 6,
    roundsFailed: 1,
    badVotes: 2,
    equivocations: 3,
    descriptorsTaken: 40,
    descriptorsRefused: { STALE: 2, NOT_ADMITTED: 1 },
    measurements: 28,
    measuredBytes: 1_000_000,
  };
  const text = formatView({ ...view, refused: { ROLLBACK: 4, FORK: 1 }, voting }, 6400);
  assert.match(text, /refused .*FORK 1, ROLLBACK 4/);
  assert.match(text, /30 nodes have published, 29 answer, 28 measured/);
  assert.match(text, /7 cast, 6 views, 1 rounds failed, 2 bad votes, 3 double votes/);
  assert.match(text, /40 taken, refused: NOT_ADMITTED 1, STALE 2/);
});

test('alarms come first; a view that has ended, or none, is said', () => {
  const alarms = [{ kind: 'fork', epoch: 499_999, file: '/x/fork.bin', foundUnixMs: 1 }];
  const text = formatView({ ...view, alarms }, 20_000);
  assert.match(text, /^ALARM .*epoch 499999: two signed views for one epoch; the proof is in \/x\/fork\.bin/);
  assert.match(text, /ended: a newer one is looked for/);
  const { epoch: _, ...none } = view;
  assert.match(formatView(none, 0), /none verified yet/);
});
