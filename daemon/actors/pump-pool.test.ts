import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MessagePort } from 'node:worker_threads';
import type { NodeContact } from '@nyx/core/engine/contract.ts';
import type { ToPump } from '../pump/contract.ts';
import type { PumpClient, PumpReady } from '../pump/pump-client.ts';
import { PumpPool } from './pump-pool.ts';

type ViewMessage = Extract<ToPump, { type: 'view' }>;

const contactsOf = (count: number, mark: number): NodeContact[] =>
  Array.from({ length: count }, (_, i) => ({
    nodeId: Uint8Array.of(mark, i >> 8, i & 255),
    addresses: [],
    linkX25519: new Uint8Array(32),
    linkKem: new Uint8Array(1184),
    mixKeys: [],
  }));

/** Records what a worker is sent; resolves when a view is complete. */
function recorder() {
  const sent: ViewMessage[] = [];
  const complete = Promise.withResolvers<void>();
  const pump = {
    send(message: ToPump) {
      if (message.type !== 'view') return;
      sent.push(message);
      if (!message.more) complete.resolve();
    },
  } as unknown as PumpClient;
  return { pump, sent, complete: complete.promise };
}

const rules = { cells: 100, delayMs: 100 };
const ready = { listen: undefined, socks: undefined, httpConnect: undefined, udpMode: 'plain' } as unknown as PumpReady;

test('a large view goes to a worker in pieces that make it whole; a small one in one', async () => {
  const pool = new PumpPool();
  const { pump, sent, complete } = recorder();
  pool.attach(0, pump, ready);
  const contacts = contactsOf(1000, 1);
  pool.setView(contacts, rules);
  assert.equal(sent.length, 1, 'the rest comes later');
  await complete;
  assert.ok(sent.length > 5 && sent.every((message) => message.contacts.length <= 128));
  assert.deepEqual(
    sent.flatMap((message) => message.contacts),
    contacts,
  );
  assert.deepEqual(
    sent.map(({ first }) => first),
    sent.map((_, i) => i === 0),
  );
  const late = recorder();
  pool.setView(contacts.slice(0, 3), rules);
  pool.attach(1, late.pump, ready);
  await late.complete;
  assert.equal(late.sent.length, 1);
});

test('each worker has a way to each other one, and to the one that takes the place of a crashed one', async () => {
  const pool = new PumpPool();
  const ways = new Map<string, MessagePort>();
  const start = (worker: number, name: string) => {
    const pump = {
      send(message: ToPump) {
        if (message.type === 'neighbour') ways.set(`${name} to ${message.worker}`, message.port);
      },
    } as unknown as PumpClient;
    pool.attach(worker, pump, ready);
    return pump;
  };
  start(0, 'first');
  assert.equal(ways.size, 0, 'it is alone');
  const second = start(1, 'second');
  start(2, 'third');
  assert.deepEqual([...ways.keys()].sort(), [
    'first to 1',
    'first to 2',
    'second to 0',
    'second to 2',
    'third to 0',
    'third to 1',
  ]);
  pool.detach(1, second);
  const before = ways.get('first to 1');
  start(1, 'next');
  assert.notEqual(ways.get('first to 1'), before);
  const received = new Promise((resolve) => ways.get('next to 2')!.once('message', resolve));
  ways.get('third to 1')!.postMessage('for the next');
  assert.equal(await received, 'for the next');
  for (const port of ways.values()) port.close();
  before!.close();
});

test('what leaves in a row leaves over one worker, and over the next one while that is down', () => {
  const pool = new PumpPool();
  assert.equal(pool.first(), undefined);
  const pumps = [0, 1, 2].map(() => recorder().pump);
  // They come up in any order.
  for (const worker of [2, 0, 1]) pool.attach(worker, pumps[worker]!, ready);
  assert.equal(pool.first(), pumps[0]);
  pool.choose();
  assert.equal(pool.first(), pumps[0]);
  pool.detach(0, pumps[0]!);
  assert.equal(pool.first(), pumps[1]);
  const again = recorder().pump;
  pool.attach(0, again, ready);
  assert.equal(pool.first(), again);
});

test('a newer view replaces one that is still on its way', async () => {
  const pool = new PumpPool();
  const { pump, sent, complete } = recorder();
  pool.attach(0, pump, ready);
  pool.setView(contactsOf(1000, 1), rules);
  const newer = contactsOf(300, 2);
  pool.setView(newer, rules);
  await complete;
  const from = sent.findLastIndex(({ first }) => first);
  assert.equal(from, 1, 'nothing more of the first one was sent');
  assert.deepEqual(
    sent.slice(from).flatMap((message) => message.contacts),
    newer,
  );
});
