/** Choosing, building and explaining paths in a network of real daemons, through SDK and command line. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { GetTopologyResponse, PathChoice } from '@nyx/proto/types.ts';
import { TappedNetwork, until } from './fixture.ts';

const run = promisify(execFile);
const CLI = fileURLToPath(new URL('../../cli/nyx-cli.mjs', import.meta.url));
const regions = ['SE', 'FI', 'NO'];
const server = createServer((_, response) => response.end('hello'));
/** One exit is at IPv6 alone, and three mixes at both: the client, which has IPv4, gets to that exit over one of those. */
const isDual = (name: string) => ['mix-1', 'mix-2', 'mix-3'].includes(name);
const listenAt = (role: string, index: number) =>
  role === 'exit' && index === 1
    ? { listen: '[::1]:0' }
    : isDual(`${role}-${index}`)
      ? { listen: ['127.0.0.1:0', '[::1]:0'] }
      : {};
let network: TappedNetwork;
let target: { host: string; port: number };

const cli = async <T>(...words: string[]): Promise<T> => {
  const { stdout } = await run(process.execPath, [CLI, ...words, '--json', '--api', network.client.apiSocket]);
  return JSON.parse(stdout) as T;
};

const folder = mkdtempSync(join(tmpdir(), 'nyx-family-'));
const familyKeyFile = join(folder, 'family.key');

