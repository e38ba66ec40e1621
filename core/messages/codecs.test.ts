import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createNobleSuite } from '../crypto/noble-suite.ts';
import { createSeededRandom } from '../crypto/seeded-random.ts';
import { decodeAddress, encodeAddress, mailboxIdOf } from './address.ts';
import {
  ANSWER_BYTES,
  answerKey,
  MessageState,
  openAnswer,
  openStatus,
  sealAnswer,
  sealStatus,
} from './answer-seal.ts';
import { decodeBase32, encodeBase32 } from './base32.ts';
import { openKeyBundle, signKeyBundle } from './key-bundle.ts';
import {
  decodeKeysPart,
  decodeLanePayload,
  encodeDeliver,
  encodeFetch,
  encodeForward,
  encodeKeysPart,
  KEYS_PARTS,
  SEALED_ANSWER_BYTES,
  SEALED_PACKET_BYTES,
} from './lane.ts';
import { encodeRecord, RecordReader } from './mailbox-records.ts';
import { MessageError } from './message-error.ts';
import { decodeFragment, encodeFragment, FRAGMENT_BESIDE_REPLY_BYTES, FRAGMENT_BYTES, INNER_BYTES } from './packet.ts';
import { decodeReplyToken, encodeReplyToken } from './reply-token.ts';
import { openMessage, openPacket, sealMessage, sealPacket } from './seal.ts';

const suite = createNobleSuite();
const random = createSeededRandom('message codecs');
const bytes = (length: number): Uint8Array => {
  const out = new Uint8Array(length);
  random.fill(out);
  return out;
};
const now = 1_800_000_000;

const recipient = () => {
  const owner = suite.ed25519(bytes(32));
  const mailboxId = mailboxIdOf(owner.publicKey, suite);
  const secrets = { mailboxId, dh: suite.x25519(bytes(32)), kem: suite.mlkem768(bytes(64)) };
  const keys = { x25519: secrets.dh.publicKey, kem: secrets.kem.publicKey, from: now, until: now + 86_400 };
  return { owner, mailboxId, secrets, bundle: signKeyBundle(keys, owner) };
};

test('base32: the vectors of RFC 4648 §10, and anything there and back', () => {
  const vectors = {
    '': '',
    f: 'my',
    fo: 'mzxq',
    foo: 'mzxw6',
    foob: 'mzxw6yq',
    fooba: 'mzxw6ytb',
    foobar: 'mzxw6ytboi',
  };
  for (const [plain, text] of Object.entries(vectors)) {
    assert.equal(encodeBase32(Buffer.from(plain)), text);
    assert.equal(Buffer.from(decodeBase32(text)!).toString(), plain);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (data) => {
      assert.deepEqual(decodeBase32(encodeBase32(data)), data);
    }),
  );
  for (const wrong of ['m', 'mzx', 'mz1q', 'mzxr', 'MZXQ']) assert.equal(decodeBase32(wrong), undefined, wrong);
});

test('an address: one line, there and back, and any slip of the pen is found', () => {
  const address = { nodeId: bytes(32), mailboxId: bytes(32) };
  const text = encodeAddress(address, suite);
  assert.equal(text.length, 119);
  assert.deepEqual(decodeAddress(text, suite), address);
  assert.deepEqual(decodeAddress(` ${text.toUpperCase()}\n`, suite), address);
  const refused = (wrong: string, why: RegExp) =>
    assert.throws(
      () => decodeAddress(wrong, suite),
      (error) => error instanceof MessageError && error.code === 'BAD_ADDRESS' && why.test(error.message),
      wrong,
    );
  for (let i = 8; i < text.length; i++) {
    refused(`${text.slice(0, i)}${text[i] === 'a' ? 'b' : 'a'}${text.slice(i + 1)}`, /checksum|version|base32|cut off/);
  }
  refused(text.slice(0, -7), /bytes|cut off/);
  refused(text.slice(8), /does not begin/);
  refused('', /does not begin/);
  refused('x'.repeat(5000), /characters/);
});

test('key bundles: only the mailbox’s own, whole, and in their time', () => {
  const { owner, mailboxId, secrets, bundle } = recipient();
  const opened = openKeyBundle(bundle, mailboxId, now, suite)!;
  assert.deepEqual([opened.x25519, opened.kem], [secrets.dh.publicKey, secrets.kem.publicKey]);
  assert.equal(openKeyBundle(bundle, bytes(32), now, suite), undefined, 'another mailbox');
  assert.equal(openKeyBundle(bundle, mailboxId, now - 301, suite), undefined, 'too early');
  assert.equal(openKeyBundle(bundle, mailboxId, now + 86_400, suite), undefined, 'too late');
  assert.equal(openKeyBundle(bundle.subarray(1), mailboxId, now, suite), undefined, 'cut off');
  for (let i = 0; i < bundle.length; i += 7) {
    const changed = bundle.slice();
    changed[i]! ^= 1;
    assert.equal(openKeyBundle(changed, mailboxId, now, suite), undefined, `byte ${i}`);
  }
  const keys = { x25519: secrets.dh.publicKey, kem: secrets.kem.publicKey, from: now, until: now + 15 * 86_400 };
  assert.equal(openKeyBundle(signKeyBundle(keys, owner), mailboxId, now, suite), undefined, 'for too long');
});

