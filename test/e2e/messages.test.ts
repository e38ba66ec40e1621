/** Messages between real daemons: sent, acknowledged, answered without an address, held while their recipient is away. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type LocalNetwork, type LocalNode, startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { connectNyx, type NyxClient, NyxError, type ReceivedMessage } from '@nyx/sdk/index.ts';
import { until } from './fixture.ts';
import { countInMemory } from './process-memory.ts';

const MAIN = fileURLToPath(new URL('../../daemon/main.ts', import.meta.url));
const CONNECT_TIMEOUT_MS = 30_000;
/** Generous: a busy machine is no failure. */
const TIMEOUT_MS = 60_000;

let network: LocalNetwork | undefined;
let relays: readonly LocalNode[];
let aliceNode: LocalNode;
let bobNode: LocalNode;
let alice: NyxClient;
let bob: NyxClient;
let address: string;
let restarted: ChildProcess | undefined;

const connect = ({ apiSocket }: LocalNode): Promise<NyxClient> =>
  connectNyx({ socketPath: apiSocket, connectTimeoutMs: CONNECT_TIMEOUT_MS });

before(async () => {
  network = await startLocalNetwork({
    mixes: 2,
    exits: 2,
    clients: 2,
    spareCircuits: 0,
    overrides: (role) => (role === 'client' ? { messages: { packetsPerSecond: 40, hops: 3 } } : {}),
  });
  relays = network.nodes.filter(({ role }) => role !== 'client');
  [aliceNode, bobNode] = network.clients as [LocalNode, LocalNode];
  [alice, bob] = [await connect(aliceNode), await connect(bobNode)];
  const made = await bob.messages.createAddress({ label: 'bob' });
  assert.equal(made.state, 'open', made.problem);
  address = made.address;
});

after(async () => {
  alice?.close();
  bob?.close();
  if (restarted !== undefined) {
    restarted.stdin!.end();
    await once(restarted, 'exit');
  }
  await network?.stop();
});

/** Of all relays together. */
const sumOfMetric = async (line: string): Promise<number> => {
  const pages = await Promise.all(relays.map(async ({ metrics }) => (await fetch(`http://${metrics}/metrics`)).text()));
  return pages
    .flatMap((page) => page.split('\n'))
    .filter((text) => text.startsWith(`${line} `))
    .reduce((sum, text) => sum + Number(text.slice(line.length)), 0);
};

/** The next message, acknowledged. */
const receiveOne = async (client: NyxClient): Promise<ReceivedMessage> => {
  for await (const message of client.messages.receive({ signal: AbortSignal.timeout(TIMEOUT_MS) })) {
    await message.acknowledge();
    return message;
  }
  throw new Error('no message came in time');
};

test('a byte and 20 000 of them arrive once and are acknowledged', async () => {
  for (const content of [Buffer.of(42), randomBytes(20_000)]) {
    const received = receiveOne(bob);
    const result = await alice.messages.send(address, content, { timeoutMs: TIMEOUT_MS });
    assert.equal(result.state, 'acknowledged');
    const message = await received;
    assert.ok(message.content.equals(content));
    assert.deepEqual([message.address, message.replyBlockId], [address, undefined]);
  }
});

test('a message that the application has not acknowledged comes again, one that it has does not; one reader at a time', async () => {
  await alice.messages.send(address, 'first', { timeoutMs: TIMEOUT_MS });
  await alice.messages.send(address, 'second', { timeoutMs: TIMEOUT_MS });
  const reader = new AbortController();
  const seen: string[] = [];
  for await (const message of bob.messages.receive({ signal: reader.signal })) {
    seen.push(message.content.toString());
    if (seen.length === 1) {
      await message.acknowledge();
      const other = await connect(bobNode);
      await assert.rejects(receiveOne(other), (error) => error instanceof NyxError && error.code === 'RECEIVER_BUSY');
      other.close();
    } else break;
  }
  assert.deepEqual(seen, ['first', 'second']);
  const again = await until('the reader before to be gone', () => receiveOne(bob).catch(() => undefined));
  assert.equal(again.content.toString(), 'second');
});

