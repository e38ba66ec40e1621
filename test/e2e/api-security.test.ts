/** Who may use a daemon's API: over TCP only with TLS and a token or a client certificate, over a Unix socket only its user. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { credentials, Metadata } from '@grpc/grpc-js';
import { run } from '@nyx/cli/main.ts';
import { loadApi } from '@nyx/proto/load.ts';
import { type ConnectOptions, connectNyx, NyxError } from '@nyx/sdk/index.ts';
import { type Authority, type CertificateFiles, issue, makeAuthority } from './certificates.ts';

const MAIN = fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));
const TOKEN = '0123456789abcdef0123456789abcdef';

interface Started {
  readonly child: ChildProcess;
  /** As in its ready line: `unix:/path` or `host:port`. */
  readonly api: string;
  readonly nodeId: string;
}

let folder: string;
let trusted: Authority;
let server: CertificateFiles;
let goodClient: CertificateFiles;
let strangeClient: CertificateFiles;
let expiredClient: CertificateFiles;
let tokenFile: string;
let withToken: Started;
let withCertificates: Started;
let withSocket: Started;
const children: ChildProcess[] = [];

const configOf = (name: string, api: Record<string, unknown>): string => {
  const path = join(folder, `${name}.yaml`);
  const config = {
    dataDir: join(folder, `data-${name}`),
    roles: ['mix'],
    listen: '127.0.0.1:0',
    directory: { listen: '127.0.0.1:0' },
    authority: { keyFile: join(folder, `${name}.authority`), minNodes: 1 },
    api,
    log: { level: 'warn' },
  };
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 }); // which is YAML
  return path;
};

/** Runs a daemon until it ends; gives its code and what it said. */
async function runDaemon(config: string): Promise<{ code: number | null; said: string }> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, '--config', config]);
  children.push(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, said };
}

async function startDaemon(name: string, api: Record<string, unknown>): Promise<Started> {
  const child = spawn(process.execPath, [
    '--disable-warning=ExperimentalWarning',
    MAIN,
    '--config',
    configOf(name, api),
    '--exit-with-parent',
  ]);
  children.push(child);
  child.stderr.pipe(process.stderr);
  const ended = once(child, 'close').then(([code]) => Promise.reject(new Error(`${name} ended with ${code}`)));
  const [line] = (await Promise.race([once(child.stdout, 'data'), ended])) as [Buffer];
  ended.catch(() => {}); // from now on an affair of the tests
  const { api: address, nodeId } = JSON.parse(line.toString()) as { api: string; nodeId: string };
  return { child, api: address, nodeId };
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'nyx-api-'));
  trusted = await makeAuthority('trusted', join(folder, 'ca.pem'));
  const strange = await makeAuthority('strange', join(folder, 'strange-ca.pem'));
  server = await issue(trusted, 'server', join(folder, 'server'));
  goodClient = await issue(trusted, 'client', join(folder, 'client'));
  strangeClient = await issue(strange, 'client', join(folder, 'strange'));
  expiredClient = await issue(trusted, 'client', join(folder, 'expired'), { expired: true });
  tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, `${TOKEN}\n`, { mode: 0o600 });
  const listen = '127.0.0.1:0';
  [withToken, withCertificates, withSocket] = await Promise.all([
    startDaemon('token', { listen, tls: server, tokenFile }),
    startDaemon('certificates', { listen, tls: { ...server, clientCaFile: trusted.caFile } }),
    startDaemon('socket', {}),
  ]);
});

after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

/** The node that answers, or the code of the refusal. */
async function ask(options: ConnectOptions): Promise<string> {
  try {
    const client = await connectNyx({ ...options, connectTimeoutMs: 3000 });
    try {
      return (await client.status()).nodeId;
    } finally {
      client.close();
    }
  } catch (error) {
    assert.ok(error instanceof NyxError, String(error));
    return error.code;
  }
}

const tlsOf = (files?: CertificateFiles) => ({ ca: trusted.caFile, cert: files?.certFile, key: files?.keyFile });

async function cli(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const texts = { out: '', err: '' };
  const stream = (name: 'out' | 'err') => ({
    write: (text: string) => {
      texts[name] += text;
      return true;
    },
    on: () => {},
  });
  const code = await run(argv, {
    stdout: stream('out') as never,
    stderr: stream('err') as never,
    signal: new AbortController().signal,
  });
  return { code, ...texts };
}

