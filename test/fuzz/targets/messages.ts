/** core/messages: addresses, tokens, key bundles, payloads, fragments, answers, and the records between owner and mailbox node. */
import { decodeAddress, encodeAddress, mailboxIdOf } from '@nyx/core/messages/address.ts';
import { answerKey, openAnswer, openStatus, sealAnswer, sealStatus } from '@nyx/core/messages/answer-seal.ts';
import { decodeContent } from '@nyx/core/messages/content.ts';
import { openKeyBundle, signKeyBundle } from '@nyx/core/messages/key-bundle.ts';
import {
  decodeKeysPart,
  decodeLanePayload,
  encodeDeliver,
  encodeFetch,
  encodeForward,
  encodeKeysPart,
  SEALED_ANSWER_BYTES,
  SEALED_PACKET_BYTES,
} from '@nyx/core/messages/lane.ts';
import { encodeRecord, RecordReader } from '@nyx/core/messages/mailbox-records.ts';
import { Mailboxes } from '@nyx/core/messages/mailboxes.ts';
import { MessageError } from '@nyx/core/messages/message-error.ts';
import { decodeFragment, encodeFragment, INNER_BYTES } from '@nyx/core/messages/packet.ts';
import { Receiver } from '@nyx/core/messages/receiver.ts';
import { decodeReplyToken, encodeReplyToken } from '@nyx/core/messages/reply-token.ts';
import { sealPacket } from '@nyx/core/messages/seal.ts';
import { check, type FuzzTarget } from '../fuzzer.ts';
import { attempt } from './attempt.ts';
import { fixedBytes, suite } from './suite.ts';

const now = 1_800_000_000;
const utf8 = new TextEncoder();
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
/** The same bytes at each drawing of a run. */
const random = { fill: (into: Uint8Array) => void into.set(fixedBytes('message ephemeral', into.length)) };

const owner = suite.ed25519(fixedBytes('mailbox owner', 32));
const mailboxId = mailboxIdOf(owner.publicKey, suite);
const secrets = {
  mailboxId,
  dh: suite.x25519(fixedBytes('message dh', 32)),
  kem: suite.mlkem768(fixedBytes('message kem', 64)),
};
const bundle = signKeyBundle(
  { x25519: secrets.dh.publicKey, kem: secrets.kem.publicKey, from: now - 60, until: now + 86_400 },
  owner,
);
const nodeId = fixedBytes('mailbox node', 32);
const block = fixedBytes('reply block', 504);

export const messageAddress: FuzzTarget = {
  name: 'message-address',
  dictionary: ['nyx-msg:', 'NYX-MSG:', 'a', '7', '='],
  maxBytes: 300,
  seeds: () => [utf8.encode(encodeAddress({ nodeId, mailboxId }, suite)), utf8.encode('nyx-msg:')],
  run(input) {
    const given = text(input);
    const address = attempt(() => decodeAddress(given, suite), MessageError);
    if (address === undefined) return;
    check(encodeAddress(address, suite) === given.trim().toLowerCase(), 'an address has one form');
  },
};

export const replyToken: FuzzTarget = {
  name: 'reply-token',
  dictionary: ['nyx-reply:', 'A', '_', '-', '='],
  maxBytes: 4096,
  seeds: () => [
    utf8.encode(encodeReplyToken({ key: fixedBytes('token', 32), expires: now, blocks: [block] }, suite)),
    utf8.encode('nyx-reply:AQ'),
  ],
  run(input) {
    const token = attempt(() => decodeReplyToken(text(input), suite), MessageError);
    if (token === undefined) return;
    check(token.blocks.length >= 1 && token.blocks.length <= 16, 'bounded');
    const again = decodeReplyToken(encodeReplyToken(token, suite), suite);
    check(same(again.key, token.key) && again.expires === token.expires, 'reads what it wrote');
  },
};

/** What is not signed is never taken for keys; parts of bundles are read as they were written. */
export const keyBundle: FuzzTarget = {
  name: 'key-bundle',
  dictionary: [Uint8Array.of(1), new Uint8Array(8)],
  maxBytes: 1400,
  executions: 800,
  seeds: () => [bundle, encodeKeysPart(bundle, 0), encodeKeysPart(bundle, 1), encodeKeysPart(undefined, 0)],
  run(input) {
    const opened = openKeyBundle(input, mailboxId, now, suite);
    if (opened !== undefined) check(same(input, bundle), 'only what the owner signed opens');
    const part = decodeKeysPart(input);
    if (typeof part === 'object') check(part.part < 2 && part.data.length <= 781, 'a part of a bundle');
  },
};

/** Whatever ends at a mailbox node: bounded, counted, and never more than one reply. */
export const lanePayload: FuzzTarget = {
  name: 'lane-payload',
  dictionary: [Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(3), mailboxId],
  maxBytes: 800,
  seeds: () => [
    encodeDeliver(mailboxId, fixedBytes('packet', SEALED_PACKET_BYTES)),
    encodeFetch(mailboxId, 1, block),
    encodeForward(block, fixedBytes('answer', SEALED_ANSWER_BYTES)),
  ],
  run(input) {
    const decoded = decodeLanePayload(input);
    if (decoded?.kind === 'deliver') check(same(encodeDeliver(decoded.mailboxId, decoded.packet), input), 'one form');
    const options = { maxMailboxes: 2, packetsPerMailbox: 2, memoryBytes: 4096, holdSeconds: 60 };
    const mailboxes = new Mailboxes(options, suite);
    let replies = 0;
    for (let i = 0; i < 3; i++) mailboxes.handlePayload(input, i, () => replies++);
    const { dropped, fetches, forwards } = mailboxes.counters;
    check(replies === fetches + forwards && replies <= 3, 'one reply for one request');
    check(replies + dropped.malformed + dropped.unknown === 3, 'everything is counted');
  },
};

