/**
 * Processes that die in the middle of a transfer: a relay on the way is replaced under the stream, of an exit or a client
 * the application learns within seconds, and the next dial works.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Child, Supervisor } from '@nyx/proto/types.ts';
import { connectNyx } from '@nyx/sdk/index.ts';
import { followSteps, readSteps } from '../../formal/steps.ts';
import { TappedNetwork, type TappedNode, until } from './fixture.ts';
import { transferWithKills } from './kill-transfer.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serve, serveEcho, type TestServer } from './transfer.ts';

/**
 * An application waits no longer than this for data or an error: 5 s, and as much again for a machine that is busy with
 * others, where the round trips that time-outs are made of are hundreds of milliseconds.
 */
const NOTICED_MS = 10_000;
/** More than was under way anywhere between source and application when the process died. */
const GOES_ON_BYTES = 64 * 1024 * 1024;
/** What open streams are given at the end of a client that is started again. */
const DRAIN_MS = 3_000;
/** Until one of them had a middle that may be killed, and was not over before. */
const TRANSFERS = 6;
const NETWORK = fileURLToPath(new URL('../../daemon/local-network.ts', import.meta.url));
const MAIN = fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));

let network: TappedNetwork;
let echo: TestServer;
/** Sends for as long as it is read. */
let source: TestServer;
let isolation = 0;
/** What all daemons write down of their steps. */
const steps = mkdtempSync(join(tmpdir(), 'nyx-steps-'));
/** What the client says of its sessions, by session. */
const sessionEvents = new Map<string, string[]>();

before(async () => {
  process.env.NYX_STEP_LOG = steps;
  network = await TappedNetwork.start({ mixes: 6, exits: 3, hops: 3, taps: false, allowCrash: true });
  echo = await serveEcho();
  const block = Buffer.alloc(65_536, 7);
  source = await serve((socket) => {
    const more = () => {
      while (socket.writable && socket.write(block));
    };
    socket.on('drain', more);
    more();
    socket.resume();
  });
  void watchSessions();
});

async function watchSessions(): Promise<void> {
  for await (const { subject, name } of network.client.api.events({ kinds: ['session'] })) {
    sessionEvents.set(subject, [...(sessionEvents.get(subject) ?? []), name]);
  }
}

after(async () => {
  echo?.close();
  source?.close();
  await network?.stop();
  rmSync(steps, { recursive: true });
});

/** Kills one of the processes that carry a transfer. Gives what the application saw, and when. */
async function killDuring(
  choose: (path: TappedNode[]) => TappedNode,
): Promise<{ code: string; afterMs: number; name: string; stallMs: number }> {
  const username = `nyx;isolation=death-${++isolation}`;
  const socket = await socksConnect(network.socks, source, { username });
  let received = 0;
  let lastMs = 0;
  let stallMs = 0;
  socket.on('data', (chunk: Buffer) => {
    const nowMs = performance.now();
    if (received > 0) stallMs = Math.max(stallMs, nowMs - lastMs);
    received += chunk.length;
    lastMs = nowMs;
  });
  const failed = new Promise<string>((resolve) => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.once('end', () => resolve('END'));
  });
  const path = await network.pathOf(source.address);
  await until('bytes of the transfer', () => received > 1 << 20);
  const victim = choose(path);
  const killedMs = performance.now();
  process.kill(victim.pid, 'SIGKILL');
  const atKill = received;
  const code = await Promise.race([
    failed,
    until('the transfer to go on', () => (received > atKill + GOES_ON_BYTES || socket.destroyed) && 'GOES ON', 60_000),
    until('an end or an error', () => performance.now() - Math.max(killedMs, lastMs) > NOTICED_MS && 'NOTHING', 60_000),
  ]);
  socket.destroy();
  return { code, afterMs: performance.now() - killedMs, name: victim.name, stallMs };
}

async function nextDialWorks(without: TappedNode | undefined): Promise<void> {
  const startedMs = performance.now();
  const username = `nyx;isolation=after-${++isolation}`;
  const socket = await socksConnect(network.socks, echo, { username });
  const path = await network.pathOf(echo.address);
  if (without !== undefined) assert.ok(!path.includes(without), 'the path leads over the dead');
  await echoExactly(socket, 256 * 1024);
  console.log(`# next dial and 256 KiB after ${(performance.now() - startedMs).toFixed(0)} ms`);
}