before(async () => {
  await run(process.execPath, [CLI, 'family', 'key', '--create', '--file', familyKeyFile]);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  target = { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
  network = await TappedNetwork.start({
    mixes: 5,
    exits: 2,
    taps: false,
    overrides: (role, index) =>
      role === 'client'
        ? { addressFamilies: ['ipv4'] }
        : {
            ...listenAt(role, index),
            // Exits end paths and are nowhere else in them: whatever a path takes, another one is left beside it.
            ...(role === 'exit' ? { roles: ['exit'] as const } : {}),
            ...(role === 'mix' && index === 2 ? { cmix: { enabled: false } } : {}),
            ...(role === 'exit' ? { contact: `noc at exit-${index}.example` } : {}),
            region: regions[(role === 'exit' ? index + 5 : index) % 3]!,
            family: role === 'mix' && index < 2 ? ['twins'] : [],
            familyKeyFiles: role === 'mix' && index < 2 ? [familyKeyFile] : [],
          },
  });
});

after(async () => {
  await network?.stop();
  rmSync(folder, { recursive: true });
  server.close();
});

test('no path has two nodes of a family that is proved', async () => {
  const { stdout } = await run(process.execPath, [CLI, 'family', 'key', '--file', familyKeyFile]);
  const { nodes } = await network.client.api.paths.nodes({});
  const members = nodes.filter(({ families }) => families.includes(stdout.trim())).map(({ nodeId }) => nodeId);
  const twins = network.network.nodes.filter(({ name }) => name === 'mix-0' || name === 'mix-1');
  assert.deepEqual(members.sort(), twins.map(({ nodeId }) => nodeId).sort());
  for (let i = 0; i < 20; i++) {
    const [path] = await network.client.api.paths.choose({ count: 1, strategy: 'uniform' });
    const { hops } = path!;
    assert.ok(hops.filter(({ nodeId }) => members.includes(nodeId)).length < 2, `${hops.map(({ nodeId }) => nodeId)}`);
  }
});

test('a built path says why it is as it is, and keeps what was asked for', async () => {
  const { api } = network.client;
  const built = await api.paths.build({
    hops: 4,
    exitTarget: target,
    strategy: 'uniform',
    filter: { excludeCountries: ['NO'] },
  });
  const { choice } = built;
  assert.deepEqual(
    choice!.hops.map(({ nodeId }) => nodeId),
    built.nodeIds,
  );
  assert.ok(choice!.hops.every(({ countries }) => countries.length === 1 && countries[0] !== 'NO'));
  assert.equal(choice!.strategy, 'uniform');
  assert.match(choice!.hops[0]!.reasons[0]!, /^guard: number/);
  assert.ok(choice!.hops[3]!.reasons.some((reason) => reason.startsWith('its exit policy takes 127.0.0.1:')));
  assert.ok(choice!.entropy!.pathBits > 0 && choice!.entropy!.positionBits.length === 4);

  await assert.rejects(api.paths.build({ filter: { includeCountries: ['XX'] } }), { code: 'NO_PATH' });
  await assert.rejects(api.paths.build({ filter: { includeCountries: ['se'] } }), /include_countries\[0\]/);
  await assert.rejects(api.paths.build({ latencyBias: 2 }), /latency_bias/);

  const disjoint = await api.paths.choose({ exitTarget: target, count: 2 });
  assert.equal(new Set(disjoint.flatMap(({ hops }) => hops.map(({ nodeId }) => nodeId))).size, 6);
  const service = await Promise.all(Array.from({ length: 12 }, () => api.paths.choose({ strategy: 'service' })));
  assert.ok(new Set(service.map(([path]) => path!.hops[1]!.nodeId)).size <= 4);
});

test('an IPv4 client gets to an exit at IPv6 over a relay that has both', async () => {
  const { api } = network.client;
  const { nodes } = await api.paths.nodes({});
  const named = (name: string) => network.network.nodes.find((node) => node.name === name)!.nodeId;
  const hosts = (name: string) =>
    nodes.find(({ nodeId }) => nodeId === named(name))!.addresses.map((address) => address.replace(/:\d+$/, ''));
  assert.deepEqual(
    [hosts('mix-0'), hosts('mix-1'), hosts('exit-1')],
    [['127.0.0.1'], ['127.0.0.1', '[::1]'], ['[::1]']],
  );
  const includeNodes = ['mix-0', 'mix-2', 'mix-4', 'exit-1'].map(named);
  const { pathId, nodeIds } = await api.paths.build({ hops: 4, exitTarget: target, filter: { includeNodes } });
  assert.deepEqual(nodeIds.slice(2), [named('mix-2'), named('exit-1')], 'of these, one alone reaches the exit');
  const socket = await api.connect({ ...target, pathId });
  socket.write('GET / HTTP/1.0\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  assert.match(answer.toString(), /^HTTP\/1\.1 200/);
  const impossible = ['mix-2', 'mix-0', 'exit-1'].map(named);
  await assert.rejects(api.paths.build({ nodeIds: impossible }), /reaches its neighbours by IPv4 or IPv6/);
  await assert.rejects(api.paths.build({ nodeIds: ['exit-1', 'mix-2', 'exit-0'].map(named) }), { code: 'BAD_REQUEST' });
});

test('the topology has what was measured', async () => {
  const { api } = network.client;
  const { pathId, nodeIds } = await api.paths.build({ exitTarget: target });
  const socket = await api.connect({ ...target, pathId });
  socket.write('GET / HTTP/1.0\r\n\r\n');
  await new Promise((resolve) => socket.once('data', resolve));
  const topology = await until('measured figures', async () => {
    const found = await api.paths.topology();
    const measured = nodeIds
      .slice(1)
      .every((id) => found.nodes.find(({ nodeId }) => nodeId === id)!.latencyMs !== undefined);
    return measured && found;
  });
  socket.destroy();
  const node = (id: string) => topology.nodes.find(({ nodeId }) => nodeId === id)!;
  assert.equal(topology.nodes.length, 7);
  assert.ok(node(nodeIds[0]!).linkRttMs! < 1000);
  assert.ok(node(nodeIds[1]!).setupSuccesses >= 1 && node(nodeIds[1]!).setupFailures === 0);
  assert.ok(topology.nodes.every(({ weight, countries }) => weight > 0 && countries.length === 1));
  const edge = topology.edges.find(({ from, to }) => from === nodeIds[1] && to === nodeIds[2]);
  assert.ok(edge!.paths >= 1 && edge!.bytesSent > 0);
  const guard = topology.guards.find(({ nodeId }) => nodeId === nodeIds[0])!;
  assert.ok(guard.confirmedUnixSeconds! > 0 && guard.built >= 1 && guard.verdict === 'fine');
  assert.ok(topology.entropy!.pathBits > 0);
});

test('the command line says the same', async () => {
  const { paths } = await cli<{ paths: PathChoice[] }>(
    'paths',
    'choose',
    '--count',
    '2',
    '--strategy',
    'latency',
    '--bias',
    '0.5',
  );
  assert.deepEqual(
    paths.map(({ strategy }) => strategy),
    ['latency', 'latency'],
  );
  assert.equal(new Set(paths.flatMap(({ hops }) => hops.map(({ nodeId }) => nodeId))).size, 6);
  const built = await cli<{ choice: PathChoice; nodeIds: string[] }>(
    'paths',
    'build',
    '--hops',
    '4',
    '--exclude-family',
    'twins',
  );
  assert.equal(built.nodeIds.length, 4);
  const topology = await cli<GetTopologyResponse>('topology');
  assert.equal(topology.nodes.length, 7);
  const { stdout } = await run(process.execPath, [CLI, 'topology', '--api', network.client.apiSocket]);
  assert.match(stdout, /paths by default: \d/);
  const text = await run(process.execPath, [CLI, 'paths', 'choose', '--api', network.client.apiSocket]);
  assert.match(text.stdout, /strategy bandwidth: \d+\.\d\d bits/);
});

test('nodes say how their operators are reached and the level of what they have switched on, and paths go by that', async () => {
  const { api } = network.client;
  const { nodeId } = network.node('mix-2');
  const { nodes } = await api.paths.nodes({});
  const contacts = nodes.flatMap(({ contact }) => contact ?? []).sort();
  assert.deepEqual(contacts, ['noc at exit-0.example', 'noc at exit-1.example']);
  for (const node of nodes) assert.equal(node.compliance, node.nodeId === nodeId ? 'plus' : 'full');
  const used = async (pathClass: 'cmix' | 'fast') => {
    const paths = await Promise.all(
      Array.from({ length: 20 }, () => api.paths.choose({ class: pathClass, hops: 4, strategy: 'uniform' })),
    );
    return paths.some(([path]) => path!.hops.some((hop) => hop.nodeId === nodeId));
  };
  assert.equal(await used('cmix'), false);
  assert.equal(await used('fast'), true);
});