/** The inner of a packet, as the recipient has opened it; and as a mailbox brings it, sealed or not. */
export const messageFragment: FuzzTarget = {
  name: 'message-fragment',
  dictionary: [Uint8Array.of(0), Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(128), Uint8Array.of(0x02, 0xaa)],
  maxBytes: 800,
  executions: 800,
  seeds: () => {
    const messageId = fixedBytes('message', 16);
    const seeds = [
      { messageId, index: 0, count: 1, data: fixedBytes('short', 30), replyBlock: block },
      { messageId, index: 1, count: 3, data: fixedBytes('full', 682), replyBlock: undefined },
      { messageId, index: 3, count: 3, data: new Uint8Array(0), replyBlock: block },
    ];
    return seeds.map(encodeFragment);
  },
  run(input) {
    const decoded = decodeFragment(input);
    if (decoded !== undefined && decoded !== 'cover') {
      const { index, count, data } = decoded;
      check(index <= count && count >= 1 && count <= 128 && data.length <= 682, 'in their ranges');
    }
    const stored: Uint8Array[] = [];
    const receiver = new Receiver(suite, { maxMessages: 2, maxBytes: 8192, maxAgeMs: 1000 }, ({ content }) => {
      stored.push(content);
      return true;
    });
    receiver.setSecrets('00', [secrets]);
    receiver.handlePacket('00', input, 0);
    if (input.length === INNER_BYTES) {
      const packet = new Uint8Array(SEALED_PACKET_BYTES);
      sealPacket(suite, random, { mailboxId, x25519: secrets.dh.publicKey }, input, packet);
      receiver.handlePacket('00', packet, 1);
      receiver.handlePacket('00', packet, 2);
    }
    check(stored.length === 0, 'nothing that was not sealed to us is stored');
    check(receiver.heldBytes <= 8192 && receiver.owed <= 1, 'bounded');
    decodeContent(input);
  },
};

/** What comes over a reply block is opened only with its key. */
export const messageAnswer: FuzzTarget = {
  name: 'message-answer',
  dictionary: [Uint8Array.of(0), Uint8Array.of(3)],
  maxBytes: 800,
  seeds: () => {
    const key = () => answerKey(suite, 'message status', fixedBytes('message', 16), block);
    return [
      sealStatus(suite, key(), { state: 1, has: (i) => i % 2 === 0 }),
      sealAnswer(suite, key(), { index: 0, count: 2, data: fixedBytes('answer', 100) }),
    ];
  },
  run(input) {
    const key = answerKey(suite, 'message status', fixedBytes('message', 16), block);
    const status = openStatus(suite, key, input);
    if (status !== undefined) check(status.state <= 3 && !status.has(128), 'a known state');
    const answer = openAnswer(suite, key, input);
    if (answer !== undefined) check(answer.index < answer.count && answer.data.length <= 259, 'in their ranges');
    const foreign = answerKey(suite, 'anonymous reply', fixedBytes('other', 32), block);
    check(openStatus(suite, foreign, input) === undefined, 'another key opens nothing');
  },
};

/** A stream between owner and node, from either side; cut as the first byte says. */
export const mailboxRecord: FuzzTarget = {
  name: 'mailbox-record',
  dictionary: [Uint8Array.of(0, 1, 7), Uint8Array.of(0, 7, 6), Uint8Array.of(0, 33, 1), Uint8Array.of(0, 97, 2)],
  maxBytes: 4096,
  seeds: () => {
    const records = [
      { type: 'challenge', nonce: fixedBytes('nonce', 32) },
      { type: 'open', ownerKey: owner.publicKey, signature: fixedBytes('signature', 64) },
      { type: 'opened', waiting: 1, refused: 2, holdSeconds: 3 },
      { type: 'keys', bundle },
      { type: 'packet', sequence: 1, packet: fixedBytes('packet', SEALED_PACKET_BYTES) },
      { type: 'reply', sequence: 2, replyId: fixedBytes('id', 16), reply: fixedBytes('reply', 800) },
      { type: 'taken', sequence: 2 },
      { type: 'remove' },
      { type: 'refused', reason: 3 },
    ] as const;
    const each = records.map((record) => Buffer.concat([Uint8Array.of(100), encodeRecord(record)]));
    return [...each, Buffer.concat([Uint8Array.of(7), ...records.map((record) => encodeRecord(record))])];
  },
  run(input) {
    const [cut = 1] = input;
    const stream = input.subarray(1);
    const reader = new RecordReader();
    const sent: Uint8Array[] = [];
    let closed = false;
    const mailboxes = new Mailboxes(
      { maxMailboxes: 2, packetsPerMailbox: 2, memoryBytes: 4096, holdSeconds: 60 },
      suite,
    );
    const session = mailboxes.connect({
      nodeId,
      suite,
      random,
      send: (record) => sent.push(record),
      close: () => {
        closed = true;
      },
      unixSeconds: () => now,
    });
    let readBytes = 0;
    for (let at = 0; at < stream.length; at += Math.max(1, cut)) {
      const known = reader.push(stream.slice(at, at + Math.max(1, cut)), (record) => {
        const encoded = encodeRecord(record);
        check(same(encoded, stream.subarray(readBytes, readBytes + encoded.length)), 'encode(decode(x)) is x');
        readBytes += encoded.length;
        session.handle(record, 0);
      });
      if (!known) {
        session.handleJunk(0);
        break;
      }
    }
    check(!session.isOpen, 'nobody opens a mailbox without its key');
    check(sent.length <= 2 && (closed || sent.length === 1), 'a challenge, and one refusal at most');
  },
};
