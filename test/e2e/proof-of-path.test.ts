/**
 * Bytes take the path that was chosen, all of it and nothing else, and no relay learns what it must not: shown on real
 * processes from outside, by the kernel's tables, the processes' memory and every datagram on every wire.
 */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, test } from 'node:test';
import { DATAGRAM_BYTES, HEADER_BYTES, HEADER_OFFSET, PAYLOAD_BYTES } from '@nyx/core/wire/datagram.ts';
import type { Traffic } from '@nyx/proto/types.ts';
import { type TappedNetwork as Network, TappedNetwork, type TappedNode, until } from './fixture.ts';
import { countInMemory, ownersOfConnectionsTo, udpPortsOf } from './process-memory.ts';
import { socksConnect } from './socks-client.ts';

const TRANSFER_BYTES = 8 * 1024 * 1024;
/** At least so many cells carry the transfer in one direction. */
const TRANSFER_CELLS = Math.ceil(TRANSFER_BYTES / PAYLOAD_BYTES);
const marker = randomBytes(32);
const payload = Buffer.alloc(TRANSFER_BYTES, marker);
const targetHost = `127.83.${randomInt(1, 255)}.${randomInt(1, 255)}`;

let network: Network;
let echo: Server;
let target: string;
let targetPort: number;
/** Of all datagrams on all wires, from the first handshake on. */
const sizes = new Map<number, number>();
const headerBytes = Array.from({ length: HEADER_BYTES }, () => new Uint32Array(256));
const linkIdBytes = new Uint32Array(256);
let datagramsWithMarker = 0;

function inspect(datagram: Buffer): boolean {
  sizes.set(datagram.length, (sizes.get(datagram.length) ?? 0) + 1);
  if (datagram.includes(marker)) datagramsWithMarker++;
  for (let i = 0; i < HEADER_BYTES; i++) headerBytes[i]![datagram[HEADER_OFFSET + i]!]!++;
  linkIdBytes[datagram[0]!]!++;
  return true;
}

before(async () => {
  network = await TappedNetwork.start({ mixes: 6, exits: 1 });
  for (const tap of network.taps) tap.onDatagram = ({ datagram }) => inspect(datagram);
  echo = createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).pipe(socket)); // a failed transfer fails its test
  echo.listen(0, targetHost);
  await once(echo, 'listening');
  targetPort = (echo.address() as AddressInfo).port;
  target = `${targetHost}:${targetPort}`;
});

after(async () => {
  echo?.close();
  await network?.stop();
});

/** Sends the payload, takes it back, lets `half` look when half of it has come, and compares all of it. Gives the time. */
async function echoThrough(stream: Duplex, half: () => Promise<void>): Promise<number> {
  const startedMs = performance.now();
  const received = Buffer.alloc(TRANSFER_BYTES);
  let at = 0;
  let looking: Promise<void> | undefined;
  let lookedMs = 0;
  stream.on('data', (chunk: Buffer) => {
    assert.ok(at + chunk.length <= TRANSFER_BYTES, 'more came back than was sent');
    at += chunk.copy(received, at);
    if (at === TRANSFER_BYTES) stream.end();
    if (at < TRANSFER_BYTES / 2 || looking !== undefined) return;
    // The other half waits in the network for as long as that takes.
    stream.pause();
    const beforeMs = performance.now();
    looking = half().finally(() => {
      lookedMs = performance.now() - beforeMs;
      stream.resume();
    });
    looking.catch(() => {}); // awaited below
  });
  // Not ended before all is back, so that the connection to the target is open when it is looked for.
  stream.write(payload);
  await once(stream, 'end');
  await looking;
  assert.equal(at, TRANSFER_BYTES);
  assert.ok(received.equals(payload), 'the bytes came back changed');
  return performance.now() - startedMs - lookedMs;
}

function rise(before: Map<string, Traffic>, after: Map<string, Traffic>, name: string) {
  const [a, b] = [before.get(name)!, after.get(name)!];
  return {
    forward: b.cellsForward - a.cellsForward,
    backward: b.cellsBackward - a.cellsBackward,
    delivered: b.cellsDelivered - a.cellsDelivered,
    originated: b.cellsOriginated - a.cellsOriginated,
  };
}

