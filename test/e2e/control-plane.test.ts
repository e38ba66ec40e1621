/**
 * Daemons that know one address find each other over libp2p, form a network with a view, and carry bytes. Then a third of
 * them and the one with that address die, and a client that comes back after a day with what it had stored gets a path.
 * NYX_P2P_DAEMONS says how many relays (default 8); `npm run test:p2p` takes 30.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type LocalNetwork, type LocalNode, startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { connectNyx } from '@nyx/sdk/index.ts';
import { putADayBack } from './day-old.ts';
import { hostPort, until } from './fixture.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const MAIN = fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));
const RELAYS = Number(process.env.NYX_P2P_DAEMONS ?? 8);
const EXITS = Math.max(2, Math.ceil(RELAYS / 5));
/** Thirty daemons on two cores take their time to answer. */
const CONNECT_MS = 20_000 + 2000 * RELAYS;
/** A client that starts has a path within this. */
const PATH_MS = 10_000;

let network: LocalNetwork;
let echo: TestServer;
let client: LocalNode;
let restarted: ChildProcess | undefined;

before(async () => {
  echo = await serveEcho();
  const startedMs = performance.now();
  network = await startLocalNetwork({
    mixes: RELAYS - EXITS,
    exits: EXITS,
    discovery: 'p2p',
    allowCrash: true,
    startTimeoutMs: 60_000 + RELAYS * 8_000,
  });
  client = network.clients[0]!;
  console.log(`# ${RELAYS} relays and a client up in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
});

after(async () => {
  restarted?.kill('SIGKILL');
  await network?.stop();
  echo?.close();
});

const carries = async (socks: string, isolation: string, bytes = 1 << 20): Promise<void> => {
  const socket = await socksConnect(hostPort(socks), echo, { username: `nyx;isolation=${isolation}` });
  await echoExactly(socket, bytes);
};

test('all find each other from one address, have one view, and carry bytes', async () => {
  const states = await Promise.all(
    network.nodes.map(async (node) => {
      const api = await connectNyx({ socketPath: node.apiSocket, connectTimeoutMs: CONNECT_MS });
      try {
        return await until(
          `${node.name} knows others`,
          async () => {
            const { controlPlane, view } = await api.status();
            const bound = new Set(controlPlane?.peers.flatMap(({ nodeId }) => nodeId ?? []));
            const wanted = Math.min(RELAYS - 1, 5);
            return controlPlane != null && view != null && bound.size >= wanted && { node, controlPlane, view };
          },
          60_000,
        );
      } finally {
        api.close();
      }
    }),
  );
  const [{ view: first }] = states as [(typeof states)[0]];
  assert.equal(first.nodes, RELAYS);
  const nodeIds = new Set(network.nodes.map(({ nodeId }) => nodeId));
  for (const { node, controlPlane, view } of states) {
    assert.equal(view.digest, first.digest, `${node.name} has another view`);
    // A record that is overtaken by its successor on the way is nobody's fault.
    const { replayed: _, ...refusals } = controlPlane.refusals;
    assert.deepEqual(refusals, {}, `${node.name} refused something`);
    assert.equal(controlPlane.serving, node.role !== 'client');
    for (const peer of controlPlane.peers) assert.ok(peer.nodeId === undefined || nodeIds.has(peer.nodeId));
  }
  const fromPeers = states.filter(({ controlPlane }) => controlPlane.viewsFetched > 0).length;
  assert.equal(fromPeers, network.nodes.length - 1, 'all but the authority have the view from peers');
  await carries(client.socks, 'formed');
});

test('a control plane that crashes is restarted at its address, and its peers come back', async () => {
  const node = network.nodes.find(({ name }) => name === 'mix-1')!;
  const api = await connectNyx({ socketPath: node.apiSocket, connectTimeoutMs: CONNECT_MS });
  try {
    const before = (await api.controlPlane())!;
    await api.crashActor('dht');
    const after = await until('peers after the crash', async () => {
      const plane = await api.controlPlane();
      return plane !== undefined && plane.peers.length >= 3 && plane;
    });
    assert.equal(after.peerId, before.peerId);
    assert.deepEqual(after.addresses, before.addresses);
    const { supervision } = await api.status();
    assert.equal(supervision?.children.find(({ id }) => id === 'dht')?.restarts, 1);
  } finally {
    api.close();
  }
});

test('with a third of the nodes and the first address dead, a client with a day-old view has a path within 10 s', async () => {
  process.kill(client.pid, 'SIGTERM');
  await until('the client has ended', () => network.failures.some(({ name }) => name === client.name));
  const [bootstrap, ...others] = network.nodes.filter(({ role }) => role !== 'client') as [LocalNode, ...LocalNode[]];
  const exits = others.filter(({ role }) => role === 'exit');
  const mixes = others.filter(({ role }) => role === 'mix');
  const killedExits = Math.floor(exits.length / 3);
  const killedMixes = Math.ceil(RELAYS / 3) - killedExits;
  const victims = [bootstrap, ...exits.slice(0, killedExits), ...mixes.slice(0, killedMixes)];
  for (const { pid } of victims) process.kill(pid, 'SIGKILL');
  const storedEpoch = putADayBack(network, client);

  const startedMs = performance.now();
  restarted = spawn(process.execPath, [MAIN, '--config', join(network.folder, `${client.name}.yaml`)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: '' },
  });
  const log: string[] = [];
  createInterface({ input: restarted.stderr! }).on('line', (line) => log.push(line));
  const [line] = (await once(createInterface({ input: restarted.stdout! }), 'line')) as [string];
  const readyMs = performance.now() - startedMs;
  const { socks, api: socket } = JSON.parse(line) as { socks: string; api: string };
  const api = await connectNyx({ socketPath: socket });
  try {
    await carries(socks, 'restarted', 1024);
    const pathMs = performance.now() - startedMs;
    await carries(socks, 'restarted');
    const { paths, view } = await api.status();
    const dead = new Set(victims.map(({ nodeId }) => nodeId));
    assert.equal(view?.nodes, RELAYS, 'it chooses from the whole view');
    assert.equal(view.epoch! - storedEpoch, 24, 'of the present epoch, which it can only have from a peer');
    assert.ok((await api.controlPlane())!.viewsFetched >= 1);
    assert.ok(
      log.some((line) => line.includes('the stored view cannot be used')),
      'what it had is of no use',
    );
    const used = paths.filter(({ bytesReceived }) => bytesReceived > 0);
    assert.ok(used.length > 0 && used.every(({ nodeIds }) => !nodeIds.some((id) => dead.has(id))));
    console.log(
      `# ready after ${readyMs.toFixed(0)} ms, a path and 1 KiB there and back after ${pathMs.toFixed(0)} ms`,
    );
    assert.ok(pathMs < PATH_MS, `${pathMs.toFixed(0)} ms; ${log.slice(-5).join('\n')}`);
    const plane = await until('peers without the first address', async () => {
      const found = await api.controlPlane();
      return found !== undefined && found.peers.length > 0 && found;
    });
    assert.ok(plane.peers.every(({ nodeId }) => nodeId === undefined || !dead.has(nodeId)));
  } finally {
    api.close();
    const ended = once(restarted, 'exit');
    restarted.kill('SIGTERM');
    await ended;
  }
  assert.ok(readFileSync(join(network.folder, client.name, 'view.bin')).length > 0);
});
