import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import {
  type DescriptorFields,
  decodeDescriptor,
  descriptorDigest,
  encodeDescriptor,
  type NodeDescriptor,
  nodeIdHex,
} from './descriptor.ts';
import { NodeFlag } from './node-status.ts';
import { makeDescriptor, testSuite as suite } from './testing.ts';
import {
  buildView,
  signView,
  type ViewBundle,
  type ViewSignature,
  validSigners,
  verifyViewBundle,
  viewDigest,
} from './view.ts';
import { encodeVote, type VoteDraft, voteDigest } from './vote.ts';
import { decodeVotingMessage, encodeVotingMessage, offerStatement } from './voting-messages.ts';
import { nextSlotMs, slotAt, type VotingSlot, votingSchedule } from './voting-schedule.ts';
import { SimAuthorities, type SimAuthority, type SimAuthorityOptions } from './voting-sim.ts';

const random = createSeededRandom('voting');
const EPOCH_SECONDS = 60;
/** The middle of an epoch: the first round is one of those that make up for a missing view. */
const startMs = (500_000 * EPOCH_SECONDS + 30) * 1000;
const fields = (change: Partial<DescriptorFields> = {}): Partial<DescriptorFields> => ({
  published: 500_000 * EPOCH_SECONDS,
  expires: 500_010 * EPOCH_SECONDS,
  ...change,
});
const mixKeys = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({
    epoch: from + i,
    x25519: new Uint8Array(32).fill(1),
    kem: new Uint8Array(1184).fill(2),
  }));
const node = (change: Partial<DescriptorFields> = {}) =>
  makeDescriptor(random, fields({ mixKeys: mixKeys(500_000, 500_002), ...change }));
const nodes = Array.from({ length: 4 }, () => node());

function authorities(
  seed: string,
  options: readonly SimAuthorityOptions[],
  threshold = Math.floor(options.length / 2) + 1,
) {
  const net = new SimAuthorities(seed, {
    threshold,
    epochSeconds: EPOCH_SECONDS,
    phaseMs: 500,
    startMs,
    authorities: options,
  });
  for (const descriptor of nodes) net.publish(descriptor);
  return net;
}

/** All honest authorities have the same view of that epoch, and clients accept it. Returns it. */
function agreed(net: SimAuthorities, epoch = 500_000): ViewBundle {
  const views = net.honest.map(({ decided }) => decided.get(epoch));
  for (const view of views) {
    assert.ok(view, `an honest authority has no view: ${JSON.stringify(net.honest.map(({ problems }) => problems))}`);
    assert.deepEqual(viewDigest(view.body, suite), viewDigest(views[0]!.body, suite), 'all have the same view');
    verifyViewBundle(view, { authorities: net.set, suite, now: view.view.validAfter });
  }
  for (const { signed } of net.honest) {
    assert.equal(new Set(signed.map((reference) => reference.epoch)).size, signed.length, 'one signature per epoch');
  }
  return views[0]!;
}

const idsOf = (bundle: ViewBundle, net: SimAuthorities) =>
  verifyViewBundle(bundle, { authorities: net.set, suite, now: bundle.view.validAfter }).nodes.map((each) =>
    nodeIdHex(each.nodeId),
  );
const ids = (descriptors: readonly NodeDescriptor[]) => descriptors.map((each) => nodeIdHex(each.nodeId)).sort();

const honest: SimAuthorityOptions = {};
const dead: SimAuthorityOptions = { dead: true };

/** Offers one vote to authorities with an even index and another one to the rest. */
function equivocator(second: (draft: VoteDraft) => VoteDraft): SimAuthorityOptions {
  const extraVotes = new Map<string, Uint8Array>();
  let draftOf: { draft: VoteDraft; slot: VotingSlot } | undefined;
  return {
    extraVotes,
    vote: (draft, slot) => {
      draftOf = { draft, slot };
      return draft;
    },
    send: (bytes, to, authority) => {
      const message = decodeVotingMessage(bytes);
      if (message.type !== 'offer' || nodeIdHex(message.voter) !== authority.id || to % 2 === 0) return [bytes];
      const { epoch, round } = draftOf!.slot;
      const other = encodeVote({ ...second(draftOf!.draft), epoch, round, voter: authority.key.publicKey });
      const digest = voteDigest(other, suite);
      extraVotes.set(nodeIdHex(digest), other);
      return [resign({ ...message, digest }, authority)];
    },
  };
}

