/** core/directory between authorities and on the way to clients: votes, voting messages, view deltas. */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { decodeDescriptor, descriptorDigest, encodeDescriptor, nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import { DirectoryError } from '@nyx/core/directory/directory-error.ts';
import { makeDescriptor, makeViewNode, testNow } from '@nyx/core/directory/testing.ts';
import { buildView, encodeViewBundle, signView, type ViewEntry, viewDigest } from '@nyx/core/directory/view.ts';
import { applyDelta, deltaEnds, encodeDeltaSteps, isDelta } from '@nyx/core/directory/view-delta.ts';
import { decodeVote, encodeVote, voteDigest } from '@nyx/core/directory/vote.ts';
import { Voting } from '@nyx/core/directory/voting.ts';
import {
  decodeVotingMessage,
  encodeVotingMessage,
  offerStatement,
  prepareStatement,
  type VotingMessage,
} from '@nyx/core/directory/voting-messages.ts';
import { slotAt, votingSchedule } from '@nyx/core/directory/voting-schedule.ts';
import { decodeDescriptorList, encodeDescriptorList } from '@nyx/daemon/directory/authority-peers.ts';
import { check, type FuzzTarget } from '../fuzzer.ts';
import { attempt } from './attempt.ts';
import { fixedBytes, suite } from './suite.ts';

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const keys = [0, 1, 2].map((i) => suite.ed25519(fixedBytes(`voter ${i}`, 32)));
const [self, peer] = keys as [(typeof keys)[0], (typeof keys)[0]];
const authorities = { threshold: 2, keys: keys.map((key) => key.publicKey) };
const schedule = votingSchedule(authorities, 3600, 1000);
const nowMs = testNow * 1000 + 10;
const slot = slotAt(schedule, nowMs)!;
const { epoch, round } = slot;

const random = createSeededRandom('fuzz voting');
const mixKey = { epoch, x25519: new Uint8Array(32), kem: new Uint8Array(1184) };
const descriptors = [0, 1].map(() => makeDescriptor(random, { mixKeys: [mixKey] }));
const entries = descriptors.map((descriptor) => ({
  nodeId: descriptor.nodeId,
  digest: descriptorDigest(encodeDescriptor(descriptor), suite),
  flags: 3,
  bandwidthBytesPerSecond: 1000,
  firstEpoch: 1,
}));
const voteOf = (voter: Uint8Array) => encodeVote({ epoch, round, voter, params: { 'puzzle-bits': 3 }, entries });
const dates = { validAfter: testNow, freshUntil: testNow + 3600, validUntil: testNow + 7200 };
const views = [
  buildView(descriptors.map(makeViewNode), dates, suite),
  buildView([makeViewNode(descriptors[0]!), makeViewNode(makeDescriptor(random))], dates, suite),
].map((bundle) => signView(bundle, peer));

export const vote: FuzzTarget = {
  name: 'vote',
  dictionary: ['NYXB', 'puzzle-bits'],
  executions: 2000,
  seeds: () => [voteOf(peer.publicKey), encodeVote({ epoch, round, voter: peer.publicKey, params: {}, entries: [] })],
  run(input) {
    const decoded = attempt(() => decodeVote(input), DirectoryError);
    if (decoded === undefined) return;
    check(sameBytes(encodeVote(decoded), input), 'encode(decode(x)) is x');
    check(
      decoded.entries.every((entry) => entry.firstEpoch <= decoded.epoch),
      'no node from the future',
    );
  },
};

const offer = (): VotingMessage => {
  const statement = { epoch, round, voter: peer.publicKey, digest: voteDigest(voteOf(peer.publicKey), suite) };
  const signatures = [{ key: peer.publicKey, signature: peer.sign(offerStatement(statement)) }];
  return { type: 'offer', sender: peer.publicKey, ...statement, signatures };
};
const prepare = (): VotingMessage => {
  const digest = new Uint8Array(32).fill(5);
  const signature = peer.sign(prepareStatement(epoch, round, digest));
  return { type: 'prepare', epoch, round, sender: peer.publicKey, digest, signature };
};
const endorse = (): VotingMessage => {
  const { view, body, signatures } = views[0]!;
  return { type: 'endorse', epoch, round, sender: peer.publicKey, signed: { view, body, signatures }, prepares: [] };
};

/** What arrives is a run of messages, each with its length before it, put to an authority in the middle of a round. */
export const votingMessage: FuzzTarget = {
  name: 'voting-message',
  dictionary: ['NYXM', ...keys.map((key) => key.publicKey)],
  executions: 1000,
  maxBytes: 8192,
  seeds: () => [offer(), prepare(), endorse()].map(encodeVotingMessage),
  run(input) {
    const decoded = attempt(() => decodeVotingMessage(input), DirectoryError);
    if (decoded !== undefined) check(sameBytes(encodeVotingMessage(decoded), input), 'encode(decode(x)) is x');
    let decided = 0;
    const voting = new Voting({ authorities, schedule }, self, suite, {
      propose: () => ({ params: {}, entries }),
      find: (digest) => descriptors.find((_, i) => nodeIdHex(entries[i]!.digest) === digest),
      broadcast: () => {},
      fetchVote: (from) => {
        check(from !== nodeIdHex(self.publicKey), 'nothing is asked of ourselves');
        voting.handleVote(voteOf(peer.publicKey), nowMs);
      },
      fetchDescriptors: () => check(false, 'every descriptor is here'),
      signing: () => check(false, 'one authority alone signs nothing'),
      decided: () => decided++,
      decidedElsewhere: () => decided++,
      onProblem: () => {},
    });
    voting.poll(nowMs);
    attempt(() => voting.handleMessage(input, nowMs), DirectoryError);
    attempt(() => voting.handleMessage(input, nowMs + 100), DirectoryError);
    check(decided === 0, 'one other authority alone decides nothing');
  },
};

const idOf = (entry: ViewEntry) => decodeDescriptor(entry.descriptor, suite).nodeId;

export const viewDelta: FuzzTarget = {
  name: 'view-delta',
  dictionary: ['NYXU', Uint8Array.of(0, 0, 0, 0, 1), Uint8Array.of(1, 0, 0, 0, 1)],
  maxBytes: 16_384,
  executions: 1500,
  seeds: () => {
    const [a, b] = views as [(typeof views)[0], (typeof views)[0]];
    return [b, a, signView(buildView([], dates, suite), peer)].map((to) => {
      const steps = encodeDeltaSteps(a, to, idOf, suite);
      for (;;) {
        const step = steps.next();
        if (step.done) return step.value;
      }
    });
  },
  run(input) {
    const ends = attempt(() => deltaEnds(input, suite), DirectoryError);
    if (ends !== undefined) check(isDelta(input), 'what has ends begins as a delta does');
    const made = attempt(() => applyDelta(views[0]!, input, suite), DirectoryError);
    if (made === undefined) return;
    check(ends !== undefined && sameBytes(ends.from, viewDigest(views[0]!.body, suite)), 'it begins where it says');
    check(sameBytes(ends.to, viewDigest(made.body, suite)), 'it ends where it says');
    check(
      made.entries.every(({ descriptor }) => descriptor.length <= 16_384),
      'bounded descriptors',
    );
    attempt(() => encodeViewBundle(made), DirectoryError);
  },
};

/** What an authority answers when it is asked for descriptors. */
export const descriptorList: FuzzTarget = {
  name: 'descriptor-list',
  dictionary: [Uint8Array.of(0, 0, 0x40, 0), Uint8Array.of(0, 0, 0x40, 1), Uint8Array.of(0xff, 0xff, 0xff, 0xff)],
  maxBytes: 40_000,
  seeds: () => [
    encodeDescriptorList([]),
    encodeDescriptorList(descriptors.map(encodeDescriptor)),
    encodeDescriptorList([new Uint8Array(0), new Uint8Array(16_384)]),
  ],
  run(input) {
    const list = attempt(() => decodeDescriptorList(input), DirectoryError);
    if (list === undefined) return;
    check(sameBytes(encodeDescriptorList(list), input), 'encode(decode(x)) is x');
    check(
      list.every(({ length }) => length <= 16_384),
      'bounded descriptors',
    );
  },
};
