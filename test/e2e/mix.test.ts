/** Class mix in a network of processes: through the API, nyx-cli, SOCKS and HTTP CONNECT, bytes intact, delays real. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TappedNetwork } from './fixture.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const CLI = fileURLToPath(new URL('../../cli/nyx-cli.mjs', import.meta.url));
const DELAY_MS = 10;

let network: TappedNetwork;
let echo: TestServer;

before(async () => {
  network = await TappedNetwork.start({
    mixes: 4,
    exits: 1,
    taps: false,
    overrides: (role) => (role === 'client' ? { mix: { delayMs: DELAY_MS } } : {}),
  });
  echo = await serveEcho();
});

after(async () => {
  echo?.close();
  await network?.stop();
});

test('16 MiB through five hops of class mix and back, the same by SHA-256', async () => {
  const { host, port } = echo;
  const socket = await network.client.api.connect({ host, port, class: 'mix', allowHalfOpen: true });
  assert.equal(socket.nodeIds.length, 5);
  assert.equal(socket.expectedAddedLatencyMs, 5 * DELAY_MS);
  const tookMs = await echoExactly(socket, 16 * 2 ** 20);
  const path = (await network.client.api.paths.list()).find(({ pathId }) => pathId === socket.pathId)!;
  assert.equal(path.pathClass, 'PATH_CLASS_MIX');
  assert.equal(path.expectedAddedLatencyMs, 5 * DELAY_MS);
  assert.ok(path.rttMs! > 5 * DELAY_MS, `${path.rttMs} ms`);
  console.log(
    `# 16 MiB there and back in ${tookMs.toFixed(0)} ms, round trip ${path.rttMs!.toFixed(0)} ms, ` +
      `lost ${(path.lossRatio * 100).toFixed(3)} %, only late ${(path.spuriousRatio * 100).toFixed(3)} %`,
  );
  assert.ok(path.spuriousRatio < 0.05, `${path.spuriousRatio}`);
  for (const relay of network.relays) {
    const { mixing } = await relay.api.status();
    assert.ok(mixing!.releasedCells > 25_000, `${relay.name} released ${mixing!.releasedCells}`);
    // Timers of 1 ms and a busy machine add a little to the mean that was asked for.
    const meanMs = mixing!.meanDelayMs!;
    assert.ok(meanMs > 0.9 * DELAY_MS && meanMs < 5 * DELAY_MS, `${relay.name} held cells for ${meanMs} ms`);
  }
});

test('the class is chosen in the user name of the proxies', async () => {
  const before = await network.client.api.paths.list();
  const target = { host: echo.host, port: echo.port };
  const socket = await socksConnect(network.socks, target, { username: 'class=mix;isolation=a' });
  const bytes = randomBytes(1000);
  const startedMs = performance.now();
  socket.write(bytes);
  const [first] = (await once(socket, 'data')) as [Buffer];
  const tookMs = performance.now() - startedMs;
  assert.ok(first.equals(bytes.subarray(0, first.length)));
  // Ten sojourns of 10 ms; less than a fifth of their mean is a matter of one in a million.
  assert.ok(tookMs > 2 * DELAY_MS, `there and back in ${tookMs} ms`);
  socket.destroy();
  const opened = (await network.client.api.paths.list()).filter((p) => !before.some((b) => b.pathId === p.pathId));
  assert.deepEqual(
    opened.map((p) => [p.pathClass, p.nodeIds.length]),
    [['PATH_CLASS_MIX', 5]],
  );
});

test('nyx-cli connect --class mix', async () => {
  const socketPath = network.client.apiSocket;
  const args = ['connect', '--api', socketPath, '--class', 'mix', '-v', `${echo.host}:${echo.port}`];
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  const chunks = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    chunks.out += chunk;
  });
  child.stderr.on('data', (chunk: Buffer) => {
    chunks.err += chunk;
  });
  const exited = once(child, 'exit');
  child.stdin.end('through the mixes\n');
  const [code] = (await exited) as [number];
  assert.equal(code, 0, chunks.err);
  assert.equal(chunks.out, 'through the mixes\n');
  assert.match(chunks.err, /mixing adds 50 ms each way on average/);
});

test('a relay measures what it hides while cells pass, a client says what it can not know', async () => {
  const { host, port } = echo;
  const socket = await network.client.api.connect({ host, port, class: 'mix', allowHalfOpen: true });
  await echoExactly(socket, 4 * 2 ** 20);
  const relay = network.nodes.get(socket.nodeIds[1]!)!;
  const { mixing } = await relay.api.status();
  const answer = await relay.api.anonymity();
  const here = answer.figures.find(({ subject }) => subject === 'one cell, at this relay')!;
  console.log(`# ${mixing!.cellsPerSecond!.toFixed(0)} cells/s at a relay: ${here.bits!.toFixed(2)} bits a cell`);
  assert.equal(here.basis, 'measured');
  assert.ok(mixing!.cellsPerSecond! > 100 && mixing!.bits! > 0);
  // The same law for the same pool: log2(e·ρ) with ρ from the rate and the delays of the last ten seconds.
  const rho = /(\d+\.\d) cells\/s held for (\d+\.\d) ms/.exec(here.note)!.slice(1).map(Number);
  const limit = Math.log2((Math.E * rho[0]! * rho[1]!) / 1000);
  assert.ok(here.bits! > limit - 0.1 && here.bits! < limit + 0.6, `${here.bits} for ${here.note}, limit ${limit}`);
  const mine = await network.client.api.anonymity();
  assert.deepEqual(
    mine.figures.filter(({ pathClass }) => pathClass === 'mix').map(({ bits }) => bits),
    [undefined, undefined, undefined],
  );
  const assumed = await network.client.api.anonymity({ assumedCellsPerSecond: 500 });
  assert.ok(assumed.figures.find(({ subject }) => subject === 'one cell, over the whole path')!.bits! > 5);
  await assert.rejects(network.client.api.anonymity({ assumedCellsPerSecond: -1 }), { code: 'BAD_REQUEST' });
});

test('nyx-cli anonymity and status', async () => {
  const run = async (...args: string[]) => {
    const child = spawn(process.execPath, [CLI, ...args, '--api', network.client.apiSocket]);
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk;
    });
    const [code] = (await once(child, 'exit')) as [number];
    return { code, out };
  };
  const { code, out } = await run('anonymity', '--assume-rate', '500');
  assert.equal(code, 0);
  assert.match(out, /one honest relay on the path +3\.75 +assumed/);
  assert.match(out, /this relay +– +unknown +this node is no relay/);
  assert.equal((await run('anonymity', '--assume-rate', 'many')).code, 2);
});