function resign(message: Parameters<typeof offerStatement>[0] & { sender: Uint8Array }, by: SimAuthority): Uint8Array {
  const signature = by.key.sign(offerStatement(message));
  return encodeVotingMessage({
    ...message,
    type: 'offer',
    signatures: [{ key: by.key.publicKey, signature }],
  });
}

describe('voting', () => {
  test('one authority decides at once', () => {
    const net = authorities('one', [honest]);
    net.run(startMs + 100);
    const view = agreed(net);
    assert.deepEqual(idsOf(view, net), ids(nodes));
    assert.ok(view.view.validAfter * 1000 <= startMs + 100, 'the view has begun');
  });

  test('three of five agree, whatever their clocks say within half a phase; all sign', () => {
    const net = authorities('five', [honest, { clockMs: 200 }, { clockMs: -150 }, { clockMs: 90 }, honest]);
    net.run(startMs + 8000);
    const view = agreed(net);
    assert.deepEqual(idsOf(view, net), ids(nodes));
    for (const authority of net.all) {
      assert.equal(validSigners(authority.decided.get(500_000)!, net.set, suite).size, 5);
      assert.deepEqual(authority.problems, []);
    }
  });

  test('epoch follows epoch, each view ready before it begins', () => {
    const net = authorities('epochs', [honest, honest, honest]);
    net.run(startMs + 10_000);
    agreed(net);
    net.run(500_001 * EPOCH_SECONDS * 1000 - 100);
    const view = agreed(net, 500_001);
    assert.equal(view.view.validAfter, 500_001 * EPOCH_SECONDS);
    net.run(500_002 * EPOCH_SECONDS * 1000 - 100);
    agreed(net, 500_002);
  });

  for (const [name, faulty] of Object.entries<readonly SimAuthorityOptions[]>({
    'two dead': [dead, dead],
    'two too slow': [{ slowMs: 2000 }, { slowMs: 900 }],
    'two on the edge of a phase': [{ slowMs: 460 }, { slowMs: 480 }],
    'two that hide nodes': [
      { vote: (draft) => ({ ...draft, entries: draft.entries.slice(2) }) },
      { vote: (draft) => ({ ...draft, entries: [] }) },
    ],
    'one dead, one that equivocates': [dead, equivocator((draft) => ({ ...draft, entries: [] }))],
    'two that equivocate': [
      equivocator((draft) => ({ ...draft, entries: draft.entries.slice(1) })),
      equivocator((draft) => ({ ...draft, entries: draft.entries.slice(2) })),
    ],
    'two that offer votes and do not give them': [{ refuseFetch: true }, { refuseFetch: true }],
    'two that tell only one other': [
      { send: (bytes, to) => (to === 2 ? [bytes] : []) },
      { send: (bytes, to) => (to === 3 ? [bytes] : []) },
    ],
    'clocks that are off by a minute': [
      { clockMs: 60_000, vote: (draft) => draft },
      { clockMs: -60_000, vote: (draft) => draft },
    ],
  })) {
    test(`three of five agree with ${name}`, () => {
      const net = authorities(name, [...faulty, honest, honest, honest]);
      net.run(startMs + 12_000);
      assert.deepEqual(idsOf(agreed(net), net), ids(nodes));
    });
  }

  test('who votes twice is left out, and the two votes are kept as evidence', () => {
    const net = authorities('evidence', [equivocator((draft) => ({ ...draft, entries: [] })), honest, honest]);
    net.run(startMs + 8000);
    agreed(net);
    for (const authority of net.honest) {
      const [problem] = authority.problems.filter(({ kind }) => kind === 'equivocation');
      assert.ok(problem?.kind === 'equivocation');
      assert.equal(problem.voter, net.all[0]!.id);
      const [a, b] = problem.offers;
      assert.notDeepEqual(a.digest, b.digest);
      for (const offer of problem.offers) {
        const own: ViewSignature = offer.signatures.find(({ key }) => nodeIdHex(key) === problem.voter)!;
        assert.ok(suite.ed25519Verify(own.key, offerStatement(offer), own.signature), 'the voter signed both');
      }
    }
  });

  test('a vote shown to one alone at the last moment of a phase splits nobody', () => {
    const contested = node();
    for (const [colluding, lateMs] of [
      [1, 390],
      [1, 1300],
      [2, 890],
      [2, 1300],
    ] as const) {
      const liar = (index: number): SimAuthorityOptions => ({
        // Two of the three honest ones list `contested`: one more vote without it, and it is out.
        vote: (draft) => ({ ...draft, entries: draft.entries.slice(0, nodes.length) }),
        send: (bytes, to, authority) => {
          const message = decodeVotingMessage(bytes);
          if (message.type !== 'offer') return [bytes];
          if (message.signatures.length < colluding) return to < colluding ? [bytes] : [];
          // Only authority 2 hears of it.
          if (to !== 2 || nodeIdHex(message.voter) !== net.all[0]!.id) return [];
          if (index === colluding - 1) authority.deliver(net.all[2]!, bytes, startMs + lateMs - net.nowMs);
          return [];
        },
      });
      const net: SimAuthorities = authorities(`late ${lateMs}`, [liar(0), liar(1), honest, honest, honest]);
      net.publish(contested, [0, 1, 2, 3]);
      net.run(startMs + 12_000);
      const rounds = net.honest.map(({ decided }) => decided.get(500_000)!.view.validAfter);
      agreed(net);
      assert.equal(new Set(rounds).size, 1);
      for (const { problems } of net.honest) {
        assert.ok(!problems.some(({ kind }) => kind === 'no-agreement'), `${colluding} ${lateMs}: no round is lost`);
      }
    }
  });

  test('below the threshold, liars move no value beyond what honest authorities say', () => {
    const [first, second] = nodes as [NodeDescriptor, NodeDescriptor];
    const invented = node();
    const lie = (draft: VoteDraft): VoteDraft => ({
      params: { 'max-per-subnet': 1, evil: 1 },
      entries: draft.entries
        .filter(({ nodeId }) => nodeIdHex(nodeId) !== nodeIdHex(second.nodeId))
        .map((entry) => ({ ...entry, flags: NodeFlag.guard, bandwidthBytesPerSecond: 2 ** 40, firstEpoch: 0 })),
    });
    const net = authorities(
      'liars',
      [{ vote: lie }, { vote: lie }, honest, honest, honest].map((each) => ({
        params: { 'max-per-subnet': 0 },
        ...each,
      })),
    );
    net.publish(invented, [0, 1]);
    for (const [i, authority] of net.honest.entries()) {
      for (const each of nodes) {
        authority.say(each, { bandwidthBytesPerSecond: 1000 + i, flags: NodeFlag.measured, firstEpoch: 400_000 + i });
      }
    }
    net.run(startMs + 8000);
    const view = agreed(net);
    assert.deepEqual(idsOf(view, net), ids(nodes), 'none more, none fewer');
    assert.deepEqual(view.view.params, { 'max-per-subnet': 0 });
    for (const { status } of view.entries) {
      assert.ok(
        status.bandwidthBytesPerSecond >= 1000 && status.bandwidthBytesPerSecond <= 1002,
        `${status.bandwidthBytesPerSecond}`,
      );
      assert.ok(status.firstEpoch >= 400_000 && status.firstEpoch <= 400_002);
      assert.equal(status.flags, NodeFlag.measured);
    }
    assert.notEqual(first, undefined);
  });

  test('which family fails a node is what a majority of those say who could ask', () => {
    const [first, second] = nodes as [NodeDescriptor, NodeDescriptor];
    const net = authorities('families', [honest, honest, honest]);
    for (const [i, authority] of net.honest.entries()) {
      // The third authority has no IPv6: it says nothing of the first node. One alone calls the second's IPv4 dead.
      authority.say(first, { flags: i < 2 ? NodeFlag.ipv6Fails : 0 });
      authority.say(second, { flags: i === 0 ? NodeFlag.ipv4Fails : 0 });
    }
    net.run(startMs + 8000);
    const view = agreed(net);
    const flagsOf = (of: NodeDescriptor) =>
      view.entries.find(
        ({ descriptor }) => nodeIdHex(decodeDescriptor(descriptor, suite).nodeId) === nodeIdHex(of.nodeId),
      )!.status.flags;
    assert.equal(flagsOf(first), NodeFlag.ipv6Fails);
    assert.equal(flagsOf(second), 0);
  });

  test('a node is in when a majority could reach it; its newest descriptor wins', () => {
    const net = authorities('majority', [honest, honest, honest]);
    const [two, one] = [node(), node()];
    net.publish(two, [0, 2]);
    net.publish(one, [1]);
    const identity = suite.ed25519(new Uint8Array(32).fill(7));
    const older = makeNode(identity, 500_000 * EPOCH_SECONDS);
    const newer = makeNode(identity, 500_000 * EPOCH_SECONDS + 10);
    net.publish(older, [0, 1]);
    net.publish(newer, [2]);
    net.run(startMs + 8000);
    const view = agreed(net);
    assert.deepEqual(idsOf(view, net), ids([...nodes, two, newer]));
    const found = verifyViewBundle(view, { authorities: net.set, suite, now: view.view.validAfter });
    assert.equal(found.byId.get(nodeIdHex(newer.nodeId))!.published, newer.published);
  });

  test('authorities that got different descriptors fetch what is missing from each other', () => {
    const net = authorities('fetch', [honest, honest, honest]);
    const identity = suite.ed25519(new Uint8Array(32).fill(8));
    const variants = [0, 1, 2].map((i) => makeNode(identity, 500_000 * EPOCH_SECONDS + i));
    for (const [i, variant] of variants.entries()) net.publish(variant, [i]);
    net.run(startMs + 8000);
    const view = agreed(net);
    const verified = verifyViewBundle(view, { authorities: net.set, suite, now: view.view.validAfter });
    assert.equal(verified.byId.get(nodeIdHex(variants[0]!.nodeId))!.published, variants[2]!.published);
  });

  test('a node that tells each authority something else of the same second is listed once, with one of them everywhere', () => {
    const net = authorities('two faces', [honest, honest, honest]);
    const identity = suite.ed25519(new Uint8Array(32).fill(9));
    const faces = ['198.51.100.1', '198.51.100.2', '198.51.100.3'].map((address) =>
      makeDescriptor(
        random,
        fields({ mixKeys: mixKeys(500_000, 500_002), addresses: [{ address, port: 9001 }] }),
        identity,
      ),
    );
    for (const [i, face] of faces.entries()) net.publish(face, [i]);
    net.run(startMs + 8000);
    const view = agreed(net);
    const listed = idsOf(view, net).filter((id) => id === nodeIdHex(faces[0]!.nodeId));
    assert.equal(listed.length, 1);
    // By digest, which it can grind for, but not choose for one client and not for another.
    const digests = faces.map((face) => nodeIdHex(descriptorDigest(encodeDescriptor(face), suite)));
    const verified = verifyViewBundle(view, { authorities: net.set, suite, now: view.view.validAfter });
    const chosen = verified.byId.get(listed[0]!)!.addresses;
    assert.deepEqual(chosen, faces[digests.indexOf(digests.toSorted().at(-1)!)]!.addresses);
  });

  test('without a threshold of votes there is no view, and the next round brings it', () => {
    const net = authorities('later', [honest, honest, honest]);
    net.all[1]!.entries.clear();
    net.all[2]!.entries.clear();
    net.run(startMs + 5000);
    assert.equal(net.all[0]!.decided.size, 0);
    assert.ok(net.all[0]!.problems.some(({ kind }) => kind === 'too-few-votes'));
    for (const descriptor of nodes) net.publish(descriptor);
    net.run(startMs + 12_000);
    assert.deepEqual(idsOf(agreed(net), net), ids(nodes));
  });

  test('an authority that signed and crashed signs nothing else for that epoch', () => {
    // Two of three must agree; the third never gets the endorsements, the first crashes after its own.
    const cut: SimAuthorityOptions = {
      send: (bytes) => (decodeVotingMessage(bytes).type === 'endorse' ? [] : [bytes]),
    };
    const net = authorities('crash', [cut, cut, cut]);
    net.run(startMs + 5000);
    const [first] = net.all;
    assert.equal(first!.signed.length, 1, 'it signed');
    assert.equal(first!.decided.size, 0, 'but nobody knows');
    for (const authority of net.all) authority.entries.delete(nodeIdHex(nodes[0]!.nodeId));
    first!.restart();
    net.run(startMs + 25_000);
    assert.equal(first!.signed.length, 1);
    assert.equal(first!.signed[0]!.epoch, 500_000);
  });

  test('at the threshold liars can sign a second view; whoever sees both has the proof', () => {
    const net = authorities('fork', [honest, { vote: (draft) => draft }, { vote: (draft) => draft }]);
    net.run(startMs + 5000);
    const [victim, ...liars] = net.all as [SimAuthority, ...SimAuthority[]];
    const view = agreed(net);
    const { epochSeconds, validAfter, freshUntil, validUntil } = view.view;
    const other = liars.reduce<ViewBundle>(
      (bundle, liar) => signView(bundle, liar.key),
      buildView([], { epochSeconds, validAfter, freshUntil, validUntil }, suite),
    );
    victim.receive(
      encodeVotingMessage({
        type: 'endorse',
        epoch: 500_000,
        round: 0,
        sender: liars[0]!.key.publicKey,
        signed: other,
        prepares: [],
      }),
    );
    const [fork] = victim.problems.filter(({ kind }) => kind === 'fork');
    assert.ok(fork?.kind === 'fork');
    assert.equal(fork.epoch, 500_000);
    for (const signed of fork.views) assert.ok(validSigners(signed, net.set, suite).size >= 2);
  });

  test('messages of strangers, replays and rubbish change nothing', () => {
    const recorded: Uint8Array[] = [];
    const net = authorities('replay', [{ send: (bytes) => [recorded[recorded.push(bytes) - 1]!] }, honest, honest]);
    net.run(startMs + 8000);
    agreed(net);
    const target = net.all[1]!;
    const before = JSON.stringify(target.problems);
    assert.ok(recorded.length > 4);
    for (const bytes of recorded) assert.equal(target.voting.handleMessage(bytes, target.clockMs), false);
    for (const bytes of recorded) {
      for (let at = 0; at < bytes.length; at += 13) {
        const changed = bytes.slice();
        changed[at]! ^= 4;
        try {
          assert.equal(target.voting.handleMessage(changed, target.clockMs), false, `byte ${at}`);
        } catch (error) {
          assert.equal((error as Error).name, 'DirectoryError');
        }
      }
    }
    assert.equal(JSON.stringify(target.problems), before);
  });
});