test('a reply without an address arrives; the same block a second time is refused, here and on the way', async () => {
  const block = await alice.messages.createReplyBlock({ packets: 2 });
  const answer = randomBytes(block.maxReplyBytes);
  const received = receiveOne(alice);
  const result = await bob.messages.send(block.replyBlock, answer);
  assert.equal(result.state, 'sent');
  const message = await received;
  assert.ok(message.content.equals(answer));
  assert.deepEqual([message.address, message.replyBlockId], [undefined, block.id]);
  const refused = (code: string) => (error: unknown) => error instanceof NyxError && error.code === code;
  await assert.rejects(bob.messages.send(block.replyBlock, answer), refused('REPLY_BLOCK_USED'));
  await assert.rejects(bob.messages.send(`${block.replyBlock}A`, answer), refused('BAD_REPLY_BLOCK'));
  // Another daemon does not know that it was used; the relays of the block's path do.
  const replayed = () => sumOfMetric('nyx_pump_dropped_total{reason="messageReplayed"}');
  const before = await replayed();
  await alice.messages.send(block.replyBlock, answer);
  await until('the second use to be dropped', async () => (await replayed()) > before, TIMEOUT_MS);
});

test('what is held for a recipient who is away is readable nowhere, and arrives when he is back', async () => {
  const marker = randomBytes(32);
  bob.close();
  process.kill(bobNode.pid, 'SIGTERM');
  await until('the recipient to be gone', () => {
    try {
      process.kill(bobNode.pid, 0);
      return false;
    } catch {
      return true;
    }
  });
  const packets = { sent: 0, total: Number.POSITIVE_INFINITY };
  const sent = alice.messages.send(address, Buffer.alloc(4096, marker), {
    timeoutMs: TIMEOUT_MS,
    onProgress: ({ packetsSent, packetsTotal }) => {
      if (packetsTotal > 0) Object.assign(packets, { sent: packetsSent, total: packetsTotal });
    },
  });
  const held = () => sumOfMetric('nyx_mailbox_held_packets');
  await until('the mailbox to hold it', async () => (await held()) >= packets.total, TIMEOUT_MS);
  const found = await countInMemory(
    [...relays, aliceNode].map(({ pid }) => pid),
    [marker],
  );
  const inSender = found.pop()!;
  assert.deepEqual(
    found,
    relays.map(() => [0]),
    'no relay has the text anywhere in its memory',
  );
  assert.ok(inSender[0]! > 0, 'the sender has it, so it could have been found');

  const config = join(network!.folder, `${bobNode.name}.yaml`);
  restarted = spawn(process.execPath, [MAIN, '--config', config, '--exit-with-parent'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { ...process.env, NODE_OPTIONS: '', NODE_TEST_CONTEXT: '' },
  });
  await once(restarted.stdout!, 'data');
  bob = await connect(bobNode);
  const message = await receiveOne(bob);
  assert.ok(message.content.equals(Buffer.alloc(4096, marker)));
  assert.equal((await sent).state, 'acknowledged');
});

test('an address that does not exist is an error that says so', async () => {
  const code = (wanted: string) => (error: unknown) => error instanceof NyxError && error.code === wanted;
  await assert.rejects(
    alice.messages.send(`${address.slice(0, -1)}${address.endsWith('a') ? 'b' : 'a'}`, 'x'),
    code('BAD_ADDRESS'),
  );
  const gone = await bob.messages.createAddress();
  await bob.messages.deleteAddress(gone.address);
  await assert.rejects(alice.messages.send(gone.address, 'x', { timeoutMs: 30_000 }), code('UNKNOWN_MAILBOX'));
  const relay = await connect(relays[0]!);
  await assert.rejects(relay.messages.addresses(), code('NOT_A_CLIENT'));
  relay.close();
});
