import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import type { SignKeyPair } from '../crypto/suite.ts';
import { mailboxIdOf } from './address.ts';
import { signKeyBundle } from './key-bundle.ts';
import {
  decodeKeysPart,
  encodeDeliver,
  encodeFetch,
  encodeForward,
  SEALED_ANSWER_BYTES,
  SEALED_PACKET_BYTES,
} from './lane.ts';
import { encodeRecord, type MailboxRecord, RecordReader, signOpen } from './mailbox-records.ts';
import { Mailboxes, type MailboxOptions } from './mailboxes.ts';
import { testMailboxOptions, testNowSeconds } from './testing.ts';

const suite = createNobleSuite();
const random = createSeededRandom('mailboxes');
const bytes = (length: number): Uint8Array => {
  const out = new Uint8Array(length);
  random.fill(out);
  return out;
};
const nodeId = bytes(32);
const packet = (fill: number) => new Uint8Array(SEALED_PACKET_BYTES).fill(fill);
const nobody = () => assert.fail('no reply is due');

/** One visit; `proof` other than the right one on demand. */
const visit = (mailboxes: Mailboxes, owner: SignKeyPair, proof?: (nonce: Uint8Array) => Uint8Array) => {
  const got: MailboxRecord[] = [];
  const reader = new RecordReader();
  const state = { closed: false };
  const session = mailboxes.connect({
    nodeId,
    suite,
    random,
    send: (record) => assert.ok(reader.push(record, (decoded) => got.push(structuredClone(decoded)))),
    close: () => {
      state.closed = true;
    },
    unixSeconds: () => testNowSeconds,
  });
  const [challenge] = got;
  assert.ok(challenge?.type === 'challenge');
  const send = (record: MailboxRecord, nowMs = 0) => session.handle(record, nowMs);
  const signature = proof?.(challenge.nonce) ?? signOpen(owner, nodeId, challenge.nonce);
  send({ type: 'open', ownerKey: owner.publicKey, signature });
  got.shift();
  return { got, send, session, state, nonce: challenge.nonce };
};

const make = (options: Partial<MailboxOptions> = {}) => {
  const mailboxes = new Mailboxes({ ...testMailboxOptions, ...options }, suite);
  const owner = suite.ed25519(bytes(32));
  return { mailboxes, owner, id: mailboxIdOf(owner.publicKey, suite) };
};

test('packets are held while the owner is away, pushed when he is there, and erased when he has taken them', () => {
  const { mailboxes, owner, id } = make();
  const first = visit(mailboxes, owner);
  assert.deepEqual(first.got, [{ type: 'opened', waiting: 0, refused: 0, holdSeconds: 3600 }]);
  first.session.gone(0);
  for (let i = 1; i <= 100; i++) mailboxes.handlePayload(encodeDeliver(id, packet(i)), 0, nobody);
  assert.equal(mailboxes.heldPackets, 100);

  const second = visit(mailboxes, owner);
  const packets = () => second.got.filter((record) => record.type === 'packet');
  assert.equal(packets().length, 64, 'no more than the window');
  second.send({ type: 'taken', sequence: 40 });
  assert.equal(packets().length, 100);
  second.session.gone(0);

  const third = visit(mailboxes, owner);
  const again = third.got.filter((record) => record.type === 'packet');
  assert.deepEqual(
    [again.length, again[0]?.sequence, again[0]?.packet[0]],
    [60, 41, 41],
    'what was not taken comes again',
  );
  third.send({ type: 'taken', sequence: 1000 });
  assert.deepEqual([mailboxes.heldPackets, mailboxes.heldBytes], [0, 0]);
});

test('a mailbox’s id, guessed or stolen, opens nothing: its key has to sign this node’s nonce', () => {
  const { mailboxes, owner, id } = make();
  visit(mailboxes, owner).session.gone(0);
  mailboxes.handlePayload(encodeDeliver(id, packet(1)), 0, nobody);
  const thief = suite.ed25519(bytes(32));
  const earlier = visit(mailboxes, owner);
  earlier.session.gone(0);
  const tries: ((nonce: Uint8Array) => Uint8Array)[] = [
    (nonce) => signOpen(thief, nodeId, nonce),
    () => new Uint8Array(64),
    () => signOpen(owner, nodeId, earlier.nonce),
    (nonce) => signOpen(owner, bytes(32), nonce),
  ];
  for (const proof of tries) {
    const { got, state } = visit(mailboxes, owner, proof);
    assert.deepEqual(got, [{ type: 'refused', reason: 1 }]);
    assert.ok(state.closed);
  }
  // With a key of his own he opens a mailbox of his own.
  assert.deepEqual(visit(mailboxes, thief).got, [{ type: 'opened', waiting: 0, refused: 0, holdSeconds: 3600 }]);
  assert.equal(mailboxes.heldPackets, 1);
});

