import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import { Drop } from '@nyx/core/drop-reason.ts';
import { Via } from '@nyx/core/engine/contract.ts';
import type { PeerAddress } from '@nyx/core/ports.ts';
import { DATAGRAM_BYTES } from '@nyx/core/wire/datagram.ts';
import { LinkHandover, MAX_UNDER_WAY } from './link-handover.ts';
import { createLinkTableWords } from './link-table.ts';

const ID = 4711;
const from: PeerAddress = { address: '192.0.2.7', port: 4000 };
const datagram = (first: number) => new Uint8Array(DATAGRAM_BYTES).fill(first);

interface Taken {
  readonly bytes: Uint8Array;
  readonly via: Via;
  readonly from: PeerAddress;
}

/** Two workers of one node; the second holds link ID. */
function pair() {
  const words = createLinkTableWords();
  const taken: Taken[] = [];
  const drops: Drop[] = [];
  const a = new LinkHandover(words, 0, () => assert.fail('nothing is for the first'));
  const b = new LinkHandover(words, 1, (bytes, via, sender) => {
    taken.push({ bytes: bytes.slice(), via, from: sender });
    // As its engine would: of a link that has just ended, or of another id in the batch.
    drops.push(b.onForeign(ID, bytes, via, sender));
    // It is the taker's, who gives the memory back at once.
    (bytes.buffer as ArrayBuffer).transfer(0);
  });
  b.linkIds([ID], []);
  const { port1, port2 } = new MessageChannel();
  a.connect(1, port1);
  b.connect(0, port2);
  /** Until all that was handed over has been taken. */
  const settle = async (count: number) => {
    while (taken.reduce((sum, { bytes }) => sum + bytes.length / DATAGRAM_BYTES, 0) < count) {
      await new Promise(setImmediate);
    }
  };
  const close = () => {
    a.close();
    b.close();
  };
  return { a, b, taken, drops, settle, close };
}

test('datagrams of a link that another worker holds reach it, in batches of one sender, with where they came from', async () => {
  const { a, taken, drops, settle, close } = pair();
  const lent = datagram(1);
  assert.equal(a.onForeign(ID, lent, Via.listen, from), Drop.none);
  lent.fill(9); // the engine's scratch
  for (let i = 2; i <= 60; i++) assert.equal(a.onForeign(ID, datagram(i), Via.listen, from), Drop.none);
  const other = { ...from, port: 4001 };
  assert.equal(a.onForeign(ID, datagram(61), Via.listen, other), Drop.none);
  a.flush();
  await settle(61);
  assert.deepEqual(
    taken.map(({ bytes }) => bytes.length / DATAGRAM_BYTES),
    [51, 9, 1],
  );
  const firsts = taken.flatMap(({ bytes }) =>
    Array.from({ length: bytes.length / DATAGRAM_BYTES }, (_, i) => bytes[i * DATAGRAM_BYTES]),
  );
  assert.deepEqual(
    firsts,
    Array.from({ length: 61 }, (_, i) => i + 1),
  );
  assert.deepEqual(
    taken.map((batch) => [batch.via, batch.from]),
    [
      [Via.listen, from],
      [Via.listen, from],
      [Via.listen, other],
    ],
  );
  assert.equal(a.handedOver, 61);
  assert.ok(
    drops.every((drop) => drop === Drop.unknownLink),
    'what was handed over goes no further',
  );
  close();
});

test('what nobody holds is dropped, and so is what is held by somebody who is gone', async () => {
  const { a, b, close } = pair();
  assert.equal(a.onForeign(ID + 1, datagram(0), Via.listen, from), Drop.unknownLink);
  b.linkIds([], [ID]);
  assert.equal(a.onForeign(ID, datagram(0), Via.listen, from), Drop.unknownLink);
  b.linkIds([ID], []);
  b.close();
  for (let i = 0; i < 100 && a.onForeign(ID, datagram(0), Via.listen, from) === Drop.none; i++) {
    a.flush();
    await new Promise(setImmediate);
  }
  assert.equal(a.onForeign(ID, datagram(0), Via.listen, from), Drop.unknownLink);
  close();
});

test('no more is under way than the other takes: a flood under a copied id is dropped as soon as it lags', async () => {
  const { a, settle, close } = pair();
  let passed = 0;
  for (let i = 0; i < 3 * MAX_UNDER_WAY; i++) {
    const drop = a.onForeign(ID, datagram(i), Via.listen, from);
    if (drop === Drop.none) passed++;
    else assert.equal(drop, Drop.limit);
  }
  assert.equal(passed, MAX_UNDER_WAY);
  a.flush();
  await settle(MAX_UNDER_WAY);
  for (let turns = 0; a.onForeign(ID, datagram(0), Via.listen, from) !== Drop.none; turns++) {
    assert.ok(turns < 1000);
    await new Promise(setImmediate);
  }
  close();
});
