/**
 * One bit flipped in live datagrams on every link of a path, in both directions: the next honest node (forward) or the
 * client (backward) drops and counts them, the transfer comes through whole, and nobody minds otherwise.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createSeededRandom } from '@nyx/core/crypto/seeded-random.ts';
import { CT_OFFSET, DATAGRAM_BYTES, HEADER_BYTES, HEADER_OFFSET, TAG_BYTES } from '@nyx/core/wire/datagram.ts';
import type { Traffic } from '@nyx/proto/types.ts';
import { dropsOf, TappedNetwork, type TappedNode, until } from './fixture.ts';
import { socksConnect } from './socks-client.ts';
import { echoExactly, serveEcho, type TestServer } from './transfer.ts';

const TRANSFER_BYTES = 1024 * 1024;
/** Every how manieth datagram is hit. */
const EVERY = 25;
const hops = 3;

let network: TappedNetwork;
let echo: TestServer;
let path: TappedNode[];

before(async () => {
  network = await TappedNetwork.start({ mixes: 3, exits: 1, hops });
  echo = await serveEcho();
  await transfer();
});

after(async () => {
  echo?.close();
  await network?.stop();
});

async function transfer(): Promise<void> {
  const stream = await socksConnect(network.socks, echo);
  path = await network.pathOf(echo.address);
  await echoExactly(stream, TRANSFER_BYTES);
}

/** Flips a bit of every 25th datagram on the way into hop `link`, or back from it, from byte `from` on. Gives how often it did. */
function flipBits(link: number, inbound: boolean, from: number, seed: number): () => number {
  const random = createSeededRandom(seed);
  const four = new Uint8Array(4);
  const draw = (bound: number) => {
    random.fill(four);
    return new DataView(four.buffer).getUint32(0) % bound;
  };
  // On the way back each relay lets the last 16 bytes of what it received fall off; the client knows what they were.
  const end = inbound || link === 0 ? DATAGRAM_BYTES : DATAGRAM_BYTES - TAG_BYTES;
  let seen = link * 8; // not the same cells on every link
  let flipped = 0;
  path[link]!.tap!.onDatagram = (passing) => {
    if (passing.inbound !== inbound || ++seen % EVERY !== 0) return true;
    const bit = draw((end - from) * 8);
    passing.datagram[from + (bit >> 3)]! ^= 1 << (bit & 7);
    flipped++;
    return true;
  };
  return () => flipped;
}

const stopFlipping = () => {
  for (const tap of network.taps) tap.onDatagram = () => true;
};

async function dropsSince(before: Map<string, Traffic>): Promise<Map<string, number>> {
  const now = await network.traffic();
  return new Map([...now].map(([name, traffic]) => [name, dropsOf(traffic) - dropsOf(before.get(name))]));
}

for (let link = 0; link < hops; link++) {
  for (const inbound of [true, false]) {
    const where = `the link into hop ${link + 1}, ${inbound ? 'forward' : 'backward'}`;
    test(`bits flipped in cells on ${where}`, async () => {
      const before = await network.traffic();
      const count = flipBits(link, inbound, CT_OFFSET, 1000 + link * 2 + Number(inbound));
      await transfer();
      stopFlipping();
      const flipped = count();
      assert.ok(flipped >= 10, `only ${flipped} bits were flipped`);
      const receiver = inbound ? path[link]! : link === 0 ? network.client : path[link - 1]!;
      const judge = inbound ? receiver : network.client;
      // Cells are dropped by their judge; the link's own (acknowledgements) by whoever receives them.
      const drops = await until(`${flipped} drops for flips on ${where}`, async () => {
        const found = await dropsSince(before);
        return found.get(receiver.name)! + (judge === receiver ? 0 : found.get(judge.name)!) >= flipped && found;
      });
      assert.ok(drops.get(judge.name)! >= flipped / 2, `${judge.name} dropped ${drops.get(judge.name)} of ${flipped}`);
      for (const [name, count] of drops) {
        if (name !== receiver.name && name !== judge.name) assert.equal(count, 0, `${name} dropped too`);
      }
    });
  }
}

test('bits flipped anywhere, header and link id too, on all links and in both directions at once', async () => {
  const before = await network.traffic();
  const seed = Date.now() % 2 ** 31;
  console.log(`# seed ${seed}`);
  const counts = path.flatMap((_, link) => {
    const forward = flipBits(link, true, 0, seed + link);
    const flipForward = path[link]!.tap!.onDatagram;
    const backward = flipBits(link, false, 0, seed + 100 + link);
    const flipBackward = path[link]!.tap!.onDatagram;
    path[link]!.tap!.onDatagram = (passing) => (passing.inbound ? flipForward(passing) : flipBackward(passing));
    return [forward, backward];
  });
  await transfer();
  stopFlipping();
  const flipped = counts.reduce((sum, count) => sum + count(), 0);
  assert.ok(flipped >= 6 * 10, `only ${flipped} bits were flipped`);
  // A cell that was hit twice on its way back is dropped once.
  await until(`${flipped} drops`, async () => {
    const drops = await dropsSince(before);
    return [...drops.values()].reduce((sum, count) => sum + count, 0) >= 0.9 * flipped;
  });
});

/** No relay can check a backward cell: there the header's own mask has to see to it (docs/protocol.md §1). */
test('every bit of a header flipped on the way back: the next relay drops it, and the circuit lives', async () => {
  const before = await network.traffic();
  const bits = 8 * HEADER_BYTES;
  let seen = 0;
  let flipped = 0;
  path[1]!.tap!.onDatagram = ({ inbound, datagram }) => {
    if (inbound || flipped === bits || ++seen % 15 !== 0) return true;
    datagram[HEADER_OFFSET + (flipped >> 3)]! ^= 1 << (flipped & 7);
    flipped++;
    return true;
  };
  while (flipped < bits) await transfer();
  stopFlipping();
  await until(`${bits} drops`, async () => (await dropsSince(before)).get(path[0]!.name)! >= bits);
});

test('nobody crashed, and the next transfer is undisturbed', async () => {
  assert.deepEqual(network.network.failures, []);
  for (const { name, api } of network.nodes.values()) {
    const { state, supervision } = await api.status();
    assert.equal(state, 'ready', name);
    for (const { id, restarts } of supervision!.children) assert.equal(restarts, 0, `${name}: ${id}`);
  }
  const before = await network.traffic();
  await transfer();
  assert.deepEqual(new Set((await dropsSince(before)).values()), new Set([0]));
});
