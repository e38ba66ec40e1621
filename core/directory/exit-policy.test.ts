import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DirectoryError } from './directory-error.ts';
import { parseExitPolicy } from './exit-policy.ts';

describe('exit policy', () => {
  test('the first matching rule decides, and the default refuses', () => {
    const policy = parseExitPolicy([
      'reject 8.8.8.0/24:53',
      'accept 8.8.0.0/16:50-60',
      'accept [2606:4700::]/32:443',
      'accept 9.9.9.9:*',
      'reject *:25',
      'accept *:20-30',
    ]);
    const expected: [string, number, boolean][] = [
      ['8.8.8.8', 53, false],
      ['8.8.8.8', 54, true],
      ['8.8.4.4', 53, true],
      ['8.8.4.4', 61, false],
      ['8.9.0.1', 53, false],
      ['2606:4700::1', 443, true],
      ['2606:4701::1', 443, false],
      ['9.9.9.9', 65535, true],
      ['9.9.9.10', 80, false],
      ['1.1.1.1', 25, false],
      ['1.1.1.1', 30, true],
      ['2606:4700::1', 22, true],
      ['::ffff:8.8.8.8', 53, false],
      ['::ffff:8.8.8.8', 54, true],
    ];
    for (const [address, port, allowed] of expected) {
      assert.equal(policy.allows(address, port), allowed, `${address}:${port}`);
    }
    assert.equal(parseExitPolicy([]).allows('1.1.1.1', 80), false);
  });

  test('special ranges are refused whatever the rules say, unless allowed', () => {
    const open = parseExitPolicy(['accept *:*']);
    const local = parseExitPolicy(['accept *:*'], { allowPrivate: true });
    const special = `0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 192.0.0.8 192.0.2.1 192.88.99.1
      192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1
      ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1::1 2002:a00:1::
      3fff::1 4000::1 5f00::1 fc00::1 fd00::1 fe80::1 fec0::1 ff02::1`.split(/\s+/);
    for (const address of special) {
      assert.equal(open.allows(address, 80), false, address);
      assert.equal(local.allows(address, 80), true, address);
    }
    for (const address of ['1.1.1.1', '100.128.0.1', '172.32.0.1', '2606:4700::1', '2a00::1', '::ffff:1.1.1.1']) {
      assert.equal(open.allows(address, 80), true, address);
    }
    assert.equal(parseExitPolicy(['accept *:80'], { allowPrivate: true }).allows('127.0.0.1', 81), false);
  });

  test('what is no literal address, or no port, is refused', () => {
    const open = parseExitPolicy(['accept *:*'], { allowPrivate: true });
    for (const address of [
      '',
      'example.org',
      '127.1',
      '0x7f.0.0.1',
      '010.0.0.1',
      '1.2.3.4.',
      '2130706433',
      'fe80::1%lo',
      '[::1]',
      '1.1.1.1:80',
      ' 1.1.1.1',
      '::1'.padEnd(60, ' '),
    ]) {
      assert.equal(open.allows(address, 80), false, JSON.stringify(address));
    }
    for (const port of [0, -1, 65536, 1.5, Number.NaN]) assert.equal(open.allows('1.1.1.1', port), false, `${port}`);
  });

  test('a name is judged by its port', () => {
    const policy = parseExitPolicy(['reject 8.8.8.8:80', 'accept 1.0.0.0/8:80', 'reject *:81', 'accept *:80-82']);
    assert.equal(policy.mayAllowPort(80), true);
    assert.equal(policy.mayAllowPort(81), false);
    assert.equal(policy.mayAllowPort(82), true);
    assert.equal(policy.mayAllowPort(83), false);
    assert.equal(policy.mayAllowPort(0), false);
    const onlyPrivate = ['accept 127.0.0.0/8:80'];
    assert.equal(parseExitPolicy(onlyPrivate).mayAllowPort(80), false);
    assert.equal(parseExitPolicy(onlyPrivate, { allowPrivate: true }).mayAllowPort(80), true);
    // Networks that begin in a special range, and go beyond it or do not.
    for (const [network, isPublic] of [
      ['0.0.0.0/0', true],
      ['0.0.0.0/8', false],
      ['10.0.0.0/7', true],
      ['172.16.0.0/12', false],
      ['172.0.0.0/11', true],
      ['224.0.0.0/3', false],
      ['192.168.0.0/15', true],
      ['[::]/0', true],
      ['[fc00::]/7', false],
    ] as const) {
      assert.equal(parseExitPolicy([`accept ${network}:80`]).mayAllowPort(80), isPublic, network);
    }
  });

  test('an error quotes the rule and says what would be right', () => {
    const cases: [string, string][] = [
      ['allow *:80', 'exit policy rule "allow *:80" begins with "allow"; write accept or reject'],
      ['accept', 'exit policy rule "accept" is not "accept|reject address:ports", e.g. "accept *:443"'],
      ['accept *', 'exit policy rule "accept *" is not "accept|reject address:ports", e.g. "accept *:443"'],
      [
        'accept *:0',
        'exit policy rule "accept *:0" has "0" as its ports; write *, a port of 1 to 65535, or a range such as 8000-8100',
      ],
      ['accept *:90-80', 'exit policy rule "accept *:90-80" has its port range backwards; write 80-90'],
      [
        'accept 10.0.0.1/8:80',
        'exit policy rule "accept 10.0.0.1/8:80" has address bits outside its prefix; write 10.0.0.0/8',
      ],
      [
        'accept [2001:db8::1]/32:80',
        'exit policy rule "accept [2001:db8::1]/32:80" has address bits outside its prefix; write [2001:db8::]/32',
      ],
      ['accept 1.2.3.4/33:80', 'exit policy rule "accept 1.2.3.4/33:80" has "/33" as its prefix; write /0 to /32'],
      ['accept ::1:80', 'exit policy rule "accept ::1:80" has an IPv6 address without brackets; write "[::1]:…"'],
      [
        'accept example.org:80',
        'exit policy rule "accept example.org:80" has "example.org" as its address; write *, an IPv4 address or an IPv6 address in brackets',
      ],
      [
        'accept 010.0.0.1:80',
        'exit policy rule "accept 010.0.0.1:80" has "010.0.0.1" as its address; write *, an IPv4 address or an IPv6 address in brackets',
      ],
      [
        'accept [::ffff:1.2.3.4]:80',
        'exit policy rule "accept [::ffff:1.2.3.4]:80" names IPv4 as IPv6; write the IPv4 address 1.2.3.4',
      ],
    ];
    for (const [rule, message] of cases) {
      assert.throws(
        () => parseExitPolicy(['accept *:1', rule]),
        (error) =>
          error instanceof DirectoryError &&
          error.code === 'BAD_POLICY' &&
          assert.equal(error.message, message) === undefined,
      );
    }
    assert.throws(() => parseExitPolicy(new Array(65).fill('accept *:1')), /65 rules; at most 64/);
    assert.throws(() => parseExitPolicy([`accept *:${'1'.repeat(100)}`]), /longer than 80/);
  });

  test('arbitrary text parses or gives a DirectoryError', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 90 }), (rule) => {
        try {
          parseExitPolicy([`accept ${rule}`]).allows('1.1.1.1', 80);
        } catch (error) {
          assert.ok(error instanceof DirectoryError, String(error));
        }
      }),
      { seed: 7, numRuns: 1000 },
    );
  });

  test('a random policy decides as a plain reading of its rules does', () => {
    const rule = fc.record({
      accept: fc.boolean(),
      net: fc.constantFrom('*', '20.0.0.0/7', '20.0.0.0/8', '21.1.0.0/16', '20.1.2.3'),
      first: fc.integer({ min: 1, max: 5 }),
      span: fc.integer({ min: 0, max: 3 }),
    });
    const covers: Record<string, (address: string) => boolean> = {
      '*': () => true,
      '20.0.0.0/7': (a) => /^2[01]\./.test(a),
      '20.0.0.0/8': (a) => a.startsWith('20.'),
      '21.1.0.0/16': (a) => a.startsWith('21.1.'),
      '20.1.2.3': (a) => a === '20.1.2.3',
    };
    const addresses = ['20.1.2.3', '20.9.9.9', '21.1.5.5', '21.2.0.0', '22.0.0.1'];
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 6 }), (rules) => {
        const policy = parseExitPolicy(
          rules.map((r) => `${r.accept ? 'accept' : 'reject'} ${r.net}:${r.first}-${r.first + r.span}`),
        );
        for (const address of addresses) {
          for (let port = 1; port <= 8; port++) {
            const hit = rules.find((r) => port >= r.first && port <= r.first + r.span && covers[r.net]!(address));
            assert.equal(policy.allows(address, port), hit?.accept ?? false);
            if (policy.allows(address, port)) assert.ok(policy.mayAllowPort(port));
          }
        }
      }),
      { seed: 7, numRuns: 200 },
    );
  });
});
