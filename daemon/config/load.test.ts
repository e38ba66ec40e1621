import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatAddress, isWildcard, parseAddress } from './address.ts';
import { ConfigError } from './config-error.ts';
import { defaultConfig, loadConfig, parseConfig } from './load.ts';
import { loadConfigApart } from './load-apart.ts';

const KEY = 'ab'.repeat(32);
const base = `directory:
  authorities: { keys: [${KEY}] }
  sources: [http://127.0.0.1:9030]
`;

test('a minimal client gets every default', () => {
  const config = parseConfig(base, 'nyx.yaml', '/etc/nyx');
  assert.deepEqual(config.roles, ['client']);
  assert.deepEqual(config.proxies.socks, { host: '127.0.0.1', port: 9150 });
  assert.equal(config.path.hops, 3);
  assert.equal(config.dataDir, '/etc/nyx/nyx-data');
  assert.equal(config.api.socket, '/etc/nyx/nyx-data/api.sock');
  assert.equal(config.debug.allowCrash, false);
  assert.equal(config.exit.policy.at(-1), 'accept *:*');
});

test('with a control plane there need be no sources', () => {
  const config = parseConfig(
    `directory:\n  authorities: { keys: [${KEY}] }\np2p:\n  enabled: true\n  bootstrap: [/ip4/127.0.0.1/tcp/9040]\n`,
    'nyx.yaml',
  );
  assert.deepEqual(config.p2p.bootstrap, ['/ip4/127.0.0.1/tcp/9040']);
  assert.deepEqual(config.p2p.listen, []);
  assert.equal(config.p2p.limits.maxPerSubnet, 32);
});

test('everything that can be written is read', () => {
  const config = parseConfig(
    `${base}  listen: 127.0.0.1:0
dataDir: /var/lib/nyx
roles: [mix, exit]
listen: "[::]:9001"
announce: ["[2001:db8::1]:9001"]
family: [op1]
proxies: { socks: off }
exit:
  policy:
    - accept *:443
    - reject *:*
api:
  listen: 0.0.0.0:9443
  tls: { certFile: c.pem, keyFile: k.pem }
  tokenFile: token
metrics: { listen: "127.0.0.1:0" }
`,
    'nyx.yaml',
    '/etc/nyx',
  );
  assert.deepEqual(config.listen, [{ host: '::', port: 9001 }]);
  assert.equal(config.proxies.socks, undefined);
  assert.deepEqual(config.exit.policy, ['accept *:443', 'reject *:*']);
  assert.equal(config.api.tls?.certFile, '/etc/nyx/c.pem');
  assert.deepEqual(config.metrics.listen, { host: '127.0.0.1', port: 0 });
});

test('a node listens at several addresses, of both families', () => {
  const relay = `${base}roles: [mix]\n`;
  const dual = parseConfig(
    `${relay}listen: [0.0.0.0:9001, "[::]:9001"]\nannounce: [203.0.113.5:9001, "[2001:DB8:0::5]:9001"]\naddressFamilies: [ipv4, ipv6]\n`,
    'nyx.yaml',
  );
  assert.deepEqual(
    dual.listen.map(({ host }) => host),
    ['0.0.0.0', '::'],
  );
  // As descriptors write it.
  assert.deepEqual(dual.announce[1], { host: '2001:db8::5', port: 9001 });
  assert.equal(parseConfig(base, 'nyx.yaml').addressFamilies, 'auto');
  assert.deepEqual(parseConfig(base, 'nyx.yaml').listen, []);
});

const relays = `${base}roles: [mix]\n`;

