import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, test } from 'node:test';
import { NyxError } from '@nyx/sdk/index.ts';
import { parseBytes, parseDurationMs, parseHostPort } from './arguments.ts';
import { formatControlPlane } from './commands/peers.ts';
import { formatTree } from './commands/status.ts';
import { explainFailure } from './exit-codes.ts';
import { apiAddress } from './find-daemon.ts';
import { run } from './main.ts';
import { type Io, printJson } from './output.ts';
import { readPointer, writePointer } from './pointer.ts';

const dir = mkdtempSync(join(tmpdir(), 'nyx-cli-'));
after(() => rmSync(dir, { recursive: true, force: true }));

function testIo(): Io & { text(name: 'stdout' | 'stderr'): string } {
  const streams = { stdout: new PassThrough(), stderr: new PassThrough() };
  return {
    stdin: new PassThrough(),
    ...streams,
    env: { HOME: dir },
    cwd: dir,
    signal: new AbortController().signal,
    text: (name) => {
      let text = '';
      for (let chunk = streams[name].read(); chunk !== null; chunk = streams[name].read()) text += String(chunk);
      return text;
    },
  };
}

const badLines: readonly (readonly [string, RegExp])[] = [
  ['nonsense', /unknown command 'nonsense'/],
  ['status --hops 3', /unknown option '--hops'/],
  ['bench --hops 2', /from 3 to 7/],
  ['bench --hops 8', /from 3 to 7/],
  ['bench --hops three', /from 3 to 7/],
  ['bench --bytes lots', /such as 64MiB/],
  ['bench --streams 0', /from 1 to 64/],
  ['bench --duration 2h', /such as 10s/],
  ['bench --via pigeon', /Allowed choices are socks, api/],
  ['bench --class quick', /fast, mix or cmix/],
  ['bench --target here', /HOST:PORT/],
  ['connect', /missing required argument/],
  ['connect example.com', /HOST:PORT/],
  ['connect example.com:0', /HOST:PORT/],
  ['connect example.com:70000', /HOST:PORT/],
  ['connect a:1 b:2', /too many arguments/],
  ['paths close x', /whole number/],
  ['paths build --nodes aa,bb', /64 hex digits/],
  ['events --kinds weather', /link, circuit, path, session, stream/],
  ['authority key', /required option '--file/],
  ['authority key --file nowhere.key', /--create/],
  ['status --api http://localhost:1', /https:/],
  ['status --tls-cert cli.test.ts', /--tls-cert/],
  ['up --mixes 1', /from 2 to 32/],
  ['up --mixes 3 --hops 7', /--mixes 6/],
];

for (const [line, says] of badLines) {
  test(`\`${line}\` is a usage error that says what would be right`, async () => {
    const io = testIo();
    assert.equal(await run(line.split(' '), io), 2);
    const text = io.text('stderr');
    assert.match(text, says);
    assert.doesNotMatch(text, /\n\s+at /, 'a stack trace');
  });
}

test('help and version are no errors; help shows the exit codes', async () => {
  const io = testIo();
  assert.equal(await run(['--help'], io), 0);
  assert.match(io.text('stdout'), /3 daemon not reachable/);
  assert.equal(await run(['--version'], io), 0);
});

for (const command of ['status', 'paths', 'keys', 'events', 'bench', 'connect a:1']) {
  test(`\`${command}\` without a daemon: exit code 3 and how to start one, also as JSON`, async () => {
    const io = testIo();
    const argv = [...command.split(' '), '--api', join(dir, 'none.sock')];
    assert.equal(await run(argv, io), 3);
    assert.match(io.text('stderr'), /nyx-cli (up|daemon)/);
    assert.equal(await run([...argv, '--json'], io), 3);
    const failure = JSON.parse(io.text('stdout')) as Record<string, unknown>;
    assert.equal(failure.ok, false);
    assert.equal(failure.code, 'DAEMON_UNREACHABLE');
  });
}

test('config check says that a file is good, or where each mistake is, without a daemon', async () => {
  const directory = `directory:\n  sources: [http://127.0.0.1:9030]\n  authorities: { keys: [${'ab'.repeat(32)}] }\n`;
  writeFileSync(join(dir, 'good.yaml'), directory);
  writeFileSync(join(dir, 'bad.yaml'), `${directory}roles: [mix]\nlisten: 127.0.0.1:99999\nbandwith: 12\n`);
  const io = testIo();
  assert.equal(await run(['config', 'check', 'good.yaml'], io), 0);
  assert.match(io.text('stdout'), /^good\.yaml: ok$/m);
  assert.equal(await run(['config', 'check', 'bad.yaml'], io), 1);
  const text = io.text('stdout');
  assert.match(text, /^bad\.yaml:5:9 +listen +.*port/m);
  assert.match(text, /^bad\.yaml:6:1 +bandwith +/m);
  assert.match(io.text('stderr'), /bad\.yaml has 2 mistakes/);
  assert.equal(await run(['config', 'check', 'bad.yaml', '--json'], io), 1);
  const report = JSON.parse(io.text('stdout'));
  assert.equal(report.ok, false);
  assert.deepEqual(
    report.issues.map(({ line, column, key }: Record<string, unknown>) => [line, column, key]),
    [
      [5, 9, 'listen'],
      [6, 1, 'bandwith'],
    ],
  );
  assert.equal(await run(['config', 'check', 'nowhere.yaml'], io), 1);
  assert.match(io.text('stdout'), /nowhere\.yaml .*cannot be read/);
});

test('JSON has the fields of a message and not the marks of those that are optional', () => {
  const io = testIo();
  printJson(io, { links: [{ linkId: 2, rttMs: 1.5, _rttMs: 'rttMs', _own: 'kept' }] });
  assert.equal(io.text('stdout'), '{"links":[{"linkId":2,"rttMs":1.5,"_own":"kept"}]}\n');
});

test('failures become exit codes and say what to do next', () => {
  const exit = (code: ConstructorParameters<typeof NyxError>[0]) => explainFailure(new NyxError(code, 'x'));
  assert.equal(exit('NO_PATH').exitCode, 4);
  assert.equal(exit('PATH_FAILED').exitCode, 4);
  assert.equal(exit('CONNECTION_REFUSED').exitCode, 5);
  assert.equal(exit('EXIT_POLICY').exitCode, 5);
  assert.equal(exit('BAD_REQUEST').exitCode, 2);
  assert.equal(exit('INTERNAL').exitCode, 1);
  assert.match(exit('NO_PATH').next, /nyx-cli status/);
  const violated = new NyxError('BAD_REQUEST', 'invalid', {
    violations: [{ field: 'hops', description: '9 is more than 7' }],
  });
  assert.match(explainFailure(violated).message, /hops: 9 is more than 7/);
  assert.equal(explainFailure(new TypeError('boom')).exitCode, 1);
});

test('the daemon is looked for in the documented order', () => {
  const io = testIo();
  const env: NodeJS.ProcessEnv = { HOME: '/h' };
  const look = (api?: string) => apiAddress({ api }, { ...io, env });
  assert.deepEqual(look(), { socketPath: '/h/.nyx/api.sock' });
  const remove = writePointer({ pid: process.pid, apiSocket: '/net/api.sock' }, env, dir);
  assert.deepEqual(look(), { socketPath: '/net/api.sock' });
  env.NYX_API_SOCKET = '/env.sock';
  assert.deepEqual(look(), { socketPath: '/env.sock' });
  assert.deepEqual(look('/given.sock'), { socketPath: '/given.sock' });
  assert.deepEqual(look('example.org:7000'), { address: 'example.org:7000' });
  remove();
  assert.equal(readPointer({}, dir), undefined);
});

test('a pointer is found from below, and ignored when its process is gone or it is garbage', async () => {
  const below = join(dir, 'a', 'b');
  mkdirSync(below, { recursive: true });
  const remove = writePointer({ pid: process.pid, apiSocket: '/s' }, {}, dir);
  assert.equal(readPointer({}, below)?.apiSocket, '/s');
  remove();
  const child = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => child.once('exit', resolve));
  const file = join(dir, '.nyx', 'local-network.json');
  writeFileSync(file, JSON.stringify({ pid: child.pid, apiSocket: '/s' }));
  assert.equal(readPointer({}, dir), undefined);
  for (const garbage of ['{"pid":', '{"pid":-1,"apiSocket":"/s"}', '{"pid":1}', '[]', 'null']) {
    writeFileSync(file, garbage);
    assert.equal(readPointer({}, dir), undefined, garbage);
  }
});

