/** Class cmix in networks of processes: bytes through batches that are proved, and mixes that lie are caught and named. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { followSteps, type NodeStep, readSteps } from '../../formal/steps.ts';
import { TappedNetwork, until } from './fixture.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const CLI = fileURLToPath(new URL('../../cli/nyx-cli.mjs', import.meta.url));
const run = promisify(execFile);

/** A busy machine computes proofs slowly. */
const PATIENCE_MS = 60_000;

let network: TappedNetwork;
let echo: TestServer;
/** Over the mix that exchanges cells. */
let exchangedPath: number;
/** What all daemons write down of their steps. */
const steps = mkdtempSync(join(tmpdir(), 'nyx-steps-'));

before(async () => {
  // The daemons of mix-1 and mix-3 are as the others, but for what is exchanged from outside: the one does not compute delays, nor
  // wait for them, the other gives out other cells than it took.
  const faults = new Map([
    [1, 'lying-mix'],
    [3, 'exchanging-mix'],
  ]);
  process.env.NYX_STEP_LOG = steps;
  network = await TappedNetwork.start({
    mixes: 4,
    exits: 1,
    taps: false,
    spareCircuits: 0,
    batches: { cells: 100, delayMs: 30 },
    overrides: () => ({ cmix: { maxWaitMs: 20 } }),
    launchers: (role, index) => {
      const fault = role === 'mix' ? faults.get(index) : undefined;
      return fault === undefined
        ? undefined
        : ['env', `NODE_OPTIONS=--import=${new URL(`./faults/${fault}.ts`, import.meta.url).href}`];
    },
  });
  echo = await serveEcho();
});

after(async () => {
  echo?.close();
  await network?.stop();
  rmSync(steps, { recursive: true, force: true });
});

const idsOf = (...names: string[]) => names.map((name) => network.node(name).nodeId);

test('64 KiB through three mixes by batches and back; every cell is proved, nobody accused', async () => {
  const { host, port } = echo;
  const { api } = network.client;
  const honest = ['mix-0', 'mix-2', 'exit-0'];
  const { pathId, expectedAddedLatencyMs } = await api.paths.build({ nodeIds: idsOf(...honest), class: 'cmix' });
  assert.equal(expectedAddedLatencyMs, 3 * (20 + 30 + 30));
  const socket = await api.connect({ host, port, pathId, allowHalfOpen: true });
  assert.equal(socket.expectedAddedLatencyMs, 3 * (20 + 30 + 30));
  const tookMs = await echoExactly(socket, 64 * 1024);
  const path = (await api.paths.list()).find((listed) => listed.pathId === pathId)!;
  assert.equal(path.pathClass, 'PATH_CLASS_CMIX');
  assert.ok(path.rttMs! > 6 * 30, `${path.rttMs} ms`);
  for (const relay of honest.map((name) => network.node(name))) {
    const { cmix } = await until(
      `${relay.name} to have its cells proved`,
      async () => {
        const status = await relay.api.status();
        return status.cmix!.proved >= 2 * 58 && status;
      },
      PATIENCE_MS,
    );
    assert.ok(cmix!.batches >= 4 && cmix!.cells >= 2 * 58, `${relay.name}: ${cmix!.cells} cells`);
    assert.equal(cmix!.refused + cmix!.withheld + cmix!.unproved + cmix!.cheats.length, 0);
    // Calibrated when the machine was busy, it may be over much sooner than it should; what counts is the number of squarings.
    assert.ok(cmix!.delayMs! > 1, `${cmix!.delayMs}`);
  }
  console.log(`# 64 KiB there and back in ${tookMs.toFixed(0)} ms, round trip ${path.rttMs!.toFixed(0)} ms`);
});

test('16 KiB over a second hop that exchanges cells, to be looked into while other things go on', async () => {
  const { host, port } = echo;
  const { api } = network.client;
  const { pathId } = await api.paths.build({ nodeIds: idsOf('mix-0', 'mix-3', 'exit-0'), class: 'cmix' });
  exchangedPath = pathId;
  await echoExactly(await api.connect({ host, port, pathId, allowHalfOpen: true }), 16 * 1024);
});

