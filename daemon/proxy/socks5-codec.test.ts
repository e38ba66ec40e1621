import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodeDatagram,
  encodeReply,
  maxMessageBytes,
  type Parsed,
  parseCredentials,
  parseDatagram,
  parseGreeting,
  parseRequest,
  Socks5Reply,
} from './socks5-codec.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

test('a greeting lists its methods and leaves what follows', () => {
  const parsed = parseGreeting(hex('05 02 00 02 05 01'));
  assert.ok(parsed.kind === 'value');
  assert.deepEqual([...parsed.value], [0, 2]);
  assert.equal(parsed.sizeBytes, 4);
});

test('credentials are copied, and may be empty', () => {
  const bytes = hex('01 03 616263 02 7a7a ff');
  const parsed = parseCredentials(bytes);
  assert.ok(parsed.kind === 'value');
  bytes.fill(0);
  assert.equal(Buffer.from(parsed.value.username).toString(), 'abc');
  assert.equal(Buffer.from(parsed.value.password).toString(), 'zz');
  assert.equal(parsed.sizeBytes, 8);
  const empty = parseCredentials(hex('01 00 00'));
  assert.ok(empty.kind === 'value');
  assert.equal(empty.sizeBytes, 3);
});

test('requests by address type and command', () => {
  const cases: [string, string, string, number, boolean][] = [
    ['05 01 00 01 c0000201 01bb', 'connect', '192.0.2.1', 443, true],
    ['05 01 00 04 20010db8000000000000000000000001 0050', 'connect', '2001:db8::1', 80, true],
    ['05 01 00 03 0b 6578616d706c652e636f6d 0050', 'connect', 'example.com', 80, false],
    ['05 01 00 03 09 3139322e302e322e31 0050', 'connect', '192.0.2.1', 80, true],
    ['05 02 00 01 00000000 0000', 'bind', '0.0.0.0', 0, true],
    ['05 03 00 01 00000000 0000', 'udp-associate', '0.0.0.0', 0, true],
    ['05 f0 00 03 01 61 0000', 'resolve', 'a', 0, false],
    ['05 f1 00 01 c0000201 0000', 'resolve-ptr', '192.0.2.1', 0, true],
  ];
  for (const [bytes, command, host, port, literal] of cases) {
    const parsed = parseRequest(hex(bytes));
    assert.ok(parsed.kind === 'value', bytes);
    assert.deepEqual(parsed.value, { command, host, port, literal });
    assert.equal(parsed.sizeBytes, hex(bytes).length);
  }
});

test('a name of 255 bytes passes', () => {
  const name = Buffer.alloc(255, 'x');
  const parsed = parseRequest(Buffer.concat([hex('05 01 00 03 ff'), name, hex('0050')]));
  assert.ok(parsed.kind === 'value');
  assert.equal(parsed.value.host.length, 255);
});

test('requests that no client should send', () => {
  const cases: [string, Socks5Reply][] = [
    ['04', Socks5Reply.generalFailure],
    ['05 09', Socks5Reply.commandNotSupported],
    ['05 00', Socks5Reply.commandNotSupported],
    ['05 01 01', Socks5Reply.generalFailure],
    ['05 01 00 02', Socks5Reply.addressTypeNotSupported],
    ['05 01 00 00', Socks5Reply.addressTypeNotSupported],
    ['05 01 00 03 00', Socks5Reply.generalFailure],
    ['05 01 00 03 02 6100 0050', Socks5Reply.generalFailure],
    ['05 01 00 03 02 610a 0050', Socks5Reply.generalFailure],
    ['05 01 00 03 02 61ff 0050', Socks5Reply.generalFailure],
    ['05 01 00 03 02 6120 0050', Socks5Reply.generalFailure],
  ];
  for (const [bytes, reply] of cases) {
    const parsed = parseRequest(hex(bytes));
    assert.ok(parsed.kind === 'bad', bytes);
    assert.equal(parsed.reply, reply, bytes);
  }
});

test('replies carry literal addresses and names', () => {
  assert.equal(Buffer.from(encodeReply(0)).toString('hex'), '05000001000000000000');
  assert.equal(Buffer.from(encodeReply(0, '192.0.2.1', 258)).toString('hex'), '05000001c00002010102');
  assert.equal(
    Buffer.from(encodeReply(0, '2001:db8::1', 1)).toString('hex'),
    '0500000420010db80000000000000000000000010001',
  );
  assert.equal(Buffer.from(encodeReply(0, 'a.test', 0)).toString('hex'), '0500000306612e746573740000');
  assert.throws(() => encodeReply(0, 'x'.repeat(256), 0), RangeError);
});

test('datagrams come back as they were sent', () => {
  const host = fc.constantFrom('192.0.2.1', '2001:db8::1', 'name.test', 'x'.repeat(255));
  fc.assert(
    fc.property(host, fc.integer({ min: 0, max: 65_535 }), fc.uint8Array({ maxLength: 2000 }), (name, port, data) => {
      const parsed = parseDatagram(encodeDatagram(name, port, data));
      assert.ok(parsed !== undefined);
      assert.equal(parsed.host, name);
      assert.equal(parsed.port, port);
      assert.equal(parsed.fragment, 0);
      assert.deepEqual(Buffer.from(parsed.data), Buffer.from(data));
    }),
  );
});

/** Mostly sensible bytes with something wrong somewhere: pure noise would never get past the first field. */
const almostMessages = fc
  .tuple(
    fc.constantFrom(
      '05 03 00 01 02',
      '01 03 616263 02 7a7a',
      '05 01 00 03 0b 6578616d706c652e636f6d 0050',
      '05 01 00 04 20010db8000000000000000000000001 0050',
      '05 f1 00 01 c0000201 0000',
      '00 00 00 03 04 61626364 0035 ffff',
    ),
    fc.array(fc.tuple(fc.nat(40), fc.nat(255)), { maxLength: 3 }),
    fc.uint8Array({ maxLength: 600 }),
  )
  .map(([base, changes, tail]) => {
    const bytes = Buffer.concat([hex(base), tail]);
    for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
    return bytes;
  });

test('parsers never throw, are bounded, and do not depend on how bytes arrive', () => {
  const parsers: ((bytes: Uint8Array) => Parsed<unknown>)[] = [parseGreeting, parseCredentials, parseRequest];
  fc.assert(
    fc.property(fc.oneof(almostMessages, fc.uint8Array({ maxLength: 700 })), (bytes) => {
      for (const parse of parsers) {
        const whole = parse(bytes);
        if (whole.kind === 'more') assert.ok(bytes.length < maxMessageBytes);
        if (whole.kind === 'value') assert.ok(whole.sizeBytes <= Math.min(bytes.length, maxMessageBytes));
        // Cut off anywhere, it is either incomplete or already what it will be.
        for (let length = 0; length < Math.min(bytes.length, 40); length++) {
          const part = parse(bytes.subarray(0, length));
          if (part.kind !== 'more') assert.deepEqual(part, whole);
        }
      }
      parseDatagram(bytes);
    }),
    { numRuns: 2000 },
  );
});