test('sizes, times and addresses are read as people write them', () => {
  assert.equal(parseBytes('64MiB'), 67_108_864);
  assert.equal(parseBytes('1.5kB'), 1500);
  assert.equal(parseBytes('7'), 7);
  assert.equal(parseDurationMs('10'), 10_000);
  assert.equal(parseDurationMs('250ms'), 250);
  assert.equal(parseDurationMs('2m'), 120_000);
  assert.deepEqual(parseHostPort('[2001:db8::1]:80'), { host: '2001:db8::1', port: 80 });
  assert.deepEqual(parseHostPort('a.example:443'), { host: 'a.example', port: 443 });
});

test('the supervision tree shows crashes and restarts, nested', () => {
  const child = {
    restart: 'permanent',
    status: 'running',
    restarts: 0,
    uptimeSeconds: 1,
    inboxLength: 0,
    inboxLimit: 0,
    inboxDropped: 0,
  };
  const lines = formatTree({
    id: 'root',
    strategy: 'one_for_one',
    children: [
      {
        ...child,
        id: 'pumps',
        supervisor: {
          id: 'pumps',
          strategy: 'one_for_all',
          children: [{ ...child, id: 'pump-0', restarts: 2, lastError: 'crashed on purpose' }],
        },
      },
    ],
  });
  assert.deepEqual(lines, [
    'root (one_for_one)',
    '  pumps: running, permanent',
    '    pumps (one_for_all)',
    '      pump-0: running, permanent, restarted 2×, last error: crashed on purpose',
  ]);
});