describe('an API on TCP with a token', () => {
  test('answers who brings it, over TLS', async () => {
    assert.equal(await ask({ address: withToken.api, tls: tlsOf(), token: TOKEN }), withToken.nodeId);
  });

  test('refuses the wrong token, a part of it, more than it, and none', async () => {
    for (const token of [undefined, 'wrong-wrong-wrong-wrong', TOKEN.slice(0, -1), `${TOKEN}0`, '']) {
      assert.equal(
        await ask({ address: withToken.api, tls: tlsOf(), ...(token === undefined ? {} : { token }) }),
        'UNAUTHENTICATED',
      );
    }
  });

  test('opens no stream without it either', async () => {
    const api = loadApi();
    const tls = credentials.createSsl(readFileSync(trusted.caFile));
    const node = new api.NodeService(withToken.api.replace('127.0.0.1', 'localhost'), tls);
    const events = node.watchEvents({});
    const [error] = (await once(events, 'error')) as [{ code: number }];
    assert.equal(error.code, 16);
    node.close();
  });

  test('speaks nothing but TLS', async () => {
    const [host, port] = withToken.api.split(':') as [string, string];
    const plain = connect(Number(port), host);
    plain.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    plain.on('error', () => {});
    let answered = Buffer.alloc(0);
    plain.on('data', (chunk: Buffer) => {
      answered = Buffer.concat([answered, chunk]);
    });
    await once(plain, 'close');
    // At most a TLS alert (record type 21): never HTTP/2 settings.
    assert.ok(answered.length === 0 || answered[0] === 21, answered.toString('hex'));
    const insecure = new (loadApi().NodeService)(withToken.api, credentials.createInsecure());
    const failure = await new Promise<{ code: number }>((resolve) =>
      insecure.getNodeInfo({}, new Metadata(), { deadline: Date.now() + 3000 }, (error) =>
        resolve(error as unknown as { code: number }),
      ),
    );
    assert.ok(failure.code === 14 || failure.code === 4, String(failure.code));
    insecure.close();
  });

  test('is not taken for another: its certificate has to be signed by whom the caller trusts', async () => {
    const tls = { ca: join(folder, 'strange-ca.pem') };
    assert.equal(await ask({ address: withToken.api, tls, token: TOKEN }), 'DAEMON_UNREACHABLE');
  });

  test('is at nyx-cli’s disposal', async () => {
    const common = ['--api', withToken.api, '--tls-ca', trusted.caFile];
    const good = await cli('status', '--json', ...common, '--token-file', tokenFile);
    assert.equal(good.code, 0, good.err);
    assert.equal(JSON.parse(good.out).nodeId, withToken.nodeId);
    const url = await cli(
      'keys',
      '--json',
      '--api',
      `https://${withToken.api}`,
      ...common.slice(2),
      '--token-file',
      tokenFile,
    );
    assert.equal(url.code, 0, url.err);
    const none = await cli('status', ...common);
    assert.equal(none.code, 3);
    assert.match(none.err, /--token-file/);
    const missing = await cli('status', ...common, '--token-file', join(folder, 'nothing'));
    assert.equal(missing.code, 2);
    assert.match(missing.err, /--token-file/);
    const badCa = await cli(
      'status',
      '--api',
      withToken.api,
      '--tls-ca',
      join(folder, 'nothing'),
      '--token-file',
      tokenFile,
    );
    assert.equal(badCa.code, 2);
    assert.match(badCa.err, /--tls-ca/);
  });
});

describe('an API on TCP with client certificates', () => {
  test('answers who has one of its authority', async () => {
    assert.equal(await ask({ address: withCertificates.api, tls: tlsOf(goodClient) }), withCertificates.nodeId);
    const files = ['--tls-ca', trusted.caFile, '--tls-cert', goodClient.certFile, '--tls-key', goodClient.keyFile];
    const { code, out, err } = await cli('status', '--json', '--api', withCertificates.api, ...files);
    assert.equal(code, 0, err);
    assert.equal(JSON.parse(out).nodeId, withCertificates.nodeId);
  });

  for (const [what, files] of [
    ['none', () => undefined],
    ['that of another authority', () => strangeClient],
    ['an expired one', () => expiredClient],
    ['that of a server', () => server],
  ] as const) {
    test(`refuses ${what}`, async () => {
      const answer = await ask({ address: withCertificates.api, tls: tlsOf(files()) });
      assert.notEqual(answer, withCertificates.nodeId);
      assert.match(answer, /^(DAEMON_UNREACHABLE|UNAVAILABLE|CONNECTION_LOST)$/);
    });
  }
});

describe('a daemon', () => {
  test('does not start with its API on TCP without TLS, or without token and certificates', async () => {
    const open = await runDaemon(configOf('open', { listen: '127.0.0.1:0', tokenFile }));
    assert.equal(open.code, 2);
    assert.match(open.said, /only with TLS/);
    const free = await runDaemon(configOf('free', { listen: '127.0.0.1:0', tls: server }));
    assert.equal(free.code, 2);
    assert.match(free.said, /tokenFile/);
  });

  test('does not start with a token that others can read, or one that is too short', async () => {
    const readable = join(folder, 'readable');
    writeFileSync(readable, `${TOKEN}\n`);
    chmodSync(readable, 0o644);
    const short = join(folder, 'short');
    writeFileSync(short, 'short\n', { mode: 0o600 });
    for (const [file, problem] of [
      [readable, /chmod/],
      [short, /16 characters/],
    ] as const) {
      const { code, said } = await runDaemon(
        configOf(`bad-${problem.source}`.replaceAll(' ', '-'), { listen: '127.0.0.1:0', tls: server, tokenFile: file }),
      );
      assert.notEqual(code, 0);
      assert.match(said, problem);
    }
  });

  test('lets only its user open its Unix socket', async () => {
    const path = withSocket.api.replace(/^unix:/, '');
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(dirname(path)).mode & 0o777, 0o700);
    assert.equal(await ask({ socketPath: path }), withSocket.nodeId);
  });
});