test('seals: the right keys open them, nobody else’s, and no changed bit passes', () => {
  const { secrets, mailboxId } = recipient();
  const other = recipient();
  const to = { mailboxId, x25519: secrets.dh.publicKey, kem: secrets.kem.publicKey };
  const id = bytes(16);
  const sealed = sealMessage(suite, random, to, id, Uint8Array.of(1, 2, 3))!;
  assert.deepEqual(openMessage(suite, secrets, id, sealed), Uint8Array.of(1, 2, 3));
  assert.equal(openMessage(suite, other.secrets, id, sealed), undefined, 'wrong keys');
  assert.equal(openMessage(suite, { ...secrets, mailboxId: bytes(32) }, id, sealed), undefined, 'another mailbox');
  assert.equal(openMessage(suite, secrets, bytes(16), sealed), undefined, 'another message');
  // Either half alone is not enough: with the right public keys, but one secret of another.
  const wrongKem = { ...other.secrets.kem, publicKey: secrets.kem.publicKey, decapsulate: () => bytes(32) };
  const wrongDh = { ...other.secrets.dh, publicKey: secrets.dh.publicKey, agree: () => bytes(32) };
  assert.equal(openMessage(suite, { ...secrets, kem: wrongKem }, id, sealed), undefined, 'the KEM secret counts');
  assert.equal(openMessage(suite, { ...secrets, dh: wrongDh }, id, sealed), undefined, 'the DH secret counts');
  assert.equal(openMessage(suite, { ...secrets, kem: other.secrets.kem }, id, sealed), undefined);
  assert.equal(openMessage(suite, { ...secrets, dh: other.secrets.dh }, id, sealed), undefined);
  for (let i = 0; i < sealed.length; i += 13) {
    const changed = sealed.slice();
    changed[i]! ^= 0x10;
    assert.equal(openMessage(suite, secrets, id, changed), undefined, `byte ${i}`);
  }
  const inner = bytes(INNER_BYTES);
  const packet = new Uint8Array(SEALED_PACKET_BYTES);
  assert.ok(sealPacket(suite, random, to, inner, packet));
  assert.deepEqual(openPacket(suite, secrets, packet), inner);
  assert.equal(openPacket(suite, other.secrets, packet), undefined);
  for (let i = 0; i < packet.length; i += 13) {
    const changed = packet.slice();
    changed[i]! ^= 2;
    assert.equal(openPacket(suite, secrets, changed), undefined, `byte ${i}`);
  }
  assert.equal(sealPacket(suite, random, { mailboxId, x25519: new Uint8Array(32) }, inner, packet), false, 'low order');
  assert.equal(sealMessage(suite, random, { ...to, kem: new Uint8Array(1184).fill(255) }, id, inner), undefined);
});

test('fragments there and back; what cannot be is refused', () => {
  const block = bytes(504);
  const make = (index: number, count: number, length: number, replyBlock?: Uint8Array) =>
    encodeFragment({ messageId: bytes(16), index, count, data: bytes(length), replyBlock });
  for (const inner of [
    make(0, 1, 1),
    make(127, 128, FRAGMENT_BYTES),
    make(2, 3, FRAGMENT_BESIDE_REPLY_BYTES, block),
    make(3, 3, 0, block),
  ]) {
    const decoded = decodeFragment(inner);
    assert.ok(decoded !== undefined && decoded !== 'cover');
    assert.deepEqual(encodeFragment(decoded), inner);
  }
  const wrong = [
    make(1, 1, 1),
    make(0, 0, 1),
    make(0, 129, 1),
    make(0, 1, 0),
    make(4, 3, 0, block),
    make(3, 3, 0),
    bytes(5),
  ];
  for (const inner of wrong) assert.equal(decodeFragment(inner), undefined);
  const tooLong = make(0, 1, 1);
  tooLong[19] = 255;
  assert.equal(decodeFragment(tooLong), undefined);
});

test('payloads and replies there and back', () => {
  const packet = bytes(SEALED_PACKET_BYTES);
  const id = bytes(32);
  assert.deepEqual(decodeLanePayload(encodeDeliver(id, packet)), { kind: 'deliver', mailboxId: id, packet });
  const block = bytes(504);
  assert.deepEqual(decodeLanePayload(encodeFetch(id, 1, block)), {
    kind: 'fetch',
    mailboxId: id,
    part: 1,
    replyBlock: block,
  });
  assert.equal(decodeLanePayload(encodeFetch(id, KEYS_PARTS, block)), undefined);
  assert.equal(decodeLanePayload(new Uint8Array(784)), undefined);

  const answer = bytes(SEALED_ANSWER_BYTES);
  assert.deepEqual(decodeLanePayload(encodeForward(block, answer)), { kind: 'forward', replyBlock: block, answer });

  const { bundle } = recipient();
  const parts = Array.from({ length: KEYS_PARTS }, (_, i) => decodeKeysPart(encodeKeysPart(bundle, i)));
  const whole = parts.map((part) => (typeof part === 'object' ? part.data : Buffer.alloc(0)));
  assert.deepEqual(Buffer.concat(whole), Buffer.from(bundle));
  assert.equal(decodeKeysPart(encodeKeysPart(undefined, 0)), 'no-mailbox');
  assert.equal(decodeKeysPart(bytes(783)), undefined);
  assert.equal(decodeKeysPart(new Uint8Array(784)), undefined);
});