test('on two paths a middle is killed: every byte arrives, the pause is short', async () => {
  const { api } = network.client;
  const changes: string[] = [];
  const stop = new AbortController();
  const watching = (async () => {
    for await (const { name } of api.events({ kinds: ['path'], signal: stop.signal })) changes.push(name);
  })();
  const transfer = (attempt: number) =>
    transferWithKills(api, {
      bytes: 64 * 1024 * 1024,
      path: { paths: 2, isolation: `two paths ${attempt}` },
      maxKills: 1,
      everyMs: 300,
      timeoutMs: 60_000,
      kill: (nodeId) => {
        const node = network.nodes.get(nodeId)!;
        return node.role === 'mix' && process.kill(node.pid, 'SIGKILL');
      },
    });
  // Exits serve as middles too, and those are kept: where both paths have one, there is nobody to kill.
  let report = await transfer(0);
  for (let attempt = 1; attempt < TRANSFERS && report.kills.length === 0; attempt++) report = await transfer(attempt);
  console.log(`# ${JSON.stringify(report.kills)}, ${report.megabytesPerSecond.toFixed(0)} MB/s`);
  assert.equal(report.error, undefined);
  assert.ok(report.sha256Equal);
  assert.equal(report.kills.length, 1);
  // `npm run test:kill` asks for 500 ms, of a machine that has nothing else to do.
  assert.ok(report.longestStallMs < 2000, `${report.longestStallMs} ms`);
  assert.ok(changes.includes('added'));
  stop.abort();
  await watching;
});

for (const [role, choose] of [
  ['middle', (path: TappedNode[]) => path[1]!],
  ['guard', (path: TappedNode[]) => path[0]!],
] as const) {
  test(`the ${role} is killed: the stream goes on over another`, async () => {
    let victim: TappedNode | undefined;
    const { code, name, stallMs } = await killDuring((path) => {
      victim = choose(path);
      return victim;
    });
    console.log(`# ${name} (${role}) killed: ${code}, longest stall ${stallMs.toFixed(0)} ms`);
    assert.equal(code, 'GOES ON');
    assert.ok(stallMs < NOTICED_MS, `${stallMs} ms`);
    await nextDialWorks(victim);
  });
}

for (const [role, choose] of [['exit', (path: TappedNode[]) => path.at(-1)!]] as const) {
  test(`the ${role} is killed`, async () => {
    let victim: TappedNode | undefined;
    const { code, afterMs, name } = await killDuring((path) => {
      victim = choose(path);
      return victim;
    });
    console.log(`# ${name} (${role}) killed: ${code} after ${afterMs.toFixed(0)} ms`);
    // Never an END: the transfer is not complete.
    assert.equal(code, 'ECONNRESET');
    assert.ok(afterMs < NOTICED_MS, `${afterMs} ms`);
    await nextDialWorks(victim);
  });
}

test('sessions are carried, resumed and closed, in no other order', () => {
  const courses = [...sessionEvents.values()].map((names) => names.join(' '));
  // One that was built ahead may be older than the watch.
  for (const course of courses) assert.match(course, /^(opened)?( ?resuming carried)*( ?resuming)?( ?closed)?$/);
  assert.ok(
    courses.some((course) => course.includes('resuming carried')),
    courses.join('\n'),
  );
});

test('what all daemons did until then is what the specifications allow, also over the deaths of some', () => {
  const all = readSteps(steps);
  const followed = followSteps(all);
  console.log(`# ${all.length} steps: ${[...followed].map(([table, { count }]) => `${count} of ${table}`).join(', ')}`);
  assert.ok((followed.get('handshake')?.count ?? 0) > 0 && (followed.get('circuit')?.count ?? 0) > 0);
  const courses = [...(followed.get('session')?.courses ?? [])];
  assert.ok(
    courses.some((course) => /open, 2 circuits|waiting, 0 circuits → client open, last hop open/.test(course)),
    courses.join('\n'),
  );
  // One circuit more than a client has: this would be found.
  const wrong = all.map((step) => (step.action === 'Attach' ? { ...step, count: 9 } : step));
  assert.throws(() => followSteps(wrong), /Session has no step to ".*, 9 circuits"/);
});

function find(supervisor: Supervisor, id: string): Child | undefined {
  for (const child of supervisor.children) {
    if (child.id === id) return child;
    const inner = child.supervisor && find(child.supervisor, id);
    if (inner) return inner;
  }
  return undefined;
}