test('a mix that does not compute its delays is caught by its neighbours, named everywhere, and avoided', async () => {
  const { host, port } = echo;
  const { api } = network.client;
  const liar = network.node('mix-1').nodeId;
  const { pathId } = await api.paths.build({ nodeIds: idsOf('mix-0', 'mix-1', 'exit-0'), class: 'cmix' });
  // It carries the bytes, faster than it should.
  const socket = await api.connect({ host, port, pathId, allowHalfOpen: true });
  await echoExactly(socket, 4096);
  for (const node of [network.client, network.node('mix-0'), network.node('exit-0')]) {
    const cheats = await until(
      `${node.name} to know of it`,
      async () => {
        const { cmix } = await node.api.status();
        return cmix!.cheats.length > 0 && cmix!.cheats;
      },
      PATIENCE_MS,
    );
    assert.deepEqual(new Set(cheats.map(({ nodeId, kind }) => `${nodeId} ${kind}`)), new Set([`${liar} delay`]));
  }
  // Anybody can check the evidence, and nobody can change it.
  const [{ file } = { file: '' }] = (await api.status()).cmix!.cheats;
  const { stdout } = await run(process.execPath, [CLI, 'evidence', 'verify', file]);
  assert.ok(stdout.startsWith(`${liar} cheated: it signed a batch whose delay`), stdout);
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1]! ^= 1;
  const forged = join(network.network.folder, 'forged.cheat');
  writeFileSync(forged, bytes);
  await assert.rejects(run(process.execPath, [CLI, 'evidence', 'verify', forged]), /shows nothing/);
  const list = await run(process.execPath, [CLI, 'evidence', 'list', '--api', network.client.apiSocket]);
  assert.match(list.stdout, new RegExp(`${liar} +delay`));
  // No path of the client goes over it any more.
  for (let i = 0; i < 5; i++) {
    const { nodeIds } = await api.paths.build({});
    assert.ok(!nodeIds.includes(liar));
  }
});

test('the client finds out about the second hop by asking the first one for its batches, and avoids it', async () => {
  const { host, port } = echo;
  const { api } = network.client;
  const liar = network.node('mix-3').nodeId;
  const { cmix } = await until(
    'the client to know of it',
    async () => {
      const status = await api.status();
      if (status.cmix!.exchangers.length > 0) return status;
      // One question for so many cells, and half of them are about a cell on the side that the liar has changed.
      await echoExactly(await api.connect({ host, port, pathId: exchangedPath, allowHalfOpen: true }), 8 * 1024);
      return undefined;
    },
    PATIENCE_MS,
  );
  assert.deepEqual(cmix!.exchangers, [liar]);
  assert.ok(cmix!.exchanged > 0);
  // What shows it to others tells who was before and behind the mix: it is there when the circuit has ended.
  assert.ok(cmix!.cheats.every(({ nodeId }) => nodeId !== liar));
  await api.paths.close(exchangedPath);
  const shown = await until(
    'the client to have evidence',
    async () => (await api.status()).cmix!.cheats.find(({ nodeId }) => nodeId === liar),
    PATIENCE_MS,
  );
  assert.equal(shown.kind, 'exchange');
  const { stdout } = await run(process.execPath, [CLI, 'evidence', 'verify', shown.file]);
  assert.ok(stdout.startsWith(`${liar} cheated: it took a cell into a batch and gave out another`), stdout);
  // Nobody else is told by us.
  const knows = async (name: string) => {
    const { cheats } = (await network.node(name).api.status()).cmix!;
    return cheats.some(({ nodeId, kind }) => nodeId === liar && kind === 'exchange');
  };
  for (const name of ['mix-0', 'exit-0']) assert.ok(!(await knows(name)));
  // Somebody who was given the file has it checked and kept by a node, which tells it on.
  const given = readFileSync(shown.file);
  const { apiSocket } = network.node('mix-0');
  const shared = await run(process.execPath, [CLI, 'evidence', 'share', shown.file, '--api', apiSocket]);
  assert.ok(shared.stdout.startsWith(`${liar} cheated (exchange)`), shared.stdout);
  assert.ok(await knows('mix-0'));
  given[given.length - 1]! ^= 1;
  await assert.rejects(network.node('mix-0').api.shareEvidence(given), /shows nothing/);
  for (let i = 0; i < 5; i++) {
    const { nodeIds } = await api.paths.build({});
    assert.ok(!nodeIds.includes(liar));
  }
});

test('all that the daemons did is what the specifications allow, but for the mix that lies', async () => {
  const liar = network.network.nodes.find(({ name }) => name === 'mix-1')!.pid;
  await network.stop();
  const all = readSteps(steps);
  const isLie = ({ node, spec }: NodeStep) => spec === 'MixBatch' && node.startsWith(`${liar}-`);
  const followed = followSteps(all.filter((step) => !isLie(step)));
  for (const table of ['handshake', 'circuit', 'session', 'batch', 'batch-given', 'batch-got']) {
    assert.ok((followed.get(table)?.count ?? 0) > 0, `nothing of ${table} was followed`);
  }
  const cells = [...followed.get('batch-given')!.courses];
  assert.ok(cells.includes('cell no → cell given → cell receipted → cell proved'), cells.join('\n'));
  assert.ok(
    cells.some((course) => course.endsWith('receipted, evidence of delay')),
    cells.join('\n'),
  );
  assert.throws(() => followSteps(all), /MixBatch has no step to "batch closed, cells are out"/);
  console.log(`# ${all.length} steps: ${[...followed].map(([table, { count }]) => `${count} of ${table}`).join(', ')}`);
});
