/** core/directory and core/path: descriptors, view bundles, CBOR, policies, addresses, guard state. */
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import type { SignKeyPair } from '@nyx/core/crypto/suite.ts';
import {
  isCanonicalAddress,
  isMappedAddress,
  parseAddress,
  parseTarget,
  specialRange,
  subnetKey,
} from '@nyx/core/directory/address.ts';
import {
  decodeDescriptor,
  encodeDescriptor,
  familyKeysOf,
  MAX_DESCRIPTOR_BYTES,
  type NodeDescriptor,
  verifyDescriptor,
} from '@nyx/core/directory/descriptor.ts';
import { DirectoryError } from '@nyx/core/directory/directory-error.ts';
import { ExitPolicy } from '@nyx/core/directory/exit-policy.ts';
import { isFamilyProved, proveFamily } from '@nyx/core/directory/family.ts';
import { ALL_NODE_FLAGS, type ViewNode } from '@nyx/core/directory/node-status.ts';
import { decodeParams, defaultViewParams, encodeParams, MAX_VIEW_PARAMS } from '@nyx/core/directory/params.ts';
import { decodeCbor, encodeCbor, FieldReader } from '@nyx/core/directory/strict-cbor.ts';
import { makeDescriptor, makeViewNode, testNow } from '@nyx/core/directory/testing.ts';
import {
  buildView,
  decodeViewBundle,
  encodeViewBundle,
  signView,
  type ViewBundle,
  verifyViewBundle,
} from '@nyx/core/directory/view.ts';
import { GuardSet, parseGuardState } from '@nyx/core/path/guards.ts';
import { PathError } from '@nyx/core/path/path-error.ts';
import { parseSecondLayerState, SecondLayer } from '@nyx/core/path/second-layer.ts';
import { decodeCapabilities, decodePlugin, encodeCapabilities } from '@nyx/core/stream/capabilities.ts';
import { check, type FuzzTarget, prototypesClean } from '../fuzzer.ts';
import { attempt } from './attempt.ts';
import { fixedBytes, suite } from './suite.ts';

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

