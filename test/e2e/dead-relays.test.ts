/** A third of the relays dies or freezes at once: whoever dials then gets through, soon, every time. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TappedNetwork, until } from './fixture.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const DIALS = 10;
const CONNECTED_MS = 5_000;

let network: TappedNetwork;
let echo: TestServer;
const frozen: number[] = [];

before(async () => {
  // Three exits: one is killed, and the guard that is frozen may be another.
  network = await TappedNetwork.start({ mixes: 6, exits: 3, hops: 3, taps: false });
  echo = await serveEcho();
});

after(async () => {
  for (const pid of frozen) process.kill(pid, 'SIGCONT');
  echo?.close();
  await network?.stop();
});

/** What the client said of its circuits and streams; shown when a dial fails. */
const seen: string[] = [];

function watch(): void {
  network.client.api.on('event', ({ timeUnixMs, kind, name, subject, attributes }) => {
    const { path, ...rest } = attributes;
    const names = path?.split(',').map((id) => network.nodes.get(id)?.name);
    seen.push(`${timeUnixMs % 1e6} ${kind} ${name} ${subject} ${names ?? ''} ${JSON.stringify(rest)}`);
  });
}

async function dial(name: string): Promise<number> {
  const startedMs = performance.now();
  const socket = await socksConnect(network.socks, echo, { username: `nyx;isolation=${name}` }).catch((error) => {
    console.log(seen.join('\n'));
    throw error;
  });
  const connectedMs = performance.now() - startedMs;
  await echoExactly(socket, 16 * 1024);
  return connectedMs;
}

test('circuits are ready before anybody dials, and taken by who does', async () => {
  const { api } = network.client;
  const ready = await until('two circuits that are ready', async () => {
    const paths = await api.paths.list();
    return paths.length >= 2 && paths.every(({ state }) => state === 'ready') && paths;
  });
  assert.ok(ready.every(({ streams }) => streams === 0));
  const socket = await socksConnect(network.socks, echo, { username: 'nyx;isolation=first' });
  const stream = await network.stream(echo.address);
  assert.ok(ready.some((path) => path.pathId === stream.pathId));
  socket.destroy();
});

test(`with three of nine relays gone, each of ${DIALS} dials connects within ${CONNECTED_MS} ms`, async () => {
  const { client } = network;
  const [guard] = (await client.api.paths.list()).map(({ nodeIds }) => network.nodes.get(nodeIds[0]!)!);
  const mixes = network.relays.filter((node) => node.role === 'mix' && node !== guard);
  const exit = network.relays.find((node) => node.role === 'exit' && node !== guard)!;
  watch();
  process.kill(mixes[0]!.pid, 'SIGKILL');
  process.kill(exit.pid, 'SIGKILL');
  process.kill(guard!.pid, 'SIGSTOP');
  frozen.push(guard!.pid);
  seen.push(`gone: ${[mixes[0], exit, guard].map((node) => node?.name)}`);
  const took: number[] = [];
  for (let i = 0; i < DIALS; i++) took.push(await dial(`dead-${i}`));
  if (took.some((ms) => ms > CONNECTED_MS)) console.log(seen.join('\n'));
  console.log(`# connected after ${took.map((ms) => ms.toFixed(0)).join(', ')} ms`);
  assert.ok(
    took.every((ms) => ms < CONNECTED_MS),
    `${took}`,
  );
});