test('authority key makes a key where told to, and gives the same public key each time', async () => {
  const file = join(dir, 'authority.key');
  const io = testIo();
  assert.equal(await run(['authority', 'key', '--file', 'authority.key', '--create'], io), 0);
  const publicKey = io.text('stdout').trim();
  assert.match(publicKey, /^[0-9a-f]{64}$/);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(await run(['authority', 'key', '--file', file, '--json'], io), 0);
  assert.deepEqual(JSON.parse(io.text('stdout')), { publicKey });
  // RFC 8032, section 7.1, test 1.
  writeFileSync(file, '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n', { mode: 0o600 });
  assert.equal(await run(['authority', 'key', '--file', file], io), 0);
  assert.equal(io.text('stdout').trim(), 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a');
  chmodSync(file, 0o644);
  assert.equal(await run(['authority', 'key', '--file', file], io), 1);
  assert.match(io.text('stderr'), /chmod/);
});

test('peers: what is known of each peer of the control plane, and what was refused', () => {
  assert.match(formatControlPlane(undefined), /p2p\.enabled: true/);
  const text = formatControlPlane({
    peerId: '12D3KooWself',
    addresses: ['/ip4/192.0.2.1/tcp/9040/p2p/12D3KooWself'],
    serving: true,
    peers: [
      {
        peerId: '12D3KooWnode',
        nodeId: 'ab'.repeat(32),
        authority: true,
        address: '/ip4/192.0.2.2/tcp/9040',
        inbound: false,
        connectedSeconds: 75,
        rttMs: 12,
        protocols: ['/ipfs/id/1.0.0', '/nyx/kad/1', '/nyx/view/1'],
      },
      {
        peerId: '12D3KooWclient',
        authority: false,
        address: '/ip4/192.0.2.3/tcp/50000',
        inbound: true,
        connectedSeconds: 1,
        protocols: [],
      },
    ],
    ...{ routingPeers: 1, storedPeers: 2, deniedPeers: 0, records: 3, refusals: { malformed: 4 }, peersDenied: 1 },
    ...{ connectionsRefused: 5, descriptorsReceived: 6, descriptorsRelayed: 7, descriptorsDelivered: 8 },
    ...{ viewsServed: 9, viewsFetched: 1, viewBytesServed: 2048, viewBytesFetched: 1024 },
  });
  assert.match(text, /listening +\/ip4\/192\.0\.2\.1\/tcp\/9040\n/);
  assert.match(text, /refused +malformed 4, connections 5; 1 peers denied so far/);
  assert.match(
    text,
    /12D3KooWnode +ababababab +out +\/ip4\/192\.0\.2\.2\/tcp\/9040 +12 +1 min 15 s +kad view +authority/,
  );
  assert.match(text, /12D3KooWclient +– +in +\/ip4\/192\.0\.2\.3\/tcp\/50000 +– /);
});