const cborTokens = [
  Uint8Array.of(0xa0),
  Uint8Array.of(0xa1),
  Uint8Array.of(0x80),
  Uint8Array.of(0xf4),
  Uint8Array.of(0xf6),
  Uint8Array.of(0xf9, 0x7e, 0x00),
  Uint8Array.of(0x1b, 0, 0x20, 0, 0, 0, 0, 0, 0),
  Uint8Array.of(0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
  Uint8Array.of(0x5a, 0xff, 0xff, 0xff, 0xff),
  Uint8Array.of(0xc2, 0x41, 0x01),
  Buffer.from('\x69__proto__\xa1\x68polluted\x01', 'latin1'),
  Buffer.from('\x6bconstructor', 'latin1'),
  Buffer.from('\x68toString\x00', 'latin1'),
  Buffer.from('\xa2\x67valueOf\x00\x68toString\x00', 'latin1'),
];

const text = (value: string): Uint8Array =>
  Buffer.from(`${String.fromCharCode(0x60 + value.length)}${value}`, 'latin1');
const descriptorKeys = [
  'version',
  'identity',
  'linkKem',
  'mixKeys',
  'addresses',
  'mix',
  'exit',
  'family',
  'families',
  'key',
  'certificate',
  'mailbox',
  'bandwidth',
  'admission',
  'compliance',
  'core',
  'plus',
  'full',
  'nickname',
  'contact',
  'region',
  'expires',
];

const descriptors = () => {
  const random = createSeededRandom('fuzz descriptors');
  const ipv6 = { address: '2001:db8::1', port: 443 };
  return [
    makeDescriptor(random),
    makeDescriptor(random, {
      addresses: [{ address: '192.0.2.7', port: 1 }, ipv6],
      roles: { mix: true, exit: true },
      exitPolicy: ['reject *:25', 'accept *:*'],
      family: ['one', 'two'],
      nickname: 'nick',
      contact: 'noc at example.org',
      region: 'SE',
      compliance: 'full',
    }),
    makeDescriptor(
      random,
      {
        roles: { mix: true, exit: false, mailbox: true },
        families: [family, otherFamily].map((key) => proveFamily(key, member.publicKey)),
        admission: fixedBytes('admission', 16),
        bandwidthBytesPerSecond: 2 ** 48,
        compliance: 'plus',
      },
      member,
    ),
    // A family that has certified another node.
    makeDescriptor(random, { families: [proveFamily(family, member.publicKey)] }),
    // As many addresses as there may be, of both families and of this machine alone.
    makeDescriptor(random, {
      addresses: [
        '192.0.2.7',
        '2001:db8::7',
        '127.0.0.1',
        '::1',
        '198.51.100.1',
        '2001:db8:ffff::',
        '0.0.0.0',
        '::',
      ].map((address, i) => ({ address, port: 9001 + (i >> 1) })),
    }),
  ];
};
const [family, otherFamily, member] = ['family', 'other family', 'member'].map((name) =>
  suite.ed25519(fixedBytes(name, 32)),
) as [SignKeyPair, SignKeyPair, SignKeyPair];

export const descriptor: FuzzTarget = {
  name: 'descriptor',
  dictionary: [...cborTokens, ...descriptorKeys.map(text)],
  executions: 1000,
  seeds: () => [...descriptors().map(encodeDescriptor), Buffer.concat([new Uint8Array(64), oddVersion()])],
  run(input) {
    const decoded = attempt(() => decodeDescriptor(input, suite), DirectoryError);
    if (decoded === undefined) return;
    check(input.length <= MAX_DESCRIPTOR_BYTES, 'no longer than a descriptor may be');
    check(sameBytes(encodeDescriptor(decoded), input), 'encode(decode(x)) is x');
    check(
      decoded.addresses.length <= 8 && decoded.mixKeys.length <= 3 && decoded.exitPolicy.length <= 64,
      'bounded lists',
    );
    const written = decoded.addresses.map(({ address, port }) => `${address} ${port}`);
    check(new Set(written).size === written.length, 'each address once');
    for (const { address } of decoded.addresses) check(!isMappedAddress(address), 'IPv4 is written as IPv4');
    const { families = [] } = decoded;
    check(families.length <= 4 && new Set(familyKeysOf(decoded)).size === families.length, 'each of few families once');
    const verified = attempt(() => {
      verifyDescriptor(decoded, suite, testNow);
      return true;
    }, DirectoryError);
    if (verified !== true) return;
    check(
      families.every((proof) => isFamilyProved(proof, decoded.identity, suite)),
      'a verified descriptor is in no family that has not certified it',
    );
  },
};

/** A value that has its own way of becoming a string, which fails. */
const oddVersion = () => encodeCbor({ version: { toString: 1, valueOf: 2 } });

const authority = suite.ed25519(fixedBytes('authority', 32));

export const view: FuzzTarget = {
  name: 'view-bundle',
  dictionary: [...cborTokens, 'NYXV', ...['epoch', 'root', 'count', 'params', 'validUntil'].map(text)],
  maxBytes: 16_384,
  executions: 800,
  seeds: () => {
    const dates = { validAfter: testNow, freshUntil: testNow + 3600, validUntil: testNow + 10_800 };
    const bundles = [
      buildView([], dates, suite),
      buildView(descriptors().slice(0, 1).map(makeViewNode), { ...dates, params: { hops: 3 } }, suite),
      buildView(descriptors().slice(0, 3).map(measured), dates, suite),
    ];
    const odd: ViewBundle = { ...bundles[0]!, body: oddVersion() };
    return [odd, ...bundles].flatMap((bundle) => [
      encodeViewBundle(bundle),
      encodeViewBundle(signView(bundle, authority)),
    ]);
  },
  run(input) {
    const bundle = attempt(() => decodeViewBundle(input), DirectoryError);
    if (bundle === undefined) return;
    check(sameBytes(encodeViewBundle(bundle), input), 'encode(decode(x)) is x');
    const authorities = { threshold: 1, keys: [authority.publicKey] };
    // Also signed by one who should not sign such a thing: what lies behind the signature must hold as well.
    for (const signed of [bundle, signView(bundle, authority)]) {
      const verified = attempt(
        () => verifyViewBundle(signed, { authorities, suite, now: testNow + 1 }),
        DirectoryError,
      );
      check(verified === undefined || verified.nodes.length === bundle.view.count, 'as many nodes as signed');
    }
  },
};

/** A node with a history: measured, known for long, its weight not what it says. */
const measured = (descriptor: NodeDescriptor): ViewNode => ({
  descriptor,
  status: { flags: ALL_NODE_FLAGS, bandwidthBytesPerSecond: 12_345, weight: 6789, firstEpoch: 400_000 },
});

/** What anybody may say that an authority goes by: `GET /params`, and the answer to an announcement. */
export const params: FuzzTarget = {
  name: 'params',
  dictionary: [...cborTokens, ...Object.keys(defaultViewParams).map(text)],
  maxBytes: 4096,
  executions: 2000,
  seeds: () => [encodeParams({}), encodeParams(defaultViewParams), encodeParams({ 'puzzle-bits': -1 })],
  run(input) {
    const decoded = attempt(() => decodeParams(input, 'parameters'), DirectoryError);
    if (decoded === undefined) return;
    check(sameBytes(encodeParams(decoded), input), 'encode(decode(x)) is x');
    check(Object.keys(decoded).length <= MAX_VIEW_PARAMS, 'bounded');
    check(Object.values(decoded).every(Number.isSafeInteger), 'integers');
  },
};

export const strictCbor: FuzzTarget = {
  name: 'strict-cbor',
  dictionary: cborTokens,
  maxBytes: 1024,
  executions: 4000,
  seeds: () => [
    encodeCbor({ a: 1, b: [true, null, 'x'], c: new Uint8Array(3) }),
    encodeCbor([]),
    encodeCbor(-1),
    encodeCbor(1.5),
    oddVersion(),
  ],
  run(input) {
    const value = attempt(() => ({ decoded: decodeCbor(input, 'input') }), DirectoryError);
    if (value === undefined) return;
    check(sameBytes(encodeCbor(value.decoded), input), 'encode(decode(x)) is x');
    const reader = attempt(() => new FieldReader(value.decoded, 'input', ['a', 'b', 'c', '__proto__']), DirectoryError);
    if (reader === undefined) return;
    attempt(() => reader.integer('a', 0, 10), DirectoryError);
    attempt(() => reader.array('b', 0, 10), DirectoryError);
    attempt(() => reader.bytes('c', 3), DirectoryError);
    attempt(() => reader.text('__proto__', /x/, 'x'), DirectoryError);
  },
};

export const capabilities: FuzzTarget = {
  name: 'capabilities',
  dictionary: [...cborTokens, text('id'), text('flags'), text('data')],
  maxBytes: 5000,
  executions: 4000,
  seeds: () => [
    encodeCapabilities([]),
    encodeCapabilities(['fec', 'multipath']),
    encodeCbor({ id: 7, flags: 1, data: new Uint8Array(2) }),
  ],
  run(input) {
    const names = decodeCapabilities(input);
    if (names !== undefined) {
      check(names.length <= 64 && names.every((name) => name.length >= 1 && name.length <= 64), 'bounded names');
      check(decodeCapabilities(encodeCapabilities(names))?.join() === names.join(), 'decode(encode(x)) is x');
    }
    const plugin = decodePlugin(input);
    if (plugin !== undefined) check(plugin.id >= 0 && plugin.id <= 0xffff_ffff, 'the id is a u32');
    check(prototypesClean(), 'prototypes are untouched');
  },
};

export const exitPolicy: FuzzTarget = {
  name: 'exit-policy',
  dictionary: [
    'accept ',
    'reject ',
    '*',
    '*:',
    ':80',
    '/0',
    '/32',
    '/129',
    '[::]',
    '[::ffff:1.2.3.4]',
    '-65535',
    '\n',
    '127.1',
    '0x7f.1',
    '010.',
  ],
  maxBytes: 512,
  executions: 4000,
  seeds: () =>
    [
      'accept *:*',
      'reject *:25\naccept 192.0.2.0/24:80-443',
      'accept [2001:db8::]/32:*\nreject [::1]:1',
      'reject 10.0.0.0/8:*\naccept *:443',
    ].map((rules) => new TextEncoder().encode(rules)),
  run(input) {
    const rules = Buffer.from(input).toString('latin1').split('\n');
    const policy = attempt(() => new ExitPolicy(rules), DirectoryError);
    if (policy === undefined) return;
    for (const target of [
      '127.0.0.1',
      '10.1.2.3',
      '::1',
      '::ffff:127.0.0.1',
      'fe80::1',
      '64:ff9b::7f00:1',
      '169.254.1.1',
      '0.0.0.0',
    ]) {
      check(!policy.allows(target, 80), `${target} is never allowed without allowPrivate`);
    }
    for (const port of [0, -1, 65_536, Number.NaN, 1.5])
      check(!policy.allows('1.1.1.1', port), `port ${port} is no port`);
    for (const port of [25, 80, 443, 65_535]) {
      if (policy.allows('1.1.1.1', port) || policy.allows('2606:4700::1', port)) {
        check(policy.mayAllowPort(port), 'what is allowed may be allowed');
      }
    }
  },
};

export const address: FuzzTarget = {
  name: 'address',
  dictionary: ['::', '::ffff:', '0x', '%eth0', '.0', '255.', '2001:db8', '127.0.0.1', '64:ff9b::', ':', '[', ']', '\0'],
  maxBytes: 80,
  executions: 6000,
  seeds: () =>
    ['192.0.2.1', '2001:db8::1', '::1', '::ffff:192.0.2.1', '0.0.0.0', 'fe80::1%1', '::', '1:2:3:4:5:6:7:8'].map(
      (literal) => new TextEncoder().encode(literal),
    ),
  run(input) {
    const literal = Buffer.from(input).toString('latin1');
    const parsed = parseAddress(literal);
    const target = parseTarget(literal);
    check((parsed === undefined) === (target === undefined), 'both take the same literals');
    if (parsed === undefined || target === undefined) {
      check(!isCanonicalAddress(literal), 'what is no address is not canonical');
      return;
    }
    const canonical = parsed.toString();
    check(isCanonicalAddress(canonical), `${canonical} is canonical`);
    check(parseAddress(canonical)?.toString() === canonical, 'the canonical form is stable');
    specialRange(target);
    check(/^[46]:[0-9a-f.:]+$/.test(subnetKey(target)), 'a subnet has a key');
  },
};

export const guardState: FuzzTarget = {
  name: 'guard-state',
  dictionary: [
    '"version":',
    '"sampled":',
    'null',
    '1e308',
    '-1',
    '{"toString":1}',
    '"__proto__":{"polluted":1}',
    '[',
    ']',
    '{}',
    'a'.repeat(64),
  ],
  executions: 3000,
  seeds: () => {
    const record = {
      nodeId: 'ab'.repeat(32),
      sampledAt: testNow,
      confirmedAt: null,
      unlistedSince: null,
      failures: 0,
      retryAt: 0,
    };
    const confirmed = { ...record, nodeId: 'cd'.repeat(32), confirmedAt: testNow, unlistedSince: testNow, failures: 3 };
    return [
      { version: 1, sampled: [] },
      { version: 1, sampled: [record, confirmed] },
    ].map((state) => Buffer.from(JSON.stringify(state)));
  },
  run(input) {
    let value: unknown;
    try {
      value = JSON.parse(Buffer.from(input).toString('utf8'));
    } catch {
      return; // not JSON: the reader of the file says so
    }
    const state = attempt(() => parseGuardState(value), PathError);
    if (state === undefined) return;
    const set = new GuardSet(state);
    check(JSON.stringify(set.state()) === JSON.stringify(state), 'state is kept as it was read');
    const now = testNow + 1000;
    for (const guard of set.usable(now)) {
      set.noteFailure(guard, now);
      set.noteSuccess(guard, now);
    }
    check(set.primaries().length <= 3, 'at most three primaries');
    attempt(() => parseGuardState(JSON.parse(JSON.stringify(set.state()))), PathError);
  },
};

/** Second-layer guards as they were persisted. */
export const secondLayer: FuzzTarget = {
  name: 'second-layer',
  dictionary: [
    '"version":',
    '"members":',
    '"until":',
    'null',
    '1e308',
    '-1',
    '{"toString":1}',
    '"__proto__":{"a":1}',
    '[',
    ']',
  ],
  executions: 2000,
  seeds: () =>
    [
      { version: 1, members: [] },
      { version: 1, members: ['ab', 'cd'].map((byte, i) => ({ nodeId: byte.repeat(32), until: testNow + i })) },
    ].map((state) => Buffer.from(JSON.stringify(state))),
  run(input) {
    let value: unknown;
    try {
      value = JSON.parse(Buffer.from(input).toString('utf8'));
    } catch {
      return; // not JSON: the reader of the file says so
    }
    const state = attempt(() => parseSecondLayerState(value), PathError);
    if (state === undefined) return;
    const layer = new SecondLayer(state);
    check(JSON.stringify(layer.state()) === JSON.stringify(state), 'state is kept as it was read');
    check(new Set(layer.hops()).size === layer.hops().length, 'each node once');
  },
};
