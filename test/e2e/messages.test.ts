/** Messages between real daemons: sent, acknowledged, answered without an address, held while their recipient is away and over deaths. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { decodeReplyToken } from '@nyx/core/messages/reply-token.ts';
import { createNativeSuite } from '@nyx/daemon/io/native-suite.ts';
import { type LocalNetwork, type LocalNode, startLocalNetwork } from '@nyx/daemon/local-network.ts';
import { NodeProcess } from '@nyx/daemon/node-process.ts';
import { connectNyx, type NyxClient, NyxError, type ReceivedMessage } from '@nyx/sdk/index.ts';
import { freeUdpPort, until } from './fixture.ts';
import { countInMemory } from './process-memory.ts';

const CONNECT_TIMEOUT_MS = 30_000;
const RELAYS = 4;
/** Generous: a busy machine is no failure. */
const TIMEOUT_MS = 60_000;
/** A packet for which nobody waits is long on its way or lost. */
const RESEND_MS = 5_000;

let network: LocalNetwork | undefined;
let relays: readonly LocalNode[];
let aliceNode: LocalNode;
let bobNode: LocalNode;
let alice: NyxClient;
let bob: NyxClient;
let address: string;
/** Whose mailbox the address names. */
let keeper: LocalNode;
const restarted: NodeProcess[] = [];

const connect = ({ apiSocket }: LocalNode): Promise<NyxClient> =>
  connectNyx({ socketPath: apiSocket, connectTimeoutMs: CONNECT_TIMEOUT_MS });

before(async () => {
  const ports = await Promise.all(Array.from({ length: RELAYS }, () => freeUdpPort()));
  network = await startLocalNetwork({
    mixes: 2,
    exits: 2,
    clients: 2,
    spareCircuits: 0,
    // A relay that is started again is where the view says.
    overrides: (role, index) =>
      role === 'client'
        ? { messages: { packetsPerSecond: 40, hops: 3 } }
        : { listen: `127.0.0.1:${ports[index + (role === 'exit' ? 2 : 0)]}` },
  });
  relays = network.nodes.filter(({ role }) => role !== 'client');
  [aliceNode, bobNode] = network.clients as [LocalNode, LocalNode];
  [alice, bob] = [await connect(aliceNode), await connect(bobNode)];
  const made = await bob.messages.createAddress({ label: 'bob' });
  assert.equal(made.state, 'open', made.problem);
  address = made.address;
  keeper = relays.find(({ nodeId }) => nodeId === made.nodeId)!;
});

after(async () => {
  alice?.close();
  bob?.close();
  await Promise.all([network?.stop(), ...restarted.map((node) => node.stop(10_000))]);
});

const end = async (nodes: readonly LocalNode[], signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
  for (const { pid } of nodes) process.kill(pid, signal);
  await until('them to be gone', () =>
    nodes.every(({ pid }) => {
      try {
        process.kill(pid, 0);
        return false;
      } catch {
        return true;
      }
    }),
  );
};

/** The same node again: its configuration, its disk. */
const startAgain = async ({ name, role }: LocalNode): Promise<LocalNode> => {
  const node = new NodeProcess(name, join(network!.folder, `${name}.yaml`));
  restarted.push(node);
  return { ...(await node.ready(TIMEOUT_MS)), role };
};

/** Of all relays together. */
const sumOfMetric = async (line: string, of = relays): Promise<number> => {
  const pages = await Promise.all(of.map(async ({ metrics }) => (await fetch(`http://${metrics}/metrics`)).text()));
  return pages
    .flatMap((page) => page.split('\n'))
    .filter((text) => text.startsWith(`${line} `))
    .reduce((sum, text) => sum + Number(text.slice(line.length)), 0);
};

/** The next messages, acknowledged. */
const receive = async (client: NyxClient, count: number): Promise<ReceivedMessage[]> => {
  const messages: ReceivedMessage[] = [];
  for await (const message of client.messages.receive({ signal: AbortSignal.timeout(TIMEOUT_MS) })) {
    await message.acknowledge();
    messages.push(message);
    if (messages.length === count) return messages;
  }
  throw new Error(`${messages.length} of ${count} messages came in time`);
};

const receiveOne = async (client: NyxClient): Promise<ReceivedMessage> => (await receive(client, 1))[0]!;

