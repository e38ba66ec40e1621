/** daemon/p2p: what peers of the control plane send: DHT records, statements, frames, multiaddrs. */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { encodeDescriptor, nodeIdHex } from '@nyx/core/directory/descriptor.ts';
import { makeDescriptor, testNow } from '@nyx/core/directory/testing.ts';
import { AnnounceStatus, decodeAnswer } from '@nyx/daemon/p2p/announce.ts';
import { RefusedError } from '@nyx/daemon/p2p/contract.ts';
import { parseMultiaddr } from '@nyx/daemon/p2p/multiaddr-text.ts';
import { RecordRules, recordKey } from '@nyx/daemon/p2p/record-rules.ts';
import { serviceRecordKind } from '@nyx/daemon/p2p/service-record.ts';
import { signRecord } from '@nyx/daemon/p2p/signed-record.ts';
import { encodeStatements, openStatements, signAuthorityRecord } from '@nyx/daemon/p2p/statements.ts';
import {
  decodeViewRequest,
  decodeViewResponse,
  encodeViewRequest,
  VIEW_REQUEST_BYTES,
} from '@nyx/daemon/p2p/view-frames.ts';
import { check, type FuzzTarget } from '../fuzzer.ts';
import { attempt } from './attempt.ts';
import { fixedBytes, suite } from './suite.ts';

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const peerId = '12D3KooWGbeUytAKEXPoAgu52XTHvkF2nKtR2CGV6RUyeQHfzW9T';
const identity = suite.ed25519(fixedBytes('p2p identity', 32));
const authority = suite.ed25519(fixedBytes('p2p authority', 32));
const addresses = ['/ip4/192.0.2.1/tcp/9040', '/ip6/2001:db8::1/tcp/1/ws'];
const rules = new RecordRules(suite, () => testNow * 1000);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const dictionary = ['version', 'key', 'published', 'expires', 'peer', 'addresses', 'revision', 'content', peerId];

const descriptor = makeDescriptor(createSeededRandom('fuzz control plane'));
const good = [
  { key: recordKey('node', nodeIdHex(descriptor.nodeId)), value: encodeDescriptor(descriptor) },
  {
    key: recordKey('authority', hex(authority.publicKey)),
    value: signAuthorityRecord(authority, peerId, addresses, testNow),
  },
  {
    key: recordKey('service', hex(suite.blake3(identity.publicKey))),
    value: signRecord(
      serviceRecordKind,
      {
        ...{ key: identity.publicKey, published: testNow, expires: testNow + 600 },
        ...{ revision: 7, content: fixedBytes('content', 40) },
      },
      identity,
    ),
  },
];

/** Key length (1) ‖ key ‖ value: whatever is taken is one of the records that were signed. */
export const p2pRecord: FuzzTarget = {
  name: 'p2p-record',
  dictionary: [...dictionary, '/nyx/node/', '/nyx/authority/', '/nyx/service/', '/pk/'],
  executions: 1500,
  seeds: () => good.map(({ key, value }) => Buffer.concat([Uint8Array.of(key.length), key, value])),
  run(input) {
    const length = input[0] ?? 0;
    const key = input.subarray(1, 1 + length);
    const value = input.subarray(1 + length);
    const taken = attempt(() => {
      rules.check(key, value);
      return true;
    }, RefusedError);
    if (taken === true) {
      check(
        good.some((one) => sameBytes(one.key, key) && sameBytes(one.value, value)),
        'nothing is taken that was not signed for this key',
      );
    }
    const known = good.find((one) => sameBytes(one.key, key));
    if (known === undefined) return;
    const chosen = rules.select(key, [value, known.value]);
    check(
      chosen === rules.select(key, [known.value, value]) ? sameBytes(value, known.value) : true,
      'order does not matter',
    );
    check(Number.isSafeInteger(rules.expiryOf(key, value)), 'an expiry is a number');
  },
};

export const p2pStatements: FuzzTarget = {
  name: 'p2p-statements',
  dictionary,
  executions: 1500,
  seeds: () => [
    encodeStatements({ identity, authority }, peerId, addresses, testNow),
    encodeStatements({ identity, authority: undefined }, peerId, [], testNow),
  ],
  run(input) {
    const said = attempt(() => openStatements(input, peerId, suite, testNow), RefusedError);
    if (said?.node !== undefined) check(sameBytes(said.node.key, identity.publicKey), 'only the signed binding');
    if (said?.authority !== undefined) {
      check(sameBytes(said.authority.record.key, authority.publicKey), 'only the signed authority');
      check(said.authority.record.addresses.length <= 8, 'at most 8 addresses');
    }
  },
};

export const p2pFrames: FuzzTarget = {
  name: 'p2p-frames',
  dictionary: ['/ip4/', '/ip6/', '/tcp/', '/ws', '/p2p/', peerId],
  seeds: () => [
    encodeViewRequest({ epoch: 7, digest: fixedBytes('digest', 32) }),
    Uint8Array.of(1, 2, 3),
    Uint8Array.of(2, 0xa0),
    ...addresses.map((text) => Buffer.from(`${text}/p2p/${peerId}`)),
  ],
  run(input) {
    const request = attempt(() => decodeViewRequest(input), RefusedError);
    if (request !== undefined) {
      check(input.length === VIEW_REQUEST_BYTES, 'a request has one length');
      check(sameBytes(encodeViewRequest(request), input), 'encode(decode(x)) is x');
    }
    const response = attempt(() => decodeViewResponse(input), RefusedError);
    if (response !== undefined) check(response.bundle.length === input.length - 1, 'nothing is lost');
    const answer = attempt(() => decodeAnswer(input), RefusedError);
    if (answer !== undefined && answer.params.length > 0) check(answer.status === AnnounceStatus.refused, 'explains');
    const parsed = parseMultiaddr(Buffer.from(input).toString('latin1'));
    if (parsed !== undefined) check(parsed.port >= 0 && parsed.port <= 65_535, 'a port is a port');
  },
};
