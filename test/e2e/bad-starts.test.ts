/** What can be wrong when a daemon is started: an exit code that says of which kind, and one clear line that says what. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'nyx-starts-'));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

let written = 0;
function configFile(lines: readonly string[]): string {
  const path = join(folder, `config-${++written}.yaml`);
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

/** A complete node with an authority of its own. */
function authorityConfig(name: string, extra: readonly string[] = []): string {
  const dataDir = join(folder, name);
  return configFile([
    `dataDir: ${dataDir}`,
    'roles: [mix]',
    ...(extra.some((line) => line.startsWith('listen:')) ? [] : ['listen: 127.0.0.1:0']),
    'directory: { listen: "127.0.0.1:0" }',
    `authority: { keyFile: ${join(folder, `${name}.key`)}, minNodes: 1 }`,
    'log: { level: warn }',
    ...extra,
  ]);
}

function launch(config: string) {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, '--config', config], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_TEST_CONTEXT: '' },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = (async (): Promise<Ended> => {
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    clearTimeout(timer);
    return { code, signal, stdout, stderr };
  })();
  const ready = async () => {
    while (!stdout.includes('"ready":true')) {
      const over = await Promise.race([once(child.stdout, 'data').then(() => undefined), ended]);
      if (over !== undefined) throw new Error(`ended with ${over.code}: ${over.stderr}`);
    }
  };
  return { child, ended, ready };
}

async function fails(config: string, code: number, line: RegExp): Promise<void> {
  const { ended } = launch(config);
  const { code: got, stdout, stderr } = await ended;
  assert.equal(got, code, stderr);
  assert.equal(stdout, '');
  const said = stderr.trim().split('\n');
  assert.match(said.at(-1)!, line);
  assert.match(said.at(-1)!, /^nyx-daemon: /);
  assert.ok(!/^\s+at /m.test(stderr), `a stack trace is no clear line:\n${stderr}`);
}

test('a configuration that is not there, not readable, not YAML, or wrong', async () => {
  await Promise.all([
    fails(join(folder, 'nothing.yaml'), 2, /nothing\.yaml.*cannot be read: ENOENT/),
    fails(folder, 2, /cannot be read: EISDIR/),
    fails(configFile(['roles: [mix']), 2, /:\d+:\d+: is not valid YAML/),
    fails(
      configFile(['rolls: [mix]', 'directory: { sources: [x] }']),
      2,
      /rolls is not a known key; did you mean roles\?/,
    ),
  ]);
});

test('keys that others can read', async () => {
  const dataDir = join(folder, 'open');
  mkdirSync(dataDir, { mode: 0o755 });
  chmodSync(dataDir, 0o755);
  await fails(authorityConfig('open'), 3, /open has mode 0755.*chmod go-rwx/);
});

test('a link port and a SOCKS port that are taken', async () => {
  const udp = createSocket('udp4').bind(0, '127.0.0.1');
  const tcp = createServer().listen(0, '127.0.0.1');
  await Promise.all([once(udp, 'listening'), once(tcp, 'listening')]);
  const { port } = tcp.address() as { port: number };
  try {
    await Promise.all([
      fails(authorityConfig('udp', [`listen: 127.0.0.1:${udp.address().port}`]), 3, /EADDRINUSE/),
      fails(
        configFile([
          `dataDir: ${join(folder, 'tcp')}`,
          `proxies: { socks: "127.0.0.1:${port}", httpConnect: off }`,
          'directory:',
          '  sources: ["http://127.0.0.1:1"]',
          `  authorities: { keys: ["${createHash('sha256').update('key').digest('hex')}"] }`,
        ]),
        3,
        /EADDRINUSE/,
      ),
    ]);
  } finally {
    udp.close();
    tcp.close();
  }
});

test('a socket file that a killed daemon left behind is no obstacle; one in use is', async () => {
  const config = authorityConfig('stale');
  const socket = join(folder, 'stale', 'api.sock');
  const first = launch(config);
  await first.ready();
  first.child.kill('SIGKILL');
  assert.equal((await first.ended).signal, 'SIGKILL');
  assert.ok(existsSync(socket), 'nothing was left behind');
  const second = launch(config);
  await second.ready();
  await fails(authorityConfig('other', [`api: { socket: ${socket} }`]), 3, /api\.sock|EADDRINUSE/);
  second.child.kill('SIGINT');
  const { code, stderr } = await second.ended;
  assert.equal(code, 0, stderr);
  assert.ok(!existsSync(socket), 'the socket file was left behind');
});