/** What is wrong → the line that is reported, with its place. */
const bad: readonly (readonly [title: string, yaml: string, expected: RegExp])[] = [
  [
    'a listen address in a list that is none',
    `${relays}listen: [127.0.0.1:9001, "::1:9001"]\n`,
    /^t:5:26: listen\[1\] "::1:9001" is not an address; write IPv4:PORT or \[IPv6\]:PORT/,
  ],
  [
    'a single listen address that is none',
    `${relays}listen: example.org:9001\n`,
    /^t:5:9: listen "example\.org:9001" is not an address; write /,
  ],
  ['a listen key that is no address at all', `${relays}listen: 9001\n`, /^t:5:9: listen is 9001; must be an address /],
  [
    'more listen addresses than there may be',
    `${relays}listen: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3, 127.0.0.1:4, 127.0.0.1:5]\n`,
    /^t:5:9: listen is a list; must have 1…4 addresses$/,
  ],
  [
    'one listen address twice',
    `${relays}listen: [127.0.0.1:9001, "[::1]:9001", 127.0.0.1:9001]\n`,
    /^t:5:40: listen\[2\] is there twice; write each address once$/,
  ],
  [
    'an announced family at which nothing listens',
    `${relays}listen: 0.0.0.0:9001\nannounce: [203.0.113.5:9001, "[2001:db8::5]:9001"]\n`,
    /^t:6:30: announce\[1\] is IPv6, but nothing listens there; add an address such as "\[::\]:9001" to listen$/,
  ],
  [
    'a wildcard of a family that is not announced',
    `${relays}listen: [0.0.0.0:9001, "[::]:9001"]\nannounce: [203.0.113.5:9001]\n`,
    /^t:6:11: announce has no IPv6 address, but this node listens at ::; say where others reach it, e\.g\. "\[2001:db8::5\]:9001"$/,
  ],
  [
    'an announced IPv4 address in the clothes of IPv6',
    `${relays}listen: "[::]:9001"\nannounce: ["[::ffff:203.0.113.5]:9001"]\n`,
    /^t:6:12: announce\[0\] "\[::ffff:203\.0\.113\.5\]:9001" is an IPv4 address written as IPv6; /,
  ],
  [
    'a family of addresses that is none',
    `${base}addressFamilies: [ipv5]\n`,
    /^t:4:18: addressFamilies is a list; must be auto, or a list of ipv4 and ipv6$/,
  ],
  [
    'an address of a family that is left out',
    `${relays}listen: "[::1]:9001"\naddressFamilies: [ipv4]\n`,
    /^t:5:9: listen is IPv6, which addressFamilies leaves out; add ipv6 there or remove it$/,
  ],
  [
    'a bootstrap address that is a name',
    `${base}p2p:\n  enabled: true\n  bootstrap: [/dns4/example.org/tcp/1]\n`,
    /^t:6:15: p2p\.bootstrap\[0\] is "\/dns4\/example\.org\/tcp\/1"; must be \/ip4\/ADDRESS\/tcp\/PORT/,
  ],
  [
    'a bootstrap address that nobody reaches',
    `${base}p2p:\n  enabled: true\n  bootstrap: [/ip4/0.0.0.0/tcp/1]\n`,
    /^t:6:15: p2p\.bootstrap\[0\] is a wildcard; give the address that others reach$/,
  ],
  [
    'a control plane that nobody enabled',
    `${base}p2p:\n  listen: [/ip4/127.0.0.1/tcp/1]\n`,
    /^t:5:11: p2p\.listen is of no use without p2p\.enabled: true; add that or remove it$/,
  ],
  [
    'a control plane without a beginning',
    `${base}p2p:\n  enabled: true\n`,
    /p2p\.bootstrap is empty; give an address of a peer to begin with, or listen for others, or set p2p\.mdns: true$/,
  ],
  ['misspelt key', `${base}lissten: 1\n`, /^t:4:1: lissten is not a known key; did you mean listen\?$/],
  ['misspelt nested key', `${base}path:\n  hopps: 3\n`, /^t:5:3: path\.hopps is not a known key; did you mean hops\?$/],
  [
    'unknown key, nothing near',
    `${base}path:\n  colour: 3\n`,
    /^t:5:3: path\.colour is not a known key; known here: hops, /,
  ],
  ['too few hops', `${base}path: { hops: 2 }\n`, /^t:4:15: path\.hops is 2; must be 3…7$/],
  ['too many hops', `${base}path: { hops: 8 }\n`, /^t:4:15: path\.hops is 8; must be 3…7$/],
  ['fraction of a hop', `${base}path: { hops: 3.5 }\n`, /^t:4:15: path\.hops is 3\.5; must be a whole number/],
  ['wrong type', `${base}workers: many\n`, /^t:4:10: workers is "many"; must be a number$/],
  ['empty value', `${base}workers:\n`, /^t:4:\d+: workers is empty; must be a number$/],
  ['list for a section', `${base}path: [3]\n`, /^t:4:7: path is a list; must be a section with keys$/],
  [
    'unknown role',
    `${base}roles: [client, relay]\n`,
    /^t:4:17: roles\[1\] is "relay"; must be client, mix, exit or mailbox$/,
  ],
  ['role twice', `${base}roles: [client, client]\n`, /^t:4:8: roles names a role twice/],
  [
    'not an address',
    `${base}metrics: { listen: example.org }\n`,
    /^t:4:20: metrics\.listen "example.org" is not an address; write /,
  ],
  [
    'port too large',
    `${base}proxies: { socks: "127.0.0.1:70000" }\n`,
    /^t:4:19: proxies\.socks is "127.0.0.1:70000"; must be an address such as/,
  ],
  [
    'open SOCKS',
    `${base}proxies: { socks: "0.0.0.0:9150" }\n`,
    /^t:4:19: proxies\.socks would answer 0\.0\.0\.0, where anyone .*allowRemote: true/,
  ],
  [
    'open HTTP CONNECT',
    `${base}proxies: { httpConnect: "192.168.1.1:9" }\n`,
    /^t:4:25: proxies\.httpConnect would answer 192\.168\.1\.1/,
  ],
  [
    'public metrics',
    `${base}metrics: { listen: "0.0.0.0:1" }\n`,
    /^t:4:20: metrics\.listen is .*must be a loopback address/,
  ],
  [
    'bad exit rule',
    `${base}exit:\n  policy: [accept *:80, acept *:81]\n`,
    /^t:5:25: exit\.policy\[1\] .*acept \*:81.*; write accept or reject and HOST:PORT/,
  ],
  [
    'relay without listen',
    `${base}roles: [mix]\n`,
    /^t:1:1: listen is missing; the roles mix and exit need an address/,
  ],
  [
    'wildcard without announce',
    `${base}roles: [mix]\nlisten: 0.0.0.0:9001\n`,
    /announce is missing; with a wildcard listen address/,
  ],
  [
    'listen without relay role',
    `${base}listen: 127.0.0.1:1\n`,
    /^t:4:9: listen is of no use without the role mix or exit/,
  ],
  [
    'API on TCP without TLS',
    `${base}api: { listen: 127.0.0.1:1, tokenFile: t }\n`,
    /^t:4:\d+: api\.tls is missing; the API listens on TCP only with TLS/,
  ],
  [
    'API on TCP without credentials',
    `${base}api: { listen: 127.0.0.1:1, tls: { certFile: a, keyFile: b } }\n`,
    /api\.tokenFile is missing; the API on TCP needs a bearer token/,
  ],
  [
    'long socket path',
    `${base}api: { socket: /${'x'.repeat(120)} }\n`,
    /api\.socket is 121 bytes long; Unix sockets allow 103/,
  ],
  [
    'bad authority key',
    `directory: { sources: [a], authorities: { keys: [abc] } }\n`,
    /^t:1:50: directory\.authorities\.keys\[0\] is "abc"; must be an Ed25519 public key/,
  ],
  ['no authority', `directory: { sources: [a] }\n`, /directory\.authorities\.keys is empty; list the public keys/],
  [
    'no source',
    `directory: { authorities: { keys: [${KEY}] } }\n`,
    /directory\.sources is empty; give at least one URL/,
  ],
  [
    'threshold out of reach',
    `directory: { sources: [a], authorities: { threshold: 2, keys: [${KEY}] } }\n`,
    /directory\.authorities\.threshold is 2, but there are 1 keys; must be 1…1$/,
  ],
  [
    'a threshold that half of the authorities make twice',
    `directory: { sources: [a], authorities: { threshold: 1, keys: [${KEY}, ${KEY.replace(/^../, '00')}] } }\n`,
    /threshold with 1 of 2, 0 lying authorities .* two views for one epoch .*must be at least 2, which bears 0 dead ones$/,
  ],
  [
    'a threshold too low for the liars to be borne',
    `directory: { sources: [a], authorities: { threshold: 2, liars: 1, keys: [${['00', '01', '02'].map((byte) => KEY.replace(/^../, byte)).join(', ')}] } }\n`,
    /with 2 of 3, 1 lying .*must be at least 3, which bears 0 dead ones$/,
  ],
  [
    'more liars than any threshold bears',
    `directory: { sources: [a], authorities: { liars: 2, keys: [${KEY}, ${KEY.replace(/^../, '00')}] } }\n`,
    /liars with 2 of 2, 2 lying .*can not be borne by 2 authorities: give fewer liars$/,
  ],
  [
    'authority without the others',
    `directory: { listen: "127.0.0.1:1", authorities: { keys: [${KEY}, ${KEY.replace(/^../, '00')}] } }\nauthority: { keyFile: k }\n`,
    /authority\.peers .*has 0 entries; with 2 authorities there must be 1, one for each of the others/,
  ],
  [
    'stranger among the authorities',
    `directory: { listen: "127.0.0.1:1", authorities: { keys: [${KEY}, ${KEY.replace(/^../, '00')}] } }\nauthority: { keyFile: k, peers: [{ key: ${KEY.replace(/^../, '11')}, url: "http://a" }] }\n`,
    /authority\.peers\[0\]\.key .*is not among directory\.authorities\.keys/,
  ],
  [
    'phases that do not fit',
    `epochSeconds: 10\ndirectory: { listen: "127.0.0.1:1" }\nauthority: { keyFile: k, phaseMs: 2000 }\n`,
    /authority\.phaseMs .*is 2000; a round of 3 phases must fit twice into an epoch: at most 1666/,
  ],
  [
    'puzzle beyond what is bearable',
    `directory: { listen: "127.0.0.1:1" }\nauthority: { keyFile: k, params: { puzzleBits: 40 } }\n`,
    /authority\.params\.puzzleBits is 40; must be 0…16/,
  ],
  [
    'source of another kind',
    `directory: { sources: ["ftp://x"], authorities: { keys: [${KEY}] } }\n`,
    /directory\.sources\[0\] is "ftp:\/\/x"; must be an http:\/\//,
  ],
  [
    'two passphrases',
    `${base}keys: { passphraseFile: a, passphraseEnv: B }\n`,
    /keys\.passphraseEnv is given beside passphraseFile/,
  ],
  ['not YAML', 'a: [1\n', /^t:\d+:\d+: is not valid YAML: /],
  ['key twice', `${base}workers: 1\nworkers: 2\n`, /^t:5:1: is not valid YAML: Map keys must be unique/],
  ['not a mapping', '- 1\n', /^t:1:1: is a list; must be a section with keys$/],
  ['empty file', '', /directory\.authorities\.keys is empty/],
];

