/**
 * A NAT between a client and its guard gives the client another port in the middle of transfers: nothing is lost. Relays
 * have two workers on one port, so every other time the kernel gives what comes from there to the one without the link.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import type { NodeRole } from '@nyx/daemon/local-network.ts';
import { TappedNetwork, type TappedNode, until } from './fixture.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serve, serveEcho, type TestServer } from './transfer.ts';

const BYTES = 12 * 1024 * 1024;
/** All of them at the same worker: once in 65 000. */
const MOVES = 16;
/** Of a loopback network on a busy machine: the validation itself takes a round trip. A link that is not found again ends after 3 s. */
const STALL_MS = 2500;
const content = randomBytes(BYTES);
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

let network: TappedNetwork;
let echo: TestServer;
/** Sends `content` to whoever connects. */
let source: TestServer;

before(async () => {
  const overrides = (role: NodeRole) => (role === 'client' ? {} : { workers: 2 });
  network = await TappedNetwork.start({ mixes: 2, exits: 1, hops: 3, overrides });
  echo = await serveEcho();
  source = await serve((socket) => void socket.end(content));
});

after(async () => {
  echo?.close();
  source?.close();
  await network?.stop();
});

/** Links of the client as its guard sees them. */
const accepted = async (guard: TappedNode) =>
  (await guard.api.peers()).filter(({ initiator, nodeId }) => !initiator && nodeId === undefined);

test('the port changes again and again during a download: the bytes are the same, the link is the same, the pauses are short', async () => {
  const moves: string[] = [];
  const stop = new AbortController();
  const socket = await socksConnect(network.socks, source);
  const [guard] = await network.pathOf(source.address);
  const tap = guard!.tap!;
  const watching = (async () => {
    const events = guard!.api.events({ kinds: ['link'], signal: stop.signal });
    for await (const { name, attributes } of events) if (name === 'moved') moves.push(attributes.address!);
  })();
  const links = await accepted(guard!);
  const chunks: Buffer[] = [];
  let received = 0;
  let lastMs = performance.now();
  let stallMs = 0;
  let moved = 0;
  socket.on('data', (chunk: Buffer) => {
    const nowMs = performance.now();
    if (received > 0) stallMs = Math.max(stallMs, nowMs - lastMs);
    lastMs = nowMs;
    chunks.push(chunk);
    received += chunk.length;
    if (received <= ((moved + 1) * BYTES) / (MOVES + 1) || moved >= MOVES) return;
    moved++;
    for (const port of tap.peerPorts) tap.rebind(port);
  });
  await once(socket, 'end');
  assert.equal(moved, MOVES);
  assert.equal(sha256(Buffer.concat(chunks)), sha256(content));
  await until('the last moves', () => moves.length >= 2);
  stop.abort();
  await watching;
  assert.equal(new Set(moves).size, moves.length);
  const now = await accepted(guard!);
  assert.deepEqual(
    now.map(({ linkId }) => linkId).filter((id) => links.some(({ linkId }) => linkId === id)),
    links.map(({ linkId }) => linkId),
  );
  console.log(`# ${BYTES} bytes, ${moves.length} moves, longest pause ${stallMs.toFixed(0)} ms`);
  assert.ok(stallMs < STALL_MS, `${stallMs} ms`);
  const page = await (await fetch(`http://${guard!.metrics}/metrics`)).text();
  const [, handedOver] = /^nyx_pump_handed_over_datagrams_total (\d+)$/m.exec(page)!;
  console.log(`# ${handedOver} datagrams from one worker to the other`);
  assert.ok(Number(handedOver) > 0);
});

test('copies of datagrams from another port move nothing, and an upload goes on', async () => {
  const socket = await socksConnect(network.socks, echo);
  const [guard] = await network.pathOf(echo.address);
  const tap = guard!.tap!;
  const stop = new AbortController();
  let moves = 0;
  const watching = (async () => {
    for await (const { name } of guard!.api.events({ kinds: ['link'], signal: stop.signal }))
      if (name === 'moved') moves++;
  })();
  let copies = 0;
  const own = tap.peerPorts;
  tap.onDatagram = ({ datagram, inbound, peerPort }) => {
    // Later than the original: it is a repetition by then.
    if (inbound && own.includes(peerPort) && copies < 400) {
      copies++;
      const copy = Buffer.from(datagram);
      setTimeout(() => tap.inject(copy, 1), 20);
    }
    return true;
  };
  await echoExactly(socket, 2 * 1024 * 1024);
  tap.onDatagram = () => true;
  assert.ok(copies > 50, `${copies}`);
  stop.abort();
  await watching;
  assert.equal(moves, 0);
});