test('a byte and 20 000 of them arrive once and are acknowledged', async () => {
  for (const content of [Buffer.of(42), randomBytes(20_000)]) {
    const received = receiveOne(bob);
    const result = await alice.messages.send(address, content, { timeoutMs: TIMEOUT_MS });
    assert.equal(result.state, 'acknowledged');
    const message = await received;
    assert.ok(message.content.equals(content));
    assert.deepEqual([message.address, message.replyBlockId], [address, undefined]);
  }
  const { messages } = await alice.status();
  const { sent, lost, meanRttMs } = messages!.loops!;
  assert.ok(sent > lost && meanRttMs! > 0, `${sent} loops, ${lost} lost`);
  await until('cover that ends at a node', () => sumOfMetric('nyx_message_cover_packets_total'), TIMEOUT_MS);
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

/** Reply blocks that begin at one relay, which can be killed: the first of them all is the authority. */
const blocksElsewhere = async (count: number): Promise<{ replyBlocks: string[]; first: LocalNode }> => {
  const byRelay = new Map<LocalNode, string[]>();
  for (;;) {
    const { replyBlock } = await alice.messages.createReplyBlock();
    const [block] = decodeReplyToken(replyBlock, createNativeSuite()).blocks;
    const nodeId = Buffer.from(block!.subarray(0, 32)).toString('hex');
    const first = relays.find((relay) => relay.nodeId === nodeId && relay !== relays[0]);
    if (first === undefined) continue;
    const replyBlocks = [...(byRelay.get(first) ?? []), replyBlock];
    byRelay.set(first, replyBlocks);
    if (replyBlocks.length === count) return { replyBlocks, first };
  }
};

test('what is held for a recipient who is away is readable nowhere, outlives mailbox and sender that are killed, and arrives once', async () => {
  const { replyBlocks, first } = await blocksElsewhere(4);
  const answered = receive(alice, replyBlocks.length);
  for (const replyBlock of replyBlocks) await bob.messages.send(replyBlock, 'once');
  for (const { content } of await answered) assert.equal(content.toString(), 'once');

  const marker = randomBytes(32);
  bob.close();
  await end([bobNode], 'SIGTERM');
  const packets = { sent: 0, total: Number.POSITIVE_INFINITY };
  const sent = alice.messages.send(address, Buffer.alloc(4096, marker), {
    timeoutMs: 3 * TIMEOUT_MS,
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

  // Without a word: the sender, the mailbox's node, and a relay that has seen what is played again below.
  const heldBefore = await held();
  await Promise.all([assert.rejects(sent), end([...new Set([keeper, first]), aliceNode], 'SIGKILL')]);
  alice.close();
  const again = await Promise.all([...new Set([keeper, first])].map(startAgain));
  relays = relays.map((relay) => again.find(({ nodeId }) => nodeId === relay.nodeId) ?? relay);
  const heldAfter = await held();
  assert.ok(heldAfter >= packets.total, `${heldAfter} of ${heldBefore} packets are there, nobody has sent any again`);
  const ownMessages = async (client: NyxClient) => (await client.status()).messages!;
  aliceNode = await startAgain(aliceNode);
  alice = await connect(aliceNode);
  assert.equal((await ownMessages(alice)).outgoing, 1, 'the sender goes on with it');
  bobNode = await startAgain(bobNode);
  bob = await connect(bobNode);
  const message = await receiveOne(bob);
  assert.ok(message.content.equals(Buffer.alloc(4096, marker)));
  await until('its sender to hear of it', async () => (await ownMessages(alice)).outgoing === 0, TIMEOUT_MS);
  const { receivedMessages, waiting } = await ownMessages(bob);
  assert.deepEqual([receivedMessages, waiting], [1, 0]);

  const replayed = () =>
    sumOfMetric(
      'nyx_pump_dropped_total{reason="messageReplayed"}',
      relays.filter(({ nodeId }) => nodeId === first.nodeId),
    );
  assert.equal(await replayed(), 0);
  const countMs = performance.now();
  await until(
    'the relay to know what it took before it was killed',
    async () => {
      // A single packet may be lost on a link whose other end is a process that died.
      if (performance.now() - countMs > (4 - replyBlocks.length) * RESEND_MS && replyBlocks.length > 0) {
        await alice.messages.send(replyBlocks.pop()!, 'twice');
      }
      return (await replayed()) > 0;
    },
    TIMEOUT_MS,
  );
  assert.equal((await ownMessages(alice)).waiting, 0);
});

test('an address that does not exist is an error that says so', async () => {
  const code = (wanted: string) => (error: unknown) => error instanceof NyxError && error.code === wanted;
  await assert.rejects(
    alice.messages.send(`${address.slice(0, -1)}${address.endsWith('a') ? 'b' : 'a'}`, 'x'),
    code('BAD_ADDRESS'),
  );
  const gone = await bob.messages.createAddress();
  assert.deepEqual(await bob.messages.deleteAddress(gone.address), { erasedAtNode: true });
  await assert.rejects(alice.messages.send(gone.address, 'x', { timeoutMs: 30_000 }), code('UNKNOWN_MAILBOX'));
  const relay = await connect(relays[0]!);
  await assert.rejects(relay.messages.addresses(), code('NOT_A_CLIENT'));
  relay.close();
});