test('answers: open with the key of their block and purpose alone, and whole', () => {
  const [id, block] = [bytes(16), bytes(504)];
  const key = () => answerKey(suite, 'message status', id, block);
  const state = MessageState.incomplete;
  const sealed = sealStatus(suite, key(), { state, has: (i) => i % 3 === 0 });
  const padded = new Uint8Array(784);
  padded.set(sealed);
  const status = openStatus(suite, key(), padded)!;
  assert.equal(status.state, state);
  for (let i = 0; i < 130; i++) assert.equal(status.has(i), i < 128 && i % 3 === 0, `fragment ${i}`);
  assert.equal(openStatus(suite, answerKey(suite, 'message status', id, bytes(504)), padded), undefined);
  assert.equal(openStatus(suite, answerKey(suite, 'message status', bytes(16), block), padded), undefined);
  assert.equal(openStatus(suite, answerKey(suite, 'anonymous reply', id, block), padded), undefined);
  assert.equal(openStatus(suite, key(), sealed.subarray(1)), undefined);
  for (let i = 0; i < sealed.length; i++) {
    const changed = sealed.slice();
    changed[i]! ^= 4;
    assert.equal(openStatus(suite, key(), changed), undefined, `byte ${i}`);
  }
  const part = { index: 2, count: 3, data: bytes(ANSWER_BYTES) };
  const answerKeyOf = () => answerKey(suite, 'anonymous reply', id, block);
  assert.deepEqual(openAnswer(suite, answerKeyOf(), sealAnswer(suite, answerKeyOf(), part)), part);
  for (const wrong of [
    { ...part, index: 3 },
    { ...part, count: 0 },
    { ...part, count: 17 },
  ]) {
    assert.equal(openAnswer(suite, answerKeyOf(), sealAnswer(suite, answerKeyOf(), wrong)), undefined);
  }
});

test('reply tokens there and back; cut off, changed and foreign ones are refused', () => {
  const token = { key: bytes(32), expires: now, blocks: [bytes(504), bytes(504)] };
  const text = encodeReplyToken(token, suite);
  assert.deepEqual(decodeReplyToken(text, suite), token);
  const wrongs = [
    text.slice(0, -4),
    text.slice(10),
    `${text}AAAA`,
    'nyx-reply:',
    'nyx-reply:!!',
    `nyx-reply:AAAA${text.slice(14)}`,
  ];
  wrongs.push(
    `${text.slice(0, 400)}${text[400] === 'A' ? 'B' : 'A'}${text.slice(401)}`,
    `nyx-reply:${'A'.repeat(20_000)}`,
  );
  for (const wrong of wrongs) {
    assert.throws(
      () => decodeReplyToken(wrong, suite),
      (error) => error instanceof MessageError && error.code === 'BAD_REPLY_BLOCK',
      wrong.slice(0, 40),
    );
  }
});

test('records are the same however the stream is cut; junk ends it', () => {
  const { bundle } = recipient();
  const records = [
    { type: 'challenge', nonce: bytes(32) },
    { type: 'open', ownerKey: bytes(32), signature: bytes(64) },
    { type: 'opened', waiting: 3, refused: 4, holdSeconds: 86_400 },
    { type: 'keys', bundle },
    { type: 'packet', sequence: 2 ** 40 + 1, packet: bytes(SEALED_PACKET_BYTES) },
    { type: 'reply', sequence: 7, replyId: bytes(16), reply: bytes(800) },
    { type: 'taken', sequence: 9 },
    { type: 'remove' },
    { type: 'refused', reason: 3 },
  ] as const;
  const stream = Buffer.concat(records.map((record) => encodeRecord(record)));
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1, maxLength: 50 }), (cuts) => {
      const reader = new RecordReader();
      const read: unknown[] = [];
      for (let at = 0, i = 0; at < stream.length; i++) {
        const length = cuts[i % cuts.length]!;
        assert.ok(
          reader.push(new Uint8Array(stream.subarray(at, at + length)), (record) => read.push(structuredClone(record))),
        );
        at += length;
      }
      assert.deepEqual(
        read,
        records.map((record) => structuredClone(record)),
      );
    }),
  );
  for (const junk of [
    [0, 0],
    [255, 255],
    [0, 1, 99],
    [0, 2, 8, 200],
    [0, 3, 5, 0, 0],
  ]) {
    assert.equal(
      new RecordReader().push(Uint8Array.from(junk), () => {}),
      false,
      junk.join(),
    );
  }
});