/** One transfer with all that is to be seen of it from outside. `open` gives the stream and the path it takes. */
async function prove(hops: number, open: () => Promise<{ stream: Duplex; path: TappedNode[] }>): Promise<void> {
  const { nodes, client } = network;
  const pids = [...nodes.values()].map(({ pid }) => pid);
  const before = await network.traffic();
  const tapsBefore = new Map(network.relays.map(({ name, tap }) => [name, tap!.datagrams]));
  const { stream, path } = await open();
  assert.equal(path.length, hops);
  assert.equal(new Set(path).size, hops);
  const exit = path.at(-1)!;
  const mixes = network.relays.filter((node) => node !== exit);
  const tookMs = await echoThrough(stream, async () => {
    // Only the exit's process is connected to the target.
    assert.deepEqual(ownersOfConnectionsTo(pids, targetHost, targetPort), [exit.pid]);
    // No relay but the exit knows the target, none at all but the exit sees the bytes.
    const holders = [...mixes, exit, client];
    const counts = await countInMemory(
      holders.map(({ pid }) => pid),
      [marker, Buffer.from(targetHost)],
    );
    for (const [i, { name }] of holders.entries()) {
      const [markers, targets] = counts[i]!;
      if (i < mixes.length) {
        assert.equal(markers, 0, `${name} holds bytes of the transfer`);
        assert.equal(targets, 0, `${name} knows the target`);
      } else {
        // The search does find them where they have to be.
        assert.ok(markers! > 0, `${name} does not hold what it transfers`);
        assert.ok(targets! > 0, `${name} does not know the target`);
      }
    }
    assert.deepEqual(ownersOfConnectionsTo(pids, targetHost, targetPort), [exit.pid]);
  });
  assert.equal(datagramsWithMarker, 0, 'bytes of the transfer were on a wire in the clear');
  const mbit = (2 * TRANSFER_BYTES * 8) / 1000 / tookMs;
  console.log(`# ${hops} hops, 8 MiB each way through taps: ${mbit.toFixed(0)} Mbit/s in both directions together`);

  const after = await until('the counters of all cells', async () => {
    const now = await network.traffic();
    return rise(before, now, client.name).delivered >= TRANSFER_CELLS && now;
  });
  const datagrams = (node: TappedNode) => node.tap!.datagrams - tapsBefore.get(node.name)!;
  for (const node of network.relays) {
    const cells = rise(before, after, node.name);
    if (node === exit) {
      assert.ok(cells.delivered >= TRANSFER_CELLS && cells.originated >= TRANSFER_CELLS, `exit ${show(cells)}`);
      assert.equal(cells.forward + cells.backward, 0);
    } else if (path.includes(node)) {
      assert.ok(cells.forward >= TRANSFER_CELLS && cells.backward >= TRANSFER_CELLS, `${node.name} ${show(cells)}`);
      assert.equal(cells.delivered + cells.originated, 0);
    } else {
      assert.deepEqual(cells, { forward: 0, backward: 0, delivered: 0, originated: 0 }, `${node.name} is off the path`);
    }
    if (path.includes(node)) {
      assert.ok(datagrams(node) >= 2 * TRANSFER_CELLS, `${datagrams(node)} datagrams passed in front of ${node.name}`);
    } else {
      assert.ok(datagrams(node) < 100, `${datagrams(node)} datagrams passed in front of ${node.name}, off the path`);
    }
  }

  // Of all links with the client's ports one leads to each first hop that it has used, none anywhere else.
  const clientPorts = udpPortsOf(client.pid);
  const linked = network.relays.filter(({ tap }) => tap!.peerPorts.some((port) => clientPorts.has(port)));
  const firstHops = new Set((await client.api.paths.list()).map(({ nodeIds }) => nodes.get(nodeIds[0]!)!));
  assert.ok(firstHops.has(path[0]!));
  assert.deepEqual(new Set(linked), firstHops);
}

function show(value: unknown): string {
  return `${JSON.stringify(value)}, needed ${TRANSFER_CELLS}`;
}

for (const hops of [3, 5]) {
  test(`SOCKS5 over ${hops} hops: the chosen processes carry it, the others see and know nothing`, async () => {
    await prove(hops, async () => {
      const stream: Socket = await socksConnect(
        network.socks,
        { host: targetHost, port: targetPort },
        { username: `nyx;hops=${hops};isolation=proof-${hops}` },
      );
      return { stream, path: await network.pathOf(target) };
    });
  });
}

test('a path of 7 hops named hop by hop is the one taken', async () => {
  const mixes = network.relays.filter(({ role }) => role === 'mix').reverse();
  const path = [...mixes, network.node('exit-0')];
  await prove(7, async () => {
    const built = await network.client.api.paths.build({ nodeIds: path.map(({ nodeId }) => nodeId) });
    const stream = await network.client.api.connect({
      host: targetHost,
      port: targetPort,
      pathId: built.pathId,
      allowHalfOpen: true,
    });
    assert.deepEqual(
      stream.nodeIds,
      path.map(({ nodeId }) => nodeId),
    );
    return { stream, path };
  });
});

test('everything on every wire, handshakes, set-up and data of 3, 5 and 7 hops, has one size and random headers', () => {
  assert.deepEqual([...sizes.keys()], [DATAGRAM_BYTES]);
  assert.ok(sizes.get(DATAGRAM_BYTES)! >= 2 * TRANSFER_CELLS * (3 + 5 + 7));
  for (const [position, counts] of headerBytes.entries()) {
    const value = chiSquare(counts);
    assert.ok(value < LIMIT, `header byte ${position}: chi-square ${value.toFixed(0)}`);
  }
  // The link id in front of it is in the clear, and fails the same test.
  assert.ok(chiSquare(linkIdBytes) > LIMIT);
});

/** 255 degrees of freedom: mean 255, standard deviation 22.6; seven of them are far beyond one in a billion. */
const LIMIT = 255 + 7 * Math.sqrt(2 * 255);

function chiSquare(counts: Uint32Array): number {
  const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}