describe('voting schedule', () => {
  const authorities = { threshold: 2, keys: [1, 2, 3].map((i) => new Uint8Array(32).fill(i)) };
  const schedule = votingSchedule(authorities, 60, 1000);

  test('round 0 ends as its epoch begins, others follow, none reaches into the next', () => {
    assert.deepEqual(slotAt(schedule, 56_000), {
      epoch: 1,
      round: 0,
      startMs: 56_000,
      countMs: 58_000,
      endMs: 60_000,
      validAfter: 60,
    });
    assert.equal(slotAt(schedule, 59_999)!.round, 0);
    assert.deepEqual(slotAt(schedule, 60_000), {
      epoch: 1,
      round: 1,
      startMs: 60_000,
      countMs: 62_000,
      endMs: 64_000,
      validAfter: 60,
    });
    assert.equal(slotAt(schedule, 64_500)!.validAfter, 64);
    let slots = 0;
    for (let nowMs = 56_000; nowMs < 116_000; nowMs = nextSlotMs(schedule, nowMs)) {
      const slot = slotAt(schedule, nowMs);
      if (slot === undefined) continue;
      slots++;
      assert.equal(slot.epoch, 1);
      assert.ok(slot.endMs <= 116_000);
    }
    assert.equal(slots, 15);
    assert.equal(slotAt(schedule, 116_000)!.epoch, 2);
  });

  test('what is left of an epoch is no slot', () => {
    const odd = votingSchedule(authorities, 61, 1000);
    assert.equal(slotAt(odd, 61_000 * 2 - 4001), undefined);
    assert.equal(nextSlotMs(odd, 61_000 * 2 - 4001), 61_000 * 2 - 4000);
    assert.equal(slotAt(odd, 61_000 * 2 - 4000)!.epoch, 2);
  });

  test('phases that do not fit are refused', () => {
    assert.throws(() => votingSchedule(authorities, 60, 7501), RangeError);
    for (let n = 1; n <= 64; n++) {
      const keys = Array.from({ length: n }, (_, i) => new Uint8Array(32).fill(i));
      for (const epochSeconds of [10, 60, 3600, 86_400]) {
        const { phaseMs } = votingSchedule({ threshold: Math.floor(n / 2) + 1, keys }, epochSeconds);
        assert.ok(phaseMs >= 60, `${n} ${epochSeconds} ${phaseMs}`);
      }
    }
  });
});

function makeNode(identity: ReturnType<typeof suite.ed25519>, published: number): NodeDescriptor {
  return makeDescriptor(random, fields({ mixKeys: mixKeys(500_000, 500_002), published }), identity);
}