test('records before the proof, of the other side or junk end the session', () => {
  const { mailboxes, owner } = make();
  const { got, session, state } = visit(mailboxes, owner);
  session.handleJunk(0);
  assert.deepEqual([got.at(-1), state.closed], [{ type: 'refused', reason: 5 }, true]);
  const second = visit(mailboxes, owner);
  second.send({ type: 'opened', waiting: 0, refused: 0, holdSeconds: 0 });
  assert.deepEqual(second.got.at(-1), { type: 'refused', reason: 5 });
  const third = visit(mailboxes, owner);
  third.send({ type: 'keys', bundle: bytes(1329) });
  assert.deepEqual(third.got.at(-1), { type: 'refused', reason: 2 });
});

test('the newest session has the mailbox, the one before it is told so', () => {
  const { mailboxes, owner, id } = make();
  const old = visit(mailboxes, owner);
  const young = visit(mailboxes, owner);
  assert.deepEqual([old.got.at(-1), old.state.closed], [{ type: 'refused', reason: 4 }, true]);
  mailboxes.handlePayload(encodeDeliver(id, packet(1)), 0, nobody);
  assert.equal(young.got.at(-1)?.type, 'packet');
});

test('bounds: packets, bytes, mailboxes and time; what waits is never driven out', () => {
  const { mailboxes, owner, id } = make({ packetsPerMailbox: 3, maxMailboxes: 2 });
  visit(mailboxes, owner).session.gone(0);
  for (let i = 1; i <= 5; i++) mailboxes.handlePayload(encodeDeliver(id, packet(i)), 0, nobody);
  assert.deepEqual([mailboxes.heldPackets, mailboxes.counters.dropped.full], [3, 2]);
  const back = visit(mailboxes, owner);
  assert.deepEqual(back.got[0], { type: 'opened', waiting: 3, refused: 2, holdSeconds: 3600 });
  assert.deepEqual(
    back.got.flatMap((record) => (record.type === 'packet' ? [record.packet[0]] : [])),
    [1, 2, 3],
  );
  back.session.gone(0);
  visit(mailboxes, suite.ed25519(bytes(32)));
  assert.deepEqual(visit(mailboxes, suite.ed25519(bytes(32))).got, [{ type: 'refused', reason: 3 }]);

  mailboxes.expire(3_600_001);
  assert.deepEqual(
    [mailboxes.count, mailboxes.heldPackets, mailboxes.heldBytes],
    [1, 0, 0],
    'the one that is open stays',
  );
  assert.equal(mailboxes.counters.expired, 3);

  const small = make({ memoryBytes: 2000 });
  visit(small.mailboxes, small.owner).session.gone(0);
  for (let i = 1; i <= 5; i++) small.mailboxes.handlePayload(encodeDeliver(small.id, packet(i)), 0, nobody);
  assert.ok(small.mailboxes.heldBytes <= 2000 && small.mailboxes.heldPackets === 2);
});

test('unknown mailboxes and junk are counted; replies find their mailbox; keys are given out; an owner removes his', () => {
  const { mailboxes, owner, id } = make();
  mailboxes.handlePayload(encodeDeliver(id, packet(1)), 0, nobody);
  mailboxes.handlePayload(new Uint8Array(784), 0, nobody);
  mailboxes.handleReply(bytes(16), bytes(800), 0);
  assert.deepEqual(mailboxes.counters.dropped, { malformed: 1, unknown: 2, full: 0 });

  const { got, send } = visit(mailboxes, owner);
  const replyId = bytes(16);
  replyId.set(id.subarray(0, 8));
  const reply = bytes(800);
  mailboxes.handleReply(replyId, reply, 0);
  assert.deepEqual(got.at(-1), { type: 'reply', sequence: 1, replyId, reply });

  const fetched: unknown[] = [];
  const fetch = () =>
    mailboxes.handlePayload(encodeFetch(id, 0, bytes(504)), 0, (_block, payload) => {
      const decoded = decodeKeysPart(payload);
      fetched.push(typeof decoded === 'object' ? decoded.part : decoded);
    });
  fetch();
  const keys = { x25519: bytes(32), kem: bytes(1184), from: testNowSeconds, until: testNowSeconds + 3600 };
  send({ type: 'keys', bundle: signKeyBundle(keys, owner) });
  fetch();
  assert.deepEqual(fetched, ['no-mailbox', 0]);
  const [block, answer] = [bytes(504), bytes(SEALED_ANSWER_BYTES)];
  mailboxes.handlePayload(encodeForward(block, answer), 0, (over, payload) =>
    assert.deepEqual([over, payload], [block, answer]),
  );
  assert.equal(mailboxes.counters.forwards, 1);
  send({ type: 'remove' });
  assert.deepEqual([mailboxes.count, mailboxes.heldBytes], [0, 0]);
  assert.equal(encodeRecord({ type: 'remove' }).length, 3);
});