test('a crashed pump worker is restarted, which its node shows, and is dialled through again', async () => {
  const { api } = network.client;
  const { restartsBefore } = await api.crashActor('pumps/pump-0');
  assert.equal(restartsBefore, 0);
  const child = await until('the restart', async () => {
    const { supervision } = await api.status();
    const found = find(supervision!, 'pump-0');
    return found?.restarts === 1 && found.status === 'running' && found;
  });
  assert.match(child.lastError ?? '', /crashed on request/);
  await nextDialWorks(undefined);
});

test('the client daemon is killed: its applications learn it at once; started again it works', async () => {
  const { client } = network;
  const { code, afterMs } = await killDuring(() => client);
  console.log(`# ${client.name} killed: ${code} after ${afterMs.toFixed(0)} ms`);
  assert.ok(code === 'ECONNRESET' || code === 'END', code);
  assert.ok(afterMs < 1000);
  client.api.close();

  const started = await startAgain();
  try {
    const socket = await started.api.connect({ host: echo.host, port: echo.port, allowHalfOpen: true });
    await echoExactly(socket, 256 * 1024);

    // Ctrl-C: what is open is given its time, then it ends with 0.
    const open = await started.api.connect({ host: echo.host, port: echo.port, allowHalfOpen: true });
    started.child.kill('SIGINT');
    await until('draining', async () => (await started.api.status().catch(() => undefined))?.state !== 'ready');
    await echoExactly(open, 4096);
    const [exitCode] = (await started.ended) as [number | null];
    assert.equal(exitCode, 0);
  } finally {
    started.end();
  }
});

test('a second Ctrl-C ends the daemon at once, whatever is open', async () => {
  const started = await startAgain();
  try {
    const open = await started.api.connect({ host: echo.host, port: echo.port, allowHalfOpen: true });
    open.on('error', () => {}); // cut off, which is what happens to it
    open.write('there?');
    await once(open, 'data');
    started.child.kill('SIGINT');
    await until('draining', async () => (await started.api.status().catch(() => undefined))?.state !== 'ready');
    assert.equal(open.destroyed, false);
    const beforeMs = performance.now();
    started.child.kill('SIGINT');
    const [exitCode] = (await started.ended) as [number | null];
    assert.equal(exitCode, 0);
    const afterMs = performance.now() - beforeMs;
    assert.ok(afterMs < DRAIN_MS / 3, `${afterMs} ms`);
    await until('the end of its streams', () => open.destroyed);
  } finally {
    started.end();
  }
});

/** The client's daemon, with what it left behind when it was killed. */
async function startAgain() {
  if (isDaemon(network.client.pid)) {
    process.kill(network.client.pid, 'SIGKILL');
    await until('the end of the client', () => !isDaemon(network.client.pid));
  }
  const config = join(network.network.folder, 'client-0.yaml');
  const settings = readFileSync(config, 'utf8').replace(/drainTimeoutMs: \d+/, `drainTimeoutMs: ${DRAIN_MS}`);
  assert.match(settings, new RegExp(`drainTimeoutMs: ${DRAIN_MS}\\b`));
  writeFileSync(config, settings);
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, '--config', config], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const line = await Promise.race([once(child.stdout, 'data'), ended.then(([code]) => [`ended with ${code}`])]);
  const { ready, api: socketPath } = JSON.parse(String(line[0])) as { ready: boolean; api: string };
  assert.equal(ready, true);
  const api = await connectNyx({ socketPath });
  const end = () => {
    api.close();
    child.kill('SIGKILL');
  };
  return { child, ended, api, end };
}

test('when the parent of a network is killed, none of its processes stays', async () => {
  const code = `
    const { startLocalNetwork } = await import(${JSON.stringify(NETWORK)});
    const network = await startLocalNetwork({ mixes: 2, exits: 1 });
    process.stdout.write(JSON.stringify({ folder: network.folder, pids: network.nodes.map(({ pid }) => pid) }));
  `;
  const parent = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  const { pids, folder } = JSON.parse(line.toString()) as { pids: number[]; folder: string };
  assert.equal(pids.length, 4);
  assert.ok(pids.every(isDaemon));
  parent.kill('SIGKILL');
  await until('the end of all daemons', () => !pids.some(isDaemon), 5_000);
  assert.ok(existsSync(folder)); // nobody was left to remove it
  rmSync(folder, { recursive: true, force: true });
});

/** Still running, and not another process under that number. */
function isDaemon(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('main.ts');
  } catch {
    return false;
  }
}