for (const [title, yaml, expected] of bad) {
  test(`refused: ${title}`, () => {
    assert.throws(
      () => parseConfig(yaml, 't', '/b'),
      (error: unknown) => {
        assert.ok(error instanceof ConfigError, String(error));
        assert.ok(
          error.message.split('\n').some((line) => expected.test(line)),
          `no line matches ${expected}:\n${error.message}`,
        );
        return true;
      },
    );
  });
}

test('all problems are reported at once', () => {
  assert.throws(
    () => parseConfig(`${base}path: { hops: 2 }\nworkers: 0\n`, 't'),
    (error: unknown) => error instanceof ConfigError && error.issues.length === 2,
  );
});

test('from a file: paths are relative to it, and a missing file is a ConfigError', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-config-'));
  try {
    writeFileSync(join(folder, 'nyx.yaml'), `${base}dataDir: data\n`);
    assert.equal(loadConfig(join(folder, 'nyx.yaml')).dataDir, join(folder, 'data'));
    assert.throws(() => loadConfig(join(folder, 'none.yaml')), ConfigError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('read in a thread of its own it is the same, and so are the problems', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-config-'));
  try {
    const [good, bad] = [join(folder, 'good.yaml'), join(folder, 'bad.yaml')];
    writeFileSync(good, `${base}dataDir: data\npath: { hops: 5 }\n`);
    writeFileSync(bad, `${base}path: { hops: 2 }\nworkers: 0\n`);
    assert.deepEqual(await loadConfigApart(good), loadConfig(good));
    for (const path of [bad, join(folder, 'none.yaml')]) {
      let expected: unknown;
      try {
        loadConfig(path);
      } catch (error) {
        expected = error;
      }
      const thrown = await loadConfigApart(path).catch((error: unknown) => error);
      assert.ok(thrown instanceof ConfigError && expected instanceof ConfigError);
      assert.deepEqual([thrown.message, thrown.issues], [expected.message, expected.issues]);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('defaultConfig takes overrides', () => {
  const config = defaultConfig(
    { directory: { authorities: { keys: [KEY] }, sources: ['x'] }, path: { hops: 5 } },
    '/d',
  );
  assert.equal(config.path.hops, 5);
  assert.deepEqual(config.directory.sources, ['/d/x']);
});

test('addresses', () => {
  assert.deepEqual(parseAddress('[::1]:80'), { host: '::1', port: 80 });
  assert.deepEqual(parseAddress('localhost:80'), { host: '127.0.0.1', port: 80 });
  for (const text of ['1.2.3:1', '::1:80', 'a:1', '1.2.3.4', '1.2.3.4:65536', '[1.2.3.4]:1', ':80', '1.2.3.4:-1']) {
    assert.equal(parseAddress(text), undefined, text);
  }
  assert.equal(formatAddress({ host: '::1', port: 80 }), '[::1]:80');
  assert.equal(formatAddress(undefined), '');
  assert.ok(isWildcard('::') && isWildcard('0.0.0.0') && !isWildcard('::1') && !isWildcard('127.0.0.1'));
});
