/** Packets of the message lane between real workers on loopback, and what a relay that was restarted still knows of them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { MessagePacketEvent, NodeContact, NodeSecrets } from '@nyx/core/engine/contract.ts';
import { createPacket, PACKET_BYTES } from '@nyx/core/sphinx/packet.ts';
import { createReplyBlock, openReply, useReplyBlock } from '@nyx/core/sphinx/reply-block.ts';
import { makeNodeKeys } from '@nyx/test/sim/virtual-network.ts';
import { SetupLogs } from '../actors/setup-logs.ts';
import { defaults } from '../config/defaults.ts';
import { createNativeSuite } from '../io/native-suite.ts';
import { systemRandom } from '../io/system-random.ts';
import type { PumpOptions } from './contract.ts';
import { PumpClient } from './pump-client.ts';

const suite = createNativeSuite();
const roles = { client: false, mix: true, exit: false };
const EPOCH = 1;

const options = (secrets: NodeSecrets, more: Partial<PumpOptions>): PumpOptions => ({
  worker: 0,
  roles,
  listen: [{ host: '127.0.0.1', port: 0 }],
  udp: 'auto',
  socks: undefined,
  httpConnect: undefined,
  exit: undefined,
  secrets,
  limits: { ...defaults.limits },
  defaultHops: 3,
  spareCircuits: 0,
  mix: { hops: 5, delayMs: 20 },
  cmix: { ...defaults.cmix, enabled: false, signer: undefined },
  multipath: defaults.multipath,
  cover: defaults.cover,
  fec: defaults.fec,
  allowCrash: false,
  ...more,
});

const copyOf = (secrets: NodeSecrets): NodeSecrets => structuredClone(secrets);
const bytesOf = (text: string) => new TextEncoder().encode(text);
const textOf = (payload: Uint8Array) => new TextDecoder().decode(payload).replace(/\0+$/, '');

test('messages and replies arrive; a relay that is killed and started again refuses what it took before', {
  timeout: 30_000,
}, async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'nyx-replays-'));
  const keys = [0, 1].map(() => makeNodeKeys(suite, systemRandom, [EPOCH]));
  const logs = () => new SetupLogs(folder).forEpochs([EPOCH]);
  const last = new PumpClient();
  let relay = new PumpClient();
  const startClient = async () => {
    const pump = new PumpClient();
    const { secrets } = makeNodeKeys(suite, systemRandom, [EPOCH]);
    await pump.start(options(secrets, { roles: { client: true, mix: false, exit: false }, listen: [] }));
    return pump;
  };
  let client = await startClient();
  context.after(async () => {
    await Promise.all([relay, last, client].map((pump) => pump.terminate()));
    rmSync(folder, { recursive: true });
  });
  const start = async (pump: PumpClient, i: number, more: Partial<PumpOptions>): Promise<NodeContact> => {
    const { listen } = await pump.start(options(copyOf(keys[i]!.secrets), more));
    return { ...keys[i]!.contact, addresses: listen.map(({ host, port }) => ({ address: host, port })) };
  };
  const contacts = await Promise.all([start(relay, 0, { setupLogs: logs() }), start(last, 1, {})]);
  relay.send({ type: 'view', contacts });

  const hops = contacts.map(({ nodeId, mixKeys }) => {
    return { nodeId, mixX25519: mixKeys[0]!.x25519, epoch: EPOCH, delayMs: 5 };
  });
  const packet = new Uint8Array(PACKET_BYTES);
  const send = async (): Promise<void> => {
    assert.deepEqual(await client.sendPackets([{ firstHop: contacts[0]!, packet }]), ['none']);
  };
  const arrived = async (): Promise<MessagePacketEvent> => {
    const [{ event }] = await once(last, 'message-packet');
    return event;
  };

  createPacket(suite, systemRandom, hops, bytesOf('a message'), packet);
  const first = packet.slice();
  let [event] = await Promise.all([arrived(), send()]);
  assert.equal(event.kind, 'message');
  assert.equal(textOf(event.payload), 'a message');

  const { block, keys: replyKeys } = createReplyBlock(suite, systemRandom, hops, new Uint8Array(16).fill(3));
  useReplyBlock(suite, block, bytesOf('a reply'), packet);
  const reply = packet.slice();
  [event] = await Promise.all([arrived(), send()]);
  assert.ok(event.kind === 'reply' && event.replyId.every((byte) => byte === 3));
  assert.equal(textOf(openReply(suite, replyKeys, event.payload)!), 'a reply');
  const before = await relay.stats();
  assert.equal(before.messagesForward, 2);
  assert.ok(before.messages.waitedMs >= 10, `${before.messages.waitedMs} ms`);

  // It dies without a word, and comes back at another port.
  await relay.terminate();
  relay = new PumpClient();
  contacts[0] = await start(relay, 0, { setupLogs: logs() });
  relay.send({ type: 'view', contacts });
  // Somebody else has kept what passed. Behind it a good one, so that it is known when the others have been looked at.
  await client.terminate();
  client = await startClient();
  createPacket(suite, systemRandom, hops, bytesOf('after the restart'), packet);
  const packets = [first, reply, packet].map((bytes) => ({ firstHop: contacts[0]!, packet: bytes }));
  const [came, sent] = await Promise.all([arrived(), client.sendPackets(packets)]);
  assert.deepEqual(sent, ['none', 'none', 'none']);
  assert.equal(textOf(came.payload), 'after the restart');
  const after = await relay.stats();
  assert.equal(after.drops.messageReplayed, 2, 'what was taken before the restart is known');
  assert.equal(after.messagesForward, 1);
  const { messagesDelivered } = await last.stats();
  assert.equal(messagesDelivered, 3);
});
